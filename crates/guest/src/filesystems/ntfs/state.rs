//! How a volume was left: its version and label, whether it is dirty, and whether a Windows sleeps on it.

use super::mft::{File, Mft};
use super::stream::Stream;
use super::{VOLUME_INFORMATION, VOLUME_NAME, journal};
use crate::fields::le16;
use crate::text::clean;

const FLAG_DIRTY: u16 = 1;

/// What `hiberfil.sys` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hibernation {
    /// There is no such file, or it holds no image.
    None,
    /// Windows, or only its kernel after a shutdown with fast startup, sleeps there and will go on.
    Asleep,
    /// The file has a header that is not known, so that it must be taken for an image.
    Unclear,
}

/// What a volume says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct State {
    /// Version of NTFS, such as 3.1.
    pub(crate) version: (u8, u8),
    pub(crate) label: Option<String>,
    /// Whether it was not taken out of use cleanly: marked so that Windows will check it, or with an open journal.
    pub(crate) is_dirty: bool,
    pub(crate) hibernation: Hibernation,
}

impl State {
    /// Puts it together from `$Volume`, `$LogFile` and the first bytes of `hiberfil.sys`, where there is one.
    pub(super) fn parse(mft: &Mft, volume: &File, log: &Stream, hiberfil: Option<&[u8]>) -> Result<Self, String> {
        let value = |kind| match mft.stream(volume, kind, "")? {
            Some(stream) => stream.read(mft, 0, 512).map(Some),
            None => Ok::<_, String>(None),
        };
        let information = value(VOLUME_INFORMATION)?.filter(|found| found.len() >= 12);
        let information = information.ok_or("its $Volume does not tell the version")?;
        let label = value(VOLUME_NAME)?.map(|name| {
            let units = name.chunks_exact(2).map(|unit| u16::from_le_bytes([unit[0], unit[1]]));
            let text: String = char::decode_utf16(units).map(|found| found.unwrap_or('\u{fffd}')).collect();
            clean(text.as_bytes())
        });
        Ok(Self {
            version: (information[8], information[9]),
            label: label.filter(|label| !label.is_empty()),
            is_dirty: le16(&information, 10) & FLAG_DIRTY != 0
                || !journal::is_closed(|at, most| log.read(mft, at, most))?,
            hibernation: hiberfil.map_or(Hibernation::None, of_header),
        })
    }
}

/// Windows writes `hibr` when it falls asleep, `wake` when it has woken, and otherwise leaves the first page empty.
fn of_header(head: &[u8]) -> Hibernation {
    match head.get(..4) {
        Some(b"hibr" | b"HIBR") => Hibernation::Asleep,
        Some(b"wake" | b"WAKE") => Hibernation::None,
        _ if head.iter().all(|byte| *byte == 0) => Hibernation::None,
        _ => Hibernation::Unclear,
    }
}
