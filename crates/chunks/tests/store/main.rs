//! The promises of the store, through its public face.

mod backends;
mod cache;
mod collect;
mod concat;
mod contract;
mod crashes;
mod damage;
mod dedup;
mod faults;
mod manifests;
mod remote;
mod reuse;
mod round_trips;
mod scrub;
mod support;
mod usage;
mod watched;
mod watched_index;
mod wire;
