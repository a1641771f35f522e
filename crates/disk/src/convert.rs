//! Conversion of files: the disk in one file is written to a local one, which appears when it is complete.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::ioctl_ficlone;

use crate::copy::{Copied, CopyOptions, copy_to_file};
use crate::error::{Error, Result};
use crate::format::Format;
use crate::gate::{Deny, Gate};
use crate::hashed::HashedDisk;
use crate::local::{Local, LocalOptions, Origin, is_bare, open_unpacked, open_unpacked_into};
use crate::opened::Opened;
use crate::options::WriteOptions;
use crate::output::Output;
use crate::pair::Pair;
use crate::pipeline;
use crate::source::Source;
use crate::temporary::{Temporary, exists};
use crate::write::write;

/// What is read at once where the bytes must come in order.
const PIECE: u64 = 1 << 20;

/// How a disk file is converted.
#[derive(Clone)]
pub struct ConvertOptions<'a> {
    /// How the bytes are copied.
    pub copy: CopyOptions<'a>,
    /// Replaces a file that is already there.
    pub force: bool,
    /// Computes the SHA-256 of the disk on the way.
    pub checksum: bool,
    /// What is chosen about the new file.
    pub write: WriteOptions,
    /// Answers what the file that is read asks for.
    pub gate: &'a dyn Gate,
    /// The folder for what must be unpacked before it is written to a stream; that of the file which is read if none is
    /// given. What is written to a file is unpacked beside that.
    pub temporary: Option<&'a Path>,
}

impl Default for ConvertOptions<'_> {
    fn default() -> Self {
        let copy = CopyOptions { sync: true, ..CopyOptions::default() };
        let write = WriteOptions::default();
        Self { copy, force: false, checksum: false, write, gate: &Deny, temporary: None }
    }
}

impl ConvertOptions<'_> {
    /// How the file is opened, with room for unpacked content in `folder`.
    fn local<'a>(&'a self, format: Option<Format>, folder: Option<&'a Path>, find_zeros: bool) -> LocalOptions<'a> {
        let threads = self.copy.threads;
        LocalOptions { format, gate: self.gate, folder, find_zeros, threads, ..LocalOptions::default() }
    }
}

/// What a conversion made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Converted {
    /// What was written.
    pub copied: Copied,
    /// Bytes of the disk that the guest sees.
    pub virtual_size: u64,
    /// The SHA-256 of the disk, if it was asked for.
    pub sha256: Option<[u8; 32]>,
}

/// Reads the disk in `src`, which is probed if `format` is not given, and writes it to `dst` in format `out`.
///
/// The new file appears under its name when it is complete and, with [`CopyOptions::sync`], on the disk; if anything
/// fails, nothing is left behind.
pub fn convert<'o>(
    src: impl Into<Origin<'o>>,
    format: Option<Format>,
    dst: &Path,
    out: Format,
    options: &ConvertOptions<'_>,
) -> Result<Converted> {
    if !options.force && dst.symlink_metadata().is_ok() {
        return Err(exists(dst));
    }
    let src = src.into();
    let folder = dst.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let local = options.local(format, Some(folder), true);
    // A bare disk in a compressed file is unpacked straight into the new file, where its zeros become holes.
    let as_it_is = out == Format::Raw && !options.checksum && options.write.is_empty() && options.copy.sparse;
    let file = as_it_is.then(|| Temporary::create(dst)).transpose()?;
    let opened = match &file {
        Some(file) => open_unpacked_into(src.clone(), &local, &file.file)?,
        None => Local { opened: open_unpacked(src.clone(), &local)?, inner: out, unpacked: None },
    };
    let input = Input::new(&src, opened.opened, options);
    let file = match (file, opened.unpacked) {
        (Some(mut file), Some(bytes_data)) if is_bare(opened.inner) => {
            let converted = input.converted(Copied { bytes_data, bytes_total: input.disk.len() })?;
            file.rename(dst, options.force, options.copy.sync)?;
            return Ok(converted);
        }
        (file, None) => file,
        // What was unpacked loses its name here, and stays while it is open.
        (_, Some(_)) => None,
    };
    let output = write(Arc::clone(&input.disk), out, &options.write)?;
    if let Output::Flat(disk) = &output {
        let pair = Pair::write(&**disk, dst, &options.write, &options.copy, options.force)?;
        let converted = input.converted(pair.copied)?;
        pair.publish()?;
        return Ok(converted);
    }
    let mut file = file.map_or_else(|| Temporary::create(dst), Ok)?;
    let copied = match input.cloned(&output, &file.file, &options.copy) {
        Some(copied) => copied,
        None => write_to_file(&output, &file.file, &options.copy)?,
    };
    let converted = input.converted(copied)?;
    file.rename(dst, options.force, options.copy.sync)?;
    Ok(converted)
}

