//! qcow version 1, QED and Parallels, against qemu-img.
