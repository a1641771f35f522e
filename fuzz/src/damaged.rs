//! Sound files with damage: an input says what is damaged, so that it stays short however long the file is.
//!
//! ```text
//! input: 1 byte   which file | patches
//! patch: 2 bytes  which sector of those that are not empty, little-endian, modulo their number
//!        2 bytes  place in it (9 bits), number of bytes less one (4 bits) | the bytes
//! ```

use std::io::Read as _;

use disk::source::{Source, check_range};

const SECTOR: usize = 512;
const PAGE: usize = 4096;
/// Most patches of one input.
const PATCHES_MAX: usize = 64;

/// A file that is as it should be.
pub struct Sound {
    length: usize,
    /// Where each page lies in `held`; nowhere is one of zeros.
    pages: Vec<Option<usize>>,
    held: Vec<u8>,
    /// Sectors that are not one byte over and over.
    sectors: Vec<usize>,
}

impl Sound {
    /// Unpacks a file that is compressed with zstd; its length is whole pages.
    pub fn unpack(packed: &[u8]) -> Self {
        let mut sound = Self { length: 0, pages: Vec::new(), held: Vec::new(), sectors: Vec::new() };
        let mut from = zstd::Decoder::new(packed).expect("sound files are packed by `examples/seeds.rs`");
        let mut page = Vec::with_capacity(PAGE);
        while from.by_ref().take(PAGE as u64).read_to_end(&mut page).expect("it is whole") > 0 {
            let is_used = |sector: &[u8]| sector.iter().any(|byte| *byte != sector[0]);
            let used = page.chunks(SECTOR).enumerate().filter(|(_, sector)| is_used(sector));
            sound.sectors.extend(used.map(|(number, _)| sound.length + number * SECTOR));
            page.resize(PAGE, 0);
            let is_held = page.iter().any(|byte| *byte != 0);
            sound.pages.push(is_held.then_some(sound.held.len()));
            sound.held.extend(page.iter().filter(|_| is_held));
            sound.length += PAGE;
            page.clear();
        }
        sound
    }

    pub fn length(&self) -> usize {
        self.length
    }

    /// Fills `buf` from `start`, behind which there is as much.
    fn read(&self, buf: &mut [u8], start: usize) {
        let mut filled = 0;
        while filled < buf.len() {
            let (page, skip) = ((start + filled) / PAGE, (start + filled) % PAGE);
            let count = (PAGE - skip).min(buf.len() - filled);
            match self.pages[page] {
                Some(at) => buf[filled..filled + count].copy_from_slice(&self.held[at + skip..at + skip + count]),
                None => buf[filled..filled + count].fill(0),
            }
            filled += count;
        }
    }
}

/// A sound file with damage.
pub struct Damaged {
    pub sound: &'static Sound,
    /// Later ones stand over earlier ones.
    pub patches: Vec<(usize, Vec<u8>)>,
}

impl Damaged {
    /// Decodes an input; any bytes but none make one.
    pub fn decode(sounds: &'static [Sound], data: &[u8]) -> Option<Self> {
        let (which, mut rest) = data.split_first()?;
        let sound = &sounds[usize::from(*which) % sounds.len()];
        let mut patches = Vec::new();
        while let Some((head, after)) = rest.split_first_chunk::<4>() {
            let sector = sound.sectors[usize::from(u16::from_le_bytes([head[0], head[1]])) % sound.sectors.len()];
            let place = u16::from_le_bytes([head[2], head[3]]);
            let at = sector + usize::from(place % SECTOR as u16);
            let length = (usize::from(place >> 9) % 16 + 1).min(after.len()).min(sound.length - at);
            let (bytes, after) = after.split_at(length);
            patches.push((at, bytes.to_vec()));
            if patches.len() == PATCHES_MAX {
                break;
            }
            rest = after;
        }
        Some(Self { sound, patches })
    }

    /// Copies a part of the damaged file; nothing where the file does not reach.
    pub fn part(&self, at: usize, length: usize) -> Vec<u8> {
        if at.checked_add(length).is_none_or(|end| end > self.sound.length) {
            return Vec::new();
        }
        let mut part = vec![0; length];
        self.sound.read(&mut part, at);
        self.lay(&mut part, at);
        part
    }

    fn lay(&self, part: &mut [u8], start: usize) {
        let end = start + part.len();
        for (at, bytes) in &self.patches {
            let (from, to) = (start.max(*at), end.min(at + bytes.len()));
            if from < to {
                part[from - start..to - start].copy_from_slice(&bytes[from - at..to - at]);
            }
        }
    }
}

impl Source for Damaged {
    fn len(&self) -> u64 {
        self.sound.length as u64
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> disk::Result<()> {
        check_range(self.len(), offset, buf.len())?;
        let start = offset as usize;
        self.sound.read(buf, start);
        self.lay(buf, start);
        Ok(())
    }
}
