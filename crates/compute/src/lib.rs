//! Where a server runs: the driver trait and its QEMU driver.
//!
//! [`Driver`] is the promise: six idempotent verbs over a [`ServerId`](model::ServerId). [`QemuDriver`] keeps it
//! with one QEMU process per server on this host. The server's first disk is a copy-on-write overlay over a base that
//! is served to it by NBD, so that nothing is copied before it starts; its second is a config drive for cloud-init.
//!
//! Not here: which server may run where and what its record says (`service`), what the base contains (`guest`), and
//! any state in memory: the truth about a server is its directory and the lock that its process holds, so that
//! nothing is lost when Molde dies.

#![forbid(unsafe_code)]

pub mod config_drive;
mod driver;
mod error;
mod fat;
pub mod qemu;
pub mod spec;

pub use config_drive::{ConfigDrive, hostname_for};
pub use driver::{Driver, Power, Stop};
pub use error::{Error, ErrorKind, Result};
pub use qemu::{Acceleration, Network, QemuDriver, QemuOptions};
pub use spec::{Base, Firmware, ServerSpec};
