//! Files that are compressed as a whole, against gzip, xz, zstd and the modules of Python.

mod files;
mod parts;

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use disk::{ErrorKind, Format, Output, Source, UnpackLimits, Unpacker, WriteOptions, unpack};

use crate::common::Stopwatch;
use crate::common::{Numbers, open_bytes, read_all, seeded_disk};

/// Runs a tool on `input` and returns what it wrote.
fn tool(program: &str, arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program} is needed by these tests: {error}"));
    let mut stdin = child.stdin.take().unwrap();
    let output = std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(input).unwrap());
        child.wait_with_output().unwrap()
    });
    assert!(output.status.success(), "{program} {arguments:?} failed");
    output.stdout
}

fn python(script: &str, input: &[u8]) -> Vec<u8> {
    tool("python3", &["-c", &format!("import sys\ni, o = sys.stdin.buffer, sys.stdout.buffer\n{script}")], input)
}

/// Makes an archive by the module `zipfile`; the script has the archive as `z` and the content as `b`.
fn zip(script: &str, content: &[u8]) -> Vec<u8> {
    let around = "import io, zipfile\nb, f = i.read(), io.BytesIO()\nS, D = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED";
    python(&format!("{around}\nwith zipfile.ZipFile(f, 'w', D) as z:\n {script}\no.write(f.getvalue())"), content)
}

fn unpacker(bytes: &[u8], format: Format) -> disk::Result<Unpacker> {
    unpack(Arc::new(bytes.to_vec()), format, UnpackLimits::default())
}

fn unpacked(bytes: &[u8], format: Format) -> disk::Result<Vec<u8>> {
    let mut unpacker = unpacker(bytes, format)?;
    let (mut content, mut piece) = (Vec::new(), vec![0; 70_001]);
    loop {
        let length = unpacker.fill(&mut piece)?;
        content.extend(&piece[..length]);
        if length < piece.len() {
            return Ok(content);
        }
    }
}

/// Makes five containers in one run, because starting Python takes its time; each is preceded by its length.
const CONTAINERS: &str = "
import bz2, gzip, io, lzma, zipfile
b = i.read()
def put(data): o.write(len(data).to_bytes(8, 'little') + data)
def pack(method, wide):
    f = io.BytesIO()
    with zipfile.ZipFile(f, 'w', method) as z, z.open('disk.img', 'w', force_zip64=wide) as member: member.write(b)
    put(f.getvalue())
put(gzip.compress(b))
put(lzma.compress(b, preset=0))
put(bz2.compress(b))
pack(zipfile.ZIP_DEFLATED, False)
pack(zipfile.ZIP_DEFLATED, True)
pack(zipfile.ZIP_STORED, False)";

/// The content in every kind of container, made by two tools or in two ways.
fn containers(content: &[u8]) -> Vec<(Format, &'static str, Vec<u8>)> {
    let made = python(CONTAINERS, content);
    let mut rest = made.as_slice();
    let mut next = || {
        let (length, tail) = rest.split_at(8);
        let (container, tail) = tail.split_at(u64::from_le_bytes(length.try_into().unwrap()) as usize);
        rest = tail;
        container.to_vec()
    };
    vec![
        (Format::Gzip, "gzip", tool("gzip", &["-c"], content)),
        (Format::Gzip, "gzip by Python", next()),
        (Format::Xz, "xz", tool("xz", &["-0", "-c"], content)),
        (Format::Xz, "xz by Python", next()),
        (Format::Zstd, "zstd", tool("zstd", &["-q", "-c", "--check"], content)),
        (Format::Bzip2, "bzip2 by Python", next()),
        (Format::Zip, "zip", next()),
        (Format::Zip, "zip64", next()),
        (Format::Zip, "zip stored", next()),
    ]
}

#[test]
fn every_container_gives_its_content() {
    let content = seeded_disk((3 << 20) + 1000, 1);
    for (format, name, bytes) in containers(&content) {
        assert_eq!(disk::probe(&bytes).unwrap(), format, "{name}");
        assert!(unpacked(&bytes, format).unwrap() == content, "{name}");
        let mut read = Vec::new();
        unpacker(&bytes, format).unwrap().read_to_end(&mut read).unwrap();
        assert!(read == content, "{name} as a stream");
    }
}

