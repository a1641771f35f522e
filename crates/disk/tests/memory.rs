//! The largest tables that are accepted: what they cost in memory and time. One test, so that the process is its own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use disk::{Deny, Format, Source};

/// A file of which only the words that `word` makes are not zero; it takes no memory itself.
struct Made<F> {
    len: u64,
    head: Vec<u8>,
    word: F,
}

impl<F: Fn(u64) -> [u8; 8] + Send + Sync> Source for Made<F> {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> disk::Result<()> {
        disk::source::check_range(self.len, offset, buf.len())?;
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
    Arc::new(Made { len: tables + entries * 64, head, word })
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
    Arc::new(Made { len: grains + entries * grain * 64, head, word })
}

/// Returns a size from the status of this process, in bytes.
fn status(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

#[test]
fn the_largest_tables_cost_little() {
    let before = status("VmHWM:");
    for (format, file) in [(Format::Qcow2, qcow2()), (Format::Vmdk, vmdk())] {
        let started = Instant::now();
        let opened = disk::open(file, format, &Deny).unwrap();
        let mut end = [1; 512];
        opened.disk.read_at(&mut end, opened.disk.len() - 512).unwrap();
        assert_eq!(end, [0; 512]);
        // The second file's cost is counted on top of what the allocator kept of the first.
        let (cost, time) = (status("VmHWM:") - before, started.elapsed());
        assert!(cost < 88 << 20, "{format}: {} MiB after {time:?}", cost >> 20);
        assert!(time < Duration::from_secs(30), "{format}: {time:?}");
    }
}
