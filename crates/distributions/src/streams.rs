//! Simplestreams: the index of a mirror (`index:1.0`), its products (`products:1.0`), and the newest version of one.
//!
//! The format is told by the project of that name (`doc/README` of simplestreams). Fields that are not needed are passed
//! over; those that are come from the mirror and are checked here.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::fmt::rfc2822;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::address::is_path;
use crate::checksums::Checksum;
use crate::error::{Error, Result};
use crate::pattern::{is_file_name, newer};

/// What is looked for in the products.
pub(crate) struct Sought<'s> {
    pub(crate) product: &'s str,
    pub(crate) version: &'s str,
    /// The mirror's own word.
    pub(crate) arch: &'s str,
    pub(crate) ftype: &'s str,
}

/// The newest version of a product.
#[derive(Debug)]
pub(crate) struct Found {
    /// Below the folder of the mirror.
    pub(crate) path: String,
    pub(crate) serial: String,
    pub(crate) checksum: Checksum,
    pub(crate) size: u64,
    pub(crate) end_of_life: Option<Date>,
    /// Whether the publisher still looks after it.
    pub(crate) supported: bool,
    /// When the list was written, by its own word.
    pub(crate) updated: Option<Timestamp>,
}

#[derive(Deserialize)]
struct Index {
    format: String,
    index: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    datatype: String,
    format: String,
    path: String,
    #[serde(default)]
    products: Vec<String>,
}

#[derive(Deserialize)]
struct Products {
    format: String,
    #[serde(default)]
    updated: String,
    products: BTreeMap<String, Product>,
}

#[derive(Deserialize)]
struct Product {
    #[serde(default)]
    arch: String,
    #[serde(default)]
    aliases: String,
    #[serde(default)]
    support_eol: String,
    #[serde(default = "yes")]
    supported: bool,
    versions: BTreeMap<String, Edition>,
}

#[derive(Deserialize)]
struct Edition {
    items: BTreeMap<String, Item>,
}

#[derive(Deserialize)]
struct Item {
    ftype: String,
    #[serde(default)]
    path: String,
    #[serde(default)]
    size: u64,
    sha256: Option<String>,
    sha512: Option<String>,
}

fn yes() -> bool {
    true
}

fn json<T: DeserializeOwned>(text: &str, what: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| Error::new(format!("the {what} is in no known form")).caused_by(error))
}

/// Returns where the products lie that hold `product`; of several lists the one of whole images.
pub(crate) fn products_path(text: &str, product: &str) -> Result<String> {
    let index: Index = json(text, "index of the streams")?;
    if index.format != "index:1.0" {
        return Err(Error::new("the index of the streams is in a version that is not known here"));
    }
    let holds = |entry: &&Entry| {
        entry.datatype == "image-downloads"
            && entry.format == "products:1.0"
            && entry.products.iter().any(|known| known == product)
    };
    let entry = index.index.values().find(holds);
    let entry = entry.ok_or_else(|| Error::new(format!("the index of the streams does not hold `{product}`")))?;
    if !is_path(&entry.path) {
        return Err(Error::new("the index of the streams leads out of its folder"));
    }
    Ok(entry.path.clone())
}

