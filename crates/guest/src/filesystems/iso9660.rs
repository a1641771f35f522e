//! ISO 9660, with the names, owners and links of Rock Ridge where it has them.
//!
//! Layout: ECMA-119; System Use Sharing Protocol (SUSP) and Rock Ridge Interchange Protocol (RRIP), version 1.12.
//! Not here: Joliet, and folders that Rock Ridge moved out of the eighth level.

use super::files::{Files, LINK_MAX, Node, NodeKind};
use crate::fields::{le16, le32, stands_at};
use crate::window::Window;

const SECTOR: u64 = 2048;
/// The primary descriptor.
const DESCRIPTOR_AT: u64 = 16 * SECTOR;
/// Largest folder: some 40,000 names.
const FOLDER_MAX: u64 = 4 << 20;
/// Most areas that continue what Rock Ridge says of one name.
const CONTINUED_MAX: usize = 8;

/// An open file system.
pub(crate) struct Iso9660 {
    window: Window,
    block: u64,
    root: Entry,
    /// Bytes before the first entry of Rock Ridge; none where the names are those of ISO 9660.
    rock_ridge: Option<usize>,
}

/// A name in a folder.
#[derive(Debug, Clone)]
struct Entry {
    name: Vec<u8>,
    node: Node,
    /// First byte of what it holds.
    start: u64,
    target: Vec<u8>,
}

impl Iso9660 {
    /// Opens the file system in `window`; an error says why it cannot be read.
    pub(crate) fn open(window: &Window) -> Result<Self, String> {
        let found = window.bytes(DESCRIPTOR_AT, SECTOR as usize).map_err(|error| error.to_string())?;
        let descriptor = found.filter(|bytes| stands_at(bytes, 0, b"\x01CD001")).ok_or("it has no descriptor")?;
        let block = u64::from(le16(&descriptor, 128));
        if !matches!(block, 512 | 1024 | 2048) {
            return Err(format!("its blocks have {block} bytes"));
        }
        let root = plain(&descriptor[156..190], block).ok_or("its root folder is broken")?;
        let mut opened = Self { window: window.clone(), block, root, rock_ridge: None };
        let first = opened.sector(opened.root.start)?;
        // SUSP, 5.3: the first entry of the root folder, which is itself, tells that there is more, and where.
        // A disc made elsewhere than by common tools may skip bytes on each name.
        opened.rock_ridge = system_use(&first)
            .filter(|more| stands_at(more, 0, b"SP\x07\x01\xbe\xef"))
            .and_then(|more| more.get(6).map(|skip| usize::from(*skip)));
        Ok(opened)
    }

    fn sector(&self, at: u64) -> Result<Vec<u8>, String> {
        let found = self.window.bytes(at, SECTOR as usize).map_err(|error| error.to_string())?;
        found.ok_or_else(|| "it reaches out of the disc".to_owned())
    }

