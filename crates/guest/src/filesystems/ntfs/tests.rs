//! Volumes that ntfs-3g wrote, read by this reader: whole, damaged at random, and damaged with intent.

#[path = "../../../tests/inspect/volume.rs"]
mod volume;

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use disk::error::{Error, Result};
use disk::source::Source;

use super::state::Hibernation;
use super::{Files, NodeKind, Ntfs};
use crate::budget::Budget;
use crate::window::Window;

/// Makes files of every kind and prints what they hold, as the driver that wrote them reads them.
const TREE: &str = r#"
import os, struct, zlib
def write(path, data):
    os.makedirs(os.path.dirname(path) or '.', exist_ok=True)
    with open(path, 'wb') as file: file.write(data)
def letters(length): return b''.join(b'%08d' % number for number in range(length // 8 + 1))[:length]
def reparse(path, tag, data):
    os.setxattr(path, 'system.ntfs_reparse_data', struct.pack('<IHH', tag, len(data), 0) + data)
def link(path, tag, target, flags=b''):
    name = target.encode('utf-16-le')
    reparse(path, tag, struct.pack('<HHHH', 0, len(name), len(name) + 2, 0) + flags + name + b'\0\0\0\0')
write('empty', b'')
write('small.txt', b'inside the record')
write('Windows/System32/config/SYSTEM', letters(300000))
write('large', letters(3 << 20))
for number in range(700): write('many/A long file name, number %04d.txt' % number, b'%d' % number)
write('Ünïcode/ΣΊΣΥΦΟΣ \U0001f600', b'names')
os.link('small.txt', 'second name.txt')
write('Program Files/x', b'x')
os.setxattr('Program Files', 'system.ntfs_dos_name', b'PROGRA~1')
with open('hole', 'wb') as file:
    file.write(b'head'); file.seek(5 << 20); file.write(b'tail')
with open('scattered', 'wb') as file:
    for number in range(1500):
        file.seek(number * 8192); file.write(b'%08d' % number)
os.mkdir('packed'); os.setxattr('packed', 'system.ntfs_attrib', struct.pack('<I', 0x810))
write('packed/text', letters(500000))
write('packed/zeros', bytes(200000))
write('packed/noise', bytes((number * number * 2654435761 >> 13) & 255 for number in range(150000)))
print('\n'.join('%s\t%d\t%d' % (os.path.join(folder, name)[1:], os.path.getsize(os.path.join(folder, name)),
    zlib.crc32(open(os.path.join(folder, name), 'rb').read())) for folder, _, names in os.walk('.') for name in names))
os.mkdir('Documents and Settings'); link('Documents and Settings', 0xa0000003, r'\??\C:\Windows')
os.mkdir('other'); link('other', 0xa0000003, r'\??\D:\Windows')
write('near', b''); link('near', 0xa000000c, r'Windows\System32', struct.pack('<I', 1))
write('wof', b'x' * 9000); reparse('wof', 0x80000017, struct.pack('<IIII', 1, 2, 1, 0))
write('hiberfil.sys', bytes(8192))
"#;

#[derive(Clone)]
struct Memory {
    sound: Arc<Vec<u8>>,
    changed: Vec<(usize, u8)>,
}

impl Source for Memory {
    fn len(&self) -> u64 {
        self.sound.len()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let at = usize::try_from(offset).unwrap();
        buf.copy_from_slice(self.sound.get(at..at + buf.len()).ok_or_else(|| Error::corrupt("past the end"))?);
        for (place, value) in &self.changed {
            if let Some(byte) = place.checked_sub(at).and_then(|at| buf.get_mut(at)) {
                *byte = *value;
            }
        }
        Ok(())
    }
}

fn window(bytes: &Arc<Vec<u8>>, changed: Vec<(usize, u8)>) -> Window {
    Window::whole(Arc::new(Memory { sound: bytes.clone(), changed }), Rc::new(Budget::new()))
}

fn open(bytes: Vec<u8>) -> Ntfs {
    Ntfs::open(&window(&Arc::new(bytes), Vec::new())).unwrap()
}

/// Reads `most` bytes of every file below `path` and returns lengths and checksums by path; what cannot be read is left out.
fn walk(ntfs: &Ntfs, path: &str, most: usize, found: &mut BTreeMap<String, (u64, u32)>, depth: usize) {
    for name in ntfs.names(if path.is_empty() { b"/" } else { path.as_bytes() }, 2000).unwrap_or_default() {
        let below = format!("{path}/{}", String::from_utf8(name).unwrap());
        // The files of the file system itself begin with a dollar.
        if below.starts_with("/$") {
            continue;
        }
        match ntfs.stat(below.as_bytes()) {
            Ok(Some(node)) if node.kind == NodeKind::Folder && depth > 0 => walk(ntfs, &below, most, found, depth - 1),
            Ok(Some(node)) if node.kind == NodeKind::File => {
                if let Ok(bytes) = ntfs.read(below.as_bytes(), 0, most) {
                    found.insert(below, (node.length, crc32fast::hash(&bytes)));
                }
            }
            _ => {}
        }
    }
}

fn tree(options: &[&str]) -> (Vec<u8>, BTreeMap<String, (u64, u32)>) {
    let (bytes, told) = volume::ntfs(40, options, TREE);
    let parse = |line: &str| {
        let mut parts = line.split('\t');
        let (path, length) = (parts.next()?.to_owned(), parts.next()?.parse().ok()?);
        Some((path, (length, parts.next()?.parse().ok()?)))
    };
    (bytes, told.lines().map(|line| parse(line).unwrap()).collect())
}

#[test]
fn every_file_is_read_as_its_driver_reads_it() {
    for options in [&["-L", "System"][..], &["-c", "1024"], &["-c", "512", "-s", "512"], &["-c", "65536"]] {
        let (bytes, mut expected) = tree(options);
        assert!(expected.len() > 700);
        let ntfs = open(bytes);
        let mut found = BTreeMap::new();
        walk(&ntfs, "", 16 << 20, &mut found, 5);
        expected.insert("/hiberfil.sys".to_owned(), (8192, crc32fast::hash(&[0; 8192])));
        assert_eq!(found.len(), expected.len(), "{options:?}");
        assert_eq!(found, expected, "{options:?}");
    }
}

#[test]
fn paths_links_and_refusals() {
    let (bytes, _) = tree(&["-L", "Sy\u{e9}tem"]);
    let ntfs = open(bytes.clone());
    let kind = |path: &str| ntfs.stat(path.as_bytes()).unwrap().map(|node| node.kind);
    assert_eq!(kind("/WINDOWS/system32/CONFIG/system"), Some(NodeKind::File));
    assert_eq!(kind("/ünïcode/σίσυφοσ \u{1f600}"), Some(NodeKind::File));
    assert_eq!(kind("/ünïcode/σίσυφος \u{1f600}"), None, "the final sigma has no capital in $UpCase");
    assert_eq!(kind("/PROGRA~1/X"), Some(NodeKind::File));
    assert!(!ntfs.names(b"/", 100).unwrap().contains(&b"PROGRA~1".to_vec()));
    assert_eq!((kind("/small.txt/x"), kind("/none"), kind("/many/none")), (None, None, None));
    assert_eq!(ntfs.stat(b"/\xff").unwrap(), None);
    assert_eq!(ntfs.names(b"/many", 10).unwrap().len(), 10);
    assert_eq!(ntfs.read(b"/large", 1 << 20, 16).unwrap(), b"0013107200131073");
    assert_eq!(ntfs.read(b"/packed/text", 100_000, 16).unwrap(), b"0001250000012501");
    assert_eq!(ntfs.read(b"/second name.txt", 7, 100).unwrap(), b"the record");
    assert_eq!(ntfs.read(b"/small.txt", 100, 100).unwrap(), b"");

    let link = |path: &str| String::from_utf8(ntfs.link(path.as_bytes(), 100).unwrap()).unwrap();
    assert_eq!((kind("/near"), kind("/Documents and Settings")), (Some(NodeKind::Link), Some(NodeKind::Link)));
    assert_eq!((link("/near"), link("/Documents and Settings")), ("Windows/System32".into(), "/Windows".into()));
    assert_eq!(ntfs.stat(b"/near").unwrap().unwrap().length, 16);
    assert_eq!(kind("/other"), Some(NodeKind::Special));
    assert_eq!(kind("/wof"), Some(NodeKind::File));
    assert!(ntfs.read(b"/wof", 0, 1).unwrap_err().contains("CompactOS"));
    assert!(ntfs.read(b"/many", 0, 1).is_err() && ntfs.link(b"/large", 1).is_err());

    let state = ntfs.state().unwrap();
    assert_eq!((state.version, state.label.as_deref(), state.is_dirty), ((3, 1), Some("Sy\u{e9}tem"), false));
    assert_eq!(state.hibernation, Hibernation::None);
}

#[test]
fn extents_are_where_the_bytes_are() {
    let (bytes, _) = tree(&[]);
    let ntfs = open(bytes.clone());
    for path in ["/large", "/Windows/System32/config/SYSTEM"] {
        let mut gathered = Vec::new();
        for (offset, length) in ntfs.extents(path.as_bytes()).unwrap() {
            gathered.extend_from_slice(&bytes[offset as usize..(offset + length) as usize]);
        }
        assert!(gathered == ntfs.read(path.as_bytes(), 0, 16 << 20).unwrap(), "{path}");
    }
    for (path, why) in [
        ("/small.txt", "in its record"),
        ("/hole", "holes"),
        ("/scattered", "holes"),
        ("/packed/text", "compressed"),
        ("/packed/noise", "compressed"),
        ("/Windows", "no regular file"),
        ("/none", "does not exist"),
        ("/empty", "in its record"),
    ] {
        let told = ntfs.extents(path.as_bytes()).unwrap_err();
        assert!(told.contains(why), "{path}: {told}");
    }
}

#[test]
fn sleeping_and_dirty_volumes_are_told() {
    for (head, expected) in [
        ("b'hibr'", Hibernation::Asleep),
        ("b'HIBR'", Hibernation::Asleep),
        ("b'wake'", Hibernation::None),
        ("b'RSTR'", Hibernation::Unclear),
        ("b''", Hibernation::None),
    ] {
        let script = format!("open('hiberfil.sys', 'wb').write({head} + bytes(9000))");
        let (bytes, _) = volume::ntfs(8, &[], &script);
        assert_eq!(open(bytes).state().unwrap().hibernation, expected, "{head}");
    }
    let (mut bytes, _) = volume::ntfs(8, &[], "");
    let at = attribute(&bytes, "$Volume", 0x70);
    bytes[at + 24 + 10] |= 1;
    let state = open(bytes).state().unwrap();
    assert_eq!((state.is_dirty, state.label), (true, None));
}

/// Returns where the attribute `kind` of the file `name` begins in the image.
fn attribute(bytes: &[u8], name: &str, kind: u8) -> usize {
    let units: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
    // In its $FILE_NAME, which comes early, stand its length and its kind before it.
    let is_name = |part: &[u8]| usize::from(part[0]) == units.len() / 2 && part[1] < 4 && part[2..] == units;
    let is_meant = |block: &&[u8]| {
        block.starts_with(b"FILE") && block[..320.min(block.len())].windows(units.len() + 2).any(is_name)
    };
    let record = bytes.chunks(1024).position(|block| is_meant(&block)).unwrap() * 1024;
    let mut at = record + usize::from(bytes[record + 20]);
    while bytes[at] != kind {
        assert_ne!(bytes[at], 0xff);
        at += usize::from(bytes[at + 4]) + (usize::from(bytes[at + 5]) << 8);
    }
    at
}

#[test]
fn structures_that_lead_astray_end() {
    let (bytes, _) = tree(&[]);
    let at = |name: &str, kind| attribute(&bytes, name, kind);
    let runs = |at: usize| at + usize::from(bytes[at + 32]);
    let fault = |changed: &[(usize, u8)], path: &str| {
        let ntfs = Ntfs::open(&window(&Arc::new(bytes.clone()), changed.to_vec()))?;
        ntfs.read(path.as_bytes(), 0, 64)?;
        ntfs.names(path.as_bytes(), 5000).map(|_| ())
    };
    let large = at("large", 0x80);
    assert!(fault(&[(large + 13, 0x40)], "/large").unwrap_err().contains("encrypted"));
    assert!(fault(&[(runs(large) + 1, 0xff), (runs(large) + 2, 0x7f)], "/large").unwrap_err().contains("past the end"));
    assert!(fault(&[(runs(large), 0)], "/large").unwrap_err().contains("longer than its clusters"));
    assert!(fault(&[(large + 55, 0x80)], "/large").unwrap_err().contains("broken"));
    let text = at("text", 0x80);
    assert!(fault(&[(text + 34, 40)], "/packed/text").unwrap_err().contains("units"));
    assert!(fault(&[(text + 34, 64)], "/packed/text").unwrap_err().contains("broken"));
    // The table of files that claims no place, and one that lies in itself.
    let mft = at("$MFT", 0x80);
    assert!(fault(&[(mft, 0x81)], "/large").unwrap_err().contains("no place"));
    assert!(fault(&[(runs(mft) + 2, 0xff)], "/large").is_err());

    // A folder whose nodes all name the first node as theirs.
    let nodes = runs(at("many", 0xa0));
    let place = usize::from(bytes[nodes + 2]) + (usize::from(bytes[nodes + 3]) << 8);
    assert_eq!(bytes[nodes] >> 4, 2, "the place has two bytes");
    let node = place * 4096;
    assert!(bytes[node..].starts_with(b"INDX"));
    let root = at("many", 0x90) + 32 + 32;
    let mut circle = bytes.clone();
    // Its only entry is then a node of its own, below itself.
    circle[node + 24..node + 32].copy_from_slice(&[0x28, 0, 0, 0, 0x40, 0, 0, 0]);
    circle[node + 64..node + 88].copy_from_slice(&[0; 24]);
    circle[node + 64 + 8..node + 64 + 13].copy_from_slice(&[24, 0, 0, 0, 3]);
    assert_eq!(circle[root + 12] & 1, 1, "the root has nodes below it");
    let ntfs = open(circle);
    let found = ntfs.names(b"/many", 5000);
    let looked = ntfs.stat(b"/many/A");
    assert!(found.as_ref().is_err_and(|why| why.contains("circle")) && looked.is_err(), "{found:?} {looked:?}");
}

/// Writes a record with these attributes, and keeps the ends of its strides in the table for them.
fn put_record(bytes: &mut [u8], at: usize, base: u64, parts: &[&[u8]]) {
    let record = &mut bytes[at..at + 1024];
    let end = 56 + parts.iter().map(|part| part.len()).sum::<usize>();
    record[32..40].copy_from_slice(&base.to_le_bytes());
    record[56..end].copy_from_slice(&parts.concat());
    record[end..].fill(0);
    record[end..end + 4].fill(0xff);
    record[24..28].copy_from_slice(&u32::try_from(end + 8).unwrap().to_le_bytes());
    record[48..50].copy_from_slice(&[1, 0]);
    for (stride, end) in [510, 1022].into_iter().enumerate() {
        record.copy_within(end..end + 2, 50 + stride * 2);
        record[end..end + 2].copy_from_slice(&[1, 0]);
    }
}

/// A table of files in two pieces, the second of which only another record of it names.
#[test]
fn table_of_files_in_pieces() {
    let (mut bytes, _) = volume::ntfs(8, &[], "for number in range(99): open(str(number), 'w').write(str(number))");
    let data = attribute(&bytes, "$MFT", 0x80);
    let record = data & !1023;
    let runs = data + usize::from(bytes[data + 32]);
    let [0x11, clusters, place, 0] = bytes[runs..runs + 4] else { panic!("{:?}", &bytes[runs..runs + 8]) };
    let mut mft = bytes[record..record + 1024].to_vec();
    super::record::restore(&mut mft, *b"FILE").unwrap();
    let part = |kind: u8| {
        let at = attribute(&mft, "$MFT", kind);
        mft[at..at + usize::from(mft[at + 4])].to_vec()
    };
    // The first four clusters hold records 0 to 15, of which the last is free.
    let piece = |vcn: u8, packed: [u8; 4]| {
        let mut piece = part(0x80);
        (piece[16], piece[4]) = (vcn, 72);
        piece.resize(72, 0);
        piece[64..68].copy_from_slice(&packed);
        piece
    };
    let entry = |vcn: u8, number: u8| {
        let mut entry = [0; 32];
        (entry[0], entry[4], entry[7], entry[8], entry[16], entry[22]) = (0x80, 32, 26, vcn, number, 1);
        entry
    };
    let list = |number: u8| {
        let head = [0x20, 0, 0, 0, 24 + 64, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 64, 0, 0, 0, 24, 0, 0, 0];
        [&head[..], &entry(0, 0), &entry(4, number)].concat()
    };
    let (first, second) = (piece(0, [0x11, 4, place, 0]), piece(4, [0x11, clusters - 4, place + 4, 0]));
    put_record(&mut bytes, record, 0, &[&part(0x10), &list(15), &part(0x30), &first, &part(0xb0)]);
    bytes.copy_within(record..record + 56, record + 15 * 1024);
    put_record(&mut bytes, record + 15 * 1024, 1 << 48, &[&second]);
    let ntfs = open(bytes.clone());
    for number in 0..99 {
        assert_eq!(ntfs.read(format!("/{number}").as_bytes(), 0, 9).unwrap(), number.to_string().as_bytes());
    }
    // The second piece is named by a record that lies in it.
    put_record(&mut bytes, record, 0, &[&part(0x10), &list(16), &part(0x30), &first, &part(0xb0)]);
    let fault = Ntfs::open(&window(&Arc::new(bytes), Vec::new())).err().unwrap();
    assert!(fault.contains("longer than its clusters"), "{fault}");
}

/// xorshift64*: the same numbers at each run.
struct Random(u64);

impl Random {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % below
    }
}

/// Damaged copies never end in a panic, and always end.
#[test]
fn damaged_volumes_are_read_to_an_end() {
    const ROUNDS: usize = 600;
    let script = TREE.replace("range(700)", "range(60)").replace("range(1500)", "range(200)");
    let script = script.replace("3 << 20", "1 << 17").replace("5 << 20", "1 << 16");
    let (bytes, _) = volume::ntfs(8, &["-c", "1024"], &script);
    let blocks: Vec<usize> = (0..bytes.len() / 512)
        .filter(|block| {
            let start = (block * 512) & !1023;
            matches!(&bytes[start..start + 4], b"FILE" | b"INDX") || *block == 0
        })
        .collect();
    let sound = Arc::new(bytes);
    let mut random = Random(0x6d6f_6c64_6500_0002);
    let (mut files, mut opened) = (0, 0);
    for round in 0..ROUNDS {
        let rarity = [12, 60, 300][round % 3];
        let mut changed = Vec::new();
        for block in &blocks {
            if random.next(rarity) == 0 {
                for _ in 0..=random.next(3) {
                    let value = [0, 0xff, 0x7f, 0x80, random.next(256) as u8, random.next(256) as u8][random.next(6)];
                    changed.push((block * 512 + random.next(512), value));
                }
            }
        }
        let start = Instant::now();
        if let Ok(ntfs) = Ntfs::open(&window(&sound, changed)) {
            opened += 1;
            let mut found = BTreeMap::new();
            walk(&ntfs, "", 1 << 18, &mut found, 3);
            files += found.len();
            let _ = (ntfs.state(), ntfs.extents(b"/large"), ntfs.link(b"/near", 100));
        }
        assert!(start.elapsed() < Duration::from_secs(12), "round {round}: {:?}", start.elapsed());
    }
    assert!(opened > ROUNDS / 4 && opened < ROUNDS && files > ROUNDS, "{opened} of {ROUNDS} opened, {files} files");
}
