//! How the model makes a content, and the same with plain bytes.

use bytes::Bytes;
use chunks::{Difference, Head, Result, Side, Store};
use futures::TryStreamExt;
use uuid::Uuid;

use crate::reference::{Content, LENGTH_MAX, Make, Model, Place, Run, pick};
use crate::support::{CHUNK, DOMAIN, SEGMENT};

impl Model {
    /// Returns the bytes that a content so made must have; nothing when there is nothing to make it of.
    pub(crate) fn expected(&self, make: &Make) -> Option<Vec<u8>> {
        let bytes_of = |of| pick(&self.contents, of).map(|(_, bytes)| bytes);
        match make {
            Make::Write(runs) => Some(runs.iter().flat_map(Run::bytes).collect()),
            Make::Copy(of) => bytes_of(*of).cloned(),
            Make::Slice(of, a, b) => bytes_of(*of).map(|bytes| bytes[a.range(b, bytes.len())].to_vec()),
            Make::Splice(of, edits, end) => bytes_of(*of).map(|bytes| spliced(bytes.clone(), edits, end.as_ref())),
            Make::Concat(of) => {
                let bytes = of.iter().map(|of| bytes_of(*of).cloned()).collect::<Option<Vec<_>>>()?.concat();
                (bytes.len() <= LENGTH_MAX).then_some(bytes)
            }
            Make::Rebuild(_, new) => bytes_of(*new).cloned(),
        }
    }

    /// Makes the content in the store. Everything that it is made of exists.
    pub(crate) async fn make(&self, make: &Make, id: Uuid) -> Result<Head> {
        let head_of = |of| &pick(&self.contents, of).expect("the bytes were found before").0;
        match make {
            Make::Write(runs) => {
                let mut writer = self.store().writer(DOMAIN, id).await?;
                for run in runs {
                    match run {
                        Run::Zeros(length) => writer.write_zeros(*length as u64).await?,
                        Run::Noise(..) => writer.write(Bytes::from(run.bytes())).await?,
                    }
                }
                writer.finish().await
            }
            Make::Copy(of) => self.store().copy(&head_of(*of).bytes, id).await,
            Make::Slice(of, a, b) => {
                let head = head_of(*of);
                let range = a.range(b, head.length as usize);
                self.store().slice(&head.bytes, range.start as u64..range.end as u64, id).await
            }
            Make::Splice(of, edits, end) => splice(self.store(), head_of(*of), id, edits, end.as_ref()).await,
            Make::Concat(of) => {
                let heads: Vec<_> = of.iter().map(|of| head_of(*of).bytes.clone()).collect();
                self.store().concat(DOMAIN, id, &heads).await
            }
            Make::Rebuild(old, new) => {
                let (old, new) = (pick(&self.contents, *old), pick(&self.contents, *new));
                rebuild(self.store(), old.zip(new).expect("the bytes were found before"), id).await
            }
        }
    }
}

/// Returns where each edit begins and its bytes.
fn placed(edits: &[(usize, Run)]) -> Vec<(usize, Vec<u8>)> {
    let mut at = 0;
    let place = |(gap, run): &(usize, Run)| {
        let bytes = run.bytes();
        let start = at + gap;
        at = start + bytes.len();
        (start, bytes)
    };
    edits.iter().map(place).collect()
}

fn spliced(mut bytes: Vec<u8>, edits: &[(usize, Run)], end: Option<&Place>) -> Vec<u8> {
    for (start, edit) in placed(edits) {
        bytes.resize(bytes.len().max(start + edit.len()), 0);
        bytes[start..start + edit.len()].copy_from_slice(&edit);
    }
    if let Some(end) = end {
        let length = end_of(end, bytes.len(), edits);
        bytes.resize(length, 0);
    }
    bytes
}

/// Returns where a splice ends whose content would have `length` bytes by itself: behind its last edit.
fn end_of(end: &Place, length: usize, edits: &[(usize, Run)]) -> usize {
    let edited = placed(edits).last().map_or(0, |(start, bytes)| start + bytes.len());
    end.within(length + SEGMENT).max(edited)
}

async fn splice(store: &Store, old: &Head, id: Uuid, edits: &[(usize, Run)], end: Option<&Place>) -> Result<Head> {
    let mut splice = store.splice(&old.bytes, id).await?;
    let mut length = old.length as usize;
    for ((start, bytes), (_, run)) in placed(edits).into_iter().zip(edits) {
        length = length.max(start + bytes.len());
        if let Run::Zeros(count) = run {
            splice.write_zeros(start as u64, *count as u64).await?;
            continue;
        }
        // In pieces, as a stream would bring it.
        for (number, piece) in bytes.chunks(5000).enumerate() {
            splice.write((start + number * 5000) as u64, Bytes::copy_from_slice(piece)).await?;
        }
    }
    match end {
        None => splice.finish().await,
        Some(end) => splice.finish_at(end_of(end, length, edits) as u64).await,
    }
}

/// Makes the new content of the old one and what differs.
async fn rebuild(store: &Store, (old, new): (&Content, &Content), id: Uuid) -> Result<Head> {
    let differences: Vec<Difference> = store.diff(&old.0.bytes, &new.0.bytes).await?.try_collect().await?;
    check_differences(&differences, &old.1, &new.1);
    let reader = store.reader(&new.0.bytes).await?;
    let mut splice = store.splice(&old.0.bytes, id).await?;
    for Difference { range, new, .. } in differences {
        let length = range.end - range.start;
        match new {
            Side::Nothing => {}
            Side::Zero => splice.write_zeros(range.start, length).await?,
            Side::Data => splice.write(range.start, reader.read(range.start, length as usize).await?).await?,
        }
    }
    splice.finish_at(reader.len()).await
}

/// What is told is in order and true, and what is not told is equal.
fn check_differences(differences: &[Difference], old: &[u8], new: &[u8]) {
    let part = |model: &'_ [u8], from: usize, to: usize| model[from.min(model.len())..to.min(model.len())].to_vec();
    let shorter = old.len().min(new.len());
    let mut at = 0;
    for difference in differences {
        let (start, end) = (difference.range.start as usize, difference.range.end as usize);
        assert!(at <= start && start < end && end <= old.len().max(new.len()), "{differences:?}");
        assert!(part(old, at, start) == part(new, at, start), "a difference before {start} was not told");
        for (side, model) in [(difference.old, old), (difference.new, new)] {
            let bytes = part(model, start, end);
            match side {
                Side::Nothing => assert!(bytes.is_empty() && start >= model.len()),
                Side::Zero => assert!(bytes.len() == end - start && bytes.iter().all(|byte| *byte == 0)),
                Side::Data => assert_eq!(bytes.len(), end - start),
            }
        }
        assert_ne!((difference.old, difference.new), (Side::Zero, Side::Zero));
        for chunk in (start..end.min(shorter / CHUNK * CHUNK)).step_by(CHUNK) {
            assert!(part(old, chunk, chunk + CHUNK) != part(new, chunk, chunk + CHUNK), "chunk at {chunk} is equal");
        }
        at = end;
    }
    assert!(part(old, at, usize::MAX) == part(new, at, usize::MAX), "a difference after {at} was not told");
}
