//! FAT12, FAT16 and FAT32, damaged.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::targets::guest_fat(data));
