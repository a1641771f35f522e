//! A content that is kept in frames, each of which is unpacked alone: zstd frames and xz blocks.
//!
//! Unpacked frames stay in memory up to a bound, which holds also for those that are being unpacked, with their packed bytes
//! and the memory of the decoder: of large frames fewer are unpacked at once, whatever the number of threads. One frame is
//! unpacked by one thread; another one that wants it takes the next frame meanwhile, so that reading in order uses all cores.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::container::{Decoded, Fault};
use crate::error::{Error, ErrorKind, Result};
use crate::source::{Extent, ExtentKind, Source, check_offset, check_range};

/// The largest frame, unpacked.
pub(super) const MAX_FRAME: u64 = 64 << 20;
/// The largest number of frames; each takes 24 bytes of memory.
pub(super) const MAX_FRAMES: usize = 1 << 20;
/// Frames in memory take at most this many bytes, or what unpacking the largest one takes if that is more. A whole conversion
/// then stays below 128 MiB: two frames of 24 MiB, as `xz` makes them, are unpacked at once.
const MEMORY: u64 = 88 << 20;
/// Files with a frame that takes more than this are unpacked in order only, so that a process stays below 256 MiB.
const MAX_COST: u64 = 144 << 20;
/// Frames up to this size are unpacked straight into the buffer of who reads a whole one; that memory is not counted.
const MAX_DIRECT: u64 = 2 << 20;
/// Threads that wait look for work among so many frames ahead.
const AHEAD: usize = 4;
/// One extent is put together from at most this many frames.
const MAX_RUN: usize = 64;
/// A frame that is packed better than this may be all zeros; whether it is costs little to find out.
const MAYBE_ZERO: u64 = 512;
/// That is found out for so many bytes of content in all, then the rest is taken for data: frames of zeros are the same in
/// honest files, and each is looked into once.
const MAX_LOOKED: u64 = 1 << 30;

/// A frame with content.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame {
    /// Its first byte in the content.
    pub(super) start: u64,
    /// Its first byte in the file.
    pub(super) packed_at: u64,
    /// Its length in the file.
    pub(super) packed_length: u32,
    /// What its kind of container needs to know about it.
    pub(super) mark: u8,
}

/// The frames of a file in order, while they are found.
#[derive(Default)]
pub(super) struct Frames {
    frames: Vec<Frame>,
    size: u64,
}

impl Frames {
    /// Returns how many there are.
    pub(super) fn count(&self) -> usize {
        self.frames.len()
    }

    /// Returns the length of their content.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Adds a frame of `length` bytes of content; returns whether it can be among frames that are unpacked alone.
    pub(super) fn push(&mut self, packed_at: u64, packed_length: u64, length: u64, mark: u8) -> bool {
        let Ok(packed_length) = u32::try_from(packed_length) else { return false };
        // Data that do not compress grow a little, and a larger frame is a trick.
        let fits = length <= MAX_FRAME && u64::from(packed_length) <= length + length / 8 + 4096;
        if !fits || self.frames.len() == MAX_FRAMES {
            return false;
        }
        if length > 0 {
            self.frames.push(Frame { start: self.size, packed_at, packed_length, mark });
            self.size += length;
        }
        true
    }
}

/// Unpacks one frame into a buffer of its exact length.
pub(super) trait Codec: Send + Sync {
    /// Returns how many bytes of memory unpacking `length` bytes takes besides them and the packed ones.
    fn memory(&self, length: u64) -> u64;

    fn unpack(&self, packed: &[u8], mark: u8, out: &mut [u8]) -> Decoded<()>;
}

/// The content.
pub(super) struct FramedContent<C> {
    file: Arc<dyn Source>,
    frames: Vec<Frame>,
    size: u64,
    codec: C,
    state: Mutex<State>,
    changed: Condvar,
    buffers: Mutex<Buffers>,
    /// The last frame that was found to be all zeros: others are often the same, byte for byte.
    zeros: Mutex<ZeroFrame>,
    /// Bytes of content that were looked into for zeros.
    looked: AtomicU64,
}

