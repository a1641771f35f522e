//! The descriptor of a VMDK: text that says what kind of disk it is and which extents it has.
//!
//! It may name any file of the host. So one inside a file is accepted only if it names nothing but that file, and one that
//! stands alone only if it names files by bare names, each of which the gate must grant.

use crate::error::{Error, Result};
use crate::gate::{Gate, ask};

const FIRST_LINE: &str = "# Disk DescriptorFile";

/// Returns whether `head`, the beginning of a file, is that of a text descriptor.
pub(crate) fn is_descriptor(head: &[u8]) -> bool {
    let text = head.trim_ascii_start();
    text.len() >= FIRST_LINE.len() && text[..FIRST_LINE.len()].eq_ignore_ascii_case(FIRST_LINE.as_bytes())
        || text.starts_with(b"#") && contains(head, b"\ncreateType=")
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window.eq_ignore_ascii_case(wanted))
}

/// The longest name of a file.
const MAX_NAME: usize = 255;

/// Returns whether `name` is that of a file alone: no folder, no way up, nothing that could end its quotes.
pub(super) fn is_bare_name(name: &str) -> bool {
    let forbidden = |letter: char| matches!(letter, '/' | '\\' | '"') || letter.is_control();
    !matches!(name, "" | "." | "..") && name.len() <= MAX_NAME && !name.contains(forbidden)
}

/// An extent line: access, size, type and, for most, a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) readable: bool,
    pub(super) sectors: u64,
    pub(super) kind: String,
    /// Empty where there is none.
    pub(super) name: String,
    /// Where the extent begins in a flat file, in sectors.
    pub(super) start: u64,
}

/// What a descriptor says.
#[derive(Debug, Default)]
pub(super) struct Descriptor {
    create_type: Option<String>,
    parent_cid: Option<String>,
    parent_name: Option<String>,
    pub(super) extents: Vec<Line>,
}

/// A content ID has 8 digits, of which QEMU leaves out the zeros in front; with the zero byte at the end of the text.
const MAX_REST: usize = 9;

impl Descriptor {
    /// Parses the text up to its padding with zero bytes.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self> {
        let length = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        let (text, padding) = bytes.split_at(length);
        // QEMU writes a shorter text over a longer one when it changes the content ID, and leaves the end of the longer.
        let rest = &padding[..padding.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)];
        if !rest.is_empty() && (rest.len() > MAX_REST || !text.ends_with(&rest[1..])) {
            return Err(Error::refused("the VMDK descriptor goes on after a zero byte"));
        }
        let text = String::from_utf8_lossy(text);
        let mut descriptor = Self::default();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            descriptor.take_line(line)?;
        }
        Ok(descriptor)
    }

    fn take_line(&mut self, line: &str) -> Result<()> {
        if let Some(extent) = parse_extent(line) {
            self.extents.push(extent);
            return Ok(());
        }
        let Some((key, value)) = line.split_once('=') else {
            let line: String = line.chars().take(200).collect();
            return Err(Error::corrupt(format!("the VMDK descriptor has the line {line:?}, which has no meaning")));
        };
        let value = value.trim().trim_matches('"').to_owned();
        let field = match key.trim().to_ascii_lowercase().as_str() {
            "createtype" => &mut self.create_type,
            "parentcid" => &mut self.parent_cid,
            "parentfilenamehint" => &mut self.parent_name,
            _ => return Ok(()),
        };
        match field.replace(value) {
            None => Ok(()),
            Some(_) => Err(Error::corrupt(format!("the VMDK descriptor says {:?} twice", key.trim()))),
        }
    }

    /// Checks that the disk is the file itself: one sparse extent of `size` bytes that names no path, and no parent.
    /// Returns the type of the disk.
    pub(super) fn check_embedded(&self, size: u64, compressed: bool, gate: &dyn Gate) -> Result<&str> {
        self.refuse_parent(gate)?;
        let expected = if compressed { "streamOptimized" } else { "monolithicSparse" };
        if !self.create_type().eq_ignore_ascii_case(expected) {
            return Err(self.refuse_extents(gate));
        }
        let [extent] = self.extents.as_slice() else {
            return Err(self.refuse_extents(gate));
        };
        if !extent.kind.eq_ignore_ascii_case("SPARSE") || !is_bare_name(&extent.name) {
            return Err(self.refuse_extents(gate));
        }
        if extent.sectors.checked_mul(512) != Some(size) {
            let sectors = extent.sectors;
            return Err(Error::corrupt(format!("the extent line says {sectors} sectors, and the header {size} bytes")));
        }
        Ok(expected)
    }

    /// Returns why a disk that needs other files than those of a set is not opened.
    pub(super) fn refuse_extents(&self, gate: &dyn Gate) -> Error {
        let kind = self.create_type();
        for extent in self.extents.iter().filter(|extent| !extent.name.is_empty()) {
            let role = format!("a {} extent ({kind})", extent.kind);
            if let Err(error) = ask(gate, &role, &extent.name) {
                return error;
            }
        }
        Error::unsupported(format!(
            "a VMDK of type {kind:?} with {} extents cannot be read from this file",
            self.extents.len()
        ))
        .with_hint("make one file of it with: qemu-img convert -O vmdk -o subformat=streamOptimized DISK.vmdk OUT")
    }

    /// Refuses a disk that is only the difference from another one.
    pub(super) fn refuse_parent(&self, gate: &dyn Gate) -> Result<()> {
        let name = self.parent_name.as_deref().unwrap_or("");
        let has_parent = self.parent_cid.as_deref().is_some_and(|cid| !cid.eq_ignore_ascii_case("ffffffff"));
        if name.is_empty() && !has_parent {
            return Ok(());
        }
        ask(gate, "its parent", name)?;
        Err(Error::unsupported(format!("reading through the parent {name:?} is not supported"))
            .with_hint("merge the disk with its parent where both are"))
    }

    /// Returns the kind of disk as it is spelt; empty if it is not said.
    pub(super) fn create_type(&self) -> &str {
        self.create_type.as_deref().unwrap_or("")
    }
}

