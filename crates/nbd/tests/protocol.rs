//! The protocol to the byte, and what is said to clients that ask for what is not there.

mod common;

use std::io::Read;
use std::sync::Arc;

use common::raw::{ACK, INVALID, Raw, UNKNOWN, UNSUP, be, strings};
use common::{Running, disk_with_holes, serve, tcp};
use disk::{ExtentKind, Source};
use nbd::{Export, Exports, Limits};

/// Serves the disk of the tests as `one`, and a short one as `two`.
fn start() -> Running {
    let one = Export { name: "one".into(), description: "the first".into(), disk: Arc::new(disk_with_holes()) };
    let two = Export { name: "two".into(), description: String::new(), disk: Arc::new(vec![1_u8; 100]) };
    serve(&tcp(), vec![one, two], Limits::default())
}

/// The flags of an export: has flags, read-only, flush, several connections, cache.
const FLAGS: u64 = 1 | 1 << 1 | 1 << 2 | 1 << 8 | 1 << 10;

fn size() -> u64 {
    disk_with_holes().len()
}

#[test]
fn an_export_by_its_name_in_the_oldest_way() {
    let running = start();
    for (zeros, flags) in [(0, 3_u32), (124, 1)] {
        let mut raw = Raw::connect(&running.address);
        raw.take(18);
        raw.send(&flags.to_be_bytes());
        raw.option(1, b"two");
        let answer = raw.take(10 + zeros);
        assert_eq!((be(&answer[..8]), be(&answer[8..10])), (100, FLAGS));
        assert!(answer[10..].iter().all(|byte| *byte == 0));
        raw.request(0, 0, 77, 90, 10);
        assert_eq!(raw.simple_reply(), (0, 77));
        assert_eq!(raw.take(10), [1; 10]);
        raw.request(0, 2, 0, 0, 0);
        assert!(raw.ends().is_empty());
    }
    let mut raw = Raw::greeted(&running.address);
    raw.option(1, b"three");
    assert!(raw.ends().is_empty());
    running.stop();
}

#[test]
fn exports_are_listed_and_described() {
    let running = start();
    let mut raw = Raw::greeted(&running.address);
    raw.option(3, b"");
    assert_eq!(raw.option_reply(), (3, 2, [&strings(&[b"one"])[..], b"the first"].concat()));
    assert_eq!(raw.option_reply(), (3, 2, strings(&[b"two"])));
    assert_eq!(raw.option_reply(), (3, ACK, vec![]));
    raw.option(3, b"x");
    assert_eq!(raw.option_reply().1, INVALID);
    // All kinds of information, and one that nobody knows.
    let asked = [&5_u16.to_be_bytes()[..], &[0, 0, 0, 1, 0, 2, 0, 3, 0, 99]].concat();
    raw.option(6, &[&strings(&[b""])[..], &asked].concat());
    let info = |kind: u16, parts: &[&[u8]]| (6, 3, [&kind.to_be_bytes()[..], &parts.concat()].concat());
    assert_eq!(raw.option_reply(), info(0, &[&size().to_be_bytes(), &(FLAGS as u16).to_be_bytes()]));
    let sizes = [1_u32, 4096, 32 << 20].map(u32::to_be_bytes);
    assert_eq!(raw.option_reply(), info(3, &[&sizes[0], &sizes[1], &sizes[2]]));
    assert_eq!(raw.option_reply(), info(1, &[b"one"]));
    assert_eq!(raw.option_reply(), info(2, &[b"the first"]));
    assert_eq!(raw.option_reply(), (6, ACK, vec![]));
    for (data, expected) in [
        (&[&strings(&[b"three"])[..], &[0, 0]].concat(), UNKNOWN),
        (&strings(&[b"one"]), INVALID),
        (&[&strings(&[b"one"])[..], &[0, 2, 0, 1]].concat(), INVALID),
        (&[&strings(&[b"one"])[..], &[0, 0, 0]].concat(), INVALID),
        (&vec![0xff; 6], INVALID),
        (&vec![], INVALID),
    ] {
        raw.option(7, data);
        let (option, kind, sentence) = raw.option_reply();
        assert_eq!((option, kind), (7, expected), "{data:?}");
        assert!(!sentence.is_empty());
    }
    // STARTTLS, extended headers, and what was withdrawn.
    for option in [5, 11, 4, 0, u32::MAX] {
        raw.option(option, b"");
        assert_eq!((raw.option_reply().1, option), (UNSUP, option));
    }
    raw.option(2, b"");
    assert_eq!(raw.option_reply(), (2, ACK, vec![]));
    assert!(raw.ends().is_empty());
    running.stop();
}

