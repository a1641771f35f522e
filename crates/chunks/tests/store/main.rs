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
mod making;
mod manifests;
mod power;
mod power_loss;
mod reference;
mod reference_model;
mod remote;
mod reuse;
mod round_trips;
mod scrub;
mod small_reads;
mod support;
mod transfer;
mod usage;
mod watched;
mod watched_index;
mod wire;
