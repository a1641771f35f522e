//! Servers that behave and servers that do not, each of a few lines.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::*;

/// A request as it came: the path with its query, the range, and all header lines.
struct Request {
    path: String,
    range: Range<u64>,
    headers: Vec<String>,
}

impl Request {
    /// The answer of a server that knows ranges.
    fn part(&self, file: &[u8], version: &str) -> Vec<u8> {
        let length = file.len() as u64;
        if self.range.start >= length {
            return answer(&format!("416 No\r\nContent-Range: bytes */{length}"), &[]);
        }
        let range = self.range.start..self.range.end.min(length);
        let head = format!(
            "206 Part\r\nContent-Range: bytes {}-{}/{length}\r\nETag: {version}\r\nLast-Modified: today",
            range.start,
            range.end - 1
        );
        answer(&head, &file[range.start as usize..range.end as usize])
    }
}

fn answer(head: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// Answers requests by a function that is told their number, for as long as the test runs.
struct Server {
    address: String,
    requests: Arc<AtomicUsize>,
}

impl Server {
    fn start(respond: impl Fn(usize, &Request) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(AtomicUsize::new(0));
        let (counter, respond) = (Arc::clone(&requests), Arc::new(respond));
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (respond, counter) = (Arc::clone(&respond), Arc::clone(&counter));
                std::thread::spawn(move || {
                    let Ok(mut client) = client else { return };
                    let request = read_request(&client);
                    let bytes = respond(counter.fetch_add(1, Ordering::SeqCst), &request);
                    // The other side may have gone away.
                    let _ = client.write_all(&bytes);
                    if bytes.is_empty() {
                        // No answer at all, until the client gives up.
                        let _ = std::io::copy(&mut client, &mut std::io::sink());
                    }
                });
            }
        });
        Self { address, requests }
    }

    fn url(&self, path: &str) -> Url {
        Url::parse(&format!("{}{path}", self.address)).unwrap()
    }

    fn open(&self) -> Result<Remote, Error> {
        Remote::open_within(self.url("/a/disk.raw?X-Amz-Signature=secret"), LIMITS)
    }

    /// Checks that the file cannot be opened, or not read to its end, in this way and without telling a secret.
    #[track_caller]
    fn fails(&self, kind: ErrorKind, says: &str) -> Error {
        let read = |remote: Remote| remote.read_at(&mut vec![0; remote.len() as usize], 0);
        let error = self.open().and_then(read).expect_err(says);
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(says), "{error} does not say {says:?}");
        let text = format!("{error} {:?}", error.hint());
        assert!(text.contains("/a/disk.raw") && !text.contains("secret"), "{text}");
        error
    }

    fn count(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

const LIMITS: Limits = Limits {
    connect: Duration::from_secs(10),
    silence: Duration::from_millis(300),
    answer: Duration::from_secs(10),
    tries: 3,
    pause: Duration::from_millis(1),
};

fn read_request(client: &TcpStream) -> Request {
    let mut lines = BufReader::new(client).lines().map(Result::unwrap_or_default);
    let first = lines.next().unwrap_or_default();
    let headers: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    let range = headers.iter().find_map(|line| {
        let (start, last) = line
            .to_ascii_lowercase()
            .strip_prefix("range: bytes=")?
            .split_once('-')
            .map(|(a, b)| (a.to_owned(), b.to_owned()))?;
        Some(start.parse().ok()?..last.parse::<u64>().ok()? + 1)
    });
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    Request { path, range: range.unwrap_or(0..u64::MAX), headers }
}

/// Bytes that differ from place to place.
fn file(length: usize) -> Vec<u8> {
    (0..length as u64)
        .flat_map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32).to_le_bytes())
        .take(length)
        .collect()
}

fn good(file: &[u8]) -> Server {
    let file = file.to_vec();
    Server::start(move |_, request| request.part(&file, "\"1\""))
}

#[test]
fn what_is_an_address() {
    let of = |text: &str| address(Path::new(text)).map(|url| url.to_string());
    assert_eq!(of("https://example.org/a?b"), Some("https://example.org/a?b".to_owned()));
    assert_eq!(of("HTTP://example.org"), Some("http://example.org/".to_owned()));
    for path in
        ["disk.raw", "-", "http:", "http:/x", "./http://x", "ftp://example.org/x", "file:///etc/passwd", "nbd://x"]
    {
        assert_eq!(of(path), None, "{path}");
    }
}

