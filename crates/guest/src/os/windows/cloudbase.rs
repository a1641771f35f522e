//! cloudbase-init, which does for Windows what cloud-init does for Linux.

use crate::report::{CloudbaseInit, WindowsService};
use crate::text::{clean, word};
use crate::tree::Tree;

/// Where its installer puts the configuration.
const FOLDER: &str = "/Program Files/Cloudbase Solutions/Cloudbase-Init/conf";
const FILE: &str = "cloudbase-init.conf";
const SERVICES_MAX: usize = 32;

pub(super) fn read(tree: &Tree, services: &[WindowsService]) -> Option<CloudbaseInit> {
    let service = services.iter().find(|service| service.name.eq_ignore_ascii_case("cloudbase-init"));
    let folder = tree.is_folder(FOLDER).then(|| FOLDER.to_owned());
    if service.is_none() && folder.is_none() {
        return None;
    }
    let text = folder.as_ref().and_then(|folder| tree.config(&format!("{folder}/{FILE}")));
    let metadata_services = text.map(|text| listed(&text, "metadata_services")).unwrap_or_default();
    Some(CloudbaseInit { start: service.and_then(|service| service.start), folder, metadata_services })
}

/// Returns the list called `name`, which lines that begin with a space continue.
fn listed(text: &str, name: &str) -> Vec<String> {
    let mut lines = text.lines();
    let is_name = |line: &str| line.split_once('=').is_some_and(|(left, _)| left.trim().eq_ignore_ascii_case(name));
    let Some(first) = lines.by_ref().find(|line| is_name(line)) else { return Vec::new() };
    let more = lines.take_while(|line| line.starts_with([' ', '\t']));
    let values = first.split_once('=').map(|(_, value)| value).into_iter().chain(more);
    let values = values.flat_map(|value| value.split(',')).map(str::trim).filter(|value| word(value).is_some());
    values.take(SERVICES_MAX).map(|value| clean(value.as_bytes())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_go_over_lines() {
        let text =
            "[DEFAULT]\nusername=Admin\nmetadata_services = a.b.HttpService,\n    c.d.ConfigDrive, \u{1b}x\nother=y\n";
        assert_eq!(listed(text, "metadata_services"), ["a.b.HttpService", "c.d.ConfigDrive"]);
        assert_eq!(listed("#metadata_services=x\n", "metadata_services"), [] as [&str; 0]);
    }
}
