//! S3: buckets and objects as the AWS tools, boto3, rclone and OBS clients of that dialect speak of them.
//!
//! ```text
//! connection (serve) -> who and is the signature ours to check (guard) -> s3s: SigV4, XML -> Gateway -> one verb
//! ```
//! The protocol itself (canonical requests, `aws-chunked`, XML) is the `s3s` crate's; it is built anew for each
//! request, around the one principal whose key the request names, so a handler cannot run for anybody else.
//!
//! Told apart from AWS: path-style addresses only; Signature Version 4 only; no versions, ACLs, tags, locks or
//! conditional writes, and a request that asks for one is refused instead of half obeyed. `Cache-Control`,
//! `Content-Disposition`, `Content-Encoding`, `Content-Language` and `Expires` are not kept with an object.
//! Checksums are checked as bytes arrive and are not kept; a checksum of a whole multipart object, sent with its
//! completion, is therefore not checked (each part's own was).

mod asker;
mod body;
mod buckets;
mod conditions;
mod error;
mod framing;
mod gateway;
mod guard;
mod listing;
mod objects;
mod serve;
mod uploads;
mod wire;

pub use serve::serve_s3;
