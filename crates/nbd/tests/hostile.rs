//! Clients that break the protocol, are slow, or are too many; disks that fail; and the end of a server.

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use common::raw::{Raw, strings};
use common::{Running, disk_with_holes, serve, tcp, unix};
use disk::Source;
use nbd::{Address, Export, Exports, Limits, Server};
use proptest::prelude::*;

/// Long enough for what is quick on a busy host, short enough to wait for.
const SHORT: Duration = Duration::from_millis(400);

fn start_with(disk: Arc<dyn Source>, limits: Limits) -> Running {
    serve(&tcp(), vec![Export { name: "x".into(), description: String::new(), disk }], limits)
}

fn start(limits: Limits) -> Running {
    start_with(Arc::new(disk_with_holes()), limits)
}

/// Checks that a new client is served.
fn works(running: &Running) {
    let mut raw = Raw::transmitting(&running.address);
    raw.request(0, 0, 3, 1 << 20, 512);
    let chunk = raw.chunk();
    assert_eq!((chunk.done, chunk.kind, chunk.payload.len()), (true, 1, 520));
    raw.request(0, 2, 0, 0, 0);
    assert!(raw.ends().is_empty());
}

#[test]
fn a_handshake_that_is_none_ends() {
    let running = start(Limits::default());
    for flags in [4_u32, 7, 0x8000_0000, u32::MAX] {
        let mut raw = Raw::connect(&running.address);
        raw.take(18);
        raw.send(&flags.to_be_bytes());
        assert!(raw.ends().is_empty());
    }
    for bytes in [
        &b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..],
        b"IHAVEOPS\0\0\0\x07\0\0\0\0",
        b"IHAVEOPT\0\0\0\x07\xff\xff\xff\xff",
        b"IHAVEOPT\0\0\0\x07\0\x01\0\x01",
        // Half a message, and the end of what the client has to say.
        b"IHAVEOPT\0\0\0\x07\0\0\0\x06\0",
        b"IHAV",
        b"",
    ] {
        let mut raw = Raw::greeted(&running.address);
        raw.send(bytes);
        raw.0.shutdown(std::net::Shutdown::Write).unwrap();
        assert!(raw.ends().is_empty());
    }
    works(&running);
    running.stop();
}

#[test]
fn options_have_an_end() {
    let running = start(Limits::default());
    let raw = Raw::greeted(&running.address);
    let mut writer = raw.0.try_clone().unwrap();
    let sender = thread::spawn(move || {
        // The server may have closed the connection by then.
        (0..1000).try_for_each(|_| writer.write_all(b"IHAVEOPT\0\0\0\x03\0\0\0\0")).is_ok()
    });
    // 45 bytes for each, of which a client that still sends may lose some.
    assert!(raw.ends().len() <= 256 * 45);
    sender.join().unwrap();
    works(&running);
    running.stop();
}

#[test]
fn a_slow_handshake_is_cut() {
    let running = start(Limits { handshake: SHORT, ..Limits::default() });
    let begin = Instant::now();
    // One that says nothing, one that stops in the middle, and one that goes on, byte by byte.
    let silent = Raw::connect(&running.address);
    let mut half = Raw::greeted(&running.address);
    half.send(b"IHAVEOPT\0\0\0\x07\0\0\0\x06\0");
    let mut drip = TcpStream::connect(match running.address {
        Address::Tcp(address) => address,
        Address::Unix(_) => unreachable!(),
    })
    .unwrap();
    let dripping = [&[0, 0, 0, 3][..], &b"IHAVEOPT\0\0\0\x08\0\0\0\0".repeat(100)].concat();
    for byte in dripping {
        if drip.write_all(&[byte]).is_err() || begin.elapsed() > 10 * SHORT {
            break;
        }
        thread::sleep(Duration::from_millis(5));
    }
    assert!(begin.elapsed() < 10 * SHORT, "a client that drips stays");
    assert_eq!(silent.ends().len(), 18);
    assert!(half.ends().is_empty());
    running.stop();
}

