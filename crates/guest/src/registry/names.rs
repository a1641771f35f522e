//! Names of keys and values: one or two bytes for each letter, compared without regard to case.

use std::cmp::Ordering;

use crate::fields::le16;

/// Returns the UTF-16 units of a stored name.
pub(super) fn units(bytes: &[u8], is_narrow: bool) -> impl Iterator<Item = u16> + Clone {
    let step = if is_narrow { 1 } else { 2 };
    bytes.chunks_exact(step).map(move |unit| if is_narrow { unit[0].into() } else { le16(unit, 0) })
}

/// Returns a stored name as text.
pub(super) fn text(units: impl Iterator<Item = u16>) -> String {
    char::decode_utf16(units).map(|letter| letter.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
}

/// Compares names as a list of subkeys sorts them.
pub(super) fn compare(left: impl Iterator<Item = u16>, right: impl Iterator<Item = u16>) -> Ordering {
    left.map(capital).cmp(right.map(capital))
}

/// Returns the capital of a letter, where that is one letter as well.
fn capital(unit: u16) -> u16 {
    let Some(letter) = char::from_u32(unit.into()) else { return unit };
    let mut capitals = letter.to_uppercase();
    match (capitals.next().and_then(|capital| u16::try_from(u32::from(capital)).ok()), capitals.next()) {
        (Some(capital), None) => capital,
        _ => unit,
    }
}

/// Returns the hash by which a list of kind `lh` finds a name.
pub(super) fn hash(name: &str) -> u32 {
    name.encode_utf16().fold(0_u32, |hash, unit| hash.wrapping_mul(37).wrapping_add(capital(unit).into()))
}

/// Returns the first four letters, by which a list of kind `lf` finds a name.
pub(super) fn hint(name: &str) -> u32 {
    let mut hint = [0; 4];
    for (place, letter) in hint.iter_mut().zip(name.chars()) {
        let Ok(byte) = u8::try_from(u32::from(letter)) else { return 0 };
        *place = byte;
    }
    u32::from_le_bytes(hint)
}

/// Returns `name` as it is stored, and whether that has one byte for each letter.
pub(super) fn stored(name: &str) -> (Vec<u8>, bool) {
    let narrow: Result<Vec<u8>, _> = name.chars().map(|letter| u8::try_from(u32::from(letter))).collect();
    narrow.map_or_else(|_| (name.encode_utf16().flat_map(u16::to_le_bytes).collect(), false), |bytes| (bytes, true))
}