/// Buffers for packed bytes that no thread uses now. They are kept, because the allocator does not give the memory of large
/// ones back when another thread wants as much.
#[derive(Default)]
struct Buffers {
    idle: Vec<Vec<u8>>,
    bytes: u64,
    /// What all of them may hold.
    most: u64,
}

impl Buffers {
    fn take(&mut self) -> Vec<u8> {
        let buffer = self.idle.pop().unwrap_or_default();
        self.bytes -= buffer.capacity() as u64;
        buffer
    }

    fn give(&mut self, buffer: Vec<u8>) {
        if self.bytes + buffer.capacity() as u64 <= self.most {
            self.bytes += buffer.capacity() as u64;
            self.idle.push(buffer);
        }
    }
}

/// The packed bytes of zeros, and how many zeros these are.
#[derive(Default)]
struct ZeroFrame {
    packed: Vec<u8>,
    length: u64,
}

/// A frame in memory.
struct Kept {
    number: usize,
    length: u64,
    /// Its content, unless it is being unpacked.
    bytes: Option<Arc<Vec<u8>>>,
}

impl Kept {
    /// Returns whether it is unpacked and nobody reads it.
    fn is_idle(&self) -> bool {
        self.bytes.as_ref().is_some_and(|bytes| Arc::strong_count(bytes) == 1)
    }
}

/// The frames in memory; the one that was used last is the last.
#[derive(Default)]
struct State {
    kept: VecDeque<Kept>,
    /// Bytes of all of them, and how many these may be.
    bytes: u64,
    most: u64,
    /// Those that are being unpacked, and how many these may be.
    unpacking: u64,
    at_once: u64,
}

impl<C: Codec> FramedContent<C> {
    /// Returns the content that `frames` make up, or nothing if one of them takes too much memory.
    pub(super) fn new(file: Arc<dyn Source>, frames: Frames, codec: C) -> Option<Self> {
        let Frames { frames, size } = frames;
        let (state, changed, buffers, zeros, looked) = Default::default();
        let mut content = Self { file, frames, size, codec, state, changed, buffers, zeros, looked };
        let largest = |of: &dyn Fn(usize) -> u64| (0..content.frames.len()).map(of).max().unwrap_or(0);
        let (cost, length) = (largest(&|number| content.cost(number)), largest(&|number| content.length(number)));
        let packed = largest(&|number| content.frames[number].packed_length.into());
        let memory = MEMORY.max(cost);
        // So many of the largest are unpacked at once.
        let at_once = memory / cost.max(1);
        // Packed bytes and decoders keep their memory when a frame is unpacked, so it is not there for content.
        let most = memory - at_once.saturating_mul(packed + content.codec.memory(length)).min(memory - length);
        content.buffers =
            Mutex::new(Buffers { most: at_once.saturating_mul(packed).min(MEMORY), ..Buffers::default() });
        content.state = Mutex::new(State { most, at_once, ..State::default() });
        (cost <= MAX_COST).then_some(content)
    }

    /// Returns the number of the frame that holds byte `offset` of the content.
    fn number(&self, offset: u64) -> usize {
        self.frames.partition_point(|frame| frame.start <= offset).saturating_sub(1)
    }

    fn end(&self, number: usize) -> u64 {
        self.frames.get(number + 1).map_or(self.size, |next| next.start)
    }

    fn length(&self, number: usize) -> u64 {
        self.end(number) - self.frames[number].start
    }

    /// Returns what unpacking frame `number` takes in memory.
    fn cost(&self, number: usize) -> u64 {
        let length = self.length(number);
        length + u64::from(self.frames[number].packed_length) + self.codec.memory(length)
    }

