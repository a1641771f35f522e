//! Databases that real programs made of headers made here, and what an attacker would make of them.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::super::found::Found;
use super::{Store, read_store};

/// Runs `program` of the Debian package `package` with `arguments`.
fn tool(package: &str, program: &str, arguments: &[&str]) {
    let mut command = Command::new(program);
    let output = command.args(arguments).stdin(Stdio::null()).output().unwrap_or_else(|error| {
        panic!("cannot run {program} ({error}): install the Debian package {package}, for example with apt-get");
    });
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && errors.is_empty(), "{program} {arguments:?} failed: {errors}");
}

/// A header with a name and a version, and `rest` bytes of other data.
fn header(number: usize, rest: usize) -> Vec<u8> {
    let name = format!("package-{number:03}");
    let version = format!("1.{number}");
    let places = [(1000, 0), (1001, name.len() + 1), (1002, name.len() + version.len() + 2)];
    let data = [name.as_bytes(), b"\0", version.as_bytes(), b"\0", b"1.el9\0", &vec![b'x'; rest]].concat();
    let entries = places.iter().flat_map(|(tag, at)| [*tag, 6, *at as u32, 1]);
    let numbers = [3, data.len() as u32].into_iter().chain(entries);
    [numbers.flat_map(u32::to_be_bytes).collect(), data].concat()
}

