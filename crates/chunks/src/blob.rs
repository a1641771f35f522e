//! Blobs: what packs hold. Their kinds, ids and keys, and how a chunk is compressed and sealed.
//!
//! plain bytes -> id (keyed BLAKE3) -> key (from the domain's secret and the id) -> body (zstd or as it is)
//! -> seal (AES-256-GCM). The layout is in `docs/formats/store.md`, section "Blobs".

use std::cell::RefCell;
use std::fmt;

use keys::cipher;
use uuid::Uuid;
use zeroize::Zeroizing;
use zstd::bulk::{Compressor, Decompressor};

use crate::record::VERSION;
use crate::{Error, ErrorKind, Result};

/// The id of a blob: keyed BLAKE3 of its plain bytes.
pub type BlobId = [u8; 32];
/// The id that stands for a run of zeros, which is never stored.
pub const ZERO_ID: BlobId = [0; 32];

/// The key under which one blob is sealed.
pub(crate) type BlobKey = Zeroizing<[u8; cipher::KEY_LENGTH]>;

/// zstd level of chunk bodies: twice the speed of level 2, and disks are large.
const LEVEL: i32 = 1;
/// Bytes of a chunk that are tried before the whole is compressed, taken from [`SAMPLE_PLACES`] places.
const SAMPLE_LENGTH: usize = 64 * 1024;
const SAMPLE_PLACES: usize = 4;
/// Encoding byte, nonce and tag.
pub(crate) const CHUNK_OVERHEAD: usize = 1 + cipher::OVERHEAD;

/// What a blob is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Chunk = 1,
    Segment = 2,
    Root = 3,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::Chunk, Self::Segment, Self::Root];

    pub(crate) fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == byte)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Chunk => "chunk",
            Self::Segment => "segment",
            Self::Root => "root",
        })
    }
}

/// How the body of a chunk is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Encoding {
    Raw = 0,
    Zstd = 1,
}

/// What the seal of a blob binds besides its bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Binding {
    pub(crate) kind: Kind,
    pub(crate) domain: Uuid,
    pub(crate) generation: u32,
    pub(crate) id: BlobId,
    pub(crate) plain: u32,
}

impl Binding {
    /// Returns the additional data of the seal; `encoding` is zero for manifests.
    pub(crate) fn aad(&self, encoding: u8) -> [u8; 64] {
        let mut aad = [0; 64];
        aad[..4].copy_from_slice(&VERSION.to_le_bytes());
        aad[4] = self.kind as u8;
        aad[5] = encoding;
        aad[8..12].copy_from_slice(&self.plain.to_le_bytes());
        aad[12..16].copy_from_slice(&self.generation.to_le_bytes());
        aad[16..32].copy_from_slice(self.domain.as_bytes());
        aad[32..].copy_from_slice(&self.id);
        aad
    }
}

thread_local! {
    // A compressor owns about a megabyte of tables, so each blocking thread keeps one.
    static COMPRESSOR: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

/// Returns whether `bytes` are all zero.
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    // Data is mostly seen at the first byte; the rest is summed in lanes that the compiler makes wide.
    bytes.first().is_none_or(|byte| *byte == 0)
        && bytes.chunks(4096).all(|block| block.iter().fold(0, |sum, byte| sum | byte) == 0)
}

/// Compresses and seals a chunk. A zstd `frame` that was seen to open to `plain` is taken as it is if it saves enough.
pub(crate) fn seal_chunk(plain: &[u8], frame: Option<&[u8]>, binding: &Binding, key: &BlobKey) -> Result<Vec<u8>> {
    const BODY: usize = 1 + cipher::NONCE_LENGTH;
    let mut stored = Vec::with_capacity(plain.len() + CHUNK_OVERHEAD);
    stored.resize(BODY + limit(plain.len()), 0);
    let given = frame.filter(|frame| frame.len() <= limit(plain.len()));
    let encoding = if let Some(frame) = given {
        stored.truncate(BODY);
        stored.extend_from_slice(frame);
        Encoding::Zstd
    } else if let Some(length) = compress(plain, &mut stored[BODY..]) {
        stored.truncate(BODY + length);
        Encoding::Zstd
    } else {
        stored.truncate(BODY);
        stored.extend_from_slice(plain);
        Encoding::Raw
    };
    stored[0] = encoding as u8;
    cipher::seal_in_place(key, &binding.aad(encoding as u8), &mut stored, BODY)
        .map_err(|e| Error::keys("seal a chunk", e))?;
    stored.shrink_to_fit();
    Ok(stored)
}

/// Opens what [`seal_chunk`] made. The plain length comes from `binding` and must be bounded by the caller.
pub(crate) fn open_chunk(stored: &[u8], binding: &Binding, key: &BlobKey) -> Result<Vec<u8>> {
    let Some((&encoding, sealed)) = stored.split_first() else {
        return Err(Error::corrupt("a chunk is empty"));
    };
    let opened = |body: &mut [u8]| {
        cipher::open_into(key, &binding.aad(encoding), sealed, body)
            .map_err(|e| Error::corrupt("the seal of a chunk is broken").with_source(e))
    };
    let mut plain = vec![0; binding.plain as usize];
    if encoding == Encoding::Raw as u8 {
        opened(&mut plain)?;
    } else if encoding == Encoding::Zstd as u8 && sealed.len() < plain.len() + cipher::OVERHEAD {
        let mut body = vec![0; sealed.len().saturating_sub(cipher::OVERHEAD)];
        opened(&mut body)?;
        decompress(&body, &mut plain)?;
    } else {
        return Err(Error::corrupt(format!("a chunk has the encoding {encoding} at an impossible length")));
    }
    Ok(plain)
}

