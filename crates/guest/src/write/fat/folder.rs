//! Folders: slots of 32 bytes, some for each name: its long name in pieces, last piece first, and then the entry itself.

use super::names::{moment, shorten, shown, sum};
use crate::fields::{le16, le32, put_le16, put_le32};

pub(super) const SLOT: usize = 32;
/// Largest folder, as the specification has it.
pub(super) const FOLDER_MAX: usize = 65_536 * SLOT;

const LABEL: u8 = 0x08;
const FOLDER: u8 = 0x10;
const ARCHIVE: u8 = 0x20;
/// A piece of a long name.
const PIECE: u8 = 0x0f;
const DELETED: u8 = 0xe5;
const LAST_PIECE: u8 = 0x40;
/// Letters in a piece of a long name, and where they are.
const LETTERS: [usize; 13] = [1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30];

/// A file or folder, or what is neither.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) long: Option<String>,
    pub(super) short: [u8; 11],
    pub(super) is_folder: bool,
    pub(super) is_label: bool,
    /// Its first cluster; zero where it has none.
    pub(super) first: u32,
    pub(super) size: u32,
    /// Where its first slot is, and where the last one, which is the entry itself.
    slots: (usize, usize),
}

impl Entry {
    /// Returns whether this is the folder itself or the one above.
    pub(super) fn is_dots(&self) -> bool {
        [b".          ", b"..         "].contains(&&self.short)
    }

    pub(super) fn has_name(&self, name: &str) -> bool {
        let is_same = |own: &str| super::names::is_same(own, name);
        !self.is_label && (self.long.as_deref().is_some_and(is_same) || is_same(&shown(&self.short)))
    }
}

/// Returns what is in a folder; `is_wide` where numbers of clusters have 32 bits.
pub(super) fn entries(bytes: &[u8], is_wide: bool) -> Vec<Entry> {
    let mut found = Vec::new();
    let mut pieces: Option<Pieces> = None;
    for (at, slot) in bytes.chunks_exact(SLOT).enumerate().map(|(number, slot)| (number * SLOT, slot)) {
        match (slot[0], slot[11] & 0x3f) {
            (0, _) => break,
            (DELETED, _) => pieces = None,
            (_, PIECE) => pieces = Pieces::with(pieces.take(), slot, at),
            _ => {
                let mut short = [0; 11];
                short.copy_from_slice(&slot[..11]);
                let long = pieces.take().filter(|pieces| pieces.left == 0 && pieces.sum == sum(&short));
                let high = if is_wide { u32::from(le16(slot, 20)) << 16 } else { 0 };
                found.push(Entry {
                    slots: (long.as_ref().map_or(at, |pieces| pieces.at), at),
                    long: long.map(|pieces| pieces.text()),
                    short,
                    is_folder: slot[11] & FOLDER != 0,
                    is_label: slot[11] & LABEL != 0,
                    first: high | u32::from(le16(slot, 26)),
                    size: le32(slot, 28),
                });
            }
        }
    }
    found
}

/// A long name, as far as its pieces were met.
struct Pieces {
    /// Where the first slot is.
    at: usize,
    /// Pieces that are still to come.
    left: u8,
    sum: u8,
    /// The last piece first.
    letters: Vec<[u16; 13]>,
}

impl Pieces {
    fn with(before: Option<Self>, slot: &[u8], at: usize) -> Option<Self> {
        let number = slot[0] & 0x1f;
        let mut pieces = match before {
            _ if number == 0 => return None,
            _ if slot[0] & LAST_PIECE != 0 => Self { at, left: number, sum: slot[13], letters: Vec::new() },
            Some(pieces) if pieces.left == number && pieces.sum == slot[13] => pieces,
            _ => return None,
        };
        pieces.left = number - 1;
        pieces.letters.push(LETTERS.map(|at| le16(slot, at)));
        Some(pieces)
    }

    fn text(&self) -> String {
        let letters = self.letters.iter().rev().flatten().copied().take_while(|letter| *letter != 0);
        char::decode_utf16(letters).map(|letter| letter.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
    }
}

/// What an entry says besides its name.
#[derive(Debug, Clone, Copy)]
pub(super) struct Content {
    pub(super) is_folder: bool,
    pub(super) first: u32,
    pub(super) size: u32,
}

/// Adds an entry; returns whether there was room for it.
pub(super) fn add(bytes: &mut [u8], there: &[Entry], name: &str, content: Content, now: u64) -> bool {
    let taken: Vec<[u8; 11]> = there.iter().map(|entry| entry.short).collect();
    let (short, is_all) = shorten(name, &taken);
    let mut units: Vec<u16> = if is_all { Vec::new() } else { name.encode_utf16().collect() };
    let count = units.len().div_ceil(LETTERS.len());
    if units.len() < count * LETTERS.len() {
        units.push(0);
    }
    units.resize(count * LETTERS.len(), 0xffff);
    let Some(at) = room(bytes, count + 1) else { return false };
    for (number, letters) in units.chunks_exact(LETTERS.len()).enumerate() {
        let slot = &mut bytes[at + (count - 1 - number) * SLOT..][..SLOT];
        slot.fill(0);
        let mark = if number + 1 == count { LAST_PIECE } else { 0 };
        slot[0] = mark | (number as u8 + 1);
        (slot[11], slot[13]) = (PIECE, sum(&short));
        LETTERS.iter().zip(letters).for_each(|(at, letter)| put_le16(slot, *at, *letter));
    }
    bytes[at + count * SLOT..][..SLOT].copy_from_slice(&slot(&short, content, now));
    true
}

/// Finds `count` slots in a row that nothing uses; what was behind the end is made the new end.
fn room(bytes: &mut [u8], count: usize) -> Option<usize> {
    let slots = bytes.len() / SLOT;
    let end = (0..slots).find(|number| bytes[number * SLOT] == 0).unwrap_or(slots);
    let mut free = 0;
    for number in 0..end {
        free = if bytes[number * SLOT] == DELETED { free + 1 } else { 0 };
        if free == count {
            return Some((number + 1 - count) * SLOT);
        }
    }
    let first = end - free;
    if first + count > slots {
        return None;
    }
    if let Some(next) = bytes.get_mut((first + count) * SLOT) {
        *next = 0;
    }
    Some(first * SLOT)
}

/// Returns the bytes of an entry that was made now.
pub(super) fn slot(short: &[u8; 11], content: Content, now: u64) -> [u8; SLOT] {
    let mut slot = [0; SLOT];
    slot[..11].copy_from_slice(short);
    slot[11] = if content.is_folder { FOLDER } else { ARCHIVE };
    let (date, time) = moment(now);
    put_le16(&mut slot, 14, time);
    put_le16(&mut slot, 16, date);
    put_le16(&mut slot, 18, date);
    set(&mut slot, content.first, content.size, now);
    slot
}

/// Gives an entry another content.
pub(super) fn change(bytes: &mut [u8], entry: &Entry, first: u32, size: u32, now: u64) {
    set(&mut bytes[entry.slots.1..entry.slots.1 + SLOT], first, size, now);
}

fn set(slot: &mut [u8], first: u32, size: u32, now: u64) {
    let (date, time) = moment(now);
    put_le16(slot, 20, (first >> 16) as u16);
    put_le16(slot, 22, time);
    put_le16(slot, 24, date);
    put_le16(slot, 26, first as u16);
    put_le32(slot, 28, size);
}

/// Takes an entry and its long name away.
pub(super) fn remove(bytes: &mut [u8], entry: &Entry) {
    (entry.slots.0..=entry.slots.1).step_by(SLOT).for_each(|at| bytes[at] = DELETED);
}
