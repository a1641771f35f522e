//! Rules for names that people give: one place, so that no dialect is laxer than another.

use std::fmt;

/// Longest name of an image, server, project or user, in characters (Glance: 255).
pub const NAME_MAX: usize = 255;
/// Longest object key, in bytes of UTF-8 (S3).
pub const OBJECT_KEY_MAX: usize = 1024;
/// Most properties of one image; more would make every listing unbounded.
pub const PROPERTIES_MAX: usize = 128;
/// Most tags of one image (Glance's default quota).
pub const TAGS_MAX: usize = 128;
/// Longest property value, in characters.
pub const VALUE_MAX: usize = 4096;

/// Returned when a text is none of a closed list of names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not known; one of: {}", known.join(", "))]
pub struct UnknownName {
    text: String,
    known: Vec<&'static str>,
}

impl UnknownName {
    /// Makes the error for `text`, cut to a length that fits a message.
    #[must_use]
    pub fn new(text: &str, known: &[&'static str]) -> Self {
        Self { text: text.chars().take(64).collect(), known: known.to_vec() }
    }
}

/// Returned when a name breaks the rule of its kind; the text says which rule and how to keep it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameError(String);

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NameError {}

/// Checks a name of an image, server, project or user: 1 to 255 characters, none a control character.
pub fn check_name(name: &str) -> Result<(), NameError> {
    let length = name.chars().count();
    if length == 0 || length > NAME_MAX {
        return Err(NameError(format!("a name has 1 to {NAME_MAX} characters, this one has {length}")));
    }
    if name.chars().any(char::is_control) {
        return Err(NameError("a name has no control characters".into()));
    }
    Ok(())
}

/// Checks a bucket name: 3 to 63 of a-z, 0-9, `-` and `.`, first and last a letter or digit, no `..`, not an IP address (S3).
pub fn check_bucket(name: &str) -> Result<(), NameError> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    let fits = (3..=63).contains(&name.len())
        && name.chars().all(allowed)
        && edge(name.chars().next())
        && edge(name.chars().last())
        && !name.contains("..")
        && name.parse::<std::net::Ipv4Addr>().is_err();
    if fits {
        return Ok(());
    }
    Err(NameError(
        "a bucket name has 3 to 63 characters of a-z, 0-9, `-` and `.`, begins and ends with a letter or digit, and is no IP address".into(),
    ))
}

/// Checks an object key: 1 to 1024 bytes of UTF-8 without NUL.
pub fn check_object_key(key: &str) -> Result<(), NameError> {
    if key.is_empty() || key.len() > OBJECT_KEY_MAX {
        return Err(NameError(format!("an object key has 1 to {OBJECT_KEY_MAX} bytes, this one has {}", key.len())));
    }
    if key.contains('\0') {
        return Err(NameError("an object key has no NUL character".into()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bucket_names() {
        for good in ["abc", "my-bucket", "a.b.c", "0ab", &"a".repeat(63)] {
            assert_eq!(check_bucket(good), Ok(()), "{good}");
        }
        for bad in ["", "ab", "Abc", "-abc", "abc-", "a..b", "a_b", "192.168.0.1", "../x", &"a".repeat(64)] {
            assert!(check_bucket(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_and_keys() {
        assert!(check_name(&"ü".repeat(255)).is_ok());
        assert!(check_name(&"x".repeat(256)).is_err());
        assert!(check_name("").is_err());
        assert!(check_name("a\nb").is_err());
        assert!(check_object_key("dir/file name.vmdk").is_ok());
        assert!(check_object_key("a\0b").is_err());
        assert!(check_object_key(&"k".repeat(1025)).is_err());
    }
}
