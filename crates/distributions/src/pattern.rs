//! Patterns of names: `{placeholders}` that a definition fills, one `*` that a list fills, and which name is the newer.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use crate::error::{Error, Result};

/// Longest name of a file at a mirror; what is longer is no name.
const NAME_MAX: usize = 255;

/// Replaces each `{word}` by its value; a word that has none is an error of the definition.
pub(crate) fn fill(pattern: &str, words: &BTreeMap<&str, &str>) -> Result<String> {
    let mut filled = String::with_capacity(pattern.len());
    let mut rest = pattern;
    while let Some((before, after)) = rest.split_once('{') {
        let (word, after) = after
            .split_once('}')
            .ok_or_else(|| Error::new(format!("`{pattern}` opens a brace and does not close it")))?;
        let value = words
            .get(word)
            .ok_or_else(|| Error::new(format!("`{pattern}` asks for `{word}`, which is not defined there")))?;
        filled.push_str(before);
        filled.push_str(value);
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}

/// Returns what the `*` of `pattern` stands for in `name`; the empty text where there is no `*` and both are the same.
pub(crate) fn matched<'n>(pattern: &str, name: &'n str) -> Option<&'n str> {
    let Some((before, after)) = pattern.split_once('*') else { return (pattern == name).then_some("") };
    let middle = name.strip_prefix(before)?.strip_suffix(after)?;
    // A `*` stands for a version or a date, never for another part of a name.
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'~' | b'-' | b'+');
    (!middle.is_empty() && middle.bytes().all(plain)).then_some(middle)
}

/// Whether a name is that of a file in its folder: no path, nothing hidden, nothing that a URL or a terminal reads otherwise.
pub(crate) fn is_file_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'/' | b'\\' | b'?' | b'#' | b'%' | b':' | b'"');
    !name.is_empty() && name.len() <= NAME_MAX && !name.starts_with('.') && name.bytes().all(plain)
}

/// Compares two names as people number versions: runs of digits by their value, the rest by its letters.
#[must_use]
pub fn newer(one: &str, other: &str) -> Ordering {
    let (mut one, mut other) = (one.as_bytes(), other.as_bytes());
    loop {
        let (Some(&left), Some(&right)) = (one.first(), other.first()) else { return one.len().cmp(&other.len()) };
        if left.is_ascii_digit() && right.is_ascii_digit() {
            let (left, right) = (number(&mut one), number(&mut other));
            // Without leading zeros, the longer number is the greater one.
            let order = left.len().cmp(&right.len()).then_with(|| left.cmp(right));
            if order != Ordering::Equal {
                return order;
            }
        } else if left == right {
            (one, other) = (&one[1..], &other[1..]);
        } else {
            return left.cmp(&right);
        }
    }
}

/// Takes the number that `text` begins with, without leading zeros.
fn number<'t>(text: &mut &'t [u8]) -> &'t [u8] {
    let end = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    *text = rest;
    let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
    &digits[zeros..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_filled() {
        let words = BTreeMap::from([("version", "12"), ("arch", "amd64")]);
        assert_eq!(fill("debian-{version}-{arch}.qcow2", &words).unwrap(), "debian-12-amd64.qcow2");
        assert_eq!(fill("plain", &words).unwrap(), "plain");
        for wrong in ["{codename}", "{version", "{}"] {
            assert!(fill(wrong, &words).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_star_is_a_version() {
        let check =
            |pattern: &str, name: &str, expect: Option<&str>| assert_eq!(matched(pattern, name), expect, "{name}");
        check("a-*.img", "a-1.7.img", Some("1.7"));
        check("a-*.img", "a-.img", None);
        check("a-*.img", "a-1/../b.img", None);
        check("a-*.img", "b-1.img", None);
        check("a.img", "a.img", Some(""));
        check("a.img", "a-img", None);
        // Beginning and end of the pattern do not share a byte of the name.
        check("aa*aa", "aaa", None);
    }

    #[test]
    fn names_are_no_paths() {
        for name in ["a.img", "Fedora-Cloud-Base-Generic-44-1.7.x86_64.qcow2", "com.ubuntu.cloud_1~a+b"] {
            assert!(is_file_name(name), "{name}");
        }
        for name in ["", "..", ".hidden", "a/b", "../a", "a\\b", "a?b", "a#b", "a%2fb", "http:x", "a b", "a\u{1b}", "ä"]
        {
            assert!(!is_file_name(name), "{name}");
        }
        assert!(!is_file_name(&"a".repeat(256)));
    }

    #[test]
    fn versions_are_compared_by_their_numbers() {
        let check = |one: &str, other: &str, expect: Ordering| {
            assert_eq!(newer(one, other), expect, "{one} {other}");
            assert_eq!(newer(other, one), expect.reverse(), "{other} {one}");
        };
        check("1.10", "1.9", Ordering::Greater);
        check("20240501-1234", "20240501-999", Ordering::Greater);
        check("3.22.1", "3.22", Ordering::Greater);
        check("r0", "r00", Ordering::Equal);
        check("1.7", "1.7", Ordering::Equal);
        check("99999999999999999999999", "100000000000000000000000", Ordering::Less);
        check("a", "1", Ordering::Greater);
    }
}
