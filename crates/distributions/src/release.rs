//! The newest image of a version: found in a list that is believed, and compared with what was published before.

use std::cmp::Ordering;

use jiff::Timestamp;
use jiff::civil::Date;

use crate::checksums::{self, Checksum};
use crate::definitions::{Distribution, Place, Trust, Version};
use crate::error::{Error, Result};
use crate::mirror::Mirror;
use crate::pattern::{is_file_name, matched, newer};
use crate::signature::{self, Signed};
use crate::streams::{self, Sought};

/// More names in a folder are not looked at.
const NAMES_MAX: usize = 100_000;

/// What is looked for.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'w> {
    /// Of which distribution.
    pub distribution: &'w Distribution,
    /// Which version of it.
    pub version: &'w Version,
    /// For which architecture, in Glance's word.
    pub arch: &'w str,
}

/// An image that a list promises.
#[derive(Debug, Clone)]
pub struct Release {
    /// Name of the file.
    pub file: String,
    /// Its address at the publisher; a mirror may stand in for that.
    pub source: String,
    /// What the publisher numbers builds by, where that is told.
    pub serial: Option<String>,
    /// What its bytes must have.
    pub checksum: Checksum,
    /// How many bytes it has, where that is told.
    pub size: Option<u64>,
    /// Why all this is believed.
    pub proof: Proof,
    /// When the list was signed, or written where that alone is told.
    pub dated: Option<Timestamp>,
    /// Until when its publisher looks after it.
    pub end_of_life: Option<Date>,
    /// Whether the publisher says that it does so still.
    pub supported: bool,
}

/// Why a list is believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// Signed by the key of this fingerprint.
    OpenPgp(String),
    /// It came through TLS from where it should.
    Tls,
}

/// What was published before.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// Its serial.
    pub serial: Option<String>,
    /// When its list was signed.
    pub dated: Option<Timestamp>,
    /// Its sum.
    pub checksum: Option<Checksum>,
}

/// A text that is believed.
struct Believed {
    text: String,
    proof: Proof,
    /// When it was signed.
    at: Option<Timestamp>,
}

impl Release {
    /// Finds the newest image of what is wanted.
    ///
    /// # Errors
    ///
    /// Fails where the mirror does not have it, or has a list that cannot be believed.
    pub async fn find(mirror: &Mirror, wanted: Wanted<'_>, now: Timestamp) -> Result<Self> {
        let found = match wanted.version.place(wanted.arch)? {
            Place::Folder { folder, file, checksums } => {
                in_folder(mirror, wanted, &folder, (&file, &checksums), now).await
            }
            Place::Streams { base, index, product, ftype } => {
                in_streams(mirror, wanted, (&base, &index), (&product, &ftype), now).await
            }
        };
        let Wanted { distribution, version, arch } = wanted;
        found.map_err(|error| {
            let hint = error.hint().map(str::to_owned);
            let told = format!("cannot use {} {} for {arch}", distribution.title, version.version);
            let told = Error::new(told).caused_by(error);
            hint.into_iter().fold(told, Error::with_hint)
        })
    }

    /// Whether somebody signed for it.
    #[must_use]
    pub fn is_signed(&self) -> bool {
        self.proof != Proof::Tls
    }

    /// Returns whether it is newer than what was published before; false where it is the same.
    ///
    /// # Errors
    ///
    /// Fails where it is older: a mirror that shows yesterday's signed list is behind, or wants yesterday's holes back.
    pub fn is_newer_than(&self, known: &Known) -> Result<bool> {
        if known.checksum.as_ref() == Some(&self.checksum) {
            return Ok(false);
        }
        let stale = |what: &str, here: &str, there: &str| {
            Error::new(format!(
                "the mirror's `{}` is older than what was published: {what} {here}, not {there}",
                self.file
            ))
            .with_hint("the mirror is behind, or shows an old list on purpose; use another mirror")
        };
        if let (Some(here), Some(there)) = (&self.serial, &known.serial)
            && newer(here, there) == Ordering::Less
        {
            return Err(stale("its number is", here, there));
        }
        match (self.dated, known.dated) {
            (Some(here), Some(there)) if here < there => {
                Err(stale("its list is of", &here.to_string(), &there.to_string()))
            }
            _ => Ok(true),
        }
    }

