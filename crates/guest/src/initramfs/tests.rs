//! Files that real programs made, and those that nobody honest would make.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::cpio::{Entry, Visitor, Wish};
use super::survey::{Contents, survey};
use super::unpack::Compression;
use super::write::{InitramfsEntry as New, initramfs_segment as segment};
use super::{Outline, read};

/// Runs `program` of the Debian package `package` in `folder` and returns what it printed.
fn tool(package: &str, program: &str, arguments: &[&str], folder: &Path, input: &[u8]) -> Vec<u8> {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(folder).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| {
        panic!("cannot run {program} ({error}): install the Debian package {package}, for example with apt-get");
    });
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // Both pipes at once: what is written may be more than fits into one.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?} failed: {errors}");
    output.stdout
}

/// Makes an archive of `files` by cpio, with the folders they lie in; a path that ends with `/` is a folder.
fn archive(format: &str, files: &[(&str, &[u8])]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let mut names = BTreeSet::new();
    for (path, content) in files {
        let full = folder.path().join(path);
        fs::create_dir_all(full.parent().unwrap()).unwrap();
        if path.ends_with('/') {
            fs::create_dir_all(&full).unwrap();
        } else {
            fs::write(&full, content).unwrap();
        }
        let path = Path::new(path.trim_end_matches('/'));
        names.extend(path.ancestors().filter(|part| !part.as_os_str().is_empty()).map(|part| part.to_str().unwrap()));
    }
    let list: String = names.iter().map(|name| format!("{name}\n")).collect();
    tool("cpio", "cpio", &["--quiet", "-o", "-H", format], folder.path(), list.as_bytes())
}

/// Returns the names that cpio finds in an archive.
fn names_by_cpio(archive: &[u8]) -> Vec<String> {
    let names = tool("cpio", "cpio", &["--quiet", "-t"], Path::new("/"), archive);
    String::from_utf8(names).unwrap().lines().map(str::to_owned).collect()
}

const PROGRAMS: [(Option<Compression>, &str, &str, &[&str]); 10] = [
    (None, "coreutils", "cat", &[]),
    (Some(Compression::Gzip), "gzip", "gzip", &["-n"]),
    (Some(Compression::Bzip2), "bzip2", "bzip2", &[]),
    (Some(Compression::Lzma), "xz-utils", "xz", &["--format=lzma"]),
    (Some(Compression::Xz), "xz-utils", "xz", &["--check=crc32"]),
    (Some(Compression::Lzo), "lzop", "lzop", &[]),
    (Some(Compression::Lzo), "lzop", "lzop", &["-9", "-C", "--crc32"]),
    (Some(Compression::Lz4), "lz4", "lz4", &["-l", "-c"]),
    (Some(Compression::Lz4), "lz4", "lz4", &["-l", "-9", "-c"]),
    (Some(Compression::Zstd), "zstd", "zstd", &["-q"]),
];

fn compress(program: &(Option<Compression>, &str, &str, &[&str]), bytes: &[u8]) -> Vec<u8> {
    tool(program.1, program.2, program.3, Path::new("/"), bytes)
}

/// Keeps the names, and the content of what ends with `.conf`.
#[derive(Default)]
struct Listing {
    names: Vec<String>,
    shown: Vec<Vec<u8>>,
    stop_at: Option<&'static str>,
}

impl Visitor for Listing {
    fn entry(&mut self, entry: &Entry) -> Wish {
        self.names.push(String::from_utf8_lossy(&entry.name).into_owned());
        let name = self.names.last().map(String::as_str);
        if name == self.stop_at {
            Wish::Stop
        } else if name.is_some_and(|name| name.ends_with(".conf")) {
            Wish::Show
        } else {
            Wish::Skip
        }
    }

    fn content(&mut self, _entry: &Entry, content: Vec<u8>) {
        self.shown.push(content);
    }
}

fn list(file: &[u8]) -> (Listing, Outline) {
    let mut listing = Listing::default();
    let outline = read(&file, &mut listing);
    (listing, outline)
}

