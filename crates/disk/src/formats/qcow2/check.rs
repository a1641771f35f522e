//! The check of a qcow2 file's refcounts against the uses of its clusters.

use std::sync::Arc;

use super::clusters::Clusters;
use super::header::Header;
use super::uses::{Met, Walk};
use crate::error::{Error, ErrorKind, Result};
use crate::fields::{check_inside, read_bytes, read_table};
use crate::source::Source;

/// Clusters that are counted at once, in two bytes each; a larger file is gone through several times.
const WINDOW: u64 = 1 << 24;
const MAX_WINDOWS: u64 = 256;
/// Faults and leaks are described up to this many of each, and counted beyond.
const MAX_LISTED: usize = 100;

/// What the check found, in sentences with positions.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// What may lose data when the file is written to, or has lost some: the first hundred.
    pub(crate) errors: Vec<String>,
    /// How many of those there are.
    pub(crate) error_count: u64,
    /// Space that nothing uses and that is never given back: the first hundred.
    pub(crate) leaks: Vec<String>,
    /// How many clusters that is.
    pub(crate) leak_count: u64,
}

impl Findings {
    fn error(&mut self, message: String) {
        self.error_count += 1;
        if self.errors.len() < MAX_LISTED {
            self.errors.push(message);
        }
    }

    fn leak(&mut self, message: String) {
        self.leak_count += 1;
        if self.leaks.len() < MAX_LISTED {
            self.leaks.push(message);
        }
    }
}

/// Compares the refcount of every cluster of `file` with its uses: by the disk, its snapshots, and the tables themselves.
///
/// Costs one read of all tables for each tebibyte of clusters of 64 KiB, and nothing of the data. Fails if the header does,
/// or if the file cannot be read; names of other files in the header do not matter.
pub(crate) fn check(file: &Arc<dyn Source>) -> Result<Findings> {
    let header = Header::parse(&**file)?;
    if header.external_data {
        return Err(Error::unsupported("the clusters of the qcow2 file are in another file, which has no refcounts"));
    }
    let windows = file.len().div_ceil(header.cluster_size()).div_ceil(WINDOW);
    if windows > MAX_WINDOWS {
        return Err(Error::new(ErrorKind::TooLarge, format!("a qcow2 file of {} bytes", file.len())));
    }
    let entries = (header.refcount_table_length / 8) as usize;
    let blocks = read_table(&**file, header.refcount_table_offset, entries, "the refcount table", u64::from_be_bytes)?;
    let l1 = read_table(&**file, header.l1_offset, header.l1_size as usize, "the L1 table", u64::from_be_bytes)?;
    let clusters = Clusters::new(Arc::clone(file), header, l1);
    let mut findings = Findings::default();
    for window in 0..windows {
        Window::new(&clusters, &blocks, window * WINDOW).check(&mut findings)?;
    }
    Ok(findings)
}

/// Neighbouring clusters of the file.
struct Window<'a> {
    clusters: &'a Clusters,
    blocks: &'a [u64],
    first: u64,
    count: u64,
}

impl<'a> Window<'a> {
    fn new(clusters: &'a Clusters, blocks: &'a [u64], first: u64) -> Self {
        let total = clusters.file.len().div_ceil(clusters.header.cluster_size());
        Self { clusters, blocks, first, count: WINDOW.min(total - first) }
    }

    fn check(&self, findings: &mut Findings) -> Result<()> {
        let refcounts = self.refcounts()?;
        let mut uses = vec![0_u16; self.count as usize];
        let size = self.clusters.header.cluster_size();
        Walk::new(self.clusters, |met| match met {
            // What names no cluster is met again in each window.
            Met::Fault(message) if self.first == 0 => findings.error(message),
            Met::Fault(_) => {}
            Met::Use { offset, length, copied } => {
                for cluster in offset / size..offset.saturating_add(length).div_ceil(size) {
                    let Some(within) = self.within(cluster) else {
                        self.past_end(cluster, findings);
                        continue;
                    };
                    uses[within] = uses[within].saturating_add(1);
                    // A refcount below the uses is told of below, in any case.
                    if copied.is_some_and(|copied| copied != (refcounts[within] == 1)) && refcounts[within] > 0 {
                        findings.error(format!(
                            "the entry for the cluster at byte {offset} of the file says {} of its being the only use, and \
                             its refcount is {}",
                            if copied == Some(true) { "yes" } else { "no" },
                            refcounts[within]
                        ));
                    }
                }
            }
        })
        .all()?;
        for ((cluster, uses), refcount) in (self.first..).zip(uses).zip(refcounts) {
            let message = || {
                format!("the cluster at byte {} of the file has refcount {refcount} and {uses} uses", cluster * size)
            };
            match refcount.cmp(&uses) {
                std::cmp::Ordering::Less => findings.error(message()),
                std::cmp::Ordering::Equal => {}
                std::cmp::Ordering::Greater => findings.leak(message()),
            }
        }
        Ok(())
    }

