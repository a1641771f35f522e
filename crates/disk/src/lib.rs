//! What a disk file is: block access, formats, probing, and layouts that write them.
//!
//! A [`Source`] is bytes by position. [`probe`](probe::probe) tells once which [`Format`] a file is in,
//! [`open`](open::open) turns the file into the disk inside it, [`write`](write::write) turns a disk into the
//! file that would hold it, and [`convert`](convert::convert) does both for files.
//! Every file is taken for hostile: tables are bounded before they are loaded, no byte of the file is used for two
//! places of the disk, nothing that an image names is opened unless a [`Gate`] grants it.
#![forbid(unsafe_code)]

pub mod appliance;
pub mod backing;
pub mod check;
pub mod compare;
pub mod convert;
pub mod copy;
pub mod error;
pub mod file;
pub mod format;
pub mod gate;
pub mod info;
pub mod local;
pub mod map;
pub mod open;
pub mod options;
pub mod output;
pub mod overlay;
pub mod probe;
pub mod source;
pub mod write;

mod claims;
mod fields;
mod formats;
mod hashed;
mod inflate;
mod levels;
mod mapped;
mod opened;
mod pair;
mod pipeline;
mod slice;
mod stored;
mod tables;
mod temporary;
mod wrap;
mod zeros;

pub use appliance::Appliance;
pub use backing::Backing;
pub use check::{CheckOptions, Damage, Report, check};
pub use compare::{COMPARED_BLOCK, CompareOptions, Comparison, compare};
pub use convert::{ConvertOptions, Converted, convert, convert_to_stream, write_in_order, write_to_file};
pub use copy::{Copied, CopyOptions, copy_to_file};
pub use error::{Error, ErrorKind, Result};
pub use file::FileSource;
pub use format::Format;
pub use formats::ova::{appliance, verify_manifest};
pub use formats::vmdk::flat_descriptor;
pub use gate::{Deny, Gate, Given, UnlockLimits};
pub use info::{Info, info, info_of};
pub use local::{Local, LocalOptions, Origin, open_unpacked, open_unpacked_into, unpack_to_file};
pub use map::{Map, map};
pub use open::open;
pub use opened::Opened;
pub use options::WriteOptions;
pub use output::{Output, Stream};
pub use overlay::write_overlay;
pub use probe::{confirm, probe};
pub use source::{Extent, ExtentKind, Source};
pub use wrap::{UnpackLimits, Unpacker, is_wrapper, seekable, unpack};
pub use write::{layout, options_of, writable, write};