/// Bytes that repeat beyond the window of gzip: 9 MiB are more than one block of lz4.
fn firmware() -> Vec<u8> {
    let once: Vec<u8> = (0..100_000_u32).map(|at| (at.wrapping_mul(at ^ 0x9e37_79b9) >> 13) as u8).collect();
    once.iter().copied().cycle().take(9 << 20).collect()
}

fn debian(module: &[u8]) -> Vec<(&'static str, &[u8])> {
    vec![
        ("init", b"#!/bin/sh\n"),
        ("conf/initramfs.conf", b"MODULES=most\n"),
        ("conf/conf.d/resume", b"RESUME=/dev/sda2\n"),
        ("etc/udev/rules.d/70-persistent-net.rules", b"SUBSYSTEM==\"net\", NAME=\"eth0\"\n"),
        ("scripts/functions", b""),
        ("scripts/local-bottom/ORDER", b""),
        ("scripts/local-bottom/growroot", b""),
        ("usr/lib/modules/6.1.0-18-amd64/kernel/drivers/block/virtio_blk.ko", module),
        ("usr/lib/modules/6.1.0-18-amd64/kernel/drivers/md/dm-mod.ko.xz", module),
        ("usr/lib/modules/6.1.0-9-amd64/kernel/drivers/nvme/host/nvme.ko", module),
        ("usr/lib/modules/6.1.0-18-amd64/modules.dep", b""),
    ]
}

#[test]
fn each_kind_is_listed_as_by_cpio() {
    let module = firmware();
    let early = archive("newc", &[("kernel/x86/microcode/GenuineIntel.bin", &module[..70_001])]);
    for program in &PROGRAMS {
        let is_lz4 = program.0 == Some(Compression::Lz4);
        for format in ["newc", "crc"] {
            let mut files = debian(&module[..12_345]);
            files.push(("usr/lib/firmware/x.bin", if is_lz4 { &module } else { &module[..300_000] }));
            let main = archive(format, &files);
            let expected = [names_by_cpio(&early), names_by_cpio(&main)].concat();
            assert_eq!(expected.len(), 37);
            let packed = compress(program, &main);
            for gap in [0, 4, 1000] {
                let (listing, outline) = list(&[&early[..], &vec![0; gap], &packed, &vec![0; gap]].concat());
                assert_eq!(outline, Outline { compression: program.0, segments: 2, fault: None }, "{program:?}");
                assert_eq!(listing.names, expected, "{program:?}");
                assert_eq!(listing.shown, [b"MODULES=most\n"]);
            }
        }
    }
}

#[test]
fn reading_stops_when_enough_was_seen() {
    struct Counted(Vec<u8>, std::cell::Cell<u64>);
    impl crate::pieces::Pieces for Counted {
        fn len(&self) -> u64 {
            self.0.len() as u64
        }
        fn piece(&self, offset: u64, most: usize) -> Result<Vec<u8>, String> {
            self.1.set(self.1.get() + most as u64);
            crate::pieces::Pieces::piece(&self.0.as_slice(), offset, most)
        }
    }
    let bytes = firmware();
    let file = archive("newc", &[("a", &bytes), ("b", &bytes), ("c", &bytes)]);
    // What is not compressed is passed over without being read.
    let plain = Counted(file.clone(), Default::default());
    let mut listing = Listing::default();
    assert_eq!(read(&plain, &mut listing), Outline { segments: 1, ..Outline::default() });
    assert_eq!(listing.names, ["a", "b", "c"]);
    assert!(plain.1.get() <= 4 << 20, "{}", plain.1.get());

    let packed = Counted(compress(&PROGRAMS[1], &file), Default::default());
    let mut listing = Listing { stop_at: Some("b"), ..Listing::default() };
    assert_eq!(read(&packed, &mut listing).fault, None);
    assert_eq!(listing.names, ["a", "b"]);
    assert!(packed.1.get() < packed.0.len() as u64 / 2 + (2 << 20), "{} of {}", packed.1.get(), packed.0.len());
}

