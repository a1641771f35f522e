//! What the verbs promise, over a real catalog and a real store in memory; only the servers' driver is a fake.
//!
//! How: [`fixture::Fixture`] assembles a service in a folder of its own, with a clock that a test moves. Where a test
//! needs a certain moment of a job it holds the call that the job makes then ([`gate::Gate`]), so nothing is timed.

mod backend;
mod collect;
mod driver;
mod exports;
mod fixture;
mod gate;
mod identity;
mod image_exports;
mod images;
mod imports;
mod jobs;
mod leases;
mod listing;
mod objects;
mod payload;
mod prepare_later;
mod preparing;
mod quotas;
mod rights;
mod secrets;
mod servers;
mod shop;
mod store;
mod transfer;
mod uploads;