#[test]
fn a_command_that_is_none_ends_the_connection() {
    let running = start(Limits { message: SHORT, ..Limits::default() });
    for bytes in [&[0_u8; 28][..], b"IHAVEOPT\0\0\0\x07\0\0\0\x06\0\0\0\0\0\0\0\0\0\0", &[0xff; 100]] {
        let mut raw = Raw::transmitting(&running.address);
        raw.send(bytes);
        assert!(raw.ends().is_empty());
    }
    // Data of a write that nobody takes; half a command; half the data.
    let mut raw = Raw::transmitting(&running.address);
    raw.request(0, 1, 1, 0, u32::MAX);
    assert!(raw.ends().is_empty());
    let mut raw = Raw::transmitting(&running.address);
    raw.send(&0x2560_9513_u32.to_be_bytes());
    assert!(raw.ends().is_empty());
    let mut raw = Raw::transmitting(&running.address);
    raw.request(0, 1, 1, 0, 1000);
    raw.send(&[0; 999]);
    assert!(raw.ends().is_empty());
    // Silence between commands is allowed.
    let mut raw = Raw::transmitting(&running.address);
    thread::sleep(2 * SHORT);
    raw.request(0, 0, 2, 1 << 20, 512);
    assert_eq!(raw.chunk().payload.len(), 520);
    works(&running);
    running.stop();
}

#[test]
fn a_client_that_takes_no_replies_is_cut() {
    let running = start(Limits { message: SHORT, ..Limits::default() });
    let mut raw = Raw::transmitting(&running.address);
    let mut asked = 0_u64;
    let begin = Instant::now();
    raw.0.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
    // More is asked than the buffers of the host take, until the server ends it.
    let request = [&0x2560_9513_u32.to_be_bytes()[..], &[0; 16], &(1_u32 << 20).to_be_bytes()].concat();
    let request = [&request[..4], &[0; 12], &(1_u64 << 20).to_be_bytes(), &request[20..]].concat();
    while raw.0.write_all(&request).is_ok() {
        asked += 1;
        assert!(begin.elapsed() < Duration::from_secs(15), "{asked} reads of 1 MiB were taken and none was fetched");
        if asked > 64 {
            thread::sleep(Duration::from_millis(2));
        }
    }
    works(&running);
    running.stop();
}

#[test]
fn there_are_not_more_connections_than_allowed() {
    let running = start(Limits { connections: 2, ..Limits::default() });
    let first = Raw::transmitting(&running.address);
    let mut second = Raw::transmitting(&running.address);
    for _ in 0..5 {
        assert!(Raw::connect(&running.address).ends().is_empty());
    }
    second.request(0, 0, 3, 1 << 20, 512);
    assert_eq!(second.chunk().payload.len(), 520);
    drop(first);
    // The server notices that in its own time.
    let begin = Instant::now();
    loop {
        let mut raw = Raw::connect(&running.address);
        if raw.0.read(&mut [0]).is_ok_and(|length| length == 1) {
            break;
        }
        assert!(begin.elapsed() < Duration::from_secs(10));
        thread::sleep(Duration::from_millis(10));
    }
    running.stop();
}

/// A disk whose first byte can be read when it is let go, and whose last one panics.
#[derive(Default)]
struct Gated {
    open: Mutex<bool>,
    opened: Condvar,
}

const GATED: u64 = 4 << 20;

impl Gated {
    fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.opened.notify_all();
    }
}

