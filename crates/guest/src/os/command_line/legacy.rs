//! Configurations of older loaders: GRUB 1, SYSLINUX and EXTLINUX.

use super::join;

/// Returns the command line of the entry that `default` numbers, from `menu.lst` of GRUB 1.
pub(super) fn of_grub1(config: &str) -> Option<String> {
    let mut default = 0;
    let mut entries: Vec<Option<String>> = Vec::new();
    for line in config.lines().map(str::trim) {
        let (key, value) = line.split_once([' ', '\t', '=']).unwrap_or((line, ""));
        let value = value.trim_start_matches([' ', '\t', '=']);
        match (key, entries.last_mut()) {
            ("title", _) => entries.push(None),
            // `saved` is in a file of its own that no tool reads; the first is what is started at first.
            ("default", None) => default = value.trim().parse().unwrap_or(0),
            // Of a kernel for Xen, the hypervisor is the kernel and the kernel its first module.
            ("kernel", Some(line)) => *line = Some(arguments(value)),
            ("module", Some(line)) if value.contains("vmlinu") => *line = Some(arguments(value)),
            _ => {}
        }
    }
    let chosen = entries.get(default).cloned().flatten();
    chosen.or_else(|| entries.into_iter().flatten().next())
}

/// Returns the words after the path of a kernel; options of the command itself come before it.
fn arguments(value: &str) -> String {
    join(value.split_whitespace().skip_while(|word| word.starts_with("--")).skip(1))
}

/// Returns what is appended by the entry that `DEFAULT` names, or else the first one.
pub(super) fn of_syslinux(config: &str) -> Option<String> {
    let mut default = None;
    let mut common = None;
    let mut entries: Vec<(&str, Option<String>)> = Vec::new();
    for line in config.lines().map(str::trim) {
        let (key, value) = line.split_once([' ', '\t']).unwrap_or((line, ""));
        let value = value.trim();
        match key.to_ascii_lowercase().as_str() {
            "default" => default = Some(value),
            "label" => entries.push((value, None)),
            "menu" if value.eq_ignore_ascii_case("default") => {
                default = entries.last().map(|entry| entry.0).or(default);
            }
            "append" => {
                let text = Some(join(value.split_whitespace()));
                *entries.last_mut().map_or(&mut common, |entry| &mut entry.1) = text;
            }
            _ => {}
        }
    }
    let chosen = entries.iter().find(|entry| Some(entry.0) == default).or(entries.first());
    chosen.and_then(|entry| entry.1.clone()).or(common)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_of_grub1_are_numbered() {
        let config = "#default=9\ndefault=1\ntimeout 5\ntitle CentOS (a)\n\troot (hd0,0)\n\tkernel /vmlinuz-a ro root=/dev/sda2\n\
                      title Xen\n\tkernel /xen.gz dom0_mem=1G\n\tmodule /vmlinuz-b ro  root=LABEL=/ console=tty0\n\tmodule /initrd.img\n";
        assert_eq!(of_grub1(config).as_deref(), Some("ro root=LABEL=/ console=tty0"));
        let first = Some("ro root=/dev/sda2".to_owned());
        assert_eq!(of_grub1(&config.replace("default=1", "default saved")), first);
        assert_eq!(of_grub1(&config.replace("default=1", "default\t99999999999999999999999")), first);
        assert_eq!(of_grub1("title x\n\tchainloader +1\n"), None);
        assert_eq!(of_grub1("title x\nkernel --no-mem-option /boot/k a b\n").as_deref(), Some("a b"));
    }

    #[test]
    fn entries_of_syslinux_are_named() {
        let config = "DEFAULT menu.c32\nAPPEND common\nLABEL virt\n  MENU DEFAULT\n  LINUX vmlinuz-virt\n  APPEND root=UUID=u  modules=ext4 quiet\n\
                      label lts\n  append root=/dev/sda3\n";
        assert_eq!(of_syslinux(config).as_deref(), Some("root=UUID=u modules=ext4 quiet"));
        assert_eq!(
            of_syslinux(&config.replace("MENU DEFAULT", "").replace("menu.c32", "lts")).as_deref(),
            Some("root=/dev/sda3")
        );
        assert_eq!(of_syslinux("label a\nkernel k\nappend x\n").as_deref(), Some("x"));
        assert_eq!(of_syslinux("append x\nlabel a\n").as_deref(), Some("x"));
        assert_eq!(of_syslinux("prompt 1\n"), None);
    }
}
