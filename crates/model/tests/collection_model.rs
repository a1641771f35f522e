//! Collection as a model: no interleaving of writers, a cloner, a collector and crashes removes what is kept.

mod collection;

use collection::{Broken, search};

#[test]
fn no_interleaving_removes_what_is_kept() {
    let (states, hole) = search(Broken::Nothing, 1);
    assert_eq!(hole, None);
    assert!(states > 100_000, "only {states} states were visited");
}

#[test]
fn without_any_of_its_rules_it_would() {
    for broken in [Broken::Revival, Broken::Watermark, Broken::Fence, Broken::Source, Broken::CompareAndSet] {
        assert!(search(broken, 1).1.is_some(), "without {broken:?} nothing breaks");
    }
}
