//! Digests of a stream beside its storing: each algorithm on a thread of its own, so that the slowest (MD5) and
//! the chunk writer run side by side.

use bytes::Bytes;
use md5::Md5;
use sha2::{Digest, Sha256, Sha512};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::error::{Error, Result};

/// Pieces that wait for a digest thread; with pieces of at most 1 MiB this bounds the memory to 4 MiB an algorithm.
const PIECES_WAITING: usize = 4;
/// Larger pieces are cut to this many bytes before they are queued.
const PIECE_MAX: usize = 1 << 20;

/// Which digests are wanted besides MD5.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// MD5 only (an object's ETag).
    Md5,
    /// MD5, SHA-256 and SHA-512 (an image's checksums).
    All,
}

/// The digests of a finished stream.
pub(crate) struct Digests {
    pub(crate) md5: [u8; 16],
    /// SHA-256 and SHA-512 in hexadecimal, where wanted.
    pub(crate) sha: Option<(String, String)>,
}

/// One thread that computes one digest.
struct Worker {
    pieces: mpsc::Sender<Bytes>,
    done: JoinHandle<Vec<u8>>,
}

impl Worker {
    fn start<D: Digest + Send + 'static>() -> Self {
        let (pieces, mut waiting) = mpsc::channel::<Bytes>(PIECES_WAITING);
        // Not through `blocking`: it lives as long as its upload, so it must not hold a permit of the pool.
        let done = tokio::task::spawn_blocking(move || {
            let mut digest = D::new();
            while let Some(piece) = waiting.blocking_recv() {
                digest.update(&piece);
            }
            digest.finalize().to_vec()
        });
        Self { pieces, done }
    }

    async fn finish(self) -> Result<Vec<u8>> {
        drop(self.pieces);
        self.done.await.map_err(|failed| Error::internal("computing a checksum ended unexpectedly", failed))
    }
}

/// Digests in the making.
pub(crate) struct Digesting {
    md5: Worker,
    sha: Option<(Worker, Worker)>,
}

impl Digesting {
    /// Starts the threads.
    pub(crate) fn start(wanted: Wanted) -> Self {
        let sha = (wanted == Wanted::All).then(|| (Worker::start::<Sha256>(), Worker::start::<Sha512>()));
        Self { md5: Worker::start::<Md5>(), sha }
    }

    /// Adds bytes; waits where a digest thread is behind.
    pub(crate) async fn update(&self, bytes: &Bytes) -> Result<()> {
        let mut rest = bytes.clone();
        while !rest.is_empty() {
            let piece = rest.split_to(rest.len().min(PIECE_MAX));
            let gone = |gone| Error::internal("a checksum thread ended early", gone);
            if let Some((sha256, sha512)) = &self.sha {
                sha256.pieces.send(piece.clone()).await.map_err(gone)?;
                sha512.pieces.send(piece.clone()).await.map_err(gone)?;
            }
            self.md5.pieces.send(piece).await.map_err(gone)?;
        }
        Ok(())
    }

    /// Ends the stream and returns its digests.
    pub(crate) async fn finish(self) -> Result<Digests> {
        let sha = match self.sha {
            Some((sha256, sha512)) => Some((hex::encode(sha256.finish().await?), hex::encode(sha512.finish().await?))),
            None => None,
        };
        let md5 = self.md5.finish().await?;
        let md5 = md5.try_into().map_err(|_| Error::new(crate::ErrorKind::Internal, "an MD5 has 16 bytes"))?;
        Ok(Digests { md5, sha })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn digests_of_abc() {
        let digesting = Digesting::start(Wanted::All);
        for piece in ["a", "", "bc"] {
            digesting.update(&Bytes::from(piece)).await.unwrap();
        }
        let digests = digesting.finish().await.unwrap();
        assert_eq!(hex::encode(digests.md5), "900150983cd24fb0d6963f7d28e17f72");
        let (sha256, sha512) = digests.sha.unwrap();
        assert_eq!(sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert!(sha512.starts_with("ddaf35a193617abacc417349ae204131"));
    }
}
