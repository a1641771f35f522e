//! The compressed qcow2 file of a disk: pieces of the disk are compressed by all cores and put into the file in order.

use std::io::Write;
use std::sync::{Mutex, PoisonError};

use super::append::{Appended, NewFile};
use super::compress::{Compressor, room};
use super::header::Compression;
use crate::error::Result;
use crate::output::{Progress, Stream};
use crate::pipeline::{self, in_order};
use crate::stored::Stored;
use crate::zeros::is_zero;

/// What a thread compresses at once, in bytes of the disk.
const PIECE: u64 = 1 << 20;

/// A compressed file that is not written yet.
pub(super) struct Compressed {
    pub(super) stored: Stored,
    pub(super) cluster_size: u64,
    pub(super) l1_entries: u64,
    pub(super) compression: Compression,
    pub(super) level: u32,
}

/// What a thread keeps from piece to piece.
struct Worker {
    compressor: Compressor,
    piece: Vec<u8>,
    packed: Vec<u8>,
}

/// Clusters of the disk, neighbours, ready for the file.
struct Piece {
    first: u64,
    forms: Vec<Form>,
    /// The bytes of those that have any, one after the other.
    bytes: Vec<u8>,
}

/// How a cluster is kept.
enum Form {
    Zero,
    Plain,
    Packed(usize),
}

impl Stream for Compressed {
    fn head_length(&self) -> u64 {
        self.cluster_size
    }

    fn write(&self, threads: usize, progress: Progress<'_>, out: &mut dyn Write) -> Result<Vec<u8>> {
        let size = self.stored.disk().len();
        let idle = Mutex::new(Vec::new());
        let mut file = NewFile::new(out, self.cluster_size, self.l1_entries, self.compression);
        let make = |(first, count)| {
            let waiting = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let mut worker = waiting.map_or_else(|| self.worker(), Ok)?;
            let piece = self.compress(first, count, &mut worker);
            idle.lock().unwrap_or_else(PoisonError::into_inner).push(worker);
            piece
        };
        let held = 2 * PIECE.max(self.cluster_size);
        in_order(pipeline::threads(threads), held, self.pieces().map(Ok), make, |piece: Piece| {
            append(&mut file, &piece, self.cluster_size as usize)?;
            progress(((piece.first + piece.forms.len() as u64) * self.cluster_size).min(size), size);
            Ok(())
        })?;
        let head = file.finish(size)?;
        progress(size, size);
        Ok(head)
    }
}

impl Compressed {
    /// Returns the stored clusters in order, as pieces: the number of the first, and how many they are.
    fn pieces(&self) -> impl Iterator<Item = (u64, u64)> {
        let most = (PIECE / self.cluster_size).max(1);
        self.stored.runs().flat_map(move |(first, count)| {
            let end = first + count;
            // Pieces begin at multiples of their size, as the blocks of other formats do.
            let begins = (first / most..end.div_ceil(most)).map(move |piece| (piece * most).max(first));
            begins
                .map(move |begin| (begin, (begin / most + 1) * most))
                .map(move |(begin, to)| (begin, to.min(end) - begin))
        })
    }

    fn worker(&self) -> Result<Worker> {
        let compressor = Compressor::new(self.compression, self.level)?;
        Ok(Worker { compressor, piece: Vec::new(), packed: vec![0; room(self.cluster_size)] })
    }

    /// Reads `count` clusters from number `first` on, and compresses those that are not zero.
    fn compress(&self, first: u64, count: u64, worker: &mut Worker) -> Result<Piece> {
        let disk = self.stored.disk();
        let (start, length) = (first * self.cluster_size, (count * self.cluster_size) as usize);
        worker.piece.resize(length, 0);
        let inside = (disk.len() - start).min(length as u64) as usize;
        let (data, padding) = worker.piece.split_at_mut(inside);
        disk.read_at(data, start)?;
        padding.fill(0);
        let mut piece = Piece { first, forms: Vec::with_capacity(count as usize), bytes: Vec::new() };
        for cluster in worker.piece.chunks_exact(self.cluster_size as usize) {
            let (form, bytes) = if is_zero(cluster) {
                (Form::Zero, &[][..])
            } else {
                match worker.compressor.compress(cluster, &mut worker.packed) {
                    Some(length) => (Form::Packed(length), &worker.packed[..length]),
                    None => (Form::Plain, cluster),
                }
            };
            piece.forms.push(form);
            piece.bytes.extend_from_slice(bytes);
        }
        Ok(piece)
    }
}

fn append(file: &mut NewFile<'_>, piece: &Piece, cluster_size: usize) -> Result<()> {
    let mut bytes = piece.bytes.as_slice();
    for (cluster, form) in (piece.first..).zip(&piece.forms) {
        let (length, kind) = match form {
            Form::Zero => continue,
            Form::Plain => (cluster_size, Appended::Plain),
            Form::Packed(length) => (*length, Appended::Packed),
        };
        let (own, rest) = bytes.split_at(length);
        file.append(cluster, kind, own)?;
        bytes = rest;
    }
    Ok(())
}
