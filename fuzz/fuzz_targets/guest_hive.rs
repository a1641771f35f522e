//! Registry hives, damaged: read, changed, and examined as those of a Windows.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::targets::guest_hive(data));
