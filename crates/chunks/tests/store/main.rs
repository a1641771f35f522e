//! The promises of the store, through its public face.

mod backends;
mod collect;
mod concat;
mod crashes;
mod damage;
mod dedup;
mod manifests;
mod reuse;
mod round_trips;
mod support;
mod usage;
mod watched;
mod watched_index;
