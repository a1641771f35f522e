//! Which addresses may be asked: TLS always, plain HTTP only where a signature stands for the bytes and it was allowed.

use url::{Host, Url};

use crate::error::{Error, Result};
use crate::pattern::is_file_name;

/// Longest path below an address.
const PATH_MAX: usize = 1024;

/// Where the images are really fetched, and how far the way there is trusted.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// Stands in for the scheme and the host of every address.
    mirror: Option<Url>,
    /// Whether lists that are signed may come over plain HTTP from anywhere.
    insecure: bool,
}

impl Access {
    /// Reads the address of a mirror; with `insecure`, what is signed may come over plain HTTP.
    ///
    /// # Errors
    ///
    /// Fails where `mirror` is no address of a folder over HTTP or HTTPS.
    pub fn new(mirror: Option<&str>, insecure: bool) -> Result<Self> {
        let parse = |text: &str| {
            let wrong = || Error::new(format!("`{text}` is no address of a mirror"));
            let url = Url::parse(text).map_err(|error| wrong().caused_by(error))?;
            let plain = matches!(url.scheme(), "http" | "https") && url.has_host();
            if plain && url.query().is_none() && url.fragment().is_none() {
                return Ok(url);
            }
            Err(wrong().with_hint("write https://HOST, or https://HOST/FOLDER"))
        };
        Ok(Self { mirror: mirror.map(parse).transpose()?, insecure })
    }

    /// Returns where `official` is fetched.
    pub(crate) fn address(&self, official: &str, signed: bool) -> Result<Url> {
        let wrong = |error| Error::new(format!("`{official}` is no address")).caused_by(error);
        let mut url = Url::parse(official).map_err(wrong)?;
        if let Some(mirror) = &self.mirror {
            let path = format!("{}{}", mirror.path().trim_end_matches('/'), url.path());
            url = mirror.clone();
            url.set_path(&path);
        }
        if self.allows(&url, signed) {
            return Ok(url);
        }
        let shown = shown(&url);
        Err(if signed {
            Error::new(format!("`{shown}` is not fetched over plain HTTP"))
                .with_hint("use https, or pass `--insecure-mirror`: the signature is checked all the same")
        } else {
            Error::new(format!("`{shown}` is fetched through TLS or not at all: its publisher signs nothing else"))
        })
    }

    /// Whether an address may be asked, be it the first or one that a redirect leads to.
    pub(crate) fn allows(&self, url: &Url, signed: bool) -> bool {
        match url.scheme() {
            "https" => true,
            // A mirror elsewhere has no business with this machine, so loopback counts only where it was named.
            "http" => signed && (self.insecure || (is_loopback(url) && self.mirror.as_ref().is_some_and(is_loopback))),
            _ => false,
        }
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

/// An address as people may see it: without the name and the password of whoever asks.
pub(crate) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    // These fail for addresses that have no host, which have no password either.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.to_string()
}

/// Whether a text is a path down from a folder: no step up, no empty step, nothing that a URL reads otherwise.
pub(crate) fn is_path(path: &str) -> bool {
    path.len() <= PATH_MAX && path.split('/').all(|step| is_file_name(&step.replace(':', "-")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn fetched(access: &Access, signed: bool) -> Option<String> {
        access.address("https://cloud.example.org/images/a.img", signed).ok().map(String::from)
    }

    #[test]
    fn a_mirror_replaces_the_host() {
        let to = |mirror: &str| fetched(&Access::new(Some(mirror), false).unwrap(), true).unwrap();
        assert_eq!(fetched(&Access::default(), false).unwrap(), "https://cloud.example.org/images/a.img");
        assert_eq!(to("https://mirror.lan"), "https://mirror.lan/images/a.img");
        assert_eq!(to("https://mirror.lan:8443/os/"), "https://mirror.lan:8443/os/images/a.img");
        for wrong in ["mirror.lan", "ftp://mirror.lan", "file:///srv", "https://mirror.lan/?a=b", "https://"] {
            assert!(Access::new(Some(wrong), true).is_err(), "{wrong}");
        }
    }

    #[test]
    fn plain_http_is_for_signed_lists_alone() {
        let check = |mirror: &str, insecure: bool, signed: bool, expect: bool| {
            let access = Access::new(Some(mirror), insecure).unwrap();
            assert_eq!(fetched(&access, signed).is_some(), expect, "{mirror} {insecure} {signed}");
        };
        for (mirror, here) in [("http://127.0.0.1:8", true), ("http://[::1]:8", true), ("http://mirror.lan", false)] {
            check(mirror, false, true, here);
            check(mirror, true, true, true);
            check(mirror, false, false, false);
            check(mirror, true, false, false);
        }
        let remote = Access::new(Some("https://mirror.lan"), false).unwrap();
        assert!(!remote.allows(&Url::parse("http://127.0.0.1/").unwrap(), true), "a redirect to this machine");
        assert!(!remote.allows(&Url::parse("file:///etc/passwd").unwrap(), true));
    }

    #[test]
    fn passwords_are_not_shown() {
        assert_eq!(shown(&Url::parse("https://me:secret@mirror.lan/a").unwrap()), "https://mirror.lan/a");
    }

    #[test]
    fn paths_go_down() {
        for path in ["a", "streams/v1/com.ubuntu.cloud:released:download.sjson"] {
            assert!(is_path(path), "{path}");
        }
        for path in ["", "/a", "a/", "a//b", "../a", "a/../b", "a/./b", "a?b", "a%2e", "a\\b", "a b"] {
            assert!(!is_path(path), "{path}");
        }
    }
}
