//! The command line of a server's QEMU: every value from outside goes through JSON or is escaped.
//!
//! All paths but the firmware's are fixed names relative to the server's directory, in which QEMU is
//! started: no path of the host can be too long for a socket or hold a comma that begins another option.

use std::path::Path;

use model::ServerId;
use serde_json::{Value, json};

use super::options::Network;
use super::process::PID_FILE;
use super::qmp::SOCKET;
use super::root_disk;
use crate::{Base, ServerSpec};

/// Name of the serial log in a server's directory.
pub(super) const CONSOLE: &str = "console.log";
/// Name of the config drive's image in a server's directory.
pub(super) const CONFIG_DRIVE: &str = "config.img";
/// Name of the server's own UEFI variables in its directory.
pub(super) const UEFI_VARIABLES: &str = "uefi.vars";

/// What of a command line is not in the server's specification.
pub(super) struct Host<'a> {
    pub(super) accelerator: Accelerator,
    pub(super) network: Network,
    /// The UEFI code; `None` starts the BIOS.
    pub(super) uefi_code: Option<&'a Path>,
}

/// What executes instructions, once that is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Accelerator {
    Kvm,
    Tcg,
}

impl Accelerator {
    /// Returns the options that choose it: the probe guest and the servers must not differ in them.
    pub(super) fn arguments(self) -> [&'static str; 4] {
        match self {
            Self::Kvm => ["-accel", "kvm", "-cpu", "host"],
            // Without `max` the processor lacks what distributions built for x86-64-v2 need. Five levels of page
            // tables are of use above 128 TiB only, and kernels have failed on them under TCG: libguestfs turns
            // them off as well.
            Self::Tcg => ["-accel", "tcg,thread=multi", "-cpu", "max,la57=off"],
        }
    }
}

/// Returns the arguments of QEMU for `spec`.
pub(super) fn arguments(spec: &ServerSpec, host: &Host<'_>) -> Vec<String> {
    let mut line = Line(Vec::new());
    line.words(&["-no-user-config", "-nodefaults", "-display", "none"]);
    line.words(&["-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"]);
    line.words(&["-name", &format!("guest={}", spec.name.replace(',', ",,"))]);
    line.words(&["-uuid", &spec.id.to_string(), "-pidfile", PID_FILE]);
    line.words(&host.accelerator.arguments());
    line.words(&["-smp", &spec.vcpus.to_string(), "-m", &format!("{}M", spec.ram_mib), "-rtc", "base=utc"]);
    line.machine(host.uefi_code);
    line.words(&["-chardev", &format!("socket,id=control,path={SOCKET},server=on,wait=off")]);
    line.words(&["-mon", "chardev=control,mode=control"]);
    line.words(&["-chardev", &format!("file,id=console,path={CONSOLE},append=on"), "-serial", "chardev:console"]);
    line.disks(&spec.base);
    line.words(&["-netdev", &netdev(host.network, &spec.forwards)]);
    // No option ROM: a server never boots from the network, and the ROM file is in a package of its own.
    let card = json!({"driver": "virtio-net-pci", "netdev": "net", "romfile": "", "mac": mac(spec.id)});
    line.json("-device", &card);
    line.json("-object", &json!({"qom-type": "rng-builtin", "id": "random"}));
    line.json("-device", &json!({"driver": "virtio-rng-pci", "rng": "random"}));
    line.0
}

struct Line(Vec<String>);

impl Line {
    fn words(&mut self, words: &[&str]) {
        self.0.extend(words.iter().map(|&word| word.to_owned()));
    }

    fn json(&mut self, option: &str, value: &Value) {
        self.0.extend([option.to_owned(), value.to_string()]);
    }

    fn machine(&mut self, uefi_code: Option<&Path>) {
        let Some(code) = uefi_code else {
            return self.words(&["-machine", "q35,vmport=off"]);
        };
        let flash = |name: &str, read_only: bool, filename: &Path| {
            json!({
                "driver": "raw", "node-name": name, "read-only": read_only,
                "file": {"driver": "file", "read-only": read_only, "filename": filename},
            })
        };
        self.json("-blockdev", &flash("uefi-code", true, code));
        self.json("-blockdev", &flash("uefi-variables", false, Path::new(UEFI_VARIABLES)));
        self.words(&["-machine", "q35,vmport=off,pflash0=uefi-code,pflash1=uefi-variables"]);
    }

    fn disks(&mut self, base: &Base) {
        // With `stop` a fault of the host's storage pauses the guest instead of reaching its file systems.
        let disk = |node: &str| json!({"driver": "virtio-blk-pci", "drive": node, "werror": "stop", "rerror": "stop"});
        root_disk::blockdevs(base).iter().for_each(|node| self.json("-blockdev", node));
        let mut root = disk("root");
        root["bootindex"] = json!(0);
        self.json("-device", &root);
        let config = json!({
            "driver": "raw", "node-name": "config", "read-only": true,
            "file": {"driver": "file", "read-only": true, "filename": CONFIG_DRIVE},
        });
        self.json("-blockdev", &config);
        self.json("-device", &disk("config"));
    }
}

/// Returns a hardware address of the server's own, the same at each start: guests tie their settings to it.
fn mac(id: ServerId) -> String {
    let uuid = id.uuid();
    let [a, b, c, ..] = *uuid.as_bytes();
    // QEMU's prefix; the first bytes of an id are random.
    format!("52:54:00:{a:02x}:{b:02x}:{c:02x}")
}

fn netdev(network: Network, forwards: &[(u16, u16)]) -> String {
    let restrict = match network {
        Network::Restricted => "on",
        Network::Open => "off",
    };
    let forwards: String =
        forwards.iter().map(|(host, guest)| format!(",hostfwd=tcp:127.0.0.1:{host}-:{guest}")).collect();
    format!("user,id=net,restrict={restrict}{forwards}")
}