#[test]
fn any_range_by_many_threads_is_what_the_file_holds() {
    let expected = file((9 << 20) + 77);
    let server = good(&expected);
    let remote = server.open().unwrap();
    assert_eq!(remote.len(), expected.len() as u64);
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let (remote, expected) = (&remote, &expected);
            scope.spawn(move || {
                for number in 0..60_u64 {
                    let start = (number * 7919 + thread * 104_729) * 4093 % expected.len() as u64;
                    let length = (number * 31_337 % 300_000).min(expected.len() as u64 - start);
                    let mut bytes = vec![0; length as usize];
                    remote.read_at(&mut bytes, start).unwrap();
                    assert!(bytes == expected[start as usize..(start + length) as usize], "{length} bytes at {start}");
                }
            });
        }
    });
    assert!(remote.read_at(&mut [0; 2], remote.len() - 1).is_err());
}

/// Reading in order asks for long parts, and more than the memory holds goes through it.
#[test]
fn reading_in_order_takes_few_requests() {
    let expected = file(70 << 20);
    let server = good(&expected);
    let remote = server.open().unwrap();
    for (number, part) in expected.chunks(100_000).enumerate() {
        let mut bytes = vec![0; part.len()];
        remote.read_at(&mut bytes, number as u64 * 100_000).unwrap();
        assert!(bytes == part, "part {number}");
    }
    assert!(server.count() < 80, "{} requests for 70 MiB", server.count());
    assert!(remote.shared.lock().bytes <= MEMORY);
    // Reading here and there asks for short ones.
    let server = good(&expected);
    let remote = server.open().unwrap();
    for at in (1..30).rev() {
        remote.read_at(&mut [0; 512], at << 21).unwrap();
    }
    assert_eq!((server.count(), remote.shared.lock().bytes), (30, 30 * UNIT));
}

#[test]
fn every_request_is_for_the_same_version() {
    let content = file(1 << 20);
    for (version, expect) in [("\"1\"", "if-match: \"1\""), ("W/\"1\"", "if-unmodified-since: today")] {
        let (content, seen) = (content.clone(), Arc::new(Mutex::new(Vec::new())));
        let headers = Arc::clone(&seen);
        let server = Server::start(move |_, request| {
            headers.lock().unwrap().push(request.headers.clone());
            request.part(&content, version)
        });
        server.open().unwrap().read_at(&mut [0; 512], 900_000).unwrap();
        let seen = seen.lock().unwrap();
        assert!(!seen[0].iter().any(|line| line.to_ascii_lowercase().starts_with("if-")));
        assert!(seen[1].iter().any(|line| line.eq_ignore_ascii_case(expect)), "{:?}", seen[1]);
    }
    let changes = |second: &'static str| {
        let content = content.clone();
        Server::start(move |number, request| match (number, second) {
            (0, _) => request.part(&content, "\"1\""),
            (_, "longer") => request.part(&[&content[..], b"x"].concat(), "\"1\""),
            (_, "whole") => answer("200 OK\r\nETag: \"1\"", &content),
            (_, "refused") => answer("412 Changed", &[]),
            _ => request.part(&content, "\"2\""),
        })
    };
    for second in ["another mark", "longer", "whole", "refused"] {
        changes(second).fails(ErrorKind::Io, "was changed while it was read");
    }
}

#[test]
fn a_server_without_ranges_is_refused() {
    let server = Server::start(|_, _| answer("200 OK", &[7; 100]));
    let error = server.fails(ErrorKind::Unsupported, "its server knows no ranges");
    assert!(error.hint().unwrap().contains("download it first"));
    assert_eq!(server.count(), 1);
}

#[test]
fn an_empty_file_is_one() {
    assert_eq!(good(&[]).open().unwrap().len(), 0);
    assert_eq!(Server::start(|_, _| answer("200 OK", &[])).open().unwrap().len(), 0);
}

#[test]
fn what_passes_is_tried_again() {
    let content = file(300_000);
    let expected = content.clone();
    let server = Server::start(move |number, request| {
        let whole = request.part(&content, "\"1\"");
        match number % 3 {
            0 => answer("503 Busy", &[]),
            1 => whole[..whole.len() - 1].to_vec(),
            _ => whole,
        }
    });
    let remote = server.open().unwrap();
    let mut bytes = vec![0; expected.len()];
    remote.read_at(&mut bytes, 0).unwrap();
    assert!(bytes == expected);
    assert_eq!(server.count(), 6);
}

