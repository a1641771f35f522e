//! What a server is made of, as its caller asks for it, and the limits of each part.

use std::collections::BTreeSet;
use std::path::PathBuf;

use model::ServerId;
use model::names::check_name;

use crate::{ConfigDrive, Error, Result};

/// Most virtual processors of a server; QEMU's q35 needs an interrupt remapper above 255.
pub const VCPUS_MAX: u32 = 128;
/// Least memory in MiB; SeaBIOS with its devices does not fit in less.
pub const RAM_MIB_MIN: u32 = 16;
/// Most memory in MiB (4 TiB); beyond it the physical addresses of `-cpu max` end.
pub const RAM_MIB_MAX: u32 = 4 << 20;
/// Largest root disk in bytes (64 TiB); its qcow2 tables would fill the host before its data does.
pub const DISK_BYTES_MAX: u64 = 64 << 40;
/// Longest name of a base's export in bytes; the header of an overlay holds at most 1023 bytes of it and its place.
const EXPORT_MAX: usize = 255;
/// Most ports forwarded to one server; each is a listening socket of the host.
pub const FORWARDS_MAX: usize = 64;

/// A server, as a driver needs to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerSpec {
    /// Its id, which is also its SMBIOS system UUID.
    pub id: ServerId,
    /// What people call it: 1 to 255 characters, shown in the host's process list.
    pub name: String,
    /// Virtual processors, 1 to [`VCPUS_MAX`].
    pub vcpus: u32,
    /// Memory in MiB, [`RAM_MIB_MIN`] to [`RAM_MIB_MAX`].
    pub ram_mib: u32,
    /// Size of the root disk in bytes, at least that of the base; rounded up to a sector of 512 bytes.
    pub disk_bytes: u64,
    /// The disk the server begins with; only ever read, and needed as long as the server lives.
    pub base: Base,
    /// What starts the guest.
    pub firmware: Firmware,
    /// What cloud-init reads.
    pub config_drive: ConfigDrive,
    /// TCP ports of this host's 127.0.0.1 that reach the guest: (host, guest).
    pub forwards: Vec<(u16, u16)>,
}

/// A disk that is served to this host over NBD. While its server is away the guest waits, and goes on afterwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    /// The absolute path of the socket at which it is served.
    pub socket: PathBuf,
    /// The name of its export there: letters, digits, `-` and `/`.
    pub export: String,
}

/// What starts the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Firmware {
    /// A PC BIOS.
    Bios,
    /// UEFI, with variables of the server's own.
    Uefi,
}

impl ServerSpec {
    /// Checks every part that can be checked without reading a file.
    pub fn check(&self) -> Result<()> {
        check_name(&self.name).map_err(|rule| Error::invalid(format!("the server's name is not allowed: {rule}")))?;
        within("processors", self.vcpus, 1, VCPUS_MAX)?;
        within("MiB of memory", self.ram_mib, RAM_MIB_MIN, RAM_MIB_MAX)?;
        if self.disk_bytes == 0 || self.disk_bytes > DISK_BYTES_MAX {
            return Err(Error::invalid(format!(
                "a root disk has 1 to {DISK_BYTES_MAX} bytes, this one has {}",
                self.disk_bytes
            )));
        }
        self.base.check()?;
        self.check_forwards()?;
        self.config_drive.check()
    }

    fn check_forwards(&self) -> Result<()> {
        if self.forwards.len() > FORWARDS_MAX {
            return Err(Error::invalid(format!("a server has at most {FORWARDS_MAX} forwarded ports")));
        }
        let mut taken = BTreeSet::new();
        for &(host, guest) in &self.forwards {
            if host == 0 || guest == 0 {
                return Err(Error::invalid("port 0 cannot be forwarded"));
            }
            if !taken.insert(host) {
                return Err(Error::invalid(format!("port {host} of the host is forwarded twice")));
            }
        }
        Ok(())
    }
}

impl Base {
    fn check(&self) -> Result<()> {
        if !self.socket.is_absolute() {
            return Err(Error::invalid(format!("the socket `{}` is not an absolute path", self.socket.display())));
        }
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'/');
        if self.export.is_empty() || self.export.len() > EXPORT_MAX || !self.export.bytes().all(plain) {
            return Err(Error::invalid("the name of a base's export has letters, digits, `-` and `/` only"));
        }
        Ok(())
    }
}

fn within(what: &str, value: u32, min: u32, max: u32) -> Result<()> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(Error::invalid(format!("a server has {min} to {max} {what}, this one has {value}")))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::ErrorKind;

    fn spec() -> ServerSpec {
        let id = ServerId::new();
        ServerSpec {
            id,
            name: "web".into(),
            vcpus: 1,
            ram_mib: 256,
            disk_bytes: 1 << 30,
            base: Base { socket: "/nbd.sock".into(), export: "server/1".into() },
            firmware: Firmware::Bios,
            config_drive: ConfigDrive {
                hostname: "web".into(),
                user_data: None,
                ssh_keys: Vec::new(),
                meta: BTreeMap::new(),
                uuid: id.uuid(),
            },
            forwards: vec![(2222, 22)],
        }
    }

    #[test]
    fn limits() {
        spec().check().unwrap();
        let wrong: [fn(&mut ServerSpec); 13] = [
            |s| s.name = "a\nb".into(),
            |s| s.name = String::new(),
            |s| s.vcpus = 0,
            |s| s.vcpus = VCPUS_MAX + 1,
            |s| s.ram_mib = RAM_MIB_MIN - 1,
            |s| s.disk_bytes = 0,
            |s| s.disk_bytes = u64::MAX,
            |s| s.base.socket = "nbd.sock".into(),
            |s| s.base.export = String::new(),
            |s| s.base.export = "a?socket=b".into(),
            |s| s.forwards = vec![(1, 2), (1, 3)],
            |s| s.forwards = vec![(0, 2)],
            |s| s.config_drive.hostname = "a,b".into(),
        ];
        for (number, break_it) in wrong.into_iter().enumerate() {
            let mut spec = spec();
            break_it(&mut spec);
            assert_eq!(spec.check().unwrap_err().kind(), ErrorKind::Invalid, "{number}");
        }
    }
}
