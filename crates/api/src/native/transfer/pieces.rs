//! The pieces of a content on the wire: a tag, fields of fixed length, bytes; one after the other, to the end of the body.
//!
//! The layout is in `docs/formats/transfer.md`. No more is taken from the body than one piece needs.

use bytes::{Buf, Bytes, BytesMut};
use futures::{StreamExt, stream};
use model::ImageId;
use service::{ByteStream, Error, ErrorKind, Piece, Pieces, Result};
use uuid::Uuid;

/// Longest chunk that a store may be cut into; what is longer is refused before it is taken into memory.
const CHUNK_MAX: u32 = 4 << 20;
/// A frame of bytes that do not compress is a little longer than they are.
const FRAME_MAX: u32 = CHUNK_MAX + CHUNK_MAX / 128;

/// Reads pieces from a body.
pub(super) fn read(body: ByteStream) -> Pieces {
    let reader = Reader { body, buffer: BytesMut::new(), number: 0 };
    stream::try_unfold(reader, async |mut reader| {
        let piece = reader.next().await?;
        Ok(piece.map(|piece| (piece, reader)))
    })
    .boxed()
}

struct Reader {
    body: ByteStream,
    /// What has arrived and is not read yet.
    buffer: BytesMut,
    /// Pieces that were read.
    number: u64,
}

impl Reader {
    async fn next(&mut self) -> Result<Option<Piece>> {
        if !self.fill(1).await? {
            return Ok(None);
        }
        let tag = self.buffer.get_u8();
        let piece = match tag {
            1 => Piece::Zeros(self.take(8).await?.get_u64_le()),
            2 => Piece::Known(self.array().await?),
            3 => {
                let length = self.length(CHUNK_MAX).await?;
                Piece::Data(self.take(length as usize).await?)
            }
            4 => {
                let plain = self.length(CHUNK_MAX).await?;
                let length = self.length(FRAME_MAX).await?;
                Piece::Packed { plain, frame: self.take(length as usize).await? }
            }
            5 => {
                let image = ImageId::from(Uuid::from_bytes(self.array().await?));
                let offset = self.take(8).await?.get_u64_le();
                let length = self.length(CHUNK_MAX).await?;
                Piece::Copy { image, offset, length, hash: self.array().await? }
            }
            other => return Err(self.wrong(&format!("has the tag {other}, which is none of 1 to 5"))),
        };
        self.number += 1;
        Ok(Some(piece))
    }

    /// Reads a length, which is above zero and at most `max`.
    async fn length(&mut self, max: u32) -> Result<u32> {
        let length = self.take(4).await?.get_u32_le();
        if (1..=max).contains(&length) {
            return Ok(length);
        }
        Err(self.wrong(&format!("has a length of {length}, which is none from 1 to {max}")))
    }

