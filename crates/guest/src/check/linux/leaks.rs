//! Secrets of users that an image would hand on: histories, keys, credentials, passwords. No secret is ever shown.

use crate::check::doctor::{Doctor, at};
use crate::check::finding::{Evidence, Kind};
use crate::check::kinds::{AUTHORIZED_KEYS, CLOUD_CREDENTIALS, PASSWORDS, PRIVATE_KEYS, SHELL_HISTORY, TLS_KEYS};

/// Homes that are looked into.
const HOMES_MAX: usize = 256;
const CREDENTIALS: [&str; 20] = [
    ".aws/credentials",
    ".azure/accessTokens.json",
    ".azure/msal_token_cache.json",
    ".config/gcloud/credentials.db",
    ".config/gcloud/application_default_credentials.json",
    ".config/openstack/clouds.yaml",
    ".config/openstack/secure.yaml",
    ".config/gh/hosts.yml",
    ".config/rclone/rclone.conf",
    ".kube/config",
    ".docker/config.json",
    ".hcloud/config.json",
    ".git-credentials",
    ".netrc",
    ".pgpass",
    ".my.cnf",
    ".npmrc",
    ".pypirc",
    ".s3cfg",
    ".vault-token",
];
/// Those of the system.
const SYSTEM_CREDENTIALS: [&str; 3] =
    ["/etc/openstack/clouds.yaml", "/etc/openstack/secure.yaml", "/etc/rancher/k3s/k3s.yaml"];
const TLS: [&str; 2] = ["/etc/ssl/private", "/etc/pki/tls/private"];

pub(super) fn check(doctor: &mut Doctor<'_>) {
    let mut homes = vec!["/root".to_owned()];
    homes.extend(doctor.tree.names("/home", HOMES_MAX).into_iter().map(|name| format!("/home/{name}")));
    let below = |names: &[&str]| -> Vec<String> {
        homes
            .iter()
            .flat_map(|home| names.iter().map(move |name| format!("{home}/{name}")))
            .filter(|path| is_filled(doctor, path))
            .collect()
    };
    let authorized = below(&[".ssh/authorized_keys", ".ssh/authorized_keys2"]);
    let mut credentials = below(&CREDENTIALS);
    credentials.extend(SYSTEM_CREDENTIALS.iter().filter(|path| is_filled(doctor, path)).map(|path| (*path).to_owned()));
    let histories: Vec<String> =
        homes.iter().flat_map(|home| doctor.files(home, "history")).filter(|path| is_filled(doctor, path)).collect();
    let keys: Vec<String> = homes
        .iter()
        .flat_map(|home| doctor.files(&format!("{home}/.ssh"), ""))
        .filter(|path| is_private_key(doctor, path))
        .collect();
    let tls: Vec<String> = TLS
        .iter()
        .flat_map(|folder| doctor.files(folder, ""))
        // Debian's own example key protects nothing.
        .filter(|path| !path.ends_with("/ssl-cert-snakeoil.key") && is_private_key(doctor, path))
        .collect();
    remove(
        doctor,
        &SHELL_HISTORY,
        "Histories of commands, which often hold passwords, are handed on with the image.",
        &histories,
    );
    remove(
        doctor,
        &AUTHORIZED_KEYS,
        "Holders of these keys get into every server that is made of the image.",
        &authorized,
    );
    remove(doctor, &PRIVATE_KEYS, "Private keys of users are handed on with the image.", &keys);
    remove(doctor, &CLOUD_CREDENTIALS, "Credentials for other services are handed on with the image.", &credentials);
    if !tls.is_empty() {
        doctor.tell(&TLS_KEYS, "Private keys of TLS certificates are handed on with the image.", evidence(&tls));
    }
    check_passwords(doctor);
}

fn evidence(paths: &[String]) -> Vec<Evidence> {
    paths.iter().map(|path| at(path)).collect()
}

fn remove(doctor: &mut Doctor<'_>, kind: &'static Kind, told: &str, paths: &[String]) {
    if !paths.is_empty() && doctor.found(kind, told, evidence(paths)) {
        paths.iter().for_each(|path| doctor.draft.remove(path));
    }
}

/// Returns whether a file with anything in it stands at `path`; a link may lead to one that belongs to something else.
fn is_filled(doctor: &Doctor<'_>, path: &str) -> bool {
    doctor.draft.exists(path) && doctor.tree.is_file(path) && doctor.tree.node(path).is_some_and(|node| node.length > 0)
}

fn is_private_key(doctor: &Doctor<'_>, path: &str) -> bool {
    let is_key = |head: Vec<u8>| {
        String::from_utf8_lossy(&head)
            .lines()
            .take(4)
            .any(|line| line.starts_with("-----BEGIN ") && line.contains("PRIVATE KEY"))
    };
    is_filled(doctor, path) && doctor.tree.head(path, 1024).is_some_and(is_key)
}

/// Names the accounts that have a password, which whoever has the image can try to guess offline.
fn check_passwords(doctor: &mut Doctor<'_>) {
    const PATH: &str = "/etc/shadow";
    // Read straight: the file has to be the guest's own, and its hashes go nowhere.
    let Some(text) = doctor.tree.config_not_link(PATH) else { return };
    let has_password = |line: &str| {
        let mut fields = line.split(':');
        let (name, hash) = (fields.next()?, fields.next()?);
        let is_set = hash.starts_with('$') || (hash.len() == 13 && !hash.starts_with(['!', '*']));
        is_set.then(|| name.to_owned())
    };
    let found: Vec<Evidence> = text
        .lines()
        .enumerate()
        .filter_map(|(index, line)| Some((index, has_password(line)?)))
        .map(|(index, name)| Evidence {
            line: Some(index + 1),
            value: Some(crate::text::clean(name.as_bytes())),
            ..at(PATH)
        })
        .collect();
    if !found.is_empty() {
        doctor.tell(
            &PASSWORDS,
            "These accounts have passwords, which are the same on every server made of the image.",
            found,
        );
    }
}