#[test]
fn contexts_are_listed_and_chosen() {
    let running = start();
    let mut raw = Raw::greeted(&running.address);
    let data = |export: &[u8], queries: &[&[u8]]| {
        [strings(&[export]), (queries.len() as u32).to_be_bytes().to_vec(), strings(queries)].concat()
    };
    raw.option(10, &data(b"", &[b"base:allocation"]));
    assert_eq!(raw.option_reply().1, INVALID, "structured replies come first");
    raw.option(8, b"x");
    assert_eq!(raw.option_reply().1, INVALID);
    raw.option(8, b"");
    assert_eq!(raw.option_reply(), (8, ACK, vec![]));
    let context = |id: u32| [&id.to_be_bytes()[..], b"base:allocation"].concat();
    for (queries, listed, chosen) in [
        (&[][..], true, false),
        (&[&b"base:"[..]], true, false),
        (&[&b"base:allocation"[..]], true, true),
        (&[&b"qemu:dirty-bitmap:x"[..], b"base:allocation", b"base:allocation"], true, true),
        (&[&b"base:other"[..], b"x", b""], false, false),
    ] {
        for (option, id, expected) in [(9, 0, listed), (10, 1, chosen)] {
            raw.option(option, &data(b"one", queries));
            if expected {
                assert_eq!(raw.option_reply(), (option, 4, context(id)));
            }
            assert_eq!(raw.option_reply(), (option, ACK, vec![]), "{queries:?}");
        }
    }
    raw.option(9, &data(b"three", &[]));
    assert_eq!(raw.option_reply().1, UNKNOWN);
    // A query that is longer than its option, and more queries than there are.
    raw.option(9, &[strings(&[b"one"]), vec![0, 0, 0, 1, 0, 0, 0, 9]].concat());
    assert_eq!(raw.option_reply().1, INVALID);
    raw.option(9, &[strings(&[b"one"]), vec![0xff; 4]].concat());
    assert_eq!(raw.option_reply().1, INVALID);
    // What was chosen counts for the export for which it was chosen.
    raw.option(10, &data(b"one", &[b"base:allocation"]));
    raw.option_reply();
    raw.option_reply();
    raw.option(7, &[strings(&[b"two"]), vec![0, 0]].concat());
    assert_eq!([raw.option_reply().1, raw.option_reply().1, raw.option_reply().1], [3, 3, ACK]);
    raw.request(0, 7, 1, 0, 100);
    assert_eq!(raw.error().0, 22);
    running.stop();
}

#[test]
fn reads_are_data_and_holes() {
    let running = start();
    let mut raw = Raw::transmitting(&running.address);
    raw.request(0, 0, 5, (1 << 20) - 70_000, 140_000);
    let hole = raw.chunk();
    assert_eq!((hole.done, hole.kind, hole.cookie), (false, 2, 5));
    assert_eq!(hole.payload, [&((1_u64 << 20) - 70_000).to_be_bytes()[..], &70_000_u32.to_be_bytes()].concat());
    let data = raw.chunk();
    assert_eq!((data.done, data.kind, data.payload.len()), (true, 1, 8 + 70_000));
    assert_eq!(be(&data.payload[..8]), 1 << 20);
    assert!(data.payload[8..].iter().all(|byte| *byte == 7));
    // In one part, if that is asked for.
    raw.request(4, 0, 6, (1 << 20) - 70_000, 140_000);
    let data = raw.chunk();
    assert_eq!((data.done, data.kind, data.payload.len()), (true, 1, 8 + 140_000));
    raw.request(4, 0, 7, 0, (2 << 20) + 1);
    assert_eq!(raw.error().0, 75);
    raw.request(0, 0, 8, 0, 0);
    let none = raw.chunk();
    assert_eq!((none.done, none.kind, none.payload.len()), (true, 0, 0));
    running.stop();
}

#[test]
fn what_a_command_cannot_do_is_said() {
    let running = start();
    let size = size();
    let mut raw = Raw::transmitting(&running.address);
    for (flags, command, offset, length, expected) in [
        (0, 0, size, 1, 22),
        (0, 0, size - 1, 2, 22),
        (0, 0, u64::MAX, 1, 22),
        (0, 0, 0, u32::MAX, 22),
        (0, 0, 0, (32 << 20) + 1, 22),
        (8, 0, 0, 1, 22),
        (1, 0, 0, 1, 22),
        (0x8000, 7, 0, 1, 22),
        (0, 7, size, 1, 22),
        (0, 7, 0, 0, 22),
        (0, 4, 0, 4096, 1),
        (0, 6, 0, u32::MAX, 1),
        (0, 5, size, 1, 22),
        (0, 8, 0, 1, 22),
        (0, 0xffff, 0, 1, 22),
    ] {
        raw.request(flags, command, 9, offset, length);
        let (code, sentence) = raw.error();
        assert_eq!(code, expected, "command {command} with flags {flags} at {offset}, {length} bytes: {sentence}");
        assert!(!sentence.is_empty());
    }
    // A write brings its data along.
    raw.request(0, 1, 10, 0, 70_000);
    raw.send(&vec![0x25; 70_000]);
    assert_eq!(raw.error().0, 1);
    for command in [3, 5] {
        raw.request(0, command, 11, 0, 0);
        let chunk = raw.chunk();
        assert_eq!((chunk.done, chunk.kind, chunk.cookie), (true, 0, 11));
    }
    let mut raw = Raw::simple(&running.address);
    for (flags, command, offset, expected) in
        [(4, 0, 0, 22), (0, 7, 0, 22), (0, 0, size, 22), (0, 4, 0, 1), (0, 3, 0, 0)]
    {
        raw.request(flags, command, 12, offset, 4096);
        assert_eq!(raw.simple_reply(), (expected, 12));
    }
    running.stop();
}

