//! Bytes that tests send: noise, disks, files that hold disks, and bodies.

use std::io::Read;
use std::sync::Arc;

use bytes::Bytes;
use disk::{Format, Given, Output, Source, UnpackLimits, WriteOptions};
use futures::{StreamExt, stream};
use service::{ByteStream, Error, ErrorKind, Incoming};

/// Bytes of a chunk in the tests' store.
pub(crate) const CHUNK: usize = 64 << 10;

/// Returns bytes that no compression shortens and that differ for each seed (xorshift).
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.wrapping_mul(0x2545_F491_4F6C_DD1D).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Returns a disk of 1 MiB: noise, a hole, noise, and a boot signature where a partition table ends.
pub(crate) fn disk(seed: u64) -> Vec<u8> {
    let mut disk = noise(seed, 1 << 20);
    disk[256 << 10..640 << 10].fill(0);
    disk[510..512].copy_from_slice(&[0x55, 0xAA]);
    disk
}

/// Returns the qcow2 file that holds a disk.
pub(crate) fn qcow2(disk: Vec<u8>) -> Vec<u8> {
    let file = disk::layout(Arc::new(disk), Format::Qcow2, &WriteOptions::default()).unwrap();
    read_all(&*file)
}

/// Returns the file that holds a disk in a format, with options as `name=value`, as it is written in order.
pub(crate) fn file(disk: Vec<u8>, format: Format, options: &[&str]) -> Vec<u8> {
    let mut write = WriteOptions::default();
    for (name, value) in options.iter().filter_map(|option| option.split_once('=')) {
        write.set(name, value);
    }
    written(disk, format, &write)
}

/// Returns the LUKS file that holds a disk, whose passphrase is checked in an instant.
pub(crate) fn luks(disk: Vec<u8>, passphrase: &[u8]) -> Vec<u8> {
    let mut write = WriteOptions::default();
    write.set("iter-time", "1");
    write.set_passphrase(passphrase.to_vec().into());
    written(disk, Format::Luks, &write)
}

fn written(disk: Vec<u8>, format: Format, write: &WriteOptions) -> Vec<u8> {
    match disk::write(Arc::new(disk), format, write).unwrap() {
        Output::Layout(file) | Output::Flat(file) => read_all(&*file),
        Output::Stream(stream) => {
            let mut rest = Vec::new();
            let head = stream.write(1, &|_, _| (), &mut rest).unwrap();
            [head, rest].concat()
        }
    }
}

/// Returns the disk that a file holds, whatever its format; `passphrase` opens it where it is encrypted.
pub(crate) fn disk_in(file: Vec<u8>, passphrase: Option<&[u8]>) -> Vec<u8> {
    let mut source: Arc<dyn Source> = Arc::new(file);
    let mut format = disk::probe(&*source).unwrap();
    if disk::is_wrapper(format) {
        let mut content = Vec::new();
        disk::unpack(source, format, UnpackLimits::default()).unwrap().read_to_end(&mut content).unwrap();
        source = Arc::new(content);
        format = disk::probe(&*source).unwrap();
    }
    let given = passphrase.map_or_else(Given::new, |given| Given::new().with_passphrase(given.to_vec().into()));
    read_all(&*disk::open(source, format, &given).unwrap().disk)
}

/// Returns a qcow2 file that wants its other clusters from the file `backing`.
pub(crate) fn qcow2_over(backing: &str) -> Vec<u8> {
    let mut file = qcow2(disk(1));
    let at = 4096;
    file[8..16].copy_from_slice(&(at as u64).to_be_bytes());
    file[16..20].copy_from_slice(&(backing.len() as u32).to_be_bytes());
    file[at..at + backing.len()].copy_from_slice(backing.as_bytes());
    file
}

/// Returns the disk that a qcow2 file holds.
pub(crate) fn from_qcow2(file: Vec<u8>) -> Vec<u8> {
    let file: Arc<dyn Source> = Arc::new(file);
    assert_eq!(disk::probe(&*file).unwrap(), Format::Qcow2);
    read_all(&*disk::open(file, Format::Qcow2, &disk::Deny).unwrap().disk)
}

fn read_all(source: &dyn Source) -> Vec<u8> {
    let mut bytes = vec![0; source.len() as usize];
    source.read_at(&mut bytes, 0).unwrap();
    bytes
}

/// Returns a body in pieces that fit no chunk, with its length told.
pub(crate) fn body(bytes: &[u8]) -> Incoming {
    Incoming { stream: pieces(bytes), length: Some(bytes.len() as u64), md5: None }
}

/// Returns a body that breaks off after `bytes`, as when a client hangs up.
pub(crate) fn broken(bytes: &[u8]) -> Incoming {
    let cut = Error::new(ErrorKind::BadContent, "the connection was closed");
    let stream = Box::pin(pieces(bytes).chain(stream::iter([Err(cut)])));
    Incoming { stream, length: None, md5: None }
}

fn pieces(bytes: &[u8]) -> ByteStream {
    let pieces: Vec<_> = bytes.chunks(50_000).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    Box::pin(stream::iter(pieces))
}

/// Reads a stream to its end.
pub(crate) async fn read(mut stream: ByteStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some(piece) = stream.next().await {
        bytes.extend_from_slice(&piece.unwrap());
    }
    bytes
}

/// Reads a whole disk on a thread of its own, as NBD clients are served.
pub(crate) async fn read_disk(disk: Arc<dyn Source>) -> disk::Result<Vec<u8>> {
    let (send, read) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let mut bytes = vec![0; disk.len() as usize];
        let done = disk.read_at(&mut bytes, 0);
        send.send(done.map(|()| bytes))
    });
    read.await.unwrap()
}
