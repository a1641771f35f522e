//! An HTTP server of one file, as any web server or bucket gives it out: whole, or ranges of it.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Gives one file out under any path, for as long as the test runs.
pub struct FileServer {
    /// Where it listens, as `http://HOST:PORT`.
    pub address: String,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    requests: AtomicU64,
    bytes: AtomicU64,
}

impl FileServer {
    /// Starts a server of the file at `path`; without `ranges`, it sends the whole file whatever is asked for.
    #[must_use]
    pub fn start(path: &Path, ranges: bool) -> Self {
        let file = Arc::new(File::open(path).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let counts = Arc::new(Counts::default());
        let counted = Arc::clone(&counts);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (file, counts) = (Arc::clone(&file), Arc::clone(&counted));
                std::thread::spawn(move || client.map(|client| serve(&client, &file, ranges, &counts)));
            }
        });
        Self { address, counts }
    }

    /// Returns how many requests were answered.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.counts.requests.load(Ordering::SeqCst)
    }

    /// Returns how many bytes of the file were sent.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.counts.bytes.load(Ordering::SeqCst)
    }
}

/// Answers the requests of one connection, one after the other.
fn serve(mut client: &TcpStream, file: &File, ranges: bool, counts: &Counts) {
    let mut lines = BufReader::new(client).lines().map_while(Result::ok);
    while let Some(_request) = lines.next().filter(|line| !line.is_empty()) {
        let length = file.metadata().unwrap().len();
        let headers: Vec<String> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
        let asked = headers.iter().find_map(|line| {
            let line = line.to_ascii_lowercase();
            let (start, last) = line.strip_prefix("range: bytes=")?.split_once('-')?;
            Some((start.parse().ok()?, last.parse::<u64>().ok()?.min(length - 1)))
        });
        let (start, last, status) = match asked.filter(|_| ranges) {
            Some((start, last)) => {
                (start, last, format!("206 Partial Content\r\nContent-Range: bytes {start}-{last}/{length}"))
            }
            None => (0, length - 1, "200 OK".to_owned()),
        };
        let mut body = vec![0; (last + 1 - start) as usize];
        file.read_exact_at(&mut body, start).unwrap();
        let head = format!("HTTP/1.1 {status}\r\nETag: \"1\"\r\nContent-Length: {}\r\n\r\n", body.len());
        counts.requests.fetch_add(1, Ordering::SeqCst);
        counts.bytes.fetch_add(body.len() as u64, Ordering::SeqCst);
        // The client may have had enough.
        if client.write_all(&[head.as_bytes(), &body].concat()).is_err() {
            return;
        }
    }
}
