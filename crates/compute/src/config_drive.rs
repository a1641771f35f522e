//! The config drive: a small FAT volume from which cloud-init learns a server's name, keys and user data.
//!
//! ```text
//! volume label config-2
//!   openstack/latest/meta_data.json   uuid, hostname, public keys, free metadata
//!   openstack/latest/user_data        the user's bytes, only where there are some
//! ```
//!
//! cloud-init takes a vfat or ISO 9660 volume with this label as an OpenStack config drive
//! (`cloudinit/sources/DataSourceConfigDrive.py`); the members are OpenStack's (Nova, "Metadata service").
//! Invariant: there is no `network_data.json`. An empty one makes cloud-init configure no network card at all;
//! without the file it falls back to DHCP.
//! The bytes depend on the values alone: no clock, no random volume id.

use std::collections::BTreeMap;

use model::ServerId;
use model::names::PROPERTIES_MAX;
use serde_json::json;
use uuid::Uuid;

use crate::fat::{Name, Volume};
use crate::{Error, Result};

/// Most bytes of user data (64 KiB, the limit of OpenStack's API).
pub const USER_DATA_MAX: usize = 64 << 10;
/// Most bytes of `meta_data.json`; with [`USER_DATA_MAX`] the volume stays under 1 MiB.
pub const META_DATA_MAX: usize = 256 << 10;
/// Most public keys of one server.
pub const SSH_KEYS_MAX: usize = 64;

/// What cloud-init reads.
#[derive(Clone, PartialEq, Eq)]
pub struct ConfigDrive {
    /// The guest's host name: labels of a-z, 0-9 and `-` between dots (RFC 1123); see [`hostname_for`].
    pub hostname: String,
    /// A script, a `#cloud-config` document, or whatever else the image understands; at most [`USER_DATA_MAX`] bytes.
    pub user_data: Option<Vec<u8>>,
    /// Public keys for the image's default user, one line each.
    pub ssh_keys: Vec<String>,
    /// Free metadata.
    pub meta: BTreeMap<String, String>,
    /// Names the instance. cloud-init runs its once-per-instance work again when it changes.
    pub uuid: Uuid,
}

impl std::fmt::Debug for ConfigDrive {
    /// User data often holds passwords, so a log shows its length only.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConfigDrive")
            .field("hostname", &self.hostname)
            .field("user_data_bytes", &self.user_data.as_ref().map(Vec::len))
            .field("ssh_keys", &self.ssh_keys)
            .field("meta", &self.meta)
            .field("uuid", &self.uuid)
            .finish()
    }
}

/// Returns the host name for a server that people call `name`, as Nova derives it.
///
/// Spaces and `_` become `-`, all else that a host name may not hold is left out; where nothing remains, it is
/// `server-` and the id.
#[must_use]
pub fn hostname_for(name: &str, id: ServerId) -> String {
    let plain: String = name
        .chars()
        .filter_map(|c| match c {
            ' ' | '_' => Some('-'),
            '.' | '-' => Some(c),
            _ if c.is_ascii_alphanumeric() => Some(c.to_ascii_lowercase()),
            _ => None,
        })
        .collect();
    let labels: Vec<&str> = plain
        .split('.')
        .map(|label| label.trim_matches('-'))
        .map(|label| label[..label.len().min(63)].trim_end_matches('-'))
        .filter(|label| !label.is_empty())
        .collect();
    let mut hostname = labels.join(".");
    hostname.truncate(63);
    let hostname = hostname.trim_end_matches(['.', '-']);
    if hostname.is_empty() { format!("server-{id}") } else { hostname.to_owned() }
}

