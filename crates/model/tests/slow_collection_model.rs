//! Collection as a model, with two collectors at once: some millions of states.

mod collection;

use collection::{Broken, search};

#[test]
fn no_interleaving_removes_what_is_kept() {
    let (states, hole) = search(Broken::Nothing, 2);
    assert_eq!(hole, None);
    assert!(states > 1_000_000, "only {states} states were visited");
}
