//! One connection: the handshake, then a thread that takes commands and some that carry them out.

use std::io::{self, BufRead, BufReader, Read};
use std::net::Shutdown;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use crate::commands::{REQUEST_LENGTH, Request, answer};
use crate::exports::Resolve;
use crate::handshake::handshake;
use crate::limits::Limits;
use crate::options::Agreed;
use crate::protocol::{BLOCK_MAX, CMD_DISC, CMD_WRITE};
use crate::replies::Replies;
use crate::stream::{Incoming, Stream};
use crate::tls::Tls;

/// Commands that wait for a worker; the client waits when there are as many.
const QUEUE: usize = 16;

type Reader<'a> = BufReader<Incoming<'a>>;

/// Serves a client until it goes, breaks the protocol, or is too slow.
pub(crate) fn serve(stream: &Stream, exports: &dyn Resolve, tls: Option<&Tls>, limits: &Limits) -> io::Result<()> {
    stream.prepare(limits.message)?;
    let mut reader = BufReader::new(Incoming::new(stream));
    reader.get_mut().within(limits.handshake);
    let Some(agreed) = handshake(&mut reader, stream, exports, tls)? else { return Ok(()) };
    let (agreed, replies) = (&agreed, &Replies::new(stream, agreed.structured));
    let (queue, commands) = sync_channel(QUEUE);
    // The workers own this end of the queue, so that it closes when none of them is left.
    let commands = Arc::new(Mutex::new(commands));
    thread::scope(|scope| {
        for _ in 0..limits.workers.max(1) {
            let commands = Arc::clone(&commands);
            let worker = move || work(stream, &commands, agreed, replies);
            thread::Builder::new().name("nbd worker".to_owned()).spawn_scoped(scope, worker)?;
        }
        drop(commands);
        let taken = take_commands(&mut reader, &queue, limits);
        // The scope waits for the workers, which end when nothing more can come.
        drop(queue);
        taken
    })
}

/// Takes commands from the client until it ends the connection, and gives them to the workers.
fn take_commands(reader: &mut Reader<'_>, queue: &SyncSender<Request>, limits: &Limits) -> io::Result<()> {
    loop {
        // A client may be silent for days, but not in the middle of a command.
        reader.get_mut().unlimited();
        if reader.fill_buf()?.is_empty() {
            return Ok(());
        }
        reader.get_mut().within(limits.message);
        let mut bytes = [0; REQUEST_LENGTH];
        reader.read_exact(&mut bytes)?;
        let broken = |sentence| io::Error::new(io::ErrorKind::InvalidData, sentence);
        let request =
            Request::decode(&bytes).ok_or_else(|| broken("a command does not begin with its magic number"))?;
        match request.command {
            CMD_DISC => return Ok(()),
            // It will be refused; its data must be passed over to find the next command.
            CMD_WRITE if request.length > BLOCK_MAX => return Err(broken("the data of a write are too long")),
            CMD_WRITE => {
                let length = u64::from(request.length);
                if io::copy(&mut reader.by_ref().take(length), &mut io::sink())? < length {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            _ => {}
        }
        if queue.send(request).is_err() {
            return Ok(());
        }
    }
}

/// Carries out commands until there will be no more.
fn work(stream: &Stream, commands: &Mutex<Receiver<Request>>, agreed: &Agreed, replies: &Replies<&Stream>) {
    // If a disk panics, a command is left without reply, and the client must not wait for it.
    let _end = EndOnPanic(stream);
    let mut buffer = Vec::new();
    loop {
        let command = commands.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(request) = command else { return };
        if answer(&request, agreed, replies, &mut buffer).is_err() {
            stream.shutdown(Shutdown::Both);
            return;
        }
    }
}

struct EndOnPanic<'a>(&'a Stream);

impl Drop for EndOnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.shutdown(Shutdown::Both);
        }
    }
}
