//! Conversion of local files: a disk or layout is copied into a file by several threads, and holes stay holes.
//!
//! Pieces of data are handed out in order, read at once, and written where they belong. Each thread holds one piece, so
//! memory is bounded by the number of threads.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::file::FileSource;
use crate::format::Format;
use crate::gate::{Deny, Gate};
use crate::open::open;
use crate::options::WriteOptions;
use crate::probe::probe;
use crate::source::{ExtentKind, Source};
use crate::write::{Output, Progress, write};

/// What a thread reads at once. No block of any format is larger and compressed, so none is unpacked twice.
const PIECE: u64 = 2 << 20;
/// Zeros are looked for in blocks of this many bytes.
const BLOCK: usize = 4096;
const MAX_THREADS: usize = 16;

/// How a file is written.
#[derive(Clone)]
pub struct ConvertOptions<'a> {
    /// Threads that read and write, 1 to 16; 0 takes as many as there are processors.
    pub threads: usize,
    /// Leaves holes where there are only zeros. Otherwise the zeros are written.
    pub sparse: bool,
    /// Called by any of the threads after each piece.
    pub progress: Option<Progress<'a>>,
    /// Replaces a file that is already there.
    pub force: bool,
    /// What is chosen about the new file.
    pub write: WriteOptions,
    /// Answers what the file that is read asks for.
    pub gate: &'a dyn Gate,
}

impl Default for ConvertOptions<'_> {
    fn default() -> Self {
        Self { threads: 0, sparse: true, progress: None, force: false, write: WriteOptions::default(), gate: &Deny }
    }
}

/// What was copied, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copied {
    /// Written to the file.
    pub bytes_data: u64,
    /// The length of the file.
    pub bytes_total: u64,
}

/// Reads the disk in `src`, which is probed if `format` is not given, and writes it to `dst` in format `out`.
///
/// The new file appears under its name when it is complete and on the disk; if anything fails, nothing is left behind.
pub fn convert(
    src: &Path,
    format: Option<Format>,
    dst: &Path,
    out: Format,
    options: &ConvertOptions<'_>,
) -> Result<Copied> {
    if !options.force && dst.symlink_metadata().is_ok() {
        return Err(exists(dst));
    }
    let file: Arc<dyn Source> = Arc::new(FileSource::open(src)?);
    let format = match format {
        Some(format) => format,
        None => probe(&*file)?,
    };
    let disk = open(file, format, options.gate)?.disk;
    let output = write(disk, out, &options.write)?;
    let temporary = Temporary::create(dst)?;
    let copied = write_to_file(&output, &temporary.file, options)?;
    temporary.file.sync_all().map_err(|error| Error::io(format!("save {}", dst.display()), error))?;
    temporary.rename(dst, options.force)?;
    Ok(copied)
}

/// Makes `file` hold the file that `output` describes and nothing else.
pub fn write_to_file(output: &Output, file: &File, options: &ConvertOptions<'_>) -> Result<Copied> {
    let stream = match output {
        Output::Layout(source) | Output::Flat(source) => return copy_to_file(&**source, file, options),
        Output::Stream(stream) => stream,
    };
    let start = stream.head_length();
    file.set_len(0).map_err(|error| Error::io("empty the file", error))?;
    let mut tail = Tail { file, at: start };
    let head = stream.write(options.threads, options.progress.unwrap_or(&|_, _| ()), &mut tail)?;
    let end = tail.at;
    file.write_all_at(&head, 0).map_err(|error| Error::io("write the beginning of the file", error))?;
    Ok(Copied { bytes_data: end, bytes_total: end })
}

/// The end of a file, to which is written in order.
struct Tail<'a> {
    file: &'a File,
    at: u64,
}

impl Write for Tail<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write_at(bytes, self.at)?;
        self.at += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Makes `file` hold the bytes of `source` and nothing else.
pub fn copy_to_file(source: &dyn Source, file: &File, options: &ConvertOptions<'_>) -> Result<Copied> {
    let total = source.len();
    let resize =
        |length| file.set_len(length).map_err(|error| Error::io(format!("make the file {length} bytes long"), error));
    resize(0)?;
    resize(total)?;
    let threads = match options.threads {
        0 => thread::available_parallelism().map_or(1, usize::from),
        threads => threads,
    };
    let copy =
        Copy { source, file, options, pieces: Mutex::default(), done: AtomicU64::new(0), written: AtomicU64::new(0) };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..threads.clamp(1, MAX_THREADS)).map(|_| scope.spawn(|| copy.work())).collect();
        let mut result = Ok(());
        for thread in threads {
            match thread.join() {
                Ok(worked) => result = result.and(worked),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        result
    })?;
    Ok(Copied { bytes_data: copy.written.into_inner(), bytes_total: total })
}

/// The next piece to hand out.
#[derive(Default)]
struct Pieces {
    offset: u64,
    /// Where the extent that was looked at last ends, if it is data that must be read.
    data_end: u64,
    failed: bool,
}

