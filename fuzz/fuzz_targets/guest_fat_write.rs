//! FAT12, FAT16 and FAT32, damaged and then changed.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::targets::guest_fat_write(data));
