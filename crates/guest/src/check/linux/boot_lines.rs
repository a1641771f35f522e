//! Kernel command lines wherever a loader or a generator of its configuration keeps them: root, resume, console, and
//! switches that turn cloud-init off.

use super::devices::Meaning;
use crate::check::doctor::{Doctor, at_line};
use crate::check::finding::{Evidence, Kind};
use crate::check::kinds::{CLOUD_INIT_DISABLED, CLOUD_INIT_NETWORK, RESUME_MISSING, ROOT_BY_NAME, SERIAL_CONSOLE};
use crate::check::lines::{self, Line};
use crate::text::assignment;

/// Configuration files of loaders.
const LOADERS: [&str; 12] = [
    "/boot/grub/grub.cfg",
    "/boot/grub2/grub.cfg",
    "/boot/grub/grubenv",
    "/boot/grub2/grubenv",
    "/boot/grub/menu.lst",
    "/boot/grub/grub.conf",
    "/boot/extlinux/extlinux.conf",
    "/boot/extlinux.conf",
    "/boot/syslinux/syslinux.cfg",
    "/etc/kernel/cmdline",
    "/etc/default/grub",
    "/etc/update-extlinux.conf",
];
/// Folders of entries, one file for each kernel (Boot Loader Specification).
const ENTRIES: [&str; 3] = ["/boot/loader/entries", "/boot/efi/loader/entries", "/efi/loader/entries"];
/// Length of a file of GRUB's variables, always (GRUB manual, "The GRUB environment block").
const GRUBENV: usize = 1024;
const CONSOLES: &str = "console=tty0 console=ttyS0,115200";

/// What the files' command lines are to become.
#[derive(Default)]
struct Plan {
    /// `root=` of an entry with an initramfs, and of one without.
    root: Option<(String, String)>,
    resume: bool,
    console: bool,
    cloud_init: bool,
    network: bool,
}

/// The part of a line that is a kernel's command line.
struct Words<'l> {
    before: &'l str,
    words: &'l str,
    after: &'l str,
}

pub(super) fn check(doctor: &mut Doctor<'_>) {
    let mut paths: Vec<String> = LOADERS.map(str::to_owned).to_vec();
    paths.extend(ENTRIES.iter().flat_map(|folder| doctor.files(folder, ".conf")));
    let files: Vec<(String, String)> =
        paths.into_iter().filter_map(|path| doctor.draft.text(&path).map(|text| (path, text))).collect();
    let plan = plan(doctor, &files);
    for (path, text) in &files {
        let with_initramfs = has_initramfs(text);
        let edited = lines::edit(text, |index, line| match words_of(path, line) {
            Some(found) => Line::Become(format!(
                "{}{}{}",
                found.before,
                plan.apply(
                    doctor,
                    found.words,
                    with_initramfs.get(index).copied().unwrap_or(true),
                    is_main(path, line)
                ),
                found.after
            )),
            None if plan.root.is_some() && is_uuid_off(path, line) => Line::Become(format!("#{line}")),
            None => Line::Keep,
        });
        let is_grubenv = path.ends_with("/grubenv");
        if let Some(edited) = edited.and_then(|edited| if is_grubenv { fit(&edited) } else { Some(edited) }) {
            doctor.draft.write(path, edited, None);
        }
    }
}

/// Fills a file of GRUB's variables up to its length; none where they do not fit.
fn fit(text: &str) -> Option<String> {
    let text = text.trim_end_matches('#');
    (text.len() <= GRUBENV).then(|| format!("{text}{}", "#".repeat(GRUBENV - text.len())))
}

/// Returns whether a line makes grub-mkconfig name the root by its device.
fn is_uuid_off(path: &str, line: &str) -> bool {
    path == "/etc/default/grub" && assignment(line) == Some(("GRUB_DISABLE_LINUX_UUID", "true"))
}

