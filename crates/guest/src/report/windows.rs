//! What is told of a Windows beyond what every system has.

use serde::{Deserialize, Serialize};

/// A Windows, as its registry and its files describe it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Windows {
    /// Edition, such as `ServerStandard` or `Professional`.
    pub edition: Option<String>,
    /// Build with its update, such as `17763.4010`.
    pub build: Option<String>,
    /// Name of the release, such as `21H2`.
    pub release: Option<String>,
    /// What setup or sysprep left: `IMAGE_STATE_COMPLETE`, or `IMAGE_STATE_GENERALIZE_RESEAL_TO_OOBE` in a template.
    pub image_state: Option<String>,
    /// Whether it takes the clock of the machine for universal time.
    pub clock_is_utc: bool,
    /// Whether shutting down leaves a sleeping kernel, so that its volumes may not be changed.
    pub fast_startup: bool,
    /// Files that hold its virtual memory, as it writes them: `C:\pagefile.sys`, `?:\pagefile.sys`.
    pub pagefiles: Vec<String>,
    /// Services and drivers that matter for another platform, by name.
    pub services: Vec<WindowsService>,
    /// Network adapters that are configured.
    pub adapters: Vec<WindowsAdapter>,
    /// Installed programs, by name.
    pub programs: Vec<WindowsProgram>,
    /// cloudbase-init; none where it is not installed.
    pub cloudbase_init: Option<CloudbaseInit>,
    /// How each NTFS was left.
    pub volumes: Vec<WindowsVolume>,
    /// Where boot configuration data lies: `/Boot/BCD on /dev/sda1`.
    pub boot_data: Vec<String>,
}

/// A service or driver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowsService {
    /// Name of its key.
    pub name: String,
    /// When it starts: 0 with the boot loader, 1 with the kernel, 2 by itself, 3 on demand, 4 never.
    pub start: Option<u32>,
    /// What stands in for `start` on this hardware.
    pub start_override: Option<u32>,
    /// Whether its file is there; none where its path cannot be told.
    pub is_file_there: Option<bool>,
}

/// The configuration of a network adapter.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowsAdapter {
    /// Its GUID.
    pub id: String,
    /// Name of the connection, where it has one.
    pub name: Option<String>,
    /// Whether it asks for its address.
    pub dhcp: bool,
    /// Fixed addresses, each with its mask: `10.0.0.5/255.255.255.0`.
    pub addresses: Vec<String>,
    /// Fixed gateways.
    pub gateways: Vec<String>,
    /// Fixed name servers.
    pub name_servers: Vec<String>,
}

/// An installed program.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct WindowsProgram {
    /// Name for people.
    pub name: String,
    /// Version.
    pub version: Option<String>,
    /// Who made it.
    pub publisher: Option<String>,
}

/// An installed cloudbase-init.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloudbaseInit {
    /// When its service starts, as [`WindowsService::start`]; none where there is no service.
    pub start: Option<u32>,
    /// The folder of its configuration, where there is one.
    pub folder: Option<String>,
    /// Its `metadata_services`, in order; empty where they are not configured.
    pub metadata_services: Vec<String>,
}

/// How an NTFS was left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowsVolume {
    /// Its device, as in the list of file systems.
    pub device: String,
    /// Version of NTFS, such as `3.1`.
    pub ntfs: String,
    /// Whether it was not closed cleanly.
    pub dirty: bool,
    /// Whether a Windows sleeps on it, by hibernation or fast startup, or may do so.
    pub hibernated: bool,
}
