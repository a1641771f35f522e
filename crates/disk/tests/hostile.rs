//! Crafted images: each is refused for its own reason, by a message that names the thing.

mod common;

use common::{Folder, open_bytes, qemu_img, read_all, seeded_disk, text};
use disk::{ErrorKind, Format, Source, confirm, probe};

/// An image as bytes, with a way to change it.
#[derive(Clone)]
struct Image(Vec<u8>, Format);

impl Image {
    fn new(format: Format, options: &[&str]) -> Self {
        let folder = Folder::new();
        let raw = folder.write("raw", &seeded_disk(4 << 20, 21));
        let name = if format == Format::Vhd { "vpc" } else { format.as_str() };
        Self(std::fs::read(folder.image("image", &raw, name, options)).unwrap(), format)
    }

    fn set(mut self, at: usize, bytes: &[u8]) -> Self {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    fn be32(&self, at: usize) -> u32 {
        u32::from_be_bytes(self.0[at..at + 4].try_into().unwrap())
    }

    fn be64(&self, at: usize) -> u64 {
        u64::from_be_bytes(self.0[at..at + 8].try_into().unwrap())
    }

    fn le32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.0[at..at + 4].try_into().unwrap())
    }

    /// Checks that opening, or reading all of it, fails in this way.
    #[track_caller]
    fn fails(&self, kind: ErrorKind, says: &str) {
        let error = match open_bytes(self.0.clone(), self.1) {
            Ok(opened) => read_all(&*opened.disk, 1 << 20).map(|_| ()).expect_err(says),
            Err(error) => error,
        };
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(says), "{error:?} does not say {says:?}");
    }

    #[track_caller]
    fn opens(&self) {
        let opened = open_bytes(self.0.clone(), self.1).unwrap();
        read_all(&*opened.disk, 1 << 20).unwrap();
    }
}

fn qcow2() -> Image {
    Image::new(Format::Qcow2, &[])
}

/// Positions of the first two used entries of the first L2 table, and of the table in the L1 table.
fn l2_entries(image: &Image) -> (usize, [usize; 2]) {
    let l1 = image.be64(40) as usize;
    let l2 = (image.be64(l1) & 0x00ff_ffff_ffff_fe00) as usize;
    let used: Vec<_> = (l2..l2 + 65536).step_by(8).filter(|at| image.be64(*at) != 0).take(2).collect();
    (l1, [used[0], used[1]])
}

use ErrorKind::{Corrupt, Refused, TooLarge, Unsupported, WrongFormat};

#[test]
fn qcow2_that_names_other_files() {
    let named = |offset: u64, name: &str| {
        qcow2().set(8, &offset.to_be_bytes()).set(16, &(name.len() as u32).to_be_bytes()).set(512, name.as_bytes())
    };
    for name in ["/etc/passwd", "../../x", "json:{\"driver\":\"file\"}", "nbd://host/export", "a\u{1b}[2Jb"] {
        let image = named(512, name);
        image.fails(Refused, "backing file");
        image.fails(Refused, &format!("{name:?}"));
        let error = open_bytes(image.0, Format::Qcow2).unwrap_err();
        assert!(error.hint().unwrap().contains("qemu-img convert"));
    }
    named(1 << 40, "x").fails(Corrupt, "name of the backing file");
    qcow2().set(8, &512_u64.to_be_bytes()).set(16, &70_000_u32.to_be_bytes()).fails(Corrupt, "70000 bytes");

    let folder = Folder::new();
    let (image, data) = (folder.path("image"), folder.path("data.raw"));
    let options = format!("data_file={}", text(&data));
    qemu_img(&["create", "-f", "qcow2", "-o", &options, text(&image), "1M"]);
    let image = Image(std::fs::read(image).unwrap(), Format::Qcow2);
    image.fails(Refused, "external data file");
    image.fails(Refused, text(&data));
    qemu_img(&["create", "-f", "qcow2", "-b", text(&data), "-F", "raw", text(&folder.path("child"))]);
    Image(std::fs::read(folder.path("child")).unwrap(), Format::Qcow2).fails(Refused, text(&data));
}

