//! How a system's files set up its network adapters.

use serde::{Deserialize, Serialize};

/// What sets up network adapters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum NetworkStack {
    /// ifupdown, of Debian and Alpine.
    Ifupdown,
    /// netplan, of Ubuntu.
    Netplan,
    /// ifcfg files, of Red Hat's network scripts and of wicked.
    Ifcfg,
    /// NetworkManager with connections of its own.
    NetworkManager,
    /// systemd-networkd.
    Networkd,
}

impl NetworkStack {
    /// Returns `ifupdown`, `netplan`, `ifcfg`, `networkmanager` or `networkd`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ifupdown => "ifupdown",
            Self::Netplan => "netplan",
            Self::Ifcfg => "ifcfg",
            Self::NetworkManager => "networkmanager",
            Self::Networkd => "networkd",
        }
    }
}

/// What one file says of one adapter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Whose file it is.
    pub stack: NetworkStack,
    /// Path of the file.
    pub file: String,
    /// Name or pattern of the adapter, or of the connection where it is for any.
    pub name: Option<String>,
    /// Hardware address that it is bound to, or given.
    pub mac: Option<String>,
    /// Whether it asks for its address: DHCP, or IPv6 by itself.
    pub is_automatic: bool,
    /// Fixed addresses, as they are written.
    pub addresses: Vec<String>,
    /// The way out, where it is fixed.
    pub gateway: Option<String>,
}
