//! What an inspection of a guest tells, as properties of an image and as a sentence.

use std::collections::BTreeMap;

use guest::{Os, Report};

/// Returns the properties that an image gets from what is inside: Glance's common ones and Huawei's `__os_*`.
pub(crate) fn properties(report: &Report) -> BTreeMap<String, String> {
    let mut properties = BTreeMap::new();
    let Some(os) = &report.os else {
        return [("__os_type", "Other"), ("__platform", "Other")].map(|(name, word)| (name.into(), word.into())).into();
    };
    let mut set = |name: &str, value: Option<&str>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            properties.insert(name.to_owned(), value.to_owned());
        }
    };
    set("os_type", Some(os.kind.as_str()));
    set("os_distro", os.distro.as_deref());
    set("os_version", os.version.as_deref());
    set("architecture", os.arch.as_deref());
    let firmware = match (report.boot.bios, report.boot.uefi) {
        (false, true) => Some("uefi"),
        (true, _) => Some("bios"),
        (false, false) => None,
    };
    set("hw_firmware_type", firmware);
    set(
        "__os_type",
        Some(match os.kind.as_str() {
            "linux" => "Linux",
            "windows" => "Windows",
            _ => "Other",
        }),
    );
    set("__platform", Some(platform(os)));
    set("__os_version", os.name.as_deref());
    set("__os_bit", os.arch.as_deref().map(|arch| if arch.contains("64") { "64" } else { "32" }));
    properties
}

/// Returns Huawei's word for a distribution.
fn platform(os: &Os) -> &'static str {
    match os.distro.as_deref().unwrap_or_default() {
        "debian" => "Debian",
        "ubuntu" => "Ubuntu",
        "centos" => "CentOS",
        "fedora" => "Fedora",
        "rhel" => "RedHat",
        "ol" => "Oracle Linux",
        "sles" | "sled" | "sle_hpc" | "sles_sap" | "suse" => "SUSE",
        "opensuse" | "opensuse-leap" | "opensuse-tumbleweed" => "OpenSUSE",
        "coreos" | "flatcar" => "CoreOS",
        "euleros" | "openEuler" | "hce" => "EulerOS",
        _ if os.kind.as_str() == "windows" => "Windows",
        _ => "Other",
    }
}

/// Returns a sentence where an image's properties name another kind of system than was found inside; what was found is
/// what prepare goes by.
pub(crate) fn declared_otherwise(properties: &BTreeMap<String, String>, found: &Os) -> Option<String> {
    let kind = found.kind.as_str();
    let told = ["os_type", "__os_type"].iter().filter_map(|name| properties.get(*name)).find(|told| {
        let told = told.to_ascii_lowercase();
        !told.is_empty() && told != "other" && told != kind
    })?;
    let name = found.name.as_deref().unwrap_or(kind);
    Some(format!("the image is declared to hold {told}, and {name} was found: prepare goes by what was found"))
}

/// Returns what was found, in a sentence for the job's log.
pub(crate) fn sentence(report: &Report) -> String {
    match &report.os {
        Some(os) => {
            let name = os.name.as_deref().unwrap_or(os.kind.as_str());
            let cloud = if os.cloud_init.is_some() { "with cloud-init" } else { "without cloud-init" };
            format!("found {name}, {}, {cloud}", os.arch.as_deref().unwrap_or("of unknown architecture"))
        }
        None => format!(
            "found no operating system ({} partitions, {} file systems)",
            report.partitions.len(),
            report.filesystems.len()
        ),
    }
}
