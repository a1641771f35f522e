//! One module for each format: what its file looks like, how it is read, and for some how it is laid out.

pub(crate) mod qcow2;
pub(crate) mod vdi;
pub(crate) mod vhd;
pub(crate) mod vmdk;
