//! Disk formats as the words of records, in terms of what `disk` can do with them.

use std::collections::BTreeMap;
use std::sync::Arc;

use disk::source::{Extent, ExtentKind, Source, check_offset, check_range};
use disk::{Deny, Format, Given, Opened, Output, WriteOptions};
use guest::Sandbox;
use keys::Secret;
use model::DiskFormat;
use zeroize::Zeroizing;

use crate::error::{Error, ErrorKind, Result};

/// What is said about a file that comes in, and given for it.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    /// The format that it must have; within a compressed file, what is inside.
    pub(crate) declared: Option<DiskFormat>,
    /// Which disk of an appliance is meant.
    pub(crate) member: Option<String>,
    /// What opens an encrypted disk.
    pub(crate) passphrase: Option<Secret>,
}

impl Asked {
    fn gate(&self) -> Given {
        let mut given = Given::new();
        if let Some(member) = &self.member {
            given = given.with_member(member);
        }
        if let Some(passphrase) = &self.passphrase {
            given = given.with_passphrase(Zeroizing::new(passphrase.expose().to_vec()));
        }
        given
    }
}

/// What a file that comes in turned out to be.
pub(crate) enum Found {
    /// A file whose disk can be read where it lies.
    Disk(Detected),
    /// A file compressed as a whole of which no part can be read alone: it has to be unpacked first.
    Packed(Format),
}

