//! The JSON text of a LUKS version 2 header: key slots, digests and the one encrypted segment.

use std::collections::BTreeMap;

use argon2::Algorithm;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::cipher::Cipher;
use super::hash::Hash;
use super::kdf::{Kdf, check_iterations};
use super::stripes::STRIPES;
use super::unlock::{KeyDigest, Slot, check_materials, material_length};
use crate::error::{Error, ErrorKind, Result};
use crate::fields::check_inside;

/// Bytes of a copy of the header before its text.
pub(super) const HEAD: u64 = 4096;
/// Objects and lists in one another.
const MAX_DEPTH: usize = 16;
const MAX_SLOTS: usize = 32;
/// A digest is at most the longest hash.
const MAX_DIGEST: usize = 64;

/// The text as it stands; what is not listed here does not matter for reading.
#[derive(Debug, Deserialize)]
pub(super) struct Metadata {
    config: Config,
    keyslots: BTreeMap<String, Keyslot>,
    segments: BTreeMap<String, Segment>,
    digests: BTreeMap<String, Digest>,
}

#[derive(Debug, Deserialize)]
struct Config {
    json_size: String,
    keyslots_size: String,
    #[serde(default)]
    requirements: Requirements,
}

#[derive(Debug, Default, Deserialize)]
struct Requirements {
    #[serde(default)]
    mandatory: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Keyslot {
    Luks2(Box<Luks2Keyslot>),
    #[serde(other)]
    Other,
}

#[derive(Debug, Deserialize)]
struct Luks2Keyslot {
    key_size: usize,
    area: Area,
    kdf: KeyDerivation,
    af: Splitter,
    #[serde(default = "normal")]
    priority: u8,
}

#[derive(Debug, Deserialize)]
struct Area {
    #[serde(rename = "type")]
    kind: String,
    offset: String,
    size: String,
    encryption: String,
    key_size: usize,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum KeyDerivation {
    Pbkdf2 { hash: String, iterations: u32, salt: String },
    Argon2i { time: u32, memory: u32, cpus: u32, salt: String },
    Argon2id { time: u32, memory: u32, cpus: u32, salt: String },
}

#[derive(Debug, Deserialize)]
struct Splitter {
    #[serde(rename = "type")]
    kind: String,
    stripes: usize,
    hash: String,
}

#[derive(Debug, Deserialize)]
struct Segment {
    #[serde(rename = "type")]
    kind: String,
    offset: String,
    size: String,
    #[serde(default)]
    iv_tweak: String,
    #[serde(default)]
    encryption: String,
    #[serde(default)]
    sector_size: u64,
    integrity: Option<IgnoredAny>,
    #[serde(default)]
    flags: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Digest {
    Pbkdf2 {
        keyslots: Vec<String>,
        segments: Vec<String>,
        hash: String,
        iterations: u32,
        salt: String,
        digest: String,
    },
    #[serde(other)]
    Other,
}

/// Of slots of any priority, those to be tried first have the higher one.
fn normal() -> u8 {
    1
}

/// What the text says, checked.
#[derive(Debug)]
pub(super) struct Volume {
    pub(super) cipher: Cipher,
    /// In the order in which they are tried.
    pub(super) slots: Vec<Slot>,
    /// Bytes of a sector.
    pub(super) sector_size: u64,
    /// Where the encrypted disk begins and how long it is.
    pub(super) payload: u64,
    pub(super) size: u64,
    /// The number of the first sector of the disk.
    pub(super) first: u64,
}

impl Metadata {
    /// Parses `text`, which lies at byte 4096 of its copy of the header.
    pub(super) fn parse(text: &[u8]) -> Result<Self> {
        check_depth(text)?;
        serde_json::from_slice(text)
            .map_err(|error| Error::corrupt(format!("the JSON text of the LUKS header cannot be used: {error}")))
    }

