//! Exports: disks that are served over NBD for some time, to whoever knows their name.

use crate::{ContentId, ExportId, ImageId, ProjectId, Timestamp, UserId};

/// A disk that is served. Its name is a secret, and nobody can read it here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// Its id, by which it is listed and closed.
    pub id: ExportId,
    /// The project for which it was opened.
    pub project: ProjectId,
    /// Who opened it.
    pub user: UserId,
    /// What it was opened from, which may have gone since.
    pub of: Exported,
    /// The bytes, which are kept as long as it lives.
    pub content: ContentId,
    /// How the content holds the disk, found once.
    pub format: String,
    /// When it was opened.
    pub created_at: Timestamp,
    /// From when on it is served no more.
    pub expires_at: Timestamp,
}

/// What an export was opened from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exported {
    /// An image.
    Image(ImageId),
    /// A file in a bucket.
    Object {
        /// The bucket's name.
        bucket: String,
        /// The file's key.
        key: String,
    },
}
