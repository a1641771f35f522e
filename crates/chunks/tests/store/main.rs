//! The promises of the store, through its public face.

mod backends;
mod collect;
mod concat;
mod crashes;
mod damage;
mod dedup;
mod round_trips;
mod support;
mod watched_index;
