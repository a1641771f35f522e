//! Serving a disk to QEMU and to any other client of the network block device protocol.
//!
//! ```text
//! Server --accept--> connection: handshake (which export, which replies) --> transmission
//!                                                      reader --queue--> workers --> replies
//! ```
//!
//! What is served is read-only: an [`Export`] is a name and a [`disk::Source`], from a list ([`Exports`]) or found when a
//! client asks ([`Resolve`]). The protocol is that of the document `doc/proto.md` of the project NetworkBlockDevice/nbd:
//! fixed newstyle handshake, simple and structured replies, block status for `base:allocation`, TLS.
//!
//! Every client is taken for hostile. Invariants: no bytes of a client lead to a panic; whatever it asks, it costs one
//! of [`Limits::connections`] and the memory of [`Limits::workers`] pieces of 2 MiB; the handshake, a message that was
//! begun, and a reply that is not taken have a limit of time. A client that is silent between two messages may stay.
//! All is plain blocking code in threads, as the disks are.
#![forbid(unsafe_code)]

mod address;
mod commands;
mod connection;
mod exports;
mod handshake;
mod limits;
mod options;
mod protocol;
mod replies;
mod server;
mod stream;
mod tls;
mod zeros;

pub use address::Address;
pub use exports::{Export, Exports, ExportsError, Refusal, Resolve};
pub use limits::Limits;
pub use server::{Server, Stop};
pub use tls::{Tls, TlsError};
