//! One physical volume: its label, its header, and the texts in its metadata areas.

use crate::fields::{le32, le64, stands_at};
use crate::window::Window;

const SECTOR: usize = 512;
/// The label is in one of the first four sectors.
const LABEL_SECTORS: usize = 4;
const AREA_HEADER: usize = 512;
const AREA_MAGIC: &[u8] = b" LVM2 x[5A%r0N*>";
/// Most areas that are read; lvm writes two at most.
const AREAS_MAX: usize = 4;
/// Longest text: an area of usual size holds 1 MiB.
const TEXT_MAX: u64 = 4 << 20;
/// Flag of a place: its text is not to be used.
const IGNORED: u32 = 1;

/// A physical volume.
pub(super) struct PhysicalVolume {
    /// Its id, 32 letters and digits.
    pub(super) id: String,
    pub(super) device: String,
    pub(super) window: Window,
    /// Ranges that hold no data: first byte and the byte after the last.
    pub(super) reserved: Vec<(u64, u64)>,
    /// The text of each metadata area that is sound.
    pub(super) texts: Vec<String>,
}

/// Reads the physical volume in `window`; an error says why it is none.
///
/// An unsound metadata area is told by a note: there may be another one, here or on another physical volume.
pub(super) fn read(window: &Window, device: &str) -> Result<PhysicalVolume, String> {
    let head = window.bytes(0, LABEL_SECTORS * SECTOR).map_err(|error| error.to_string())?.unwrap_or_default();
    let is_label = |sector: &[u8]| stands_at(sector, 0, b"LABELONE") && stands_at(sector, 24, b"LVM2 001");
    let found = (0..).zip(head.chunks_exact(SECTOR)).find(|(_, sector)| is_label(sector));
    let (number, label) = found.ok_or("it has no label")?;
    if !is_sum(&label[20..], le32(label, 16)) || le64(label, 8) != number {
        return Err("the checksum of its label is wrong".to_owned());
    }
    let header = label.get(le32(label, 20) as usize..).filter(|header| header.len() >= 40);
    let header = header.ok_or("its header is outside of its label")?;
    let id = std::str::from_utf8(&header[..32]).ok().filter(|id| id.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    let id = id.ok_or("its id is not one")?.to_owned();
    let (_, rest) = places(&header[40..]);
    let (areas, _) = places(rest);
    let mut volume = PhysicalVolume {
        id,
        device: device.to_owned(),
        window: window.clone(),
        reserved: vec![(0, (LABEL_SECTORS * SECTOR) as u64)],
        texts: Vec::new(),
    };
    for (offset, size) in areas.into_iter().take(AREAS_MAX) {
        volume.reserved.push((offset, offset.saturating_add(size)));
        match text(window, offset, size) {
            Ok(text) => volume.texts.extend(text),
            Err(fault) => window.budget().note(format!("The LVM metadata on {device} cannot be used: {fault}.")),
        }
    }
    Ok(volume)
}

/// Reads pairs of offset and size up to an offset of zero, and returns what follows them.
fn places(bytes: &[u8]) -> (Vec<(u64, u64)>, &[u8]) {
    let is_last = |pair: &&[u8]| le64(pair, 0) == 0;
    let count = bytes.chunks_exact(16).position(|pair| is_last(&pair)).unwrap_or(bytes.len() / 16);
    let pairs = bytes.chunks_exact(16).take(count).map(|pair| (le64(pair, 0), le64(pair, 8))).collect();
    (pairs, bytes.get((count + 1) * 16..).unwrap_or_default())
}

/// Reads the text of the area at `offset`; none where the area holds none.
///
/// The text lies in a ring that begins after the header of the area.
fn text(window: &Window, offset: u64, size: u64) -> Result<Option<String>, String> {
    let read = |at: u64, length: u64| {
        let found = window.bytes(at, length as usize).map_err(|error| error.to_string())?;
        found.ok_or_else(|| "an area lies outside of the volume".to_owned())
    };
    let header = read(offset, AREA_HEADER as u64)?;
    if !is_sum(&header[4..], le32(&header, 0)) || !stands_at(&header, 4, AREA_MAGIC) {
        return Err("the header of an area is damaged".to_owned());
    }
    let ring = le64(&header, 32).saturating_sub(AREA_HEADER as u64);
    if le32(&header, 20) != 1 || le64(&header, 24) != offset || le64(&header, 32) != size {
        return Err("the header of an area does not belong to it".to_owned());
    }
    let (start, length) = (le64(&header, 40), le64(&header, 48));
    if start == 0 || le32(&header, 60) & IGNORED != 0 {
        return Ok(None);
    }
    if length > TEXT_MAX {
        return Err(format!("its text has {length} bytes, over the limit of {TEXT_MAX}"));
    }
    if length > ring || !(AREA_HEADER as u64..size).contains(&start) {
        return Err("its text does not fit into its area".to_owned());
    }
    // The sum of offset and size may be hostile; a range past the end is refused by the window.
    let first = length.min(size - start);
    let mut text = read(offset.saturating_add(start), first)?;
    text.extend(read(offset.saturating_add(AREA_HEADER as u64), length - first)?);
    if !is_sum(&text, le32(&header, 56)) {
        return Err("the checksum of its text is wrong".to_owned());
    }
    let text = String::from_utf8(text).map_err(|_| "its text has bytes that are no text")?;
    Ok(Some(text.trim_end_matches('\0').to_owned()))
}

/// Returns whether `stated` is the CRC-32 of LVM: the usual polynomial, another start, and no inversion at the end.
fn is_sum(bytes: &[u8], stated: u32) -> bool {
    const START: u32 = 0xf597_a6cf;
    let mut hasher = crc32fast::Hasher::new_with_initial(!START);
    hasher.update(bytes);
    !hasher.finalize() == stated || cfg!(fuzzing)
}
