//! qcow2 against qemu-img: every kind of file that it makes is read, and every compressed file written is sound for it.

use std::path::Path;
use std::sync::Arc;

use disk::{ErrorKind, Extent, ExtentKind, FileSource, Format, Output, Source, WriteOptions, probe};
use proptest::prelude::*;

use crate::common::{
    Folder, Numbers, check_extents, open_bytes, open_file, qemu, qemu_img, read_all, seeded_disk, text,
};

/// Not a multiple of any cluster size, and several L2 tables of small clusters long.
const SIZE: usize = (6 << 20) + 3 * 512;

/// Checks that the image reads as `expected`, whole, in pieces of several sizes, and in random ranges.
#[track_caller]
fn check_read(path: &Path, variant: &str, expected: &[u8]) {
    assert_eq!(probe(&FileSource::open(path).unwrap()).unwrap(), Format::Qcow2);
    let opened = open_file(path, Format::Qcow2).unwrap();
    assert_eq!(opened.variant, variant);
    for piece in [usize::MAX, 1_000_001, 64 << 10] {
        assert!(read_all(&*opened.disk, piece).unwrap() == expected, "{} in pieces of {piece}", path.display());
    }
    check_extents(&*opened.disk, expected);
    let mut numbers = Numbers::new(expected.len() as u64);
    for _ in 0..50 {
        let start = numbers.below(expected.len() as u64) as usize;
        let length = (numbers.below(300_000) as usize).min(expected.len() - start);
        let mut bytes = vec![0xee; length];
        opened.disk.read_at(&mut bytes, start as u64).unwrap();
        assert!(bytes == expected[start..start + length], "{length} bytes at {start}");
    }
}

/// What `qemu-img` makes of an image.
fn by_qemu(folder: &Folder, image: &Path) -> Vec<u8> {
    let raw = folder.path("by-qemu");
    qemu_img(&["convert", "-f", "qcow2", "-O", "raw", text(image), text(&raw)]);
    std::fs::read(raw).unwrap()
}

/// Every cluster size, plain and compressed; the other options take turns, so that each value of each meets several of the
/// others.
#[test]
fn every_kind_is_read() {
    let folder = Folder::new();
    let disk = seeded_disk(SIZE, 31);
    let raw = folder.write("raw", &disk);
    let mut turn = 0;
    for bits in 9..=21 {
        for packing in ["", "zlib", "zstd"] {
            turn += 1;
            let mut options = vec![format!("cluster_size={}", 1 << bits)];
            let old = packing != "zstd" && turn % 5 == 0;
            let extended = !old && bits >= 14 && turn % 2 == 0;
            options.push(format!("compat={}", if old { "0.10" } else { "1.1" }));
            if !old {
                options.push(format!("refcount_bits={}", 1 << (turn % 7)));
                options.push(format!("lazy_refcounts={}", ["on", "off"][turn % 2]));
            }
            match packing {
                "" if turn % 3 == 0 => options.push("preallocation=metadata".to_owned()),
                "" if turn % 3 == 1 => options.push("preallocation=falloc".to_owned()),
                "zstd" => options.push("compression_type=zstd".to_owned()),
                _ => {}
            }
            if extended {
                options.push("extended_l2=on".to_owned());
            }
            let options = options.join(",");
            let mut arguments = vec!["-o", &options];
            arguments.extend((!packing.is_empty()).then_some("-c"));
            let image = folder.image("image", &raw, "qcow2", &arguments);
            let version = if old { "v2" } else { "v3" };
            let variant =
                [version, if packing == "zstd" { " zstd" } else { "" }, if extended { " subclusters" } else { "" }];
            check_read(&image, &variant.concat(), &disk);
        }
    }
}