    fn unpack(&self, number: usize, out: &mut [u8]) -> Result<()> {
        let frame = &self.frames[number];
        let buffers = || self.buffers.lock().unwrap_or_else(PoisonError::into_inner);
        let mut packed = buffers().take();
        packed.resize(frame.packed_length as usize, 0);
        self.file.read_at(&mut packed, frame.packed_at)?;
        let unpacked = self.codec.unpack(&packed, frame.mark, out);
        buffers().give(packed);
        unpacked.map_err(|fault| match fault {
            Fault::Damaged(how) => {
                Error::corrupt(format!("the compressed data at byte {} are damaged: {how}", frame.packed_at))
            }
            Fault::Memory => Error::new(
                ErrorKind::TooLarge,
                format!("unpacking the data at byte {} needs more memory than is given for it", frame.packed_at),
            ),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns frame `number` unpacked.
    fn get(&self, number: usize) -> Result<Held<'_, C>> {
        let mut state = self.lock();
        loop {
            if let Some(bytes) = state.find(number) {
                return Ok(Held { content: self, bytes });
            }
            state = if let Some(buffer) = state.begin(number, self.length(number)) {
                drop(state);
                self.fill(number, buffer)?
            } else if let Some((next, buffer)) = self.begin_ahead(&mut state, number) {
                drop(state);
                // Its failure is for the one who wants that frame.
                self.fill(next, buffer).unwrap_or_else(|_| self.lock())
            } else {
                // Another thread unpacks it, or memory is short.
                self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
            };
        }
    }

    /// Takes a frame after frame `number` if another thread unpacks that and there is memory for several.
    fn begin_ahead(&self, state: &mut State, number: usize) -> Option<(usize, Vec<u8>)> {
        state.position(number)?;
        let mut ahead = number + 1..self.frames.len().min(number + 1 + AHEAD);
        ahead.find_map(|next| {
            let length = self.length(next);
            let few = length > MAX_FRAME / 2;
            if few { None } else { state.begin(next, length).map(|buffer| (next, buffer)) }
        })
    }

    /// Unpacks frame `number`, which this thread has begun, into `bytes`; it is there as long as the answer is held.
    fn fill(&self, number: usize, mut bytes: Vec<u8>) -> Result<MutexGuard<'_, State>> {
        let mut begun = Begun { content: self, number, failed: true };
        bytes.resize(self.length(number) as usize, 0);
        self.unpack(number, &mut bytes)?;
        begun.failed = false;
        let mut state = self.lock();
        state.end(number, Some(Arc::new(bytes)));
        self.changed.notify_all();
        Ok(state)
    }

    /// Returns whether frame `number` is known to be zero, or is found to be so at little cost.
    fn is_zero(&self, number: usize) -> Result<bool> {
        let (frame, length) = (&self.frames[number], self.length(number));
        if length / MAYBE_ZERO < u64::from(frame.packed_length) {
            return Ok(false);
        }
        let mut packed = vec![0; frame.packed_length as usize];
        self.file.read_at(&mut packed, frame.packed_at)?;
        let zeros = || self.zeros.lock().unwrap_or_else(PoisonError::into_inner);
        if zeros().length == length && zeros().packed == packed {
            return Ok(true);
        }
        if self.looked.fetch_add(length, Ordering::Relaxed) > MAX_LOOKED {
            return Ok(false);
        }
        // A damaged frame is data: reading it says what is wrong.
        let zero = self.get(number).is_ok_and(|held| held.bytes.iter().all(|byte| *byte == 0));
        if zero {
            *zeros() = ZeroFrame { packed, length };
        }
        Ok(zero)
    }
}

impl State {
    fn position(&self, number: usize) -> Option<usize> {
        self.kept.iter().position(|kept| kept.number == number)
    }

    fn find(&mut self, number: usize) -> Option<Arc<Vec<u8>>> {
        let at = self.position(number)?;
        let bytes = self.kept[at].bytes.clone()?;
        let entry = self.kept.remove(at)?;
        self.kept.push_back(entry);
        Some(bytes)
    }