#[test]
fn a_gate_that_grants_does_not_make_a_chain_readable() {
    struct Grant;
    impl disk::Gate for Grant {
        fn open(&self, _: &str) -> disk::Result<std::sync::Arc<dyn Source>> {
            Ok(std::sync::Arc::new(vec![0; 512]))
        }
    }
    let image = qcow2().set(8, &512_u64.to_be_bytes()).set(16, &4_u32.to_be_bytes()).set(512, b"base");
    let error = disk::open(std::sync::Arc::new(image.0), Format::Qcow2, &Grant).unwrap_err();
    assert_eq!(error.kind(), Unsupported);
    assert!(error.to_string().contains("base"));
}

#[test]
fn qcow2_features() {
    let bit = |bit: u32| qcow2().set(72, &(1_u64 << bit).to_be_bytes());
    bit(1).fails(Corrupt, "marked as corrupt");
    bit(3).fails(Corrupt, "compression type");
    bit(5).fails(Unsupported, "0x20");
    bit(63).fails(Unsupported, "0x8000000000000000");
    bit(0).opens();
    qcow2().set(104, &[1]).fails(Corrupt, "compression type");
    bit(3).set(104, &[2]).fails(Unsupported, "compression type 2");
    qcow2().set(32, &1_u32.to_be_bytes()).fails(Unsupported, "encrypted (AES)");
    qcow2().set(32, &2_u32.to_be_bytes()).fails(Corrupt, "encrypted (LUKS)");
    qcow2().set(32, &9_u32.to_be_bytes()).fails(Unsupported, "unknown method 9");
    qcow2().set(4, &1_u32.to_be_bytes()).fails(Unsupported, "version 1");
    qcow2().set(4, &4_u32.to_be_bytes()).fails(Unsupported, "version 4");
    qcow2().set(96, &7_u32.to_be_bytes()).fails(Corrupt, "refcount order 7");
    qcow2().set(100, &13_u32.to_be_bytes()).fails(Corrupt, "13 bytes long");
}

#[test]
fn qcow2_snapshots() {
    qcow2().set(60, &70_000_u32.to_be_bytes()).fails(TooLarge, "70000 snapshots");
    let far = qcow2().set(60, &3_u32.to_be_bytes()).set(64, &(1_u64 << 60).to_be_bytes());
    far.fails(Corrupt, "snapshot table");
    let near = qcow2().set(60, &1_u32.to_be_bytes());
    assert_eq!(open_bytes(near.0, Format::Qcow2).unwrap().notes.len(), 1);
}

#[test]
fn qcow2_tables() {
    for bits in [0_u32, 8, 22, 64, u32::MAX] {
        qcow2().set(20, &bits.to_be_bytes()).fails(Corrupt, "cluster bits");
    }
    qcow2().set(36, &u32::MAX.to_be_bytes()).fails(TooLarge, "4294967295 entries");
    qcow2().set(36, &0_u32.to_be_bytes()).fails(Corrupt, "L1 table has 0 entries");
    qcow2().set(36, &(1_u32 << 22).to_be_bytes()).fails(Corrupt, "the L1 table needs 33554432 bytes");
    qcow2().set(24, &u64::MAX.to_be_bytes()).fails(TooLarge, "18446744073709551615 bytes");
    qcow2().set(24, &(1_u64 << 40).to_be_bytes()).fails(Corrupt, "L1 table");
    qcow2().set(40, &1_u64.to_be_bytes()).fails(Corrupt, "begins no cluster");
    qcow2().set(40, &(u64::MAX << 16).to_be_bytes()).fails(Corrupt, "the L1 table");
    qcow2().set(40, &0_u64.to_be_bytes()).fails(Corrupt, "already in use");
    qcow2().set(48, &(1_u64 << 40).to_be_bytes()).fails(Corrupt, "the refcount table");
    qcow2().set(56, &u32::MAX.to_be_bytes()).fails(TooLarge, "refcount table");
    let refcounts = qcow2().be64(48) as usize;
    qcow2().set(refcounts, &(1_u64 << 16).to_be_bytes()).fails(Corrupt, "already in use");
    qcow2().set(refcounts, &513_u64.to_be_bytes()).fails(Corrupt, "refcount block");
}

