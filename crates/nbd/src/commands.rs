//! The commands of the transmission: what a client asks of its export, and the replies.

use std::error::Error as _;
use std::io::{self, Write};

use disk::ExtentKind;

use crate::options::Agreed;
use crate::protocol::{
    ALLOCATION_ID, BLOCK_MAX, CMD_BLOCK_STATUS, CMD_CACHE, CMD_FLAG_DF, CMD_FLAG_REQ_ONE, CMD_FLUSH, CMD_READ,
    CMD_TRIM, CMD_WRITE, CMD_WRITE_ZEROES, EINVAL, EOVERFLOW, EPERM, REQUEST_MAGIC,
};
use crate::replies::{HEAD, Replies};
use crate::zeros::{RUNS_MAX, block_status, first_part};

/// What is read at once. No block of any format is larger and compressed, so none is unpacked twice.
pub(crate) const PIECE: usize = 2 << 20;

/// A command is this many bytes long, without the data of a write.
pub(crate) const REQUEST_LENGTH: usize = 28;

/// A command of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Request {
    flags: u16,
    pub(crate) command: u16,
    cookie: u64,
    offset: u64,
    pub(crate) length: u32,
}

impl Request {
    /// Takes a command apart; `None` if it is none.
    pub(crate) fn decode(bytes: &[u8; REQUEST_LENGTH]) -> Option<Self> {
        let (magic, bytes) = bytes.split_first_chunk::<4>()?;
        let (flags, bytes) = bytes.split_first_chunk::<2>()?;
        let (command, bytes) = bytes.split_first_chunk::<2>()?;
        let (cookie, bytes) = bytes.split_first_chunk::<8>()?;
        let (offset, bytes) = bytes.split_first_chunk::<8>()?;
        let length = bytes.first_chunk::<4>()?;
        (u32::from_be_bytes(*magic) == REQUEST_MAGIC).then_some(Self {
            flags: u16::from_be_bytes(*flags),
            command: u16::from_be_bytes(*command),
            cookie: u64::from_be_bytes(*cookie),
            offset: u64::from_be_bytes(*offset),
            length: u32::from_be_bytes(*length),
        })
    }

    /// Returns why the command cannot be carried out, if that is so before anything is read.
    fn fault(&self, agreed: &Agreed) -> Option<(u32, &'static str)> {
        let known_flags = match self.command {
            CMD_WRITE | CMD_TRIM | CMD_WRITE_ZEROES => return Some((EPERM, "the export is read-only")),
            CMD_READ if agreed.structured => CMD_FLAG_DF,
            CMD_BLOCK_STATUS => CMD_FLAG_REQ_ONE,
            CMD_READ | CMD_CACHE | CMD_FLUSH => 0,
            _ => return Some((EINVAL, "this server does not know the command")),
        };
        if self.flags & !known_flags != 0 {
            return Some((EINVAL, "the command does not have this flag"));
        }
        if self.command == CMD_FLUSH {
            return None;
        }
        let end = self.offset.checked_add(u64::from(self.length));
        if end.is_none_or(|end| end > agreed.export.disk.len()) {
            return Some((EINVAL, "the range goes past the end of the export"));
        }
        match self.command {
            CMD_READ if self.length > BLOCK_MAX => Some((EINVAL, "a read has at most 32 MiB")),
            CMD_READ if self.flags & CMD_FLAG_DF != 0 && self.length as usize > PIECE => {
                Some((EOVERFLOW, "a read in one part has at most 2 MiB"))
            }
            CMD_BLOCK_STATUS if !agreed.allocation => Some((EINVAL, "no context of block status was agreed on")),
            CMD_BLOCK_STATUS if self.length == 0 => Some((EINVAL, "the range is empty")),
            _ => None,
        }
    }

    fn end(&self) -> u64 {
        self.offset + u64::from(self.length)
    }
}