#[test]
fn what_is_of_interest_is_told() {
    let main = compress(&PROGRAMS[1], &archive("newc", &debian(b"module")));
    let found = survey(&main.as_slice(), "6.1.0-18-amd64");
    let expected = Contents {
        outline: Outline { compression: Some(Compression::Gzip), segments: 1, fault: None },
        generator: Some("initramfs-tools"),
        modules: ["dm_mod", "virtio_blk"].map(str::to_owned).into(),
        modules_folder: Some("usr/lib/modules/6.1.0-18-amd64".to_owned()),
        persistent_net_rules: vec!["etc/udev/rules.d/70-persistent-net.rules".to_owned()],
        hooks: vec!["scripts/local-bottom/growroot".to_owned()],
        settings: vec!["conf/conf.d/resume: RESUME=/dev/sda2".to_owned()],
    };
    assert_eq!(found, expected);
    let generator = |files: &[(&str, &[u8])]| survey(&archive("newc", files).as_slice(), "1").generator;
    assert_eq!(generator(&[("usr/lib/dracut/hooks/pre-udev/", b""), ("init", b"")]), Some("dracut"));
    assert_eq!(generator(&[("dracut-004-409.el6_8.2", b"")]), Some("dracut"));
    assert_eq!(generator(&[("buildconfig", b""), ("hooks/udev", b"")]), Some("mkinitcpio"));
    assert_eq!(generator(&[("sbin/nlplug-findfs", b"")]), Some("mkinitfs"));
    assert_eq!(generator(&[("bin/nash", b""), ("init", b"")]), Some("mkinitrd"));
    assert_eq!(generator(&[("init", b"")]), None);
    let old =
        survey(&archive("newc", &[("lib/virtio_blk.ko", b""), ("lib/libc.so", b"")]).as_slice(), "2.6.18-398.el5");
    assert_eq!(old.modules, ["virtio_blk".to_owned()].into());
}

const MODULE: &str = "usr/lib/modules/6.1.0-18-amd64/kernel/drivers/net/virtio_net.ko";

fn added(bytes: &[u8]) -> [New<'_>; 4] {
    [
        New { path: "usr/lib/modules/6.1.0-18-amd64", mode: 0o40755, bytes: b"" },
        New { path: MODULE, mode: 0o644, bytes },
        New { path: "etc/link", mode: 0o120_777, bytes: b"../usr" },
        New { path: "etc/empty", mode: 0o100_600, bytes: b"" },
    ]
}

#[test]
fn segment_is_read_by_cpio_and_is_the_same_each_time() {
    let bytes = firmware();
    let first = segment(0, &added(&bytes[..5001]), 1_700_000_000).unwrap();
    assert_eq!(first, segment(8, &added(&bytes[..5001]), 1_700_000_000).unwrap());
    assert_eq!(names_by_cpio(&first), added(b"").map(|entry| entry.path));

    let folder = tempfile::tempdir().unwrap();
    tool("cpio", "cpio", &["--quiet", "-idm"], folder.path(), &first);
    let at = |path: &str| folder.path().join(path).symlink_metadata().unwrap();
    assert_eq!(fs::read(folder.path().join(MODULE)).unwrap(), bytes[..5001]);
    assert_eq!((at(MODULE).mode(), at(MODULE).mtime()), (0o100_644, 1_700_000_000));
    assert_eq!(fs::read_link(folder.path().join("etc/link")).unwrap(), Path::new("../usr"));
    assert_eq!((at("etc/empty").mode(), at("etc/empty").len()), (0o100_600, 0));
    assert!(at("usr/lib/modules/6.1.0-18-amd64").is_dir());
}

/// What follows a compressed segment is found for all kinds but those that mark no end.
#[test]
fn segment_after_a_compressed_one_is_found() {
    let main = archive("newc", &debian(b"module"));
    let marks_its_end = |of: &Option<Compression>| !matches!(of, Some(Compression::Lzo | Compression::Lz4));
    for program in PROGRAMS.iter().filter(|program| marks_its_end(&program.0)) {
        let mut file = compress(program, &main);
        let appended = segment(file.len() as u64, &added(b"new"), 1).unwrap();
        let gap = file.len().next_multiple_of(4) - file.len();
        assert_eq!(names_by_cpio(&appended[gap..]), added(b"").map(|entry| entry.path));
        file.extend(appended);
        let (listing, outline) = list(&file);
        assert_eq!(outline, Outline { compression: None, segments: 2, fault: None }, "{program:?}");
        assert_eq!(listing.names[listing.names.len() - 4..], added(b"").map(|entry| entry.path));
    }
}