#[test]
fn qcow2_entries() {
    let image = qcow2();
    let (l1, [first, second]) = l2_entries(&image);
    let entry = image.be64(first);
    let set = |at: usize, entry: u64| image.clone().set(at, &entry.to_be_bytes());
    set(second, entry).fails(Corrupt, "already in use");
    set(second, image.be64(l1)).fails(Corrupt, "already in use");
    set(second, 1 << 63).opens();
    set(second, (1 << 63) | (1 << 50)).fails(Corrupt, "the file ends at byte");
    set(second, entry | 512).fails(Corrupt, "begins no cluster");
    set(second, entry | 4).fails(Corrupt, "reserved bits");
    set(second, entry | (1 << 60)).fails(Corrupt, "reserved bits");
    set(l1, 1 << 48).fails(Corrupt, "an L2 table needs 65536 bytes");
    set(l1, 7).fails(Corrupt, "entry 0 of the L1 table");
    let packed = (1 << 62) | (entry & 0xff_ffff_ffff);
    set(second, packed).fails(Corrupt, "already in use");
    set(second, (1 << 62) | (1 << 50)).fails(Corrupt, "compressed cluster of disk byte");
    let old = Image::new(Format::Qcow2, &["-o", "compat=0.10"]);
    let (_, [first, _]) = l2_entries(&old);
    let entry = old.be64(first) | 1;
    old.set(first, &entry.to_be_bytes()).fails(Corrupt, "version 2 does not have");
}

/// A few tables that all name one cluster would unfold to terabytes.
#[test]
fn qcow2_bombs() {
    let image = Image::new(Format::Qcow2, &["-c"]);
    let (l1, [first, second]) = l2_entries(&image);
    let entry = image.be64(first);
    image.clone().set(second, &entry.to_be_bytes()).fails(Corrupt, "already in use");
    // All entries of L1 name one L2 table.
    let table = image.be64(l1);
    let mut bomb = image.set(24, &(64_u64 << 29).to_be_bytes()).set(36, &64_u32.to_be_bytes());
    for number in 0..64 {
        bomb = bomb.set(l1 + number * 8, &table.to_be_bytes());
    }
    bomb.fails(Corrupt, "an L2 table lies at byte");
}

/// Position in the file of the first cluster that is compressed.
fn packed_cluster(image: &Image) -> usize {
    let l2 = (image.be64(image.be64(40) as usize) & 0x00ff_ffff_ffff_fe00) as usize;
    let entries = (l2..l2 + 65536).step_by(8).map(|at| image.be64(at));
    let entry = entries.into_iter().find(|entry| entry & (1 << 62) != 0).unwrap();
    (entry & ((1 << 54) - 1)) as usize
}

/// A stream that holds more or less than a cluster, or is damaged.
#[test]
fn qcow2_streams() {
    let zstd = Image::new(Format::Qcow2, &["-c", "-o", "compression_type=zstd"]);
    let at = packed_cluster(&zstd);
    let put = |stream: &[u8]| zstd.clone().set(at, stream);
    let frame = |length: usize| zstd::bulk::compress(&vec![7; length], 1).unwrap();
    put(&frame(65536)).opens();
    put(&[frame(65535), frame(1)].concat()).opens();
    // A frame that is skipped, then the cluster.
    put(&[b"\x50\x2a\x4d\x18\x04\0\0\0skip".as_slice(), &frame(65536)].concat()).opens();
    put(&frame(65537)).fails(Corrupt, "does not unpack to one cluster");
    put(&frame(1 << 24)).fails(Corrupt, "does not unpack to one cluster");
    put(&[&frame(1000), [0xff; 20].as_slice()].concat()).fails(Corrupt, "does not unpack to one cluster");
    put(&[0xff; 20]).fails(Corrupt, "does not unpack to one cluster");
    let zlib = Image::new(Format::Qcow2, &["-c"]);
    let at = packed_cluster(&zlib);
    zlib.set(at, &[0xff; 20]).fails(Corrupt, "does not unpack to one cluster");
}

