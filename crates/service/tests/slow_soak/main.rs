//! Eight processes share one store and one catalog on PostgreSQL: they write, share, delete, read and collect, and are killed.
//!
//! How: a test starts itself again for each process, with an order in the environment. Every process does what a seed says;
//! how they meet, the machine decides. `MOLDE_SOAK_SECONDS` and `MOLDE_SOAK_SEED` make it longer, or another one.
#![expect(clippy::print_stdout, reason = "processes tell their supervisor what they did, and it tells whoever looks")]

mod place;
mod recipe;
mod soak;
#[path = "../../../chunks/tests/store/watched_index.rs"]
mod watched_index;
mod worker;

use std::time::Duration;

use place::Broken;
use soak::Soak;
use worker::Order;

/// Holds the order of a process.
const ORDER: &str = "MOLDE_SOAK_ORDER";

/// In a process that was started by a soak, carries out its order, and returns that this was so.
fn was_ordered() -> bool {
    let order = std::env::var(ORDER);
    if let Ok(order) = &order {
        Order::from_text(order).carry_out();
    }
    order.is_ok()
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|error| panic!("{name}: {error}")))
}

#[test]
fn what_is_kept_stays_and_all_else_goes() {
    if was_ordered() {
        return;
    }
    let (seconds, seed) = (number("MOLDE_SOAK_SECONDS", 45), number("MOLDE_SOAK_SEED", 1));
    let soak = Soak::new("what_is_kept_stays_and_all_else_goes", seed, Broken::Nothing);
    let tally = soak.run(Duration::from_secs(seconds));
    println!("seed {seed}, {seconds} s: {tally:#?}");
    assert!(tally.faults.is_empty(), "seed {seed}: {:#?}", tally.faults);
    soak.check();
    // It was not idle: garbage went, by collections that met others.
    for happened in ["put done", "splice done", "concat done", "delete done", "read done", "collect: removed"] {
        assert!(tally.count(happened) > 0, "nothing of `{happened}`: {tally:#?}");
    }
}

#[test]
fn a_mark_that_waits_for_no_session_is_found_out() {
    if !was_ordered() {
        found_out("a_mark_that_waits_for_no_session_is_found_out", Broken::Watermark);
    }
}

#[test]
fn a_writer_that_revives_nothing_is_found_out() {
    if !was_ordered() {
        found_out("a_writer_that_revives_nothing_is_found_out", Broken::Revival);
    }
}

/// Runs without one of the rules until something is missing.
fn found_out(test: &'static str, broken: Broken) {
    let tally = Soak::new(test, 1, broken).run(Duration::from_secs(900));
    println!("without {broken:?}: {tally:#?}");
    assert!(!tally.faults.is_empty(), "without {broken:?} nothing was lost: {tally:#?}");
}
