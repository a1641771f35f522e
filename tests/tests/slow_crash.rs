//! Many rounds of kills at random moments; the quick tests run a few of the same.

#[path = "crash/rounds.rs"]
mod rounds;

const ROUNDS: u64 = 40;

#[test]
fn kills_at_many_random_moments() {
    rounds::run(1000, ROUNDS);
}