#[test]
fn block_status_is_the_map() {
    let running = start();
    let mut raw = Raw::transmitting(&running.address);
    let source = disk_with_holes();
    for (offset, length) in [(0, size() as u32), (5, 1), ((1 << 20) - 1, 2), ((8 << 20) + 3, 900_001)] {
        for flags in [0, 8] {
            raw.request(flags, 7, 13, offset, length);
            let chunk = raw.chunk();
            assert_eq!((chunk.done, chunk.kind, be(&chunk.payload[..4])), (true, 5, 1));
            let runs: Vec<_> = chunk.payload[4..].chunks(8).map(|run| (be(&run[..4]), be(&run[4..]))).collect();
            let mut expected: Vec<_> = disk::map(&source, offset..offset + u64::from(length))
                .map(|run| run.map(|run| (run.length, if run.kind == ExtentKind::Zero { 3 } else { 0 })).unwrap())
                .collect();
            if flags == 8 {
                expected.truncate(1);
            }
            assert_eq!(runs, expected);
        }
    }
    running.stop();
}

#[test]
fn any_reads_in_any_order_are_the_disk() {
    let running = start();
    let source = disk_with_holes();
    let mut raw = Raw::transmitting(&running.address);
    let mut seed = 42_u64;
    let mut below = |end: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 20) % end
    };
    let requests: Vec<_> = (0..120_u64)
        .map(|cookie| {
            let offset = below(size());
            let length = (1 + below([600, 70_000, 3 << 20][cookie as usize % 3])).min(size() - offset);
            (offset, length as usize)
        })
        .collect();
    // Many at once: replies come while others are asked for, so a second thread asks.
    let mut asking = Raw(raw.0.try_clone().unwrap());
    let list = requests.clone();
    let asker = std::thread::spawn(move || {
        for (cookie, (offset, length)) in list.into_iter().enumerate() {
            asking.request(0, 0, cookie as u64, offset, length as u32);
        }
    });
    let mut open: Vec<Option<Vec<Option<u8>>>> = requests.iter().map(|(_, length)| Some(vec![None; *length])).collect();
    let mut left = requests.len();
    while left > 0 {
        let chunk = raw.chunk();
        let (start, _) = requests[chunk.cookie as usize];
        let bytes = open[chunk.cookie as usize].as_mut().unwrap();
        let at = (be(&chunk.payload[..8]) - start) as usize;
        let part = match chunk.kind {
            1 => chunk.payload[8..].to_vec(),
            2 => vec![0; be(&chunk.payload[8..]) as usize],
            other => panic!("chunk of kind {other}"),
        };
        for (slot, byte) in bytes[at..at + part.len()].iter_mut().zip(part) {
            assert!(slot.replace(byte).is_none(), "a byte was sent twice");
        }
        if chunk.done {
            let expected = &source.bytes[start as usize..start as usize + bytes.len()];
            assert!(bytes.iter().zip(expected).all(|(found, byte)| *found == Some(*byte)));
            open[chunk.cookie as usize] = None;
            left -= 1;
        }
    }
    asker.join().unwrap();
    raw.request(0, 2, 0, 0, 0);
    assert_eq!(raw.0.read(&mut [0]).unwrap(), 0);
    running.stop();
}

#[test]
fn large_simple_reads_are_whole() {
    let running = start();
    let mut raw = Raw::simple(&running.address);
    raw.request(0, 0, 14, 3, 9 << 20);
    assert_eq!(raw.simple_reply(), (0, 14));
    assert!(raw.take(9 << 20) == disk_with_holes().bytes[3..3 + (9 << 20)]);
    raw.request(0, 0, 15, 3, 0);
    assert_eq!(raw.simple_reply(), (0, 15));
    running.stop();
}

#[test]
fn names_that_cannot_be_served_are_refused() {
    let export = |name: &str| Export { name: name.into(), description: String::new(), disk: Arc::new(vec![0; 1]) };
    for (list, said) in [
        (vec![], "no disk"),
        (vec![export("a"), export("")], "empty name"),
        (vec![export("a"), export("a")], "two exports"),
        (vec![export("a\0")], "zero byte"),
        (vec![export(&"a".repeat(4097))], "4096"),
    ] {
        let error = Exports::new(list).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
    // The first may have no name.
    let running = serve(&tcp(), vec![export(""), export("a")], Limits::default());
    let mut raw = Raw::greeted(&running.address);
    raw.option(3, b"");
    assert_eq!(raw.option_reply(), (3, 2, vec![0; 4]));
    running.stop();
}
