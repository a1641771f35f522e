//! What can be chosen about the file that holds a disk: `-o key=value`, checked against what the format knows.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use zeroize::Zeroizing;

use crate::error::{Error, Result};

/// How a file is written. Every option has a default, so an empty set is complete.
#[derive(Debug, Clone, Default)]
pub struct WriteOptions {
    values: BTreeMap<String, String>,
    passphrase: Option<Zeroizing<Vec<u8>>>,
}

/// An option of a format: its name, and what it does in one line with its values.
pub(crate) type Known = (&'static str, &'static str);

impl WriteOptions {
    /// Sets one option by its name. Whether the format knows it is checked when the file is written.
    pub fn set(&mut self, key: &str, value: &str) {
        self.values.insert(key.to_owned(), value.to_owned());
    }

    /// Sets the passphrase of the new file.
    pub fn set_passphrase(&mut self, passphrase: Zeroizing<Vec<u8>>) {
        self.passphrase = Some(passphrase);
    }

    /// Returns whether nothing was chosen.
    pub(crate) fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Returns the passphrase of the new file.
    pub(crate) fn passphrase(&self) -> Option<&[u8]> {
        self.passphrase.as_ref().map(|passphrase| passphrase.as_slice())
    }

    /// Refuses an option that is not among those `known` to `format`.
    pub(crate) fn check(&self, format: &str, known: &[Known]) -> Result<()> {
        for key in self.values.keys() {
            if !known.iter().any(|(name, _)| name == key) {
                let names: Vec<_> = known.iter().map(|(name, _)| *name).collect();
                let hint = match names.as_slice() {
                    [] => format!("{format} has no options"),
                    names => format!("known options: {}", names.join(", ")),
                };
                return Err(Error::unsupported(format!("{format} has no option called {key:?}")).with_hint(hint));
            }
        }
        Ok(())
    }

    /// Returns the value of `key` as it was written.
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(String::as_str)
    }

    /// Returns the value of `key`, which must be one of `allowed`; the first of them if it was not set.
    pub(crate) fn choice<'a>(&self, key: &str, allowed: &[&'a str]) -> Result<&'a str> {
        let Some(value) = self.text(key) else { return Ok(allowed[0]) };
        allowed.iter().copied().find(|word| word.eq_ignore_ascii_case(value)).ok_or_else(|| {
            Error::unsupported(format!("{key}={value}")).with_hint(format!("allowed are: {}", allowed.join(", ")))
        })
    }

    /// Returns the value of `key` in bytes, such as `65536` or `64K`, which must be a power of two in `range`.
    pub(crate) fn power_of_two(&self, key: &str, default: u64, range: RangeInclusive<u64>) -> Result<u64> {
        let Some(value) = self.text(key) else { return Ok(default) };
        parse_size(value).filter(|size| range.contains(size) && size.is_power_of_two()).ok_or_else(|| {
            let (least, most) = (range.start(), range.end());
            Error::unsupported(format!("{key}={value}"))
                .with_hint(format!("a power of two from {least} to {most} is allowed, for example: {key}={default}"))
        })
    }

    /// Returns the value of `key`, a number in `range`.
    pub(crate) fn number(&self, key: &str, default: u32, range: RangeInclusive<u32>) -> Result<u32> {
        let Some(value) = self.text(key) else { return Ok(default) };
        value.parse().ok().filter(|number| range.contains(number)).ok_or_else(|| {
            Error::unsupported(format!("{key}={value}")).with_hint(format!(
                "a number from {} to {} is allowed",
                range.start(),
                range.end()
            ))
        })
    }
}

fn parse_size(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(['k', 'K', 'm', 'M']);
    let unit = match &text[digits.len()..] {
        "" => 1,
        "k" | "K" => 1 << 10,
        "m" | "M" => 1 << 20,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_checked() {
        let mut options = WriteOptions::default();
        options.set("cluster_size", "64K");
        options.set("level", "9");
        options.set("kind", "Fixed");
        assert_eq!(options.power_of_two("cluster_size", 512, 512..=2 << 20).unwrap(), 65536);
        assert_eq!(options.power_of_two("block_size", 512, 512..=2 << 20).unwrap(), 512);
        assert!(options.power_of_two("cluster_size", 512, 512..=1024).is_err());
        assert_eq!(options.number("level", 1, 1..=9).unwrap(), 9);
        assert!(options.number("level", 1, 1..=8).is_err());
        assert_eq!(options.choice("kind", &["dynamic", "fixed"]).unwrap(), "fixed");
        assert_eq!(options.choice("other", &["dynamic", "fixed"]).unwrap(), "dynamic");
        assert!(options.choice("kind", &["dynamic"]).is_err());
        assert!(options.check("x", &[("level", ""), ("kind", "")]).is_err());
        assert!(options.check("x", &[("level", ""), ("kind", ""), ("cluster_size", "")]).is_ok());
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(parse_size("2M"), Some(2 << 20));
        for wrong in ["", "K", "1G", "-1", "1KM", "99999999999999999999", "18446744073709551615M"] {
            assert_eq!(parse_size(wrong), None, "{wrong}");
        }
    }
}
