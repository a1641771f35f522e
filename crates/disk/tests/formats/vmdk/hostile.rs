//! Hostile streams and sets.