/// Reads the disk in `src` and writes it to `dst`, which cannot go back, such as a pipe.
pub fn convert_to_stream<'o>(
    src: impl Into<Origin<'o>>,
    format: Option<Format>,
    dst: &mut (dyn Write + Send),
    out: Format,
    options: &ConvertOptions<'_>,
) -> Result<Converted> {
    let src = src.into();
    let opened = open_unpacked(src.clone(), &options.local(format, options.temporary, false))?;
    let input = Input::new(&src, opened, options);
    let output = write(Arc::clone(&input.disk), out, &options.write)?;
    let copied = write_in_order(&output, dst, &options.copy)?;
    dst.flush().map_err(|error| Error::io("write the last bytes", error))?;
    input.converted(copied)
}

/// The disk that is read.
struct Input {
    disk: Arc<dyn Source>,
    hashed: Option<Arc<HashedDisk>>,
    /// The file that holds the bare disk, if it does.
    raw: Option<File>,
}

impl Input {
    fn new(origin: &Origin<'_>, opened: Opened, options: &ConvertOptions<'_>) -> Self {
        let raw = match origin {
            Origin::Path(path) if opened.format == Format::Raw => File::open(path).ok(),
            _ => None,
        };
        if !options.checksum {
            return Self { disk: opened.disk, hashed: None, raw };
        }
        let hashed = Arc::new(HashedDisk::new(opened.disk));
        Self { disk: Arc::clone(&hashed) as Arc<dyn Source>, hashed: Some(hashed), raw: None }
    }

    /// Makes `file` share its blocks with the file that is read, where that is the same file and the file system can.
    /// Then it has the holes of that file too, so not if zeros are to be written.
    fn cloned(&self, output: &Output, file: &File, options: &CopyOptions<'_>) -> Option<Copied> {
        let Output::Layout(layout) = output else { return None };
        let raw = self.raw.as_ref().filter(|_| options.sparse && Arc::ptr_eq(layout, &self.disk))?;
        ioctl_ficlone(file, raw).ok()?;
        let bytes_total = file.metadata().ok()?.len();
        (bytes_total == layout.len()).then_some(Copied { bytes_data: 0, bytes_total })
    }

    fn converted(&self, copied: Copied) -> Result<Converted> {
        let sha256 = self.hashed.as_ref().map(|hashed| hashed.finish()).transpose()?;
        Ok(Converted { copied, virtual_size: self.disk.len(), sha256 })
    }
}

/// Makes `file` hold the file that `output` describes and nothing else.
pub fn write_to_file(output: &Output, file: &File, options: &CopyOptions<'_>) -> Result<Copied> {
    let stream = match output {
        Output::Layout(source) | Output::Flat(source) => return copy_to_file(&**source, file, options),
        Output::Stream(stream) => stream,
    };
    let mut tail = Tail { file, at: stream.head_length() };
    let head = stream.write(options.threads, options.progress.unwrap_or(&|_, _| ()), &mut tail)?;
    let end = tail.at;
    file.write_all_at(&head, 0).map_err(|error| Error::io("write the beginning of the file", error))?;
    file.set_len(end).map_err(|error| Error::io(format!("make the file {end} bytes long"), error))?;
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

/// Writes the file that `output` describes to `out`, from its beginning to its end.
pub fn write_in_order(output: &Output, out: &mut (dyn Write + Send), options: &CopyOptions<'_>) -> Result<Copied> {
    let progress = options.progress.unwrap_or(&|_, _| ());
    match output {
        Output::Layout(source) => {
            let total = source.len();
            let pieces = (0..total.div_ceil(PIECE)).map(|number| Ok(number * PIECE));
            let read = |offset: u64| {
                let mut bytes = vec![0; (total - offset).min(PIECE) as usize];
                source.read_at(&mut bytes, offset).map(|()| bytes)
            };
            let mut done = 0;
            pipeline::in_order(pipeline::threads(options.threads), PIECE, pieces, read, |bytes| {
                out.write_all(&bytes).map_err(|error| Error::io(format!("write at byte {done}"), error))?;
                done += bytes.len() as u64;
                progress(done, total);
                Ok(())
            })?;
            Ok(Copied { bytes_data: total, bytes_total: total })
        }
        Output::Stream(stream) if stream.head_length() == 0 => {
            let mut counted = Counted { out, bytes: 0 };
            stream.write(options.threads, progress, &mut counted)?;
            Ok(Copied { bytes_data: counted.bytes, bytes_total: counted.bytes })
        }
        Output::Stream(_) | Output::Flat(_) => {
            Err(Error::unsupported("the beginning of such a file is known only at its end, so it cannot be a stream")
                .with_hint("write it to a file"))
        }
    }
}

struct Counted<'a> {
    out: &'a mut (dyn Write + Send),
    bytes: u64,
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
