//! What lies in a partition: recognised by its superblock, and opened where there is a reader for it.

pub(crate) mod btrfs;
mod ext;
pub(crate) mod fat;
pub(crate) mod files;
pub(crate) mod iso9660;
pub(crate) mod ntfs;
pub(crate) mod open;
pub(crate) mod recognise;
pub(crate) mod recognised;
mod xfs;
