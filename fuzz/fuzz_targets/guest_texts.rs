//! Texts of a Linux, damaged: configuration, lists of packages, tables of modules.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::targets::guest_texts(data));
