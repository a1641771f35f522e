//! ext2 and ext4, damaged and then changed.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::targets::guest_ext_write(data));