impl Source for Gated {
    fn len(&self) -> u64 {
        GATED
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> disk::Result<()> {
        assert!(offset + (buf.len() as u64) < GATED, "this disk breaks, as the test wants");
        if offset == 0 {
            let open = self.open.lock().unwrap();
            drop(self.opened.wait_while(open, |open| !*open).unwrap());
        }
        buf.fill(5);
        Ok(())
    }
}

#[test]
fn a_slow_read_does_not_hold_others_up() {
    let disk = Arc::new(Gated::default());
    let running = start_with(Arc::clone(&disk) as Arc<dyn Source>, Limits::default());
    let mut raw = Raw::transmitting(&running.address);
    raw.request(0, 0, 1, 0, 512);
    raw.request(0, 0, 2, 512, 512);
    assert_eq!(raw.chunk().cookie, 2);
    disk.open();
    assert_eq!(raw.chunk().cookie, 1);
    running.stop();
}

#[test]
fn a_disk_that_panics_ends_one_connection() {
    let disk = Arc::new(Gated::default());
    let running = start_with(Arc::clone(&disk) as Arc<dyn Source>, Limits::default());
    let mut other = Raw::transmitting(&running.address);
    let mut raw = Raw::transmitting(&running.address);
    raw.request(0, 0, 1, GATED - 512, 512);
    assert!(raw.ends().is_empty());
    other.request(0, 0, 2, 512, 512);
    assert_eq!(other.chunk().cookie, 2);
    drop(other);
    running.stop();
}

#[test]
fn what_cannot_be_read_is_said_where_it_can_be() {
    let mut disk = disk_with_holes();
    disk.broken = Some(3 << 20);
    let running = start_with(Arc::new(disk), Limits::default());
    let mut raw = Raw::transmitting(&running.address);
    raw.request(0, 0, 1, 0, 8 << 20);
    let kinds: Vec<_> = (0..3).map(|_| raw.chunk()).map(|chunk| (chunk.kind, chunk.done)).collect();
    // A hole, the data as far as 2 MiB, and the error at byte 2 MiB, with its sentence.
    assert_eq!(kinds, [(2, false), (1, false), (0x8002, true)]);
    raw.request(4, 0, 1, 3 << 20, 512);
    let (code, sentence) = raw.error();
    assert_eq!((code, sentence.as_str()), (5, "cannot read byte 3145728: Input/output error (os error 5)"));
    // The simple way can say it only as long as it has not said that all is well.
    let mut raw = Raw::simple(&running.address);
    raw.request(0, 0, 1, 3 << 20, 512);
    assert_eq!(raw.simple_reply(), (5, 1));
    raw.request(0, 0, 2, 0, 8 << 20);
    assert_eq!(raw.simple_reply(), (0, 2));
    assert_eq!(raw.ends().len(), 2 << 20);
    running.stop();
}

#[test]
fn a_stop_lets_commands_end_that_were_taken() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Arc::new(Gated::default());
    let running = start_with(Arc::clone(&disk) as Arc<dyn Source>, Limits::default());
    let mut raw = Raw::transmitting(&running.address);
    let waiting = Raw::greeted(&running.address);
    raw.request(0, 0, 1, 0, 512);
    raw.request(0, 0, 2, 512, 512);
    assert_eq!(raw.chunk().cookie, 2);
    let address = running.address.clone();
    let stopper = thread::spawn(move || running.stop());
    // Those that did nothing end first.
    assert!(waiting.ends().is_empty());
    disk.open();
    assert_eq!(raw.chunk().cookie, 1);
    assert!(raw.ends().is_empty());
    stopper.join().unwrap();
    let Address::Tcp(address) = address else { unreachable!() };
    assert!(TcpStream::connect(address).is_err());
    // A socket of the file system is gone afterwards, also if nobody ever came.
    let running = serve(
        &unix(folder.path()),
        vec![Export { name: "x".into(), description: String::new(), disk }],
        Limits::default(),
    );
    let Address::Unix(path) = running.address.clone() else { unreachable!() };
    let mut client = UnixStream::connect(&path).unwrap();
    client.read_exact(&mut [0; 18]).unwrap();
    running.stop();
    assert!(!path.exists());
}

#[test]
fn a_stop_does_not_wait_for_ever() {
    let disk = Arc::new(Gated::default());
    let running = start_with(Arc::clone(&disk) as Arc<dyn Source>, Limits { grace: SHORT, ..Limits::default() });
    let mut raw = Raw::transmitting(&running.address);
    raw.request(0, 0, 1, 0, 512);
    raw.request(0, 0, 2, 512, 512);
    assert_eq!(raw.chunk().cookie, 2);
    let begin = Instant::now();
    running.stop();
    assert!(begin.elapsed() < Duration::from_secs(10));
    assert!(raw.ends().is_empty());
    // The thread that waits for the disk is let go.
    disk.open();
}

