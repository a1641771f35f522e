//! Opening files that may be compressed as a whole: one that can only be read in order is unpacked into a local file first.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{CWD, Mode, OFlags, openat};
use uuid::Uuid;

use crate::copy::{CopyOptions, copy_in_pieces};
use crate::error::{Error, ErrorKind, Result};
use crate::file::FileSource;
use crate::format::Format;
use crate::gate::{Deny, Gate};
use crate::open::{open, open_content};
use crate::opened::Opened;
use crate::output::Progress;
use crate::pipeline::in_order;
use crate::probe::probe;
use crate::source::Source;
use crate::wrap::{UnpackLimits, is_wrapper, seekable, unpack};
use crate::zeros::write_sparse;

/// What is unpacked and written at once: a whole frame of our own files.
const PIECE: u64 = 2 << 20;

/// A file that is read: one that has a name here, or one that lies anywhere else.
#[derive(Clone)]
pub enum Origin<'a> {
    /// A local file or block device.
    Path(&'a Path),
    /// Bytes by position.
    Source(Arc<dyn Source>),
}

impl<'a> From<&'a Path> for Origin<'a> {
    fn from(path: &'a Path) -> Self {
        Self::Path(path)
    }
}

impl<'a> From<&'a PathBuf> for Origin<'a> {
    fn from(path: &'a PathBuf) -> Self {
        Self::Path(path)
    }
}

impl From<Arc<dyn Source>> for Origin<'_> {
    fn from(source: Arc<dyn Source>) -> Self {
        Self::Source(source)
    }
}

impl Origin<'_> {
    fn open(&self) -> Result<Arc<dyn Source>> {
        match self {
            Self::Path(path) => Ok(Arc::new(FileSource::open(path)?)),
            Self::Source(source) => Ok(Arc::clone(source)),
        }
    }

    /// Returns the folder that the file lies in, or that in which the program works.
    fn folder(&self) -> &Path {
        let folder = match self {
            Self::Path(path) => path.parent().filter(|folder| !folder.as_os_str().is_empty()),
            Self::Source(_) => None,
        };
        folder.unwrap_or(Path::new("."))
    }
}

/// How a file is opened.
#[derive(Clone)]
pub struct LocalOptions<'a> {
    /// The format of the file; it is probed if none is given.
    pub format: Option<Format>,
    /// Answers what the file asks for.
    pub gate: &'a dyn Gate,
    /// The folder for the unpacked content, which has no name there; that of the file itself if none is given.
    pub folder: Option<&'a Path>,
    /// Unpacks a bare disk even if any part of it could be read alone, so that all of its zeros are known as holes.
    /// Good for writing another format, needless for looking at the disk.
    pub find_zeros: bool,
    /// How much may come out of a compressed file.
    pub limits: UnpackLimits,
    /// Threads that unpack where that is possible, 1 to 16; 0 takes as many as there are processors.
    pub threads: usize,
    /// Told about bytes of the compressed file, or of the content where any part can be read alone.
    pub progress: Option<Progress<'a>>,
}

impl Default for LocalOptions<'_> {
    fn default() -> Self {
        let limits = UnpackLimits::default();
        Self { format: None, gate: &Deny, folder: None, find_zeros: false, limits, threads: 0, progress: None }
    }
}

/// A file that was opened.
#[derive(Debug)]
pub struct Local {
    /// The disk in it.
    pub opened: Opened,
    /// The format of the file or, if that is compressed as a whole, of the content.
    pub inner: Format,
    /// How many bytes that are not zero were unpacked into a file, if the content was.
    pub unpacked: Option<u64>,
}

/// Opens the disk in the file `origin`.
///
/// A compressed file that can only be read in order is unpacked into a file that has no name and vanishes with the answer.
pub fn open_unpacked<'a>(origin: impl Into<Origin<'a>>, options: &LocalOptions<'_>) -> Result<Opened> {
    let origin = origin.into();
    let folder = options.folder.unwrap_or(origin.folder());
    open_with_room(&origin, options, || nameless(folder)).map(|local| local.opened)
}