/// Writes, zeroes and discards parts of clusters, as a guest does, with snapshots in between.
#[test]
fn subclusters_as_a_guest_leaves_them() {
    let folder = Folder::new();
    for (cluster_size, options) in [("16k", &[][..]), ("64k", &["-c"]), ("2M", &["-c"])] {
        let raw = folder.write("raw", &seeded_disk(SIZE, 32));
        let choice = format!("extended_l2=on,cluster_size={cluster_size}");
        let image = folder.image("image", &raw, "qcow2", &[&["-o", &choice], options].concat());
        let mut numbers = Numbers::new(33);
        for turn in 0..3 {
            let mut arguments = Vec::new();
            for _ in 0..40 {
                let start = numbers.below(SIZE as u64 / 512) * 512;
                let length = (512 * (1 + numbers.below(100))).min(SIZE as u64 - start);
                let action = ["write -P 5", "write -z", "write -z -u", "discard"][numbers.below(4) as usize];
                arguments.extend(["-c".to_owned(), format!("{action} {start} {length}")]);
            }
            arguments.extend(["-d".to_owned(), "unmap".to_owned(), text(&image).to_owned()]);
            qemu("qemu-io", &arguments.iter().map(String::as_str).collect::<Vec<_>>());
            check_read(&image, "v3 subclusters", &by_qemu(&folder, &image));
            qemu_img(&["snapshot", "-c", &format!("turn{turn}"), text(&image)]);
        }
        let notes = open_file(&image, Format::Qcow2).unwrap().notes;
        assert_eq!(notes, ["3 internal snapshots are passed over; the disk is its present state"]);
    }
}

/// The last cluster of a file ends with its last subcluster that is stored.
#[test]
fn a_last_cluster_that_ends_early() {
    let folder = Folder::new();
    let image = folder.path("image");
    qemu_img(&["create", "-f", "qcow2", "-o", "extended_l2=on,cluster_size=2M", text(&image), "8M"]);
    qemu("qemu-io", &["-c", "write -P 9 2M 64k", text(&image)]);
    let length = std::fs::metadata(&image).unwrap().len();
    assert!(!length.is_multiple_of(2 << 20), "the file is {length} bytes long");
    let mut disk = vec![0; 8 << 20];
    disk[2 << 20..][..64 << 10].fill(9);
    check_read(&image, "v3 subclusters", &disk);
    let mut bytes = std::fs::read(&image).unwrap();
    bytes.pop();
    let error = open_bytes(bytes, Format::Qcow2).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
}

#[test]
fn notes_say_what_is_passed_over() {
    let folder = Folder::new();
    let raw = folder.write("raw", &seeded_disk(1 << 20, 34));
    let image = folder.image("image", &raw, "qcow2", &[]);
    qemu_img(&["bitmap", "--add", text(&image), "changes"]);
    let mut bytes = std::fs::read(&image).unwrap();
    bytes[79] |= 1;
    let notes = open_bytes(bytes, Format::Qcow2).unwrap().notes;
    assert_eq!(notes.len(), 2, "{notes:?}");
    assert!(notes[0].contains("not closed cleanly") && notes[1].contains("bitmaps"), "{notes:?}");
}

/// Bytes of an image, changed and opened.
struct Crafted(Vec<u8>);

impl Crafted {
    fn be64(&self, at: usize) -> u64 {
        u64::from_be_bytes(self.0[at..at + 8].try_into().unwrap())
    }

    #[track_caller]
    fn fails(&self, at: usize, value: u64, says: &str) {
        let mut bytes = self.0.clone();
        bytes[at..at + 8].copy_from_slice(&value.to_be_bytes());
        let error = open_bytes(bytes, Format::Qcow2).expect_err(says);
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        assert!(error.to_string().contains(says), "{error} does not say {says:?}");
    }
}

#[test]
fn crafted_subclusters() {
    let folder = Folder::new();
    let raw = folder.write("raw", &seeded_disk(4 << 20, 35));
    let image = folder.image("image", &raw, "qcow2", &["-o", "extended_l2=on"]);
    let image = Crafted(std::fs::read(image).unwrap());
    let l2 = (image.be64(image.be64(40) as usize) & 0x00ff_ffff_ffff_fe00) as usize;
    let at = (l2..l2 + 1024).step_by(16).find(|at| image.be64(*at) != 0 && image.be64(at + 8) != 0).unwrap();
    let (entry, bitmap) = (image.be64(at), image.be64(at + 8));
    image.fails(at + 8, bitmap | (bitmap << 32), "both stored and zero");
    image.fails(at + 8, u64::MAX, "both stored and zero");
    image.fails(at, entry | 1, "reserved bits");
    image.fails(at, 0, "stored subclusters of no cluster");
    image.fails(at, entry | (1 << 62), "a compressed cluster does not have");
    image.fails(at, entry + 512, "begins no cluster");
    image.fails(at, (1 << 63) | (1 << 40), "the file ends at byte");
    image.fails(at + 16, entry, if image.be64(at + 24) as u32 == 0 { "" } else { "already in use" });
    // Clusters of 8 KiB have no 32 sectors.
    let mut small = Crafted(image.0.clone());
    small.0[20..24].copy_from_slice(&13_u32.to_be_bytes());
    small.fails(72, 1 << 4, "which have no 32 sectors");
}