#[test]
fn a_server_that_is_stopped_before_it_serves_ends() {
    let export = || Export { name: "x".into(), description: String::new(), disk: Arc::new(vec![0; 1]) };
    let server = Server::bind(&tcp(), Exports::new(vec![export()]).unwrap(), Limits::default()).unwrap();
    server.stopper().stop();
    server.serve().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let server = Server::bind(&unix(folder.path()), Exports::new(vec![export()]).unwrap(), Limits::default()).unwrap();
    let stopper = server.stopper();
    drop(server);
    assert!(!folder.path().join("nbd.sock").exists());
    stopper.stop();
    // What lies at the place of the socket is left alone.
    std::fs::write(folder.path().join("nbd.sock"), b"mine").unwrap();
    let taken = Server::bind(&unix(folder.path()), Exports::new(vec![export()]).unwrap(), Limits::default());
    assert_eq!(taken.unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
    assert!(folder.path().join("nbd.sock").exists());
}

fn option() -> impl Strategy<Value = Vec<u8>> {
    let query = prop_oneof![
        Just(b"base:allocation".to_vec()),
        Just(b"base:".to_vec()),
        prop::collection::vec(any::<u8>(), 0..9)
    ];
    let data = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..40),
        Just(vec![]),
        Just(vec![0; 6]),
        prop::collection::vec(query, 0..4).prop_map(|queries| {
            let list: Vec<&[u8]> = queries.iter().map(Vec::as_slice).collect();
            [strings(&[b""]), (queries.len() as u32).to_be_bytes().to_vec(), strings(&list)].concat()
        }),
    ];
    (prop_oneof![0..12_u32, any::<u32>()], data, prop_oneof![9 => Just(0), 1 => any::<u32>()]).prop_map(
        |(option, data, wrong)| {
            let length = (data.len() as u32).wrapping_add(wrong);
            [b"IHAVEOPT", &option.to_be_bytes()[..], &length.to_be_bytes(), &data].concat()
        },
    )
}

fn command() -> impl Strategy<Value = Vec<u8>> {
    let offset = prop_oneof![0..20_000_000_u64, any::<u64>()];
    let length = prop_oneof![0..100_000_u32, any::<u32>()];
    let magic = prop_oneof![30 => Just(0x2560_9513_u32), 1 => any::<u32>()];
    (magic, 0..16_u16, 0..10_u16, offset, length).prop_map(|(magic, flags, command, offset, length)| {
        let head = [&magic.to_be_bytes()[..], &flags.to_be_bytes(), &command.to_be_bytes(), &[7; 8]].concat();
        [&head[..], &offset.to_be_bytes(), &length.to_be_bytes()].concat()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// Whatever is sent, the connection ends, the server goes on, and none of its threads panics.
    #[test]
    fn any_bytes_leave_the_server_well(
        options in prop::collection::vec(option(), 0..8),
        go in any::<bool>(),
        commands in prop::collection::vec(command(), 0..12),
        junk in prop::collection::vec(any::<u8>(), 0..60),
    ) {
        static RUNNING: std::sync::OnceLock<Running> = std::sync::OnceLock::new();
        static PANICS: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let running = RUNNING.get_or_init(|| {
            let default = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                if thread::current().name().is_some_and(|name| name.starts_with("nbd"))
                    && !panic.to_string().contains("as the test wants")
                {
                    PANICS.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                }
                default(panic);
            }));
            start(Limits { message: Duration::from_secs(2), ..Limits::default() })
        });
        let mut raw = Raw::greeted(&running.address);
        let mut bytes = options.concat();
        if go {
            bytes.extend(b"IHAVEOPT\0\0\0\x08\0\0\0\0IHAVEOPT\0\0\0\x07\0\0\0\x06\0\0\0\0\0\0");
        }
        bytes.extend(commands.concat());
        bytes.extend(junk);
        let mut writer = raw.0.try_clone().unwrap();
        let sender = thread::spawn(move || {
            // The server may end it before all is sent.
            let _ = writer.write_all(&bytes);
            let _ = writer.shutdown(std::net::Shutdown::Write);
        });
        let mut sink = vec![0; 1 << 20];
        while raw.0.read(&mut sink).is_ok_and(|length| length > 0) {}
        sender.join().unwrap();
        prop_assert_eq!(PANICS.load(std::sync::atomic::Ordering::SeqCst), 0);
    }
}
