//! Copying a source into a file by several threads, where holes stay holes.
//!
//! Pieces of data are handed out in order, read at once, and written where they belong. Each thread holds one piece, so
//! memory is bounded by the number of threads.

use std::fs::File;
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use rustix::fs::{Advice, fadvise};

use crate::error::{Error, Result};
use crate::output::Progress;
use crate::pipeline;
use crate::source::{ExtentKind, Source};
use crate::zeros::data_runs;

/// What a thread reads at once: much less costs more calls, and much more leaves the processor's cache.
const PIECE: u64 = 1 << 20;
/// A file that is to be saved is sent to the disk each time this many bytes were written, so that saving it at the end
/// finds little left to do.
const WINDOW: u64 = 32 << 20;

/// How a source is copied.
#[derive(Clone, Copy)]
pub struct CopyOptions<'a> {
    /// Threads that read and write, 1 to 16; 0 takes as many as there are processors.
    pub threads: usize,
    /// Leaves holes where there are only zeros. Otherwise the zeros are written.
    pub sparse: bool,
    /// The file will be saved to the disk when it is complete.
    pub sync: bool,
    /// Called by any of the threads after each piece.
    pub progress: Option<Progress<'a>>,
}

impl Default for CopyOptions<'_> {
    fn default() -> Self {
        Self { threads: 0, sparse: true, sync: false, progress: None }
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

/// Makes `file` hold the bytes of `source` and nothing else.
pub fn copy_to_file(source: &dyn Source, file: &File, options: &CopyOptions<'_>) -> Result<Copied> {
    copy_in_pieces(source, file, options, PIECE)
}

/// Makes `file` hold the bytes of `source` and nothing else; each thread reads `piece` bytes at once.
pub(crate) fn copy_in_pieces(
    source: &dyn Source,
    file: &File,
    options: &CopyOptions<'_>,
    piece: u64,
) -> Result<Copied> {
    let total = source.len();
    resize(file, total)?;
    let copy = Copy {
        source,
        file,
        options,
        piece,
        pieces: Mutex::default(),
        writing: Mutex::default(),
        done: AtomicU64::new(0),
        written: AtomicU64::new(0),
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..pipeline::threads(options.threads)).map(|_| scope.spawn(|| copy.work())).collect();
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

/// Makes `file` one hole of `length` bytes.
fn resize(file: &File, length: u64) -> Result<()> {
    let failed = |error| Error::io(format!("make the file {length} bytes long"), error);
    // Cutting a file that is empty already would make ext4 write all of it out when it is closed.
    if file.metadata().map_err(failed)?.len() > 0 {
        file.set_len(0).map_err(failed)?;
    }
    file.set_len(length).map_err(failed)
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
    options: &'a CopyOptions<'a>,
    piece: u64,
    pieces: Mutex<Pieces>,
    /// Held while writing: the kernel lets one thread at a time write to a file, and the others would spin for it
    /// instead of reading on. Says up to where the file was sent to the disk.
    writing: Mutex<u64>,
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

    fn lock(&self) -> MutexGuard<'_, Pieces> {
        self.pieces.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the next piece of data; passes over the holes before it.
    fn next_piece(&self) -> Result<Option<(u64, usize)>> {
        let mut pieces = self.lock();
        while !pieces.failed && pieces.offset < self.source.len() {
            let offset = pieces.offset;
            if offset < pieces.data_end {
                // Pieces begin at multiples of their size, as the blocks of the formats do.
                let end = (offset / self.piece + 1).saturating_mul(self.piece).min(pieces.data_end);
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

    fn write(&self, bytes: &[u8], offset: u64) -> Result<()> {
        if !self.options.sparse {
            return self.write_run(bytes, offset);
        }
        data_runs(bytes).try_for_each(|(at, run)| self.write_run(run, offset + at as u64))
    }

    fn write_run(&self, bytes: &[u8], offset: u64) -> Result<()> {
        let mut sent = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        self.file
            .write_all_at(bytes, offset)
            .map_err(|error| Error::io(format!("write {} bytes at byte {offset}", bytes.len()), error))?;
        self.written.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        let end = offset + bytes.len() as u64;
        if self.options.sync && end >= *sent + WINDOW {
            let start = std::mem::replace(&mut *sent, end);
            drop(sent);
            // The kernel begins to write dirty pages out when it is told that they are not needed, and keeps them
            // meanwhile. It is only advice, so a file system that does not take it is no failure.
            let _ = fadvise(self.file, start, NonZeroU64::new(end - start), Advice::DontNeed);
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