    /// Calls `take` with each entry of `folder`, until it says that it has enough.
    fn walk(&self, folder: &Entry, mut take: impl FnMut(Entry) -> bool) -> Result<(), String> {
        // No record of a folder goes over the end of a sector.
        for index in 0..folder.node.length.min(FOLDER_MAX).div_ceil(SECTOR) {
            let sector = self.sector(folder.start.saturating_add(index * SECTOR))?;
            let mut rest = &sector[..];
            while let Some(length) = rest.first().map(|length| usize::from(*length)).filter(|length| *length >= 34) {
                let Some(record) = rest.get(..length) else { return Err("a folder is broken".to_owned()) };
                rest = &rest[length..];
                // The folder itself and the one above have names of one byte, zero and one.
                if record[32] == 1 && record[33] <= 1 {
                    continue;
                }
                let mut entry = plain(record, self.block).ok_or("a folder is broken")?;
                if let Some(skip) = self.rock_ridge {
                    let more = system_use(record).and_then(|more| more.get(skip..)).unwrap_or_default();
                    if self.extend(&mut entry, more.to_vec())? {
                        continue;
                    }
                }
                if take(entry) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Adds to `entry` what Rock Ridge says; returns whether the name is one that is not to be seen.
    fn extend(&self, entry: &mut Entry, mut fields: Vec<u8>) -> Result<bool, String> {
        let (mut name, mut link) = (Vec::new(), Link::default());
        let mut is_hidden = false;
        for _ in 0..CONTINUED_MAX {
            let mut continued = None;
            let mut rest = &fields[..];
            while let Some(field) = rest.get(2).and_then(|length| rest.get(..usize::from(*length))) {
                if field.len() < 4 {
                    break;
                }
                match &field[..2] {
                    b"NM" if field.len() > 5 => name.extend_from_slice(&field[5..]),
                    b"PX" => entry.own(field),
                    b"SL" if field.len() > 5 => link.add(&field[5..]),
                    b"RE" => is_hidden = true,
                    b"CE" => continued = Some((le32(field, 4), le32(field, 12), le32(field, 20))),
                    b"ST" => break,
                    _ => {}
                }
                rest = &rest[field.len()..];
            }
            let Some((block, offset, length)) = continued else { break };
            let at = u64::from(block) * self.block + u64::from(offset);
            let length = u64::from(length).min(SECTOR) as usize;
            fields = self.window.bytes(at, length).map_err(|error| error.to_string())?.unwrap_or_default();
        }
        if !name.is_empty() {
            entry.name = name;
        }
        if entry.node.kind == NodeKind::Link {
            link.target.truncate(LINK_MAX as usize + 1);
            entry.node.length = link.target.len() as u64;
            entry.target = link.target;
        }
        Ok(is_hidden)
    }

    fn find(&self, path: &[u8]) -> Result<Option<Entry>, String> {
        let mut here = self.root.clone();
        for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
            if here.node.kind != NodeKind::Folder {
                return Ok(None);
            }
            let mut found = None;
            self.walk(&here, |entry| {
                // Linux shows the capitals of plain ISO 9660 as small letters.
                let is_it = entry.name == name || (self.rock_ridge.is_none() && entry.name.eq_ignore_ascii_case(name));
                if is_it {
                    found = Some(entry);
                }
                is_it
            })?;
            let Some(entry) = found else { return Ok(None) };
            here = entry;
        }
        Ok(Some(here))
    }

    fn found(&self, path: &[u8]) -> Result<Entry, String> {
        self.find(path)?.ok_or_else(|| "nothing is there".to_owned())
    }
}

impl Files for Iso9660 {
    fn stat(&self, path: &[u8]) -> Result<Option<Node>, String> {
        Ok(self.find(path)?.map(|entry| entry.node))
    }

    fn link(&self, path: &[u8], length: u64) -> Result<Vec<u8>, String> {
        if length > LINK_MAX {
            return Err("a link is over the limit".to_owned());
        }
        Ok(self.found(path)?.target)
    }

    fn is_folder_small(&self, length: u64) -> bool {
        length <= FOLDER_MAX
    }

    fn names(&self, path: &[u8], most: usize) -> Result<Vec<Vec<u8>>, String> {
        let mut names = Vec::new();
        self.walk(&self.found(path)?, |entry| {
            names.push(if self.rock_ridge.is_some() { entry.name } else { entry.name.to_ascii_lowercase() });
            names.len() >= most
        })?;
        Ok(names)
    }

    fn read(&self, path: &[u8], offset: u64, most: usize) -> Result<Vec<u8>, String> {
        let entry = self.found(path)?;
        let left = usize::try_from(entry.node.length.saturating_sub(offset)).unwrap_or(usize::MAX);
        let at = entry.start.saturating_add(offset);
        let bytes = self.window.bytes(at, left.min(most)).map_err(|error| error.to_string())?;
        bytes.ok_or_else(|| "it reaches out of the disc".to_owned())
    }
}

impl Entry {
    /// Takes kind, permissions and owner from a PX field (RRIP, 4.1.1).
    fn own(&mut self, field: &[u8]) {
        let mode = (le32(field, 4) & 0xffff) as u16;
        let kind = NodeKind::of_mode(mode);
        // The flag of the record says what the place on the disc holds; a name is no folder because Rock Ridge says so.
        if (kind == NodeKind::Folder) == (self.node.kind == NodeKind::Folder) {
            self.node.kind = kind;
        }
        (self.node.mode, self.node.uid, self.node.gid) = (mode & 0o7777, le32(field, 20), le32(field, 28));
    }
}

/// The target of a link, put together from components (RRIP, 4.1.3.1).
#[derive(Default)]
struct Link {
    target: Vec<u8>,
    is_continued: bool,
}

impl Link {
    fn add(&mut self, mut components: &[u8]) {
        while let [flags, length, rest @ ..] = components {
            let Some(content) = rest.get(..usize::from(*length)) else { return };
            components = &rest[content.len()..];
            if !self.is_continued && !self.target.is_empty() && !self.target.ends_with(b"/") {
                self.target.push(b'/');
            }
            match flags & 0xe {
                2 => self.target.push(b'.'),
                4 => self.target.extend_from_slice(b".."),
                8 => self.target = b"/".to_vec(),
                _ => self.target.extend_from_slice(content),
            }
            self.is_continued = flags & 1 != 0;
        }
    }
}

/// Reads a record as ECMA-119, 9.1 has it; none where it is too short for its name.
fn plain(record: &[u8], block: u64) -> Option<Entry> {
    const FOLDER: u8 = 2;
    const NOT_FINAL: u8 = 0x80;
    let name = record.get(33..33 + usize::from(*record.get(32)?))?;
    let without_version = name.rsplitn(2, |byte| *byte == b';').last().unwrap_or_default();
    let kind = match record[25] {
        // A file of 4 GiB or more goes on in the next record.
        flags if flags & NOT_FINAL != 0 => NodeKind::Special,
        flags if flags & FOLDER != 0 => NodeKind::Folder,
        _ => NodeKind::File,
    };
    let is_file = kind == NodeKind::File;
    Some(Entry {
        name: if is_file { without_version.strip_suffix(b".").unwrap_or(without_version) } else { name }.to_vec(),
        node: Node { kind, length: le32(record, 10).into(), mode: 0, uid: 0, gid: 0 },
        // A record of extended attributes comes before the content.
        start: (u64::from(le32(record, 2)) + u64::from(record[1])) * block,
        target: Vec::new(),
    })
}

/// Returns what a record holds after its name, which is padded to an even place.
fn system_use(record: &[u8]) -> Option<&[u8]> {
    let length = usize::from(*record.first()?);
    let name = usize::from(*record.get(32)?);
    record.get(33 + name + usize::from(name.is_multiple_of(2))..length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_put_together() {
        let check = |areas: &[&[u8]], expected: &[u8]| {
            let mut link = Link::default();
            areas.iter().for_each(|area| link.add(area));
            assert_eq!(link.target, expected);
        };
        check(&[b"\x04\0\0\x03usr\0\x03lib"], b"../usr/lib");
        check(&[b"\x08\0\0\x03etc"], b"/etc");
        check(&[b"\x01\x02ab\0\x02cd", b"\x02\0"], b"abcd/.");
        check(&[b"\0\xffshort"], b"");
    }
}