    /// Checks everything against one another and against a file of `len` bytes whose copies of the header end at byte
    /// `headers`.
    pub(super) fn check(&self, headers: u64, len: u64) -> Result<Volume> {
        if let Some(requirement) = self.config.requirements.mandatory.first() {
            return Err(Error::unsupported(format!(
                "the LUKS header requires {requirement:?}, which is not supported"
            ))
            .with_hint("if a reencryption was begun, finish it with: cryptsetup reencrypt --resume-only"));
        }
        let room = headers / 2 - HEAD;
        if number(&self.config.json_size, "json_size")? != room {
            let said = &self.config.json_size;
            return Err(Error::corrupt(format!("the LUKS header says {said} for json_size and has room for {room}")));
        }
        let segment = self.segment()?;
        let keyslots_size = number(&self.config.keyslots_size, "keyslots_size")?;
        let keyslots_end = headers.saturating_add(keyslots_size);
        let payload = number(&segment.offset, "the offset of the segment")?;
        if payload < keyslots_end || !payload.is_multiple_of(512) {
            return Err(Error::corrupt(format!(
                "the LUKS segment begins at byte {payload}, and the key slots end at byte {keyslots_end}"
            )));
        }
        let size = segment.size(payload, len)?;
        let slots = self.slots()?;
        let key_length = slots.first().map_or(64, |(_, key_length)| *key_length);
        if slots.iter().any(|(_, length)| *length != key_length) {
            return Err(Error::corrupt("the LUKS key slots hold keys of several lengths for one segment"));
        }
        let slots: Vec<_> = slots.into_iter().map(|(slot, _)| slot).collect();
        let cipher = Cipher::named(&segment.encryption, key_length)?;
        check_materials(&slots, key_length, &(headers..keyslots_end), len)?;
        let first = number(&segment.iv_tweak, "the iv_tweak of the segment")?;
        Ok(Volume { cipher, slots, sector_size: segment.sector_size, payload, size, first })
    }

    /// Returns the only segment; several mean that a reencryption was begun.
    fn segment(&self) -> Result<&Segment> {
        let mut segments = self.segments.iter();
        let (Some((name, segment)), None) = (segments.next(), segments.next()) else {
            return Err(Error::unsupported(format!("the LUKS header has {} segments, not one", self.segments.len())));
        };
        if name != "0" {
            return Err(Error::corrupt(format!("the only LUKS segment is called {name:?} and not \"0\"")));
        }
        if segment.kind != "crypt" {
            return Err(Error::unsupported(format!("the LUKS segment has the type {:?}, not \"crypt\"", segment.kind))
                .with_hint("a linear segment is not encrypted at all, and others need special hardware"));
        }
        if segment.integrity.is_some() {
            return Err(Error::unsupported("the LUKS segment has integrity tags, which are not supported"));
        }
        if let Some(flag) = segment.flags.first() {
            return Err(Error::unsupported(format!("the LUKS segment has the flag {flag:?}, which is not supported")));
        }
        if !segment.sector_size.is_power_of_two() || !(512..=4096).contains(&segment.sector_size) {
            return Err(Error::corrupt(format!("the LUKS segment has sectors of {} bytes", segment.sector_size)));
        }
        Ok(segment)
    }

    /// Returns the slots that hold the key of the segment, each with the length of that key.
    fn slots(&self) -> Result<Vec<(Slot, usize)>> {
        if self.keyslots.len() > MAX_SLOTS {
            let count = self.keyslots.len();
            return Err(Error::new(ErrorKind::TooLarge, format!("{count} LUKS key slots, allowed are {MAX_SLOTS}")));
        }
        let mut slots = Vec::new();
        for (name, keyslot) in &self.keyslots {
            let Some(digest) = self.digest(name)? else { continue };
            let Keyslot::Luks2(keyslot) = keyslot else { continue };
            slots.push((keyslot.priority, keyslot.checked(name, digest)?, keyslot.key_size));
        }
        slots.sort_by_key(|(priority, slot, _)| (std::cmp::Reverse(*priority), slot.number));
        Ok(slots.into_iter().map(|(_, slot, key_size)| (slot, key_size)).collect())
    }

