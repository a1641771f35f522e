//! The changes of a plan as the agent is told them.

use agent::{After, Before, Mount, NTFS, Operation, Visit};
use disk::error::{Error, Result};

use super::driver;
use crate::place::Place;
use crate::plan::{Branch, Change, RecordFile, State};
use crate::report::FilesystemKind;

/// Returns the mounts for the changes of one file system, which is drive `number`; `record` is what goes behind
/// its file, or makes it.
///
/// # Errors
///
/// `Unsupported` for a change that only Molde itself makes.
pub(crate) fn mounts(
    number: usize,
    kind: FilesystemKind,
    changes: &[&Change],
    record: Option<(&RecordFile, &str)>,
) -> Result<Vec<Mount>> {
    let mut subvolumes: Vec<Option<u64>> = changes.iter().map(|change| change.subvolume).collect();
    subvolumes.extend(record.map(|(file, _)| file.subvolume));
    subvolumes.sort_unstable();
    subvolumes.dedup();
    if subvolumes.is_empty() {
        subvolumes.push(None);
    }
    let mount = |subvolume: Option<u64>| -> Result<Mount> {
        let here = changes.iter().filter(|change| change.subvolume == subvolume);
        let mut operations = here.map(|change| operation(change)).collect::<Result<Vec<_>>>()?;
        let record = record.filter(|(file, _)| file.subvolume == subvolume);
        operations.extend(record.map(|(file, text)| Operation {
            path: file.inner.as_bytes().to_vec(),
            before: Before::Log,
            after: After::Appended(text.as_bytes().to_vec()),
        }));
        Ok(Mount {
            drive: number as u64,
            kind: kernel_name(kind).to_owned(),
            options: options(kind, subvolume),
            operations,
        })
    };
    subvolumes.into_iter().map(mount).collect()
}

/// Returns the mount of an NTFS, which is drive `number`.
pub(crate) fn ntfs_mount(number: usize, operations: Vec<Operation>) -> Mount {
    Mount { drive: number as u64, kind: NTFS.to_owned(), options: driver::options(), operations }
}

/// Returns the visit of a tree of `branches`, each with the number of its drive among `places`.
pub(crate) fn visit(
    branches: &[(&Branch, usize)],
    places: &[Place],
    files: Vec<(String, Vec<u8>)>,
    programs: Vec<Vec<String>>,
) -> Visit {
    let branch = |(branch, number): &(&Branch, usize)| {
        let kind = places[*number].kind;
        agent::Branch {
            at: branch.at.clone(),
            drive: *number as u64,
            kind: kernel_name(kind).to_owned(),
            options: options(kind, branch.subvolume),
        }
    };
    Visit { tree: branches.iter().map(branch).collect(), files, programs }
}

/// Returns what the kernel calls `kind`: one driver knows all of ext.
fn kernel_name(kind: FilesystemKind) -> &'static str {
    match kind {
        FilesystemKind::Xfs => "xfs",
        FilesystemKind::Btrfs => "btrfs",
        FilesystemKind::Vfat => "vfat",
        _ => "ext4",
    }
}

fn options(kind: FilesystemKind, subvolume: Option<u64>) -> String {
    match (kind, subvolume) {
        // New blocks go where much is free, not between those of others: a store keeps less for them.
        (FilesystemKind::Xfs, _) => "allocsize=1m".to_owned(),
        (FilesystemKind::Btrfs, None) => "ssd_spread".to_owned(),
        (FilesystemKind::Btrfs, Some(number)) => format!("ssd_spread,subvolid={number}"),
        // Tables that mkfs left for later are left for later.
        (FilesystemKind::Ext2 | FilesystemKind::Ext3 | FilesystemKind::Ext4, _) => "noinit_itable".to_owned(),
        // Names of files there are ASCII, whatever the kernel was built to take them for.
        (FilesystemKind::Vfat, _) => "codepage=437,iocharset=ascii".to_owned(),
        _ => String::new(),
    }
}

/// Returns what the agent does about one change.
///
/// # Errors
///
/// `Unsupported` for a change that only Molde itself makes.
pub(crate) fn operation(change: &Change) -> Result<Operation> {
    let bytes = |text: &str| text.as_bytes().to_vec();
    let before = match &change.before {
        State::Absent => Before::Absent,
        State::File(content) => Before::File { length: content.len() as u64, sha256: change.before.sha256() },
        State::Appended(content) => Before::File { length: content.len() as u64, sha256: None },
        State::Unread { length } => Before::File { length: *length, sha256: None },
        State::Link(target) => Before::Link(bytes(target)),
        State::Folder(_) => Before::Folder,
        State::Values(_) => return Err(unknown(change)),
    };
    let after = match &change.after {
        State::File(content) => After::Content { bytes: content.clone(), like: change.like.as_deref().map(bytes) },
        State::Appended(content) => After::Appended(content.clone()),
        State::Link(target) => After::Link(bytes(target)),
        State::Absent => {
            let below = match &change.before {
                State::Folder(below) => below.iter().map(|(path, is_folder)| (bytes(path), *is_folder)).collect(),
                _ => Vec::new(),
            };
            After::Absent(below)
        }
        State::Unread { .. } | State::Folder(_) | State::Values(_) => return Err(unknown(change)),
    };
    Ok(Operation { path: bytes(&change.inner), before, after })
}

/// What no plan asks of a micro-VM.
fn unknown(change: &Change) -> Error {
    Error::unsupported(format!("a micro-VM cannot {}", change.summary()))
}
