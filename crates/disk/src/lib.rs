//! What a disk file is: block access, formats, probing, and layouts that write them.
//!
//! A [`Source`] is bytes by position. [`probe`](probe::probe) tells once which [`Format`] a file is in,
//! [`open`](open::open) turns the file into the disk inside it, [`layout`](layout::layout) turns a disk into the
//! file that would hold it, and [`convert`](convert::convert) does both for local files.
//! Every file is taken for hostile: tables are bounded before they are loaded, no byte of the file is used for two
//! places of the disk, nothing that an image names is opened unless a [`Gate`] grants it.
#![forbid(unsafe_code)]

pub mod convert;
pub mod error;
pub mod file;
pub mod format;
pub mod gate;
pub mod info;
pub mod layout;
pub mod open;
pub mod probe;
pub mod source;

mod claims;
mod fields;
mod formats;
mod inflate;
mod mapped;
mod opened;
mod tables;

pub use convert::{ConvertOptions, Copied, convert, copy_to_file};
pub use error::{Error, ErrorKind, Result};
pub use file::FileSource;
pub use format::Format;
pub use gate::{Deny, Gate};
pub use info::{Info, info};
pub use layout::{LayoutOptions, layout, writable};
pub use open::open;
pub use opened::Opened;
pub use probe::{confirm, probe};
pub use source::{Extent, ExtentKind, Source};
