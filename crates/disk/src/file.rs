//! A local file as a source, with its holes.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{OFlags, SeekFrom, seek};
use rustix::io::Errno;

use crate::error::{Error, ErrorKind, Result};
use crate::source::{Extent, ExtentKind, Source, check_offset, check_range};

/// A regular file or a block device, read by position. Its length is that at the time of opening.
#[derive(Debug)]
pub struct FileSource {
    file: File,
    length: u64,
}

impl FileSource {
    /// Opens the file at `path` for reading.
    pub fn open(path: &Path) -> Result<Self> {
        // Without NONBLOCK, opening a named pipe would wait for a writer for ever.
        let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or(0);
        let file = File::options()
            .read(true)
            .custom_flags(flags)
            .open(path)
            .map_err(|error| Error::io(format!("open {}", path.display()), error))?;
        Self::new(file)
    }

    /// Takes an open file.
    pub fn new(file: File) -> Result<Self> {
        let metadata = file.metadata().map_err(|error| Error::io("read the size of the file", error))?;
        let kind = metadata.file_type();
        let length = if kind.is_file() {
            metadata.len()
        } else if kind.is_block_device() {
            seek(&file, SeekFrom::End(0)).map_err(|error| Error::io("read the size of the device", error.into()))?
        } else {
            return Err(Error::new(ErrorKind::Unsupported, "neither a regular file nor a block device"));
        };
        Ok(Self { file, length })
    }
}

impl Source for FileSource {
    fn len(&self) -> u64 {
        self.length
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        check_range(self.length, offset, buf.len())?;
        self.file
            .read_exact_at(buf, offset)
            .map_err(|error| Error::io(format!("read {} bytes at byte {offset}", buf.len()), error))
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        check_offset(self.length, offset)?;
        let data = match seek(&self.file, SeekFrom::Data(offset)) {
            Ok(data) => data.min(self.length),
            // No data up to the end of the file.
            Err(Errno::NXIO) => self.length,
            // The file system or device cannot tell.
            Err(Errno::INVAL | Errno::OPNOTSUPP) => offset,
            Err(error) => return Err(Error::io("look for data", error.into())),
        };
        if data > offset {
            return Ok(Extent { offset, length: data - offset, kind: ExtentKind::Zero });
        }
        let end = match seek(&self.file, SeekFrom::Hole(offset)) {
            Ok(hole) if hole > offset => hole.min(self.length),
            Ok(_) | Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::NXIO) => self.length,
            Err(error) => return Err(Error::io("look for a hole", io::Error::from(error))),
        };
        Ok(Extent { offset, length: end - offset, kind: ExtentKind::Data })
    }
}