    /// Checks that the list is not older than so many days; one that bears no date passes.
    ///
    /// # Errors
    ///
    /// Fails where it is.
    pub fn check_age(&self, days: u32, now: Timestamp) -> Result<()> {
        let Some(dated) = self.dated else { return Ok(()) };
        let age = now.duration_since(dated).as_hours() / 24;
        if age <= i64::from(days) {
            return Ok(());
        }
        Err(Error::new(format!(
            "the mirror's list of `{}` is {age} days old, more than the {days} that it may be",
            self.file
        ))
        .with_hint("the mirror is behind, or there was no build for so long; then pass a greater `--max-age`"))
    }
}

/// Fetches a list and believes it if whoever should have signed it did; nothing that is not signed comes out.
async fn believed(mirror: &Mirror, address: &str, trust: &Trust, now: Timestamp) -> Result<Believed> {
    let bytes = mirror.list(address, trust.is_signed()).await?;
    let text = |bytes| String::from_utf8(bytes).map_err(|_| Error::new(format!("`{address}` is no text in UTF-8")));
    let by = |Signed { by, at }: Signed| (Proof::OpenPgp(by), Some(at));
    let ((proof, at), text) = match trust {
        Trust::Tls => ((Proof::Tls, None), text(bytes)?),
        Trust::Clearsigned(keys) => {
            let (inner, signed) = signature::clearsigned(&text(bytes)?, keys, now)?;
            (by(signed), inner)
        }
        Trust::Detached(pattern, keys) => {
            let (folder, name) = address.rsplit_once('/').unwrap_or_default();
            let place = format!("{folder}/{}", pattern.replace("{checksums}", name));
            let signature = mirror.list(&place, true).await?;
            (by(signature::detached(&bytes, &signature, keys, now)?), text(bytes)?)
        }
    };
    Ok(Believed { text, proof, at })
}

async fn in_folder(
    mirror: &Mirror,
    wanted: Wanted<'_>,
    folder: &str,
    (pattern, checksums): (&str, &str),
    now: Timestamp,
) -> Result<Release> {
    let trust = &wanted.version.trust;
    // A list of one image is named after it, so the image is found first.
    let single = checksums.contains("{file}");
    let file = if single { resolved(mirror, folder, pattern, trust).await? } else { pattern.to_owned() };
    let checksums = resolved(mirror, folder, &checksums.replace("{file}", &file), trust).await?;
    let list = believed(mirror, &format!("{folder}{checksums}"), trust, now).await?;
    let sums = checksums::parse(&list.text, single.then_some(file.as_str()))?;
    let named = sums.into_iter().filter_map(|(name, sum)| {
        matched(&file, &name)?;
        Some((matched(pattern, &name)?.to_owned(), name, sum))
    });
    let newest = named.max_by(|(one, ..), (other, ..)| newer(one, other));
    let (serial, name, checksum) =
        newest.ok_or_else(|| Error::new(format!("`{checksums}` has no SHA-256 and no SHA-512 of `{file}`")))?;
    Ok(Release {
        source: format!("{folder}{name}"),
        serial: Some(serial).filter(|serial| !serial.is_empty()),
        file: name,
        checksum,
        size: None,
        proof: list.proof,
        dated: list.at,
        end_of_life: wanted.version.end_of_life,
        supported: true,
    })
}

/// Returns the newest name in a folder that a pattern matches, as its listing tells; the pattern itself where it has no `*`.
async fn resolved(mirror: &Mirror, folder: &str, pattern: &str, trust: &Trust) -> Result<String> {
    if !pattern.contains('*') {
        return Ok(pattern.to_owned());
    }
    let listing = mirror.list(folder, trust.is_signed()).await?;
    let listing = String::from_utf8_lossy(&listing);
    let newest = links(&listing)
        .filter_map(|name| Some((matched(pattern, name)?, name)))
        .max_by(|(one, _), (other, _)| newer(one, other));
    newest
        .map(|(_, name)| name.to_owned())
        .ok_or_else(|| Error::new(format!("`{folder}` lists nothing that is called `{pattern}`")))
}

