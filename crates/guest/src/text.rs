//! Texts of the guest made safe to show, and the grammars that some of them must keep.

/// Longest text taken over from a guest, in characters.
pub(crate) const TEXT_MAX: usize = 128;

/// Returns `bytes` as text of at most [`TEXT_MAX`] characters; control characters, and those that change the
/// direction of writing, are escaped as `\u{..}`.
pub(crate) fn clean(bytes: &[u8]) -> String {
    clean_to(bytes, TEXT_MAX)
}

/// Does the same as [`clean`] with at most `most` characters.
pub(crate) fn clean_to(bytes: &[u8], most: usize) -> String {
    // A character has at most four bytes: what lies beyond cannot be shown anyway.
    let head = &bytes[..bytes.len().min(most * 4 + 4)];
    let text = String::from_utf8_lossy(head);
    let mut shown = String::new();
    for (count, character) in text.chars().enumerate() {
        if count == most {
            shown.push_str("...");
            break;
        }
        if is_harmful(character) {
            shown.extend(character.escape_unicode());
        } else {
            shown.push(character);
        }
    }
    shown
}

/// Returns all of `text` with harmful characters escaped.
pub(crate) fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if is_harmful(character) {
            shown.extend(character.escape_unicode());
        } else {
            shown.push(character);
        }
    }
    shown
}

/// Does the same as [`clean`] for a field padded with NUL bytes or spaces; an empty field is none.
pub(crate) fn clean_padded(bytes: &[u8]) -> Option<String> {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let text = clean(bytes[..end].trim_ascii());
    (!text.is_empty()).then_some(text)
}

fn is_harmful(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// Returns `text` if it is a host name: letters, digits, `-` and `_` in labels of 1 to 63 joined by dots, 253 in all.
pub(crate) fn hostname(text: &str) -> Option<&str> {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
            && !label.starts_with('-')
    };
    (text.len() <= 253 && text.split('.').all(is_label)).then_some(text)
}

/// Returns `text` if it is one word as package versions, kernel versions and os-release ids are written.
pub(crate) fn word(text: &str) -> Option<&str> {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"._+~^:-".contains(&byte);
    ((1..=TEXT_MAX).contains(&text.len()) && text.bytes().all(is_letter)).then_some(text)
}

/// Returns key and value of `KEY=value` as shells read it, without quotes and blanks around; none for comments.
pub(crate) fn assignment(line: &str) -> Option<(&str, &str)> {
    let (key, value) = line.trim().split_once('=')?;
    let key = key.strip_prefix("export ").unwrap_or(key).trim();
    (!key.starts_with(['#', ';'])).then(|| (key, value.trim().trim_matches(['"', '\''])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn harmful_characters_are_escaped_and_length_is_limited() {
        assert_eq!(clean(b"a\x1b[31mb"), "a\\u{1b}[31mb");
        assert_eq!(clean("x\u{202e}y".as_bytes()), "x\\u{202e}y");
        assert_eq!(clean(&[b'a'; 1000]), "a".repeat(TEXT_MAX) + "...");
        assert_eq!(clean("ção €".as_bytes()), "ção €");
        assert_eq!(clean(b"\xff\xfe"), "\u{fffd}\u{fffd}");
        assert_eq!(clean_padded(b"  \0junk"), None);
        assert_eq!(clean_padded(b"BOOT       ").as_deref(), Some("BOOT"));
    }

    #[test]
    fn hostnames_keep_their_grammar() {
        for good in ["web-01", "a.b.example", "host_1", "9"] {
            assert_eq!(hostname(good), Some(good));
        }
        for bad in ["", "a..b", "-a", "root:$6$salt", "a b", "a\u{1b}[0m", ".", &"a".repeat(64)] {
            assert_eq!(hostname(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn assignments_lose_their_quotes() {
        assert_eq!(assignment(" BOOTPROTO='static' "), Some(("BOOTPROTO", "static")));
        assert_eq!(assignment("export A=\"b c\""), Some(("A", "b c")));
        assert_eq!(assignment("#A=b"), None);
        assert_eq!(assignment("text"), None);
    }
}