    /// Makes room for frame `number` of `length` bytes and takes it, if that is possible and nobody else did; returns a
    /// buffer for it, which is that of a frame that had to go. So the memory stays with those who use it, whichever
    /// threads these are.
    fn begin(&mut self, number: usize, length: u64) -> Option<Vec<u8>> {
        if self.position(number).is_some() || self.unpacking == self.at_once {
            return None;
        }
        let mut buffer = Vec::new();
        while self.bytes + length > self.most {
            let oldest = self.kept.iter().position(Kept::is_idle)?;
            buffer = self.remove(oldest).and_then(Arc::into_inner).unwrap_or_default();
        }
        self.kept.push_back(Kept { number, length, bytes: None });
        self.bytes += length;
        self.unpacking += 1;
        // A buffer that is larger than the frame would take more than is counted for it.
        Some(if buffer.capacity() as u64 > length { Vec::new() } else { buffer })
    }

    fn remove(&mut self, at: usize) -> Option<Arc<Vec<u8>>> {
        let kept = self.kept.remove(at)?;
        self.bytes -= kept.length;
        kept.bytes
    }

    /// Ends the unpacking of frame `number`, which gave `bytes` or failed.
    fn end(&mut self, number: usize, bytes: Option<Arc<Vec<u8>>>) {
        let Some(at) = self.position(number) else { return };
        self.unpacking -= 1;
        match bytes {
            None => drop(self.remove(at)),
            Some(bytes) => self.kept[at].bytes = Some(bytes),
        }
    }
}

/// A frame that is being unpacked; also if that fails or panics, those who wait for it go on.
struct Begun<'a, C: Codec> {
    content: &'a FramedContent<C>,
    number: usize,
    failed: bool,
}

impl<C: Codec> Drop for Begun<'_, C> {
    fn drop(&mut self) {
        if self.failed {
            self.content.lock().end(self.number, None);
            self.content.changed.notify_all();
        }
    }
}

/// An unpacked frame that somebody reads; it is not dropped from memory meanwhile.
struct Held<'a, C: Codec> {
    content: &'a FramedContent<C>,
    bytes: Arc<Vec<u8>>,
}

impl<C: Codec> Drop for Held<'_, C> {
    fn drop(&mut self) {
        // Under the lock, so that one who looks for a frame to drop sees it or is told.
        let state = self.content.lock();
        self.bytes = Arc::default();
        drop(state);
        self.content.changed.notify_all();
    }
}

impl<C: Codec> Source for FramedContent<C> {
    fn len(&self) -> u64 {
        self.size
    }

    fn read_at(&self, mut buf: &mut [u8], mut offset: u64) -> Result<()> {
        check_range(self.size, offset, buf.len())?;
        while !buf.is_empty() {
            let number = self.number(offset);
            let (within, length) = (offset - self.frames[number].start, self.length(number));
            let (part, rest) = buf.split_at_mut((length - within).min(buf.len() as u64) as usize);
            if length <= MAX_DIRECT && part.len() as u64 == length && self.lock().position(number).is_none() {
                self.unpack(number, part)?;
            } else {
                let (held, within) = (self.get(number)?, within as usize);
                part.copy_from_slice(&held.bytes[within..within + part.len()]);
            }
            offset += part.len() as u64;
            buf = rest;
        }
        Ok(())
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        check_offset(self.size, offset)?;
        let mut number = self.number(offset);
        let kind = |number| Ok(if self.is_zero(number)? { ExtentKind::Zero } else { ExtentKind::Data });
        let first = kind(number)?;
        number += 1;
        for _ in 1..MAX_RUN {
            if number == self.frames.len() || kind(number)? != first {
                break;
            }
            number += 1;
        }
        let end = self.end(number - 1);
        Ok(Extent { offset, length: end - offset, kind: first })
    }
}
