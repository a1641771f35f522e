//! The promises of the store, through its public face.

mod backends;
mod cache;
mod concat;
mod contract;
mod crashes;
mod damage;
mod dedup;
mod faults;
mod remote;
mod round_trips;
mod support;
mod wire;
