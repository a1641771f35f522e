//! Services and drivers on which it depends whether a guest starts on another platform.

use super::registry::Registry;
use super::{number, text};
use crate::registry::Key;
use crate::report::WindowsService;
use crate::tree::Tree;

/// Most services that are looked at.
const SERVICES_MAX: usize = 4096;
/// Most that are told: prefixes may match many.
const TOLD_MAX: usize = 128;

/// Names in small letters; `*` stands for any end. By lines: virtio, storage, input, Xen, VMware, others, agents.
const NAMES: &[&str] = &[
    "viostor",
    "vioscsi",
    "netkvm",
    "vioser",
    "viorng",
    "balloon",
    "pvpanic",
    "viofs",
    "atapi",
    "intelide",
    "pciide",
    "storahci",
    "msahci",
    "stornvme",
    "lsi_sas",
    "lsi_scsi",
    "disk",
    "partmgr",
    "volmgr",
    "i8042prt",
    "kbdclass",
    "mouclass",
    "kbdhid",
    "mouhid",
    "hidusb",
    "xen*",
    "vmware*",
    "vmtools*",
    "vgauthservice",
    "vmci",
    "vmhgfs",
    "vmmouse",
    "vmxnet*",
    "pvscsi",
    "vm3dmp*",
    "vmmemctl",
    "vbox*",
    "prl_*",
    "parallels*",
    "storvsc",
    "netvsc",
    "vmbus",
    "qemu-ga",
    "cloudbase-init*",
    "spice-agent",
    "vdservice",
];

/// Returns those of the control set `set`, by name.
pub(super) fn read(system: &Registry<'_>, set: &str, tree: &Tree) -> Vec<WindowsService> {
    let keys = system.subkeys(&format!(r"{set}\Services"), SERVICES_MAX);
    let told = keys.filter(|key| is_told(&key.name())).take(TOLD_MAX);
    let mut services: Vec<WindowsService> = told.map(|key| describe(&key, tree)).collect();
    services.sort_by(|left, right| left.name.cmp(&right.name));
    services
}

/// Returns the service `name` of the control set `set`, if there is one.
pub(crate) fn find(system: &Registry<'_>, set: &str, name: &str, tree: &Tree) -> Option<WindowsService> {
    system.key(&format!(r"{set}\Services\{name}")).map(|key| describe(&key, tree))
}

fn is_told(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    NAMES.iter().any(|known| known.strip_suffix('*').map_or(name == *known, |start| name.starts_with(start)))
}

fn describe(key: &Key<'_>, tree: &Tree) -> WindowsService {
    let name = crate::text::clean(key.name().as_bytes());
    // Value `0` is for the first profile of hardware, which is the only one there is.
    let start_override = key.subkey("StartOverride").ok().flatten().and_then(|key| number(&key, "0"));
    let file = text(key, "ImagePath").unwrap_or_else(|| format!(r"System32\drivers\{name}.sys"));
    let is_file_there = path(&file).map(|path| tree.exists(&path));
    WindowsService { name, start: number(key, "Start"), start_override, is_file_there }
}

/// Returns where the file of a service lies on its volume; none where it is on another one.
fn path(image: &str) -> Option<String> {
    // A path with spaces stands in quotes; what follows are arguments.
    let image = match image.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next()?,
        None => image.split(' ').next()?,
    };
    let strip = |prefix: &str| {
        image.get(..prefix.len()).filter(|head| head.eq_ignore_ascii_case(prefix)).map(|_| &image[prefix.len()..])
    };
    let of_windows = [r"\SystemRoot\", r"%SystemRoot%\", r"%windir%\"].iter().find_map(|prefix| strip(prefix));
    let of_volume = [r"\??\C:\", r"C:\", r"%SystemDrive%\"].iter().find_map(|prefix| strip(prefix));
    let inner = match (of_windows, of_volume) {
        (Some(rest), _) => format!(r"Windows\{rest}"),
        (None, Some(rest)) => rest.to_owned(),
        // A relative path begins in the folder of Windows.
        (None, None) if !image.contains([':', '%']) && !image.starts_with('\\') => format!(r"Windows\{image}"),
        (None, None) => return None,
    };
    Some(format!("/{}", inner.replace('\\', "/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_services() {
        for (image, expected) in [
            (r"System32\drivers\viostor.sys", Some("/Windows/System32/drivers/viostor.sys")),
            (r"\SystemRoot\System32\drivers\a.sys", Some("/Windows/System32/drivers/a.sys")),
            (r"%systemroot%\system32\svchost.exe -k x", Some("/Windows/system32/svchost.exe")),
            (r#""C:\Program Files\Qemu-ga\qemu-ga.exe" -d"#, Some("/Program Files/Qemu-ga/qemu-ga.exe")),
            (r"\??\D:\x.sys", None),
            (r"%other%\x", None),
            ("é", Some("/Windows/é")),
        ] {
            assert_eq!(path(image).as_deref(), expected, "{image}");
        }
    }

    #[test]
    fn names_that_matter() {
        assert!(is_told("viostor") && is_told("XenVBD") && is_told("VMTools") && is_told("prl_tg"));
        assert!(!is_told("viostor2") && !is_told("Dhcp") && !is_told(""));
    }
}
