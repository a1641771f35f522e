//! rpm's own store "ndb": slots at the beginning of the file say where headers lie. Numbers are little endian.
//!
//! ```text
//! "RpmP" version generation pages-of-slots next | slots of "Slot" number block count | blocks of 16 bytes
//! a header: "BlbS" number generation length | the header | "BlbE" checksum length
//! ```

use super::Show;
use super::blob::Blob;
use super::paged::Paged;
use crate::fields::{le32, stands_at};

const PAGE: u64 = 4096;
const BLOCK: u64 = 16;
const SLOT: usize = 16;
/// Most pages of slots: a quarter of a million slots.
const SLOT_PAGES_MAX: u32 = 1024;
/// Bytes of a header that are read at once.
const STEP: u64 = 8 << 10;

/// Shows the header of each package.
pub(super) fn read(file: &Paged<'_>, show: &mut Show<'_>) -> Result<(), String> {
    let head = file.bytes(0, 32)?;
    if !stands_at(&head, 0, b"RpmP") || le32(&head, 4) != 0 {
        return Err("it is no package database that is known".to_owned());
    }
    let pages = le32(&head, 12);
    if !(1..=SLOT_PAGES_MAX).contains(&pages) {
        return Err(format!("it has {pages} pages of slots; {SLOT_PAGES_MAX} is the limit"));
    }
    for page in 0..u64::from(pages) {
        let slots = file.bytes(page * PAGE, PAGE as usize)?;
        // The head takes the place of two slots.
        let skip = if page == 0 { 2 } else { 0 };
        for slot in slots.chunks_exact(SLOT).skip(skip) {
            let (number, block) = (le32(slot, 4), u64::from(le32(slot, 8)));
            if !stands_at(slot, 0, b"Slot") {
                return Err("a slot is broken".to_owned());
            }
            if block == 0 || number == 0 {
                continue;
            }
            if show(header(file, number, block * BLOCK)).is_break() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Returns the header at `at`; pages of it are counted from one.
fn header<'a>(file: &'a Paged<'_>, number: u32, at: u64) -> Blob<'a> {
    let follow = move |step: u32| {
        let head = file.bytes(at, 16)?;
        if !stands_at(&head, 0, b"BlbS") || le32(&head, 4) != number {
            return Err(format!("there is no header at {at:#x}"));
        }
        let length = u64::from(le32(&head, 12));
        let from = u64::from(step - 1) * STEP;
        let count = length.saturating_sub(from).min(STEP);
        let bytes = file.bytes(at + 16 + from, count as usize)?;
        Ok((bytes, if from + count < length { step.saturating_add(1) } else { 0 }))
    };
    Blob::new(Vec::new(), 1, 0, follow)
}
