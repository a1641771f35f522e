//! Reading values: their type, and their data wherever it lies.

use disk::error::{Error, Result};
use serde::{Deserialize, Serialize};

use super::hive::Hive;
use super::{SEGMENT, names, value_field};
use crate::fields::{be32, le16, le32, le64, stands_at};

/// Longest data that is read.
const DATA_MAX: usize = 1 << 20;

/// Types of values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ValueKind {
    /// Text (`REG_SZ`).
    Text,
    /// Text with names of environment variables in it (`REG_EXPAND_SZ`).
    ExpandText,
    /// Bytes (`REG_BINARY`).
    Binary,
    /// A number of 32 bits (`REG_DWORD`).
    Dword,
    /// A number of 64 bits (`REG_QWORD`).
    Qword,
    /// A list of texts (`REG_MULTI_SZ`).
    Texts,
    /// Any other, by its number.
    Other(u32),
}

impl ValueKind {
    /// Returns its number in a hive.
    #[must_use]
    pub fn number(self) -> u32 {
        match self {
            Self::Text => 1,
            Self::ExpandText => 2,
            Self::Binary => 3,
            Self::Dword => 4,
            Self::Texts => 7,
            Self::Qword => 11,
            Self::Other(number) => number,
        }
    }

    /// Returns its name as Windows has it, in small letters and without `REG_`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Text => "sz",
            Self::ExpandText => "expand_sz",
            Self::Binary => "binary",
            Self::Dword => "dword",
            Self::Texts => "multi_sz",
            Self::Qword => "qword",
            Self::Other(_) => "other",
        }
    }

    fn of_number(number: u32) -> Self {
        match number {
            1 => Self::Text,
            2 => Self::ExpandText,
            3 => Self::Binary,
            4 => Self::Dword,
            7 => Self::Texts,
            11 => Self::Qword,
            _ => Self::Other(number),
        }
    }
}

/// A value of a key.
#[derive(Clone, Copy)]
pub struct Value<'h> {
    hive: Hive<'h>,
    at: u32,
    cell: &'h [u8],
}

impl<'h> Value<'h> {
    pub(super) fn at(hive: Hive<'h>, at: u32) -> Result<Self> {
        let cell = hive.cell(at)?;
        if cell.len() < value_field::NAME || !stands_at(cell, 0, b"vk") {
            return Err(Error::corrupt(format!("the cell at {at:#x} is no value")));
        }
        Ok(Self { hive, at, cell })
    }

    pub(super) fn offset(&self) -> u32 {
        self.at
    }

    pub(super) fn units(&self) -> impl Iterator<Item = u16> + Clone + use<'h> {
        let name = &self.cell[value_field::NAME..];
        let length = usize::from(le16(self.cell, value_field::NAME_LENGTH)).min(name.len());
        names::units(&name[..length], le16(self.cell, value_field::FLAGS) & value_field::NARROW != 0)
    }

    /// Returns its name, as the guest wrote it; that of the default value is empty.
    #[must_use]
    pub fn name(&self) -> String {
        names::text(self.units())
    }

    /// Returns its type.
    #[must_use]
    pub fn kind(&self) -> ValueKind {
        ValueKind::of_number(le32(self.cell, value_field::KIND))
    }

    /// Returns its data.
    pub fn data(&self) -> Result<Vec<u8>> {
        let size = le32(self.cell, value_field::SIZE);
        let length = usize::try_from(size & !value_field::INLINE).unwrap_or(usize::MAX);
        if size & value_field::INLINE != 0 {
            return Ok(self.cell[value_field::DATA..value_field::DATA + 4][..length.min(4)].to_vec());
        }
        if length == 0 {
            return Ok(Vec::new());
        }
        if length > DATA_MAX {
            let name = crate::text::clean(self.name().as_bytes());
            return Err(Error::corrupt(format!("the value {name} has {length} bytes, over the limit of {DATA_MAX}")));
        }
        let cell = self.hive.cell(le32(self.cell, value_field::DATA))?;
        let data = if length > SEGMENT && self.hive.base().minor > 3 && stands_at(cell, 0, b"db") {
            self.segments(cell, length)?
        } else {
            cell.get(..length).map(<[u8]>::to_vec).unwrap_or_default()
        };
        if data.len() < length {
            return Err(Error::corrupt(format!("the data of the value at {:#x} is longer than its cell", self.at)));
        }
        Ok(data)
    }

    fn segments(&self, block: &[u8], length: usize) -> Result<Vec<u8>> {
        let list = self.hive.cell(le32(block, 4))?;
        let mut data = Vec::with_capacity(length);
        // The list has offsets from its first byte on, and the block says how many.
        for at in list.chunks_exact(4).take(le16(block, 2).into()).map(|entry| le32(entry, 0)) {
            let left = length - data.len();
            let segment = self.hive.cell(at)?;
            data.extend_from_slice(&segment[..segment.len().min(SEGMENT).min(left)]);
            if data.len() == length {
                break;
            }
        }
        Ok(data)
    }

    /// Returns the cells that its data lies in.
    pub(super) fn data_cells(&self) -> Result<Vec<u32>> {
        let size = le32(self.cell, value_field::SIZE);
        if size & value_field::INLINE != 0 || size == 0 {
            return Ok(Vec::new());
        }
        let at = le32(self.cell, value_field::DATA);
        let cell = self.hive.cell(at)?;
        let is_long = usize::try_from(size).is_ok_and(|size| size > SEGMENT) && self.hive.base().minor > 3;
        if !is_long || !stands_at(cell, 0, b"db") {
            return Ok(vec![at]);
        }
        let list = le32(cell, 4);
        let segments = self.hive.cell(list)?.chunks_exact(4).take(le16(cell, 2).into()).map(|entry| le32(entry, 0));
        Ok([at, list].into_iter().chain(segments).collect())
    }

    /// Returns its number, if it is one.
    #[must_use]
    pub fn number(&self) -> Option<u64> {
        number_of(self.kind(), &self.data().ok()?)
    }

    /// Returns its text up to the first NUL, if it is one, as the guest wrote it.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        text_of(self.kind(), &self.data().ok()?)
    }

    /// Returns its texts, if it is a list of them.
    #[must_use]
    pub fn texts(&self) -> Option<Vec<String>> {
        texts_of(self.kind(), &self.data().ok()?)
    }
}

pub(super) fn number_of(kind: ValueKind, data: &[u8]) -> Option<u64> {
    match (kind, data.len()) {
        (ValueKind::Dword, 4) => Some(le32(data, 0).into()),
        (ValueKind::Other(5), 4) => Some(be32(data, 0).into()),
        (ValueKind::Qword, 8) => Some(le64(data, 0)),
        _ => None,
    }
}

pub(super) fn text_of(kind: ValueKind, data: &[u8]) -> Option<String> {
    let is_text = matches!(kind, ValueKind::Text | ValueKind::ExpandText);
    is_text.then(|| names::text(names::units(data, false).take_while(|unit| *unit != 0)))
}

pub(super) fn texts_of(kind: ValueKind, data: &[u8]) -> Option<Vec<String>> {
    let units: Vec<u16> = (kind == ValueKind::Texts).then(|| names::units(data, false).collect())?;
    let texts = units.split(|unit| *unit == 0).take_while(|text| !text.is_empty());
    Some(texts.map(|text| names::text(text.iter().copied())).collect())
}
