//! Definitions from TOML: what stands in the file, and the checks after which the rest of the crate need not doubt it.

use std::collections::BTreeMap;

use jiff::civil::Date;
use serde::Deserialize;
use url::Url;

use super::{Definitions, Distribution, Place, Trust, Version, sort};
use crate::error::{Error, Result};
use crate::pattern::is_file_name;
use crate::signature::Key;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    mirror: Option<String>,
    #[serde(default)]
    key: Vec<KeyEntry>,
    #[serde(default)]
    distribution: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyEntry {
    name: String,
    file: String,
    fingerprint: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    title: String,
    os_distro: String,
    architectures: BTreeMap<String, BTreeMap<String, String>>,
    verification: Verification,
    signature: Option<String>,
    #[serde(default)]
    keys: Vec<String>,
    folder: Option<String>,
    file: Option<String>,
    checksums: Option<String>,
    streams: Option<String>,
    index: Option<String>,
    product: Option<String>,
    ftype: Option<String>,
    version: Vec<VersionEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct VersionEntry {
    version: String,
    #[serde(default)]
    codename: String,
    released: Option<String>,
    end_of_life: Option<String>,
    folder: Option<String>,
    file: Option<String>,
    checksums: Option<String>,
    keys: Option<Vec<String>>,
    architectures: Option<BTreeMap<String, BTreeMap<String, String>>>,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum Verification {
    Clearsigned,
    Detached,
    Tls,
}

/// Reads a whole file.
pub(super) fn definitions(text: &str, key: impl Fn(&str) -> Result<String>) -> Result<Definitions> {
    let file: File =
        toml::from_str(text).map_err(|error| Error::new("the definitions cannot be read").caused_by(error))?;
    let read = |entry: &KeyEntry| Ok((entry.name.clone(), Key::read(&entry.fingerprint, &key(&entry.file)?)?));
    let keys: BTreeMap<String, Key> = file.key.iter().map(read).collect::<Result<_>>()?;
    let distributions = file.distribution.iter().map(|entry| distribution(entry, &keys)).collect::<Result<Vec<_>>>()?;
    Ok(Definitions { distributions, mirror: file.mirror })
}

fn distribution(entry: &Entry, keys: &BTreeMap<String, Key>) -> Result<Distribution> {
    let inside = |error: Error| Error::new(format!("the definition of `{}` is not whole", entry.name)).caused_by(error);
    // Names become parts of names of images and values of properties.
    if !is_file_name(&entry.name) || entry.name.contains(':') {
        return Err(inside(Error::new("its name holds more than letters, digits and dashes")));
    }
    let mut versions =
        entry.version.iter().map(|own| version(entry, own, keys).map_err(inside)).collect::<Result<Vec<_>>>()?;
    if versions.is_empty() {
        return Err(inside(Error::new("it has no version")));
    }
    sort(&mut versions);
    let (name, title, os_distro) = (entry.name.clone(), entry.title.clone(), entry.os_distro.clone());
    Ok(Distribution { name, title, os_distro, versions })
}

fn version(entry: &Entry, own: &VersionEntry, keys: &BTreeMap<String, Key>) -> Result<Version> {
    let version = Version {
        version: own.version.clone(),
        codename: own.codename.clone(),
        released: date(own.released.as_deref())?,
        end_of_life: date(own.end_of_life.as_deref())?,
        words: own.architectures.as_ref().unwrap_or(&entry.architectures).clone(),
        place: place(entry, own)?,
        trust: trust(entry, own, keys)?,
    };
    if !is_file_name(&version.version) {
        return Err(Error::new(format!("`{}` is no version", version.version)));
    }
    for arch in version.words.keys() {
        check(&version, arch)?;
    }
    Ok(version)
}

fn date(text: Option<&str>) -> Result<Option<Date>> {
    let parse = |text: &str| {
        text.parse().map_err(|error| Error::new(format!("`{text}` is no day as 2026-12-31")).caused_by(error))
    };
    text.map(parse).transpose()
}

fn place(entry: &Entry, own: &VersionEntry) -> Result<Place> {
    let either = |own: &Option<String>, all: &Option<String>| own.clone().or_else(|| all.clone());
    let folder =
        (either(&own.folder, &entry.folder), either(&own.file, &entry.file), either(&own.checksums, &entry.checksums));
    let streams = (entry.streams.clone(), entry.index.clone(), entry.product.clone(), entry.ftype.clone());
    match (folder, streams) {
        ((Some(folder), Some(file), Some(checksums)), (None, None, None, None)) => {
            Ok(Place::Folder { folder, file, checksums })
        }
        ((None, None, None), (Some(base), Some(index), Some(product), Some(ftype))) => {
            Ok(Place::Streams { base, index, product, ftype })
        }
        _ => Err(Error::new(
            "it needs either `folder`, `file` and `checksums`, or `streams`, `index`, `product` and `ftype`",
        )),
    }
}

fn trust(entry: &Entry, own: &VersionEntry, keys: &BTreeMap<String, Key>) -> Result<Trust> {
    let named = own.keys.as_ref().unwrap_or(&entry.keys).iter();
    let own = named.map(|name| keys.get(name).cloned().ok_or_else(|| Error::new(format!("there is no key `{name}`"))));
    let own = own.collect::<Result<Vec<Key>>>()?;
    match (entry.verification, entry.signature.clone(), own.is_empty()) {
        (Verification::Clearsigned, None, false) => Ok(Trust::Clearsigned(own)),
        (Verification::Detached, Some(signature), false) if entry.folder.is_some() => {
            Ok(Trust::Detached(signature, own))
        }
        (Verification::Tls, None, true) => Ok(Trust::Tls),
        _ => Err(Error::new(
            "`keys` are needed where something is signed and only there, and `signature` where that lies in a file of its own",
        )),
    }
}

/// Checks that the names for one architecture expand, and that the addresses have TLS.
fn check(version: &Version, arch: &str) -> Result<()> {
    if version.arch_word(arch).is_none() {
        return Err(Error::new(format!("`{arch}` lacks the publisher's word, `arch`")));
    }
    let (address, names) = match version.place(arch)? {
        Place::Folder { folder, file, checksums } => (folder, vec![file, checksums.replace("{file}", "file")]),
        Place::Streams { base, .. } => (base, Vec::new()),
    };
    let url =
        Url::parse(&address).map_err(|error| Error::new(format!("`{address}` is no address")).caused_by(error))?;
    // TLS for all: where a list is signed, it still keeps others from seeing who fetches what.
    if url.scheme() != "https" || !address.ends_with('/') || url.query().is_some() {
        return Err(Error::new(format!("`{address}` is not the address of a folder over https")));
    }
    match names.iter().find(|name| !is_file_name(name) || name.contains('{') || name.matches('*').count() > 1) {
        None => Ok(()),
        Some(name) => Err(Error::new(format!("`{name}` is no name of a file with at most one `*`"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
        [[distribution]]
        name = "own"
        title = "Own"
        os_distro = "own"
        verification = "tls"
        folder = "https://images.example.org/{version}/"
        file = "own-{version}-*-{arch}.img"
        checksums = "{file}.sha256"
        architectures = { x86_64 = { arch = "amd64" } }
        [[distribution.version]]
        version = "10"
        end_of_life = "2031-01-01"
        [[distribution.version]]
        version = "9"
    "#;

    fn read(text: &str) -> Result<Definitions> {
        definitions(text, |_| Err(Error::new("no key")))
    }

    #[test]
    fn what_is_built_in_is_whole() {
        let built_in = Definitions::built_in().unwrap();
        let names: Vec<&str> = built_in.all().map(|known| known.name.as_str()).collect();
        for name in [
            "debian",
            "ubuntu",
            "fedora",
            "centos-stream",
            "rocky",
            "almalinux",
            "opensuse-leap",
            "archlinux",
            "alpine",
            "freebsd",
            "amazon-linux",
            "cirros",
        ] {
            assert!(names.contains(&name), "{name}");
        }
        for distribution in built_in.all() {
            for version in &distribution.versions {
                let told = format!("{} {}", distribution.name, version.version);
                assert!(version.architectures().any(|arch| arch == "x86_64"), "{told}");
                assert!(version.end_of_life >= version.released, "{told}");
            }
        }
        assert!(built_in.find("debian", Some("bookworm")).unwrap().1.version == "12");
        assert_eq!(built_in.find("debian", None).unwrap().1.version, "13");
        assert!(built_in.find("debian", Some("99")).unwrap_err().hint().unwrap().contains("11, 12, 13"));
        assert!(built_in.find("plan9", None).is_err());
    }

    #[test]
    fn own_definitions_take_the_place_of_known_ones() {
        let mut known = Definitions::built_in().unwrap();
        let before = known.all().count();
        known.extend(TEXT, |_| Err(Error::new("no key"))).unwrap();
        assert_eq!(known.all().count(), before + 1);
        assert_eq!(known.find("own", None).unwrap().1.version, "10", "10 is newer than 9");
        known.extend(&TEXT.replace("\"own\"\n", "\"debian\"\n"), |_| Err(Error::new("no key"))).unwrap();
        assert_eq!(known.find("debian", None).unwrap().0.title, "Own");
        assert_eq!(known.all().count(), before + 1);
    }

    #[test]
    fn what_is_not_whole_is_refused() {
        let check = |from: &str, to: &str| {
            assert!(TEXT.contains(from), "{from}");
            assert!(read(&TEXT.replace(from, to)).is_err(), "{from} {to}");
        };
        assert!(read(TEXT).is_ok());
        check("https://", "http://");
        check("{version}/\"", "{version}\"");
        check("{arch}.img", "{machine}.img");
        check("own-{version}-*-{arch}.img", "../{version}-{arch}.img");
        check("own-{version}-*", "own-*-*");
        check("\"tls\"", "\"none\"");
        check("\"tls\"", "\"clearsigned\"");
        check("\"tls\"", "\"tls\"\nkeys = [\"nobody\"]");
        check("\"tls\"", "\"tls\"\nstreams = \"https://images.example.org/\"");
        check("\"tls\"", "\"tls\"\ncolour = \"blue\"");
        check("2031-01-01", "2031-13-01");
        check("name = \"own\"", "name = \"own/own\"");
        check("arch = \"amd64\"", "machine = \"amd64\"");
    }

    #[test]
    fn a_key_must_have_the_fingerprint_that_was_pinned() {
        let pinned = |fingerprint: &str| {
            let text = format!("[[key]]\nname = \"a\"\nfile = \"a.asc\"\nfingerprint = \"{fingerprint}\"\n");
            definitions(&text, |_| Ok(include_str!("../../keys/fedora-44.asc").to_owned()))
        };
        assert!(pinned("36F612DCF27F7D1A48A835E4DBFCF71C6D9F90A6").is_ok());
        assert!(pinned("36F612DCF27F7D1A48A835E4DBFCF71C6D9F90A7").is_err());
        assert!(pinned("DBFCF71C6D9F90A6").is_err(), "a short id is no fingerprint");
    }
}
