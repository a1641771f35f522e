//! FAT12, FAT16 and FAT32, damaged and then changed.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::guests::write_fat(fuzz::sound!("fat12", "fat16", "fat32"), data));
