//! What Molde remembers: one noun a file, one SQL text for SQLite and PostgreSQL.
//!
//! A caller opens a [`Catalog`], begins a [`Tx`], and hands it to the free functions of the nouns:
//!
//! ```text
//!   let mut tx = catalog.write().await?;
//!   images::insert(&mut tx, &image).await?;
//!   jobs::insert(&mut tx, &job).await?;
//!   tx.commit().await?;                      // dropping it instead takes everything back
//! ```
//! Invariants: only this crate knows SQL; every statement is written once, with `$n` parameters, and
//! what differs between the databases is in `dialect`; no value from outside becomes a part of a
//! statement's text; text sorts bytewise on both. Not here: who may do what, and which state may
//! follow which.
#![forbid(unsafe_code)]

pub mod access_keys;
pub mod buckets;
mod catalog;
pub mod chunks;
pub mod collections;
pub mod contents;
mod dialect;
pub mod domains;
mod error;
pub mod exports;
mod fields;
pub mod images;
pub mod jobs;
pub mod objects;
pub mod packs;
pub mod parts;
pub mod projects;
pub mod quotas;
pub mod reports;
pub mod roles;
pub mod scrubs;
pub mod servers;
pub mod sessions;
mod statement;
pub mod strays;
pub mod tokens;
mod tx;
pub mod uploads;
pub mod users;

pub use catalog::Catalog;
pub use error::{Error, ErrorKind, Result};
pub use tx::Tx;