fn options(pairs: &[(&str, &str)]) -> WriteOptions {
    let mut options = WriteOptions::default();
    pairs.iter().for_each(|(key, value)| options.set(key, value));
    options
}

/// Writes `disk` as a compressed file in `threads` threads; checks it with qemu-img and with the reader.
fn check_stream(folder: &Folder, raw: &Path, disk: &[u8], pairs: &[(&str, &str)], threads: usize) -> Vec<u8> {
    let source: Arc<dyn Source> = Arc::new(FileSource::open(raw).unwrap());
    let output = disk::write(source, Format::Qcow2, &options(pairs)).unwrap();
    assert!(matches!(output, Output::Stream(_)));
    let path = folder.path("stream.qcow2");
    let file = std::fs::File::create(&path).unwrap();
    let chosen = disk::CopyOptions { threads, ..disk::CopyOptions::default() };
    let copied = disk::write_to_file(&output, &file, &chosen).unwrap();
    assert_eq!(copied.bytes_total, file.metadata().unwrap().len());
    let report = qemu_img(&["check", "-f", "qcow2", text(&path)]);
    assert!(report.contains("No errors were found"), "{pairs:?}: {report}");
    let report = qemu_img(&["compare", "-f", "raw", "-F", "qcow2", text(raw), text(&path)]);
    assert!(report.contains("identical"), "{pairs:?}: {report}");
    let bytes = std::fs::read(&path).unwrap();
    let opened = open_bytes(bytes.clone(), Format::Qcow2).unwrap();
    assert_eq!(opened.variant, if pairs[0].1 == "zstd" { "v3 zstd" } else { "v3" });
    if !disk.is_empty() {
        check_read(&path, &opened.variant, disk);
    }
    bytes
}

#[test]
fn compressed_files_are_sound_for_qemu_img() {
    let folder = Folder::new();
    for (seed, size) in [0, 512, 65536, (9 << 20) + 512].into_iter().enumerate() {
        let disk = seeded_disk(size, seed as u64 + 40);
        let raw = folder.write("raw", &disk);
        let sizes: &[&str] = if seed == 3 { &["512", "4096", "64K", "2M"] } else { &["64K"] };
        for cluster_size in sizes {
            for compression in ["zlib", "zstd"] {
                let pairs = [("compression", compression), ("cluster_size", cluster_size)];
                let first = check_stream(&folder, &raw, &disk, &pairs, 1);
                if seed == 3 {
                    let again = check_stream(&folder, &raw, &disk, &pairs, 3);
                    assert!(first == again, "{pairs:?} depends on the number of threads");
                }
            }
        }
    }
}

/// Noise is kept plain, zeros not at all, and what compresses takes hardly more than its bytes.
#[test]
fn compressed_files_are_small() {
    let folder = Folder::new();
    let mut numbers = Numbers::new(50);
    // In turn: a cluster of noise, one of zeros, two of text.
    let disk: Vec<u8> = (0..128_u64 << 16)
        .map(|at| match (at >> 16) % 4 {
            0 => numbers.next() as u8,
            1 => 0,
            _ => b"some text of 17 b"[at as usize % 17],
        })
        .collect();
    // Without holes, so that the zeros must be found.
    let raw = folder.path("raw");
    std::fs::write(&raw, &disk).unwrap();
    for compression in ["zlib", "zstd"] {
        let bytes = check_stream(&folder, &raw, &disk, &[("compression", compression)], 0);
        // 32 plain clusters, 64 of text in one, the tables, and the ends of clusters that are left empty.
        assert!(bytes.len() <= (32 + 1 + 6) << 16, "{compression}: {} bytes", bytes.len());
    }
}

/// The offset and length in the file of each compressed cluster of the first L2 table.
fn packed_clusters(image: &Crafted, cluster_bits: u32) -> Vec<(usize, usize)> {
    let l2 = (image.be64(image.be64(40) as usize) & 0x00ff_ffff_ffff_fe00) as usize;
    let bits = 62 - (cluster_bits - 8);
    let entries = (l2..l2 + (1 << cluster_bits)).step_by(8).map(|at| image.be64(at));
    entries
        .filter(|entry| entry >> 62 == 1)
        .map(|entry| {
            let offset = (entry & ((1 << bits) - 1)) as usize;
            let sectors = ((entry & !(1 << 62)) >> bits) as usize + 1;
            (offset, (offset / 512 + sectors) * 512 - offset)
        })
        .collect()
}

