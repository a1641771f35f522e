//! TLS: with QEMU's tools and libnbd as clients, and with clients that do not keep to it.

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use common::certificates::Certificates;
use common::raw::{ACK, INVALID, Raw, be};
use common::{Running, disk_with_holes, run, tcp, tool, try_tool, unix};
use nbd::{Address, Export, Exports, Limits, Tls};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

const TLS_REQUIRED: u32 = 0x8000_0005;
/// Long enough for what is quick on a busy host, short enough to wait for.
const SHORT: Duration = Duration::from_millis(600);

fn exports() -> Exports {
    let disk = Arc::new(disk_with_holes());
    Exports::new(vec![Export { name: "x".into(), description: String::new(), disk }]).unwrap()
}

fn start(tls: Tls, limits: Limits) -> Running {
    run(&tcp(), exports(), Some(tls), limits)
}

/// The options with which a tool of QEMU reaches the server through TLS, with the certificates in `folder`.
fn qemu_options(running: &Running, folder: &Path) -> [String; 4] {
    let place = match &running.address {
        Address::Tcp(address) => format!("host={},port={}", address.ip(), address.port()),
        Address::Unix(path) => format!("path={}", path.display()),
    };
    [
        "--object".into(),
        format!("tls-creds-x509,id=tls,endpoint=client,dir={}", folder.display()),
        "--image-opts".into(),
        format!("driver=nbd,{place},export=x,tls-creds=tls,tls-hostname=localhost"),
    ]
}

fn qemu_info(running: &Running, folder: &Path) -> (bool, String) {
    let options = qemu_options(running, folder);
    try_tool("qemu-img", &[&["info"], &options.each_ref().map(String::as_str)[..]].concat())
}

/// A folder for QEMU without a client's certificate.
fn only_authority(certificates: &Certificates) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(certificates.path("ca-cert.pem"), folder.path().join("ca-cert.pem")).unwrap();
    folder
}

#[test]
fn tools_read_through_tls() {
    let (certificates, scratch) = (Certificates::new(), tempfile::tempdir().unwrap());
    let bytes = disk_with_holes().bytes;
    let copy = scratch.path().join("copy.raw");
    for address in [tcp(), unix(scratch.path())] {
        let running = run(&address, exports(), Some(certificates.tls()), Limits::default());
        let options = qemu_options(&running, certificates.folder());
        let options = options.each_ref().map(String::as_str);
        let arguments =
            [&["convert", "-m", "16", "-W", "-O", "raw"], &options[..2], &options[2..], &[copy.to_str().unwrap()]];
        tool("qemu-img", &arguments.concat());
        assert!(std::fs::read(&copy).unwrap()[..bytes.len()] == bytes);
        let sevens = ["-r", "-c", "read -P 7 1M 3M", "-c", "read -P 0 4M 4M"];
        let said = tool("qemu-io", &[&sevens[..], &options].concat());
        assert!(!said.contains("failed"), "{said}");
        // libnbd looks for the host's name in the URI, which a socket of the file system does not have.
        if let Address::Tcp(_) = address {
            let uri = format!("{}?tls-certificates={}", running.uri("x"), certificates.folder().display());
            tool("nbdcopy", &["--connections=4", "--requests=32", &uri, copy.to_str().unwrap()]);
            assert!(std::fs::read(&copy).unwrap() == bytes);
            let info: serde_json::Value =
                serde_json::from_str(&tool("nbdinfo", &["--json", "--no-content", &uri])).unwrap();
            assert_eq!((&info["TLS"], &info["structured"]), (&true.into(), &true.into()), "{info}");
        }
        running.stop();
    }
}

#[test]
fn nothing_is_said_to_clients_without_tls() {
    let certificates = Certificates::new();
    let running = start(certificates.tls(), Limits::default());
    let (good, said) = try_tool("qemu-img", &["info", &running.uri("x").replacen("nbds", "nbd", 1)]);
    assert!(!good && said.contains("used through TLS only"), "{said}");
    let (good, said) = try_tool("nbdinfo", &[&running.uri("x").replacen("nbds", "nbd", 1)]);
    assert!(!good, "{said}");
    let mut raw = Raw::greeted(&running.address);
    for option in (3..12).chain([4711]).filter(|option| *option != 5) {
        raw.option(option, &[0; 6]);
        let (answered, kind, sentence) = raw.option_reply();
        assert_eq!((answered, kind), (option, TLS_REQUIRED), "{}", String::from_utf8_lossy(&sentence));
    }
    raw.option(5, b"now");
    assert_eq!(raw.option_reply().1, INVALID);
    raw.option(2, b"");
    assert_eq!(raw.option_reply().1, ACK);
    assert!(raw.ends().is_empty());
    // The oldest option has no reply that refuses.
    let mut raw = Raw::greeted(&running.address);
    raw.option(1, b"x");
    assert!(raw.ends().is_empty());
    running.stop();
}