fn vhd() -> Image {
    Image::new(Format::Vhd, &["-o", "force_size=on"])
}

/// Writes the checksum of the footer, and its copy.
fn sealed(mut image: Image) -> Image {
    let end = image.0.len() - 512;
    let sum: u32 =
        (end..end + 512).filter(|at| !(end + 64..end + 68).contains(at)).map(|at| u32::from(image.0[at])).sum();
    image = image.set(end + 64, &(!sum).to_be_bytes());
    let footer = image.0[end..].to_vec();
    image.set(0, &footer)
}

#[test]
fn vhd_footers() {
    let end = vhd().0.len() - 512;
    sealed(vhd()).opens();
    vhd().set(end + 100, &[1]).fails(Corrupt, "checksum of the footer");
    vhd().set(100, &[1]).fails(Corrupt, "differ");
    sealed(vhd().set(end + 60, &9_u32.to_be_bytes())).fails(Corrupt, "disk type 9");
    sealed(vhd().set(end + 60, &4_u32.to_be_bytes())).fails(Refused, "parent");
    sealed(vhd().set(end + 12, &(2_u32 << 16).to_be_bytes())).fails(Unsupported, "version");
    sealed(vhd().set(end + 48, &(4_u64 << 40).to_be_bytes())).fails(TooLarge, "4398046511104");
    sealed(vhd().set(end + 48, &1000_u64.to_be_bytes())).fails(Corrupt, "multiple of 512");
    sealed(vhd().set(end + 48, &(1_u64 << 40).to_be_bytes())).fails(Corrupt, "entries");
    sealed(vhd().set(end + 28, b"vpc ").set(end + 56, &[0xff, 0, 16, 63])).fails(Corrupt, "geometry");
    sealed(vhd().set(end + 16, &u64::MAX.to_be_bytes())).fails(Corrupt, "dynamic VHD");
    let mut cut = vhd();
    cut.0.truncate(end);
    cut.fails(Corrupt, "does not end with its footer");
    let fixed = Image::new(Format::Vhd, &["-o", "subformat=fixed,force_size=on"]);
    let mut longer = fixed.0.clone();
    longer.splice(0..0, [0; 512]);
    Image(longer, Format::Vhd).fails(Corrupt, "fixed VHD says");
}

#[test]
fn vhd_tables() {
    let image = vhd();
    let header = image.be64(16) as usize;
    assert_eq!(&image.0[header..header + 8], b"cxsparse");
    image.clone().set(header + 200, &[1]).fails(Corrupt, "checksum of the dynamic header");
    let with = |at: usize, bytes: &[u8]| {
        let image = image.clone().set(header + at, bytes);
        let sum: u32 = (0..1024).filter(|at| !(36..40).contains(at)).map(|at| u32::from(image.0[header + at])).sum();
        image.set(header + 36, &(!sum).to_be_bytes())
    };
    with(32, &0_u32.to_be_bytes()).fails(Unsupported, "blocks of 0 bytes");
    with(32, &(1_u32 << 31).to_be_bytes()).fails(Unsupported, "blocks of 2147483648 bytes");
    with(28, &u32::MAX.to_be_bytes()).fails(TooLarge, "4294967295 entries");
    with(28, &1_u32.to_be_bytes()).fails(Corrupt, "1 entries");
    with(16, &u64::MAX.to_be_bytes()).fails(Corrupt, "the block table");
    with(16, &0_u64.to_be_bytes()).fails(Corrupt, "overlap");
    let table = image.be64(header + 16) as usize;
    let first = image.be32(table);
    image.clone().set(table + 4, &first.to_be_bytes()).fails(Corrupt, "already in use");
    image.clone().set(table + 4, &(first + 1).to_be_bytes()).fails(Corrupt, "already in use");
    image.clone().set(table, &0_u32.to_be_bytes()).fails(Corrupt, "already in use");
    image.clone().set(table, &(1_u32 << 30).to_be_bytes()).fails(Corrupt, "the file ends");
}

