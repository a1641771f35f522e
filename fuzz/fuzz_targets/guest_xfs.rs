//! XFS of version 4 and 5, damaged.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::guests::read(
    fuzz::sound!("xfs4", "xfs5", "xfs-log"),
    fuzz::seal::xfs,
    data
));
