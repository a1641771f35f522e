//! ext2, ext3 and ext4, damaged.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::targets::guest_ext(data));
