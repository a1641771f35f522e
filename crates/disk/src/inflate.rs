//! Decompression of one block into a buffer of known size; never more than that is produced.

use std::cell::{Cell, RefCell};

use flate2::{Decompress, FlushDecompress};
use libdeflater::Decompressor;
use zstd::zstd_safe::{DCtx, find_frame_compressed_size};

use crate::error::Result;
use crate::mapped::Packed;
use crate::source::Source;

/// Compressed blocks are read at once unless this many times their bytes lie between the first and the last.
const MAX_SPREAD: u64 = 2;
/// QEMU lets every compressed cluster of qcow begin a sector, however short they are.
const SECTOR: u64 = 512;

thread_local! {
    // The state of a decoder is tens of kilobytes: made once for each thread, not once for each block.
    static DEFLATE: RefCell<Decompress> = RefCell::new(Decompress::new(false));
    static WHOLE: RefCell<Decompressor> = RefCell::new(Decompressor::new());
    static ZSTD: RefCell<DCtx<'static>> = RefCell::new(DCtx::create());
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Calls `work` with a buffer of `length` bytes of any content, which the thread keeps for the next call.
pub(crate) fn with_buffer<T>(length: usize, work: impl FnOnce(&mut [u8]) -> Result<T>) -> Result<T> {
    // Taken out meanwhile, because `work` may read from a disk that lies in another disk.
    let mut buffer = BUFFER.take();
    if buffer.len() < length {
        buffer.resize(length, 0);
    }
    let result = work(&mut buffer[..length]);
    BUFFER.set(buffer);
    result
}

/// Calls `unpack` with the number and the bytes of each of the compressed blocks `run` of `file`.
///
/// They lie one after the other in most files, so one read gives them all, unless much lies between them.
pub(crate) fn read_packed(
    file: &dyn Source,
    run: &[Packed],
    mut unpack: impl FnMut(usize, &[u8]) -> Result<()>,
) -> Result<()> {
    let start = run.iter().map(|packed| packed.offset).min().unwrap_or(0);
    let end = run.iter().map(|packed| packed.offset + packed.length as u64).max().unwrap_or(0);
    let wanted: u64 = run.iter().map(|packed| (packed.length as u64).max(SECTOR)).sum();
    let mut blocks = run.iter().enumerate();
    if end - start > MAX_SPREAD * wanted {
        return blocks.try_for_each(|(number, packed)| {
            with_buffer(packed.length, |bytes| {
                file.read_at(bytes, packed.offset)?;
                unpack(number, bytes)
            })
        });
    }
    with_buffer((end - start) as usize, |bytes| {
        file.read_at(bytes, start)?;
        blocks.try_for_each(|(number, packed)| {
            let from = (packed.offset - start) as usize;
            unpack(number, &bytes[from..from + packed.length])
        })
    })
}

/// Fills `out` from a raw deflate stream, which may go on after that and be followed by junk, as qcow2 allows.
/// Returns whether `out` was filled.
pub(crate) fn deflate(packed: &[u8], out: &mut [u8]) -> bool {
    // Faster, but it knows only streams that end, and that end with the cluster.
    let at_once = WHOLE.with_borrow_mut(|decoder| decoder.deflate_decompress(packed, out));
    if at_once.is_ok_and(|made| made == out.len()) {
        return true;
    }
    DEFLATE.with_borrow_mut(|decoder| {
        decoder.reset(false);
        let done = decoder.decompress(packed, out, FlushDecompress::Finish);
        done.is_ok() && decoder.total_out() == out.len() as u64
    })
}

/// Unpacks a whole zlib stream into `out`. Returns the bytes it gave, or `None` if the stream is damaged or holds more.
pub(crate) fn zlib(packed: &[u8], out: &mut [u8]) -> Option<usize> {
    WHOLE.with_borrow_mut(|decoder| decoder.zlib_decompress(packed, out).ok())
}

/// Fills `out` from zstd frames, which may be followed by junk. Returns whether `out` was filled exactly.
///
/// Each frame is unpacked in one call, so no window is allocated whatever size the frame asks for.
pub(crate) fn zstd(packed: &[u8], out: &mut [u8]) -> bool {
    ZSTD.with_borrow_mut(|decoder| {
        let (mut packed, mut filled) = (packed, 0);
        while filled < out.len() {
            let Ok(length) = find_frame_compressed_size(packed) else { return false };
            let Some((frame, rest)) = packed.split_at_checked(length) else { return false };
            let Ok(made) = decoder.decompress(&mut out[filled..], frame) else { return false };
            (packed, filled) = (rest, filled + made);
        }
        true
    })
}

/// Unpacks `packed`, exactly one zstd frame, into `out`. Returns whether `out` was filled exactly.
pub(crate) fn zstd_frame(packed: &[u8], out: &mut [u8]) -> bool {
    let length = out.len();
    find_frame_compressed_size(packed) == Ok(packed.len())
        && ZSTD.with_borrow_mut(|decoder| decoder.decompress(out, packed) == Ok(length))
}
