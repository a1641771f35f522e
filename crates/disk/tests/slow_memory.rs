//! What the most costly files that are accepted cost in memory and in work. The tests run one after the other, so that the
//! memory of the process is that of one of them.

mod common;

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use common::{Folder, Numbers, text};
use disk::{ConvertOptions, CopyOptions, Deny, ErrorKind, FileSource, Format, Given, Source, UnlockLimits, convert};
use zeroize::Zeroizing;

static ALONE: Mutex<()> = Mutex::new(());

/// Returns by how much the memory of this process grew at most while `work` was done, in bytes.
fn growth(work: impl FnOnce()) -> u64 {
    // The peak until now is forgotten.
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = status("VmRSS:");
    work();
    status("VmHWM:").saturating_sub(before)
}

/// A file of which only the words that `word` makes are not zero; it takes no memory itself, and counts what is read.
struct Made<F> {
    len: u64,
    head: Vec<u8>,
    word: F,
    read: AtomicU64,
}

impl<F: Fn(u64) -> [u8; 8] + Send + Sync> Source for Made<F> {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> disk::Result<()> {
        disk::source::check_range(self.len, offset, buf.len())?;
        self.read.fetch_add(buf.len() as u64, Ordering::Relaxed);
        let end = offset + buf.len() as u64;
        for at in (offset / 8 * 8..end).step_by(8) {
            let word = (self.word)(at);
            let (from, to) = (at.max(offset), (at + 8).min(end));
            let part = &word[(from - at) as usize..(to - at) as usize];
            buf[(from - offset) as usize..(to - offset) as usize].copy_from_slice(part);
        }
        for (byte, known) in buf.iter_mut().zip(self.head.get(offset as usize..).unwrap_or(&[])) {
            *byte = *known;
        }
        Ok(())
    }
}

/// The smallest clusters and the largest L1 table, of four million entries; every eighth table exists and is empty.
fn qcow2() -> Arc<dyn Source> {
    let (l1, tables, entries) = (1024_u64, 1024 + (32 << 20), 4_u64 << 20);
    let mut head = vec![0; 512];
    head[..8].copy_from_slice(b"QFI\xfb\0\0\0\x02");
    head[20..24].copy_from_slice(&9_u32.to_be_bytes());
    head[24..32].copy_from_slice(&(entries * 64 * 512).to_be_bytes());
    head[36..40].copy_from_slice(&(entries as u32).to_be_bytes());
    head[40..48].copy_from_slice(&l1.to_be_bytes());
    head[48..56].copy_from_slice(&512_u64.to_be_bytes());
    head[56..60].copy_from_slice(&1_u32.to_be_bytes());
    let word = move |at: u64| match at {
        _ if at >= l1 && at < tables && (at - l1).is_multiple_of(64) => (tables + (at - l1) * 8).to_be_bytes(),
        _ => [0; 8],
    };
    Arc::new(Made { len: tables + entries * 64, head, word, read: AtomicU64::new(0) })
}

/// The largest grain directory, of eight million entries; every eighth table exists and has one entry.
fn vmdk() -> Arc<dyn Source> {
    let (entries, grain) = (8_u64 << 20, 8_u64);
    let capacity = entries * grain;
    let text = format!(
        "# Disk DescriptorFile\nparentCID=ffffffff\ncreateType=\"monolithicSparse\"\nRW {capacity} SPARSE \"x\"\n"
    );
    let mut head = vec![0; 1024];
    head[..4].copy_from_slice(b"KDMV");
    head[4] = 1;
    for (at, value) in [(12, capacity), (20, grain), (28, 1), (36, 1), (56, 2), (64, 2)] {
        head[at..at + 8].copy_from_slice(&u64::to_le_bytes(value));
    }
    head[44] = 1;
    head[512..512 + text.len()].copy_from_slice(text.as_bytes());
    let directory = 1024;
    let tables = directory + entries * 4;
    let grains = tables + entries * 64;
    let word = move |at: u64| {
        let entry = |at: u64| match at {
            _ if at < directory => 0,
            _ if at < tables && (at - directory).is_multiple_of(32) => (tables / 512 + (at - directory) / 32) as u32,
            _ if at < tables => 0,
            _ if at < grains && at.is_multiple_of(512) => (grains / 512 + (at - tables) / 512 * grain) as u32,
            _ => 0,
        };
        let [low, high] = [entry(at), entry(at + 4)].map(u32::to_le_bytes);
        [low[0], low[1], low[2], low[3], high[0], high[1], high[2], high[3]]
    };
    Arc::new(Made { len: grains + entries * grain * 64, head, word, read: AtomicU64::new(0) })
}

/// Returns a size from the status of this process, in bytes.
fn status(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

#[test]
fn the_largest_tables_cost_little() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    for (format, file) in [(Format::Qcow2, qcow2()), (Format::Vmdk, vmdk())] {
        let started = Instant::now();
        let cost = growth(|| {
            let opened = disk::open(file, format, &Deny).unwrap();
            let mut end = [1; 512];
            opened.disk.read_at(&mut end, opened.disk.len() - 512).unwrap();
            assert_eq!(end, [0; 512]);
        });
        let time = started.elapsed();
        assert!(cost < 88 << 20, "{format}: {} MiB after {time:?}", cost >> 20);
        assert!(time < Duration::from_secs(30), "{format}: {time:?}");
    }
}

