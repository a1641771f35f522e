//! VMDK: sets of files, old kinds, and the writers, against qemu-img.