/// The names of files that a page links to in its own folder.
fn links(page: &str) -> impl Iterator<Item = &str> {
    let targets = page.split("href=").skip(1).filter_map(|rest| {
        let quote = rest.chars().next().filter(|quote| matches!(quote, '"' | '\''))?;
        rest[1..].split(quote).next()
    });
    targets.map(|target| target.strip_prefix("./").unwrap_or(target)).filter(|name| is_file_name(name)).take(NAMES_MAX)
}

async fn in_streams(
    mirror: &Mirror,
    wanted: Wanted<'_>,
    (base, index): (&str, &str),
    (product, ftype): (&str, &str),
    now: Timestamp,
) -> Result<Release> {
    let version = wanted.version;
    let index = believed(mirror, &format!("{base}{index}"), &version.trust, now).await?;
    let path = streams::products_path(&index.text, product)?;
    let list = believed(mirror, &format!("{base}{path}"), &version.trust, now).await?;
    let arch = version.arch_word(wanted.arch).unwrap_or(wanted.arch);
    let found = streams::newest(&list.text, &Sought { product, version: &version.version, arch, ftype })?;
    let file = found.path.rsplit('/').next().unwrap_or_default().to_owned();
    Ok(Release {
        file,
        source: format!("{base}{}", found.path),
        serial: Some(found.serial),
        checksum: found.checksum,
        size: Some(found.size),
        proof: list.proof,
        dated: list.at.or(found.updated),
        end_of_life: found.end_of_life.or(version.end_of_life),
        supported: found.supported,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release(serial: Option<&str>, dated: Option<&str>, sum: char) -> Release {
        Release {
            file: "a.img".into(),
            source: "https://example.org/a.img".into(),
            serial: serial.map(str::to_owned),
            checksum: Checksum::from_hex(&sum.to_string().repeat(64)).unwrap(),
            size: None,
            proof: Proof::Tls,
            dated: dated.map(|at| at.parse().unwrap()),
            end_of_life: None,
            supported: true,
        }
    }

    fn known(serial: Option<&str>, dated: Option<&str>, sum: char) -> Known {
        let Release { serial, dated, checksum, .. } = release(serial, dated, sum);
        Known { serial, dated, checksum: Some(checksum) }
    }

    #[test]
    fn what_is_older_is_refused() {
        let (early, late) = (Some("2026-01-01T00:00:00Z"), Some("2026-02-01T00:00:00Z"));
        let compare = |new: Release, old: Known| new.is_newer_than(&old).ok();
        assert_eq!(compare(release(Some("2"), late, 'a'), known(Some("1"), early, 'b')), Some(true));
        assert_eq!(compare(release(Some("10"), None, 'a'), known(Some("9"), None, 'b')), Some(true));
        assert_eq!(compare(release(None, late, 'a'), known(None, early, 'b')), Some(true));
        assert_eq!(compare(release(None, None, 'a'), known(None, None, 'b')), Some(true));
        assert_eq!(compare(release(Some("1"), late, 'a'), known(Some("2"), early, 'b')), None);
        assert_eq!(compare(release(Some("2"), early, 'a'), known(Some("1"), late, 'b')), None);
        assert_eq!(compare(release(None, early, 'a'), known(None, late, 'b')), None);
        // The same bytes are the same image, whatever is written about them.
        assert_eq!(compare(release(Some("1"), early, 'a'), known(Some("2"), late, 'a')), Some(false));
    }

    #[test]
    fn a_list_has_an_age() {
        let now = "2026-02-01T00:00:00Z".parse().unwrap();
        let dated = release(None, Some("2026-01-01T00:00:00Z"), 'a');
        assert!(dated.check_age(31, now).is_ok());
        assert!(dated.check_age(30, now).unwrap_err().to_string().contains("31 days old"));
        assert!(release(None, None, 'a').check_age(0, now).is_ok());
    }

    #[test]
    fn a_listing_is_its_links() {
        let page = r#"<a href="../">up</a><a href="a-1.img">a</a> <A HREF='x'> <a href='./b-2.img'>b</a>
            <a href="/etc/passwd">c</a><a href="https://elsewhere/d-1.img">d</a><a href=e><a href="f"#;
        assert_eq!(links(page).collect::<Vec<_>>(), ["a-1.img", "b-2.img", "f"]);
        assert_eq!(links("").count(), 0);
        assert_eq!(links("href=").count(), 0);
    }
}
