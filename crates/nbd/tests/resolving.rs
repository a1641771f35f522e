//! Exports that are found when a client asks, and the socket's own rights.

mod common;

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use common::raw::{ACK, Raw, UNKNOWN, strings};
use common::{run, tcp, tool, unix};
use nbd::{Export, Limits, Refusal, Resolve};

const POLICY: u32 = 0x8000_0002;

/// Has one disk, whose name changes.
#[derive(Default)]
struct Changing {
    name: Mutex<String>,
    asked: AtomicUsize,
}

impl Resolve for Changing {
    fn find(&self, name: &str) -> Result<Export, Refusal> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        match name {
            "closed" => Err(Refusal::Denied("it is closed until Monday".to_owned())),
            "long" => Err(Refusal::Denied("ñ".repeat(4000))),
            name if name == *self.name.lock().unwrap() => {
                Ok(Export { name: name.to_owned(), description: String::new(), disk: Arc::new(vec![5_u8; 4096]) })
            }
            _ => Err(Refusal::Unknown),
        }
    }
}

#[test]
fn an_export_is_found_when_it_is_asked_for() {
    let exports = Arc::new(Changing::default());
    *exports.name.lock().unwrap() = "now".to_owned();
    let running = run(&tcp(), Arc::clone(&exports), None, Limits::default());
    let mut raw = Raw::greeted(&running.address);
    raw.option(3, b"");
    assert_eq!(raw.option_reply(), (3, ACK, vec![]), "nothing is listed");
    let named = |name: &[u8]| [&strings(&[name])[..], &[0, 0]].concat();
    for name in [&b""[..], b"then", b"\xff\xfe", &[b'n'; 5000]] {
        raw.option(7, &named(name));
        assert_eq!(raw.option_reply(), (7, UNKNOWN, b"no export has this name".to_vec()));
    }
    assert_eq!(exports.asked.load(Ordering::SeqCst), 2, "what is no name is not asked for");
    raw.option(6, &named(b"closed"));
    assert_eq!(raw.option_reply(), (6, POLICY, b"it is closed until Monday".to_vec()));
    raw.option(6, &named(b"long"));
    assert_eq!(raw.option_reply(), (6, POLICY, "ñ".repeat(2048).into_bytes()));
    // Asked for once, however many options name it.
    let before = exports.asked.load(Ordering::SeqCst);
    raw.option(8, b"");
    raw.option(10, &[&strings(&[b"now"])[..], &1_u32.to_be_bytes(), &strings(&[b"base:allocation"])].concat());
    raw.option(6, &named(b"now"));
    raw.option(7, &named(b"now"));
    assert_eq!([ACK, 4, ACK, 3, 3, ACK, 3, 3, ACK], [(); 9].map(|()| raw.option_reply().1));
    assert_eq!(exports.asked.load(Ordering::SeqCst), before + 1);
    // What a connection got it keeps, and a new one gets what there is then.
    *exports.name.lock().unwrap() = "then".to_owned();
    raw.request(0, 0, 1, 0, 512);
    assert_eq!(raw.chunk().payload[8..], [5; 512]);
    let said = tool("qemu-img", &["info", "-f", "raw", &running.uri("then")]);
    assert!(said.contains("4096"), "{said}");
    running.stop();
}

#[test]
fn a_socket_is_its_owners_alone_however_long_its_path_is() {
    let scratch = tempfile::tempdir().unwrap();
    let exports = Arc::new(Changing::default());
    *exports.name.lock().unwrap() = "x".to_owned();
    let deep = (0..12).fold(scratch.path().to_owned(), |path, _| path.join("a folder with a name"));
    std::fs::create_dir_all(&deep).unwrap();
    for folder in [scratch.path(), &deep] {
        let running = run(&unix(folder), Arc::clone(&exports), None, Limits::default());
        let socket = folder.join("nbd.sock");
        assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
        // Clients come as they came to be there: from a folder that is near.
        let near = scratch.path().join("near");
        std::os::unix::fs::symlink(folder, &near).unwrap();
        UnixStream::connect(near.join("nbd.sock")).unwrap();
        std::fs::remove_file(near).unwrap();
        running.stop();
        assert!(!socket.exists());
    }
    let refused = nbd::Server::bind(&nbd::Address::Unix(Path::new("/").into()), exports, Limits::default());
    assert_eq!(refused.unwrap_err().kind(), std::io::ErrorKind::InvalidInput);
}