#[test]
fn clients_prove_themselves_where_that_is_wanted() {
    let (certificates, others) = (Certificates::new(), Certificates::new());
    let nobody = only_authority(&certificates);
    let running = start(certificates.tls_for_clients_of(&certificates.path("ca-cert.pem")), Limits::default());
    let (good, said) = qemu_info(&running, certificates.folder());
    assert!(good, "{said}");
    let (good, said) = qemu_info(&running, nobody.path());
    assert!(!good, "{said}");
    running.stop();
    // The server is of one authority and wants clients of another.
    let running = start(certificates.tls_for_clients_of(&others.path("ca-cert.pem")), Limits::default());
    let (good, said) = qemu_info(&running, certificates.folder());
    assert!(!good, "{said}");
    running.stop();
    // And the other way round, a client does not believe any server.
    let running = start(certificates.tls(), Limits::default());
    let (good, said) = qemu_info(&running, others.folder());
    assert!(!good && said.contains("certificate"), "{said}");
    let (good, said) = qemu_info(&running, nobody.path());
    assert!(good, "{said}");
    running.stop();
}

/// A client that has begun TLS, as rustls has it.
fn through_tls(running: &Running, certificates: &Certificates) -> StreamOwned<ClientConnection, TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certificates.path("ca-cert.pem")).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let mut raw = Raw::greeted(&running.address);
    raw.option(5, b"");
    assert_eq!(raw.option_reply().1, ACK);
    let client = ClientConnection::new(Arc::new(config), ServerName::try_from("localhost").unwrap()).unwrap();
    StreamOwned::new(client, raw.0)
}

fn option(number: u32, data: &[u8]) -> Vec<u8> {
    [b"IHAVEOPT", &number.to_be_bytes()[..], &(data.len() as u32).to_be_bytes(), data].concat()
}

/// Reads the kind of the next reply to an option, and passes its data over.
fn reply_kind(stream: &mut impl Read) -> u32 {
    let mut head = [0; 20];
    stream.read_exact(&mut head).unwrap();
    stream.read_exact(&mut vec![0; be(&head[16..]) as usize]).unwrap();
    be(&head[12..16]) as u32
}

#[test]
fn inside_of_tls_all_begins_anew() {
    let certificates = Certificates::new();
    let running = start(certificates.tls(), Limits::default());
    let mut stream = through_tls(&running, &certificates);
    stream.write_all(&option(5, b"")).unwrap();
    assert_eq!(reply_kind(&mut stream), INVALID);
    // Many small options at once, then the export, then reads that are cut over many records.
    stream.write_all(&option(8, b"").repeat(50)).unwrap();
    assert!((0..50).all(|_| reply_kind(&mut stream) == ACK));
    stream.write_all(&option(7, &[0; 6])).unwrap();
    assert_eq!([3, 3, ACK], [(); 3].map(|()| reply_kind(&mut stream)));
    let read = [
        &0x2560_9513_u32.to_be_bytes()[..],
        &[0; 4],
        &[7; 8],
        &(1_u64 << 20).to_be_bytes(),
        &(3_u32 << 20).to_be_bytes(),
    ];
    stream.write_all(&read.concat()).unwrap();
    let mut got = 0;
    while got < 3 << 20 {
        let mut head = [0; 28];
        stream.read_exact(&mut head).unwrap();
        let mut data = vec![0; be(&head[16..20]) as usize - 8];
        stream.read_exact(&mut data).unwrap();
        assert!(data.iter().all(|byte| *byte == 7));
        got += data.len();
    }
    // The end is announced, so that it is not taken for an attack.
    stream.write_all(&[&0x2560_9513_u32.to_be_bytes()[..], &[0, 0, 0, 2], &[0; 20]].concat()).unwrap();
    assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0);
    running.stop();
}

#[test]
fn what_comes_outside_of_tls_does_not_count() {
    let certificates = Certificates::new();
    let running = start(certificates.tls(), Limits::default());
    // Sent together with the option that begins TLS, so that it lies in the server's buffer by then.
    let mut raw = Raw::greeted(&running.address);
    raw.send(&[option(5, b""), option(8, b""), option(7, &[0; 6])].concat());
    assert_eq!(raw.option_reply().1, ACK);
    assert!(raw.ends().is_empty());
    for bytes in [option(7, &[0; 6]), vec![0; 100], vec![0x16; 70_000], b"GET / HTTP/1.1\r\n\r\n".to_vec(), Vec::new()]
    {
        let mut raw = Raw::greeted(&running.address);
        raw.option(5, b"");
        assert_eq!(raw.option_reply().1, ACK);
        // The server may end it before all is sent.
        let _ = raw.0.write_all(&bytes);
        let _ = raw.0.shutdown(std::net::Shutdown::Write);
        let mut said = Vec::new();
        let _ = raw.0.read_to_end(&mut said);
        // At most an alert, never an answer of the protocol.
        assert!(said.len() < 16, "{said:?}");
    }
    // Plain bytes in the middle of a session.
    let mut stream = through_tls(&running, &certificates);
    stream.write_all(&option(8, b"")).unwrap();
    assert_eq!(reply_kind(&mut stream), ACK);
    stream.sock.write_all(&option(7, &[0; 6])).unwrap();
    assert!(stream.read(&mut [0; 1]).is_err());
    let (good, said) = qemu_info(&running, certificates.folder());
    assert!(good, "{said}");
    running.stop();
}

