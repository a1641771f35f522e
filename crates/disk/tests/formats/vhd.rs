//! The VHD writer, against qemu-img.
