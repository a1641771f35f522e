//! Chunks of an origin, hashed, and the pieces that they are on the wire (`docs/formats/transfer.md`).

use std::sync::Arc;

use bytes::Bytes;

use crate::blocking::blocking;
use crate::error::Result;

/// zstd level of what is sent: the fastest that is worth its time.
const LEVEL: i32 = 1;

/// The id of a chunk.
pub(crate) type Id = [u8; 32];

/// A chunk that lies in an origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Chunk {
    /// Where it begins there.
    pub(crate) at: u64,
    /// Its bytes.
    pub(crate) length: u32,
    /// The bytes that it takes there, where it lies there as a zstd frame.
    pub(crate) packed: Option<u32>,
}

/// A run of a content, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Run {
    Zeros(u64),
    Chunk(Chunk),
    Known {
        id: Id,
        length: u64,
    },
    /// A chunk of an image that the server has, and the BLAKE3 of its bytes.
    Copy {
        image: [u8; 16],
        offset: u64,
        length: u32,
        hash: [u8; 32],
    },
}

impl Run {
    /// Returns the bytes of content that it stands for.
    pub(crate) fn length(&self) -> u64 {
        match self {
            Self::Zeros(length) | Self::Known { length, .. } => *length,
            Self::Chunk(Chunk { length, .. }) | Self::Copy { length, .. } => (*length).into(),
        }
    }
}

/// Where chunks lie; plain blocking calls that many threads may make at once.
pub(crate) trait Origin: Send + Sync {
    /// Fills `bytes`, of the length of the chunk, with its bytes.
    fn plain(&self, chunk: Chunk, bytes: &mut [u8]) -> Result<()>;

    /// Returns the zstd frame of a chunk that lies there as one.
    fn frame(&self, chunk: Chunk) -> Result<Option<Vec<u8>>>;
}

/// Makes the ids of the chunks in a group; those of zeros become zeros. Blocks.
pub(crate) fn hash(origin: &dyn Origin, key: &[u8; 32], group: Vec<Run>) -> Result<Vec<(Run, Option<Id>)>> {
    let mut bytes = Vec::new();
    let hashed = group.into_iter().map(|run| {
        let Run::Chunk(chunk) = run else { return Ok((run, None)) };
        bytes.resize(chunk.length as usize, 0);
        origin.plain(chunk, &mut bytes)?;
        if is_zero(&bytes) {
            return Ok((Run::Zeros(chunk.length.into()), None));
        }
        Ok((run, Some(*blake3::keyed_hash(key, &bytes).as_bytes())))
    });
    hashed.collect()
}

fn is_zero(bytes: &[u8]) -> bool {
    // Data is mostly seen at the first byte; the rest is summed in lanes that the compiler makes wide.
    bytes.first() == Some(&0) && bytes.chunks(4096).all(|block| block.iter().fold(0, |sum, byte| sum | byte) == 0)
}

/// What is made at once: a chunk, or bytes that are there already.
pub(crate) enum Piece {
    Ready(Vec<u8>),
    Chunk(Chunk),
}

/// Writes runs as pieces; all between two chunks becomes one, and so do zeros that touch.
pub(crate) fn joined(runs: Vec<Run>) -> impl Iterator<Item = Piece> {
    let (mut pieces, mut ready, mut zeros) = (Vec::new(), Vec::new(), 0);
    let end_zeros = |zeros: &mut u64, ready: &mut Vec<u8>| {
        if *zeros > 0 {
            ready.push(1);
            ready.extend(std::mem::take(zeros).to_le_bytes());
        }
    };
    for run in runs {
        if let Run::Zeros(length) = run {
            zeros += length;
            continue;
        }
        end_zeros(&mut zeros, &mut ready);
        match run {
            Run::Zeros(_) => {}
            Run::Known { id, .. } => {
                ready.push(2);
                ready.extend(id);
            }
            Run::Copy { image, offset, length, hash } => {
                ready.push(5);
                ready.extend(image);
                ready.extend(offset.to_le_bytes());
                ready.extend(length.to_le_bytes());
                ready.extend(hash);
            }
            Run::Chunk(chunk) => {
                if !ready.is_empty() {
                    pieces.push(Piece::Ready(std::mem::take(&mut ready)));
                }
                pieces.push(Piece::Chunk(chunk));
            }
        }
    }
    end_zeros(&mut zeros, &mut ready);
    if !ready.is_empty() {
        pieces.push(Piece::Ready(ready));
    }
    pieces.into_iter()
}

