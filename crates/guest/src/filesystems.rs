//! What lies in a partition: recognised by its superblock, and opened where there is a reader for it.

pub(crate) mod ext;
pub(crate) mod fat;
pub(crate) mod recognise;
pub(crate) mod recognised;