impl ConfigDrive {
    /// Checks every part against its limit.
    pub fn check(&self) -> Result<()> {
        check_hostname(&self.hostname)?;
        let user_data_bytes = self.user_data.as_ref().map_or(0, Vec::len);
        if user_data_bytes > USER_DATA_MAX {
            return Err(Error::invalid(format!(
                "user data has at most {USER_DATA_MAX} bytes, this one has {user_data_bytes}"
            ))
            .with_hint("let the user data fetch the rest, for instance with `#include` and a URL"));
        }
        if self.ssh_keys.len() > SSH_KEYS_MAX || self.meta.len() > PROPERTIES_MAX {
            return Err(Error::invalid(format!(
                "a server has at most {SSH_KEYS_MAX} public keys and {PROPERTIES_MAX} entries of metadata"
            )));
        }
        if self.ssh_keys.iter().any(|key| key.trim().is_empty() || key.chars().any(char::is_control)) {
            return Err(Error::invalid("a public key is one line of text without control characters"));
        }
        let meta_data_bytes = self.meta_data().len();
        if meta_data_bytes > META_DATA_MAX {
            return Err(Error::invalid(format!(
                "public keys and metadata have at most {META_DATA_MAX} bytes together, these have {meta_data_bytes}"
            )));
        }
        Ok(())
    }

    /// Returns the bytes of the volume.
    pub fn image(&self) -> Result<Vec<u8>> {
        self.check()?;
        let meta_data = self.meta_data();
        let mut files = vec![(Name("meta_data.json", b"META_D~1JSO"), &*meta_data)];
        // cloud-init warns about a member that is there and empty.
        if let Some(user_data) = self.user_data.as_deref().filter(|bytes| !bytes.is_empty()) {
            files.push((Name("user_data", b"USER_D~1   "), user_data));
        }
        let volume = Volume {
            label: b"config-2   ",
            serial: self.uuid.as_fields().0,
            path: [Name("openstack", b"OPENST~1   "), Name("latest", b"LATEST     ")],
            files: &files,
        };
        volume.bytes().ok_or_else(|| Error::invalid("what cloud-init shall read is too large for a config drive"))
    }

    fn meta_data(&self) -> Vec<u8> {
        let named = || self.ssh_keys.iter().enumerate().map(|(number, key)| (format!("key-{number}"), key));
        let public_keys: BTreeMap<String, &String> = named().collect();
        let keys: Vec<_> = named().map(|(name, data)| json!({"name": name, "type": "ssh", "data": data})).collect();
        json!({
            "uuid": self.uuid.to_string(),
            "hostname": self.hostname,
            "name": self.hostname,
            "launch_index": 0,
            "public_keys": public_keys,
            "keys": keys,
            "meta": self.meta,
        })
        .to_string()
        .into_bytes()
    }
}

fn check_hostname(hostname: &str) -> Result<()> {
    let label_fits = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if hostname.len() <= 253 && hostname.split('.').all(label_fits) {
        return Ok(());
    }
    let shown: String = hostname.chars().take(64).flat_map(char::escape_default).collect();
    Err(Error::invalid(format!("`{shown}` is no host name"))
        .with_hint("use letters, digits and `-`, at most 63 between two dots and 253 in all"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostnames() {
        for good in ["a", "web-1", "web-1.example.com", "0", &"a".repeat(63)] {
            check_hostname(good).unwrap();
        }
        let long = format!("{}.a", "a.".repeat(126));
        for bad in ["", ".", "a..b", "-a", "a-", "a_b", "a b", "ü", "a\nb", "a,b", &"a".repeat(64), &long] {
            check_hostname(bad).unwrap_err();
        }
    }

    #[test]
    fn hostnames_from_names() {
        let id = ServerId::new();
        for (name, hostname) in [
            ("web", "web"),
            ("My Server_1", "my-server-1"),
            ("a,b;$(reboot)\"'", "abreboot"),
            ("--a--.-b-..", "a.b"),
            (&"x".repeat(255), &"x".repeat(63)),
            ("Führung", "fhrung"),
        ] {
            assert_eq!(hostname_for(name, id), hostname);
        }
        assert_eq!(hostname_for("…", id), format!("server-{id}"));
        for name in ["a.-", "é.", " . ", &"a-.".repeat(80), &format!("{}-b", "a".repeat(62))] {
            check_hostname(&hostname_for(name, id)).unwrap();
        }
    }
}