    /// Returns the digest of the segment's key if slot `name` holds that key.
    fn digest(&self, name: &str) -> Result<Option<KeyDigest>> {
        for digest in self.digests.values() {
            let Digest::Pbkdf2 { keyslots, segments, hash, iterations, salt, digest } = digest else { continue };
            if !keyslots.iter().any(|slot| slot == name) || !segments.iter().any(|segment| segment == "0") {
                continue;
            }
            check_iterations("the digest of the LUKS key", *iterations)?;
            let value = bytes(digest)?;
            if !(16..=MAX_DIGEST).contains(&value.len()) {
                return Err(Error::corrupt(format!("the digest of the LUKS key has {} bytes", value.len())));
            }
            let (hash, iterations, salt) = (Hash::named(hash)?, *iterations, bytes(salt)?);
            return Ok(Some(KeyDigest { hash, iterations, salt, value }));
        }
        Ok(None)
    }
}

impl Segment {
    /// Returns the bytes of the disk that begins at byte `payload` of a file of `len` bytes, in whole sectors.
    fn size(&self, payload: u64, len: u64) -> Result<u64> {
        if self.size == "dynamic" {
            check_inside("the encrypted disk", payload, 0, len)?;
            return Ok((len - payload) / self.sector_size * self.sector_size);
        }
        let size = number(&self.size, "the size of the segment")?;
        if !size.is_multiple_of(self.sector_size) {
            return Err(Error::corrupt(format!("the LUKS segment has {size} bytes, which are no whole sectors")));
        }
        check_inside("the encrypted disk", payload, size, len)?;
        Ok(size)
    }
}

impl Luks2Keyslot {
    /// Returns the slot called `name`, which `digest` says holds the key of the segment.
    fn checked(&self, name: &str, digest: KeyDigest) -> Result<Slot> {
        let number_of_slot = number(name, "the name of a key slot")?;
        let what = format!("LUKS slot {number_of_slot}");
        if self.af.kind != "luks1" || self.af.stripes != STRIPES || self.area.kind != "raw" {
            return Err(Error::unsupported(format!("{what} is not kept in {STRIPES} stripes of a raw area")));
        }
        let (key_size, room) = (self.key_size, number(&self.area.size, &what)?);
        if !(16..=64).contains(&key_size) || room < material_length(key_size) as u64 {
            return Err(Error::corrupt(format!("{what} has {room} bytes of room for a key of {key_size} bytes")));
        }
        Ok(Slot {
            number: number_of_slot,
            kdf: self.kdf.checked(&what)?,
            offset: number(&self.area.offset, &what)?,
            cipher: Cipher::named(&self.area.encryption, self.area.key_size)?,
            hash: Hash::named(&self.af.hash)?,
            digest,
        })
    }
}

impl KeyDerivation {
    fn checked(&self, what: &str) -> Result<Kdf> {
        match self {
            Self::Pbkdf2 { hash, iterations, salt } => Kdf::pbkdf2(what, Hash::named(hash)?, *iterations, bytes(salt)?),
            Self::Argon2i { time, memory, cpus, salt } => {
                Kdf::argon2(what, Algorithm::Argon2i, (*time, *memory, *cpus), bytes(salt)?)
            }
            Self::Argon2id { time, memory, cpus, salt } => {
                Kdf::argon2(what, Algorithm::Argon2id, (*time, *memory, *cpus), bytes(salt)?)
            }
        }
    }
}

/// Checks how deep the brackets of `text` go; whether they match is seen by the parser.
fn check_depth(text: &[u8]) -> Result<()> {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => depth += 1,
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_DEPTH {
            return Err(Error::corrupt(format!(
                "the JSON text of the LUKS header has more than {MAX_DEPTH} objects and lists in one another"
            )));
        }
    }
    Ok(())
}

/// Returns a number that is written as text, as all large ones are here.
fn number(text: &str, what: &str) -> Result<u64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    digits
        .then(|| text.parse().ok())
        .flatten()
        .ok_or_else(|| Error::corrupt(format!("the LUKS header says {text:?} for {what}, which is no number")))
}

fn bytes(text: &str) -> Result<Vec<u8>> {
    STANDARD
        .decode(text)
        .map_err(|error| Error::corrupt(format!("the LUKS header has bad base64 in a salt or digest: {error}")))
}
