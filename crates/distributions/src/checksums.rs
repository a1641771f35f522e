//! Lists of checksums: GNU (`hex  name`), BSD (`SHA256 (name) = hex`), and a bare sum for one file.
//!
//! Only SHA-256 and SHA-512 count. Lines in no known form are passed over, as the lists of Fedora and CentOS hold comments
//! and sizes; a name that stands there twice with different sums of one kind is refused, since nobody knows which is meant.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256, Sha512};

use crate::error::{Error, Result};
use crate::pattern::is_file_name;

/// A list of more lines is none of images.
const LINES_MAX: usize = 100_000;

/// How a sum is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Algorithm {
    /// SHA-256 (FIPS 180-4)
    Sha256,
    /// SHA-512 (FIPS 180-4)
    Sha512,
}

/// The sum that a file must have.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Checksum {
    algorithm: Algorithm,
    bytes: Vec<u8>,
}

/// The sum of what has been seen of a file.
pub(crate) enum Hasher {
    Sha256(Sha256),
    Sha512(Sha512),
}

impl Algorithm {
    fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    fn of_length(digits: usize) -> Option<Self> {
        match digits {
            64 => Some(Self::Sha256),
            128 => Some(Self::Sha512),
            _ => None,
        }
    }

    pub(crate) fn hasher(self) -> Hasher {
        match self {
            Self::Sha256 => Hasher::Sha256(Sha256::new()),
            Self::Sha512 => Hasher::Sha512(Sha512::new()),
        }
    }
}

impl Hasher {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Sha512(hasher) => hasher.update(bytes),
        }
    }

    pub(crate) fn finish(self) -> Checksum {
        match self {
            Self::Sha256(hasher) => Checksum { algorithm: Algorithm::Sha256, bytes: hasher.finalize().to_vec() },
            Self::Sha512(hasher) => Checksum { algorithm: Algorithm::Sha512, bytes: hasher.finalize().to_vec() },
        }
    }
}

impl Checksum {
    /// Reads the digits of a sum; which kind it is follows from their number.
    pub(crate) fn from_hex(digits: &str) -> Option<Self> {
        let algorithm = Algorithm::of_length(digits.len())?;
        Some(Self { algorithm, bytes: hex::decode(digits).ok()? })
    }

    pub(crate) fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm.name(), hex::encode(&self.bytes))
    }
}

impl FromStr for Checksum {
    type Err = Error;

    /// Reads what [`Checksum`] displays.
    fn from_str(text: &str) -> Result<Self> {
        let (name, digits) = text.split_once(':').unwrap_or_default();
        Self::from_hex(digits)
            .filter(|sum| sum.algorithm.name() == name)
            .ok_or_else(|| Error::new("a checksum is `sha256:` or `sha512:` and its digits"))
    }
}

/// Reads a list; a bare sum belongs to `single`, the one file that the list is of.
pub(crate) fn parse(text: &str, single: Option<&str>) -> Result<BTreeMap<String, Checksum>> {
    let mut sums: BTreeMap<String, Checksum> = BTreeMap::new();
    for (at, line) in text.lines().enumerate() {
        if at >= LINES_MAX {
            return Err(Error::new(format!("the list of checksums has more than {LINES_MAX} lines")));
        }
        let Some((name, sum)) = entry(line.trim(), single) else { continue };
        match sums.get(name) {
            // The stronger of two kinds stays.
            Some(known) if known.algorithm > sum.algorithm => {}
            Some(known) if known.algorithm == sum.algorithm && *known != sum => {
                return Err(Error::new(format!("the list has two different checksums of `{name}`")));
            }
            _ => {
                sums.insert(name.to_owned(), sum);
            }
        }
    }
    Ok(sums)
}

