//! Changes of a hive: values set in place where they fit, keys and values added, values taken away.

use std::ops::Range;

use disk::error::{Error, ErrorKind, Result};

use super::change::ValueChange;
use super::hive::{Hive, Key};
use super::sharing::{is_any_shared, touched};
use super::space::Space;
use super::value::{Value, ValueKind};
use super::{NOTHING, SEGMENT, base, key_field, names, subkeys, value_field};
use crate::fields::le32;
use crate::text::clean;

/// Longest names, as Windows has them.
const KEY_NAME_MAX: usize = 255;
const VALUE_NAME_MAX: usize = 16383;
/// Most names in a path.
const DEPTH_MAX: usize = 512;
/// Bytes that may lie between two changes that are told as one range.
const GAP_MAX: usize = 8;

/// A hive that is being changed in memory.
pub struct Editor {
    space: Space,
    original: Vec<u8>,
    name: String,
    time: u64,
    told: Vec<String>,
}

/// A changed hive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// The whole hive.
    pub bytes: Vec<u8>,
    /// Which of its bytes are new; none where every value was already as wanted.
    pub ranges: Vec<Range<usize>>,
    /// Each change as a sentence for people, such as `HKLM\SYSTEM\Select Default: 1 -> 2`.
    pub told: Vec<String>,
}

impl Editor {
    /// Begins to change the hive in `bytes`, which people know as `name` (`HKLM\SYSTEM`).
    ///
    /// `time` is what the changed keys will tell, in units of 100 ns since 1601. A hive that Windows had not finished
    /// writing is refused, and one that is not sound.
    pub fn open(bytes: Vec<u8>, name: &str, time: u64) -> Result<Self> {
        if Hive::open(&bytes)?.is_dirty() {
            let why = format!("{name} was not written to its end: what Windows changed last is in its logs");
            return Err(Error::refused(why).with_hint("start and shut down the guest, so that Windows ends its write"));
        }
        let original = bytes.clone();
        Ok(Self { space: Space::new(bytes)?, original, name: name.to_owned(), time, told: Vec::new() })
    }

    /// Sets a number of 32 bits; the key must exist.
    pub fn set_dword(&mut self, path: &str, value: &str, number: u32) -> Result<()> {
        self.set_value(path, value, ValueKind::Dword, &number.to_le_bytes())
    }

    /// Sets a value, which is added where it does not exist; the key must exist.
    pub fn set_value(&mut self, path: &str, name: &str, kind: ValueKind, data: &[u8]) -> Result<()> {
        if data.len() > SEGMENT || name.encode_utf16().count() > VALUE_NAME_MAX {
            return Err(Error::new(ErrorKind::TooLarge, format!("the value {name} is too long to be written")));
        }
        let hive = Hive::open(self.space.bytes())?;
        let key = self.must_find(hive, path)?;
        let old = key.value(name)?;
        if let Some(old) = &old
            && old.kind() == kind
            && old.data().is_ok_and(|old| old == data)
        {
            return Ok(());
        }
        let before = old.as_ref().map_or_else(|| "(none)".to_owned(), shown);
        let at = key.at();
        match old.map(|old| old.offset()) {
            Some(value) => self.store(value, kind, data)?,
            None => self.add(at, name, kind, data)?,
        }
        self.space.raise32(at, key_field::DATA_MAX, data.len())?;
        self.touch(at)?;
        let hive = Hive::open(self.space.bytes())?;
        let new = self.must_find(hive, path)?.value(name)?;
        let new = new.filter(|new| new.kind() == kind && new.data().is_ok_and(|found| found == data));
        let after = shown(&new.ok_or_else(|| self.broken())?);
        self.told.push(format!("{} {}: {before} -> {after}", self.path(path), label(name)));
        Ok(())
    }

    /// Makes `changes`, and the keys that they need.
    pub fn apply(&mut self, changes: &[ValueChange]) -> Result<()> {
        let hive = Hive::open(self.space.bytes())?;
        if is_any_shared(&self.space, hive.root()?.at(), &touched(hive, changes)?) {
            return Err(self.broken());
        }
        for change in changes {
            self.create_key(&change.key)?;
            self.set_value(&change.key, &change.name, change.after.kind, &change.after.bytes)?;
        }
        Ok(())
    }

    fn broken(&self) -> Error {
        Error::corrupt(format!("cells of {} lie over each other", self.name))
    }

