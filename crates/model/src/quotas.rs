//! Quotas: what a project may have at most, and what it has.

use crate::formats::names;
use crate::sizes::Size;

names! {
    /// What a quota limits.
    Resource {
        /// Bytes that a project's own chunks take in packs: each counted once, compressed and sealed.
        StoredBytes = "stored_bytes",
        /// Objects in all buckets of a project.
        Objects = "objects",
        /// Images that a project owns, in whatever state.
        Images = "images",
    }
}

/// How much a project may have of a resource, and how much it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// Of what.
    pub resource: Resource,
    /// The most; none where there is no limit.
    pub limit: Option<u64>,
    /// What is there. It may be above a limit that was lowered.
    pub used: u64,
}

impl Quota {
    /// Returns how much may still come; nothing where there is no limit.
    #[must_use]
    pub fn left(&self) -> Option<u64> {
        self.limit.map(|limit| limit.saturating_sub(self.used))
    }

    /// Returns whether `more` may come.
    #[must_use]
    pub fn allows(&self, more: u64) -> bool {
        self.left().is_none_or(|left| more <= left)
    }

    /// Returns the sentence for somebody who wanted `more` than is left.
    #[must_use]
    pub fn refusal(&self, more: u64) -> String {
        let (limit, used, left) = (self.limit.unwrap_or(u64::MAX), self.used, self.left().unwrap_or(u64::MAX));
        match self.resource {
            Resource::StoredBytes => format!(
                "the project may store {}, has {}, and {} are left, which are not enough for {} more",
                Size(limit),
                Size(used),
                Size(left),
                Size(more)
            ),
            countable => format!("the project may have {limit} {countable}, has {used}, and {left} are left"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_and_what_it_allows() {
        let check = |limit, used, left, allowed: &[(u64, bool)]| {
            let quota = Quota { resource: Resource::Objects, limit, used };
            assert_eq!(quota.left(), left, "{quota:?}");
            for (more, allows) in allowed {
                assert_eq!(quota.allows(*more), *allows, "{quota:?} {more}");
            }
        };
        check(None, 7, None, &[(0, true), (u64::MAX, true)]);
        check(Some(10), 7, Some(3), &[(0, true), (3, true), (4, false), (u64::MAX, false)]);
        check(Some(10), 10, Some(0), &[(0, true), (1, false)]);
        check(Some(10), 12, Some(0), &[(0, true), (1, false)]);
        check(Some(0), 0, Some(0), &[(1, false)]);
    }

    #[test]
    fn refusals_are_sentences_with_numbers() {
        let objects = Quota { resource: Resource::Objects, limit: Some(10), used: 12 };
        assert_eq!(objects.refusal(1), "the project may have 10 objects, has 12, and 0 are left");
        let stored = Quota { resource: Resource::StoredBytes, limit: Some(100 << 30), used: (100 << 30) - 1500 };
        assert_eq!(
            stored.refusal(16 << 20),
            "the project may store 100 GiB, has 99.9 GiB, and 1.4 KiB are left, which are not enough for 16 MiB more"
        );
    }
}