#[test]
fn members_follow_one_another() {
    let parts = [seeded_disk(300_000, 2), vec![0; 200_000], Vec::new(), seeded_disk(5000, 3)];
    let whole = parts.concat();
    let parts: Vec<_> = parts.iter().map(|part| containers(part)).collect();
    for kind in 0..parts[0].len() {
        let (format, name) = (parts[0][kind].0, parts[0][kind].1);
        let file = parts.iter().flat_map(|members| &members[kind].2).copied().collect::<Vec<_>>();
        if format == Format::Zip {
            assert!(unpacked(&file, format).is_err(), "{name}");
        } else {
            assert!(unpacked(&file, format).unwrap() == whole, "{name}");
        }
    }
}

#[test]
fn a_cut_file_is_an_error_at_every_byte() {
    for (format, name, bytes) in containers(&seeded_disk(3000, 4)) {
        for length in 0..bytes.len() {
            let result = unpacked(&bytes[..length], format);
            let error = result.err().unwrap_or_else(|| panic!("{name} cut at {length} is taken for whole"));
            assert!(matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::WrongFormat), "{name}: {error}");
            assert!(open_bytes(bytes[..length].to_vec(), format).is_err(), "{name} opens, cut at {length}");
        }
    }
}

#[test]
fn damage_is_found_and_never_panics() {
    let content = seeded_disk(20_000, 5);
    let frames = |format: Format| match format {
        Format::Xz => content.chunks(6000).flat_map(|part| tool("xz", &["-c", "--block-size=2000"], part)).collect(),
        _ => with_table(&content, 3000),
    };
    let several = [(Format::Xz, "xz blocks"), (Format::Zstd, "zstd table")];
    let several = several.map(|(format, name)| (format, name, frames(format)));
    for (format, name, bytes) in containers(&content).into_iter().chain(several) {
        let mut numbers = Numbers::new(6);
        let mut failed = 0;
        for _ in 0..800 {
            let mut damaged = bytes.clone();
            for _ in 0..=numbers.below(2) {
                let end = if numbers.below(2) == 0 { damaged.len().min(64) } else { damaged.len() };
                // The end has tables too.
                let at =
                    if numbers.below(3) == 0 { damaged.len() - end } else { 0 } + numbers.below(end as u64) as usize;
                damaged[at] ^= 1 << numbers.below(8);
            }
            let (forward, opened) = (unpacked(&damaged, format), open_bytes(damaged.clone(), format));
            failed += u64::from(forward.is_err());
            if let Ok(forward) = forward {
                // Names and times in headers are not protected by any checksum.
                assert!(forward == content, "{name} gives something else");
            }
            if let Ok(Ok(read)) = opened.map(|opened| read_all(&*opened.disk, 1 << 20)) {
                assert!(read == content || name == "zip stored", "{name} reads as something else");
            }
        }
        assert!(failed > 400, "{name}: {failed}");
    }
}

#[test]
fn what_follows_is_refused_unless_tools_ignore_it() {
    let content = seeded_disk(10_000, 7);
    for (format, name, bytes) in containers(&content) {
        let with = |end: &[u8]| unpacked(&[&bytes, end].concat(), format);
        for junk in [&b"junk"[..], &[0, 0, 0, 1], &[1]] {
            assert!(with(junk).is_err(), "{name} with {junk:?}");
        }
        let zeros = matches!(format, Format::Gzip | Format::Xz | Format::Bzip2);
        assert_eq!(with(&[0; 2048]).is_ok_and(|read| read == content), zeros, "{name}");
        let odd = matches!(format, Format::Gzip | Format::Bzip2);
        assert_eq!(with(&[0; 3]).is_ok(), odd, "{name}");
    }
}

#[test]
fn twice_compressed_is_refused() {
    for (inner, _, bytes) in containers(&seeded_disk(10_000, 8)) {
        for (outer, name, bytes) in containers(&bytes) {
            for result in [unpacked(&bytes, outer).map(|_| ()), open_bytes(bytes.clone(), outer).map(|_| ())] {
                let error = result.unwrap_err();
                let late = matches!(error.kind(), ErrorKind::Unsupported) && !name.contains("stored");
                assert!(late || error.kind() == ErrorKind::Refused, "{inner} in {name}: {error}");
                assert!(late || error.to_string().contains(inner.as_str()), "{error}");
            }
        }
    }
}