    /// Makes the key at `path`, and those above it that are missing.
    pub fn create_key(&mut self, path: &str) -> Result<()> {
        let names: Vec<&str> = path.split('\\').filter(|name| !name.is_empty()).collect();
        if names.len() > DEPTH_MAX || names.iter().any(|name| name.encode_utf16().count() > KEY_NAME_MAX) {
            return Err(Error::new(ErrorKind::TooLarge, "the path of the key is too long"));
        }
        let mut parent = Hive::open(self.space.bytes())?.root()?.at();
        for (depth, name) in names.iter().enumerate() {
            let path = names[..=depth].join("\\");
            let found = Hive::open(self.space.bytes())?.key(&path)?.map(|key| key.at());
            parent = match found {
                Some(found) => found,
                None => {
                    let key = self.add_key(parent, name)?;
                    self.told.push(format!("{} created", self.path(&path)));
                    key
                }
            };
        }
        Ok(())
    }

    /// Takes a value away, if it is there.
    pub fn delete_value(&mut self, path: &str, name: &str) -> Result<()> {
        let hive = Hive::open(self.space.bytes())?;
        let Some(key) = hive.key(path)? else { return Ok(()) };
        let Some(value) = key.value(name)? else { return Ok(()) };
        let (at, value, cells, before) = (key.at(), value.offset(), value.data_cells()?, shown(&value));
        let list = self.space.get32(at, key_field::VALUE_LIST)?;
        let count = self.space.get32(at, key_field::VALUES)?;
        let kept = self.value_list(at)?.into_iter().filter(|other| *other != value);
        let kept: Vec<u8> = kept.flat_map(u32::to_le_bytes).collect();
        if kept.is_empty() {
            self.space.release(list)?;
            self.space.put32(at, key_field::VALUE_LIST, NOTHING)?;
        } else {
            self.space.fill(list, &kept)?;
        }
        self.space.put32(at, key_field::VALUES, count.min((kept.len() / 4) as u32))?;
        cells.into_iter().chain([value]).try_for_each(|cell| self.space.release(cell))?;
        self.touch(at)?;
        self.told.push(format!("{} {}: {before} -> (none)", self.path(path), label(name)));
        Ok(())
    }

    /// Ends the change.
    pub fn finish(self) -> Changed {
        let mut bytes = self.space.into_bytes();
        if !self.told.is_empty() {
            base::stamp(&mut bytes, self.time);
        }
        Changed { ranges: differing(&self.original, &bytes), bytes, told: self.told }
    }

    fn path(&self, path: &str) -> String {
        format!("{}\\{}", self.name, clean(path.trim_matches('\\').as_bytes()))
    }