    fn within(&self, cluster: u64) -> Option<usize> {
        (self.first..self.first + self.count).contains(&cluster).then(|| (cluster - self.first) as usize)
    }

    /// Tells, once, of a use of what the file does not have.
    fn past_end(&self, cluster: u64, findings: &mut Findings) {
        let (size, len) = (self.clusters.header.cluster_size(), self.clusters.file.len());
        if self.first == 0 && cluster >= len.div_ceil(size) {
            findings
                .error(format!("the cluster at byte {} is in use, and the file ends at byte {len}", cluster * size));
        }
    }

    /// Returns the refcounts of the clusters, none above 65535, which is also where the uses stop to be counted.
    fn refcounts(&self) -> Result<Vec<u16>> {
        let header = &self.clusters.header;
        let per_block = (header.cluster_size() * 8) >> header.refcount_order;
        let mut refcounts = vec![0; self.count as usize];
        let mut cluster = self.first;
        while cluster < self.first + self.count {
            let within = cluster % per_block;
            let next = (cluster - within + per_block).min(self.first + self.count);
            let offset = usize::try_from(cluster / per_block).ok().and_then(|block| self.blocks.get(block)).copied();
            if let Some(offset) = offset.filter(|offset| *offset != 0)
                // Others are told of on the walk.
                && offset.is_multiple_of(header.cluster_size())
                && check_inside("a refcount block", offset, header.cluster_size(), self.clusters.file.len()).is_ok()
            {
                let size = header.cluster_size() as usize;
                let block = read_bytes(&*self.clusters.file, offset, size, "a refcount block")?;
                for cluster in cluster..next {
                    let refcount = refcount(&block, cluster % per_block, header.refcount_order);
                    refcounts[(cluster - self.first) as usize] = refcount.try_into().unwrap_or(u16::MAX);
                }
            }
            cluster = next;
        }
        Ok(refcounts)
    }
}