/// A reader that keeps no more than 4 KiB while it unpacks can read what is written; level 1 needs more room than others.
#[test]
fn zlib_reaches_back_4_kib_at_every_level() {
    let folder = Folder::new();
    let mut disk = seeded_disk(4 << 20, 52);
    // The same noise again, 8 KiB and 3 KiB later.
    disk.copy_within(0..8192, 8192);
    let noise: Vec<u8> = (0..3072).scan(Numbers::new(53), |numbers, _| Some(numbers.next() as u8)).collect();
    disk[1 << 20..][..300 * 1024].copy_from_slice(&noise.repeat(100));
    let raw = folder.write("raw", &disk);
    for level in ["1", "2", "6", "9"] {
        let pairs = [("compression", "zlib"), ("level", level)];
        let image = Crafted(check_stream(&folder, &raw, &disk, &pairs, 0));
        let clusters = packed_clusters(&image, 16);
        assert!(clusters.len() >= 5);
        for (offset, length) in clusters {
            let mut stream = flate2::Decompress::new_with_window_bits(false, 12);
            let mut out = [0; 1000];
            let packed = &image.0[offset..offset + length];
            loop {
                let rest = &packed[stream.total_in() as usize..];
                // In small parts, or the output would do for the window.
                if stream.decompress(rest, &mut out, flate2::FlushDecompress::None).unwrap()
                    == flate2::Status::StreamEnd
                {
                    break;
                }
            }
            assert_eq!(stream.total_out(), 65536);
        }
    }
}

/// Streams that other writers may make: longer than the cluster, with a window of 32 KiB, all with junk after them.
#[test]
fn streams_of_other_writers() {
    let folder = Folder::new();
    let mut numbers = Numbers::new(54);
    let half = (0..65536).map(|at| if at % 2 == 0 { numbers.next() as u8 } else { 0 }).collect::<Vec<_>>();
    let image = folder.image("image", &folder.write("raw", &half), "qcow2", &["-c"]);
    let whole = Crafted(std::fs::read(&image).unwrap());
    let [(at, room)] = packed_clusters(&whole, 16)[..] else { panic!("not one compressed cluster") };
    // Noise that comes again 20 KB later.
    let cluster: Vec<u8> = half[..20_000].iter().copied().cycle().take(65536).collect();
    let stream = |bytes: &[u8]| {
        let mut stream = flate2::Compress::new_with_window_bits(flate2::Compression::best(), false, 15);
        let mut out = vec![0; 200_000];
        stream.compress(bytes, &mut out, flate2::FlushCompress::Finish).unwrap();
        out.truncate(stream.total_out() as usize);
        out
    };
    let put = |packed: &[u8]| {
        assert!(packed.len() < room - 100, "{} bytes in {room}", packed.len());
        let mut bytes = whole.0.clone();
        // The last sector need not be whole.
        let end = (at + room).min(bytes.len());
        bytes[at..end].fill(0xa5);
        bytes[at..at + packed.len()].copy_from_slice(packed);
        std::fs::write(&image, &bytes).unwrap();
        open_file(&image, Format::Qcow2).and_then(|opened| read_all(&*opened.disk, 1 << 20))
    };
    let longer = [&cluster[..], &[7; 1000]].concat();
    for packed in [stream(&cluster), stream(&longer)] {
        assert!(put(&packed).unwrap() == cluster);
        assert!(by_qemu(&folder, &image) == cluster);
    }
    let error = put(&stream(&cluster[1..])).unwrap_err();
    assert!(error.to_string().contains("does not unpack to one cluster"), "{error}");
}

