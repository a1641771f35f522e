//! The worker itself: confines itself, asks the parent for the bytes of the disk, and answers.

use std::io::{self, Read, Write};
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use disk::error::{Error, Result};
use disk::source::{Source, check_range};
use rustix::stdio::stdin;
use serde::Serialize;

use super::Request;
use super::confine::confine;
use super::frames::{Fault, Head, Outcome, READ_MAX, Tag, broken, decode, encode, send};
use crate::inspect::inspect_with;
use crate::plan::plan;

/// What the last panic said; that it is printed would fill a pipe that nobody reads.
static PANIC: Mutex<String> = Mutex::new(String::new());

/// Looks into the disk that the parent serves at standard input, and answers there. For a program that was started with
/// [`WORKER`](super::WORKER), before it does anything else: the process is confined by it.
#[must_use]
pub fn run_worker() -> ExitCode {
    run_worker_after(|| ())
}

/// Does the same, and `first` where disks are looked into: what a test does there shows what a worker may do.
#[doc(hidden)]
#[must_use]
pub fn run_worker_after(first: impl FnOnce()) -> ExitCode {
    // An error means that nobody is there to hear of it.
    serve(first).map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS)
}

fn serve(first: impl FnOnce()) -> io::Result<()> {
    panic::set_hook(Box::new(|told| *PANIC.lock().unwrap_or_else(PoisonError::into_inner) = told.to_string()));
    match confine() {
        Ok(has_landlock) => send(&mut Parent, Tag::Ready, has_landlock.into(), &[])?,
        Err(why) => return send(&mut Parent, Tag::Unavailable, 0, why.as_bytes()),
    }
    let head = Head::read(&mut Parent)?;
    if head.tag != Tag::Request {
        return Err(broken("no request"));
    }
    let request = decode(&head.body(&mut Parent)?)?;
    let disk: Arc<dyn Source> = Arc::new(ServedDisk { len: head.number });
    match request {
        Request::Inspect(extras) => answer(first, || inspect_with(disk, extras)),
        Request::Plan(choice) => answer(first, || plan(disk, &choice)),
    }
}

fn answer<T: Serialize>(first: impl FnOnce(), look: impl FnOnce() -> Result<T>) -> io::Result<()> {
    let looked = catch_unwind(AssertUnwindSafe(|| {
        first();
        look()
    }));
    let outcome = match looked {
        Ok(Ok(found)) => Outcome::Done(found),
        Ok(Err(error)) => Outcome::Failed(Fault::from(&error)),
        Err(_) => Outcome::Panicked(PANIC.lock().unwrap_or_else(PoisonError::into_inner).clone()),
    };
    send(&mut Parent, Tag::Answer, 0, &encode(&outcome)?)
}

/// The socket to the parent.
struct Parent;

impl Read for Parent {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::read(stdin(), buf)?)
    }
}

impl Write for Parent {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::write(stdin(), buf)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The disk, read by asking the parent. Nothing else speaks meanwhile: a worker has one thread, and can make no other.
struct ServedDisk {
    len: u64,
}

impl Source for ServedDisk {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        check_range(self.len, offset, buf.len())?;
        let gone = |error| Error::io("ask the parent for bytes of the disk", error);
        let mut at = offset;
        for piece in buf.chunks_mut(READ_MAX) {
            ask(piece, at).map_err(gone)?.map_or(Ok(()), Err)?;
            at += piece.len() as u64;
        }
        Ok(())
    }
}

/// Fills `piece` from `offset` of the disk, or returns why the parent could not.
fn ask(piece: &mut [u8], offset: u64) -> io::Result<Option<Error>> {
    Parent.write_all(&Head::new(Tag::Read, offset, piece.len())?.to_bytes())?;
    let head = Head::read(&mut Parent)?;
    match head.tag {
        Tag::Bytes if head.length as usize == piece.len() => Parent.read_exact(piece).map(|()| None),
        Tag::Failed => Ok(Some(decode::<Fault>(&head.body(&mut Parent)?)?.into_error())),
        _ => Err(broken("an answer that was not asked for")),
    }
}