/// Returns entry `index` of a refcount block whose entries have 2 to the power of `order` bits.
fn refcount(block: &[u8], index: u64, order: u32) -> u64 {
    let bits = 1_u64 << order;
    let at = (index * bits / 8) as usize;
    if bits < 8 {
        // The lowest bits of a byte are its first entry.
        let shift = index * bits % 8;
        return (u64::from(block[at]) >> shift) & ((1 << bits) - 1);
    }
    block[at..at + bits as usize / 8].iter().fold(0, |number, byte| (number << 8) | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};
    use std::process::Command;

    use super::*;

    fn tool(name: &str, arguments: &[&str]) -> String {
        let output = Command::new(name)
            .args(arguments)
            .output()
            .unwrap_or_else(|error| panic!("{name} is needed by these tests (Debian package qemu-utils): {error}"));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn text(path: &Path) -> &str {
        path.to_str().unwrap()
    }

    /// A disk of 4 MiB in runs of text, of zeros and of numbers that hardly compress.
    fn image(folder: &Path, options: &[&str]) -> PathBuf {
        let (raw, path) = (folder.join("raw"), folder.join("image"));
        let mut number = 1_u64;
        let disk: Vec<u8> = (0..4_u64 << 20)
            .map(|at| match (at >> 15) % 5 {
                0 => b"a text"[at as usize % 6],
                1 => {
                    number = number.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
                    (number >> 56) as u8
                }
                _ => 0,
            })
            .collect();
        std::fs::write(&raw, disk).unwrap();
        let _ = std::fs::remove_file(&path);
        tool("qemu-img", &[&["convert", "-f", "raw", "-O", "qcow2"], options, &[text(&raw), text(&path)]].concat());
        path
    }

    fn of(bytes: Vec<u8>) -> Findings {
        let file: Arc<dyn Source> = Arc::new(bytes);
        check(&file).unwrap()
    }

    /// What qemu-img counts: faults and leaks.
    fn by_qemu(folder: &Path, bytes: &[u8]) -> (u64, u64) {
        let path = folder.join("damaged");
        std::fs::write(&path, bytes).unwrap();
        let report = tool("qemu-img", &["check", "-f", "qcow2", "--output=json", text(&path)]);
        let count = |name: &str| {
            let (_, rest) = report.split_once(&format!("\"{name}\": "))?;
            rest.split(|digit: char| !digit.is_ascii_digit()).next()?.parse().ok()
        };
        assert!(report.contains("check-errors"), "{report}");
        (count("corruptions").unwrap_or(0), count("leaks").unwrap_or(0))
    }

    fn be64(bytes: &[u8], at: usize) -> usize {
        u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap()) as usize
    }

    #[test]
    fn files_of_qemu_img_are_sound() {
        let folder = tempfile::tempdir().unwrap();
        for (turn, options) in [
            &["-o", "cluster_size=512,refcount_bits=1"][..],
            &["-o", "cluster_size=4k,refcount_bits=2,preallocation=metadata"],
            &["-c", "-o", "refcount_bits=4,cluster_size=16k"],
            &["-c", "-o", "refcount_bits=8,cluster_size=4k,compression_type=zstd"],
            &["-o", "refcount_bits=64,extended_l2=on,cluster_size=16k"],
            &["-c", "-o", "refcount_bits=32,cluster_size=2M"],
            &["-o", "compat=0.10"],
        ]
        .into_iter()
        .enumerate()
        {
            let path = image(folder.path(), options);
            // Refcounts of one bit allow no snapshots.
            if turn > 0 {
                tool("qemu-img", &["snapshot", "-c", "first", text(&path)]);
                let commands = ["-c", "write -P 3 1M 300k", "-c", "write -z 2M 100k", "-c", "discard 3M 512k"];
                tool("qemu-io", &[&commands, &[text(&path)][..]].concat());
                tool("qemu-img", &["bitmap", "--add", "--granularity", "512", text(&path), "changes"]);
                tool("qemu-io", &["-c", "write -P 4 1200k 70k", text(&path)]);
                tool("qemu-img", &["snapshot", "-c", "second", text(&path)]);
            }
            let bytes = std::fs::read(path).unwrap();
            // With refcounts of four bits, qemu-img itself leaves leaks.
            let expected = by_qemu(folder.path(), &bytes);
            let findings = of(bytes);
            assert_eq!((findings.error_count, findings.leak_count), expected, "{options:?} {findings:?}");
            assert_eq!(findings.error_count, 0, "{options:?} {findings:?}");
        }
    }

    #[test]
    fn wrong_refcounts_are_found_as_qemu_img_finds_them() {
        let folder = tempfile::tempdir().unwrap();
        let whole = std::fs::read(image(folder.path(), &["-o", "cluster_size=4k"])).unwrap();
        let block = be64(&whole, be64(&whole, 48));
        // A few refcounts of clusters in use: 0 and 3 instead of 1.
        let mut bytes = whole.clone();
        for cluster in [0, 10, 100] {
            bytes[block + 2 * cluster + 1] = 0;
        }
        bytes[block + 2 * 50 + 1] = 3;
        let findings = of(bytes.clone());
        let (errors, leaks) = by_qemu(folder.path(), &bytes);
        assert_eq!((findings.leak_count, leaks), (1, 1));
        // qemu-img may count one fault in several ways.
        assert!(findings.error_count >= 3 && errors >= 3, "{findings:?} {errors}");
        assert!(findings.errors.iter().any(|error| error.contains("byte 40960 of the file has refcount 0 and 1 uses")));
        assert!(findings.leaks[0].contains("byte 204800 of the file has refcount 3 and 1 uses"), "{findings:?}");
        assert!(findings.errors.iter().any(|error| error.contains("byte 204800") && error.contains("says yes")));
        // A cluster that is named no more is a leak, one that is named twice a fault.
        let l2 = be64(&whole, be64(&whole, 40)) & 0x00ff_ffff_ffff_fe00;
        let used: Vec<_> = (l2..l2 + 4096).step_by(8).filter(|at| be64(&whole, *at) != 0).collect();
        let mut bytes = whole.clone();
        bytes.copy_within(used[0]..used[0] + 8, used[1]);
        let findings = of(bytes.clone());
        assert_eq!((findings.error_count, findings.leak_count), (1, 1), "{findings:?}");
        let (errors, leaks) = by_qemu(folder.path(), &bytes);
        assert!(errors >= 1 && leaks == 1, "{errors} {leaks}");
        // An entry that names no cluster.
        let mut bytes = whole;
        bytes[used[0] + 6] |= 2;
        assert!(of(bytes).errors[0].contains("begins no cluster"));
    }

    #[test]
    fn damaged_files_end_with_findings_or_an_error() {
        let folder = tempfile::tempdir().unwrap();
        for (cluster_size, options) in
            [(4096, &["-c", "-o", "cluster_size=4k"][..]), (16384, &["-o", "extended_l2=on,cluster_size=16k"])]
        {
            let path = image(folder.path(), options);
            tool("qemu-img", &["snapshot", "-c", "first", text(&path)]);
            tool("qemu-img", &["bitmap", "--add", text(&path), "changes"]);
            let whole = std::fs::read(path).unwrap();
            let mut number = 1_u64;
            let mut found = 0;
            for _ in 0..200 {
                let mut bytes = whole.clone();
                for _ in 0..3 {
                    number = number.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
                    let end = if number & (1 << 20) == 0 { 6 * cluster_size } else { bytes.len() };
                    bytes[(number >> 24) as usize % end] = (number >> 56) as u8;
                }
                let file: Arc<dyn Source> = Arc::new(bytes);
                found +=
                    u64::from(check(&file).map_or(true, |findings| findings.error_count + findings.leak_count > 0));
            }
            assert!(found > 20, "{found} of 200 were found out");
        }
    }
}
