//! The definitions: which distributions there are, where their images lie, and whose signatures count; read from TOML.
//!
//! `images.toml` is built in; a site may add a file of its own, which replaces what has the same name. What is read here is
//! whole: every name expands, every address has TLS, every key has the fingerprint that was pinned.

mod read;

use std::collections::BTreeMap;

use jiff::civil::Date;

use crate::error::{Error, Result};
use crate::pattern::{fill, newer};
use crate::signature::Key;

const BUILT_IN: &str = include_str!("../images.toml");
const BUILT_IN_KEYS: [(&str, &str); 7] = [
    ("almalinux-8.asc", include_str!("../keys/almalinux-8.asc")),
    ("almalinux-9.asc", include_str!("../keys/almalinux-9.asc")),
    ("almalinux-10.asc", include_str!("../keys/almalinux-10.asc")),
    ("arch-boxes.asc", include_str!("../keys/arch-boxes.asc")),
    ("fedora-43.asc", include_str!("../keys/fedora-43.asc")),
    ("fedora-44.asc", include_str!("../keys/fedora-44.asc")),
    ("ubuntu-images.asc", include_str!("../keys/ubuntu-images.asc")),
];

/// Every distribution that is known.
#[derive(Debug)]
pub struct Definitions {
    distributions: Vec<Distribution>,
    /// What stands in for the hosts of all addresses, where a site says so.
    pub mirror: Option<String>,
}

/// One distribution.
#[derive(Debug, Clone)]
pub struct Distribution {
    /// What is typed.
    pub name: String,
    /// What people call it.
    pub title: String,
    /// What `os_distro` of its images is.
    pub os_distro: String,
    /// Oldest first.
    pub versions: Vec<Version>,
}

/// One version of a distribution.
#[derive(Debug, Clone)]
pub struct Version {
    /// Its number, or `rolling`.
    pub version: String,
    /// Its other name; empty where it has none.
    pub codename: String,
    /// When it came out.
    pub released: Option<Date>,
    /// Until when its publisher looks after it.
    pub end_of_life: Option<Date>,
    /// The publisher's words for each architecture.
    words: BTreeMap<String, BTreeMap<String, String>>,
    place: Place,
    pub(crate) trust: Trust,
}

/// Where images lie; addresses and names are patterns.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    Folder { folder: String, file: String, checksums: String },
    Streams { base: String, index: String, product: String, ftype: String },
}

/// Why what a list says is believed.
#[derive(Debug, Clone)]
pub(crate) enum Trust {
    Clearsigned(Vec<Key>),
    /// The signature lies in a file, whose name is a pattern.
    Detached(String, Vec<Key>),
    Tls,
}

impl Definitions {
    /// Returns what is built in.
    ///
    /// # Errors
    ///
    /// Never fails in a build whose tests passed.
    pub fn built_in() -> Result<Self> {
        let key = |file: &str| {
            let known = BUILT_IN_KEYS.iter().find(|(name, _)| *name == file);
            known
                .map(|(_, text)| (*text).to_owned())
                .ok_or_else(|| Error::new(format!("the key `{file}` is not built in")))
        };
        read::definitions(BUILT_IN, key)
    }

    /// Adds what `text` defines; what has the name of something known takes its place. `key` reads a file of a key.
    ///
    /// # Errors
    ///
    /// Fails where the text is no definition, or is not whole.
    pub fn extend(&mut self, text: &str, key: impl Fn(&str) -> Result<String>) -> Result<()> {
        let more = read::definitions(text, key)?;
        self.distributions.retain(|known| more.distributions.iter().all(|new| new.name != known.name));
        self.distributions.extend(more.distributions);
        self.mirror = more.mirror.or_else(|| self.mirror.take());
        Ok(())
    }

    /// Returns every distribution.
    pub fn all(&self) -> impl Iterator<Item = &Distribution> {
        self.distributions.iter()
    }

    /// Finds a distribution by name, and a version of it by number or other name; the newest one where none is told.
    ///
    /// # Errors
    ///
    /// Fails where there is none of that name.
    pub fn find(&self, name: &str, version: Option<&str>) -> Result<(&Distribution, &Version)> {
        let distribution = self.all().find(|known| known.name == name);
        let distribution = distribution.ok_or_else(|| {
            Error::new(format!("no distribution `{name}`")).with_hint("`molde catalog list` shows what is known")
        })?;
        let mut versions = distribution.versions.iter().rev();
        let found = versions.find(|known| version.is_none_or(|told| known.version == told || known.codename == told));
        let found = found.ok_or_else(|| {
            let known: Vec<&str> = distribution.versions.iter().map(|known| known.version.as_str()).collect();
            Error::new(format!("no version `{}` of {}", version.unwrap_or_default(), distribution.title))
                .with_hint(format!("known are {}; another one needs a definition", known.join(", ")))
        })?;
        Ok((distribution, found))
    }
}

impl Version {
    /// Returns the architectures that there are images for, in Glance's words.
    pub fn architectures(&self) -> impl Iterator<Item = &str> {
        self.words.keys().map(String::as_str)
    }

    /// Returns how what is fetched is verified: by whose signature, or by TLS alone.
    #[must_use]
    pub fn verified_by(&self) -> &'static str {
        match &self.trust {
            Trust::Clearsigned(_) | Trust::Detached(..) => "OpenPGP",
            Trust::Tls => "TLS",
        }
    }

    /// Returns the publisher's own word for an architecture.
    pub(crate) fn arch_word(&self, arch: &str) -> Option<&str> {
        self.words.get(arch)?.get("arch").map(String::as_str)
    }

    /// Returns where the images for one architecture lie; all but `*` and `{file}` is filled in.
    pub(crate) fn place(&self, arch: &str) -> Result<Place> {
        let own = self.words.get(arch).ok_or_else(|| {
            let known: Vec<&str> = self.architectures().collect();
            Error::new(format!("there is no image for `{arch}`"))
                .with_hint(format!("there is one for {}", known.join(", ")))
        })?;
        let mut words: BTreeMap<&str, &str> = own.iter().map(|(word, value)| (word.as_str(), value.as_str())).collect();
        words.insert("version", &self.version);
        words.insert("codename", &self.codename);
        // Filled once the name of the image is known.
        words.insert("file", "{file}");
        match &self.place {
            Place::Folder { folder, file, checksums } => Ok(Place::Folder {
                folder: fill(folder, &words)?,
                file: fill(file, &words)?,
                checksums: fill(checksums, &words)?,
            }),
            Place::Streams { base, index, product, ftype } => Ok(Place::Streams {
                base: fill(base, &words)?,
                index: fill(index, &words)?,
                product: fill(product, &words)?,
                ftype: fill(ftype, &words)?,
            }),
        }
    }
}

impl Trust {
    pub(crate) fn is_signed(&self) -> bool {
        !matches!(self, Self::Tls)
    }
}

/// Orders versions from the oldest to the newest.
pub(crate) fn sort(versions: &mut [Version]) {
    versions.sort_by(|one, other| newer(&one.version, &other.version));
}