#[test]
fn a_session_that_does_not_come_about_is_cut() {
    let certificates = Certificates::new();
    let running = start(certificates.tls(), Limits { handshake: SHORT, ..Limits::default() });
    let begin = Instant::now();
    let mut silent = Raw::greeted(&running.address);
    silent.option(5, b"");
    assert_eq!(silent.option_reply().1, ACK);
    let mut drip = Raw::greeted(&running.address);
    drip.option(5, b"");
    assert_eq!(drip.option_reply().1, ACK);
    // The head of a long record, and then a byte from time to time.
    let mut bytes = [&[0x16, 3, 1, 0x3f, 0xff, 1, 0, 0x3f, 0xf0][..], &[3; 4000]].concat().into_iter();
    while begin.elapsed() < 10 * SHORT && drip.0.write_all(&[bytes.next().unwrap()]).is_ok() {
        thread::sleep(Duration::from_millis(5));
    }
    assert!(begin.elapsed() < 10 * SHORT, "a client that drips stays");
    assert!(silent.ends().len() < 16, "at most an alert");
    running.stop();
}

#[test]
fn a_client_that_takes_nothing_through_tls_is_cut() {
    let certificates = Certificates::new();
    let running = start(certificates.tls(), Limits { message: SHORT, connections: 1, ..Limits::default() });
    let mut stream = through_tls(&running, &certificates);
    stream.write_all(&[option(8, b""), option(7, &[0; 6])].concat()).unwrap();
    assert_eq!([ACK, 3, 3, ACK], [(); 4].map(|()| reply_kind(&mut stream)));
    let read =
        [&0x2560_9513_u32.to_be_bytes()[..], &[0; 4], &[7; 8], &0_u64.to_be_bytes(), &(16_u32 << 20).to_be_bytes()];
    // It may be cut before all is sent.
    let _ = stream.write_all(&read.concat().repeat(200));
    let begin = Instant::now();
    while !qemu_info(&running, certificates.folder()).0 {
        assert!(begin.elapsed() < Duration::from_secs(20), "its place is not free again");
    }
    running.stop();
}

#[test]
fn files_that_are_none_are_named() {
    let (certificates, others) = (Certificates::new(), Certificates::new());
    let [cert, key, request] = ["server-cert.pem", "server-key.pem", "server.csr"].map(|name| certificates.path(name));
    let check = |certificate: &Path, key: &Path, client_ca: Option<&Path>, says: &str| {
        let error = Tls::from_files(certificate, key, client_ca).unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
    };
    check(Path::new("/nonexistent.pem"), &key, None, "`/nonexistent.pem`: No such file");
    check(&request, &key, None, "server.csr`: there is none in PEM form");
    check(&cert, &cert, None, "cannot read a private key from");
    check(&cert, &others.path("server-key.pem"), None, "do not go together");
    check(&cert, &key, Some(&key), "there is none in PEM form");
}

/// Bytes that a client sends instead of TLS, from a generator of its own: whatever they are, the server goes on.
#[test]
fn any_bytes_instead_of_tls_leave_the_server_well() {
    let certificates = Certificates::new();
    let running = start(certificates.tls(), Limits { handshake: Duration::from_secs(2), ..Limits::default() });
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    for round in 0..200 {
        let mut raw = Raw::greeted(&running.address);
        raw.option(5, b"");
        assert_eq!(raw.option_reply().1, ACK);
        let mut bytes: Vec<u8> = (0..round * 3)
            .map(|_| {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                random as u8
            })
            .collect();
        // Most begin as a record of the handshake does.
        if round % 4 > 0 && bytes.len() > 9 {
            let length = (bytes.len() - 5) as u16;
            bytes[..3].copy_from_slice(&[0x16, 3, 1]);
            bytes[3..5].copy_from_slice(&length.to_be_bytes());
            bytes[5..9].copy_from_slice(&[1, 0, 0, (length - 4) as u8]);
        }
        let _ = raw.0.write_all(&bytes);
        let _ = raw.0.shutdown(std::net::Shutdown::Write);
        let _ = raw.0.read_to_end(&mut Vec::new());
    }
    let (good, said) = qemu_info(&running, certificates.folder());
    assert!(good, "{said}");
    running.stop();
}
