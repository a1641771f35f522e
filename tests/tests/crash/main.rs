//! The server dies at any moment, and starts again: what was acknowledged is intact, and nothing is stuck.

mod places;
mod rounds;
mod uploads;

/// How many rounds of kills the quick tests run.
const ROUNDS: u64 = 6;

#[test]
fn kills_at_random_moments() {
    rounds::run(0, ROUNDS);
}
