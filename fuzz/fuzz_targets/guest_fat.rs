//! FAT12, FAT16 and FAT32, damaged.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::guests::read(
    fuzz::sound!("fat12", "fat16", "fat32"),
    fuzz::seal::nothing,
    data
));