    async fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut array = [0; N];
        self.take(N).await?.copy_to_slice(&mut array);
        Ok(array)
    }

    async fn take(&mut self, length: usize) -> Result<Bytes> {
        if self.fill(length).await? {
            return Ok(self.buffer.split_to(length).freeze());
        }
        Err(self.wrong("is cut off by the end of the body"))
    }

    /// Takes from the body until `length` bytes are in the buffer; false where it ends before.
    async fn fill(&mut self, length: usize) -> Result<bool> {
        while self.buffer.len() < length {
            let Some(bytes) = self.body.next().await else { return Ok(false) };
            let bytes = bytes?;
            self.buffer.reserve(bytes.len().max(length - self.buffer.len()));
            self.buffer.extend_from_slice(&bytes);
        }
        Ok(true)
    }

    fn wrong(&self, what: &str) -> Error {
        Error::new(ErrorKind::Invalid, format!("piece {} of the body {what}", self.number))
    }
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt;

    use super::*;

    /// Reads a body that arrives in slices of `slice` bytes.
    async fn parse(bytes: &[u8], slice: usize) -> Result<Vec<Piece>> {
        let slices: Vec<_> = bytes.chunks(slice.max(1)).map(|slice| Ok(Bytes::copy_from_slice(slice))).collect();
        read(stream::iter(slices).boxed()).try_collect().await
    }

    /// One piece of each kind, as bytes and as what they mean.
    fn example() -> (Vec<u8>, Vec<Piece>) {
        let image = Uuid::from_u128(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef);
        let mut bytes = vec![1, 0, 0, 8, 0, 0, 0, 0, 0];
        bytes.push(2);
        bytes.extend([0xaa; 32]);
        bytes.extend([3, 5, 0, 0, 0]);
        bytes.extend(b"hello");
        bytes.extend([4, 0, 2, 0, 0, 3, 0, 0, 0]);
        bytes.extend(b"zst");
        bytes.push(5);
        bytes.extend([0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef]);
        bytes.extend([0, 0, 0, 0, 1, 0, 0, 0, 9, 0, 0, 0]);
        bytes.extend([0xbb; 32]);
        let pieces = vec![
            Piece::Zeros(512 << 10),
            Piece::Known([0xaa; 32]),
            Piece::Data("hello".into()),
            Piece::Packed { plain: 512, frame: "zst".into() },
            Piece::Copy { image: image.into(), offset: 1 << 32, length: 9, hash: [0xbb; 32] },
        ];
        (bytes, pieces)
    }

    #[tokio::test]
    async fn pieces_are_read_however_they_arrive() {
        let (bytes, pieces) = example();
        for slice in [1, 2, 7, 33, 1000] {
            assert_eq!(parse(&bytes, slice).await.unwrap(), pieces, "{slice}");
        }
        assert_eq!(parse(&[], 1).await.unwrap(), []);
    }

    #[tokio::test]
    async fn what_is_cut_off_or_impossible_is_told() {
        let (bytes, pieces) = example();
        let mut whole = 0;
        for length in 0..bytes.len() {
            match parse(&bytes[..length], 9).await {
                Ok(found) => {
                    assert_eq!(found, pieces[..found.len()]);
                    whole += 1;
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Invalid);
                    assert!(error.to_string().ends_with("is cut off by the end of the body"), "{length}: {error}");
                }
            }
        }
        assert_eq!(whole, pieces.len(), "only between two pieces a body may end");
        for (bytes, said) in [
            (&[0_u8][..], "piece 0 of the body has the tag 0, which is none of 1 to 5"),
            (&[3, 0, 0, 0, 0], "piece 0 of the body has a length of 0, which is none from 1 to 4194304"),
            (&[3, 1, 0, 0, 0, 7, 3, 1, 0, 64, 0], "piece 1 of the body has a length of 4194305, which is none from"),
            (&[4, 1, 0, 0, 0, 255, 255, 255, 255], "piece 0 of the body has a length of 4294967295"),
        ] {
            let error = parse(bytes, 4).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.to_string().starts_with(said), "{error}");
        }
    }

    /// Changed in any byte, a body is read as other pieces or refused with a sentence.
    #[tokio::test]
    async fn no_change_of_a_body_does_harm() {
        let (bytes, pieces) = example();
        let mut refused = 0;
        for at in 0..bytes.len() {
            for change in [1, 2, 4, 0x55, 0x80, 0xff_u8] {
                let mut changed = bytes.clone();
                changed[at] ^= change;
                match parse(&changed, 16).await {
                    Ok(found) => assert_ne!(found, pieces, "byte {at} means nothing"),
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
                        refused += 1;
                    }
                }
            }
        }
        assert!(refused > 20, "{refused}");
    }

    #[tokio::test]
    async fn a_body_that_breaks_fails_as_it_did() {
        let broken = Error::new(ErrorKind::BadContent, "the body ended before it was whole");
        let body = stream::iter([Ok(Bytes::from_static(&[3, 5, 0])), Err(broken)]).boxed();
        let error = read(body).try_collect::<Vec<_>>().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BadContent);
    }
}