#[test]
fn archives_of_anything_but_one_file_are_refused() {
    let content = seeded_disk(5000, 9);
    for (script, words) in [
        ("z.writestr('a', b); z.writestr('b', b)", "2 files instead of one: \"a\", \"b\""),
        ("[z.writestr(str(n), b'') for n in range(20)]", "\"7\", ..."),
        ("pass", "0 files"),
        ("z.writestr('folder/disk', b)", "bare name"),
        ("z.writestr('../disk', b)", "bare name"),
        ("z.writestr('/disk', b)", "bare name"),
        ("z.writestr('folder/', b'')", "bare name"),
        (
            "n = zipfile.ZipInfo('d'); n.create_system = 3; n.external_attr = 0o120777 << 16; z.writestr(n, b)",
            "regular",
        ),
        ("z.writestr('d', b, zipfile.ZIP_BZIP2)", "method 12"),
        ("z.writestr('d', b); z.comment = b'PK\\5\\6' + bytes(18)", "two ends"),
    ] {
        let bytes = zip(script, &content);
        for error in [unpacked(&bytes, Format::Zip).unwrap_err(), open_bytes(bytes, Format::Zip).unwrap_err()] {
            assert!(matches!(error.kind(), ErrorKind::Refused | ErrorKind::Unsupported), "{script}: {error}");
            assert!(error.to_string().contains(words), "{script}: {error}");
        }
    }
    let sound = zip("z.writestr('d', b, S); z.comment = b'a comment'", &content);
    assert!(unpacked(&sound, Format::Zip).unwrap() == content);
    // Each of these would make two readers see two files, or one that is not all there.
    let directory = sound.len() - 22 - 9 - 47;
    let change = |at: usize, to: u8| {
        let mut bytes = sound.clone();
        assert_ne!(bytes[at], to);
        bytes[at] = to;
        unpacked(&bytes, Format::Zip).unwrap_err().to_string()
    };
    assert!(change(30, b'e').contains("twice"));
    assert!(change(directory + 8, 1).contains("encrypted"));
    assert!(change(8, 8).contains("twice"));
    assert!(change(35, 0xaa).contains("checksum"));
    let before = [&b"PK\x03\x04 a program in front"[..], &sound].concat();
    assert_eq!(unpacked(&before, Format::Zip).unwrap_err().kind(), ErrorKind::Corrupt);
}

/// Frames of `piece` bytes of content with checksums, and a table of them as the seekable format has it.
fn with_table(content: &[u8], piece: usize) -> Vec<u8> {
    let frames: Vec<_> = content.chunks(piece).map(|part| (zstd_frame(part), part.len())).collect();
    let table = seek_table(&frames.iter().map(|(frame, length)| (frame.len(), *length)).collect::<Vec<_>>());
    frames.into_iter().flat_map(|(frame, _)| frame).chain(table).collect()
}

fn zstd_frame(part: &[u8]) -> Vec<u8> {
    tool("zstd", &["-q", "-c", "--check", &format!("--stream-size={}", part.len())], part)
}

/// Makes the table of frames with these lengths, packed and of the content.
fn seek_table(frames: &[(usize, usize)]) -> Vec<u8> {
    let word = |number: usize| (number as u32).to_le_bytes();
    let mut table = [word(0x184d_2a5e), word(frames.len() * 8 + 9)].concat();
    frames.iter().for_each(|(packed, length)| table.extend([word(*packed), word(*length)].concat()));
    table.extend(word(frames.len()));
    table.push(0);
    table.extend(word(0x8f92_eab1));
    table
}