/// A QED file of `cluster_size` and tables of 16 clusters, none of which is a hole; only the first is there if `one`.
fn qed(cluster_size: u64, size: u64, one: bool) -> Arc<Made<impl Fn(u64) -> [u8; 8] + Send + Sync>> {
    let table = 16 * cluster_size;
    let tables = size.div_ceil(table / 8 * cluster_size);
    let mut head = vec![0; 64];
    head[..4].copy_from_slice(b"QED\0");
    for (at, value) in [(4, cluster_size as u32), (8, 16), (12, 1)] {
        head[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }
    for (at, value) in [(40, cluster_size), (48, size)] {
        head[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }
    let start = cluster_size + table;
    let word = move |at: u64| match at.checked_sub(cluster_size) {
        Some(at) if at == 0 || at < tables * 8 && !one => (start + at / 8 * table).to_le_bytes(),
        // All clusters are zero, and each has to be looked at.
        Some(at) if at >= table => 1_u64.to_le_bytes(),
        _ => [0; 8],
    };
    Arc::new(Made { len: start + tables * table, head, word, read: AtomicU64::new(0) })
}

/// However long the tables of a QED file are, and holes or not: what is read of them is bounded.
#[test]
fn long_tables_are_not_read_without_end() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    // One table of 1 GiB, of which the disk needs 8 MiB.
    let file = qed(64 << 20, 64 << 40, true);
    disk::open(Arc::clone(&file) as Arc<dyn Source>, Format::Qed, &Deny).unwrap();
    assert!(file.read.load(Ordering::Relaxed) < 9 << 20);
    // Tables of 1 MiB, 1 GiB of them.
    let file = qed(64 << 10, 8 << 40, false);
    let error = disk::open(Arc::clone(&file) as Arc<dyn Source>, Format::Qed, &Deny).unwrap_err();
    assert!(error.kind() == ErrorKind::TooLarge && error.to_string().contains("tables"), "{error}");
    assert!(file.read.load(Ordering::Relaxed) < 513 << 20);
}

/// Noise, so that nothing packs well, or a little of it in every block of 4 KiB, so that all of it does.
fn noisy(size: usize, packs_well: bool) -> Vec<u8> {
    let mut numbers = Numbers::new(1);
    let mut content = vec![0; size];
    for part in content.chunks_mut(if packs_well { 512 } else { 8 }) {
        part[..8].copy_from_slice(&numbers.next().to_le_bytes());
    }
    content
}

/// Large frames, as `xz` makes them by default, and many threads: fewer frames are unpacked at once.
#[test]
fn large_frames_and_many_threads() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = Folder::new();
    let path = folder.path("packed");
    let xz = &["xz", "--lzma2=preset=0,dict=8MiB", "--block-size=24MiB"][..];
    let wide = &["xz", "--lzma2=preset=0,dict=48MiB", "--block-size=48MiB"];
    for (frame, arguments, packs_well, most) in
        [(24_u64, xz, false, 128), (48, wide, true, 160), (24, &["zstd"], false, 128), (64, &["zstd"], false, 176)]
    {
        let content = noisy(192 * (1 << 20), packs_well);
        if arguments[0] == "xz" {
            std::fs::write(folder.path("content"), &content).unwrap();
            let input = std::fs::File::open(folder.path("content")).unwrap();
            let output = std::fs::File::create(&path).unwrap();
            let mut xz = Command::new("xz");
            let done = xz.args(&arguments[1..]).args(["-T2", "-c"]).stdin(input).stdout(output).status().unwrap();
            assert!(done.success());
        } else {
            let frames = content.chunks((frame << 20) as usize).map(|frame| zstd::bulk::compress(frame, 1).unwrap());
            std::fs::write(&path, frames.collect::<Vec<_>>().concat()).unwrap();
        }
        let copy = CopyOptions { threads: 8, ..CopyOptions::default() };
        let options = ConvertOptions { copy, force: true, ..ConvertOptions::default() };
        let cost = growth(|| {
            convert(&path, None, &folder.path("out"), Format::Raw, &options).unwrap();
        });
        assert!(std::fs::read(folder.path("out")).unwrap() == content);
        assert!(cost < most << 20, "{arguments:?} with frames of {frame} MiB: {} MiB", cost >> 20);
    }
}

/// A key slot gets the memory that it asks for only up to the limit; above that, nothing is derived at all.
#[test]
fn memory_of_key_slots() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = Folder::new();
    for (memory, fits) in [(128_u64, true), (129, false)] {
        let path = folder.path("image");
        std::fs::File::create(&path).unwrap().set_len(17 << 20).unwrap();
        let asks = (memory << 10).to_string();
        let mut cryptsetup = Command::new("cryptsetup")
            .args([
                "luksFormat",
                "--type",
                "luks2",
                "--pbkdf",
                "argon2id",
                "--pbkdf-memory",
                &asks,
                "--pbkdf-parallel",
                "1",
            ])
            .args(["--pbkdf-force-iterations", "4", "--batch-mode", "--key-file=-", text(&path)])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Write::write_all(&mut cryptsetup.stdin.take().unwrap(), b"molde").unwrap();
        assert!(cryptsetup.wait().unwrap().success());
        let given = || Given::new().with_passphrase(Zeroizing::new(b"molde".to_vec()));
        let open = |gate: &Given| disk::open(Arc::new(FileSource::open(&path).unwrap()), Format::Luks, gate);
        let cost = growth(|| match open(&given()) {
            Ok(_) => assert!(fits),
            Err(error) => {
                assert!(!fits && error.kind() == ErrorKind::TooLarge, "{error}");
                assert!(error.to_string().contains("Argon2 passes over 132096 KiB of memory"), "{error}");
                assert!(error.hint().unwrap().ends_with(": --unlock-memory 129M"), "{:?}", error.hint());
            }
        });
        let most = if fits { memory + 8 } else { 8 };
        assert!(cost < most << 20, "{memory} MiB asked for, {} MiB taken", cost >> 20);
        let limits = UnlockLimits { memory: 129 << 20, ..UnlockLimits::default() };
        open(&given().with_unlock_limits(limits)).unwrap();
    }
}
