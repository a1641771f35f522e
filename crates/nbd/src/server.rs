//! The server: it listens, gives each client a thread, and ends them all when it is stopped.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::io;
use std::net::{Shutdown, TcpListener};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::address::Address;
use crate::connection;
use crate::exports::Resolve;
use crate::limits::Limits;
use crate::stream::{Socket, Stream};
use crate::tls::Tls;

/// How long is waited after a client could not be accepted, for example because there are too many open files.
const PAUSE: Duration = Duration::from_millis(50);

/// Clients that wait to be accepted, as the standard library has it.
const BACKLOG: i32 = 128;

/// A server that listens and does not serve yet. It is stopped when it is dropped.
pub struct Server {
    address: Address,
    exports: Arc<dyn Resolve>,
    tls: Option<Tls>,
    limits: Limits,
    shared: Arc<Shared>,
}

/// Stops a server, from any thread; it does nothing once the server is gone.
#[derive(Debug, Clone)]
pub struct Stop(Weak<Shared>);

#[derive(Debug)]
struct Shared {
    listener: Listener,
    connections: Mutex<Connections>,
    closed: Condvar,
}

#[derive(Debug, Default)]
struct Connections {
    stopped: bool,
    next: u64,
    open: HashMap<u64, Arc<Stream>>,
}

impl Server {
    /// Listens at `address`. A socket of the file system must not be there yet, can be used by its owner alone, and is
    /// removed by the stop.
    pub fn bind(address: &Address, exports: impl Resolve + 'static, limits: Limits) -> io::Result<Self> {
        let (listener, address) = Listener::bind(address)?;
        let shared = Shared { listener, connections: Mutex::default(), closed: Condvar::new() };
        Ok(Self { address, exports: Arc::new(exports), tls: None, limits, shared: Arc::new(shared) })
    }

    /// Lets it serve through TLS only.
    #[must_use]
    pub fn with_tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Returns the URI of the export called `export`, or of the default one if that is empty.
    #[must_use]
    pub fn uri(&self, export: &str) -> String {
        let uri = self.address.uri(export);
        if self.tls.is_some() { uri.replacen("nbd", "nbds", 1) } else { uri }
    }

    /// Returns where it listens: the port that was found, if any was wanted.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Returns what stops it.
    #[must_use]
    pub fn stopper(&self) -> Stop {
        Stop(Arc::downgrade(&self.shared))
    }

    /// Serves clients until it is stopped, which is no error. Faults of one client end its connection only.
    pub fn serve(self) -> io::Result<()> {
        let result = self.accept();
        self.shared.stop();
        self.shared.wait(self.limits.grace);
        result
    }

    fn accept(&self) -> io::Result<()> {
        loop {
            let stream = match self.shared.listener.accept() {
                Ok(stream) => stream,
                Err(_) if self.shared.lock().stopped => return Ok(()),
                Err(error) => match Errno::from_io_error(&error) {
                    // These are about the listener; all others are about the client or pass.
                    Some(Errno::BADF | Errno::INVAL | Errno::NOTSOCK | Errno::OPNOTSUPP) => return Err(error),
                    _ => {
                        thread::sleep(PAUSE);
                        continue;
                    }
                },
            };
            let Some(connection) = Connection::open(&self.shared, stream, self.limits.connections) else { continue };
            let (exports, tls, limits) = (Arc::clone(&self.exports), self.tls.clone(), self.limits);
            // If no thread can be had, the connection is closed, which its drop does.
            let _ = thread::Builder::new().name("nbd client".to_owned()).spawn(move || {
                // What was wrong with a client is its own affair.
                let _ = connection::serve(&connection.stream, &*exports, tls.as_ref(), &limits);
                connection.stream.say_goodbye();
            });
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("address", &self.address).field("tls", &self.tls).finish_non_exhaustive()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stop();
    }
}

impl Stop {
    /// Lets the server take no more clients and commands; those that it took are carried out. Returns at once.
    pub fn stop(&self) {
        if let Some(shared) = self.0.upgrade() {
            shared.stop();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Connections> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stop(&self) {
        let mut connections = self.lock();
        if !connections.stopped {
            connections.stopped = true;
            connections.open.values().for_each(|stream| stream.shutdown(Shutdown::Read));
            self.listener.end();
        }
    }

    /// Waits until all connections have ended; those that take longer than `grace` are cut.
    fn wait(&self, grace: Duration) {
        for _ in 0..2 {
            let connections = self.lock();
            let (connections, _) = self
                .closed
                .wait_timeout_while(connections, grace, |connections| !connections.open.is_empty())
                .unwrap_or_else(PoisonError::into_inner);
            connections.open.values().for_each(|stream| stream.shutdown(Shutdown::Both));
        }
    }
}

/// A connection in the list of a server, as long as this is there.
struct Connection {
    shared: Arc<Shared>,
    number: u64,
    stream: Arc<Stream>,
}

impl Connection {
    /// Enters `stream` into the list, unless there are `most` already or the server was stopped.
    fn open(shared: &Arc<Shared>, stream: Stream, most: usize) -> Option<Self> {
        let mut connections = shared.lock();
        if connections.stopped || connections.open.len() >= most {
            return None;
        }
        let (number, stream) = (connections.next, Arc::new(stream));
        connections.next += 1;
        connections.open.insert(number, Arc::clone(&stream));
        Some(Self { shared: Arc::clone(shared), number, stream })
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.shared.lock().open.remove(&self.number);
        self.shared.closed.notify_all();
    }
}

#[derive(Debug)]
enum Listener {
    Unix(UnixListener, PathBuf),
    Tcp(TcpListener),
}

impl Listener {
    fn bind(address: &Address) -> io::Result<(Self, Address)> {
        match address {
            Address::Unix(path) => Ok((Self::Unix(bind_socket(path)?, path.clone()), Address::Unix(path.clone()))),
            Address::Tcp(address) => {
                let listener = TcpListener::bind(address)?;
                let address = Address::Tcp(listener.local_addr()?);
                Ok((Self::Tcp(listener), address))
            }
        }
    }

    fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Unix(listener, _) => listener.accept().map(|(stream, _)| Stream::new(Socket::Unix(stream))),
            Self::Tcp(listener) => listener.accept().map(|(stream, _)| Stream::new(Socket::Tcp(stream))),
        }
    }

    /// Lets [`Listener::accept`] fail, also where it waits already (Linux wakes it with EINVAL), and removes the socket from
    /// the file system. This is done once, as another server may take the place.
    fn end(&self) {
        let descriptor = match self {
            Self::Unix(listener, path) => {
                // It may have been removed by others.
                let _ = fs::remove_file(path);
                listener.as_fd()
            }
            Self::Tcp(listener) => listener.as_fd(),
        };
        // Cannot fail for a socket that listens.
        let _ = rustix::net::shutdown(descriptor, rustix::net::Shutdown::Both);
    }
}

/// Listens at a socket of the file system that nobody but its owner can use from its first moment on.
fn bind_socket(path: &Path) -> io::Result<UnixListener> {
    let invalid = |why| io::Error::new(io::ErrorKind::InvalidInput, why);
    let name = path.file_name().ok_or_else(|| invalid("the path of a socket ends with its name"))?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // The kernel takes about a hundred bytes for the place of a socket, and the path of its folder may be longer.
    let folder = rustix::fs::open(folder, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let place = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name);
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // Before it has a place, as afterwards would be too late. Linux gives the file this mode.
    rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(&place)?)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket.into())
}
