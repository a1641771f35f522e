//! Volumes that are no partitions: put together from several places of the disk.

pub(crate) mod lvm2;
