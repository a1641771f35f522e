//! Parallels files, damaged.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::open_and_read(data, disk::Format::Parallels));
