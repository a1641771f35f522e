//! The operating system: what its files in the root tree say about it.

mod arch;
pub(crate) mod boot_kernels;
mod cloud_init;
pub(crate) mod command_line;
mod drivers;
pub(crate) mod fstab;
mod kernels;
mod networks;
pub(crate) mod packages;
mod release;
pub(crate) mod windows;

use crate::report::{Os, OsKind};
use crate::text::hostname;
use crate::tree::Tree;

/// Returns whether `tree` is the root of a Linux.
pub(crate) fn is_root(tree: &Tree) -> bool {
    release::PATHS.iter().any(|path| tree.exists(path))
        || (tree.exists("/etc/fstab") && (tree.is_folder("/bin") || tree.is_folder("/usr")))
}

/// Describes the Linux whose root is `tree`, with its other file systems mounted.
pub(crate) fn describe(tree: &Tree) -> Os {
    let release = release::read(tree);
    Os {
        distro: release.id,
        version: release.version,
        name: release.name,
        arch: arch::read(tree),
        hostname: read_hostname(tree),
        package_manager: packages::manager(tree).map(str::to_owned),
        kernels: kernels::read(tree),
        network_stacks: networks::stacks(tree),
        networks: networks::read(tree),
        cloud_init: cloud_init::read(tree),
        ..Os::new(OsKind::Linux)
    }
}

/// Reads the host name from a file that is no link: a link could bring the first line of any other file here.
fn read_hostname(tree: &Tree) -> Option<String> {
    let of_file = tree.config_not_link("/etc/hostname").and_then(|text| {
        text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned)
    });
    // Red Hat before version 7.
    let of_sysconfig = || {
        let text = tree.config_not_link("/etc/sysconfig/network")?;
        text.lines()
            .find_map(|line| line.trim().strip_prefix("HOSTNAME="))
            .map(|name| name.trim_matches('"').to_owned())
    };
    hostname(&of_file.or_else(of_sysconfig)?).map(str::to_owned)
}