/// Headers that fit into a page and such that do not; the names of their packages with versions.
fn headers() -> (Vec<Vec<u8>>, Vec<String>) {
    let sizes = [0, 100, 400, 3900, 4000, 4100, 9000, 70_000];
    let headers = (0..60).map(|number| header(number, sizes[number % 8])).collect();
    (headers, (0..60).map(|number| format!("package-{number:03} 1.{number}-1.el9")).collect())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn sqlite(headers: &[Vec<u8>], page_size: usize, folder: &Path) -> Vec<u8> {
    let (script, path) = (folder.join("script"), folder.join("database"));
    let rows: String =
        headers.iter().map(|header| format!("insert into Packages(blob) values(x'{}');", hex(header))).collect();
    let tables = "create table Other(a, b); create index OtherIndex on Other(a); insert into Other values(1, 'x');\
                  create table 'Packages' (hnum INTEGER PRIMARY KEY AUTOINCREMENT,blob BLOB NOT NULL);";
    fs::write(&script, format!("pragma page_size={page_size}; begin; {tables} {rows} commit;")).unwrap();
    let _ = fs::remove_file(&path);
    tool("sqlite3", "sqlite3", &[path.to_str().unwrap(), &format!(".read {}", script.display())]);
    fs::read(path).unwrap()
}

fn berkeley_db(headers: &[Vec<u8>], page_size: usize, order: u32, folder: &Path) -> Vec<u8> {
    let (script, path) = (folder.join("script"), folder.join("database"));
    let mut text = format!(
        "VERSION=3\nformat=bytevalue\ntype=hash\ndb_pagesize={page_size}\ndb_lorder={order}\nHEADER=END\n 00000000\n 3c000000\n"
    );
    for (number, header) in (1_u32..).zip(headers) {
        text.push_str(&format!(" {}\n {}\n", hex(&number.to_le_bytes()), hex(header)));
    }
    fs::write(&script, text + "DATA=END\n").unwrap();
    let _ = fs::remove_file(&path);
    tool("db5.3-util", "db5.3_load", &["-f", script.to_str().unwrap(), path.to_str().unwrap()]);
    fs::read(path).unwrap()
}

/// No Debian has an rpm that writes this store, so its bytes are put together as `rpmpkg.c` of rpm has them.
fn ndb(headers: &[Vec<u8>]) -> Vec<u8> {
    let mut slots = [b"RpmP", &[0; 4][..], &[7, 0, 0, 0, 2, 0, 0, 0, 61, 0, 0, 0], &[0; 12]].concat();
    let mut blobs: Vec<u8> = Vec::new();
    for (number, header) in (1_u32..).zip(headers) {
        let block = (8192 + blobs.len() as u32) / 16;
        let length = header.len() as u32;
        let start = blobs.len();
        blobs.extend([b"BlbS", &number.to_le_bytes()[..], &[7, 0, 0, 0], &length.to_le_bytes(), header].concat());
        blobs.resize((blobs.len() + 12).next_multiple_of(16) - 12, 0);
        blobs.extend([&[0; 4], &length.to_le_bytes()[..], b"BlbE"].concat());
        let blocks = (blobs.len() - start) as u32 / 16;
        slots.extend([b"Slot", &number.to_le_bytes()[..], &block.to_le_bytes(), &blocks.to_le_bytes()].concat());
        if number % 7 == 0 {
            slots.extend([b"Slot", &[0; 12][..]].concat());
        }
    }
    while slots.len() < 8192 {
        slots.extend([b"Slot", &[0; 12][..]].concat());
    }
    [slots, blobs].concat()
}

fn read(store: Store, file: &[u8]) -> (Result<Vec<String>, String>, usize) {
    let mut found = Found::all();
    let (answer, broken) = read_store(store, &file, None, &mut found);
    let show = |package: &crate::report::Package| format!("{} {}", package.name, package.version);
    (answer.map(|()| found.into_packages().iter().map(show).collect()), broken)
}

fn databases(headers: &[Vec<u8>], folder: &Path) -> Vec<(Store, Vec<u8>)> {
    let mut all = vec![(Store::Ndb, ndb(headers))];
    for page_size in [512, 4096, 65_536] {
        all.push((Store::Sqlite, sqlite(headers, page_size, folder)));
        for order in [1234, 4321] {
            all.push((Store::BerkeleyDb, berkeley_db(headers, page_size, order, folder)));
        }
    }
    all
}

#[test]
fn each_store_gives_all_packages() {
    let folder = tempfile::tempdir().unwrap();
    let (headers, expected) = headers();
    for (store, file) in databases(&headers, folder.path()) {
        assert_eq!(read(store, &file), (Ok(expected.clone()), 0), "{store:?}, {} bytes", file.len());
        // One package is found without looking at the others behind it.
        let mut found = Found::one("package-030");
        let (answer, broken) = read_store(store, &file.as_slice(), None, &mut found);
        assert_eq!((answer, broken, found.into_packages().len()), (Ok(()), 0, 1));
    }
}

#[test]
fn broken_headers_are_counted_and_others_told() {
    let folder = tempfile::tempdir().unwrap();
    let (mut headers, mut expected) = headers();
    // Counts of entries and lengths that nothing can have.
    headers[7][..4].copy_from_slice(&0x8000_0000_u32.to_be_bytes());
    headers[8][4..8].copy_from_slice(&u32::MAX.to_be_bytes());
    headers[9].truncate(5);
    headers[10][8..12].fill(0);
    expected.drain(7..11);
    for (store, file) in databases(&headers, folder.path()) {
        assert_eq!(read(store, &file), (Ok(expected.clone()), 4), "{store:?}");
    }
}

#[test]
fn files_of_an_attacker_end() {
    let folder = tempfile::tempdir().unwrap();
    let (headers, _) = headers();
    let fault = |store, file: &[u8]| read(store, file).0.unwrap_err();
    for store in [Store::Sqlite, Store::Ndb, Store::BerkeleyDb] {
        assert!(read(store, b"").0.is_err() && read(store, &[0; 8192]).0.is_err());
    }
    let sound = sqlite(&headers, 512, folder.path());
    // An inner page whose child is itself: the pages of the table begin at the first of them.
    let inner = sound.chunks(512).rposition(|page| page[0] == 5).unwrap();
    let mut file = sound.clone();
    file[inner * 512 + 8..inner * 512 + 12].copy_from_slice(&(inner as u32 + 1).to_be_bytes());
    assert!(fault(Store::Sqlite, &file).contains("is met twice"));
    // Chains of pages that lead to themselves give no name.
    let mut file = sound.clone();
    for page in 2..file.len() / 512 {
        if !matches!(file[page * 512], 2 | 5 | 10 | 13) {
            file[page * 512..page * 512 + 4].copy_from_slice(&(page as u32 + 1).to_be_bytes());
        }
    }
    let _ = read(Store::Sqlite, &file);
    for page_size in [0_u16, 3, 256, 0x8001] {
        let mut file = sound.clone();
        file[16..18].copy_from_slice(&page_size.to_be_bytes());
        assert_eq!(fault(Store::Sqlite, &file), "it is no SQLite database");
    }
    let mut file = ndb(&headers);
    file[12..16].fill(0xff);
    assert!(fault(Store::Ndb, &file).contains("pages of slots"));
    let mut file = ndb(&headers);
    file[40..44].fill(0xff);
    assert_eq!(read(Store::Ndb, &file).1, 1);
    let sound = berkeley_db(&headers, 512, 1234, folder.path());
    for (at, value, part) in [(72, u32::MAX, "buckets"), (20, 100, "no Berkeley DB"), (24, 1, "is encrypted")] {
        let mut file = sound.clone();
        file[at..at + 4].copy_from_slice(&value.to_le_bytes());
        assert!(fault(Store::BerkeleyDb, &file).contains(part), "{part}");
    }
    // Each page follows itself.
    let mut file = sound;
    for page in 1..file.len() / 512 {
        file[page * 512 + 16..page * 512 + 20].copy_from_slice(&(page as u32).to_le_bytes());
    }
    let _ = read(Store::BerkeleyDb, &file);
}

/// Thousands of damaged copies: never a panic, always an end.
#[test]
fn damaged_databases_end() {
    let folder = tempfile::tempdir().unwrap();
    let (headers, expected) = headers();
    let mut random = 0x6d6f_6c64_6500_0002_u64;
    let mut next = |below: usize| {
        random ^= random >> 12;
        random ^= random << 25;
        random ^= random >> 27;
        usize::try_from(random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33).unwrap() % below
    };
    for (store, sound) in databases(&headers, folder.path()) {
        let start = Instant::now();
        let (mut whole, mut faults, mut fewer) = (0, 0, 0);
        for round in 0..400 {
            let mut file = sound.clone();
            for _ in 0..=next(20) {
                // Structure is at the beginning of the file and of each page.
                let page = next(file.len() / 512) * 512;
                let at = [next(file.len()), next(4096), page + next(40), page + next(512)][next(4)];
                file[at] = [0, 0xff, 0x7f, 1, next(256) as u8][next(5)];
            }
            if round % 5 == 0 {
                file.truncate(next(file.len()));
            }
            match read(store, &file) {
                (Err(_), _) => faults += 1,
                (Ok(packages), 0) if packages == expected => whole += 1,
                _ => fewer += 1,
            }
        }
        assert!(whole > 0 && faults > 0 && fewer > 0, "{store:?}: {whole}, {faults}, {fewer}");
        assert!(start.elapsed() < Duration::from_secs(60), "{store:?}: {:?}", start.elapsed());
    }
}
