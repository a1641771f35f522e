//! What happens: every verb of Molde, who may ask for it, and the jobs that carry it out.
//!
//! A verb takes the [`Principal`](model::identity::Principal) first and asks `policy` itself, so no dialect can
//! differ in rights. This crate is the only one that changes a state. Order of every write: bytes durable, then
//! the row, then tell.
//!
//! Not here: wire formats (`api`), SQL (`catalog`), how bytes are kept (`chunks`), what a disk file means (`disk`).
#![forbid(unsafe_code)]

mod blocking;
mod buckets;
mod content;
mod digest;
mod disks;
mod error;
mod exports;
mod formats;
mod identity;
mod image_state;
mod images;
mod index;
mod inspection;
pub mod jobs;
mod objects;
mod open_disks;
mod original;
mod pipe;
mod policy;
mod preparation;
mod quotas;
mod reports;
mod scrubbing;
mod server_spec;
mod servers;
mod service;
mod stats;
mod store;
mod streams;
mod transfer;
mod uploads;

pub use buckets::Buckets;
pub use catalog::contents::Holder;
pub use catalog::images::{Comparison, Direction, ImageFilter, ImageSort};
pub use catalog::scrubs::{Checked, Damaged};
pub use chunks::{CacheStats, Collected, Fate, OpenedStats, RemoteStats, Share, Sum};
pub use error::{Error, ErrorKind, Result};
pub use exports::{Exports, NewExport, OpenedExport};
pub use guest::{Choice, Report as GuestReport};
pub use identity::{BootstrapSecrets, Credentials, Identity, Issued, Scope, Token, UserName};
pub use images::{Export, FromObject, ImageChange, Images, NewImage};
pub use index::CatalogIndex;
pub use jobs::runner::{Runner, abort_places};
pub use jobs::verbs::{JobQuery, Jobs};
pub use keys::Secret;
pub use objects::{ListObjects, ObjectPage, Objects, PutObject};
pub use quotas::Quotas;
pub use servers::{NewServer, Servers};
pub use service::{Parts, Service, Settings};
pub use stats::{ContentStats, ProjectStats, Sizes, StoreStats};
pub use store::{Store, StoreState};
pub use streams::{ByteStream, Download, Incoming, Range};
pub use transfer::{ChunkId, ChunkIds, IDS_MAX, Piece, Pieces, Terms, Transfer};
pub use uploads::{PartTag, UploadAt, Uploads};
