//! A mirror of files over HTTP, as distributions are fetched from, and the faults that a mirror may have.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// Gives out the files below a folder, for as long as the test runs.
pub struct Mirror {
    /// Where it listens, as `http://HOST:PORT`.
    pub address: String,
    folder: PathBuf,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    asked: Vec<String>,
    /// After how many bytes an answer is cut, and how often still.
    cuts: BTreeMap<String, (usize, u32)>,
    redirects: BTreeMap<String, String>,
    no_ranges: bool,
}

impl Mirror {
    /// Starts a mirror of `folder`, which is made.
    #[must_use]
    pub fn start(folder: &Path) -> Self {
        fs::create_dir_all(folder).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let mirror = Self { address, folder: folder.to_owned(), state: Arc::default() };
        let (folder, state) = (mirror.folder.clone(), Arc::clone(&mirror.state));
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (folder, state) = (folder.clone(), Arc::clone(&state));
                std::thread::spawn(move || client.map(|client| serve(&client, &folder, &state)));
            }
        });
        mirror
    }

    /// Puts a file at `path`, which begins with no slash.
    pub fn put(&self, path: &str, bytes: impl AsRef<[u8]>) {
        let file = self.folder.join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, bytes).unwrap();
    }

    /// Takes a file away.
    pub fn remove(&self, path: &str) {
        fs::remove_file(self.folder.join(path)).unwrap();
    }

    /// Ends the next `times` answers for `path` after `bytes` bytes of it.
    pub fn cut(&self, path: &str, bytes: usize, times: u32) {
        self.state.lock().unwrap().cuts.insert(path.to_owned(), (bytes, times));
    }

    /// Leads who asks for `path` to `to`.
    pub fn redirect(&self, path: &str, to: &str) {
        self.state.lock().unwrap().redirects.insert(path.to_owned(), to.to_owned());
    }

    /// Sends whole files from now on, whatever range is asked for.
    pub fn forget_ranges(&self) {
        self.state.lock().unwrap().no_ranges = true;
    }

    /// Returns what was asked for since this was asked last, each as `PATH` or `PATH RANGE`.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().unwrap().asked)
    }
}

/// Answers the requests of one connection, one after the other.
fn serve(mut client: &TcpStream, folder: &Path, state: &Mutex<State>) {
    let mut lines = BufReader::new(client).lines().map_while(Result::ok);
    while let Some(request) = lines.next().filter(|line| !line.is_empty()) {
        let headers: Vec<String> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
        let path = request.split(' ').nth(1).unwrap_or_default().trim_start_matches('/').to_owned();
        let from = headers.iter().find_map(|line| {
            line.to_ascii_lowercase().strip_prefix("range: bytes=")?.strip_suffix('-')?.parse::<usize>().ok()
        });
        let (answer, cut) = answer(folder, &path, from, &mut state.lock().unwrap());
        // The client may have had enough.
        if client.write_all(&answer).is_err() || cut {
            return;
        }
    }
}

/// Returns an answer, and whether the connection ends with it.
fn answer(folder: &Path, path: &str, from: Option<usize>, state: &mut State) -> (Vec<u8>, bool) {
    let range = from.map(|from| format!(" {from}-")).unwrap_or_default();
    state.asked.push(format!("{path}{range}"));
    if let Some(to) = state.redirects.get(path) {
        let head = format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n");
        return (head.into_bytes(), false);
    }
    let Some(body) = body(&folder.join(path)) else {
        return (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec(), false);
    };
    let (from, status) = match from.filter(|from| *from < body.len() && !state.no_ranges) {
        None => (0, "200 OK".to_owned()),
        Some(from) => {
            let (last, length) = (body.len() - 1, body.len());
            (from, format!("206 Partial Content\r\nContent-Range: bytes {from}-{last}/{length}"))
        }
    };
    let mut answer = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", body.len() - from).into_bytes();
    match state.cuts.get_mut(path) {
        Some((bytes, times)) if *times > 0 => {
            *times -= 1;
            answer.extend_from_slice(&body[from..(from + *bytes).min(body.len())]);
            (answer, true)
        }
        _ => {
            answer.extend_from_slice(&body[from..]);
            (answer, false)
        }
    }
}

/// A file, or what a web server shows of a folder.
fn body(path: &Path) -> Option<Vec<u8>> {
    if !path.is_dir() {
        return fs::read(path).ok();
    }
    let names = fs::read_dir(path).ok()?.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let links: String = names.map(|name| format!("<a href=\"{name}\">{name}</a>\n")).collect();
    Some(format!("<html><a href=\"../\">..</a>\n{links}</html>").into_bytes())
}
