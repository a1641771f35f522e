//! ext2, ext3 and ext4, damaged.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::guests::read(
    fuzz::sound!("ext2", "ext4", "ext4-journal"),
    fuzz::seal::nothing,
    data
));