/// Carries out a command and replies; `buffer` is kept for the next one. An error means that the connection must end.
pub(crate) fn answer<W: Write>(
    request: &Request,
    agreed: &Agreed,
    replies: &Replies<W>,
    buffer: &mut Vec<u8>,
) -> io::Result<()> {
    if let Some((code, sentence)) = request.fault(agreed) {
        return replies.error(request.cookie, code, sentence);
    }
    match request.command {
        CMD_READ if !agreed.structured => read_simple(request, agreed, replies, buffer),
        CMD_READ => read(request, agreed, replies, buffer),
        CMD_BLOCK_STATUS => status(request, agreed, replies),
        // There is nothing to flush, and what is cached is not for a client to say.
        _ => replies.done(request.cookie),
    }
}

fn status<W: Write>(request: &Request, agreed: &Agreed, replies: &Replies<W>) -> io::Result<()> {
    let runs_max = if request.flags & CMD_FLAG_REQ_ONE != 0 { 1 } else { RUNS_MAX };
    match block_status(&*agreed.export.disk, request.offset, request.end(), runs_max) {
        Ok(runs) => replies.status(request.cookie, ALLOCATION_ID, &runs),
        Err(error) => replies.error_at(request.cookie, request.offset, &sentence(&error)),
    }
}

/// Replies to a read with data and holes; if a part cannot be read, those before it are good.
fn read<W: Write>(request: &Request, agreed: &Agreed, replies: &Replies<W>, buffer: &mut Vec<u8>) -> io::Result<()> {
    let (disk, cookie) = (&*agreed.export.disk, request.cookie);
    if request.length == 0 {
        return replies.done(cookie);
    }
    let whole = request.flags & CMD_FLAG_DF != 0;
    let mut at = request.offset;
    while at < request.end() {
        let part = if whole {
            fill(buffer, disk, at, u64::from(request.length)).map(|()| (u64::from(request.length), ExtentKind::Data))
        } else {
            first_part(disk, at, request.end(), PIECE as u64).and_then(|part| {
                if part.kind == ExtentKind::Data {
                    fill(buffer, disk, at, part.length)?;
                }
                Ok((part.length, part.kind))
            })
        };
        let (length, kind) = match part {
            Ok(part) => part,
            Err(error) => return replies.error_at(cookie, at, &sentence(&error)),
        };
        let done = at + length == request.end();
        match kind {
            ExtentKind::Data => replies.data(cookie, done, at, &mut buffer[..HEAD + length as usize])?,
            ExtentKind::Zero => replies.hole(cookie, done, at, length as u32)?,
        }
        at += length;
    }
    Ok(())
}

/// Replies to a read in the simple way, which has no means to say that a later part failed.
fn read_simple<W: Write>(
    request: &Request,
    agreed: &Agreed,
    replies: &Replies<W>,
    buffer: &mut Vec<u8>,
) -> io::Result<()> {
    let disk = &*agreed.export.disk;
    let piece = |at: u64| (request.end() - at).min(PIECE as u64);
    let mut at = request.offset;
    if let Err(error) = fill(buffer, disk, at, piece(at)) {
        return replies.error_at(request.cookie, at, &sentence(&error));
    }
    let mut out = replies.begin_simple(request.cookie)?;
    loop {
        out.write_all(&buffer[HEAD..HEAD + piece(at) as usize])?;
        at += piece(at);
        if at == request.end() {
            return Ok(());
        }
        fill(buffer, disk, at, piece(at)).map_err(io::Error::other)?;
    }
}

/// Reads `length` bytes, at most [`PIECE`], behind the room that `buffer` has in front.
fn fill(buffer: &mut Vec<u8>, disk: &dyn disk::Source, offset: u64, length: u64) -> disk::Result<()> {
    let end = HEAD + length as usize;
    if buffer.len() < end {
        buffer.resize(end, 0);
    }
    disk.read_at(&mut buffer[HEAD..end], offset)
}

/// Returns what a client is told about a fault of the disk.
fn sentence(error: &disk::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