/// Adds what is found on the lines, and returns what is to be repaired.
fn plan(doctor: &mut Doctor<'_>, files: &[(String, String)]) -> Plan {
    let where_word = |doctor: &Doctor<'_>, is_meant: &dyn Fn(&Doctor<'_>, &str) -> bool| -> Vec<Evidence> {
        let lines = files
            .iter()
            .flat_map(|(path, text)| text.lines().enumerate().map(move |(index, line)| (path, index, line)));
        let meant = lines.filter(|(path, _, line)| {
            words_of(path, line)
                .is_some_and(|found| found.words.split_ascii_whitespace().any(|word| is_meant(doctor, word)))
        });
        meant.map(|(path, index, line)| at_line(path, index, line)).collect()
    };
    let find = |doctor: &mut Doctor<'_>, kind: &'static Kind, text: &str, evidence: Vec<Evidence>| {
        !evidence.is_empty() && doctor.found(kind, text, evidence)
    };
    let mut plan = Plan::default();
    let names = doctor.root().map(|root| {
        let stable = doctor.stable_name(root).map(|name| format!("root={name}"));
        let partition = doctor.partition_name(root).map(|name| format!("root={name}"));
        (stable, partition)
    });
    if let Some((Some(stable), partition)) = names {
        let mut evidence = where_word(doctor, &|doctor, word| is_bad_root(doctor, word));
        for (path, text) in files {
            let off = text.lines().enumerate().filter(|(_, line)| is_uuid_off(path, line));
            evidence.extend(off.map(|(index, line)| at_line(path, index, line)));
        }
        let told = "The kernel's command line names the root file system by a device, which has another name on other hardware, or by what is not there.";
        if find(doctor, &ROOT_BY_NAME, told, evidence) {
            plan.root = Some((stable.clone(), partition.unwrap_or(stable)));
        }
    }
    let evidence = where_word(doctor, &|doctor, word| is_lost_resume(doctor, word));
    plan.resume = find(
        doctor,
        &RESUME_MISSING,
        "The kernel waits for a swap area to resume from that is not on this disk.",
        evidence,
    );
    let evidence = where_word(doctor, &|_, word| word == "cloud-init=disabled");
    plan.cloud_init =
        find(doctor, &CLOUD_INIT_DISABLED, "The kernel's command line switches cloud-init off.", evidence);
    let evidence = where_word(doctor, &|_, word| word == "network-config=disabled");
    plan.network = find(
        doctor,
        &CLOUD_INIT_NETWORK,
        "The kernel's command line keeps cloud-init from setting up the network.",
        evidence,
    );
    let is_pc = doctor
        .report
        .os
        .as_ref()
        .and_then(|os| os.arch.as_deref())
        .is_some_and(|arch| matches!(arch, "x86_64" | "i686"));
    if is_pc {
        let silent = files.iter().flat_map(|(path, text)| {
            text.lines()
                .enumerate()
                .filter(|(_, line)| {
                    is_main(path, line)
                        && words_of(path, line).is_some_and(|found| !found.words.contains("console=ttyS"))
                })
                .map(move |(index, line)| at_line(path, index, line))
        });
        let evidence: Vec<Evidence> = silent.collect();
        plan.console = find(
            doctor,
            &SERIAL_CONSOLE,
            "The guest does not write to the serial port, which is what clouds show as its console log.",
            evidence,
        );
    }
    plan
}

impl Plan {
    fn apply(&self, doctor: &Doctor<'_>, words: &str, with_initramfs: bool, is_main: bool) -> String {
        let mut edited = lines::edit_words(words, |word| {
            if let Some((stable, partition)) = &self.root
                && is_bad_root(doctor, word)
            {
                return Line::Become(if with_initramfs { stable.clone() } else { partition.clone() });
            }
            let goes = (self.resume && is_lost_resume(doctor, word))
                || (self.cloud_init && word == "cloud-init=disabled")
                || (self.network && word == "network-config=disabled");
            if goes { Line::Drop } else { Line::Keep }
        });
        if self.console && is_main && !edited.contains("console=ttyS") {
            if !edited.is_empty() && !edited.ends_with(' ') {
                edited.push(' ');
            }
            edited.push_str(CONSOLES);
        }
        edited
    }
}

