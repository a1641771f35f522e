//! VHDX, against qemu-img.