/// Returns the newest version of what is sought; an edition that lacks the file is passed over.
pub(crate) fn newest(text: &str, sought: &Sought<'_>) -> Result<Found> {
    let Sought { product: name, version, arch, ftype } = *sought;
    let list: Products = json(text, "list of products")?;
    if list.format != "products:1.0" {
        return Err(Error::new("the list of products is in a version that is not known here"));
    }
    let also = |product: &&Product| product.arch == arch && product.aliases.split(',').any(|alias| alias == version);
    let product = list.products.get(name).or_else(|| list.products.values().find(also));
    let product = product.ok_or_else(|| Error::new(format!("the list of products does not hold `{name}`")))?;
    let editions = product.versions.iter().filter_map(|(serial, edition)| {
        let item = edition.items.values().find(|item| item.ftype == ftype)?;
        Some((serial, item))
    });
    let newest = editions.max_by(|(one, _), (other, _)| newer(one, other));
    let (serial, item) = newest.ok_or_else(|| Error::new(format!("`{name}` has no file of the kind `{ftype}`")))?;
    let sum = [&item.sha512, &item.sha256].into_iter().flatten().find_map(|digits| Checksum::from_hex(digits));
    let checksum = sum.ok_or_else(|| Error::new(format!("`{name}` {serial} has no SHA-256 and no SHA-512")))?;
    if !is_path(&item.path) || !is_file_name(serial) {
        return Err(Error::new(format!("the list of products leads out of its folder at `{name}`")));
    }
    if item.size == 0 {
        return Err(Error::new(format!("`{name}` {serial} has no size")));
    }
    Ok(Found {
        path: item.path.clone(),
        serial: serial.clone(),
        checksum,
        size: item.size,
        end_of_life: product.support_eol.parse().ok(),
        supported: product.supported,
        updated: rfc2822::parse(&list.updated).ok().map(|at| at.timestamp()),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SUM: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const SOUGHT: Sought<'_> =
        Sought { product: "org.example:server:24.04:amd64", version: "24.04", arch: "amd64", ftype: "disk1.img" };

    fn index() -> String {
        r#"{"format": "index:1.0", "updated": "x", "index": {
            "a:aws": {"datatype": "image-ids", "format": "products:1.0", "path": "streams/v1/aws.json",
                "products": ["org.example:server:24.04:amd64"]},
            "a:download": {"datatype": "image-downloads", "format": "products:1.0", "path": "streams/v1/a:download.json",
                "products": ["org.example:server:24.04:amd64"]}}}"#
            .to_owned()
    }

    fn products() -> String {
        format!(
            r#"{{"format": "products:1.0", "updated": "Wed, 01 May 2024 13:31:26 +0000", "products": {{
            "org.example:server:24.04:amd64": {{"arch": "amd64", "aliases": "24.04,n,noble", "support_eol": "2029-05-31",
                "supported": true, "versions": {{
                "20240423": {{"items": {{"disk1.img": {{"ftype": "disk1.img", "path": "n/old.img", "size": 1,
                    "sha256": "{SUM}"}}}}}},
                "20240501.1": {{"items": {{
                    "root": {{"ftype": "root.tar.xz", "path": "n/root.tar.xz", "size": 2, "sha256": "{SUM}"}},
                    "disk1.img": {{"ftype": "disk1.img", "path": "n/new.img", "size": 3, "sha256": "{SUM}", "md5": "x"}}}}}},
                "20240601": {{"items": {{"root": {{"ftype": "root.tar.xz"}}}}}}}}}}}}}}"#
        )
    }

    #[test]
    fn the_newest_edition_that_has_the_file_is_found() {
        assert_eq!(products_path(&index(), SOUGHT.product).unwrap(), "streams/v1/a:download.json");
        let found = newest(&products(), &SOUGHT).unwrap();
        assert_eq!((found.path.as_str(), found.serial.as_str(), found.size), ("n/new.img", "20240501.1", 3));
        assert_eq!(found.end_of_life, Some(Date::constant(2029, 5, 31)));
        assert_eq!(found.updated.unwrap().to_string(), "2024-05-01T13:31:26Z");
        let by_alias = Sought { product: "org.example:server:noble:amd64", version: "noble", ..SOUGHT };
        assert_eq!(newest(&products(), &by_alias).unwrap().serial, "20240501.1");
    }

    #[test]
    fn what_is_wrong_is_told() {
        let check = |from: &str, to: &str, expect: &str| {
            let told = newest(&products().replace(from, to), &SOUGHT).unwrap_err().to_string();
            assert!(told.contains(expect), "{from} {to}: {told}");
        };
        check("n/new.img", "../new.img", "leads out of its folder");
        check("n/new.img", "/etc/passwd", "leads out of its folder");
        check("n/new.img", "https://elsewhere/new.img", "leads out of its folder");
        check("\"size\": 3", "\"size\": 0", "has no size");
        check(SUM, "aa", "no SHA-256");
        check("products:1.0", "products:2.0", "not known here");
        check("disk1.img\", \"path", "other\", \"path", "no file of the kind");
        check("amd64", "arm64", "does not hold");
        check("{", "[", "in no known form");
        assert!(products_path(&index().replace("a:download.json", "../../x"), SOUGHT.product).is_err());
        assert!(products_path(&index(), "other").is_err());
        assert!(products_path(&index().replace("index:1.0", "index:9"), SOUGHT.product).is_err());
    }

    proptest! {
        #[test]
        fn no_text_is_a_panic(at in 0usize..1200, byte in 32u8..127) {
            for text in [index(), products()] {
                let mut bytes = text.into_bytes();
                if let Some(place) = bytes.get_mut(at) {
                    *place = byte;
                }
                let text = String::from_utf8_lossy(&bytes);
                if let Ok(path) = products_path(&text, SOUGHT.product) {
                    prop_assert!(is_path(&path));
                }
                if let Ok(found) = newest(&text, &SOUGHT) {
                    prop_assert!(is_path(&found.path));
                }
            }
        }
    }
}
