//! Distribution and version: os-release(5), and what older systems have instead.

use crate::text::{clean, word};
use crate::tree::Tree;

/// Where os-release stands, in the order of precedence.
pub(super) const PATHS: [&str; 2] = ["/etc/os-release", "/usr/lib/os-release"];

/// What names the distribution.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Release {
    pub(super) id: Option<String>,
    pub(super) version: Option<String>,
    pub(super) name: Option<String>,
}

pub(super) fn read(tree: &Tree) -> Release {
    if let Some(text) = PATHS.iter().find_map(|path| tree.config(path)) {
        return parse(&text);
    }
    if let Some(text) = ["/etc/redhat-release", "/etc/centos-release"].iter().find_map(|path| tree.config(path)) {
        return parse_redhat(&text);
    }
    // Both files hold nothing but the version.
    let bare = [("/etc/alpine-release", "alpine"), ("/etc/debian_version", "debian")];
    bare.iter()
        .find_map(|(path, id)| {
            let version = word(tree.config(path)?.trim()).map(str::to_owned);
            Some(Release { id: Some((*id).to_owned()), version, name: None })
        })
        .unwrap_or_default()
}

fn parse(text: &str) -> Release {
    let value = |key: &str| {
        let of_line = |line: &str| {
            let rest = line.trim().strip_prefix(key)?.strip_prefix('=')?;
            unquote(rest)
        };
        // As in a shell, the last assignment wins.
        text.lines().rev().find_map(of_line).filter(|value| !value.is_empty())
    };
    let checked = |key: &str| value(key).and_then(|value| word(&value).map(str::to_owned));
    Release {
        id: checked("ID").map(|id| id.to_ascii_lowercase()),
        version: checked("VERSION_ID"),
        name: value("PRETTY_NAME").map(|name| clean(name.as_bytes())),
    }
}

/// Takes the quotes off a value as a shell does, without expanding anything; none where the quotes are not closed.
fn unquote(text: &str) -> Option<String> {
    let mut value = String::new();
    let mut quote = None;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match (quote, character) {
            (None, '"' | '\'') => quote = Some(character),
            (Some(open), _) if character == open => quote = None,
            (None | Some('"'), '\\') => value.push(characters.next()?),
            (None, _) if character.is_whitespace() => break,
            _ => value.push(character),
        }
    }
    quote.is_none().then_some(value)
}

/// Reads a line such as `CentOS release 6.10 (Final)`.
fn parse_redhat(text: &str) -> Release {
    let line = text.lines().next().unwrap_or_default().trim();
    let known = [("centos", "centos"), ("red hat", "rhel"), ("fedora", "fedora"), ("oracle", "ol"), ("rocky", "rocky")];
    let small = line.to_ascii_lowercase();
    let version = line.split_whitespace().find(|part| part.starts_with(|first: char| first.is_ascii_digit()));
    Release {
        id: known.iter().find(|(prefix, _)| small.starts_with(prefix)).map(|(_, id)| (*id).to_owned()),
        version: version.and_then(word).map(str::to_owned),
        name: (!line.is_empty()).then(|| clean(line.as_bytes())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_taken_off_as_a_shell_does() {
        for (text, expected) in [
            ("debian", Some("debian")),
            ("\"12\"", Some("12")),
            ("'a b'", Some("a b")),
            (r#""say \"hi\" \$5 \\""#, Some(r#"say "hi" $5 \"#)),
            (r"'back\slash'", Some(r"back\slash")),
            ("a\"b\"'c'", Some("abc")),
            ("word rest", Some("word")),
            ("\"open", None),
            ("", Some("")),
        ] {
            assert_eq!(unquote(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn the_last_assignment_wins_and_bad_words_are_dropped() {
        let release = parse("# ID=no\nID=first\nID=Second\nVERSION_ID=\"1 2\"\nPRETTY_NAME=\"A\u{1b}[1m\"\n");
        assert_eq!(release.id.as_deref(), Some("second"));
        assert_eq!(release.version, None);
        assert_eq!(release.name.as_deref(), Some("A\\u{1b}[1m"));
    }

    #[test]
    fn old_red_hat_lines_are_read() {
        let release = parse_redhat("CentOS release 6.10 (Final)\n");
        assert_eq!((release.id.as_deref(), release.version.as_deref()), (Some("centos"), Some("6.10")));
    }
}
