//! Search for damage: every byte of a disk that is not known to be zero is read, and what cannot be read is listed.
//!
//! Opening the file verifies its tables, and a format may have more to verify that does not matter for reading: the refcounts
//! of qcow2. Then its data follow, by several threads that hold one piece each. A piece
//! that cannot be read is read again in small units, so that the damage is told to the unit, and the search goes on.
//! A fault of a disk says where it is, so two units that fail in the same words fail for the same fault.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{Error, ErrorKind, Result};
use crate::format::Format;
use crate::formats::qcow2;
use crate::gate::Gate;
use crate::open::open;
use crate::output::Progress;
use crate::pipeline::{in_order, threads};
use crate::source::{ExtentKind, Source};

/// What a thread reads at once. No block of any format is larger and compressed, so none is unpacked twice.
const PIECE: u64 = 2 << 20;
/// The unit in which damage is told where the file has none.
const UNIT: u64 = 4096;
/// A report lists at most this many ranges; the others are only counted.
const MAX_LISTED: usize = 1000;

/// How a disk is checked.
#[derive(Clone, Copy, Default)]
pub struct CheckOptions<'a> {
    /// Threads that read, 1 to 16; 0 takes as many as there are processors.
    pub threads: usize,
    /// Told by any of the threads how many bytes of the disk are done.
    pub progress: Option<Progress<'a>>,
}

/// A range of the disk that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// First byte.
    pub offset: u64,
    /// Length in bytes: a unit of the file, or several that fail for the same reason.
    pub length: u64,
    /// Why it cannot be read.
    pub message: String,
}

/// What was found out about a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The format of the file.
    pub format: Format,
    /// Which kind of that format; empty for raw.
    pub variant: String,
    /// The length of the disk in bytes.
    pub size: u64,
    /// Bytes of the disk that are not known to be zero and were read.
    pub bytes_read: u64,
    /// Bytes of the disk that cannot be read.
    pub bytes_damaged: u64,
    /// How many ranges cannot be read.
    pub damaged_ranges: u64,
    /// The first of these ranges, in order; at most 1000.
    pub damaged: Vec<Damage>,
    /// What is wrong with the file besides: it may be read, and writing to it may destroy data. The first hundred sentences.
    pub faults: Vec<String>,
    /// How many of those there are.
    pub fault_count: u64,
    /// Space in the file that nothing uses and that is never given back, which does no harm. The first hundred sentences.
    pub leaks: Vec<String>,
    /// How many of those there are.
    pub leak_count: u64,
    /// Sentences for people about what was passed over.
    pub notes: Vec<String>,
}

impl Report {
    /// Returns whether nothing is wrong with the disk and its file; what leaks is not wrong.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.damaged_ranges == 0 && self.fault_count == 0
    }

    /// Verifies what only files in this format have.
    fn check_format(&mut self, source: &Arc<dyn Source>) {
        if self.format != Format::Qcow2 {
            return;
        }
        match qcow2::check(source) {
            Ok(found) => {
                (self.faults, self.fault_count) = (found.errors, found.error_count);
                (self.leaks, self.leak_count) = (found.leaks, found.leak_count);
            }
            Err(error) if matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::TooLarge) => {
                self.notes.push(format!("the refcounts were not checked: {error}"));
            }
            Err(error) => {
                self.faults.push(sentence(&error));
                self.fault_count = 1;
            }
        }
    }

    fn add(&mut self, damage: Damage) {
        self.bytes_damaged += damage.length;
        let all_listed = self.damaged_ranges == self.damaged.len() as u64;
        if let Some(last) = self.damaged.last_mut()
            && all_listed
            && last.offset + last.length == damage.offset
            && last.message == damage.message
        {
            last.length += damage.length;
            return;
        }
        self.damaged_ranges += 1;
        if self.damaged.len() < MAX_LISTED {
            self.damaged.push(damage);
        }
    }
}

/// Opens the disk that `source` holds in `format` and reads all of it.
///
/// A file whose tables are broken cannot be opened, which is the error; damage in its data makes the report longer.
pub fn check(source: Arc<dyn Source>, format: Format, gate: &dyn Gate, options: &CheckOptions<'_>) -> Result<Report> {
    let file = Arc::clone(&source);
    let opened = open(source, format, gate)?;
    let mut report = Report {
        format,
        variant: opened.variant,
        size: opened.disk.len(),
        bytes_read: 0,
        bytes_damaged: 0,
        damaged_ranges: 0,
        damaged: Vec::new(),
        faults: Vec::new(),
        fault_count: 0,
        leaks: Vec::new(),
        leak_count: 0,
        notes: opened.notes,
    };
    report.check_format(&file);
    let unit = opened.block_size.unwrap_or(UNIT).clamp(512, PIECE);
    let reader = Reader { disk: &*opened.disk, unit, options, done: AtomicU64::new(0), buffers: Mutex::default() };
    let mut pieces = Pieces { reader: &reader, offset: 0, data_end: 0 };
    in_order(
        threads(options.threads),
        // What waits is small; a thread has its buffer, however many pieces there are.
        1,
        std::iter::from_fn(|| pieces.next().map(Ok)),
        |piece| Ok(reader.read(piece)),
        |read| {
            report.bytes_read += read.bytes;
            read.damaged.into_iter().for_each(|damage| report.add(damage));
            Ok(())
        },
    )?;
    Ok(report)
}

