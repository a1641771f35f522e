//! The drivers that a kernel has, from the tables that depmod(8) makes and from the kernel's configuration.
//!
//! modules.builtin: a path on each line. modules.dep: `path: path path`, the file and all that must be loaded before it.
//! modules.alias: `alias PATTERN MODULE`.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::initramfs::survey::module_name;
use crate::report::{Driver, DriverState};
use crate::text::clean;
use crate::tree::Tree;

/// Largest table; that of all modules of a distribution has 1 MiB.
const TABLE_MAX: u64 = 8 << 20;
/// Most files that one module needs; virtio_net needs ten.
const CLOSURE_MAX: usize = 64;
/// Longest path of a module, from the root.
const PATH_MAX: usize = 512;

/// A driver, the device that it is for in modules.alias, and its option in the configuration of the kernel.
const WANTED: [(&str, &str, &str); 4] = [
    ("virtio_pci", "pci:v00001AF4d*sv*sd*bc*sc*i*", "CONFIG_VIRTIO_PCI"),
    ("virtio_blk", "virtio:d00000002v*", "CONFIG_VIRTIO_BLK"),
    ("virtio_scsi", "virtio:d00000008v*", "CONFIG_SCSI_VIRTIO"),
    ("virtio_net", "virtio:d00000001v*", "CONFIG_VIRTIO_NET"),
];

/// What is known of the modules of one kernel.
pub(super) struct Modules {
    folder: String,
    builtin: HashSet<String>,
    /// Lines of modules.dep by the name of their module; none where there is no table.
    depends: Option<HashMap<String, String>>,
    aliases: String,
    config: Option<String>,
}

impl Modules {
    /// Reads the tables of the kernel `version`.
    pub(super) fn read(tree: &Tree, version: &str) -> Self {
        let folder = format!("/lib/modules/{version}");
        let table = |name: &str| tree.text(&format!("{folder}/{name}"), true, TABLE_MAX);
        let config = [format!("/boot/config-{version}"), format!("{folder}/config")];
        Self {
            builtin: table("modules.builtin").unwrap_or_default().lines().filter_map(module_name).collect(),
            // An empty table is what a package leaves whose scripts never ran.
            depends: table("modules.dep").filter(|text| !text.is_empty()).map(|text| lines_by_module(&text)),
            aliases: table("modules.alias").unwrap_or_default(),
            config: config.iter().find_map(|path| tree.config(path)),
            folder,
        }
    }

    /// Tells where each driver is that a virtual machine needs; `initramfs` has the names of the modules in there.
    pub(super) fn drivers(&self, tree: &Tree, initramfs: Option<&BTreeSet<String>>) -> Vec<Driver> {
        WANTED
            .iter()
            .map(|(name, alias, option)| {
                let (state, files) = self.driver(tree, self.named(name, alias), option, initramfs);
                Driver { name: (*name).to_owned(), state, files }
            })
            .collect()
    }

    /// Returns whether the kernel starts under Xen in paravirtual mode only; none where its configuration is not there.
    ///
    /// Kernels of before "pvops" had an architecture of its own for that; since then a kernel that knows Xen starts everywhere.
    pub(super) fn is_xen_pv_only(&self) -> Option<bool> {
        self.config.as_ref()?;
        let is_old = ["CONFIG_X86_XEN", "CONFIG_X86_64_XEN"].iter().any(|option| self.is_set(option));
        Some(is_old || (self.is_set("CONFIG_XEN") && !self.is_set("CONFIG_PARAVIRT")))
    }

