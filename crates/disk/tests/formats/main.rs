//! Every format against tools that nobody here wrote, and against crafted files.

#[path = "../common/mod.rs"]
mod common;

mod luks;
mod matrix;
mod old;
mod ova;
mod overlay;
mod qcow2;
mod vdi;
mod vhd;
mod vhdx;
mod vmdk;
mod wrap;