/// Opens the disk in the file `origin` as [`open_unpacked`] does, except that a content which must be unpacked is unpacked
/// into `file`, which must be empty and open for reading and writing.
///
/// If [`Local::unpacked`] is set and [`Local::inner`] is raw or iso, `file` is a sparse copy of the bare disk afterwards.
pub fn open_unpacked_into<'a>(origin: impl Into<Origin<'a>>, options: &LocalOptions<'_>, file: &File) -> Result<Local> {
    let room = || file.try_clone().map_err(|error| Error::io("share the file", error));
    open_with_room(&origin.into(), options, room)
}

fn open_with_room(
    origin: &Origin<'_>,
    options: &LocalOptions<'_>,
    room: impl FnOnce() -> Result<File>,
) -> Result<Local> {
    let source = origin.open()?;
    let format = match options.format {
        Some(format) => format,
        None => probe(&*source)?,
    };
    if !is_wrapper(format) {
        return Ok(Local { opened: open(source, format, options.gate)?, inner: format, unpacked: None });
    }
    let content = seekable(Arc::clone(&source), format)?;
    if let Some(content) = &content
        && !(options.find_zeros && is_bare(probe(&**content)?))
    {
        let (inner, opened) = open_content(Arc::clone(content), format, options.gate)?;
        return Ok(Local { opened, inner, unpacked: None });
    }
    let file = room()?;
    let written = match content {
        Some(content) => copy(&*content, &file, options)?,
        None => unpack_to_file(source, format, &file, options.limits, options.progress)?,
    };
    let (inner, opened) = open_content(Arc::new(FileSource::new(file)?), format, options.gate)?;
    Ok(Local { opened, inner, unpacked: Some(written) })
}

pub(crate) fn is_bare(format: Format) -> bool {
    matches!(format, Format::Raw | Format::Iso)
}

/// Unpacks `source`, which is compressed in `format`, into `file`, which must be empty; zeros become holes.
/// Returns the bytes that were written. `progress` is told about bytes of `source`.
pub fn unpack_to_file(
    source: Arc<dyn Source>,
    format: Format,
    file: &File,
    limits: UnpackLimits,
    progress: Option<Progress<'_>>,
) -> Result<u64> {
    let total = source.len();
    let mut unpacker = unpack(source, format, limits)?;
    let pieces = std::iter::from_fn(|| {
        let mut piece = vec![0; PIECE as usize];
        let length = match unpacker.fill(&mut piece) {
            Ok(0) => return None,
            Ok(length) => length,
            Err(error) => return Some(Err(error)),
        };
        piece.truncate(length);
        Some(Ok((piece, unpacker.position())))
    });
    let (mut length, mut written) = (0, 0);
    // One thread unpacks while this one writes.
    in_order(1, PIECE, pieces, Ok, |(piece, position)| {
        written += write_sparse(file, &piece, length)?;
        length += piece.len() as u64;
        if let Some(progress) = progress {
            progress(position, total);
        }
        Ok(())
    })?;
    file.set_len(length).map_err(|error| Error::io(format!("make the file {length} bytes long"), error))?;
    Ok(written)
}

/// Copies `content` into `file`, which must be empty; zeros become holes. Returns the bytes written.
fn copy(content: &dyn Source, file: &File, options: &LocalOptions<'_>) -> Result<u64> {
    let total = content.len();
    if total > options.limits.output {
        return Err(Error::new(
            ErrorKind::TooLarge,
            format!("the compressed file holds {total} bytes, and {} are allowed", options.limits.output),
        ));
    }
    let copy = CopyOptions { threads: options.threads, sparse: true, sync: false, progress: options.progress };
    copy_in_pieces(content, file, &copy, PIECE).map(|copied| copied.bytes_data)
}

/// Makes a file in `folder` that has no name, so that nothing is left behind however the program ends.
fn nameless(folder: &Path) -> Result<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    if let Ok(file) = openat(CWD, folder, flags, Mode::RUSR | Mode::WUSR) {
        return Ok(file.into());
    }
    // The file system has no such files.
    let path = folder.join(format!(".{}.unpacked", Uuid::new_v4().simple()));
    let failed = |error: io::Error| {
        Error::io(format!("make a file in {} for the unpacked content", folder.display()), error)
            .with_hint("name another folder for it, with as much room as the disk needs")
    };
    let file = File::create_new(&path).map_err(failed)?;
    std::fs::remove_file(&path).map_err(failed)?;
    Ok(file)
}
