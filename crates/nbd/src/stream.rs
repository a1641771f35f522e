//! A connection of either kind, and reading from it with a limit of time that counts for a whole message.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::net::sockopt;

/// After so long a silence the host of a client is asked whether it is there, and again after each such time.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// A connection to a client.
#[derive(Debug)]
pub(crate) enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Stream {
    /// Lets a write fail after `limit` in which the client takes nothing, small replies leave at once, and a silent
    /// client whose host is gone be noticed.
    pub(crate) fn prepare(&self, limit: Duration) -> io::Result<()> {
        match self {
            Self::Unix(stream) => stream.set_write_timeout(Some(limit)),
            Self::Tcp(stream) => {
                stream.set_write_timeout(Some(limit))?;
                stream.set_nodelay(true)?;
                sockopt::set_socket_keepalive(stream, true)?;
                sockopt::set_tcp_keepidle(stream, KEEPALIVE)?;
                sockopt::set_tcp_keepintvl(stream, KEEPALIVE)?;
                Ok(())
            }
        }
    }

    pub(crate) fn shutdown(&self, how: Shutdown) {
        // Fails only if the client has gone, which is what is wanted.
        let _ = match self {
            Self::Unix(stream) => stream.shutdown(how),
            Self::Tcp(stream) => stream.shutdown(how),
        };
    }

    fn set_read_timeout(&self, limit: Option<Duration>) -> io::Result<()> {
        match self {
            Self::Unix(stream) => stream.set_read_timeout(limit),
            Self::Tcp(stream) => stream.set_read_timeout(limit),
        }
    }
}

impl Read for &Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Unix(stream) => (&mut &*stream).read(buf),
            Stream::Tcp(stream) => (&mut &*stream).read(buf),
        }
    }
}

impl Write for &Stream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Unix(stream) => (&mut &*stream).write(buf),
            Stream::Tcp(stream) => (&mut &*stream).write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a client sends.
///
/// A limit for each read would let a client send a byte from time to time for ever, so the limit is a point in time.
pub(crate) struct Incoming<'a> {
    stream: &'a Stream,
    deadline: Option<Instant>,
    /// Whether the socket has a time limit now.
    limited: bool,
}

impl<'a> Incoming<'a> {
    pub(crate) fn new(stream: &'a Stream) -> Self {
        Self { stream, deadline: None, limited: false }
    }

    /// Lets reads wait for ever.
    pub(crate) fn unlimited(&mut self) {
        self.deadline = None;
    }

    /// Lets reads fail when `limit` is over, counted from now.
    pub(crate) fn within(&mut self, limit: Duration) {
        self.deadline = Instant::now().checked_add(limit);
    }

    fn set_limit(&mut self) -> io::Result<()> {
        let Some(deadline) = self.deadline else {
            if self.limited {
                self.stream.set_read_timeout(None)?;
                self.limited = false;
            }
            return Ok(());
        };
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.stream.set_read_timeout(Some(left))?;
        self.limited = true;
        Ok(())
    }
}

impl Read for Incoming<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.set_limit()?;
        (&mut &*self.stream).read(buf)
    }
}