#[test]
fn vdi_fields() {
    let image = Image::new(Format::Vdi, &[]);
    let table = image.le32(340) as usize;
    let set = |at: usize, bytes: &[u8]| image.clone().set(at, bytes);
    set(64, &[0]).fails(WrongFormat, "signature of VDI");
    set(68, &[2]).fails(Unsupported, "VDI version");
    set(76, &[4]).fails(Refused, "parent");
    set(76, &[3]).fails(Unsupported, "image type 3");
    set(440, &[1; 16]).fails(Refused, "01010101-0101");
    set(424, &[2; 16]).fails(Refused, "02020202-0202");
    set(376, &4096_u32.to_le_bytes()).fails(Unsupported, "blocks of 4096");
    set(368, &u64::MAX.to_le_bytes()).fails(TooLarge, "18446744073709551615");
    set(368, &(1_u64 << 40).to_le_bytes()).fails(Corrupt, "blocks for a disk");
    set(384, &u32::MAX.to_le_bytes()).fails(TooLarge, "4294967295 blocks");
    set(340, &0_u32.to_le_bytes()).fails(Corrupt, "in the header");
    set(340, &u32::MAX.to_le_bytes()).fails(Corrupt, "overlaps the data");
    set(table, &0xffff_fffe_u32.to_le_bytes()).opens();
    set(table, &1_u32.to_le_bytes()).fails(Corrupt, "already in use");
    set(table, &1000_u32.to_le_bytes()).fails(Corrupt, "the file ends");
}

fn vmdk() -> Image {
    Image::new(Format::Vmdk, &["-o", "subformat=monolithicSparse"])
}

fn stream() -> Image {
    Image::new(Format::Vmdk, &["-o", "subformat=streamOptimized"])
}

/// Puts another descriptor into an image.
fn described(image: Image, change: impl Fn(&str) -> String) -> Image {
    let bytes = &image.0[512..512 * 21];
    let length = bytes.iter().position(|byte| *byte == 0).unwrap();
    let mut descriptor = change(std::str::from_utf8(&bytes[..length]).unwrap()).into_bytes();
    descriptor.resize(512 * 20, 0);
    image.set(512, &descriptor)
}

#[test]
fn vmdk_that_names_other_files() {
    for image in [vmdk(), stream()] {
        described(image.clone(), str::to_owned).opens();
        for name in ["/etc/passwd", "../x", "a/b", "C:\\x"] {
            let named = described(image.clone(), |text| text.replace("\"image\"", &format!("\"{name}\"")));
            named.fails(Refused, &format!("{name:?}"));
        }
        described(image.clone(), |text| text.replace("RW ", "RW 8 FLAT \"/dev/sda\" 0\nRW "))
            .fails(Refused, "/dev/sda");
        described(image.clone(), |text| text.replace("ffffffff", "12345678")).fails(Refused, "parent");
        described(image.clone(), |text| format!("{text}parentFileNameHint=\"/secret\"\n")).fails(Refused, "/secret");
        described(image.clone(), |text| text.replace("createType=\"", "createType=\"x")).fails(Refused, "image");
        described(image.clone(), |text| format!("{text}\0RW 8 FLAT \"x\" 0\n")).fails(Refused, "zero byte");
        described(image, |_| String::new()).fails(Refused, "one extent");
    }
    let folder = Folder::new();
    let raw = folder.write("raw", &seeded_disk(1 << 20, 1));
    for kind in ["monolithicFlat", "twoGbMaxExtentFlat", "twoGbMaxExtentSparse"] {
        let image = folder.image("disk.vmdk", &raw, "vmdk", &["-o", &format!("subformat={kind}")]);
        let image = Image(std::fs::read(image).unwrap(), Format::Vmdk);
        assert_eq!(probe(&image.0).unwrap(), Format::Vmdk);
        image.fails(Refused, kind);
        image.fails(Refused, "\"disk-");
    }
    // An extent of a set has no descriptor of its own.
    Image(std::fs::read(folder.path("disk-s001.vmdk")).unwrap(), Format::Vmdk).fails(Refused, "one extent");
    let bare = "# Disk DescriptorFile\nversion=1\ncreateType=\"custom\"\nRW 9 FLAT \"/etc/shadow\" 0\n";
    Image(bare.into(), Format::Vmdk).fails(Refused, "/etc/shadow");
}

