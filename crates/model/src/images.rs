//! Images: the record, its states and the one table of allowed moves.
//!
//! ```text
//!            upload/create            bytes and row durable
//!   Queued ----------------> Saving ------------------------> Active <----> Deactivated
//!     |                        |                                |               |
//!     |                        +--> Error (killed) ---+         |               |
//!     |                        +--> Queued (upload failed, may be sent again)   |
//!     +------------------------> Deleted <------------+---------+---------------+
//! ```
//! Console words: Creating = Queued or Saving, Normal = Active.

use std::collections::{BTreeMap, BTreeSet};

use crate::formats::names;
use crate::{ContainerFormat, ContentId, DiskFormat, ImageId, JobId, ProjectId, Timestamp};

names! {
    /// Where an image is in its life; the texts are Glance's `status`.
    ImageState {
        /// Has a record and no bytes.
        Queued = "queued",
        /// Bytes are arriving, or a job is making them.
        Saving = "saving",
        /// Whole and usable ("Normal").
        Active = "active",
        /// Making it failed; `reason` says why ("Error").
        Error = "killed",
        /// Whole, and closed to everybody but an administrator.
        Deactivated = "deactivated",
        /// Gone.
        Deleted = "deleted",
    }
}

impl ImageState {
    /// Every allowed move. Whatever is not listed is refused, in every dialect.
    pub const MOVES: &'static [(Self, Self)] = &[
        (Self::Queued, Self::Saving),
        (Self::Queued, Self::Error),
        (Self::Queued, Self::Deleted),
        (Self::Saving, Self::Active),
        (Self::Saving, Self::Queued),
        (Self::Saving, Self::Error),
        (Self::Saving, Self::Deleted),
        (Self::Active, Self::Deactivated),
        (Self::Active, Self::Deleted),
        (Self::Deactivated, Self::Active),
        (Self::Deactivated, Self::Deleted),
        (Self::Error, Self::Deleted),
    ];

    /// Returns whether an image may go from this state to `next`.
    #[must_use]
    pub fn may_become(self, next: Self) -> bool {
        Self::MOVES.contains(&(self, next))
    }

    /// Returns the word that the console and the CLI show.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Queued | Self::Saving => "Creating",
            Self::Active => "Normal",
            Self::Error => "Error",
            Self::Deactivated => "Deactivated",
            Self::Deleted => "Deleted",
        }
    }
}

names! {
    /// Who sees an image (Glance's `visibility`).
    Visibility {
        /// Everybody.
        Public = "public",
        /// Everybody who knows its id; listed only on request.
        Community = "community",
        /// The owner and the projects it was shared with.
        Shared = "shared",
        /// The owner only.
        Private = "private",
    }
}

/// Digests of the bytes as they were uploaded, in lower-case hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checksums {
    /// MD5, Glance's `checksum`.
    pub md5: String,
    /// SHA-256, for people who compare with a vendor's list.
    pub sha256: String,
    /// SHA-512, Glance's `os_hash_value`.
    pub sha512: String,
}

/// A template with an operating system, applications or data, from which servers are created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Its id.
    pub id: ImageId,
    /// The project that owns it.
    pub project: ProjectId,
    /// What people call it; not unique.
    pub name: Option<String>,
    /// Where it is in its life.
    pub state: ImageState,
    /// Why it is in [`ImageState::Error`], as a sentence.
    pub reason: Option<String>,
    /// Who sees it.
    pub visibility: Visibility,
    /// Refuses deletion while set.
    pub protected: bool,
    /// Left out of default lists.
    pub hidden: bool,
    /// How `content` holds the disk.
    pub disk_format: Option<DiskFormat>,
    /// What is wrapped around the disk file.
    pub container_format: Option<ContainerFormat>,
    /// Its bytes, once they are whole.
    pub content: Option<ContentId>,
    /// Length of `content` in bytes.
    pub size: Option<u64>,
    /// Length of the disk that a guest sees, in bytes.
    pub size_virtual: Option<u64>,
    /// Digests of the uploaded bytes; none where the bytes were made here.
    pub checksums: Option<Checksums>,
    /// Smallest root disk of a server, in GiB.
    pub min_disk_gib: u32,
    /// Smallest memory of a server, in MiB.
    pub min_ram_mib: u32,
    /// Free properties, `__os_type` and kin included.
    pub properties: BTreeMap<String, String>,
    /// Tags; Huawei clients use `key=value`.
    pub tags: BTreeSet<String>,
    /// The job that makes or changes it, or did so last.
    pub job: Option<JobId>,
    /// When the record was made.
    pub created_at: Timestamp,
    /// When the record changed last.
    pub updated_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_state_moves_to_itself_and_nothing_leaves_deleted() {
        for (from, to) in ImageState::MOVES {
            assert_ne!(from, to);
            assert_ne!(*from, ImageState::Deleted);
        }
    }

    #[test]
    fn every_living_state_can_be_deleted() {
        for state in ImageState::ALL.iter().filter(|state| **state != ImageState::Deleted) {
            assert!(state.may_become(ImageState::Deleted), "{state}");
        }
    }

    #[test]
    fn only_saving_becomes_active_for_the_first_time() {
        let into_active: Vec<_> =
            ImageState::MOVES.iter().filter(|(_, to)| *to == ImageState::Active).map(|(from, _)| *from).collect();
        assert_eq!(into_active, [ImageState::Saving, ImageState::Deactivated]);
    }
}