#[test]
fn windows_and_dictionaries_beyond_the_memory_are_refused() {
    let content = seeded_disk(100_000, 21);
    // Without a stated length the fifth byte is the window: 256 MiB.
    let mut zstd = tool("zstd", &["-q", "-c"], &content);
    assert_eq!(zstd[4] & 0x20, 0);
    zstd[5] = 18 << 3;
    // The size of the dictionary is in the header of the block: 512 MiB.
    let mut xz = tool("xz", &["-0", "-c"], &content);
    let dictionary = 12 + xz[12..24].windows(2).position(|bytes| bytes == [0x21, 1]).unwrap() + 2;
    xz[dictionary] = 34;
    let end = 12 + 4 * usize::from(xz[12]);
    let crc = libdeflater::crc32(&xz[12..end]);
    xz[end..end + 4].copy_from_slice(&crc.to_le_bytes());
    for (format, bytes) in [(Format::Zstd, zstd), (Format::Xz, xz)] {
        let error = unpacked(&bytes, format).unwrap_err();
        assert!(error.kind() == ErrorKind::TooLarge && error.hint().is_some(), "{format}: {error}");
        assert!(open_bytes(bytes, format).is_err());
    }
}

/// Containers of which any part can be unpacked alone.
fn seekable(content: &[u8]) -> Vec<(Format, &'static str, Vec<u8>)> {
    let frames = |piece: usize| content.chunks(piece).flat_map(zstd_frame).collect::<Vec<_>>();
    let half = content.len() / 2;
    let streams = |part: &[u8]| tool("xz", &["-0", "-c", "--block-size=300000"], part);
    let padded = [streams(&content[..half]), vec![0; 100], streams(&content[half..]), vec![0; 8]].concat();
    vec![
        (Format::Zstd, "zstd frames", frames(250_000)),
        (
            Format::Zstd,
            "zstd frames with others between",
            [&b"\x50\x2a\x4d\x18\x03\0\0\0abc"[..], &frames(400_000)].concat(),
        ),
        (Format::Zstd, "zstd table", with_table(content, 500_000)),
        (Format::Zstd, "our zstd", wrapped(content.to_vec(), "zstd", 0)),
        (Format::Xz, "xz blocks", streams(content)),
        (Format::Xz, "xz streams", padded),
        (Format::Zip, "zip stored", zip("z.writestr('disk.img', b, S)", content)),
    ]
}

fn wrapped(disk: Vec<u8>, wrap: &str, threads: usize) -> Vec<u8> {
    written(Arc::new(disk), Format::Raw, &[("wrap", wrap)], threads).unwrap()
}

fn written(disk: Arc<dyn Source>, format: Format, chosen: &[(&str, &str)], threads: usize) -> disk::Result<Vec<u8>> {
    let mut options = WriteOptions::default();
    chosen.iter().for_each(|(key, value)| options.set(key, value));
    let Output::Stream(stream) = disk::write(disk, format, &options)? else { panic!("{chosen:?} gives no stream") };
    let mut file = Vec::new();
    let head = stream.write(threads, &|_, _| (), &mut file)?;
    assert!(head.is_empty());
    Ok(file)
}

/// A file that repeats one part, as often as it is wanted.
struct Repeated {
    part: Vec<u8>,
    times: u64,
}

impl Source for Repeated {
    fn len(&self) -> u64 {
        self.part.len() as u64 * self.times
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> disk::Result<()> {
        let mut at = (offset % self.part.len() as u64) as usize;
        for byte in buf {
            *byte = self.part[at];
            at = (at + 1) % self.part.len();
        }
        Ok(())
    }
}

#[test]
fn bombs_are_stopped() {
    let zeros = vec![0; 16 << 20];
    for (format, name, part) in containers(&zeros) {
        if format == Format::Zip || name.contains("Python") && format != Format::Bzip2 {
            continue;
        }
        let bomb: Arc<dyn Source> = Arc::new(Repeated { part, times: 640 });
        // By what comes out, or where that is quick by the ratio, which counts from 1 GiB on.
        let limits = match format {
            Format::Zstd => UnpackLimits { ratio: 1000, ..UnpackLimits::default() },
            _ => UnpackLimits { output: 100 << 20, ..UnpackLimits::default() },
        };
        let mut unpacker = unpack(Arc::clone(&bomb), format, limits).unwrap();
        let mut piece = vec![0; 1 << 20];
        let started = Stopwatch::start();
        let error = loop {
            match unpacker.fill(&mut piece) {
                Ok(length) => assert!(length > 0, "{name} ended"),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::TooLarge, "{name}: {error}");
        assert!(unpacker.fill(&mut piece).is_err(), "{name} goes on after its failure");
        assert!(started.elapsed() < Duration::from_secs(10), "{name}: {:?}", started.elapsed());
    }
}