#[test]
fn vmdk_fields() {
    let set = |at: usize, bytes: &[u8]| vmdk().set(at, bytes);
    set(4, &[9]).fails(Unsupported, "version 9");
    set(8, &[3, 0, 1]).fails(Unsupported, "flags");
    set(12, &u64::MAX.to_le_bytes()).fails(Corrupt, "capacity");
    set(12, &(1_u64 << 50).to_le_bytes()).fails(TooLarge, "directory over 32 MiB");
    set(12, &(1_u64 << 30).to_le_bytes()).fails(Corrupt, "the extent line says");
    set(20, &7_u64.to_le_bytes()).fails(Unsupported, "grains of 3584");
    set(20, &(1_u64 << 23).to_le_bytes()).fails(Unsupported, "grains of 4294967296");
    set(44, &0_u32.to_le_bytes()).fails(Corrupt, "grain tables of 0");
    set(36, &(1_u64 << 30).to_le_bytes()).fails(TooLarge, "descriptor");
    set(56, &(1_u64 << 40).to_le_bytes()).fails(Corrupt, "the grain directory");
    set(73, b"\r").fails(Corrupt, "line ends");
    set(0, b"COWD").fails(Unsupported, "COWD");
}

#[test]
fn vmdk_grains() {
    for image in [vmdk(), stream()] {
        let directory = image.le32(56) as usize * 512;
        let table = image.le32(directory) as usize * 512;
        let used: Vec<_> = (table..table + 2048).step_by(4).filter(|at| image.le32(*at) != 0).take(2).collect();
        let set = |at: usize, sector: u32| image.clone().set(at, &sector.to_le_bytes());
        set(used[1], image.le32(used[0])).fails(Corrupt, "already in use");
        set(used[1], 3).fails(Corrupt, "among the tables");
        set(used[1], u32::MAX).fails(Corrupt, "the file ends");
        set(directory, u32::MAX).fails(Corrupt, "a grain table");
        set(directory, 1).fails(Corrupt, "already in use");
    }
}

#[test]
fn vmdk_streams() {
    let image = stream();
    let table = image.le32(image.le32(56) as usize * 512) as usize * 512;
    let entry = (table..table + 2048).step_by(4).find(|at| image.le32(*at) != 0).unwrap();
    let grain = image.le32(entry) as usize * 512;
    let put =
        |stream: &[u8]| image.clone().set(grain + 8, &(stream.len() as u32).to_le_bytes()).set(grain + 12, stream);
    let zlib = |length: usize| {
        use std::io::Write;
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(&vec![7; length]).unwrap();
        encoder.finish().unwrap()
    };
    put(&zlib(65536)).opens();
    put(&zlib(65537)).fails(Corrupt, "does not unpack to one grain");
    put(&zlib(65535)).fails(Corrupt, "does not unpack to one grain");
    put(&zlib(65536)[..20]).fails(Corrupt, "does not unpack to one grain");
    put(&[0xff; 30]).fails(Corrupt, "does not unpack to one grain");
    image.clone().set(grain, &[0x77]).fails(Corrupt, "is marked as that of sector");
    image.clone().set(grain + 8, &0_u32.to_le_bytes()).fails(Corrupt, "a stream of 0 bytes");
    image.clone().set(grain + 8, &u32::MAX.to_le_bytes()).fails(Corrupt, "a stream of 4294967295 bytes");
}

#[test]
fn vmdk_footers() {
    let image = Image(common::with_footer(&stream().0), Format::Vmdk);
    let end = image.0.len();
    image.opens();
    let set = |at: usize, bytes: &[u8]| image.clone().set(at, bytes);
    set(end - 1, &[1]).fails(Corrupt, "marker of its end");
    set(end - 1024 + 12, &[9]).fails(Corrupt, "differs from the header");
    set(end - 1024, b"X").fails(Corrupt, "does not end with its footer");
    set(end - 1536 + 12, &[2]).fails(Corrupt, "does not end with its footer");
    set(end - 1024 + 56, &[0xff; 8]).fails(Corrupt, "does not say where");
    for cut in [1, 511, 512, 1024, 1536, 5000, 100_000] {
        let image = Image(image.0[..end - cut].to_vec(), Format::Vmdk);
        let error = open_bytes(image.0, Format::Vmdk).unwrap_err();
        assert_eq!(error.kind(), Corrupt, "cut by {cut}");
    }
    // qemu-img writes no footer, and fills up the last grain; there its marker shows the cut.
    let mut image = stream();
    image.0.truncate(image.0.len() - 65536 + 22);
    image.fails(Corrupt, "the file ends");
}

