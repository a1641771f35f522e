//! The master file table: records by number, and the attributes of a file wherever its records are.

use super::attribute::{Attribute, attributes, listed};
use super::geometry::Geometry;
use super::record::restore;
use super::stream::Stream;
use super::{ATTRIBUTE_LIST, DATA};
use crate::fields::{le16, le64};
use crate::window::Window;

const FLAG_IN_USE: u16 = 1;
const FLAG_FOLDER: u16 = 2;
/// Longest list of attributes, as Windows has it.
const LIST_MAX: usize = 256 << 10;
/// The lower bits of a reference are the number of a record, the others tell its uses apart.
const NUMBER_BITS: u32 = 48;

/// The table of files.
pub(super) struct Mft {
    window: Window,
    geometry: Geometry,
    /// The table itself, as far as it is known: while it is opened, only its first piece is.
    table: Stream,
}

/// A file, by its first record.
pub(super) struct File {
    number: u64,
    record: Vec<u8>,
    /// The list of its attributes, where it has more records than one.
    list: Option<Vec<u8>>,
}

impl File {
    pub(super) fn is_folder(&self) -> bool {
        le16(&self.record, 22) & FLAG_FOLDER != 0
    }
}

impl Mft {
    pub(super) fn open(window: &Window) -> Result<Self, String> {
        let geometry = Geometry::read(window)?;
        let mut mft = Self { window: window.clone(), geometry, table: Stream::empty() };
        let mut record = vec![0; geometry.record];
        mft.read_at(&mut record, geometry.mft * geometry.cluster)?;
        restore(&mut record, *b"FILE").map_err(|why| format!("its table of files cannot be read: {why}"))?;
        let first = attributes(&record).find(|found| found.kind() == DATA && found.is_named(""));
        mft.table = Stream::new(first.ok_or("its table of files has no place")?, &mft)?;
        mft.add_pieces(&record)?;
        Ok(mft)
    }

    /// Adds the pieces of the table that other records of it name: each lies in what is known before it.
    fn add_pieces(&mut self, record: &[u8]) -> Result<(), String> {
        let Some(list) = self.list(record)? else { return Ok(()) };
        for reference in listed(&list, DATA, "") {
            let number = reference & ((1 << NUMBER_BITS) - 1);
            if number == 0 {
                continue;
            }
            let record = self.record(number)?.ok_or("a piece of its table of files is missing")?;
            let pieces = attributes(&record).filter(|found| found.kind() == DATA && found.is_named(""));
            let mut table = std::mem::replace(&mut self.table, Stream::empty());
            for piece in pieces {
                table.add(piece, self)?;
            }
            self.table = table;
        }
        Ok(())
    }

    pub(super) fn geometry(&self) -> Geometry {
        self.geometry
    }

    pub(super) fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<(), String> {
        self.window.read_at(buf, offset).map_err(|error| error.to_string())
    }

    /// Reads the first record of the file `number`; none where it is not in use.
    pub(super) fn file(&self, number: u64) -> Result<Option<File>, String> {
        let Some(record) = self.record(number)? else { return Ok(None) };
        if le64(&record, 32) != 0 {
            return Err("a name leads to a part of a file".to_owned());
        }
        let list = self.list(&record)?;
        Ok(Some(File { number, record, list }))
    }

    /// Reads the file that a folder refers to.
    pub(super) fn referred(&self, reference: u64) -> Result<File, String> {
        let file = self.file(reference & ((1 << NUMBER_BITS) - 1))?;
        let is_same = |file: &File| u64::from(le16(&file.record, 16)) == reference >> NUMBER_BITS;
        file.filter(is_same).ok_or_else(|| "a name leads to a file that is gone".to_owned())
    }

    fn record(&self, number: u64) -> Result<Option<Vec<u8>>, String> {
        let size = self.geometry.record;
        let at = number.checked_mul(size as u64).ok_or("a record has an impossible number")?;
        let mut record = self.table.read(self, at, size)?;
        if record.len() < size {
            return Err("a record lies past the end of the table of files".to_owned());
        }
        restore(&mut record, *b"FILE")?;
        Ok((le16(&record, 22) & FLAG_IN_USE != 0).then_some(record))
    }

    fn list(&self, record: &[u8]) -> Result<Option<Vec<u8>>, String> {
        let Some(attribute) = attributes(record).find(|found| found.kind() == ATTRIBUTE_LIST) else { return Ok(None) };
        Ok(Some(Stream::new(attribute, self)?.read(self, 0, LIST_MAX)?))
    }

    /// Looks up an attribute of `file`, with all its pieces.
    pub(super) fn stream(&self, file: &File, kind: u32, name: &str) -> Result<Option<Stream>, String> {
        let mut stream: Option<Stream> = None;
        let mut add = |piece: Attribute<'_>| match &mut stream {
            Some(stream) => stream.add(piece, self),
            None => Stream::new(piece, self).map(|first| stream = Some(first)),
        };
        let is_meant = |found: &Attribute<'_>| found.kind() == kind && found.is_named(name);
        let Some(list) = &file.list else {
            attributes(&file.record).filter(is_meant).try_for_each(&mut add)?;
            return Ok(stream);
        };
        let mut references = listed(list, kind, name);
        // One record may hold several pieces.
        references.dedup();
        for reference in references {
            let number = reference & ((1 << NUMBER_BITS) - 1);
            if number == file.number {
                attributes(&file.record).filter(is_meant).try_for_each(&mut add)?;
                continue;
            }
            let record = self.record(number)?.ok_or("a part of its record is missing")?;
            if le64(&record, 32) & ((1 << NUMBER_BITS) - 1) != file.number {
                return Err("a part of its record belongs to another file".to_owned());
            }
            attributes(&record).filter(is_meant).try_for_each(&mut add)?;
        }
        Ok(stream)
    }
}
