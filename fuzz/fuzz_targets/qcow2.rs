//! qcow2 files, damaged.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::targets::qcow2(data));
