//! ISO 9660 with and without Rock Ridge, damaged.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::targets::guest_iso(data));
