//! A connection of either kind, plain or in TLS, and reading from it with a limit of time that counts for a whole message.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::ops::Range;
use std::os::unix::net::UnixStream;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::net::sockopt;

use crate::tls::{Session, Tls};

/// After so long a silence the host of a client is asked whether it is there, and again after each such time.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// Sealed bytes that are taken from a socket at once.
const SEALED: usize = 16 << 10;

/// A socket that leads to a client.
#[derive(Debug)]
pub(crate) enum Socket {
    Unix(UnixStream),
    Tcp(TcpStream),
}

/// A connection to a client.
#[derive(Debug)]
pub(crate) struct Stream {
    socket: Socket,
    tls: OnceLock<Session>,
}

impl Stream {
    pub(crate) fn new(socket: Socket) -> Self {
        Self { socket, tls: OnceLock::new() }
    }

    /// Lets all bytes from now on, of either side, be those of TLS. Done once for a connection.
    pub(crate) fn start_tls(&self, tls: &Tls) -> io::Result<()> {
        let session = Session::new(tls)?;
        self.tls.set(session).map_err(|_| io::Error::other("the connection has TLS already"))
    }

    pub(crate) fn prepare(&self, limit: Duration) -> io::Result<()> {
        self.socket.prepare(limit)
    }

    pub(crate) fn shutdown(&self, how: Shutdown) {
        self.socket.shutdown(how);
    }

    /// Tells the client that nothing more will come, where that can be told.
    pub(crate) fn say_goodbye(&self) {
        if let Some(session) = self.tls.get() {
            // A client that has gone does not miss it.
            let _ = session.close(&self.socket);
        }
    }
}

impl Socket {
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

impl Read for &Socket {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Unix(stream) => (&mut &*stream).read(buf),
            Socket::Tcp(stream) => (&mut &*stream).read(buf),
        }
    }
}

impl Write for &Socket {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Unix(stream) => (&mut &*stream).write(buf),
            Socket::Tcp(stream) => (&mut &*stream).write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Write for &Stream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self.tls.get() {
            Some(session) => session.write(buf, &self.socket),
            None => (&self.socket).write(buf),
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
    /// Bytes of TLS that were taken from the socket, and which of them were not opened yet.
    sealed: Box<[u8]>,
    unopened: Range<usize>,
}

impl<'a> Incoming<'a> {
    pub(crate) fn new(stream: &'a Stream) -> Self {
        Self { stream, deadline: None, limited: false, sealed: Box::default(), unopened: 0..0 }
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
                self.stream.socket.set_read_timeout(None)?;
                self.limited = false;
            }
            return Ok(());
        };
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.stream.socket.set_read_timeout(Some(left))?;
        self.limited = true;
        Ok(())
    }
}

impl Incoming<'_> {
    fn read_socket(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.set_limit()?;
        (&mut &self.stream.socket).read(buf)
    }

    /// Takes sealed bytes from the socket; returns whether there were any.
    fn read_sealed(&mut self) -> io::Result<bool> {
        let mut sealed = std::mem::take(&mut self.sealed);
        if sealed.is_empty() {
            sealed = vec![0; SEALED].into();
        }
        let length = self.read_socket(&mut sealed);
        self.sealed = sealed;
        self.unopened = 0..length?;
        Ok(!self.unopened.is_empty())
    }
}

impl Read for Incoming<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let Some(session) = self.stream.tls.get() else { return self.read_socket(buf) };
        loop {
            if let Some(length) = session.read(buf)? {
                return Ok(length);
            }
            if self.unopened.is_empty() && !self.read_sealed()? {
                // Messages say how long they are, so an end that TLS does not vouch for is an end as any other.
                return Ok(0);
            }
            let mut rest = &self.sealed[self.unopened.clone()];
            session.open(&mut rest, &self.stream.socket)?;
            self.unopened.start = self.unopened.end - rest.len();
        }
    }
}
