//! Which blobs of which packs are live, in eight bytes for each.

use std::collections::HashMap;

use uuid::Uuid;

use super::report::Sum;
use crate::index::Location;

/// The live blobs of each pack. 1 TiB of unique chunks costs about 20 MiB.
#[derive(Default)]
pub(super) struct Live {
    packs: HashMap<Uuid, Blobs>,
}

/// Offsets and stored lengths, sorted up to a point.
#[derive(Default)]
struct Blobs {
    places: Vec<(u32, u32)>,
    sorted: usize,
}

impl Live {
    /// Notes that the blob at `location` is live; it may be noted any number of times.
    pub(super) fn add(&mut self, location: &Location) {
        self.packs.entry(location.pack).or_default().add((location.offset, location.stored));
    }

    /// Ends the noting: each blob counts once from now on.
    pub(super) fn finish(&mut self) {
        self.packs.values_mut().for_each(Blobs::sort);
    }

    /// Returns the live bytes of a pack.
    pub(super) fn bytes(&self, pack: Uuid) -> u64 {
        self.packs.get(&pack).map_or(0, |blobs| blobs.places.iter().map(|(_, stored)| u64::from(*stored)).sum())
    }

    /// Returns whether a live blob of the pack begins at `offset`.
    pub(super) fn contains(&self, pack: Uuid, offset: u32) -> bool {
        let places = self.packs.get(&pack).map(|blobs| blobs.places.as_slice()).unwrap_or_default();
        places.binary_search_by_key(&offset, |(offset, _)| *offset).is_ok()
    }

    /// Returns how many live blobs there are, and their bytes.
    pub(super) fn sum(&self) -> Sum {
        let mut sum = Sum::default();
        for (_, stored) in self.packs.values().flat_map(|blobs| &blobs.places) {
            sum.add(u64::from(*stored));
        }
        sum
    }
}

impl Blobs {
    fn add(&mut self, place: (u32, u32)) {
        self.places.push(place);
        // Blobs that many contents share would fill the list with repetitions.
        if self.places.len() >= 64 && self.places.len() >= 2 * self.sorted {
            self.sort();
        }
    }

    fn sort(&mut self) {
        self.places.sort_unstable();
        self.places.dedup();
        self.sorted = self.places.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_noted_often_counts_once_and_stays_small() {
        let (mut live, pack) = (Live::default(), Uuid::from_u128(1));
        for round in 0..1000_u32 {
            for blob in 0..40 {
                live.add(&Location { pack, offset: blob * 10, stored: 10, plain: round, generation: 1 });
            }
        }
        assert!(live.packs[&pack].places.len() < 200);
        live.finish();
        assert_eq!((live.bytes(pack), live.sum()), (400, Sum { count: 40, bytes: 400 }));
        assert!(live.contains(pack, 390) && !live.contains(pack, 391) && !live.contains(Uuid::nil(), 0));
    }
}
