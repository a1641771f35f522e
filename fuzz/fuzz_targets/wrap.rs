//! Files that are compressed as a whole, damaged: gzip, xz, zstd, bzip2 and zip.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::targets::wrap(data));