/// A file with a disk.
pub(crate) struct Detected {
    /// How the file is compressed as a whole, if it is.
    pub(crate) wrapper: Option<Format>,
    /// The format of the file, or of what is inside of the compressed one.
    pub(crate) format: Format,
    pub(crate) variant: String,
    pub(crate) notes: Vec<String>,
    /// Bytes of the disk.
    pub(crate) size: u64,
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

/// Returns whether a file of this format is the disk itself, byte for byte.
pub(crate) fn is_bare(format: DiskFormat) -> Result<bool> {
    Ok(matches!(openable(format)?, Format::Raw | Format::Iso))
}

/// Opens the disk that `file` holds. Nothing that the file names is opened.
pub(crate) fn open(file: Arc<dyn Source>, format: DiskFormat) -> Result<Arc<dyn Source>> {
    Ok(disk::open(file, openable(format)?, &Deny)?.disk)
}

/// Opens the disk that `file` holds as [`detect`] found it.
pub(crate) fn open_found(
    file: Arc<dyn Source>,
    wrapper: Option<Format>,
    format: Format,
    asked: &Asked,
) -> Result<Arc<dyn Source>> {
    let file = match wrapper {
        Some(wrapper) => disk::seekable(file, wrapper)?.ok_or_else(|| in_order_only(wrapper))?,
        None => file,
    };
    Ok(disk::open(file, format, &asked.gate())?.disk)
}

/// Finds out once what a file is. A declared format must be the real one; an undeclared file that is in no known format
/// must at least look like a disk, so that a text file does not become an image.
pub(crate) fn detect(sandbox: &Sandbox, file: Arc<dyn Source>, asked: &Asked) -> Result<Found> {
    let outer = disk::probe(&file)?;
    if !disk::is_wrapper(outer) {
        return Ok(Found::Disk(detect_disk(sandbox, file, None, asked)?));
    }
    match disk::seekable(file, outer)? {
        Some(content) => Ok(Found::Disk(detect_disk(sandbox, content, Some(outer), asked)?)),
        None => Ok(Found::Packed(outer)),
    }
}

/// Finds out once what `file` is, which came out of the compressed format `wrapper` or is a file itself.
pub(crate) fn detect_disk(
    sandbox: &Sandbox,
    file: Arc<dyn Source>,
    wrapper: Option<Format>,
    asked: &Asked,
) -> Result<Detected> {
    let found = disk::probe(&file)?;
    let bad = |message: String| Error::new(ErrorKind::BadContent, message);
    if disk::is_wrapper(found) {
        return Err(bad(format!("the compressed file holds a {found} file: it is compressed twice"))
            .with_hint("unpack it once where it came from"));
    }
    if found == Format::Iso {
        return Err(bad("the file is an optical disc, which is not a disk that can be imported".into())
            .with_hint("upload it as an image of the format iso"));
    }
    if let Some(declared) = asked.declared.filter(|declared| file_format(*declared) != Some(found)) {
        return Err(mismatch(declared, found));
    }
    if let Some(member) = asked.member.as_ref().filter(|_| found != Format::Ova) {
        return Err(bad(format!("the disk `{member}` was asked for, and the file is no appliance (OVA) of several"))
            .with_hint("leave the member out"));
    }
    let Opened { disk, variant, notes, .. } = disk::open(file, found, &asked.gate())?;
    if disk.is_empty() {
        return Err(bad("the disk in the file has no bytes".into()));
    }
    if found == Format::Raw && asked.declared.is_none() && !looks_like_a_disk(sandbox, &disk)? {
        return Err(bad("the file is in no known disk format, and has no partition table or file system".into())
            .with_hint("if it really is the bytes of a disk, say that its format is raw"));
    }
    Ok(Detected { wrapper, format: found, variant, notes, size: disk.len() })
}

/// What a file is that nobody has said anything of.
pub(crate) struct Recognized {
    /// The record's word for it.
    pub(crate) format: DiskFormat,
    /// Bytes of the disk, where it can be told.
    pub(crate) size: Option<u64>,
    /// What is inside.
    pub(crate) report: Option<guest::Report>,
}

/// Returns what a file is if it is a disk or disc that an image can be; damage and encryption make it none.
pub(crate) fn recognize(sandbox: &Sandbox, file: Arc<dyn Source>) -> Result<Option<Recognized>> {
    let found = disk::probe(&file)?;
    let format = DiskFormat::ALL.iter().copied().find(|format| file_format(*format) == Some(found));
    let Some(format) = format else { return Ok(None) };
    if found == Format::Iso {
        return Ok(Some(Recognized { format, size: None, report: None }));
    }
    let Ok(Opened { disk, .. }) = disk::open(file, found, &Deny) else { return Ok(None) };
    let size = Some(disk.len());
    if disk.is_empty() || (found == Format::Raw && !looks_like_a_disk(sandbox, &disk)?) {
        return Ok(None);
    }
    Ok(Some(Recognized { format, size, report: sandbox.inspect(disk).ok() }))
}

fn in_order_only(wrapper: Format) -> Error {
    Error::new(ErrorKind::Internal, format!("the {wrapper} file can be read in order only, and was not unpacked"))
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

fn looks_like_a_disk(sandbox: &Sandbox, disk: &Arc<dyn Source>) -> Result<bool> {
    let report = sandbox.inspect(Arc::clone(disk))?;
    Ok(report.partition_table.is_some() || !report.filesystems.is_empty())
}

/// A file to be written, as a client asks for it in the words of `molde disk convert`, which are checked by the same code.
pub(crate) struct Target {
    format: Format,
    options: WriteOptions,
    /// Whether nothing was chosen about it.
    is_plain: bool,
}

impl Target {
    /// Reads the words; fails for a format that is not written.
    pub(crate) fn new(format: &str, options: &BTreeMap<String, String>, passphrase: Option<&Secret>) -> Result<Self> {
        // Records have a few names more than files do.
        let known = format.parse::<DiskFormat>().ok().and_then(file_format);
        let format = known.map_or_else(|| format.parse::<Format>(), Ok).map_err(|error| invalid(&error))?;
        let mut write = WriteOptions::default();
        for (name, value) in options {
            write.set(name, value);
        }
        if let Some(passphrase) = passphrase {
            let encrypts = options.get("encrypt").is_some_and(|value| value.eq_ignore_ascii_case("luks"));
            if format != Format::Luks && !encrypts {
                return Err(Error::invalid("a passphrase was given for a file that would not be encrypted")
                    .with_hint("choose the format luks, or qcow2 with encrypt=luks"));
            }
            write.set_passphrase(Zeroizing::new(passphrase.expose().to_vec()));
        }
        Ok(Self { format, options: write, is_plain: options.is_empty() && passphrase.is_none() })
    }

    /// Refuses what would not become one file if the disk had `size` bytes.
    pub(crate) fn check(&self, size: u64) -> Result<()> {
        match disk::write(Arc::new(Blank(size)), self.format, &self.options).map_err(|error| invalid(&error))? {
            Output::Layout(_) | Output::Stream(_) => Ok(()),
            Output::Flat(_) => Err(Error::invalid("a disk that lies in two files is not exported as one object")
                .with_hint("choose another subformat, or the format raw")),
        }
    }

    /// Returns whether a file kept in the format `kept` is what is asked for.
    pub(crate) fn is_kept_as(&self, kept: DiskFormat) -> bool {
        self.is_plain && file_format(kept) == Some(self.format)
    }

    /// Returns the file that holds the disk of `file`, which is kept in the format `kept`.
    pub(crate) fn write(&self, file: Arc<dyn Source>, kept: DiskFormat) -> Result<Output> {
        Ok(disk::write(open(file, kept)?, self.format, &self.options)?)
    }
}

/// What is wrong with the words of a request.
fn invalid(error: &disk::Error) -> Error {
    let told = Error::invalid(error.to_string());
    match error.hint() {
        Some(hint) => told.with_hint(hint),
        None => told,
    }
}

/// A disk of zeros.
struct Blank(u64);

impl Source for Blank {
    fn len(&self) -> u64 {
        self.0
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> disk::Result<()> {
        check_range(self.0, offset, buf.len())?;
        buf.fill(0);
        Ok(())
    }

    fn extent_at(&self, offset: u64) -> disk::Result<Extent> {
        check_offset(self.0, offset)?;
        Ok(Extent { offset, length: self.0 - offset, kind: ExtentKind::Zero })
    }
}
