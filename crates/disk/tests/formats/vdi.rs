//! The VDI writer, against qemu-img.