#[test]
fn options_of_compression() {
    let disk: Arc<dyn Source> = Arc::new(seeded_disk(1 << 20, 51));
    let of = |pairs: &[(&str, &str)]| disk::write(Arc::clone(&disk), Format::Qcow2, &options(pairs)).map(|_| ());
    of(&[("compression", "zlib"), ("level", "9")]).unwrap();
    of(&[("compression", "zstd"), ("level", "19")]).unwrap();
    for wrong in [("zlib", "10"), ("zlib", "0"), ("zstd", "20"), ("lzma", "1")] {
        let error = of(&[("compression", wrong.0), ("level", wrong.1)]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    }
    let huge = [("compression", "zstd"), ("cluster_size", "512")];
    let error = disk::write(Arc::new(Hole(1 << 38)), Format::Qcow2, &options(&huge)).map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
}

/// A disk of zeros that takes no memory.
struct Hole(u64);

impl Source for Hole {
    fn len(&self) -> u64 {
        self.0
    }

    fn read_at(&self, buf: &mut [u8], _: u64) -> disk::Result<()> {
        buf.fill(0);
        Ok(())
    }

    fn extent_at(&self, offset: u64) -> disk::Result<Extent> {
        Ok(Extent { offset, length: self.0 - offset, kind: ExtentKind::Zero })
    }
}

/// A disk that ends with an error, as a damaged image does.
#[test]
fn a_disk_that_cannot_be_read_makes_no_file() {
    struct Damaged;
    impl Source for Damaged {
        fn len(&self) -> u64 {
            8 << 20
        }
        fn read_at(&self, buf: &mut [u8], offset: u64) -> disk::Result<()> {
            buf.fill(1);
            if offset < 5 << 20 { Ok(()) } else { Err(disk::Error::corrupt("the end is missing")) }
        }
    }
    let output = disk::write(Arc::new(Damaged), Format::Qcow2, &options(&[("compression", "zlib")])).unwrap();
    let Output::Stream(stream) = output else { panic!("no stream") };
    let mut out = Vec::new();
    let error = stream.write(2, &|_, _| (), &mut out).unwrap_err();
    assert_eq!(error.to_string(), "the end is missing");
}

/// A disk of runs of holes, zeros, text and noise.
#[derive(Debug, Clone)]
struct Runs {
    bytes: Vec<u8>,
    /// Where each run ends, and whether it is a hole.
    ends: Vec<(u64, bool)>,
}

impl Runs {
    fn new(runs: &[(usize, u8)]) -> Self {
        let (mut bytes, mut ends, mut numbers) = (Vec::new(), Vec::new(), Numbers::new(60));
        for (length, kind) in runs {
            let start = bytes.len();
            bytes.resize(start + length, 0);
            match kind {
                2 => bytes[start..].iter_mut().enumerate().for_each(|(at, byte)| *byte = b"some text"[at % 9]),
                3 => bytes[start..].iter_mut().for_each(|byte| *byte = numbers.next() as u8),
                _ => {}
            }
            ends.push((bytes.len() as u64, *kind == 0));
        }
        Self { bytes, ends }
    }
}

impl Source for Runs {
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> disk::Result<()> {
        self.bytes.read_at(buf, offset)
    }

    fn extent_at(&self, offset: u64) -> disk::Result<Extent> {
        let (end, hole) = *self.ends.iter().find(|(end, _)| offset < *end).unwrap();
        let kind = if hole { ExtentKind::Zero } else { ExtentKind::Data };
        Ok(Extent { offset, length: end - offset, kind })
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_disk_comes_back_from_its_compressed_file(
        runs in prop::collection::vec((1_usize..60_000, 0_u8..4), 0..12),
        cluster_bits in 9_u32..17,
        zstd in any::<bool>(),
        threads in 1_usize..4,
    ) {
        let disk = Runs::new(&runs);
        let cluster_size = (1 << cluster_bits).to_string();
        let pairs = [("compression", if zstd { "zstd" } else { "zlib" }), ("cluster_size", &cluster_size)];
        let Output::Stream(stream) = disk::write(Arc::new(disk.clone()), Format::Qcow2, &options(&pairs)).unwrap()
        else { panic!("no stream") };
        let mut tail = Vec::new();
        let head = stream.write(threads, &|_, _| (), &mut tail).unwrap();
        prop_assert_eq!(head.len() as u64, stream.head_length());
        let opened = open_bytes([head, tail].concat(), Format::Qcow2).unwrap();
        prop_assert!(read_all(&*opened.disk, 10_000).unwrap() == disk.bytes);
        let stored = check_extents(&*opened.disk, &disk.bytes);
        let touched = disk.bytes.chunks(1 << cluster_bits).filter(|part| part.iter().any(|byte| *byte != 0)).count();
        prop_assert!(stored <= (touched as u64) << cluster_bits, "zeros are stored");
    }
}
