//! What Molde keeps: content cut into chunks, sealed, packed and listed in manifests.
//!
//! ```text
//! Store --writer--> cut -> id -> known? -> compress -> seal -> pack --> Backend, Index --> Head
//!       --reader--> Head -> root -> segment -> chunk <-- range of a pack
//!       --copy, slice, splice, concat--> entries of other contents, new chunks -> root -> Head
//! ```
//! Invariants: an object is written once and never changed; a head is written only when all that it names
//! is durable and indexed, so a crash leaves orphans and never holes, and it stays only if the contents of which
//! it took over chunks were there to the end; what is read is exactly what was written, or an error. The bytes
//! are described in `docs/formats/store.md`.
//! Not here: who may read or write (`service`), what the bytes mean (`disk`).
#![forbid(unsafe_code)]

pub mod backend;
mod blob;
mod blocking;
mod cache;
mod collect;
mod concat;
mod copy;
mod descriptor;
mod diff;
mod domain;
mod error;
mod fetch;
mod head;
mod index;
mod node;
mod opened;
mod pack;
mod publish;
mod reader;
mod record;
mod scrub;
mod slice;
mod splice;
mod store;
mod trace;
mod transfer;
mod usage;
mod verify;
mod writer;

pub use backend::{
    Backend, BackendStats, CacheOptions, CacheStats, CachedBackend, DirBackend, Files, MemoryBackend, Protocol,
    RemoteBackend, RemoteConfig, RemoteLimits, RemoteStats,
};
pub use blob::{BlobId, ZERO_ID};
pub use collect::{CollectOptions, Collected, Fate, Pace, PackFate, Sum};
pub use diff::{Difference, Side};
pub use error::{Error, ErrorKind, Result};
pub use head::Head;
pub use index::{
    Found, Index, IndexError, Judgement, Keeping, Location, MemoryIndex, Moved, PackRow, Recording, Session, Snapshot,
    Strays, Verdict,
};
pub use opened::{OpenedOptions, OpenedStats};
pub use reader::Reader;
pub use scrub::{PackScrub, Scrubbed};
pub use splice::Splice;
pub use store::{Options, Store};
pub use trace::PackList;
pub use usage::{ContentUsage, Share, Tally, Usage};
pub use verify::Verified;
pub use writer::{WriteStats, Writer};
