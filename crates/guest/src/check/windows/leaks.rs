//! Secrets that an image would hand on: passwords of the setup and of the logon, histories, keys. None is ever shown.

use super::hive::Hive;
use crate::check::doctor::{Doctor, at};
use crate::check::finding::Evidence;
use crate::check::kinds::{ANSWER_FILES, AUTO_LOGON, WINDOWS_SECRETS};
use crate::tree::CONFIG_MAX;

const USERS_MAX: usize = 256;
/// Where setup and sysprep look for, and leave, their answers.
const ANSWERS: [&str; 8] = [
    "/Windows/Panther/unattend.xml",
    "/Windows/Panther/Unattend/unattend.xml",
    "/Windows/System32/Sysprep/unattend.xml",
    "/Windows/System32/Sysprep/Panther/unattend.xml",
    "/unattend.xml",
    "/autounattend.xml",
    "/Windows/sysprep.inf",
    "/sysprep/sysprep.inf",
];
/// What Windows writes in the place of a password that it has used.
const DELETED: &str = "*SENSITIVE*DATA*DELETED*";
/// Files below the folder of a user.
const OF_USERS: [&str; 12] = [
    "AppData/Roaming/Microsoft/Windows/PowerShell/PSReadLine/ConsoleHost_history.txt",
    ".ssh/id_rsa",
    ".ssh/id_dsa",
    ".ssh/id_ecdsa",
    ".ssh/id_ed25519",
    ".ssh/authorized_keys",
    ".aws/credentials",
    ".azure/accessTokens.json",
    ".kube/config",
    ".docker/config.json",
    ".git-credentials",
    "AppData/Roaming/gcloud/credentials.db",
];
/// Keys of the SSH server, with which each server of the image would tell who it is.
const OF_SYSTEM: [&str; 5] = [
    "/ProgramData/ssh/ssh_host_rsa_key",
    "/ProgramData/ssh/ssh_host_dsa_key",
    "/ProgramData/ssh/ssh_host_ecdsa_key",
    "/ProgramData/ssh/ssh_host_ed25519_key",
    "/ProgramData/ssh/administrators_authorized_keys",
];

pub(super) fn check_logon(doctor: &mut Doctor<'_>, software: &Hive<'_>) {
    const KEY: &str = r"Microsoft\Windows NT\CurrentVersion\Winlogon";
    let is_filled = software.data(KEY, "DefaultPassword").is_some_and(|data| data.bytes.iter().any(|byte| *byte != 0));
    if is_filled {
        let evidence = vec![software.evidence_of(KEY, "DefaultPassword: (not shown)".to_owned())];
        doctor.tell(&AUTO_LOGON, "A password for logging on by itself stands in the registry in plain text.", evidence);
    }
}

pub(super) fn check_files(doctor: &mut Doctor<'_>) {
    let tree = doctor.tree;
    let answers = ANSWERS.iter().filter(|path| tree.is_file(path));
    let answers = answers.filter(|path| tree.bytes(path, CONFIG_MAX).is_some_and(|bytes| has_password(&text(&bytes))));
    let answers: Vec<Evidence> = answers.map(|path| at(path)).collect();
    if !answers.is_empty() {
        doctor.tell(&ANSWER_FILES, "Answers of the setup hold passwords.", answers);
    }
    let homes = tree.names("/Users", USERS_MAX).into_iter();
    let of_users = homes.flat_map(|home| OF_USERS.iter().map(move |file| format!("/Users/{home}/{file}")));
    let all = of_users.chain(OF_SYSTEM.iter().map(|path| (*path).to_owned()));
    let is_filled = |path: &String| tree.is_file(path) && tree.node(path).is_some_and(|node| node.length > 0);
    let found: Vec<Evidence> = all.filter(is_filled).map(|path| at(&path)).collect();
    if !found.is_empty() {
        doctor.tell(&WINDOWS_SECRETS, "Histories, keys or credentials are handed on with the image.", found);
    }
}

/// Returns a file as text: answers are written in UTF-8 or UTF-16.
fn text(bytes: &[u8]) -> String {
    match bytes.strip_prefix(b"\xff\xfe") {
        Some(rest) => {
            let units = rest.chunks_exact(2).map(|unit| u16::from_le_bytes([unit[0], unit[1]]));
            char::decode_utf16(units).map(|letter| letter.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
        }
        None => String::from_utf8_lossy(bytes).into_owned(),
    }
}

/// Returns whether an element called `...Password`, or its `Value`, holds a text; in an older file a line `...Password=`.
fn has_password(text: &str) -> bool {
    let mut is_password = false;
    for piece in text.split('<').skip(1) {
        let Some((tag, content)) = piece.split_once('>') else { continue };
        let name =
            tag.split([' ', '\t', '\r', '\n', '/']).next().unwrap_or_default().rsplit(':').next().unwrap_or_default();
        let name = name.to_ascii_lowercase();
        // The end of an element begins with a slash, so that it has no name here.
        let is_own = name.ends_with("password");
        if name != "value" && name != "plaintext" && !name.is_empty() {
            is_password = is_own;
        }
        let is_value = is_own || (is_password && name == "value");
        let content = content.trim();
        if is_value && !tag.ends_with('/') && !content.is_empty() && content != DELETED {
            return true;
        }
    }
    let is_set = |line: &str| {
        let Some((name, value)) = line.split_once('=') else { return false };
        let value = value.trim().trim_matches('"');
        name.trim().to_ascii_lowercase().ends_with("password") && !value.is_empty() && value != "*"
    };
    !text.contains('<') && text.lines().any(is_set)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_of_answer_files() {
        for (text, expected) in [
            (
                "<a><AdministratorPassword><Value>c2VjcmV0</Value><PlainText>false</PlainText></AdministratorPassword></a>",
                true,
            ),
            (
                "<w:Password wcm:x=\"1\">\n <w:PlainText>true</w:PlainText>\n <w:Value>secret</w:Value></w:Password>",
                true,
            ),
            ("<Password>*SENSITIVE*DATA*DELETED*</Password>", false),
            ("<Password><Value>*SENSITIVE*DATA*DELETED*</Value></Password><Order><Value>1</Value></Order>", false),
            ("<Password><Value></Value><Value/></Password><Password/>x", false),
            ("<Credentials><Domain>x</Domain><Password>secret</Password></Credentials>", true),
            ("[GuiUnattended]\r\nAdminPassword=\"secret\"\r\n", true),
            ("[GuiUnattended]\nAdminPassword=*\n", false),
            ("<", false),
        ] {
            assert_eq!(has_password(text), expected, "{text}");
            let wide: Vec<u8> = [0xfeff].into_iter().chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect();
            assert_eq!(has_password(&super::text(&wide)), expected, "{text}");
        }
    }
}
