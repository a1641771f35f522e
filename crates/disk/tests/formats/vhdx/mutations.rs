//! Damaged VHDX files: opening and reading them ends soon, with bytes or an error, and never panics.

use std::sync::Arc;
use std::time::Duration;

use super::image::{Change, HEADERS, Image, REGIONS, SECTOR, entry};
use crate::common::Numbers;
use crate::common::Stopwatch;
use disk::{Deny, Format, Source};

/// An image with other bytes in some places, and cut.
#[derive(Clone)]
struct Damaged {
    image: Arc<Vec<u8>>,
    length: u64,
    places: Vec<(u64, Vec<u8>)>,
}

impl Damaged {
    fn new(image: &Arc<Vec<u8>>, places: impl IntoIterator<Item = (usize, u8)>) -> Self {
        let places = places.into_iter().map(|(at, byte)| (at as u64, vec![byte])).collect();
        Self { image: Arc::clone(image), length: image.len(), places }
    }

    /// Makes all sums of the header section right.
    fn summed(mut self) -> Self {
        for (at, length) in HEADERS.map(|at| (at, SECTOR)).into_iter().chain(REGIONS.map(|at| (at, 64 << 10))) {
            let mut bytes = vec![0; length];
            self.read_at(&mut bytes, at as u64).unwrap();
            bytes[4..8].fill(0);
            self.places.push((at as u64 + 4, crc32c::crc32c(&bytes).to_le_bytes().to_vec()));
        }
        self
    }
}

impl Source for Damaged {
    fn len(&self) -> u64 {
        self.length
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> disk::Result<()> {
        disk::source::check_range(self.length, offset, buf.len())?;
        self.image.read_at(buf, offset)?;
        for (at, bytes) in &self.places {
            for (at, byte) in (*at..).zip(bytes) {
                if let Some(place) = at.checked_sub(offset).and_then(|within| buf.get_mut(within as usize)) {
                    *place = *byte;
                }
            }
        }
        Ok(())
    }
}

/// Opens the file and reads everything that is not a hole.
fn exercise(file: Damaged) -> disk::Result<()> {
    let size = file.length;
    let disk = disk::open(Arc::new(file), Format::Vhdx, &Deny)?.disk;
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
    assert!(read <= size, "{read} bytes came out of a file of {size}");
    Ok(())
}

/// Exercises the file with the sums that it has and with right ones; returns whether either was found out.
fn is_found_out(damaged: Damaged) -> bool {
    let summed = (damaged.length == damaged.image.len()).then(|| damaged.clone().summed());
    let mut found = false;
    for file in [Some(damaged), summed].into_iter().flatten() {
        let started = Stopwatch::start();
        found |= exercise(file).is_err();
        assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    }
    found
}

/// An image whose log puts the block allocation table in its place and empties its rest.
fn dirty(image: &Image) -> Image {
    let bat = image.bat();
    let changes = [Change::Data(bat, image.0[bat..][..4096].to_vec()), Change::Zero(bat as u64 + 4096, 8192)];
    image.clone().with_log(&[(0, entry(1, 0, &changes)), (2, entry(2, 0, &[]))])
}

#[test]
fn every_field() {
    let image = Image::new();
    let log = image.le64(HEADERS[0] + 72);
    let clean = [
        (0, 8),
        (HEADERS[0], 80),
        (HEADERS[1], 80),
        (REGIONS[0], 80),
        (REGIONS[1], 80),
        (image.metadata(), 32 + 5 * 32),
        (image.item(0).1, 40),
        (image.bat(), 32),
    ];
    let (dirty, image) = (Arc::new(dirty(&image).0), Arc::new(image.0));
    exercise(Damaged::new(&dirty, [])).unwrap();
    let (mut tried, mut found) = (0, 0);
    let fields = clean.map(|(at, length)| (&image, at, length)).into_iter();
    for (image, at, length) in fields.chain([(&dirty, log, 128), (&dirty, log + 4096, 16)]) {
        for at in at..at + length {
            for change in [0x01, 0x80, 0xff] {
                tried += 1;
                found += usize::from(is_found_out(Damaged::new(image, [(at, image[at] ^ change)])));
            }
        }
    }
    assert!(found > tried / 2, "only {found} of {tried} damaged fields were found out");
}

#[test]
fn random_bytes() {
    let image = Image::new();
    let tables = [HEADERS[0], REGIONS[0], image.metadata(), image.item(0).1, image.bat(), image.le64(HEADERS[0] + 72)];
    let images = [Arc::new(dirty(&image).0), Arc::new(image.0)];
    let mut numbers = Numbers::new(77);
    let mut found = 0;
    for round in 0..1000 {
        let image = &images[round % 2];
        let mut damaged = Damaged::new(image, []);
        for _ in 0..=numbers.below(4) {
            let at = match numbers.below(4) {
                0 => numbers.below(image.len()),
                _ => tables[numbers.below(6) as usize] as u64 + numbers.below(200),
            };
            let byte = [0, 0xff, numbers.next() as u8][numbers.below(3) as usize];
            damaged.places.push((at, vec![byte]));
        }
        if numbers.below(10) == 0 {
            damaged.length = numbers.below(image.len());
        }
        found += usize::from(is_found_out(damaged));
    }
    assert!(found > 300, "only {found} of 1000 damaged images were found out");
}
