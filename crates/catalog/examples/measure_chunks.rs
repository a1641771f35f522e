//! Measures the chunk index: `cargo run --release -p molde-catalog --example measure_chunks -- URL [CHUNKS]`.
//!
//! Fills an empty catalog with packs of 32 chunks, as a store of 512 KiB chunks does, then looks up 1024
//! random ids at a time, half of them unknown, and prints the middle and the worst time of 200.
#![expect(clippy::print_stdout, reason = "printing what was measured is what this program is for")]

use std::time::{Duration, Instant};

use anyhow::Context as _;
use catalog::Catalog;
use catalog::chunks::{self, Location};
use uuid::Uuid;

const PER_PACK: u32 = 32;
const PACKS_PER_COMMIT: u32 = 32;
const LOOKUPS: u64 = 200;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().context("the first argument is the address of an empty catalog")?;
    let count: u32 = arguments.next().unwrap_or_else(|| "1000000".into()).parse()?;
    let catalog = Catalog::connect(&url).await?;
    let domain = Uuid::new_v4();

    let begun = Instant::now();
    let mut commits = Vec::new();
    for first in (0..count).step_by((PER_PACK * PACKS_PER_COMMIT) as usize) {
        let begun = Instant::now();
        let mut tx = catalog.write().await?;
        for first in (first..count).step_by(PER_PACK as usize).take(PACKS_PER_COMMIT as usize) {
            let pack = Uuid::now_v7();
            let blobs: Vec<_> = (first..count.min(first + PER_PACK))
                .map(|n| {
                    let location = Location { pack, offset: n % PER_PACK, stored: 1, plain: 512 << 10, generation: 1 };
                    (domain, id(n.into()), location)
                })
                .collect();
            chunks::add_pack(&mut tx, 1, pack, 16 << 20, &blobs).await?;
        }
        tx.commit().await?;
        commits.push(begun.elapsed());
    }
    println!("add     {count} chunks in {:.1?}; {}", begun.elapsed(), spread(commits));

    let mut times = Vec::new();
    for round in 0..LOOKUPS {
        let ids: Vec<_> = (0..1024_u64).map(|n| id(scatter(round << 32 | n) % (2 * u64::from(count)))).collect();
        let begun = Instant::now();
        let mut tx = catalog.read().await?;
        let found = chunks::find(&mut tx, domain, &ids).await?;
        times.push(begun.elapsed());
        let known = found.iter().flatten().count();
        anyhow::ensure!((400..624).contains(&known), "found {known} of 1024, expected about half");
    }
    println!("find    1024 ids: {}", spread(times));
    Ok(())
}

fn scatter(number: u64) -> u64 {
    let number = (number ^ (number >> 31)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    number ^ (number >> 29)
}

/// Returns an id that looks as random as a hash does.
fn id(number: u64) -> [u8; 32] {
    let mut id = [0; 32];
    for (word, seed) in id.chunks_mut(8).zip(1_u64..) {
        word.copy_from_slice(&scatter(scatter(number + 1).wrapping_mul(seed)).to_be_bytes());
    }
    id
}

fn spread(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let middle = times.get(times.len() / 2).copied().unwrap_or_default();
    format!("middle {middle:.2?}, worst {:.2?}", times.last().copied().unwrap_or_default())
}
