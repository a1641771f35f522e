//! A disk of several files: a descriptor that stands alone, and the extents that it names, each granted by the gate.

use std::collections::HashSet;
use std::sync::Arc;

use super::chain::Chain;
use super::descriptor::{Descriptor, Line, is_bare_name};
use super::esx::{self, COW_DISK, read_cow_disk, read_se_sparse};
use super::grains::{Extent, Memory, open_extent};
use super::header::{Header, MAX_DIRECTORY, bytes_of};
use super::hosted;
use crate::error::{Error, ErrorKind, Result};
use crate::fields::read_bytes;
use crate::format::Format;
use crate::gate::{Deny, Gate, ask};
use crate::opened::Opened;
use crate::slice::Slice;
use crate::source::Source;

/// The kinds of disk whose extents are files. The others are devices of the host.
const TYPES: &[&str] = &[
    "monolithicFlat",
    "monolithicSparse",
    "twoGbMaxExtentFlat",
    "twoGbMaxExtentSparse",
    "2GbMaxExtentFlat",
    "2GbMaxExtentSparse",
    "vmfs",
    "vmfsThin",
    "vmfsPreallocated",
    "vmfsEagerZeroedThick",
    "vmfsSparse",
    "seSparse",
    "custom",
];

/// Opens the disk that `descriptor`, the only content of `file`, describes.
pub(super) fn open(file: Arc<dyn Source>, descriptor: &Descriptor, gate: &dyn Gate) -> Result<Opened> {
    descriptor.refuse_parent(gate)?;
    check_names(descriptor)?;
    let kind = descriptor.create_type();
    let Some(variant) = TYPES.iter().find(|known| known.eq_ignore_ascii_case(kind)) else {
        return Err(descriptor.refuse_extents(gate));
    };
    if descriptor.extents.is_empty() {
        return Err(Error::corrupt(format!("the VMDK descriptor ({kind}) names no extents")));
    }
    let mut set = Set::new(file);
    for (number, line) in descriptor.extents.iter().enumerate() {
        set.add(number as u64, line, kind, gate)?;
    }
    let (disk, variant) = (set.chain.into_source(), (*variant).to_owned());
    Ok(Opened { disk, format: Format::Vmdk, variant, block_size: set.grain, notes: set.notes })
}

/// Checks that each name is that of a file alone and is said once.
fn check_names(descriptor: &Descriptor) -> Result<()> {
    let mut names = HashSet::new();
    for line in descriptor.extents.iter().filter(|line| line.kind != "ZERO") {
        let (name, kind) = (&line.name, &line.kind);
        if !is_bare_name(name) {
            return Err(Error::refused(format!(
                "the image names a {kind} extent {name:?}, which is not a bare file name"
            ))
            .with_hint("only files that lie beside the descriptor are read; make one file of the disk where it is"));
        }
        if !names.insert(name) {
            return Err(Error::refused(format!("the image names the extent {name:?} twice")));
        }
    }
    Ok(())
}

/// The extents that were opened so far.
struct Set {
    descriptor: Arc<dyn Source>,
    chain: Chain,
    memory: Memory,
    /// How many entries of directories the next extents may have together.
    entries: u64,
    grain: Option<u64>,
    notes: Vec<String>,
}

impl Set {
    fn new(descriptor: Arc<dyn Source>) -> Self {
        let (chain, memory) = (Chain::default(), Memory::new(esx::ENTRIES));
        Self { descriptor, chain, memory, entries: MAX_DIRECTORY, grain: None, notes: Vec::new() }
    }

