//! The manifest (`.mf`) of an appliance: lines such as `SHA256(disk.vmdk)= 9f86...`.

use std::collections::HashSet;
use std::fmt::Write as _;

use sha1::Sha1;
use sha2::digest::Digest;
use sha2::{Sha256, Sha512};

use super::tar::is_bare;
use crate::error::{Error, Result};
use crate::source::Source;

/// What is read at once to be hashed.
const PIECE: u64 = 1 << 20;

/// How a file is hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Algorithm {
    Sha1,
    Sha256,
    Sha512,
}

/// The digest of a file.
#[derive(Debug)]
pub(super) struct Line {
    /// The bare name of the file.
    pub(super) name: String,
    algorithm: Algorithm,
    /// The digest in lower-case hexadecimal digits.
    digest: String,
}

/// Reads a manifest, in which no file is listed twice.
pub(super) fn parse(bytes: &[u8]) -> Result<Vec<Line>> {
    let text = std::str::from_utf8(bytes).map_err(|_| Error::corrupt("the manifest is no text"))?;
    let mut names = HashSet::new();
    let mut lines = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let line = parse_line(line).ok_or_else(|| {
            Error::corrupt(format!("line {} of the manifest is not such as: SHA256(disk.vmdk)= 9f86...", number + 1))
        })?;
        if !names.insert(line.name.clone()) {
            return Err(Error::corrupt(format!("the manifest lists {:?} twice", line.name)));
        }
        lines.push(line);
    }
    Ok(lines)
}

fn parse_line(line: &str) -> Option<Line> {
    let (algorithm, rest) = line.trim().split_once('(')?;
    let (name, digest) = rest.rsplit_once(')')?;
    let (algorithm, digits) = match algorithm.trim_end().to_ascii_uppercase().as_str() {
        "SHA1" => (Algorithm::Sha1, 40),
        "SHA256" => (Algorithm::Sha256, 64),
        "SHA512" => (Algorithm::Sha512, 128),
        _ => return None,
    };
    let digest = digest.trim_start().strip_prefix('=')?.trim().to_ascii_lowercase();
    let sound = digest.len() == digits && digest.bytes().all(|digit| digit.is_ascii_hexdigit()) && is_bare(name);
    sound.then(|| Line { name: name.to_owned(), algorithm, digest })
}

impl Line {
    /// Reads the whole of `file`, whose digest must be the one in this line.
    pub(super) fn verify(&self, file: &dyn Source) -> Result<()> {
        let found = match self.algorithm {
            Algorithm::Sha1 => digest_of::<Sha1>(file)?,
            Algorithm::Sha256 => digest_of::<Sha256>(file)?,
            Algorithm::Sha512 => digest_of::<Sha512>(file)?,
        };
        if found == self.digest {
            return Ok(());
        }
        Err(Error::corrupt(format!(
            "{:?} is not what the manifest says: its {:?} is {found}, and should be {}",
            self.name, self.algorithm, self.digest
        ))
        .with_hint("the file was changed or damaged after the appliance was packed: get it again"))
    }
}

fn digest_of<D: Digest>(file: &dyn Source) -> Result<String> {
    let mut hash = D::new();
    let mut buffer = vec![0; PIECE.min(file.len()) as usize];
    let mut at = 0;
    while at < file.len() {
        let piece = &mut buffer[..PIECE.min(file.len() - at) as usize];
        file.read_at(piece, at)?;
        hash.update(&*piece);
        at += piece.len() as u64;
    }
    Ok(hex(&hash.finalize()))
}

/// Returns `bytes` in hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
