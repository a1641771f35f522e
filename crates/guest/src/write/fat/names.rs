//! Names: the long one that is meant, the short one of eight and three letters that each entry also has, and times.

use disk::error::{Error, Result};

/// Longest name, in units of UTF-16.
const LENGTH_MAX: usize = 255;
/// What a short name may have besides capital letters and digits.
const SHORT_OTHERS: &[u8] = b"!#$%&'()-@^_`{}~";

/// Refuses a name that no entry can have.
pub(super) fn check(name: &str) -> Result<()> {
    let is_sound = !name.is_empty()
        && name != "."
        && name != ".."
        && !name.ends_with(['.', ' '])
        && name.encode_utf16().count() <= LENGTH_MAX
        && name.chars().all(|letter| !letter.is_control() && !"\"*/:<>?\\|".contains(letter));
    if is_sound { Ok(()) } else { Err(Error::refused("the name is not one that a FAT can have")) }
}

/// Returns whether two names are the same without regard to case.
pub(super) fn is_same(one: &str, other: &str) -> bool {
    one.chars().flat_map(char::to_lowercase).eq(other.chars().flat_map(char::to_lowercase))
}

/// Returns a short name as it is shown.
pub(super) fn shown(short: &[u8; 11]) -> String {
    let part = |bytes: &[u8]| bytes.iter().map(|byte| char::from(*byte)).collect::<String>().trim_end().to_owned();
    let (base, end) = (part(&short[..8]), part(&short[8..]));
    if end.is_empty() { base } else { format!("{base}.{end}") }
}

/// Returns a short name for `name` that is not in `taken`, and whether it says all, so that no long name is needed.
pub(super) fn shorten(name: &str, taken: &[[u8; 11]]) -> ([u8; 11], bool) {
    let (base, end) = name.rsplit_once('.').filter(|(base, _)| !base.is_empty()).unwrap_or((name, ""));
    let fit = |text: &str| -> Vec<u8> {
        let letters = text.chars().filter(|letter| !matches!(letter, '.' | ' '));
        letters.map(|letter| u8::try_from(letter.to_ascii_uppercase()).map_or(b'_', fit_letter)).collect()
    };
    let (fit_base, fit_end) = (fit(base), fit(end));
    let join = |base: &[u8], tail: &str| {
        let mut short = [b' '; 11];
        let kept = base.len().min(8 - tail.len());
        short[..kept].copy_from_slice(&base[..kept]);
        short[kept..kept + tail.len()].copy_from_slice(tail.as_bytes());
        let end = &fit_end[..fit_end.len().min(3)];
        short[8..8 + end.len()].copy_from_slice(end);
        short
    };
    let whole = join(&fit_base, "");
    if is_same(&shown(&whole), name) && !taken.contains(&whole) {
        return (whole, shown(&whole) == name);
    }
    // There are more numbers than a folder has entries.
    let numbered = (1..=999_999_u32).map(|number| join(&fit_base, &format!("~{number}")));
    (numbered.into_iter().find(|short| !taken.contains(short)).unwrap_or(whole), false)
}

fn fit_letter(letter: u8) -> u8 {
    if letter.is_ascii_uppercase() || letter.is_ascii_digit() || SHORT_OTHERS.contains(&letter) { letter } else { b'_' }
}

/// The sum of a short name, by which its long name knows it.
pub(super) fn sum(short: &[u8]) -> u8 {
    short.iter().fold(0_u8, |sum, byte| sum.rotate_right(1).wrapping_add(*byte))
}

/// Returns date and time of an entry from seconds since 1970; what it cannot say is its first or last moment.
pub(super) fn moment(now: u64) -> (u16, u16) {
    let (first, last) = (315_532_800, 4_354_819_198); // 1980-01-01 00:00:00 and 2107-12-31 23:59:58
    let now = now.clamp(first, last);
    let (mut days, seconds) = (now / 86_400 - first / 86_400, now % 86_400);
    let is_leap = |year: u64| year.is_multiple_of(4) && year != 2100;
    let mut year = 1980;
    while days >= 365 + u64::from(is_leap(year)) {
        days -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let mut month = 1;
    for length in [31, 28 + u64::from(is_leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    let date = (year - 1980) << 9 | month << 5 | (days + 1);
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    let time = hours << 11 | minutes << 5 | (seconds % 60 / 2);
    (date as u16, time as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_are_unique_and_say_all_where_they_can() {
        assert_eq!(shorten("BOOTX64.EFI", &[]), (*b"BOOTX64 EFI", true));
        assert_eq!(shorten("grubx64.efi", &[]), (*b"GRUBX64 EFI", false));
        assert_eq!(shorten("EFI", &[]), (*b"EFI        ", true));
        assert_eq!(shorten("loader entry.conf", &[]), (*b"LOADER~1CON", false));
        assert_eq!(shorten("loader entry.conf", &[*b"LOADER~1CON"]), (*b"LOADER~2CON", false));
        assert_eq!(shorten("a+b", &[]), (*b"A_B~1      ", false));
        assert_eq!(shorten("grubx64.efi", &[*b"GRUBX64 EFI"]).0, *b"GRUBX6~1EFI");
        assert_eq!(shorten(".hidden", &[]).0, *b"HIDDEN~1   ");
        assert_eq!(shorten("größe.txt", &[]).0, *b"GR__E~1 TXT");
    }

    #[test]
    fn names_that_cannot_be() {
        for name in ["", ".", "..", "a/b", "a:b", "a.", "a ", "a\u{7}", &"x".repeat(256)] {
            assert!(check(name).is_err(), "{name:?}");
        }
        assert!(check("grubx64.efi").is_ok() && check(&"x".repeat(255)).is_ok());
    }

    #[test]
    fn moments() {
        assert_eq!(moment(0), (0x21, 0));
        // 2026-09-21 14:13:20.
        assert_eq!(moment(1_790_000_000), (46 << 9 | 9 << 5 | 21, 14 << 11 | 13 << 5 | 10));
        // 2024-02-29 23:59:59, and the day after.
        assert_eq!(moment(1_709_251_199), (44 << 9 | 2 << 5 | 29, 23 << 11 | 59 << 5 | 29));
        assert_eq!(moment(1_709_251_200), (44 << 9 | 3 << 5 | 1, 0));
        assert_eq!(moment(u64::MAX), (127 << 9 | 12 << 5 | 31, 23 << 11 | 59 << 5 | 29));
    }
}
