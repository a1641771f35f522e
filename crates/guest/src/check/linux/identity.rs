//! What makes this machine itself, and must not be shared by all that are made of it.

use crate::check::doctor::{Doctor, at};
use crate::check::kinds::{DHCP_LEASES, MACHINE_ID, RANDOM_SEED, SSH_HOST_KEYS, SSH_HOST_KEYS_KEPT};

const MACHINE_ID_FILE: &str = "/etc/machine-id";
/// D-Bus has a copy of its own where it is no link.
const DBUS_ID: &str = "/var/lib/dbus/machine-id";
const SEEDS: [&str; 5] = [
    "/var/lib/systemd/random-seed",
    "/var/lib/systemd/credential.secret",
    "/var/lib/urandom/random-seed",
    "/var/lib/random-seed",
    "/var/lib/seedrng/seed.credit",
];
/// Folders of leases and how their names end.
const LEASES: [(&str, &str); 6] = [
    ("/var/lib/dhclient", ".leases"),
    ("/var/lib/dhclient", ".lease"),
    ("/var/lib/dhcp", ".leases"),
    ("/var/lib/NetworkManager", ".lease"),
    ("/var/lib/dhcpcd", ".lease"),
    ("/var/lib/wicked", ".xml"),
];
/// Services and scripts that make the keys of a host when there are none.
const KEY_MAKERS: [&str; 4] = [
    "/usr/lib/systemd/system/sshd-keygen.service",
    "/usr/lib/systemd/system/sshd-keygen@.service",
    "/usr/lib/systemd/system/sshdgenkeys.service",
    "/usr/libexec/openssh/sshd-keygen",
];
/// Start scripts that make the keys themselves on some systems.
const SCRIPTS: [&str; 2] = ["/etc/init.d/sshd", "/etc/rc.d/init.d/sshd"];

pub(super) fn check(doctor: &mut Doctor<'_>) {
    check_machine_id(doctor);
    check_host_keys(doctor);
    let seeds: Vec<String> =
        SEEDS.iter().filter(|path| doctor.draft.exists(path)).map(|path| (*path).to_owned()).collect();
    let told = "The guest carries the seed of its random numbers; servers with the same seed may make the same keys.";
    remove(doctor, &RANDOM_SEED, told, &seeds);
    let leases: Vec<String> = LEASES.iter().flat_map(|(folder, end)| doctor.files(folder, end)).collect();
    remove(doctor, &DHCP_LEASES, "The guest remembers addresses that it had before.", &leases);
}

fn remove(doctor: &mut Doctor<'_>, kind: &'static super::super::finding::Kind, told: &str, paths: &[String]) {
    let evidence = paths.iter().map(|path| at(path)).collect();
    if !paths.is_empty() && doctor.found(kind, told, evidence) {
        paths.iter().for_each(|path| doctor.draft.remove(path));
    }
}

/// An empty file, and not none, is what systemd fills at the first start (machine-id(5)).
fn check_machine_id(doctor: &mut Doctor<'_>) {
    let is_set = |text: &String| !matches!(text.trim(), "" | "uninitialized");
    let own = doctor.draft.text(MACHINE_ID_FILE).filter(is_set).map(|_| MACHINE_ID_FILE);
    let is_link = doctor.tree.link_target(DBUS_ID).is_some();
    let copy = (!is_link && doctor.draft.text(DBUS_ID).is_some_and(|text| is_set(&text))).then_some(DBUS_ID);
    let evidence: Vec<_> = own.into_iter().chain(copy).map(at).collect();
    let told =
        "All servers made of this image would have the same machine id, by which DHCP and others take them for one.";
    if evidence.is_empty() || !doctor.found(&MACHINE_ID, told, evidence) {
        return;
    }
    if own.is_some() {
        doctor.draft.write(MACHINE_ID_FILE, "", None);
    }
    if copy.is_some() {
        doctor.draft.remove(DBUS_ID);
    }
}

fn check_host_keys(doctor: &mut Doctor<'_>) {
    let is_key = |path: &String| path.contains("/ssh_host_");
    let keys: Vec<String> = doctor.files("/etc/ssh", "").into_iter().filter(is_key).collect();
    let has_cloud_init = doctor.report.os.as_ref().is_some_and(|os| os.cloud_init.is_some());
    let makes = |path: &&str| doctor.draft.text(path).is_some_and(|text| text.contains("ssh-keygen"));
    let are_made =
        has_cloud_init || KEY_MAKERS.iter().any(|path| doctor.draft.exists(path)) || SCRIPTS.iter().any(makes);
    let kind = if are_made { &SSH_HOST_KEYS } else { &SSH_HOST_KEYS_KEPT };
    remove(
        doctor,
        kind,
        "All servers made of this image would show the same SSH host keys, which whoever has the image knows.",
        &keys,
    );
}
