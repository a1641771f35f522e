//! ext2 and ext4, damaged and then changed.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::guests::write_ext(fuzz::sound!("ext2", "ext4", "ext4-sums"), data));
