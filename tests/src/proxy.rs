//! A door before a server that counts what goes through it.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// Passes connections on to a server, for as long as the test runs.
pub struct Proxy {
    /// Where it listens, as `http://HOST:PORT`.
    pub address: String,
    sent: Arc<AtomicU64>,
    target: Arc<Mutex<String>>,
}

impl Proxy {
    /// Starts a proxy before the server at `address`, which is `http://HOST:PORT`.
    #[must_use]
    pub fn start(address: &str) -> Self {
        Self::start_hiding(address, None)
    }

    /// Starts a proxy before the server at `address` that makes another word of the same length of every `word`, so that
    /// the server looks as if it did not know what that stands for.
    #[must_use]
    pub fn start_hiding(address: &str, word: Option<&'static str>) -> Self {
        let target = Arc::new(Mutex::new(host(address)));
        let now = Arc::clone(&target);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let sent = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&sent);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let target = now.lock().unwrap().clone();
                let (Ok(client), Ok(server)) = (client, TcpStream::connect(target)) else { continue };
                let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                let counter = Arc::clone(&counter);
                std::thread::spawn(move || pass(from, to, &counter, word));
                std::thread::spawn(move || pass(server, client, &AtomicU64::new(0), None));
            }
        });
        Self { address, sent, target }
    }

    /// Passes new connections on to a server elsewhere.
    pub fn lead_to(&self, address: &str) {
        *self.target.lock().unwrap() = host(address);
    }

    /// Whether every client has gone and all that it sent is passed on.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        // One is held here, one by the thread that listens, and one for each connection.
        Arc::strong_count(&self.sent) == 2
    }

    /// Returns how many bytes clients have sent.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

fn host(address: &str) -> String {
    address.strip_prefix("http://").unwrap().to_owned()
}

/// Passes bytes on until one side ends, then ends the other; `hidden` does not get through where it arrives in one piece.
fn pass(mut from: TcpStream, mut to: TcpStream, counter: &AtomicU64, hidden: Option<&str>) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if let Some(word) = hidden
            && let Some(at) = buffer[..count].windows(word.len()).position(|found| found == word.as_bytes())
        {
            buffer[at..at + word.len()].fill(b'x');
        }
        counter.fetch_add(count as u64, Ordering::Relaxed);
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    to.shutdown(Shutdown::Write).ok();
    from.shutdown(Shutdown::Read).ok();
}