struct Copy<'a> {
    source: &'a dyn Source,
    file: &'a File,
    options: &'a ConvertOptions<'a>,
    pieces: Mutex<Pieces>,
    done: AtomicU64,
    written: AtomicU64,
}

impl Copy<'_> {
    /// Copies pieces until there are no more or one fails.
    fn work(&self) -> Result<()> {
        let mut buffer = Vec::new();
        while let Some((offset, length)) = self.next_piece()? {
            buffer.resize(length, 0);
            let copied = self.source.read_at(&mut buffer, offset).and_then(|()| self.write(&buffer, offset));
            if let Err(error) = copied {
                self.lock().failed = true;
                return Err(error);
            }
            self.report(length as u64);
        }
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Pieces> {
        self.pieces.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the next piece of data; passes over the holes before it.
    fn next_piece(&self) -> Result<Option<(u64, usize)>> {
        let mut pieces = self.lock();
        while !pieces.failed && pieces.offset < self.source.len() {
            let offset = pieces.offset;
            if offset < pieces.data_end {
                // Pieces begin at multiples of their size, as the blocks of the formats do.
                let end = (offset / PIECE + 1).saturating_mul(PIECE).min(pieces.data_end);
                pieces.offset = end;
                return Ok(Some((offset, (end - offset) as usize)));
            }
            let extent = self.source.extent_at(offset).inspect_err(|_| pieces.failed = true)?;
            if extent.kind == ExtentKind::Data || !self.options.sparse {
                pieces.data_end = extent.end();
            } else {
                pieces.offset = extent.end();
                self.report(extent.length);
            }
        }
        Ok(None)
    }

    fn write(&self, mut bytes: &[u8], mut offset: u64) -> Result<()> {
        while !bytes.is_empty() {
            let zeros = if self.options.sparse { blocks_while(bytes, is_zero) } else { 0 };
            (bytes, offset) = (&bytes[zeros..], offset + zeros as u64);
            let data = if self.options.sparse { blocks_while(bytes, |block| !is_zero(block)) } else { bytes.len() };
            self.file
                .write_all_at(&bytes[..data], offset)
                .map_err(|error| Error::io(format!("write {data} bytes at byte {offset}"), error))?;
            self.written.fetch_add(data as u64, Ordering::Relaxed);
            (bytes, offset) = (&bytes[data..], offset + data as u64);
        }
        Ok(())
    }

    fn report(&self, length: u64) {
        let done = self.done.fetch_add(length, Ordering::Relaxed) + length;
        if let Some(progress) = self.options.progress {
            progress(done, self.source.len());
        }
    }
}

/// Returns the bytes of the blocks at the beginning for which `holds` is true.
fn blocks_while(bytes: &[u8], holds: impl Fn(&[u8]) -> bool) -> usize {
    bytes.chunks(BLOCK).take_while(|block| holds(block)).map(<[u8]>::len).sum()
}

fn is_zero(block: &[u8]) -> bool {
    // Most blocks that are not zero show it at once; the rest is a loop that the compiler makes wide.
    block.first() == Some(&0) && block.chunks(256).all(|part| part.iter().fold(0, |all, byte| all | byte) == 0)
}

fn exists(path: &Path) -> Error {
    Error::refused(format!("{} exists already", path.display())).with_hint("choose another name, or force it")
}

/// A file beside the one that it will become; removed unless it was renamed.
struct Temporary {
    file: File,
    path: PathBuf,
    renamed: bool,
}

impl Temporary {
    fn create(dst: &Path) -> Result<Self> {
        let name = dst.file_name().ok_or_else(|| Error::unsupported(format!("{} is no file name", dst.display())))?;
        let name = format!(".{}.{}.part", name.to_string_lossy(), Uuid::new_v4().simple());
        let path = dst.with_file_name(name);
        let file = File::create_new(&path).map_err(|error| Error::io(format!("create {}", path.display()), error))?;
        Ok(Self { file, path, renamed: false })
    }

    fn rename(mut self, dst: &Path, force: bool) -> Result<()> {
        let flags = if force { RenameFlags::empty() } else { RenameFlags::NOREPLACE };
        let renamed = match renameat_with(CWD, &self.path, CWD, dst, flags) {
            // The file system does not know the flag; that nothing was there has been checked before.
            Err(Errno::INVAL | Errno::NOSYS) => std::fs::rename(&self.path, dst),
            Err(Errno::EXIST) => return Err(exists(dst)),
            other => other.map_err(io::Error::from),
        };
        renamed.map_err(|error| Error::io(format!("rename the new file to {}", dst.display()), error))?;
        self.renamed = true;
        // The name is kept by the directory, so that must be on the disk too.
        let directory = dst.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(directory)
            .and_then(|directory| directory.sync_all())
            .map_err(|error| Error::io(format!("save the directory {}", directory.display()), error))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.renamed {
            // Nothing better can be done about a file that cannot be removed.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
