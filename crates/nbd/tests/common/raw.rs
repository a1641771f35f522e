//! A client that sends any bytes, and takes replies apart by the numbers of the protocol document.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use nbd::Address;

pub(crate) const GREETING: &[u8] = b"NBDMAGICIHAVEOPT\x00\x03";
pub(crate) const ACK: u32 = 1;
pub(crate) const UNSUP: u32 = 0x8000_0001;
pub(crate) const INVALID: u32 = 0x8000_0003;
pub(crate) const UNKNOWN: u32 = 0x8000_0006;

pub(crate) struct Raw(pub(crate) TcpStream);

/// A chunk of a structured reply.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Chunk {
    pub(crate) done: bool,
    pub(crate) kind: u16,
    pub(crate) cookie: u64,
    pub(crate) payload: Vec<u8>,
}

impl Raw {
    pub(crate) fn connect(address: &Address) -> Self {
        let Address::Tcp(address) = address else { panic!("{address}") };
        let stream = TcpStream::connect(address).unwrap();
        // A test that waits in vain is to fail.
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Self(stream)
    }

    /// Connects and says that nobody wants zeros.
    pub(crate) fn greeted(address: &Address) -> Self {
        let mut raw = Self::connect(address);
        assert_eq!(raw.take(GREETING.len()), GREETING);
        raw.send(&3_u32.to_be_bytes());
        raw
    }

    /// Goes into the transmission of the default export, with structured replies and block status.
    pub(crate) fn transmitting(address: &Address) -> Self {
        let mut raw = Self::greeted(address);
        raw.option(8, b"");
        raw.option(10, &[&strings(&[b""])[..], &1_u32.to_be_bytes(), &strings(&[b"base:allocation"])].concat());
        raw.option(7, &[0; 6]);
        for expected in [ACK, 4, ACK, 3, 3, ACK] {
            assert_eq!(raw.option_reply().1, expected);
        }
        raw
    }

    /// Goes into the transmission of the default export in the oldest way.
    pub(crate) fn simple(address: &Address) -> Self {
        let mut raw = Self::greeted(address);
        raw.option(1, b"");
        raw.take(10);
        raw
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
    }

    pub(crate) fn take(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.0.read_exact(&mut bytes).unwrap();
        bytes
    }

    fn number(&mut self, length: usize) -> u64 {
        self.take(length).iter().fold(0, |all, byte| all << 8 | u64::from(*byte))
    }

    /// Checks that the server ends the connection; returns what it sent before.
    pub(crate) fn ends(mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        match self.0.read_to_end(&mut rest) {
            Ok(_) => {}
            // What was sent to it and not read is thrown away with the connection.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
            Err(error) => panic!("the connection does not end: {error}"),
        }
        rest
    }

    pub(crate) fn option(&mut self, option: u32, data: &[u8]) {
        self.send(&[b"IHAVEOPT", &option.to_be_bytes()[..], &(data.len() as u32).to_be_bytes(), data].concat());
    }

    /// Returns the option, the kind and the data of a reply.
    pub(crate) fn option_reply(&mut self) -> (u32, u32, Vec<u8>) {
        assert_eq!(self.number(8), 0x0003_e889_0455_65a9);
        let (option, kind, length) = (self.number(4) as u32, self.number(4) as u32, self.number(4) as usize);
        (option, kind, self.take(length))
    }

    pub(crate) fn request(&mut self, flags: u16, command: u16, cookie: u64, offset: u64, length: u32) {
        let head = [&0x2560_9513_u32.to_be_bytes()[..], &flags.to_be_bytes(), &command.to_be_bytes()].concat();
        self.send(&[&head[..], &cookie.to_be_bytes(), &offset.to_be_bytes(), &length.to_be_bytes()].concat());
    }

    /// Returns error and cookie of a simple reply.
    pub(crate) fn simple_reply(&mut self) -> (u32, u64) {
        assert_eq!(self.number(4), 0x6744_6698);
        (self.number(4) as u32, self.number(8))
    }

    pub(crate) fn chunk(&mut self) -> Chunk {
        assert_eq!(self.number(4), 0x668e_33ef);
        let (flags, kind, cookie) = (self.number(2), self.number(2) as u16, self.number(8));
        assert_eq!(flags & !1, 0);
        let length = self.number(4) as usize;
        Chunk { done: flags == 1, kind, cookie, payload: self.take(length) }
    }

    /// Takes an error chunk that ends a reply; returns its code and sentence.
    pub(crate) fn error(&mut self) -> (u32, String) {
        let chunk = self.chunk();
        assert!(chunk.done && chunk.kind & 0x8000 != 0, "{chunk:?}");
        let length = usize::from(chunk.payload[4]) << 8 | usize::from(chunk.payload[5]);
        let sentence = String::from_utf8(chunk.payload[6..6 + length].to_vec()).unwrap();
        assert_eq!(chunk.payload.len(), 6 + length + if chunk.kind == 0x8002 { 8 } else { 0 });
        (be(&chunk.payload[..4]) as u32, sentence)
    }
}

/// Returns the number that `bytes` are, the most significant first.
pub(crate) fn be(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |all, byte| all << 8 | u64::from(*byte))
}

/// Strings as options have them: each with its length before it.
pub(crate) fn strings(list: &[&[u8]]) -> Vec<u8> {
    list.iter().flat_map(|string| [&(string.len() as u32).to_be_bytes()[..], string].concat()).collect()
}