/// A range that is read at once, or what was wrong when its extent was looked for.
struct Piece {
    offset: u64,
    length: u64,
    error: Option<Error>,
}

/// What came of reading a piece.
#[derive(Default)]
struct Read {
    bytes: u64,
    damaged: Vec<Damage>,
}

struct Reader<'a> {
    disk: &'a dyn Source,
    unit: u64,
    options: &'a CheckOptions<'a>,
    done: AtomicU64,
    /// Those that no thread holds now; there are at most as many as threads.
    buffers: Mutex<Vec<Vec<u8>>>,
}

impl Reader<'_> {
    fn read(&self, piece: Piece) -> Read {
        let Piece { offset, length, error } = piece;
        let read = match error {
            Some(error) => Read { bytes: 0, damaged: vec![damage(offset, length, &error)] },
            None => self.read_data(offset, length),
        };
        self.report(length);
        read
    }

    fn read_data(&self, offset: u64, length: u64) -> Read {
        let mut buffer = self.buffers.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
        buffer.resize(length as usize, 0);
        let damaged = match self.disk.read_at(&mut buffer, offset) {
            Ok(()) => Vec::new(),
            Err(_) => self.narrow(offset, &mut buffer),
        };
        self.buffers.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
        Read { bytes: length - damaged.iter().map(|damage| damage.length).sum::<u64>(), damaged }
    }

    /// Finds which units from `offset` on, as many as `buffer` holds, cannot be read.
    fn narrow(&self, offset: u64, buffer: &mut [u8]) -> Vec<Damage> {
        let end = offset + buffer.len() as u64;
        let mut try_unit = |at: u64| {
            let length = ((at / self.unit + 1) * self.unit).min(end) - at;
            let read = self.disk.read_at(&mut buffer[..length as usize], at);
            (at + length, read.err().map(|error| damage(at, length, &error)))
        };
        // What is packed in one may be much larger than all this, and costs much for each try.
        let last = (end - 1) / self.unit * self.unit;
        if let ((_, Some(first)), (_, Some(last))) = (try_unit(offset), try_unit(last.max(offset)))
            && first.message == last.message
        {
            return vec![Damage { length: end - offset, ..first }];
        }
        let mut damaged = Vec::new();
        let mut at = offset;
        while at < end {
            let (next, damage) = try_unit(at);
            damaged.extend(damage);
            at = next;
        }
        damaged
    }

    fn report(&self, length: u64) {
        let done = self.done.fetch_add(length, Ordering::Relaxed) + length;
        if let Some(progress) = self.options.progress {
            progress(done, self.disk.len());
        }
    }
}

fn damage(offset: u64, length: u64, error: &Error) -> Damage {
    Damage { offset, length, message: sentence(error) }
}

fn sentence(error: &Error) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

/// Cuts the data of the disk into pieces and passes over what is known to be zero.
struct Pieces<'a> {
    reader: &'a Reader<'a>,
    offset: u64,
    /// Where the extent that was looked at last ends, if it is data.
    data_end: u64,
}

impl Pieces<'_> {
    fn next(&mut self) -> Option<Piece> {
        // Pieces begin at whole units.
        let stride = PIECE / self.reader.unit * self.reader.unit;
        let disk = self.reader.disk;
        while self.offset < disk.len() {
            let offset = self.offset;
            let piece_end = (offset / stride + 1).saturating_mul(stride);
            if offset < self.data_end {
                self.offset = piece_end.min(self.data_end);
                return Some(Piece { offset, length: self.offset - offset, error: None });
            }
            match disk.extent_at(offset) {
                Ok(extent) if extent.kind == ExtentKind::Data => self.data_end = extent.end(),
                Ok(extent) => {
                    self.reader.report(extent.length);
                    self.offset = extent.end();
                }
                // Where this extent ends is not known; what follows may be found again.
                Err(error) => {
                    self.offset = piece_end.min(disk.len());
                    return Some(Piece { offset, length: self.offset - offset, error: Some(error) });
                }
            }
        }
        None
    }
}
