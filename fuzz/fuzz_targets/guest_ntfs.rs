//! NTFS, damaged.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::guests::read(fuzz::sound!("ntfs"), fuzz::seal::nothing, data));