    /// Opens extent `number` of a disk of type `create_type` and adds it to the disk.
    fn add(&mut self, number: u64, line: &Line, create_type: &str, gate: &dyn Gate) -> Result<()> {
        let (kind, name) = (line.kind.as_str(), line.name.as_str());
        let length = bytes_of(&format!("length of extent {name:?}"), line.sectors)?;
        if !line.readable {
            return Err(Error::unsupported(format!("the VMDK has an extent without access: {kind} {name:?}")));
        }
        if kind == "ZERO" {
            return self.chain.push(length, None);
        }
        if !matches!(kind, "FLAT" | "VMFS" | "SPARSE" | "VMFSSPARSE" | "SESPARSE") {
            return Err(Error::refused(format!("the image names a {kind} extent {name:?}, which is no file"))
                .with_hint("copy the disk into a file where the device is"));
        }
        let file =
            ask(gate, &format!("a {kind} extent ({create_type})"), name).map_err(|error| match error.kind() {
                ErrorKind::Refused => {
                    error.with_hint(format!("give the file together with the descriptor: --extent {name}"))
                }
                _ => error,
            })?;
        if is_same(&file, &self.descriptor)? {
            return Err(Error::refused(format!("the image names its own descriptor {name:?} as an extent")));
        }
        let part = match kind {
            "FLAT" | "VMFS" => flat(file, line, length)?,
            _ => self.sparse(&file, number, line, length).map_err(|error| in_extent(name, &error))?,
        };
        self.chain.push(length, Some(part))
    }

    /// Opens an extent with tables of its own.
    fn sparse(&mut self, file: &Arc<dyn Source>, number: u64, line: &Line, length: u64) -> Result<Arc<dyn Source>> {
        let extent = self.read_sparse(file, &line.kind)?;
        // The header may round the size up to a grain.
        if extent.size < length || extent.size - length >= extent.grain {
            let size = extent.size;
            return Err(Error::corrupt(format!("its line says {length} bytes, and its header {size}")));
        }
        let entries = extent.directory.len() as u64;
        self.entries = self
            .entries
            .checked_sub(entries)
            .ok_or_else(|| Error::new(ErrorKind::TooLarge, "the directories of the set are over 32 MiB together"))?;
        self.grain.get_or_insert(extent.grain);
        open_extent(file, extent, self.memory.of_extent(number))
    }

    fn read_sparse(&mut self, file: &Arc<dyn Source>, kind: &str) -> Result<Extent> {
        if kind == "SESPARSE" {
            return read_se_sparse(file);
        }
        let magic = read_bytes(&**file, 0, file.len().min(4) as usize, "the header")?;
        let (extent, unclean) = if kind == "VMFSSPARSE" || magic == COW_DISK {
            read_cow_disk(file)?
        } else {
            let header = Header::read(&**file)?;
            if header.compressed {
                return Err(Error::unsupported("it is compressed, which the extents of a set are not")
                    .with_hint("give a streamOptimized file alone, without a descriptor"));
            }
            if let Some(own) = hosted::embedded(&**file, &header)? {
                own.check_embedded(header.size, false, &Deny)?;
            }
            (hosted::extent(&**file, &header)?, header.unclean)
        };
        if unclean && self.notes.is_empty() {
            self.notes.push("a file of the set was not closed cleanly".to_owned());
        }
        Ok(extent)
    }
}

/// Takes the part of a flat file that a line describes: the file itself if that is all of it.
fn flat(file: Arc<dyn Source>, line: &Line, length: u64) -> Result<Arc<dyn Source>> {
    let what = format!("the extent {:?}", line.name);
    let start = bytes_of(&format!("beginning of {what}"), line.start)?;
    if start == 0 && file.len() == length {
        return Ok(file);
    }
    Ok(Arc::new(Slice::new(file, start, length, &what)?))
}

/// Returns whether two sources are one file, of which the first is a descriptor and so is small.
fn is_same(file: &Arc<dyn Source>, descriptor: &Arc<dyn Source>) -> Result<bool> {
    let length = descriptor.len();
    if Arc::ptr_eq(file, descriptor) {
        return Ok(true);
    }
    let read = |source: &Arc<dyn Source>| read_bytes(&**source, 0, length as usize, "the descriptor");
    Ok(file.len() == length && read(file)? == read(descriptor)?)
}

/// Says in which file of the set a fault is.
fn in_extent(name: &str, error: &Error) -> Error {
    let named = Error::new(error.kind(), format!("the extent {name:?}: {error}"));
    match error.hint() {
        Some(hint) => named.with_hint(hint),
        None => named,
    }
}