#[test]
fn probing() {
    let of = |bytes: &[u8]| probe(&bytes.to_vec()).unwrap();
    assert_eq!(of(b""), Format::Raw);
    assert_eq!(of(b"just a text file\n"), Format::Raw);
    assert_eq!(of(&[0; 100_000]), Format::Raw);
    assert_eq!(of(b"LUKS\xba\xbe\0\x02"), Format::Luks);
    for (format, start) in [
        (Format::Qcow1, &b"QFI\xfb\0\0\0\x01"[..]),
        (Format::Qed, b"QED\0"),
        (Format::Parallels, b"WithoutFreeSpace"),
        (Format::Gzip, b"\x1f\x8b\x08\0"),
        (Format::Xz, b"\xfd7zXZ\0"),
        (Format::Zstd, b"\x28\xb5\x2f\xfd"),
        (Format::Bzip2, b"BZh91AY&SY"),
        (Format::Zip, b"PK\x03\x04"),
    ] {
        let bytes = [start, &[0; 5000]].concat();
        assert_eq!(of(&bytes), format);
        // Its magic number alone makes no file of any format.
        assert!(open_bytes(bytes, format).is_err());
        assert_eq!(format.as_str().parse::<Format>().unwrap(), format);
    }
    let folder = Folder::new();
    std::fs::write(folder.path("member"), "x").unwrap();
    let tar = std::process::Command::new("tar").args(["-C", text(&folder.path("")), "-c", "member"]).output().unwrap();
    assert_eq!(of(&tar.stdout), Format::Ova);

    let mut disc = vec![0; 100_000];
    disc[32769..32774].copy_from_slice(b"CD001");
    assert_eq!(of(&disc), Format::Iso);
    // A disc that boots from USB has a partition table too.
    disc[510..512].copy_from_slice(&[0x55, 0xaa]);
    assert_eq!(of(&disc), Format::Iso);
    assert_eq!("floppy".parse::<Format>().unwrap_err().kind(), Unsupported);
}

#[test]
fn polyglots() {
    let refused = |image: Image, names: &str| {
        let error = probe(&image.0).unwrap_err();
        assert_eq!(error.kind(), Refused);
        assert!(error.to_string().contains(names), "{error}");
    };
    refused(qcow2().set(32769, b"CD001"), "qcow2 and iso");
    refused(qcow2().set(64, &0xbeda_107f_u32.to_le_bytes()), "qcow2 and vdi");
    let mut tailed = qcow2();
    tailed.0.extend(&vhd().0[..512]);
    refused(tailed, "qcow2 and vhd");
    let mut disc = vec![0; 100_000];
    disc[32769..32774].copy_from_slice(b"CD001");
    disc[..6].copy_from_slice(b"LUKS\xba\xbe");
    refused(Image(disc, Format::Raw), "iso and luks");
}

#[test]
fn declared_and_found() {
    confirm(&qcow2().0, Format::Qcow2).unwrap();
    let error = confirm(&qcow2().0, Format::Raw).unwrap_err();
    assert_eq!(error.kind(), WrongFormat);
    assert!(error.to_string().contains("declared as raw, and it is qcow2"));
    for format in [Format::Qcow2, Format::Vhd, Format::Vdi, Format::Vmdk] {
        for bytes in [b"".to_vec(), b"hello, world\n".repeat(100), vec![0; 1 << 20]] {
            assert_eq!(open_bytes(bytes, format).unwrap_err().kind(), WrongFormat, "{format}");
        }
    }
}
