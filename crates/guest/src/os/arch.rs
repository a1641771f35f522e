//! Architecture of the guest's programs, from the header of one of them (System V ABI, ELF header).

use crate::fields::{be16, le16, stands_at};
use crate::tree::Tree;

/// Programs of which each Linux has one.
const PROGRAMS: [&str; 6] =
    ["/bin/sh", "/usr/lib/systemd/systemd", "/lib/systemd/systemd", "/sbin/init", "/bin/busybox", "/usr/bin/bash"];

pub(super) fn read(tree: &Tree) -> Option<String> {
    PROGRAMS.iter().find_map(|path| of_header(&tree.head(path, 64)?)).map(str::to_owned)
}

fn of_header(header: &[u8]) -> Option<&'static str> {
    if header.len() < 20 || !stands_at(header, 0, b"\x7fELF") {
        return None;
    }
    let is_wide = header[4] == 2;
    let is_little = header[5] == 1;
    let machine = if is_little { le16(header, 18) } else { be16(header, 18) };
    Some(match (machine, is_wide, is_little) {
        (3, false, true) => "i686",
        (8, true, true) => "mips64el",
        (21, true, true) => "ppc64le",
        (21, true, false) => "ppc64",
        (22, true, false) => "s390x",
        (40, false, true) => "armv7l",
        (62, true, true) => "x86_64",
        (183, true, true) => "aarch64",
        (243, true, true) => "riscv64",
        (258, true, true) => "loongarch64",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_told_apart() {
        let header = |class: u8, order: u8, machine: [u8; 2]| {
            [b"\x7fELF", &[class, order, 1, 0][..], &[0; 8], &[2, 0], &machine, &[0; 44]].concat()
        };
        assert_eq!(of_header(&header(2, 1, [62, 0])), Some("x86_64"));
        assert_eq!(of_header(&header(2, 1, [183, 0])), Some("aarch64"));
        assert_eq!(of_header(&header(2, 2, [0, 22])), Some("s390x"));
        assert_eq!(of_header(&header(1, 1, [62, 0])), None);
        assert_eq!(of_header(b"#!/bin/sh\n"), None);
    }
}
