//! The initramfs of the micro-VM: the agent, the modules and the job.

use std::collections::BTreeSet;

use agent::{JOB, MODULES};
use disk::error::{Error, Result};

use super::driver::Part;
use crate::initramfs::write::{InitramfsEntry, initramfs_segment};

/// The program that runs as the first process; the build script makes it. Empty where there is none for this machine.
const AGENT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/molde-agent"));

const FOLDER: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;

/// Packs it: nothing in it is compressed, as unpacking would cost the machine more than reading.
///
/// `parts` are programs and libraries beside the agent.
pub(super) fn pack(modules: &[Vec<u8>], job: &[u8], parts: &[Part]) -> Result<Vec<u8>> {
    if AGENT.is_empty() {
        return Err(Error::unsupported("a micro-VM is needed for it, and there is none for this processor"));
    }
    let names: Vec<String> = (0..modules.len()).map(|number| format!("{MODULES}/{number}")).collect();
    let mut entries = vec![
        InitramfsEntry { path: "init", mode: PROGRAM, bytes: AGENT },
        InitramfsEntry { path: JOB, mode: 0o600, bytes: job },
        InitramfsEntry { path: MODULES, mode: FOLDER, bytes: b"" },
    ];
    let mut folders = BTreeSet::new();
    for part in parts {
        folders.extend(part.path.match_indices('/').map(|(end, _)| &part.path[..end]));
    }
    entries.extend(folders.into_iter().map(|path| InitramfsEntry { path, mode: FOLDER, bytes: b"" }));
    entries.extend(parts.iter().map(|part| InitramfsEntry { path: &part.path, mode: PROGRAM, bytes: &part.bytes }));
    entries.extend(names.iter().zip(modules).map(|(path, bytes)| InitramfsEntry { path, mode: 0o600, bytes }));
    initramfs_segment(0, &entries, 0).ok_or_else(|| Error::unsupported("a file is too long for the micro-VM"))
}
