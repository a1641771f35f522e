//! LUKS1 and LUKS2, against cryptsetup and qemu-img.