    /// Returns the name of the module for a device; it is not the usual one in some old kernels.
    fn named<'a>(&'a self, name: &'a str, alias: &str) -> &'a str {
        let is_known = self.builtin.contains(name) || self.depends.as_ref().is_some_and(|all| all.contains_key(name));
        let of_line = |line: &'a str| {
            let (pattern, module) = line.strip_prefix("alias ")?.split_once(' ')?;
            (pattern == alias).then_some(module)
        };
        if is_known { name } else { self.aliases.lines().find_map(of_line).unwrap_or(name) }
    }

    fn driver(
        &self,
        tree: &Tree,
        name: &str,
        option: &str,
        initramfs: Option<&BTreeSet<String>>,
    ) -> (DriverState, Vec<String>) {
        if self.builtin.contains(name) || self.is_set(option) {
            return (DriverState::Builtin, Vec::new());
        }
        let mut files = Vec::new();
        if self.collect(name, &mut files).is_none() {
            // Where depmod never ran, an initramfs that has the module has what it needs: its maker ran modprobe.
            let is_inside = initramfs.is_some_and(|modules| modules.contains(name));
            return match self.depends {
                None if is_inside => (DriverState::Initramfs, Vec::new()),
                None => (DriverState::Unknown, Vec::new()),
                Some(_) => (DriverState::Missing, Vec::new()),
            };
        }
        let is_inside =
            |path: &String| initramfs.zip(module_name(path)).is_some_and(|(modules, name)| modules.contains(&name));
        let lacking: Vec<String> = files.into_iter().filter(|path| !is_inside(path)).collect();
        if lacking.is_empty() {
            (DriverState::Initramfs, Vec::new())
        } else if lacking.iter().all(|path| tree.exists(path)) {
            (DriverState::Module, lacking.iter().map(|path| clean_path(path)).collect())
        } else {
            (DriverState::Missing, Vec::new())
        }
    }

    /// Adds the files of a module after those that it needs; none where one of them is in no table, or they are too many.
    fn collect(&self, name: &str, files: &mut Vec<String>) -> Option<()> {
        let (path, needed) = self.depends.as_ref()?.get(name)?.split_once(':')?;
        let path = if path.starts_with('/') { path.to_owned() } else { format!("{}/{path}", self.folder) };
        if files.contains(&path) {
            return Some(());
        }
        if files.len() == CLOSURE_MAX || path.len() > PATH_MAX || path.split('/').any(|name| name == "..") {
            return None;
        }
        // Held before its needs are, so that a circle ends; its place is after them.
        files.push(path.clone());
        for needed in needed.split_ascii_whitespace().filter_map(module_name) {
            if !self.builtin.contains(&needed) {
                self.collect(&needed, files)?;
            }
        }
        files.retain(|held| *held != path);
        files.push(path);
        Some(())
    }

    fn is_set(&self, option: &str) -> bool {
        let of_line = |line: &str| line.strip_prefix(option).is_some_and(|value| value.trim_end() == "=y");
        self.config.as_ref().is_some_and(|config| config.lines().any(of_line))
    }
}

/// Paths are bounded above the length of other texts, and are opened again: they are taken whole or escaped.
fn clean_path(path: &str) -> String {
    if path.chars().any(|character| character.is_control() || !character.is_ascii()) {
        clean(path.as_bytes())
    } else {
        path.to_owned()
    }
}

fn lines_by_module(text: &str) -> HashMap<String, String> {
    text.lines().filter_map(|line| Some((module_name(line.split_once(':')?.0)?, line.to_owned()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn modules(depends: Option<&str>, builtin: &str, config: Option<&str>) -> Modules {
        Modules {
            folder: "/lib/modules/1".to_owned(),
            builtin: builtin.lines().filter_map(module_name).collect(),
            depends: depends.map(lines_by_module),
            aliases: "alias virtio:d00000002v* virtblk\n".to_owned(),
            config: config.map(str::to_owned),
        }
    }

    fn closure(modules: &Modules, name: &str) -> Option<Vec<String>> {
        let mut files = Vec::new();
        modules.collect(name, &mut files).map(|()| files)
    }

    #[test]
    fn what_a_module_needs_comes_before_it() {
        let table = "kernel/a-b.ko.xz: kernel/c.ko.zst kernel/d.ko\nkernel/c.ko.zst: kernel/d.ko\nkernel/d.ko:\n\
                     /lib/modules/1/old.ko: /lib/modules/1/kernel/d.ko\n";
        let found = closure(&modules(Some(table), "", None), "a_b").unwrap();
        let base = "/lib/modules/1/kernel";
        assert_eq!(found, [format!("{base}/d.ko"), format!("{base}/c.ko.zst"), format!("{base}/a-b.ko.xz")]);
        assert_eq!(closure(&modules(Some(table), "kernel/d.ko\n", None), "old").unwrap(), ["/lib/modules/1/old.ko"]);
        assert_eq!(closure(&modules(Some(table), "", None), "none"), None);
    }

    #[test]
    fn tables_of_an_attacker_end() {
        let circle = "a.ko: b.ko\nb.ko: a.ko\nup.ko: ../up2.ko\nup2.ko:\n../etc/up3.ko:\n";
        let circle = modules(Some(circle), "", None);
        assert_eq!(closure(&circle, "a").unwrap().len(), 2);
        assert_eq!(closure(&circle, "up3"), None);
        let chain: String = (0..100_000).map(|at| format!("m{at}.ko: m{}.ko\n", at + 1)).collect();
        assert_eq!(closure(&modules(Some(&chain), "", None), "m0"), None);
    }

    #[test]
    fn other_names_are_found_by_alias() {
        let known = modules(Some("kernel/virtblk.ko:\n"), "", None);
        assert_eq!(known.named("virtio_blk", "virtio:d00000002v*"), "virtblk");
        assert_eq!(known.named("virtio_net", "virtio:d00000001v*"), "virtio_net");
    }

    #[test]
    fn old_kernels_of_xen_are_told_by_their_configuration() {
        for (config, expected) in [
            (Some("CONFIG_XEN=y\nCONFIG_PARAVIRT=y\n"), Some(false)),
            (Some("CONFIG_X86_64_XEN=y\nCONFIG_XEN=y\n"), Some(true)),
            (Some("# CONFIG_XEN is not set\n"), Some(false)),
            (None, None),
        ] {
            assert_eq!(modules(None, "", config).is_xen_pv_only(), expected, "{config:?}");
        }
    }
}
