//! Where a server listens, and how its clients write that.

use std::fmt::{self, Write as _};
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// A place to listen at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A socket in the file system, which its owner alone can use.
    Unix(PathBuf),
    /// A port of an address; port 0 takes a free one. Anybody who reaches it can read what is served.
    Tcp(SocketAddr),
}

impl Address {
    /// Returns the URI of the export called `export`, or of the default one if that is empty, as `doc/uri.md` of the
    /// project NetworkBlockDevice/nbd defines it and QEMU understands it.
    #[must_use]
    pub fn uri(&self, export: &str) -> String {
        let export = escaped(export.as_bytes());
        match self {
            Self::Unix(path) => format!("nbd+unix:///{export}?socket={}", escaped(path.as_os_str().as_bytes())),
            Self::Tcp(address) => format!("nbd://{address}/{export}"),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => path.display().fmt(f),
            Self::Tcp(address) => address.fmt(f),
        }
    }
}

/// Writes what has a meaning of its own in a URI as `%` and two digits.
fn escaped(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => text.push(char::from(*byte)),
            // Writing to a string does not fail.
            _ => drop(write!(text, "%{byte:02X}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_are_escaped() {
        let unix = Address::Unix(PathBuf::from("/run/a b/ñ.sock"));
        assert_eq!(unix.uri("disk 1&?"), "nbd+unix:///disk%201%26%3F?socket=/run/a%20b/%C3%B1.sock");
        let tcp = Address::Tcp("127.0.0.1:10809".parse().unwrap());
        assert_eq!((tcp.uri(""), tcp.to_string()), ("nbd://127.0.0.1:10809/".into(), "127.0.0.1:10809".into()));
        assert_eq!(Address::Tcp("[::1]:7".parse().unwrap()).uri("a"), "nbd://[::1]:7/a");
    }
}
