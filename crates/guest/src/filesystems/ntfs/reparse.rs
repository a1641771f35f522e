//! Reparse points ([MS-FSCC] section 2.1.2): links, and files whose bytes another driver keeps.

use crate::fields::{le16, le32};

/// Longest value, as Windows has it.
pub(super) const LENGTH_MAX: usize = 16 << 10;

const MOUNT_POINT: u32 = 0xa000_0003;
const SYMLINK: u32 = 0xa000_000c;
/// A link that the Windows subsystem for Linux made.
const LINUX_LINK: u32 = 0xa000_001d;
const WOF: u32 = 0x8000_0017;
const DEDUPLICATED: u32 = 0x8000_0013;
/// This bit says that the name stands for something else.
const IS_SURROGATE: u32 = 0x2000_0000;
const SYMLINK_IS_RELATIVE: u32 = 1;

/// What a reparse point says.
pub(super) struct Reparse {
    tag: u32,
    /// Where it leads, as Windows writes it.
    target: Option<String>,
    is_relative: bool,
}

/// What a reader makes of it.
pub(super) enum Meaning {
    /// The file or folder itself.
    Plain,
    /// A link with its target on this volume, as the tree wants it.
    Link(Vec<u8>),
    /// Something on another volume, or no file at all.
    Elsewhere,
    /// A file that cannot be read, and why.
    Refused(String),
}

impl Reparse {
    pub(super) fn parse(value: &[u8]) -> Self {
        let tag = le32(value, 0);
        let target = match tag {
            MOUNT_POINT => path(value, 16),
            SYMLINK => path(value, 20),
            LINUX_LINK => value.get(12..).and_then(|text| String::from_utf8(text.to_vec()).ok()),
            _ => None,
        };
        let is_relative = tag == LINUX_LINK || tag == SYMLINK && le32(value, 16) & SYMLINK_IS_RELATIVE != 0;
        Self { tag, target, is_relative }
    }

    /// Returns what it means on a volume that is `C:` where `is_system`.
    pub(super) fn meaning(&self, is_system: bool) -> Meaning {
        match (self.tag, &self.target) {
            (LINUX_LINK, Some(target)) => Meaning::Link(target.clone().into_bytes()),
            (_, Some(target)) => self.translate(target, is_system).map_or(Meaning::Elsewhere, Meaning::Link),
            (WOF, None) => {
                Meaning::Refused("it is packed by the Windows overlay filter (CompactOS), which is not read".to_owned())
            }
            (DEDUPLICATED, None) => Meaning::Refused("its bytes lie in the deduplication store of Windows".to_owned()),
            (tag, None) if tag & IS_SURROGATE != 0 => Meaning::Elsewhere,
            (tag, None) => Meaning::Refused(format!("its bytes are kept by the driver of reparse tag {tag:#x}")),
        }
    }

    fn translate(&self, target: &str, is_system: bool) -> Option<Vec<u8>> {
        let inner = if self.is_relative {
            target
        } else {
            let rest = target.strip_prefix(r"\??\")?;
            let (letter, rest) = (rest.get(..2)?, &rest[2..]);
            if !is_system || !letter.eq_ignore_ascii_case("C:") || !rest.is_empty() && !rest.starts_with('\\') {
                return None;
            }
            if rest.is_empty() { "\\" } else { rest }
        };
        (!inner.is_empty() && !inner.contains('\0')).then(|| inner.replace('\\', "/").into_bytes())
    }
}

/// Reads the substitute name of a mount point or symbolic link, in the texts that begin at `texts`.
fn path(value: &[u8], texts: usize) -> Option<String> {
    let start = texts + usize::from(le16(value, 8));
    let name = value.get(start..start + usize::from(le16(value, 10)))?;
    let units = name.chunks_exact(2).map(|unit| u16::from_le_bytes([unit[0], unit[1]]));
    char::decode_utf16(units).collect::<Result<String, _>>().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(target: &str, is_relative: bool) -> Reparse {
        Reparse { tag: SYMLINK, target: Some(target.to_owned()), is_relative }
    }

    fn leads(reparse: &Reparse, is_system: bool) -> Option<String> {
        match reparse.meaning(is_system) {
            Meaning::Link(target) => Some(String::from_utf8(target).unwrap()),
            _ => None,
        }
    }

    #[test]
    fn links_stay_on_their_volume() {
        let target = |text: &str, is_relative, is_system| leads(&link(text, is_relative), is_system);
        assert_eq!(target(r"\??\C:\Users\All", false, true).as_deref(), Some("/Users/All"));
        assert_eq!(target(r"\??\c:", false, true).as_deref(), Some("/"));
        assert_eq!(target(r"..\a\b", true, false).as_deref(), Some("../a/b"));
        assert_eq!(target(r"\a", true, false).as_deref(), Some("/a"));
        for elsewhere in [r"\??\D:\x", r"\??\Volume{1}\", r"\??\UNC\host\share", r"C:\x", r"\??\C:x", r"\??\é", r"\??\"]
        {
            assert_eq!(target(elsewhere, false, true), None, "{elsewhere}");
        }
        assert_eq!(target(r"\??\C:\Users", false, false), None);
    }

    #[test]
    fn cut_values_lead_nowhere() {
        for length in 0..40 {
            let value: Vec<u8> = [&SYMLINK.to_le_bytes()[..], &[0xff; 40]].concat().into_iter().take(length).collect();
            assert_eq!(leads(&Reparse::parse(&value), true), None);
        }
    }
}