fn is_bad_root(doctor: &Doctor<'_>, word: &str) -> bool {
    word.strip_prefix("root=").is_some_and(|device| match doctor.meaning(device) {
        Meaning::ByName(_) | Meaning::Missing => true,
        Meaning::Stable(_) | Meaning::Other => false,
    })
}

fn is_lost_resume(doctor: &Doctor<'_>, word: &str) -> bool {
    word.strip_prefix("resume=")
        .is_some_and(|device| matches!(doctor.meaning(device), Meaning::ByName(_) | Meaning::Missing))
}

/// Returns the command line in a line of the file at `path`, if it has one.
fn words_of<'l>(path: &str, line: &'l str) -> Option<Words<'l>> {
    let trimmed = line.trim_start();
    if trimmed.starts_with('#') {
        return None;
    }
    if path.ends_with("/cmdline") {
        return Some(Words { before: "", words: line, after: "" });
    }
    if path.ends_with("/grubenv") {
        let at = "kernelopts=".len();
        return line.starts_with("kernelopts=").then(|| Words { before: &line[..at], words: &line[at..], after: "" });
    }
    if path == "/etc/update-extlinux.conf" && line.starts_with("root=") {
        return Some(Words { before: "", words: line, after: "" });
    }
    if path.starts_with("/etc/") {
        return quoted_value(line);
    }
    let keyword_end = trimmed.find([' ', '\t'])?;
    let keyword = trimmed[..keyword_end].to_ascii_lowercase();
    // What follows `linux` is the path of the kernel, and the command line comes after it.
    let skip = match keyword.as_str() {
        "linux" | "linux16" | "linuxefi" | "kernel" if !path.contains("/entries/") && !path.contains("linux") => 2,
        "options" if path.contains("/entries/") => 1,
        "append" if path.contains("linux") => 1,
        _ => return None,
    };
    let mut at = line.len() - trimmed.len();
    for _ in 0..skip {
        let rest = &line[at..];
        let blanks = rest.len() - rest.trim_start_matches([' ', '\t']).len();
        at += blanks + rest[blanks..].find([' ', '\t']).unwrap_or(rest.len() - blanks);
    }
    Some(Words { before: &line[..at], words: &line[at..], after: "" })
}

/// Returns the value of the settings from which grub-mkconfig and update-extlinux make command lines.
fn quoted_value(line: &str) -> Option<Words<'_>> {
    let (key, value) = line.split_once('=')?;
    if !matches!(key.trim(), "GRUB_CMDLINE_LINUX" | "GRUB_CMDLINE_LINUX_DEFAULT" | "default_kernel_opts") {
        return None;
    }
    let start = key.len() + 1;
    let quote = value.chars().next().filter(|first| matches!(first, '"' | '\''));
    let (from, to) = match quote {
        Some(quote) => (start + 1, start + 1 + value[1..].find(quote)?),
        None => (start, line.len()),
    };
    Some(Words { before: &line[..from], words: &line[from..to], after: &line[to..] })
}

/// Returns whether the serial console belongs on this line: not on that of recovery, nor twice in `/etc/default/grub`.
fn is_main(path: &str, line: &str) -> bool {
    if path.starts_with("/etc/default") {
        return line.trim_start().starts_with("GRUB_CMDLINE_LINUX=");
    }
    if path.starts_with("/etc/update-extlinux") {
        return line.trim_start().starts_with("default_kernel_opts=");
    }
    words_of(path, line).is_some()
}

