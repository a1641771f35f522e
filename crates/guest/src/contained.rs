//! Whether a panic now is caught, which a fuzzer has to know.

use std::cell::Cell;

thread_local! {
    static CONTAINED: Cell<u32> = const { Cell::new(0) };
}

/// Stands while a reader of another crate runs, whose panic is caught.
pub(crate) struct Contained;

impl Contained {
    pub(crate) fn new() -> Self {
        CONTAINED.set(CONTAINED.get() + 1);
        Self
    }
}

impl Drop for Contained {
    fn drop(&mut self) {
        CONTAINED.set(CONTAINED.get() - 1);
    }
}

/// Returns whether a panic now is caught, and so is no fault of a target.
#[must_use]
pub fn is_contained() -> bool {
    CONTAINED.get() > 0
}
