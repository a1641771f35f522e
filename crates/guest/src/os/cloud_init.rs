//! cloud-init: whether it is there, its version, what switches it off, and where it looks for its data.

use super::packages;
use crate::report::CloudInit;
use crate::text::word;
use crate::tree::Tree;

const PROGRAMS: [&str; 2] = ["/usr/bin/cloud-init", "/usr/local/bin/cloud-init"];
const DROP_INS: &str = "/etc/cloud/cloud.cfg.d";
const DROP_INS_MAX: usize = 64;
const DATASOURCES_MAX: usize = 32;

pub(super) fn read(tree: &Tree) -> Option<CloudInit> {
    if !PROGRAMS.iter().any(|path| tree.exists(path)) {
        return None;
    }
    Some(CloudInit {
        version: packages::version(tree, "cloud-init").or_else(|| python_version(tree)),
        disabled: tree.exists("/etc/cloud/cloud-init.disabled"),
        datasources: datasources(tree),
    })
}

/// Returns the version that the name of the installed Python package tells.
fn python_version(tree: &Tree) -> Option<String> {
    let folders = ["/usr/lib", "/usr/lib64"].into_iter().flat_map(|base| {
        let names = tree.names(base, 4096).into_iter().filter(|name| name.starts_with("python3"));
        names.map(move |name| format!("{base}/{name}"))
    });
    folders.take(8).flat_map(|folder| [format!("{folder}/site-packages"), format!("{folder}/dist-packages")]).find_map(
        |folder| {
            let names = tree.names(&folder, 8192);
            let package = names.iter().find_map(|name| name.strip_prefix("cloud_init-"))?;
            let version = package.split("-py").next()?;
            let version = version.trim_end_matches(".dist-info").trim_end_matches(".egg-info");
            word(version).map(str::to_owned)
        },
    )
}

/// Returns the list of the last file that has one: drop-ins come after the main file, in the order of their names.
fn datasources(tree: &Tree) -> Vec<String> {
    let names = tree.names(DROP_INS, 1024).into_iter().filter(|name| name.ends_with(".cfg")).take(DROP_INS_MAX);
    let mut paths = vec!["/etc/cloud/cloud.cfg".to_owned()];
    paths.extend(names.map(|name| format!("{DROP_INS}/{name}")));
    paths.iter().rev().find_map(|path| datasource_list(&tree.config(path)?)).unwrap_or_default()
}

/// Finds `datasource_list`, written as `[ A, B ]` over one or more lines, or as lines of `- A`.
fn datasource_list(text: &str) -> Option<Vec<String>> {
    let mut lines = text.lines().map(|line| line.split(" #").next().unwrap_or(line));
    let first = lines.find_map(|line| line.strip_prefix("datasource_list:"))?;
    let names: Vec<String> = if let Some(start) = first.trim().strip_prefix('[') {
        let mut flow = start.to_owned();
        for line in lines.take(DATASOURCES_MAX) {
            if flow.contains(']') {
                break;
            }
            flow.push(' ');
            flow.push_str(line);
        }
        flow.split(']').next().unwrap_or_default().split(',').map(str::to_owned).collect()
    } else {
        lines.map_while(|line| line.trim().strip_prefix("- ")).map(str::to_owned).collect()
    };
    let names = names.iter().map(|name| name.trim().trim_matches(['"', '\'']));
    Some(names.filter_map(word).take(DATASOURCES_MAX).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_in_each_style() {
        let check = |text: &str, expected: &[&str]| assert_eq!(datasource_list(text).unwrap(), expected, "{text}");
        check("a: 1\ndatasource_list: [ NoCloud, ConfigDrive, None ]\n", &["NoCloud", "ConfigDrive", "None"]);
        check("datasource_list: [OpenStack] # only this\n", &["OpenStack"]);
        check("datasource_list:\n  - Ec2\n  - 'None'\nother: x\n", &["Ec2", "None"]);
        check("datasource_list: [ A,\n  B,\n C ]\n", &["A", "B", "C"]);
        check("datasource_list: []\n", &[]);
        assert_eq!(datasource_list("# datasource_list: [ A ]\n"), None);
    }
}
