//! One call of a worker, in the parent: its reads are served, its time is counted, its answer is taken with care.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use disk::error::{Error, ErrorKind, Result};
use disk::source::Source;

use super::checked::Answer;
use super::frames::{Fault, HEAD, Head, Outcome, READ_MAX, Tag, broken, decode, encode, send};
use super::process::{Running, fault};
use super::{Program, Request};
use crate::text::clean_to;

/// Longest call, with the time in which its reads are served.
const CALL_MAX: Duration = Duration::from_secs(300);
/// Most reads and bytes that a worker gets; an examination allows itself half of these bytes.
const READS_MAX: u64 = 1_000_000;
const BYTES_MAX: u64 = 1 << 30;
/// Longest text of an error of a worker.
const TOLD_MAX: usize = 600;
const NO_LANDLOCK: &str = "The kernel of this host has no Landlock: the process that looked into this disk was confined by a filter of system calls and by limits alone.";

/// Why no worker can be had: part of a sentence.
pub(super) struct Unavailable(pub(super) String);

/// Starts a worker, serves `disk` to it, and returns its answer; a failure of the disk is the failure of the call.
pub(super) fn call<T: Answer>(
    program: &Program,
    request: &Request,
    disk: &dyn Source,
) -> std::result::Result<Result<T>, Unavailable> {
    let cannot = |error: io::Error| Unavailable(format!("its process cannot be started ({error})"));
    let request = encode(request).map_err(cannot)?;
    let (running, socket) = Running::start(program).map_err(cannot)?;
    let mut line = Line { socket, left: program.patience, end: Instant::now() + CALL_MAX };
    // It has read nothing of the disk when it fails here.
    let has_landlock = match welcome(&mut line) {
        Ok(Ok(has_landlock)) => has_landlock,
        Ok(Err(why)) => return Err(Unavailable(clean_to(why.as_bytes(), TOLD_MAX))),
        Err(_) => return Err(Unavailable(format!("its process did not come up; {}", running.end().describe()))),
    };
    let mut served = Served { disk, reads: READS_MAX, bytes: BYTES_MAX, failure: None };
    let answered = converse(&mut line, &request, &mut served);
    let late = answered.as_ref().is_err_and(is_late);
    let ended = running.end();
    // What could not be read is the cause of all that followed.
    if let Some(failure) = served.failure {
        return Ok(Err(failure));
    }
    Ok(match answered {
        Ok(Outcome::Done(found)) => T::checked(found).map(|mut found| {
            if !has_landlock {
                found.note(NO_LANDLOCK.to_owned());
            }
            found
        }),
        Ok(Outcome::Failed(told)) => Err(safe(told)),
        Ok(Outcome::Panicked(why)) => Err(fault(&clean_to(why.as_bytes(), TOLD_MAX))),
        Err(_) if late => {
            let seconds = program.patience.as_secs_f32();
            let told = format!("looking into the disk did not end within {seconds} s, and was stopped");
            Err(Error::new(ErrorKind::TooLarge, told).with_hint("try again when the host has less to do"))
        }
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(fault(&error.to_string())),
        Err(_) => Err(ended.into_error()),
    })
}

/// Waits until the worker is confined; returns whether the kernel has Landlock, or why it cannot be.
fn welcome(line: &mut Line) -> io::Result<std::result::Result<bool, String>> {
    let head = Head::read(line)?;
    match head.tag {
        Tag::Ready => Ok(Ok(head.number != 0)),
        Tag::Unavailable => Ok(Err(String::from_utf8_lossy(&head.body(line)?).into_owned())),
        _ => Err(broken("it began with another frame than it may")),
    }
}

/// Asks, serves reads, and returns the answer.
fn converse<T: Answer>(line: &mut Line, request: &[u8], served: &mut Served<'_>) -> io::Result<Outcome<T>> {
    send(line, Tag::Request, served.disk.len(), request)?;
    let mut buffer = Vec::new();
    loop {
        let head = Head::read(line)?;
        match head.tag {
            Tag::Read => served.read(head, &mut buffer, line)?,
            Tag::Answer => {
                let body = head.body(line)?;
                return decode(&body).map_err(|_| broken("its answer cannot be understood"));
            }
            _ => return Err(broken("it sent a frame that it may not")),
        }
    }
}

/// Makes the error of a worker again, with nothing in it that would steer a terminal.
fn safe(mut told: Fault) -> Error {
    told.message = clean_to(told.message.as_bytes(), TOLD_MAX);
    told.hint = told.hint.map(|hint| clean_to(hint.as_bytes(), TOLD_MAX));
    told.into_error()
}

fn is_late(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// The disk as a worker gets it.
struct Served<'d> {
    disk: &'d dyn Source,
    reads: u64,
    bytes: u64,
    failure: Option<Error>,
}

impl Served<'_> {
    /// Answers a read.
    fn read(&mut self, head: Head, buffer: &mut Vec<u8>, line: &mut Line) -> io::Result<()> {
        let length = head.length as usize;
        let reads = self.reads.checked_sub(1);
        let bytes = self.bytes.checked_sub(head.length.into());
        let (Some(reads), Some(bytes), 1..=READ_MAX) = (reads, bytes, length) else {
            return Err(broken("it read more than it may"));
        };
        (self.reads, self.bytes) = (reads, bytes);
        buffer.resize(HEAD + length, 0);
        buffer[..HEAD].copy_from_slice(&Head::new(Tag::Bytes, 0, length)?.to_bytes());
        match self.disk.read_at(&mut buffer[HEAD..], head.number) {
            Ok(()) => line.write_all(buffer),
            Err(error) => {
                send(line, Tag::Failed, 0, &encode(&Fault::from(&error))?)?;
                if error.kind() == ErrorKind::Io {
                    self.failure.get_or_insert(error);
                }
                Ok(())
            }
        }
    }
}

/// The socket to a worker, and how long it is still waited for.
struct Line {
    socket: UnixStream,
    left: Duration,
    end: Instant,
}

impl Line {
    fn timed<T>(
        &mut self,
        limit: impl FnOnce(&UnixStream, Duration) -> io::Result<()>,
        work: impl FnOnce(&mut UnixStream) -> io::Result<T>,
    ) -> io::Result<T> {
        let start = Instant::now();
        let most = self.left.min(self.end.saturating_duration_since(start));
        if most.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        limit(&self.socket, most)?;
        let done = work(&mut self.socket);
        self.left = self.left.saturating_sub(start.elapsed());
        done
    }
}

impl Read for Line {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.timed(|socket, most| socket.set_read_timeout(Some(most)), |socket| socket.read(buf))
    }
}

impl Write for Line {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.timed(|socket, most| socket.set_write_timeout(Some(most)), |socket| socket.write(buf))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
