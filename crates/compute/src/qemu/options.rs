//! How the QEMU driver is set up, and where it looks for what it starts.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::{Error, ErrorKind, Result};

/// Where distributions keep the emulator: Debian and its kin, a local build, and the RHEL family.
const QEMU_PLACES: &[&str] =
    &["/usr/bin/qemu-system-x86_64", "/usr/local/bin/qemu-system-x86_64", "/usr/libexec/qemu-kvm"];
const QEMU_IMG_PLACES: &[&str] = &["/usr/bin/qemu-img", "/usr/local/bin/qemu-img"];
const UEFI_CODE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";
const UEFI_VARIABLES: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";

/// How the QEMU driver is set up.
#[derive(Debug, Clone)]
pub struct QemuOptions {
    /// Where the servers' directories lie; made when absent, readable by this user alone.
    pub directory: PathBuf,
    /// `qemu-system-x86_64`; `None` looks in the usual places.
    pub binary: Option<PathBuf>,
    /// `qemu-img`; `None` looks in the usual places.
    pub qemu_img: Option<PathBuf>,
    /// What executes the guests' instructions.
    pub acceleration: Acceleration,
    /// What the guests reach.
    pub network: Network,
    /// How long a guest may take to power off after [`Stop::Soft`](crate::Stop::Soft).
    pub soft_stop: Duration,
    /// The UEFI code of 4 MiB flash; `None` is Debian's.
    pub uefi_code: Option<PathBuf>,
    /// The empty UEFI variables that belong to `uefi_code`; `None` is Debian's.
    pub uefi_variables: Option<PathBuf>,
}

/// What executes a guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acceleration {
    /// KVM where a probe guest really runs under it, else TCG.
    Auto,
    /// The processor itself; start fails where that is impossible.
    Kvm,
    /// QEMU's translator: everywhere, and roughly ten times slower.
    Tcg,
}

/// What a guest reaches over its network card. Forwarded ports reach the guest in both cases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// Nothing: DHCP answers, and no packet leaves the host or reaches it.
    Restricted,
    /// All that this process's user reaches. That includes services on this host's 127.0.0.1, as 10.0.2.2, and the
    /// metadata service of a cloud that the host runs in.
    Open,
}

impl QemuOptions {
    /// Returns the defaults: [`Acceleration::Auto`], [`Network::Restricted`], 60 s for a soft stop.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
            binary: None,
            qemu_img: None,
            acceleration: Acceleration::Auto,
            network: Network::Restricted,
            soft_stop: Duration::from_secs(60),
            uefi_code: None,
            uefi_variables: None,
        }
    }

    /// Returns where the emulator is.
    pub(super) fn find_qemu(&self) -> Result<PathBuf> {
        find(self.binary.as_deref(), QEMU_PLACES, "the emulator `qemu-system-x86_64`", "qemu-system-x86")
    }

    /// Returns where `qemu-img` is.
    pub(super) fn find_qemu_img(&self) -> Result<PathBuf> {
        find(self.qemu_img.as_deref(), QEMU_IMG_PLACES, "the disk tool `qemu-img`", "qemu-utils")
    }

    /// Returns where the UEFI code and its empty variables are.
    pub(super) fn find_uefi(&self) -> Result<(PathBuf, PathBuf)> {
        Ok((
            find(self.uefi_code.as_deref(), &[UEFI_CODE], "the UEFI firmware", "ovmf")?,
            find(self.uefi_variables.as_deref(), &[UEFI_VARIABLES], "the UEFI variables", "ovmf")?,
        ))
    }
}

/// Looks at the chosen place alone or, without one, at the usual `places` in turn.
fn find(chosen: Option<&Path>, places: &[&str], what: &str, package: &str) -> Result<PathBuf> {
    let usual = places.iter().map(Path::new);
    let candidates: Vec<&Path> = chosen.map_or_else(|| usual.collect(), |chosen| vec![chosen]);
    if let Some(found) = candidates.iter().find(|path| path.is_file()) {
        return Ok(found.to_path_buf());
    }
    let looked: Vec<String> = candidates.iter().map(|path| path.display().to_string()).collect();
    Err(Error::new(ErrorKind::Missing, format!("{what} is not at {}", looked.join(" nor at ")))
        .with_hint(format!("install the Debian package `{package}`: apt-get install {package}")))
}