/// Reads one line.
fn entry<'l>(line: &'l str, single: Option<&'l str>) -> Option<(&'l str, Checksum)> {
    let (name, sum) = match line.split_once([' ', '\t']) {
        None => (single?, Checksum::from_hex(line)?),
        Some((kind @ ("SHA256" | "SHA512"), rest)) => {
            let (name, digits) = rest.trim_start().strip_prefix('(')?.split_once(')')?;
            let sum = Checksum::from_hex(digits.trim_start().strip_prefix('=')?.trim())?;
            // A sum that is called another kind than it is would be one that was cut.
            (name, Some(sum).filter(|sum| sum.algorithm.name().eq_ignore_ascii_case(kind))?)
        }
        Some((digits, rest)) => {
            let name = rest.trim_start();
            let name = name.strip_prefix('*').unwrap_or(name);
            (name.strip_prefix("./").unwrap_or(name), Checksum::from_hex(digits)?)
        }
    };
    is_file_name(name).then_some((name, sum))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB";

    fn names(text: &str) -> Vec<String> {
        parse(text, None).unwrap().into_keys().collect()
    }

    #[test]
    fn every_form_of_a_list_is_read() {
        let gnu = format!("{A}  one.img\n{B} *two.img\r\n{A}  ./three.img\n");
        assert_eq!(names(&gnu), ["one.img", "three.img", "two.img"]);
        let fedora =
            format!("# one.img: 42 bytes\nSHA256 (one.img) = {A}\n\nSHA512 (one.img) = {A}{A}\nMD5 (x) = {A}\n");
        let sums = parse(&fedora, None).unwrap();
        assert_eq!(sums.len(), 1);
        assert_eq!(sums["one.img"].to_string(), format!("sha512:{A}{A}"), "the stronger counts");
        let single = parse(&format!("{A}\n"), Some("one.img")).unwrap();
        assert_eq!(single["one.img"].to_string(), format!("sha256:{A}"));
        assert!(parse(A, None).unwrap().is_empty(), "a bare sum is nobody's where the list is of many");
    }

    #[test]
    fn what_is_no_entry_does_not_count() {
        for line in [
            format!("{A}  ../../etc/passwd"),
            format!("{A}  /etc/passwd"),
            format!("{A}  a\u{1b}[31m"),
            format!("{}  short.img", &A[1..]),
            format!("SHA512 (one.img) = {A}"),
            format!("SHA256 (one.img) {A}"),
            format!("SHA1 (one.img) = {}", &A[..40]),
            "zz".repeat(32) + "  one.img",
            "é".repeat(32) + " one.img",
        ] {
            assert_eq!(names(&line), [""; 0], "{line}");
        }
    }

    #[test]
    fn two_sums_of_one_name_are_refused() {
        let told = parse(&format!("{A}  one.img\n{B}  one.img\n"), None).unwrap_err().to_string();
        assert_eq!(told, "the list has two different checksums of `one.img`");
        assert_eq!(names(&format!("{A}  one.img\n{A}  one.img\n")), ["one.img"]);
        assert!(parse(&"\n".repeat(LINES_MAX + 1), None).is_err());
    }

    #[test]
    fn sums_are_computed_and_written() {
        let mut hasher = Algorithm::Sha256.hasher();
        hasher.update(b"abc");
        let sum = hasher.finish();
        // FIPS 180-4's own example.
        assert_eq!(sum.to_string(), "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(sum.to_string().parse::<Checksum>().unwrap(), sum);
        for wrong in ["", "sha256:", "sha512:00", &format!("sha512:{A}"), &format!("md5:{A}")] {
            assert!(wrong.parse::<Checksum>().is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_a_panic(text in "\\PC{0,300}", at in 0usize..200, byte in any::<u8>()) {
            let _ = parse(&text, Some("a"));
            let mut list = format!("{A}  one.img\nSHA256 (two.img) = {B}\n{A}\n").into_bytes();
            if let Some(place) = list.get_mut(at) {
                *place = byte;
            }
            // Whatever one byte becomes, no name is made up, and a path never comes out.
            for name in parse(&String::from_utf8_lossy(&list), Some("single")).into_iter().flat_map(BTreeMap::into_keys) {
                prop_assert!(is_file_name(&name));
            }
        }
    }
}
