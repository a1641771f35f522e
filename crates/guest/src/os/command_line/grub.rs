//! The configuration of GRUB 2 as grub-mkconfig(8) writes it: a script, of which menus, entries and kernels are looked at.

use super::{Environment, expand};

/// Deepest menu in a menu.
const DEPTH_MAX: usize = 8;

/// An entry, or a menu of entries.
#[derive(Debug, Default)]
struct Entry {
    title: String,
    id: Option<String>,
    /// The words after the name of the command that loads a kernel: its path and its command line.
    linux: Option<Vec<String>>,
    entries: Vec<Entry>,
}

/// Returns whether the entries lie in files of their own.
pub(super) fn takes_entries(config: &str) -> bool {
    config.lines().any(|line| line.trim() == "blscfg")
}

/// Adds to the values of the environment block those that the script sets in its absence.
pub(super) fn with_defaults(config: &str, mut environment: Environment) -> Environment {
    if !environment.contains_key("kernelopts")
        && let Some(value) = settings(config, "kernelopts").chain(settings(config, "default_kernelopts")).last()
    {
        environment.insert("kernelopts".to_owned(), value);
    }
    environment
}

/// Returns the command line of the entry that is started by default.
pub(super) fn default_line(config: &str, environment: &Environment) -> Option<String> {
    let menu = parse(config);
    // An entry for the next start only is set before the lasting one, and none of it is left afterwards.
    let default = settings(config, "default").filter(|value| !value.contains("next_entry")).last();
    let default = match default {
        Some(value) if value.contains("saved_entry") => environment.get("saved_entry").cloned(),
        other => other,
    };
    let chosen = choose(&menu, default.as_deref().unwrap_or("0"));
    let words = chosen.and_then(|entry| entry.linux.as_ref()).or_else(|| first_linux(&menu))?;
    Some(expand(words.iter().skip(1).map(String::as_str), environment))
}

/// Returns the values of `set NAME=VALUE`, in order.
fn settings<'a>(config: &'a str, name: &'a str) -> impl Iterator<Item = String> + 'a {
    config.lines().filter_map(move |line| {
        let value = line.trim().strip_prefix("set ")?.trim_start().strip_prefix(name)?.strip_prefix('=')?;
        Some(words(value).into_iter().next().unwrap_or_default())
    })
}

fn parse(config: &str) -> Vec<Entry> {
    let mut open = vec![Entry::default()];
    // For each brace that is open, whether it is that of an entry.
    let mut braces = Vec::new();
    for line in config.lines().map(str::trim) {
        let command = line.split_whitespace().next().unwrap_or_default();
        if line.ends_with('{') {
            let is_entry = matches!(command, "menuentry" | "submenu") && open.len() < DEPTH_MAX;
            if is_entry {
                open.push(Entry::new(&words(line)));
            }
            braces.push(is_entry);
        } else if line == "}" {
            if braces.pop() == Some(true) {
                close(&mut open);
            }
        } else if matches!(command, "linux" | "linux16" | "linuxefi")
            && let [_, .., entry] = &mut open[..]
        {
            entry.linux.get_or_insert_with(|| words(line).split_off(1));
        }
    }
    while open.len() > 1 {
        close(&mut open);
    }
    open.pop().map(|top| top.entries).unwrap_or_default()
}

fn close(open: &mut Vec<Entry>) {
    if let Some(entry) = open.pop()
        && let Some(menu) = open.last_mut()
    {
        menu.entries.push(entry);
    }
}

impl Entry {
    /// Reads the line that opens it.
    fn new(words: &[String]) -> Self {
        let after = |option: &str| words.iter().skip_while(|word| *word != option).nth(1).cloned();
        Self {
            title: words.get(1).cloned().unwrap_or_default(),
            id: after("--id").or_else(|| after("$menuentry_id_option")),
            ..Self::default()
        }
    }
}

