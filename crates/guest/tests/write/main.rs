//! Changing files of ext2, ext3 and ext4 that mke2fs made, judged by e2fsck, debugfs and ext4-view.
//!
//! A missing tool fails its test with the name of the Debian package that has it.

mod images;
mod matrix;
