//! A pipe from blocking work that makes a file in order to a content that is written by async code.
//!
//! ```text
//!   disk::Stream, disk::Unpacker --write--> Pipe ==a few pieces==> Sink --> chunks::Writer
//! ```
//! Whichever end stops, the other one does: a maker whose pieces nobody takes fails at its next write.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::blocking::run_step;
use crate::error::{Error, Result};

/// Bytes that cross the pipe at once.
const PIECE: usize = 512 << 10;
/// Pieces that wait in the pipe; memory is bounded by them.
const PIECES: usize = 4;

/// The end of the pipe that blocking work writes to.
pub(crate) struct Pipe {
    pieces: mpsc::Sender<Bytes>,
    piece: Vec<u8>,
    done: Arc<Done>,
}

/// How far the work is, in bytes of whatever it counts.
#[derive(Default)]
pub(crate) struct Done {
    done: AtomicU64,
    total: AtomicU64,
}

impl Done {
    /// Tells how far the work is; heard when the next piece comes out of the pipe.
    pub(crate) fn tell(&self, done: u64, total: u64) {
        self.done.store(done, Ordering::Relaxed);
        self.total.store(total, Ordering::Relaxed);
    }
}

impl Pipe {
    /// Returns where the work tells how far it is.
    pub(crate) fn done(&self) -> Arc<Done> {
        Arc::clone(&self.done)
    }

    fn send(&mut self) -> io::Result<()> {
        let piece = Bytes::from(std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE)));
        // Not `Interrupted`, which asks to be tried again.
        self.pieces.blocking_send(piece).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(PIECE - self.piece.len());
        self.piece.extend_from_slice(&bytes[..count]);
        if self.piece.len() == PIECE {
            self.send()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() { Ok(()) } else { self.send() }
    }
}

/// Where the bytes of a pipe go: to a content, but for the first few, which stay in memory.
pub(crate) struct Sink {
    pub(crate) writer: chunks::Writer,
    /// The bytes that stay.
    pub(crate) first: Vec<u8>,
    /// How many these are; at most a chunk.
    keep: usize,
}

impl Sink {
    /// Makes a sink that writes to `writer` all but the first `keep` bytes.
    pub(crate) fn new(writer: chunks::Writer, keep: usize) -> Self {
        Self { writer, first: Vec::new(), keep }
    }

    async fn take(&mut self, mut bytes: Bytes) -> Result<()> {
        let missing = self.keep - self.first.len();
        self.first.extend_from_slice(&bytes.split_to(missing.min(bytes.len())));
        if !bytes.is_empty() {
            self.writer.write(bytes).await?;
        }
        Ok(())
    }
}

/// Runs `make` on a thread that may block, and takes what it writes into `sink`. `progress` hears how far the work is and
/// answers whether to go on; `false` ends it with `None`.
pub(crate) async fn pour<T: Send + 'static>(
    sink: &mut Sink,
    make: impl FnOnce(&mut Pipe) -> disk::Result<T> + Send + 'static,
    mut progress: impl FnMut(u64, u64) -> bool + Send,
) -> Result<Option<T>> {
    let (send, mut pieces) = mpsc::channel(PIECES);
    let done = Arc::<Done>::default();
    let mut pipe = Pipe { pieces: send, piece: Vec::with_capacity(PIECE), done: Arc::clone(&done) };
    let making = run_step(move || {
        let made = make(&mut pipe)?;
        pipe.flush().map_err(|error| disk::Error::io("pass the last bytes on", error))?;
        Ok::<T, disk::Error>(made)
    });
    let mut on = move || progress(done.done.load(Ordering::Relaxed), done.total.load(Ordering::Relaxed));
    let taking = async move {
        while let Some(piece) = pieces.recv().await {
            sink.take(piece).await?;
            if !on() {
                return Ok(false);
            }
        }
        Ok::<_, Error>(on())
    };
    let (made, taken) = tokio::join!(making, taking);
    // When the bytes were not taken any more, what the work says of it is only that.
    if !taken? {
        return Ok(None);
    }
    Ok(Some(made??))
}
