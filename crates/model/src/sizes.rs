//! Sizes in bytes, as people write and read them: `1048576`, `512 MiB`, `20 GiB`.

use std::fmt;
use std::str::FromStr;

/// Units, the largest first, as powers of two.
const UNITS: [(&str, u32); 4] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

/// Returned when a text is no size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no size: write for example \"20 GiB\"")]
pub struct SizeError(String);

impl FromStr for Size {
    type Err = SizeError;

    /// Reads a whole number with a unit, or of bytes.
    fn from_str(text: &str) -> Result<Self, SizeError> {
        let digits = text.trim_end_matches(|letter: char| !letter.is_ascii_digit());
        let unit = text[digits.len()..].trim();
        let shift = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, shift)| *shift);
        let shift = if unit.is_empty() { Some(0) } else { shift };
        let bytes = shift.and_then(|shift| digits.parse::<u64>().ok()?.checked_mul(1 << shift));
        bytes.map(Self).ok_or_else(|| SizeError(text.chars().take(64).collect()))
    }
}

impl fmt::Display for Size {
    /// Writes the size in the largest unit that it fills, cut off after one digit: what is left is never rounded up.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((name, shift)) = UNITS.iter().find(|(_, shift)| self.0 >> shift > 0) else {
            return write!(f, "{} bytes", self.0);
        };
        let (whole, rest) = (self.0 >> shift, self.0 & ((1 << shift) - 1));
        // Below ten, as the rest is below the unit.
        match (u128::from(rest) * 10) >> shift {
            0 => write!(f, "{whole} {name}"),
            tenth => write!(f, "{whole}.{tenth} {name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_their_unit() {
        for (text, bytes) in
            [("0", 0), ("4096", 4096), ("20 GiB", 20 << 30), ("3MiB", 3 << 20), ("1 KiB", 1024), ("2 TiB", 2 << 40)]
        {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
        for bad in ["", "-1", "GiB", "1 GB", "99999999999 TiB", "1.5 GiB", "1 gib", "unlimited"] {
            let error = bad.parse::<Size>().unwrap_err();
            assert!(error.to_string().contains("20 GiB"), "{error}");
        }
    }

    #[test]
    fn sizes_are_never_rounded_up() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (1023, "1023 bytes"),
            (1024, "1 KiB"),
            (1535, "1.4 KiB"),
            ((1 << 20) - 1, "1023.9 KiB"),
            (5 << 30, "5 GiB"),
            (u64::MAX, "16777215.9 TiB"),
        ] {
            assert_eq!(Size(bytes).to_string(), text);
        }
    }
}