#[test]
fn tries_end() {
    let content = Arc::new(file(1 << 20));
    let cut = Arc::clone(&content);
    let broken = |later: fn(Vec<u8>) -> Vec<u8>| {
        let content = Arc::clone(&content);
        Server::start(move |number, request| {
            let whole = request.part(&content, "\"1\"");
            if number == 0 { whole } else { later(whole) }
        })
    };
    // Cut short, no answer at all, and an error that passes.
    for (later, says) in [
        ((|whole: Vec<u8>| whole[..whole.len() / 2].to_vec()) as fn(Vec<u8>) -> Vec<u8>, "in 3 tries"),
        (|_| Vec::new(), "in 3 tries: no answer in time"),
        (|_| answer("500 Fault", &[]), "in 3 tries: the server answered 500"),
    ] {
        let server = broken(later);
        server.fails(ErrorKind::Io, says);
        assert_eq!(server.count(), 4, "{says}");
    }
    // A failure is final: nothing more is asked for.
    let server = Server::start(move |number, request| match number {
        0 => request.part(&cut, "\"1\""),
        _ => answer("404 Gone", &[]),
    });
    let remote = server.open().unwrap();
    for _ in 0..5 {
        assert!(remote.read_at(&mut [0; 1], 500_000).unwrap_err().to_string().contains("404"));
    }
    assert_eq!(server.count(), 2);
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = Remote::open_within(Url::parse(&format!("http://{nobody}/x?secret")).unwrap(), LIMITS).err().unwrap();
    assert!(error.to_string().contains("in 3 tries") && !error.to_string().contains("secret"), "{error}");
}

#[test]
fn answers_that_are_not_what_was_asked_for() {
    let part = |head: &'static str, length: usize| Server::start(move |_, _| answer(head, &vec![0; length]));
    let range = |text: &'static str| part(text, 100);
    range("206 Part\r\nContent-Range: bytes 5-104/200").fails(ErrorKind::Io, "was asked for bytes 0 to 65535 and sent");
    range("206 Part\r\nContent-Range: bytes 0-99/200").fails(ErrorKind::Io, "was asked for bytes 0 to 65535 and sent");
    range("206 Part\r\nContent-Range: bytes 0-99/*").fails(ErrorKind::Io, "does not say which bytes");
    range("206 Part\r\nContent-Type: multipart/byteranges").fails(ErrorKind::Io, "does not say which bytes");
    range("206 Part\r\nContent-Range: bytes 0-98/99").fails(ErrorKind::Io, "more than 99 bytes");
    range("206 Part\r\nContent-Range: bytes 0-99/100\r\nContent-Encoding: gzip").fails(ErrorKind::Io, "encoding");
    let error = part("403 Forbidden", 0).fails(ErrorKind::Io, "403");
    assert!(error.hint().unwrap().contains("signature"));
}

#[test]
fn where_a_server_sends_on_to() {
    let expected = file(200_000);
    let target = good(&expected);
    let to = target.url("/other?secret=1").to_string();
    let server = Server::start(move |_, _| answer(&format!("302 There\r\nLocation: {to}"), &[]));
    let remote = server.open().unwrap();
    let mut bytes = vec![0; 200_000];
    remote.read_at(&mut bytes, 0).unwrap();
    assert!(bytes == expected);

    for location in ["https://127.0.0.1:1/x?secret", "ftp://127.0.0.1/x?secret", "file:///etc/passwd?secret"] {
        let server = Server::start(move |_, _| answer(&format!("302 There\r\nLocation: {location}"), &[]));
        let error = server.open().err().unwrap();
        assert!(!error.to_string().contains("secret"), "{error}");
        assert!(server.count() <= 3);
    }
    let server = Server::start(|_, _| answer("302 There\r\nLocation: https://127.0.0.1:1/x?secret", &[]));
    server.fails(ErrorKind::Refused, "sends on to https://127.0.0.1:1/x");
    let server = Server::start(|_, request| answer(&format!("302 There\r\nLocation: {}x", request.path), &[]));
    server.fails(ErrorKind::Refused, "more than 5 times");
    assert_eq!(server.count(), 6);
}