/// Returns the most bytes that a compressed body may have: it must save 5 %.
fn limit(plain: usize) -> usize {
    plain - plain.div_ceil(20)
}

/// Compresses `plain` into `out` and returns the length, or nothing when it does not fit.
fn compress(plain: &[u8], out: &mut [u8]) -> Option<usize> {
    COMPRESSOR.with_borrow_mut(|slot| {
        if slot.is_none() {
            *slot = Compressor::new(LEVEL).ok();
        }
        let compressor = slot.as_mut()?;
        if plain.len() > 2 * SAMPLE_LENGTH {
            let piece = SAMPLE_LENGTH / SAMPLE_PLACES;
            let step = (plain.len() - piece) / (SAMPLE_PLACES - 1);
            let sample: Vec<u8> =
                (0..SAMPLE_PLACES).flat_map(|n| &plain[n * step..n * step + piece]).copied().collect();
            compressor.compress_to_buffer(&sample, &mut out[..limit(SAMPLE_LENGTH)]).ok()?;
        }
        // Fails, and so keeps the chunk as it is, when the result is longer than `out`.
        compressor.compress_to_buffer(plain, out).ok()
    })
}

/// Decompresses `body`, which must fill `plain` exactly.
fn decompress(body: &[u8], plain: &mut [u8]) -> Result<()> {
    let length = DECOMPRESSOR.with_borrow_mut(|slot| {
        if slot.is_none() {
            *slot = Some(Decompressor::new()?);
        }
        match slot {
            Some(decompressor) => decompressor.decompress_to_buffer(body, plain),
            None => Ok(0),
        }
    });
    match length {
        Ok(length) if length == plain.len() => Ok(()),
        Ok(length) => Err(Error::corrupt(format!("a chunk opens to {length} bytes instead of {}", plain.len()))),
        Err(e) => Err(Error::new(ErrorKind::Corrupt, "a chunk does not decompress").with_source(e)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn binding(plain: &[u8]) -> Binding {
        let length = u32::try_from(plain.len()).unwrap();
        Binding { kind: Kind::Chunk, domain: Uuid::from_u128(7), generation: 1, id: [3; 32], plain: length }
    }

    fn noise(length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        cipher::random(&mut bytes).unwrap();
        bytes
    }

    fn round_trip(plain: &[u8]) -> usize {
        let (binding, key) = (binding(plain), Zeroizing::new([9; 32]));
        let stored = seal_chunk(plain, None, &binding, &key).unwrap();
        assert_eq!(open_chunk(&stored, &binding, &key).unwrap(), plain);
        assert!(stored.len() <= plain.len() + CHUNK_OVERHEAD);
        stored.len()
    }

    #[test]
    fn what_does_not_shrink_is_kept_as_it_is() {
        for length in [1, 10, 4096, 512 * 1024] {
            assert_eq!(round_trip(&noise(length)), length + CHUNK_OVERHEAD);
        }
    }

    #[test]
    fn what_shrinks_is_compressed() {
        let text = b"the quick brown fox ".repeat(30_000);
        assert!(round_trip(&text[..512 * 1024]) < 4096);
        // Noise with a compressible half: the sample is taken from all over the chunk.
        let mut half = noise(256 * 1024);
        half.extend_from_slice(&text[..256 * 1024]);
        assert!(round_trip(&half) < 300 * 1024);
    }

    #[test]
    fn a_chunk_opens_only_where_it_belongs() {
        let plain = b"hello hello hello hello hello hello hello".repeat(9);
        let (right, key) = (binding(&plain), Zeroizing::new([9; 32]));
        let stored = seal_chunk(&plain, None, &right, &key).unwrap();
        let wrong = [
            Binding { kind: Kind::Segment, ..right },
            Binding { domain: Uuid::from_u128(8), ..right },
            Binding { generation: 2, ..right },
            Binding { id: [4; 32], ..right },
            Binding { plain: right.plain + 1, ..right },
            Binding { plain: 1, ..right },
        ];
        for binding in wrong {
            assert_eq!(open_chunk(&stored, &binding, &key).unwrap_err().kind(), ErrorKind::Corrupt, "{binding:?}");
        }
        assert!(open_chunk(&stored, &right, &Zeroizing::new([8; 32])).is_err());
    }

    #[test]
    fn zero_means_every_byte() {
        assert!(is_zero(&[]) && is_zero(&[0; 10_000]));
        for at in [0, 1, 4095, 4096, 9_999] {
            let mut bytes = vec![0; 10_000];
            bytes[at] = 1;
            assert!(!is_zero(&bytes), "{at}");
        }
    }

    proptest! {
        #[test]
        fn opening_any_bytes_never_panics(stored in proptest::collection::vec(any::<u8>(), 0..200), plain in 0_u32..5000) {
            let binding = Binding { plain, ..binding(&[]) };
            prop_assert!(open_chunk(&stored, &binding, &Zeroizing::new([9; 32])).is_err());
        }
    }
}