/// Finds an entry by number, id or title; `>` parts a menu from what is in it.
fn choose<'a>(menu: &'a [Entry], default: &str) -> Option<&'a Entry> {
    let is_named = |entry: &&Entry, name: &str| entry.id.as_deref() == Some(name) || entry.title == name;
    let mut entries = menu;
    let mut chosen = None;
    for name in default.split('>').take(DEPTH_MAX) {
        let by_number = name.trim().parse::<usize>().ok().and_then(|number| entries.get(number));
        let found = by_number.or_else(|| entries.iter().find(|entry| is_named(entry, name)));
        // GRUB starts the first one when there is none of that name.
        let Some(found) = found.or_else(|| entries.first()) else { break };
        chosen = Some(found);
        entries = &found.entries;
    }
    // Of a menu, its first entry.
    while let Some(menu) = chosen.filter(|entry| !entry.entries.is_empty()) {
        chosen = menu.entries.first();
    }
    chosen
}

fn first_linux(menu: &[Entry]) -> Option<&Vec<String>> {
    menu.iter().find_map(|entry| entry.linux.as_ref().or_else(|| first_linux(&entry.entries)))
}

/// Parts a line into words as a shell does, without replacing variables.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match (quote, character) {
            (None, '#') if word.is_none() => break,
            (None, '"' | '\'') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (Some(open), _) if character == open => quote = None,
            (None | Some('"'), '\\') => word.get_or_insert_default().extend(characters.next()),
            (None, _) if character.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(character),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEBIAN: &str = r#"
if [ -s $prefix/grubenv ]; then
  load_env
fi
if [ "${next_entry}" ] ; then
   set default="${next_entry}"
   set next_entry=
else
   set default="DEFAULT"
fi
function savedefault {
  if [ -z "${boot_once}" ]; then
    save_env saved_entry
  fi
}
menuentry 'Debian GNU/Linux' --class debian $menuentry_id_option 'gnulinux-simple-u' {
	load_video
	if [ x$feature_platform_search_hint = xy ]; then
	  search --no-floppy --fs-uuid --set=root u
	fi
	linux	/boot/vmlinuz-2 root=UUID=u ro quiet $vt_handoff
	initrd	/boot/initrd.img-2
}
submenu 'Advanced options' $menuentry_id_option 'gnulinux-advanced-u' {
	menuentry 'Linux 2' --id 'two' {
		linux16	/boot/vmlinuz-2 root=/dev/sda1 "console=ttyS0,115200 x"
	}
	menuentry 'Linux 1 (recovery)' {
		linuxefi /boot/vmlinuz-1 root=/dev/sda1 single
	}
}
menuentry 'UEFI Firmware Settings' {
	fwsetup
}
"#;

    #[test]
    fn the_default_entry_is_found() {
        let line = |default: &str, saved: Option<&str>| {
            let environment = saved.map(|saved| ("saved_entry".to_owned(), saved.to_owned()));
            default_line(&DEBIAN.replace("DEFAULT", default), &environment.into_iter().collect())
        };
        let (first, two) = (Some("root=UUID=u ro quiet"), Some("root=/dev/sda1 console=ttyS0,115200 x"));
        let recovery = Some("root=/dev/sda1 single");
        assert_eq!(line("0", None).as_deref(), first);
        assert_eq!(line("gnulinux-simple-u", None).as_deref(), first);
        assert_eq!(line("no such entry", None).as_deref(), first);
        assert_eq!(line("1", None).as_deref(), two);
        assert_eq!(line("1>1", None).as_deref(), recovery);
        assert_eq!(line("gnulinux-advanced-u>two", None).as_deref(), two);
        assert_eq!(line("${saved_entry}", Some("Advanced options>Linux 1 (recovery)")).as_deref(), recovery);
        assert_eq!(line("${saved_entry}", None).as_deref(), first);
        assert_eq!(line("2", None).as_deref(), first);
        assert_eq!(default_line("set default=0\n", &Environment::new()), None);
    }

    #[test]
    fn scripts_of_an_attacker_end() {
        let deep = "submenu x {\n".repeat(80_000);
        assert_eq!(default_line(&(deep + "linux /x a\n"), &Environment::new()).as_deref(), Some("a"));
        assert_eq!(default_line(&"}\n".repeat(1000), &Environment::new()), None);
        assert_eq!(words("a 'b c' \"d\\\"e\" f\\ g '' 'open"), ["a", "b c", "d\"e", "f g", "", "open"]);
    }
}