/// Parses `RW 4192256 SPARSE "name.vmdk"` and its like; `None` if the line is no extent.
fn parse_extent(line: &str) -> Option<Line> {
    let mut words = line.splitn(4, [' ', '\t']);
    let access = words.next()?.to_ascii_uppercase();
    if !matches!(access.as_str(), "RW" | "RDONLY" | "NOACCESS") {
        return None;
    }
    let sectors = words.next()?.parse().ok()?;
    let kind = words.next()?.to_ascii_uppercase();
    let rest = words.next().unwrap_or("").trim();
    let (name, rest) = match rest.strip_prefix('"') {
        Some(quoted) => quoted.split_once('"')?,
        None => rest.split_once([' ', '\t']).unwrap_or((rest, "")),
    };
    let start = match rest.trim() {
        "" => 0,
        number => number.parse().ok()?,
    };
    Some(Line { readable: access != "NOACCESS", sectors, kind, name: name.to_owned(), start })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::gate::Deny;

    const GOOD: &str = "# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\ncreateType=\"monolithicSparse\"\n\
                        \nRW 8 SPARSE \"a b.vmdk\"\nddb.adapterType = \"ide\"\n";

    fn check(text: &str) -> Result<()> {
        Descriptor::parse(text.as_bytes())?.check_embedded(4096, false, &Deny).map(|_| ())
    }

    #[test]
    fn one_sparse_extent_is_accepted() {
        check(GOOD).unwrap();
        check(&GOOD.replace('\n', "\r\n")).unwrap();
    }

    #[test]
    fn what_names_another_file_is_refused_by_name() {
        for (from, to, named) in [
            ("\"a b.vmdk\"", "\"/etc/passwd\"", "/etc/passwd"),
            ("\"a b.vmdk\"", "\"../x\"", "../x"),
            ("\"a b.vmdk\"", "\"..\\\\x\"", "x"),
            ("SPARSE \"a b.vmdk\"", "FLAT \"disk-flat.vmdk\" 0", "disk-flat.vmdk"),
            ("RW 8 SPARSE", "RW 8 SPARSE \"first.vmdk\"\nRW 8 SPARSE", "first.vmdk"),
            ("monolithicSparse", "monolithicFlat", "monolithicFlat"),
            ("parentCID=ffffffff", "parentCID=12345678\nparentFileNameHint=\"/secret\"", "/secret"),
            ("parentCID=ffffffff", "parentFileNameHint=\"base.vmdk\"", "base.vmdk"),
        ] {
            let error = check(&GOOD.replace(from, to)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Refused, "{to}: {error}");
            assert!(error.to_string().contains(named), "{to}: {error}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        assert_eq!(check(&GOOD.replace("version=1", "hello")).unwrap_err().kind(), ErrorKind::Corrupt);
        assert_eq!(check(&GOOD.replace("RW 8", "RW 9")).unwrap_err().kind(), ErrorKind::Corrupt);
        assert_eq!(check(&format!("{GOOD}createType=\"x\"\n")).unwrap_err().kind(), ErrorKind::Corrupt);
        assert_eq!(check(&format!("{GOOD}\0RW 8 FLAT \"x\"\n")).unwrap_err().kind(), ErrorKind::Refused);
    }
}
