//! One module for each format: what its file looks like, how it is read, and for some how it is laid out.

pub(crate) mod luks;
pub(crate) mod ova;
pub(crate) mod parallels;
pub(crate) mod qcow1;
pub(crate) mod qcow2;
pub(crate) mod qed;
pub(crate) mod vdi;
pub(crate) mod vhd;
pub(crate) mod vhdx;
pub(crate) mod vmdk;