#[test]
fn segment_before_a_compressed_one_is_read_by_the_tools_of_debian() {
    let folder = tempfile::tempdir().unwrap();
    symlink("/usr/bin", folder.path().join("bin")).unwrap();
    let path = folder.path().join("initrd.img");
    let main = archive("newc", &debian(b"module"));
    let early = segment(0, &[New { path: "kernel/x86/microcode/x.bin", mode: 0o644, bytes: b"code" }], 0).unwrap();
    fs::write(&path, [early, vec![0; 512], compress(&PROGRAMS[1], &main)].concat()).unwrap();
    let listed = tool("initramfs-tools-core", "lsinitramfs", &[path.to_str().unwrap()], folder.path(), b"");
    let listed = String::from_utf8(listed).unwrap();
    assert_eq!(listed.lines().collect::<Vec<_>>(), list(&fs::read(&path).unwrap()).0.names);
}

/// A header of one entry, with numbers as they come.
fn header(name: &str, mode: u32, length: u32, name_length: u32) -> Vec<u8> {
    let numbers = [1, mode, 0, 0, 1, 0, length, 0, 0, 0, 0, name_length, 0];
    let numbers: String = numbers.iter().map(|number| format!("{number:08x}")).collect();
    let mut bytes = [b"070701", numbers.as_bytes(), name.as_bytes(), b"\0"].concat();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn fault_of(file: impl AsRef<[u8]>) -> Option<String> {
    list(file.as_ref()).1.fault
}

#[test]
fn archives_of_an_attacker_are_refused() {
    let broken = "a header of its cpio archive is broken";
    let entry = |name: &str| header(name, 0o100_644, 0, name.len() as u32 + 1);
    let cut = fault_of(header("x", 0o100_644, u32::MAX, 2)).unwrap();
    assert!(cut.contains("unexpected end of file"), "{cut}");
    assert_eq!(fault_of(header("x", 0, 0, 0)).as_deref(), Some(broken));
    assert_eq!(fault_of(header("x", 0, 0, u32::MAX)).as_deref(), Some(broken));
    assert_eq!(fault_of(header("x", 0, 0, 5000)).as_deref(), Some(broken));
    assert_eq!(fault_of(header("xyz", 0, 0, 2)).as_deref(), Some(broken));
    assert_eq!(fault_of(b"070701junk").as_deref(), Some(broken));
    assert_eq!(fault_of([entry("a"), b"+7070100".repeat(20)].concat()).as_deref(), Some(broken));
    assert_eq!(fault_of(b"#!/bin/sh\n").as_deref(), Some("it goes on with what no kernel unpacks"));
    let many = fault_of(entry("a").repeat(100_001)).unwrap();
    assert_eq!(many, "it has more than 100000 entries");
    let many = fault_of(entry("TRAILER!!!").repeat(65)).unwrap();
    assert_eq!(many, "it has more than 64 archives");
    let nested = compress(&PROGRAMS[1], &compress(&PROGRAMS[1], &entry("a")));
    assert_eq!(fault_of(nested).as_deref(), Some("a compressed part of it holds no cpio archive"));
    // What is said of names is what is shown of them, and they are never opened.
    let names = ["../../etc/udev/rules.d/70-persistent-net.rules", "/./lib/modules/1/../../x.ko", "scripts/\u{1b}[2J"];
    let found = survey(&names.map(entry).concat().as_slice(), "1");
    assert_eq!(found.modules, ["x".to_owned()].into());
    assert_eq!((found.persistent_net_rules.len(), found.hooks), (0, vec!["scripts/\\u{1b}[2J".to_owned()]));
}

#[test]
fn bombs_end_at_the_limit() {
    let mut inside = header("x", 0o100_644, u32::MAX, 2);
    inside.resize((1 << 30) + (64 << 20), 0);
    let packed = compress(&PROGRAMS[PROGRAMS.len() - 1], &inside);
    assert!(packed.len() < 200_000, "{}", packed.len());
    let start = Instant::now();
    assert_eq!(fault_of(packed).as_deref(), Some("more than 1073741824 bytes come out of it"));
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
}

/// Files of lzop whose numbers are changed: flags at 17, the first block at 38.
#[test]
fn files_of_lzop_that_lie_are_refused() {
    let sound = compress(&PROGRAMS[5], &header("a-name-that-repeats-repeats-repeats", 0o100_644, 0, 36).repeat(9));
    assert_eq!((&PROGRAMS[5].1, fault_of(&sound)), (&"lzop", None));
    let broken = "what lzop packed is broken";
    let filter = "it was made by lzop with a filter";
    for (at, bytes, expected) in [
        (9, [0x09, 0x30], "it was made by lzop before 1998"),
        (19, [0x08, 0x0d], filter),
        (38, [0xff, 0xff], broken),
        (40, [0, 1], broken),
        (42, [0xff, 0xff], broken),
        (50, [0, 0], broken),
    ] {
        let mut file = sound.clone();
        file[at..at + 2].copy_from_slice(&bytes);
        assert_eq!(fault_of(&file).as_deref(), Some(expected), "{at}");
    }
    for length in 9..sound.len() {
        assert!(fault_of(&sound[..length]).is_some(), "{length}");
    }
}

/// Blocks of lz4 that break its format, by hand: "LZ4 Block Format".
#[test]
fn blocks_of_lz4_that_lie_are_refused() {
    let frame = |block: &[u8]| {
        let length = u32::try_from(block.len()).unwrap();
        [b"\x02\x21\x4c\x18", &length.to_le_bytes()[..], block].concat()
    };
    for block in [
        &b"\x10"[..],
        b"\xf0\xff\xff\xff",
        b"\x10a\x00\x00",
        b"\x10a\x02\x00",
        b"\x10a\x01",
        b"\x1fa\x01\x00",
        &[&b"\x1fa\x01\x00"[..], &[255; 40_000], b"\x00\x00"].concat(),
    ] {
        assert_eq!(
            fault_of(frame(block)).as_deref(),
            Some("a block of lz4 is broken"),
            "{:?}",
            &block[..block.len().min(8)]
        );
    }
    for length in [1_u32 << 24, u32::MAX] {
        let file = [b"\x02\x21\x4c\x18", &length.to_le_bytes()[..], b"abc"].concat();
        assert_eq!(fault_of(file).as_deref(), Some("a block of lz4 is broken"));
    }
    assert!(fault_of(b"\x02\x21\x4c\x18\x02\x21\x4c\x18\x02\x21\x4c\x18").is_some());
}

/// Thousands of damaged copies: never a panic, always an end.
#[test]
fn damaged_files_end() {
    let main = archive("newc", &debian(b"some content of a module"));
    let mut random = 0x6d6f_6c64_6500_0001_u64;
    let mut next = |below: usize| {
        random ^= random >> 12;
        random ^= random << 25;
        random ^= random >> 27;
        usize::try_from(random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33).unwrap() % below
    };
    for program in &PROGRAMS {
        let sound = [segment(0, &added(b"early")[..1], 0).unwrap(), compress(program, &main)].concat();
        let start = Instant::now();
        let (mut whole, mut faults) = (0, 0);
        for round in 0..1000 {
            let mut file = sound.clone();
            for _ in 0..=next(4) {
                let at = if round % 2 == 0 { next(file.len()) } else { next(file.len().min(800)) };
                file[at] = [0, 0xff, 0x7f, b'0', b'f', next(256) as u8][next(6)];
            }
            if round % 5 == 0 {
                file.truncate(next(file.len()));
            }
            let found = survey(&file.as_slice(), "6.1.0-18-amd64");
            whole += u32::from(found.outline.fault.is_none());
            faults += u32::from(found.outline.fault.is_some());
        }
        assert!(faults > 0 && (whole > 50 || program.0 == Some(Compression::Lzo)), "{program:?}: {whole}, {faults}");
        assert!(start.elapsed() < Duration::from_secs(60), "{program:?}: {:?}", start.elapsed());
    }
}