/// Returns the bytes of a piece, of a chunk on a thread that may block.
pub(crate) async fn load(origin: Arc<dyn Origin>, piece: Piece, compress: bool) -> Result<Bytes> {
    match piece {
        Piece::Ready(bytes) => Ok(bytes.into()),
        Piece::Chunk(chunk) => Ok(blocking(move || encode(&*origin, chunk, compress)).await??.into()),
    }
}

fn encode(origin: &dyn Origin, chunk: Chunk, compress: bool) -> Result<Vec<u8>> {
    if let Some(frame) = origin.frame(chunk)? {
        return Ok(packed(chunk.length, &frame));
    }
    let mut bytes = vec![0; 5 + chunk.length as usize];
    bytes[0] = 3;
    bytes[1..5].copy_from_slice(&chunk.length.to_le_bytes());
    origin.plain(chunk, &mut bytes[5..])?;
    if compress && let Some(frame) = shrunk(&bytes[5..], LEVEL) {
        return Ok(packed(chunk.length, &frame));
    }
    Ok(bytes)
}

/// Compresses bytes to a frame, if that saves a twentieth.
pub(crate) fn shrunk(plain: &[u8], level: i32) -> Option<Vec<u8>> {
    let frame = zstd::bulk::compress(plain, level).ok()?;
    (frame.len() < plain.len() - plain.len() / 20).then_some(frame)
}

fn packed(plain: u32, frame: &[u8]) -> Vec<u8> {
    let length = u32::try_from(frame.len()).unwrap_or(u32::MAX);
    [&[4][..], &plain.to_le_bytes(), &length.to_le_bytes(), frame].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Memory(Vec<u8>);

    impl Origin for Memory {
        fn plain(&self, chunk: Chunk, bytes: &mut [u8]) -> Result<()> {
            bytes.copy_from_slice(&self.0[chunk.at as usize..][..chunk.length as usize]);
            Ok(())
        }

        fn frame(&self, _: Chunk) -> Result<Option<Vec<u8>>> {
            Ok(None)
        }
    }

    async fn wire(origin: Memory, runs: Vec<Run>, compress: bool) -> Vec<u8> {
        let origin: Arc<dyn Origin> = Arc::new(origin);
        let mut bytes = Vec::new();
        for piece in joined(runs) {
            bytes.extend(load(Arc::clone(&origin), piece, compress).await.unwrap());
        }
        bytes
    }

    fn chunk(at: u64, length: u32) -> Run {
        Run::Chunk(Chunk { at, length, packed: None })
    }

    #[tokio::test]
    async fn pieces_are_written_as_the_page_says() {
        let copy = Run::Copy { image: [9; 16], offset: 258, length: 3, hash: [8; 32] };
        let runs =
            vec![Run::Zeros(1), Run::Zeros(2), Run::Known { id: [7; 32], length: 5 }, chunk(1, 2), copy, Run::Zeros(4)];
        let expect = [
            &[1, 3, 0, 0, 0, 0, 0, 0, 0, 2][..],
            &[7; 32],
            &[3, 2, 0, 0, 0, b'b', b'c', 5],
            &[9; 16],
            &[2, 1, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0],
            &[8; 32],
            &[1, 4, 0, 0, 0, 0, 0, 0, 0],
        ];
        assert_eq!(wire(Memory(b"abcd".to_vec()), runs, false).await, expect.concat());
    }

    #[tokio::test]
    async fn only_what_shrinks_is_compressed() {
        let text = b"never odd or even ".repeat(100);
        let bytes = wire(Memory(text.clone()), vec![chunk(0, 1800)], true).await;
        assert_eq!((bytes[0], &bytes[1..5]), (4, &1800_u32.to_le_bytes()[..]));
        assert_eq!(bytes[5..9], u32::to_le_bytes(bytes.len() as u32 - 9));
        assert_eq!(zstd::bulk::decompress(&bytes[9..], 1800).unwrap(), text);
        assert_eq!(wire(Memory(b"short".to_vec()), vec![chunk(0, 5)], true).await, b"\x03\x05\0\0\0short");
    }

    #[test]
    fn zeros_are_found_and_ids_are_keyed_hashes() {
        let mut bytes = vec![0; 3000];
        bytes[2999] = 1;
        let key = [3; 32];
        let hashed = hash(&Memory(bytes.clone()), &key, vec![chunk(0, 2000), chunk(2000, 1000), Run::Zeros(9)]);
        let id = *blake3::keyed_hash(&key, &bytes[2000..]).as_bytes();
        let expect = vec![(Run::Zeros(2000), None), (chunk(2000, 1000), Some(id)), (Run::Zeros(9), None)];
        assert_eq!(hashed.unwrap(), expect);
    }
}
