//! Damage at random: opening and reading a damaged image ends soon, with bytes or an error, and never panics.

use std::time::Duration;

use disk::{Format, probe};

use super::Stopwatch;
use super::{Numbers, open_bytes};

/// Each damaged image must be done in this time, which is far above what any needs and far below that of a bomb.
const BOUND: Duration = Duration::from_secs(2);

/// Opens and reads everything that is not a hole; a disk that claims to be large is read in part.
fn exercise(bytes: Vec<u8>, format: Format) -> disk::Result<()> {
    let size = bytes.len() as u64;
    let _ = probe(&bytes);
    let disk = open_bytes(bytes, format)?.disk;
    let (mut offset, mut read) = (0, 0);
    let mut buffer = vec![0; 1 << 20];
    while offset < disk.len() {
        let extent = disk.extent_at(offset)?;
        assert!(extent.length > 0 && extent.end() <= disk.len());
        let mut at = offset;
        while extent.kind == disk::ExtentKind::Data && at < extent.end() {
            let length = (extent.end() - at).min(1 << 20) as usize;
            disk.read_at(&mut buffer[..length], at)?;
            at += length as u64;
            read += length as u64;
        }
        offset = extent.end();
    }
    // No byte of the file is used twice; the tiny images here compress at most a hundredfold.
    assert!(read <= size * 4096 + (4 << 20), "{read} bytes came out of a file of {size}");
    Ok(())
}

/// Damages `image` in its tables or anywhere, `times` times, and exercises each.
pub(crate) fn mutate(image: &[u8], format: Format, times: u64, seed: u64) {
    exercise(image.to_vec(), format).unwrap();
    assert!(image.len() > 20_000, "an image with hardly any data proves little: {} bytes", image.len());
    let mut numbers = Numbers::new(seed);
    let mut failed = 0;
    for time in 0..times {
        let mut bytes = image.to_vec();
        for _ in 0..=numbers.below(3) {
            // Half of the damage is in the first four kilobytes, where most tables are.
            let end = if numbers.below(2) == 0 { bytes.len().min(4096) } else { bytes.len() };
            let at = numbers.below(end as u64) as usize;
            bytes[at] = match numbers.below(4) {
                0 => 0,
                1 => 0xff,
                2 => bytes[at] ^ (1 << numbers.below(8)),
                _ => numbers.next() as u8,
            };
        }
        if numbers.below(10) == 0 {
            bytes.truncate(numbers.below(bytes.len() as u64) as usize);
        }
        let started = Stopwatch::start();
        failed += u64::from(exercise(bytes, format).is_err());
        assert!(started.elapsed() < BOUND, "mutation {time} of {format} with seed {seed} took {:?}", started.elapsed());
    }
    assert!(failed > times / 100, "only {failed} of {times} damaged images were found out");
}
