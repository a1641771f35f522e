//! Changing files of ext2, ext3 and ext4 that mke2fs made, judged by e2fsck, debugfs and ext4-view; and of FAT.
//!
//! A missing tool fails its test with the name of the Debian package that has it.

mod fat;
mod images;
mod kernel;
mod matrix;
mod mutation;
mod random;
mod refused;
mod shapes;
