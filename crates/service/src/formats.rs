//! Disk formats as the words of records, in terms of what `disk` can do with them.

use std::sync::Arc;

use disk::source::Source;
use disk::{Deny, Format, Opened, WriteOptions};
use model::DiskFormat;

use crate::error::{Error, ErrorKind, Result};

/// What a file turned out to be.
pub(crate) struct Detected {
    pub(crate) format: Format,
    pub(crate) variant: String,
    pub(crate) notes: Vec<String>,
    pub(crate) disk: Arc<dyn Source>,
}

/// Returns the file format behind a record's word, if it is one that disks are read from.
fn file_format(format: DiskFormat) -> Option<Format> {
    match format {
        DiskFormat::Raw | DiskFormat::Gpt | DiskFormat::Ami => Some(Format::Raw),
        DiskFormat::Qcow2 => Some(Format::Qcow2),
        DiskFormat::Vhd => Some(Format::Vhd),
        DiskFormat::Vhdx => Some(Format::Vhdx),
        DiskFormat::Vmdk => Some(Format::Vmdk),
        DiskFormat::Vdi => Some(Format::Vdi),
        DiskFormat::Ploop => Some(Format::Parallels),
        DiskFormat::Iso => Some(Format::Iso),
        DiskFormat::Aki | DiskFormat::Ari | DiskFormat::Zvhd | DiskFormat::Zvhd2 => None,
    }
}

/// Returns the file format of a declared one; fails for a name that no disk is read from.
pub(crate) fn openable(format: DiskFormat) -> Result<Format> {
    file_format(format).ok_or_else(|| {
        Error::new(ErrorKind::BadContent, format!("a disk cannot be read from the format `{format}`"))
            .with_hint("convert the file to qcow2, vmdk, vhd, vdi or raw first")
    })
}

/// Returns the file format to write; fails for one that is not written.
pub(crate) fn writable(format: DiskFormat) -> Result<Format> {
    file_format(format).filter(|file| disk::writable(*file)).ok_or_else(|| {
        Error::invalid(format!("a disk cannot be written in the format `{format}`"))
            .with_hint("choose raw, qcow2, vmdk, vhd, vhdx or vdi")
    })
}

/// Opens the disk that `file` holds. Nothing that the file names is opened.
pub(crate) fn open(file: Arc<dyn Source>, format: DiskFormat) -> Result<Arc<dyn Source>> {
    open_found(file, openable(format)?)
}

/// Opens the disk that `file` holds in the format that [`detect`] found.
pub(crate) fn open_found(file: Arc<dyn Source>, format: Format) -> Result<Arc<dyn Source>> {
    Ok(disk::open(file, format, &Deny)?.disk)
}

/// Returns the file that would hold the disk of `file` in another format.
pub(crate) fn layout(file: Arc<dyn Source>, format: DiskFormat, target: DiskFormat) -> Result<Arc<dyn Source>> {
    Ok(disk::layout(open(file, format)?, writable(target)?, &WriteOptions::default())?)
}

/// Finds out once what a file is and opens the disk in it. A declared format must be the real one; an undeclared
/// file that is in no known format must at least look like a disk, so that a text file does not become an image.
pub(crate) fn detect(file: Arc<dyn Source>, declared: Option<DiskFormat>) -> Result<Detected> {
    let found = disk::probe(&file)?;
    if found == Format::Iso {
        return Err(Error::new(
            ErrorKind::BadContent,
            "the file is an optical disc, which is not a disk that can be imported",
        )
        .with_hint("upload it as an image of the format iso"));
    }
    if let Some(declared) = declared.filter(|declared| file_format(*declared) != Some(found)) {
        return Err(mismatch(declared, found));
    }
    let Opened { disk, variant, notes, .. } = disk::open(file, found, &Deny)?;
    if disk.is_empty() {
        return Err(Error::new(ErrorKind::BadContent, "the disk in the file has no bytes"));
    }
    if found == Format::Raw && declared.is_none() && !looks_like_a_disk(&disk)? {
        return Err(Error::new(
            ErrorKind::BadContent,
            "the file is in no known disk format, and has no partition table or file system",
        )
        .with_hint("if it really is the bytes of a disk, say that its format is raw"));
    }
    Ok(Detected { format: found, variant, notes, disk })
}

/// Checks an uploaded file that is kept as it is: where its bytes say what it is, that must be what was declared, and
/// it must be sound. Returns the length of the disk inside, where it can be told.
pub(crate) fn accept_upload(file: Arc<dyn Source>, declared: DiskFormat) -> Result<Option<u64>> {
    // Kernels, ramdisks and formats whose layout is not public are kept unseen; no disk is ever read from them.
    let Some(wanted) = file_format(declared) else {
        return Ok(None);
    };
    let found = disk::probe(&file)?;
    if found != wanted {
        return Err(mismatch(declared, found));
    }
    // A disc is kept as it is; nothing is known of a disk in it.
    if found == Format::Iso {
        return Ok(None);
    }
    Ok(Some(disk::open(file, found, &Deny)?.disk.len()))
}

fn mismatch(declared: DiskFormat, found: Format) -> Error {
    let found = if found == Format::Raw { "in no known disk format".into() } else { format!("in the format {found}") };
    Error::new(ErrorKind::BadContent, format!("the file was declared as {declared}, and it is {found}"))
        .with_hint("declare the real format, or send the right file")
}

fn looks_like_a_disk(disk: &Arc<dyn Source>) -> Result<bool> {
    let report = guest::inspect(Arc::clone(disk))?;
    Ok(report.partition_table.is_some() || !report.filesystems.is_empty())
}
