//! The host's driver for NTFS, ntfs-3g, with all that it needs in a machine that has nothing else.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use agent::{LIBRARIES, NTFS};
use disk::error::{Error, Result};

use super::elf;
use super::machine::{Machine, missing};

/// Where distributions have libraries; the first is Debian's.
const FOLDERS: [&str; 4] = ["/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib64", "/usr/lib64"];
/// Largest program or library, and most of them.
const FILE_MAX: u64 = 32 << 20;
const FILES_MAX: usize = 32;

/// What a SID stands for in new files whose owner is root: the pattern names nobody, and root is the administrators
/// whatever it says. Without one, ntfs-3g does not hand down rights.
const OWNERS: &str = "owners";
const PATTERN: &[u8] = b"::S-1-5-21-0-0-0-10000\n";

/// A file of the initramfs.
pub(super) struct Part {
    pub(super) path: String,
    pub(super) bytes: Vec<u8>,
}

/// Returns the options of a mount. A volume that needs repair is not mounted, and new files have the rights that their
/// folder hands down.
pub(super) fn options() -> String {
    format!("no_detach,norecover,inherit,usermapping=/{OWNERS},nosuid,nodev,noexec,noatime")
}

/// Reads the driver, its loader and its libraries, and those that these need.
///
/// # Errors
///
/// `Unsupported` where one is not there.
pub(super) fn parts(machine: &Machine) -> Result<Vec<Part>> {
    let program = read(&machine.ntfs_driver)?.ok_or_else(|| missing(NTFS))?;
    let needs = elf::needs(&program).ok_or_else(|| unfit(&machine.ntfs_driver))?;
    let mut parts =
        vec![Part { path: NTFS.to_owned(), bytes: program }, Part { path: OWNERS.to_owned(), bytes: PATTERN.to_vec() }];
    if let Some(loader) = needs.loader {
        let bytes = read(Path::new(&loader))?.ok_or_else(|| missing(&format!("`{loader}`")))?;
        parts.push(Part { path: loader.trim_start_matches('/').to_owned(), bytes });
    }
    let mut pending = needs.libraries;
    while let Some(name) = pending.pop() {
        let path = format!("{LIBRARIES}/{name}");
        if parts.iter().any(|part| part.path == path) {
            continue;
        }
        if parts.len() >= FILES_MAX {
            return Err(Error::unsupported(format!("{NTFS} needs more than {FILES_MAX} libraries")));
        }
        let library = library(&name)?;
        pending.extend(elf::needs(&library).ok_or_else(|| unfit(Path::new(&name)))?.libraries);
        parts.push(Part { path, bytes: library });
    }
    Ok(parts)
}

/// Reads the library called `name`.
fn library(name: &str) -> Result<Vec<u8>> {
    for folder in FOLDERS {
        if let Some(found) = read(&PathBuf::from(folder).join(name))? {
            return Ok(found);
        }
    }
    Err(missing(&format!("library {name}, which {NTFS} needs")))
}

/// Reads a file; none where there is none.
fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    let cannot = |error| Error::io(format!("read `{}`", path.display()), error);
    let file = match File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(cannot)?,
    };
    let mut bytes = Vec::new();
    file.take(FILE_MAX + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() as u64 > FILE_MAX { Err(unfit(path)) } else { Ok(Some(bytes)) }
}

fn unfit(path: &Path) -> Error {
    Error::unsupported(format!("`{}` is no program or library for x86-64", path.display()))
}
