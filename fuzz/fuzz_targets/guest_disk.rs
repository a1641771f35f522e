//! Whole disks with partitions, volumes and a guest, damaged: inspected, examined and prepared.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::targets::guest_disk(data));