    fn must_find<'h>(&self, hive: Hive<'h>, path: &str) -> Result<Key<'h>> {
        hive.key(path)?.ok_or_else(|| Error::refused(format!("there is no key {}", self.path(path))))
    }

    fn touch(&mut self, key: u32) -> Result<()> {
        self.space.put_bytes(key, key_field::TIME, &self.time.to_le_bytes())
    }

    /// Gives a value other data, in its old place where it fits.
    fn store(&mut self, value: u32, kind: ValueKind, data: &[u8]) -> Result<()> {
        let old = Value::at(Hive::open(self.space.bytes())?, value)?.data_cells()?;
        let mut field = [0; 4];
        let is_inline = data.len() <= 4;
        let kept = match old[..] {
            [place] if !is_inline && self.space.cell(place)?.len() >= data.len() => Some(place),
            _ => None,
        };
        if let Some(place) = kept {
            self.space.fill(place, data)?;
            field = place.to_le_bytes();
        } else {
            // First, so that the new data may take the place.
            old.iter().try_for_each(|cell| self.space.release(*cell))?;
            if is_inline {
                field[..data.len()].copy_from_slice(data);
            } else {
                field = self.space.allocate(data)?.to_le_bytes();
            }
        }
        // No loss: longer data was refused.
        let size = data.len() as u32 | if is_inline { value_field::INLINE } else { 0 };
        self.space.put32(value, value_field::SIZE, size)?;
        self.space.put_bytes(value, value_field::DATA, &field)?;
        self.space.put32(value, value_field::KIND, kind.number())
    }

    /// Adds a value to the key `key`.
    fn add(&mut self, key: u32, name: &str, kind: ValueKind, data: &[u8]) -> Result<()> {
        let (stored, is_narrow) = names::stored(name);
        let mut cell = vec![0; value_field::NAME];
        cell[..2].copy_from_slice(b"vk");
        // No loss: longer names were refused.
        let length = (stored.len() as u16).to_le_bytes();
        cell[value_field::NAME_LENGTH..value_field::NAME_LENGTH + 2].copy_from_slice(&length);
        cell[value_field::SIZE..value_field::SIZE + 4].copy_from_slice(&value_field::INLINE.to_le_bytes());
        let flags = if is_narrow && !stored.is_empty() { value_field::NARROW } else { 0 };
        cell[value_field::FLAGS..value_field::FLAGS + 2].copy_from_slice(&flags.to_le_bytes());
        cell.extend_from_slice(&stored);
        let value = self.space.allocate(&cell)?;
        self.store(value, kind, data)?;

        let mut list = self.value_list(key)?;
        list.push(value);
        let packed: Vec<u8> = list.iter().flat_map(|value| value.to_le_bytes()).collect();
        let place = if list.len() == 1 {
            self.space.allocate(&packed)?
        } else {
            let old = self.space.get32(key, key_field::VALUE_LIST)?;
            subkeys::rewrite(&mut self.space, old, &packed)?
        };
        self.space.put32(key, key_field::VALUE_LIST, place)?;
        self.space.put32(key, key_field::VALUES, list.len() as u32)?;
        self.space.raise32(key, key_field::VALUE_NAME_MAX, name.encode_utf16().count() * 2)
    }

    fn value_list(&self, key: u32) -> Result<Vec<u32>> {
        let count = self.space.get32(key, key_field::VALUES)? as usize;
        let at = self.space.get32(key, key_field::VALUE_LIST)?;
        if count == 0 || at == NOTHING {
            return Ok(Vec::new());
        }
        let list: Vec<u32> = self.space.cell(at)?.chunks_exact(4).take(count).map(|entry| le32(entry, 0)).collect();
        if list.len() < count {
            return Err(Error::corrupt(format!("the list of values at {at:#x} is longer than its cell")));
        }
        Ok(list)
    }

    /// Adds a key below `parent`, whose security it shares.
    fn add_key(&mut self, parent: u32, name: &str) -> Result<u32> {
        let (stored, is_narrow) = names::stored(name);
        let security = self.space.get32(parent, key_field::SECURITY)?;
        if !self.space.cell(security)?.starts_with(b"sk") {
            return Err(Error::corrupt(format!("the cell at {security:#x} is no security descriptor")));
        }
        let mut cell = vec![0; key_field::NAME];
        cell[..2].copy_from_slice(b"nk");
        let mut put = |field: usize, value: &[u8]| cell[field..field + value.len()].copy_from_slice(value);
        put(key_field::FLAGS, &if is_narrow { key_field::NARROW } else { 0 }.to_le_bytes());
        put(key_field::TIME, &self.time.to_le_bytes());
        put(key_field::PARENT, &parent.to_le_bytes());
        for none in [key_field::SUBKEY_LIST, key_field::VOLATILE_LIST, key_field::VALUE_LIST, key_field::CLASS] {
            put(none, &NOTHING.to_le_bytes());
        }
        put(key_field::SECURITY, &security.to_le_bytes());
        put(key_field::NAME_LENGTH, &(stored.len() as u16).to_le_bytes());
        cell.extend_from_slice(&stored);
        let key = self.space.allocate(&cell)?;
        let uses = self.space.get32(security, 12)?;
        self.space.put32(security, 12, uses.saturating_add(1))?;
        subkeys::insert(&mut self.space, parent, key, name)?;
        self.space.raise16(parent, key_field::SUBKEY_NAME_MAX, name.encode_utf16().count() * 2)?;
        self.touch(parent)?;
        Ok(key)
    }
}

fn label(name: &str) -> String {
    if name.is_empty() { "(default)".to_owned() } else { clean(name.as_bytes()) }
}

/// Shows the data of a value: a number, a text, or how many bytes there are.
fn shown(value: &Value<'_>) -> String {
    let texts = || value.texts().map(|texts| clean(texts.join(", ").as_bytes()));
    let number = value.number().map(|number| number.to_string());
    number.or_else(|| value.text().map(|text| format!("{:?}", clean(text.as_bytes())))).or_else(texts).unwrap_or_else(
        || value.data().map_or_else(|_| "(unreadable)".to_owned(), |data| format!("{} bytes", data.len())),
    )
}

/// Returns where `new`, which is at least as long, differs from `old`.
fn differing(old: &[u8], new: &[u8]) -> Vec<Range<usize>> {
    let mut ranges: Vec<Range<usize>> = Vec::new();
    for (at, _) in old.iter().zip(new).enumerate().filter(|(_, (old, new))| old != new) {
        match ranges.last_mut() {
            Some(range) if at - range.end <= GAP_MAX => range.end = at + 1,
            _ => ranges.push(at..at + 1),
        }
    }
    if new.len() > old.len() {
        ranges.push(old.len()..new.len());
    }
    ranges
}
