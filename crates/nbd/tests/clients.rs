//! The server with clients that nobody here wrote: qemu-img, qemu-io, nbdinfo and nbdcopy.

mod common;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use common::{Running, disk_with_holes, serve, tcp, tool, unix};
use disk::{Extent, ExtentKind, Source};
use nbd::{Export, Limits};

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn both_kinds(test: impl Fn(&Running, &[u8])) {
    let folder = tempfile::tempdir().unwrap();
    let source = Arc::new(disk_with_holes());
    for address in [tcp(), unix(folder.path())] {
        let running = serve(
            &address,
            vec![Export {
                name: "a disk/1".to_owned(),
                description: "of the tests".to_owned(),
                disk: Arc::clone(&source) as Arc<dyn Source>,
            }],
            Limits::default(),
        );
        test(&running, &source.bytes);
        running.stop();
    }
}

#[test]
fn qemu_img_copies_what_is_served() {
    both_kinds(|running, bytes| {
        let folder = tempfile::tempdir().unwrap();
        let copy = folder.path().join("copy.raw");
        for (name, parallel) in [("", "1"), ("a disk/1", "16")] {
            tool(
                "qemu-img",
                &["convert", "-m", parallel, "-W", "-f", "raw", "-O", "raw", &running.uri(name), text(&copy)],
            );
            let padded = bytes.len().next_multiple_of(512);
            let copied = std::fs::read(&copy).unwrap();
            assert!(copied.len() == bytes.len() || copied.len() == padded);
            assert!(copied[..bytes.len()] == *bytes && copied[bytes.len()..].iter().all(|byte| *byte == 0));
        }
    });
}

#[test]
fn qemu_img_compares_and_maps_what_is_served() {
    both_kinds(|running, bytes| {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("disk.raw");
        std::fs::write(&file, bytes).unwrap();
        tool("qemu-img", &["compare", "-f", "raw", "-F", "raw", &running.uri(""), text(&file)]);
        let map = tool("qemu-img", &["map", "--output=json", "-f", "raw", &running.uri("")]);
        let map: Vec<serde_json::Value> = serde_json::from_str(&map).unwrap();
        let number = |run: &serde_json::Value, key: &str| run[key].as_u64().unwrap();
        let found: Vec<_> = map
            .iter()
            .map(|run| (number(run, "start"), number(run, "length"), run["zero"] == true, run["data"] == false))
            .collect();
        let source = disk_with_holes();
        let runs: Vec<_> = disk::map(&source, 0..source.len())
            .map(Result::unwrap)
            .map(|Extent { offset, length, kind }| {
                let zero = kind == ExtentKind::Zero;
                (offset, length, zero, zero)
            })
            .collect();
        // QEMU counts in sectors: what it tells of the end may be longer.
        assert_eq!(found[..found.len() - 1], runs[..runs.len() - 1]);
        let info = tool("qemu-img", &["info", "-f", "raw", &running.uri("a disk/1")]);
        assert!(
            info.contains(&format!("({} bytes)", bytes.len().next_multiple_of(512)))
                || info.contains(&format!("({} bytes)", bytes.len())),
            "{info}"
        );
    });
}

#[test]
fn qemu_io_reads_and_cannot_write() {
    both_kinds(|running, _| {
        let io = |arguments: &[&str]| {
            let output = Command::new("qemu-io").args(arguments).arg(running.uri("")).output().unwrap();
            let text = [output.stdout, output.stderr].concat();
            (output.status.success(), String::from_utf8_lossy(&text).into_owned())
        };
        // Bytes of the second extent are 7, others are zero, see `disk_with_holes`.
        let (good, text) =
            io(&["-r", "-f", "raw", "-c", "read -P 0 0 1M", "-c", "read -P 7 1M 3M", "-c", "read -P 0 4M 4M"]);
        assert!(good && !text.contains("failed"), "{text}");
        let (good, text) =
            io(&["-r", "-f", "raw", "-c", "aio_read -P 7 1M 1M", "-c", "aio_read -P 7 2M 1M", "-c", "aio_flush"]);
        assert!(good && !text.contains("failed"), "{text}");
        let (good, text) = io(&["-f", "raw", "-c", "write 0 512"]);
        // QEMU sees the flag and does not open it for writing.
        assert!(!good && text.contains("Permission denied"), "{text}");
        let (good, text) = io(&["-r", "-f", "raw", "-c", "read 100M 512"]);
        assert!(!good, "{text}");
    });
}

#[test]
fn an_error_of_the_disk_is_one_of_the_client() {
    let mut source = disk_with_holes();
    source.broken = Some(2 << 20);
    let running = serve(
        &tcp(),
        vec![Export { name: "x".into(), description: String::new(), disk: Arc::new(source) }],
        Limits::default(),
    );
    let output = Command::new("qemu-io")
        .args(["-r", "-f", "raw", "-c", "read 2M 512", "-c", "read -P 7 1M 1M", &running.uri("")])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(text.contains("read failed: Input/output error"), "{text}");
    // The connection goes on.
    assert!(text.contains("read 1048576/1048576 bytes at offset 1048576"), "{text}");
    running.stop();
}

#[test]
fn qemu_img_reads_a_compressed_image_through_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let (raw, image, copy) = (folder.path().join("a.raw"), folder.path().join("a.qcow2"), folder.path().join("b.raw"));
    let bytes = disk_with_holes().bytes;
    std::fs::write(&raw, &bytes).unwrap();
    tool("qemu-img", &["convert", "-c", "-f", "raw", "-O", "qcow2", text(&raw), text(&image)]);
    let file = Arc::new(disk::FileSource::open(&image).unwrap());
    let opened = disk::open(file, disk::Format::Qcow2, &disk::Deny).unwrap();
    let export = Export { name: "q".into(), description: String::new(), disk: opened.disk };
    let running = serve(&unix(folder.path()), vec![export], Limits::default());
    tool("qemu-img", &["convert", "-f", "raw", "-O", "raw", &running.uri("q"), text(&copy)]);
    assert!(std::fs::read(&copy).unwrap()[..bytes.len()] == bytes);
    running.stop();
}

#[test]
fn libnbd_copies_and_describes_what_is_served() {
    both_kinds(|running, bytes| {
        let folder = tempfile::tempdir().unwrap();
        let copy = folder.path().join("copy.raw");
        tool("nbdcopy", &["--connections=4", "--requests=32", &running.uri("a disk/1"), text(&copy)]);
        assert!(std::fs::read(&copy).unwrap() == bytes);
        let info: serde_json::Value =
            serde_json::from_str(&tool("nbdinfo", &["--json", "--list", "--no-content", &running.uri("")])).unwrap();
        let export = &info["exports"][0];
        assert_eq!((info["TLS"].as_bool(), info["exports"].as_array().map(Vec::len)), (Some(false), Some(1)), "{info}");
        assert_eq!(export["export-name"], "a disk/1");
        assert_eq!(export["description"], "of the tests");
        assert_eq!(export["export-size"], bytes.len());
        assert_eq!((&export["is_read_only"], &export["can_multi_conn"]), (&true.into(), &true.into()));
        let map: serde_json::Value =
            serde_json::from_str(&tool("nbdinfo", &["--json", "--map", &running.uri("")])).unwrap();
        let zeros = map.as_array().unwrap().iter().filter(|run| run["type"] == 3);
        let zeros: u64 = zeros.map(|run| run["length"].as_u64().unwrap()).sum();
        assert_eq!(zeros, (1 << 20) + (4 << 20) + (4 << 20));
    });
}