/// Returns for each line whether the entry that it belongs to has an initramfs; a kernel without one knows no UUIDs.
fn has_initramfs(text: &str) -> Vec<bool> {
    let begins = |line: &str| {
        let line = line.trim_start().to_ascii_lowercase();
        line.starts_with("menuentry") || line.starts_with("title") || line.starts_with("label ")
    };
    let is_initrd =
        |line: &str| line.trim_start().to_ascii_lowercase().starts_with("initrd") || line.contains("initrd=");
    let mut answers = Vec::new();
    let mut start = 0;
    let lines: Vec<&str> = text.lines().collect();
    let mut is_in_entry = false;
    for end in 0..=lines.len() {
        if end == lines.len() || begins(lines[end]) {
            // Files of settings have no entries, and what they make has an initramfs.
            let with = !is_in_entry || lines[start..end].iter().any(|line| is_initrd(line));
            answers.extend(std::iter::repeat_n(with, end - start));
            (start, is_in_entry) = (end, true);
        }
    }
    answers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(path: &str, line: &str) -> Option<String> {
        words_of(path, line).map(|found| found.words.to_owned())
    }

    #[test]
    fn command_lines_are_found_in_each_kind_of_file() {
        for (path, line, expected) in [
            ("/boot/grub/grub.cfg", "\tlinux\t/boot/vmlinuz root=/dev/sda1 ro", Some(" root=/dev/sda1 ro")),
            ("/boot/grub2/grub.cfg", " linuxefi /vmlinuz root=x", Some(" root=x")),
            ("/boot/grub/grub.cfg", "\tinitrd /boot/initrd.img", None),
            ("/boot/grub/grub.cfg", "#\tlinux /boot/vmlinuz root=x", None),
            ("/boot/grub/menu.lst", "kernel /vmlinuz root=x", Some(" root=x")),
            ("/boot/loader/entries/a.conf", "options root=x ro", Some(" root=x ro")),
            ("/boot/loader/entries/a.conf", "linux /vmlinuz", None),
            ("/boot/extlinux/extlinux.conf", "  APPEND root=x", Some(" root=x")),
            ("/boot/extlinux/extlinux.conf", "  LINUX /vmlinuz", None),
            ("/etc/kernel/cmdline", "root=x quiet", Some("root=x quiet")),
            ("/etc/default/grub", "GRUB_CMDLINE_LINUX=\"a b\" # c", Some("a b")),
            ("/etc/default/grub", "GRUB_CMDLINE_LINUX=''", Some("")),
            ("/etc/default/grub", "GRUB_TIMEOUT=5", None),
            ("/etc/update-extlinux.conf", "root=/dev/sda1", Some("root=/dev/sda1")),
            ("/etc/update-extlinux.conf", "default_kernel_opts=\"quiet\"", Some("quiet")),
            ("/etc/update-extlinux.conf", "modules=ext4", None),
            ("/etc/default/grub", "GRUB_CMDLINE_LINUX=\"open", None),
        ] {
            assert_eq!(words(path, line).as_deref(), expected, "{path}: {line}");
        }
    }

    #[test]
    fn grubenv_keeps_its_length() {
        let text = format!("# GRUB Environment Block\nkernelopts=root=x\n{}", "#".repeat(100));
        assert_eq!(fit(&text).unwrap().len(), GRUBENV);
        assert_eq!(fit(&"a".repeat(GRUBENV + 1)), None);
        assert_eq!(words("/boot/grub2/grubenv", "kernelopts=root=x ro").as_deref(), Some("root=x ro"));
    }

    #[test]
    fn entries_without_initramfs_are_known() {
        let text = "set a\nmenuentry 'x' {\n linux /a\n initrd /b\n}\nmenuentry 'y' {\n linux /a\n}\n";
        assert_eq!(has_initramfs(text), [true, true, true, true, true, false, false, false]);
        assert_eq!(has_initramfs("GRUB_CMDLINE_LINUX=\n"), [true]);
    }
}
