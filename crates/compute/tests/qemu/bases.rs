//! The bases of the tests' servers, served over NBD at a socket of their own.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use compute::Base;
use disk::{Extent, Source};
use nbd::{Address, Export, Limits, Refusal, Resolve, Server, Stop};

pub(crate) struct Bases {
    socket: PathBuf,
    served: Arc<Served>,
    server: Mutex<Option<(Stop, JoinHandle<()>)>>,
}

#[derive(Default)]
struct Served(Mutex<HashMap<String, Arc<dyn Source>>>);

impl Resolve for Served {
    fn find(&self, name: &str) -> Result<Export, Refusal> {
        let disk = self.0.lock().unwrap().get(name).cloned().ok_or(Refusal::Unknown)?;
        Ok(Export { name: name.to_owned(), description: String::new(), disk })
    }
}

impl Bases {
    pub(crate) fn serve(socket: PathBuf) -> Self {
        let bases = Self { socket, served: Arc::default(), server: Mutex::default() };
        bases.come_back();
        bases
    }

    /// Adds a base, and tells where it is served.
    pub(crate) fn add(&self, export: &str, disk: impl Source + 'static) -> Base {
        self.served.0.lock().unwrap().insert(export.to_owned(), Arc::new(disk));
        Base { socket: self.socket.clone(), export: export.to_owned() }
    }

    /// Ends the server, as the death of Molde does; its connections are cut.
    pub(crate) fn go_away(&self) {
        let (stop, thread) = self.server.lock().unwrap().take().unwrap();
        stop.stop();
        thread.join().unwrap();
    }

    /// Serves again at the same place.
    pub(crate) fn come_back(&self) {
        let limits = Limits { grace: Duration::from_millis(50), ..Limits::default() };
        let server = Server::bind(&Address::Unix(self.socket.clone()), Arc::clone(&self.served), limits).unwrap();
        let stop = server.stopper();
        let thread = std::thread::spawn(move || server.serve().unwrap());
        *self.server.lock().unwrap() = Some((stop, thread));
    }
}

impl Drop for Bases {
    fn drop(&mut self) {
        if let Some((stop, _)) = &*self.server.lock().unwrap() {
            stop.stop();
        }
    }
}

/// A disk of which one byte cannot be read, at least for some time.
pub(crate) struct Troubled {
    pub(crate) bytes: Vec<u8>,
    pub(crate) byte: u64,
    pub(crate) trouble: Arc<Trouble>,
}

/// What happens to reads of the byte.
#[derive(Default)]
pub(crate) struct Trouble {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default, Clone, Copy)]
struct State {
    /// They wait instead of failing.
    waits: bool,
    over: bool,
    asked: bool,
}

impl Trouble {
    /// Lets reads wait.
    pub(crate) fn waiting() -> Arc<Self> {
        let trouble = Arc::<Self>::default();
        trouble.state.lock().unwrap().waits = true;
        trouble
    }

    /// Returns whether the byte was asked for.
    pub(crate) fn was_met(&self) -> bool {
        self.state.lock().unwrap().asked
    }

    /// Lets reads succeed.
    pub(crate) fn end(&self) {
        self.state.lock().unwrap().over = true;
        self.changed.notify_all();
    }
}

impl Source for Troubled {
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> disk::Result<()> {
        if (offset..offset + buf.len() as u64).contains(&self.byte) {
            let mut state = self.trouble.state.lock().unwrap();
            state.asked = true;
            while state.waits && !state.over {
                state = self.trouble.changed.wait(state).unwrap();
            }
            if !state.over {
                return Err(disk::Error::io("read the byte", std::io::Error::from_raw_os_error(5)));
            }
        }
        self.bytes.read_at(buf, offset)
    }

    fn extent_at(&self, offset: u64) -> disk::Result<Extent> {
        self.bytes.extent_at(offset)
    }
}
