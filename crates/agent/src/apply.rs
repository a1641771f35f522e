//! The changes: what stands at a path is checked, then it becomes what the job says.
//!
//! A file keeps its inode, and so its owner, rights, attributes and other names. Nothing needs to be made beside it and
//! renamed: when anything fails, the host throws away all that was written.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use agent::{After, Before, Operation};
use rustix::fs::{FileType, Gid, Mode, OFlags, Stat, Uid};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use crate::Outcome;
use crate::root::{Place, Root, shown, told};

/// Bytes that are hashed at once.
const PIECE: usize = 64 << 10;

/// Where new files have their rights from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rights {
    /// Owner, mode and label are set.
    OfLinux,
    /// Their driver gives them what their folder hands down, and nothing is set: that would take its place.
    Inherited,
}

/// Makes the changes in the file system that is mounted at `folder`.
pub(crate) fn apply(folder: &str, operations: &[Operation], rights: Rights) -> Outcome<()> {
    let root = Root::open(folder)?;
    for operation in operations {
        let path = &operation.path;
        change(&root, operation, rights).map_err(|why| format!("{}: {why}", shown(path)))?;
    }
    root.sync().map_err(|why| format!("what was changed cannot be written: {why}"))
}

fn change(root: &Root, operation: &Operation, rights: Rights) -> Outcome<()> {
    let path = &operation.path[..];
    if is_new(root, operation)? {
        root.make_parents(path)?;
        if let (Rights::Inherited, After::Content { bytes, .. }) = (rights, &operation.after) {
            return written(&mut new_file(&root.place(path)?)?, bytes, rights);
        }
        return create(root, path, &operation.after, rights);
    }
    let place = root.place(path)?;
    let found = place.stat()?.ok_or("it is not there")?;
    match (&operation.before, &operation.after) {
        (Before::Absent, _) => Err("something is there".to_owned()),
        (before, After::Content { bytes, .. }) => {
            let mut file = checked_file(root, path, before)?;
            file.set_len(0).and_then(|()| file.seek(SeekFrom::Start(0))).map_err(|error| io(&error))?;
            written(&mut file, bytes, rights)
        }
        (before, After::Appended(bytes)) => {
            let mut file = checked_file(root, path, before)?;
            file.seek(SeekFrom::End(0)).map_err(|error| io(&error))?;
            // While its blocks are another file's too, the last one of them is not written where it lies but beside what
            // follows: what lies around it is not kept anew by a store.
            let other = shared(&place.folder, &file);
            let done = written(&mut file, bytes, rights);
            drop(other);
            done
        }
        (before, After::Patched(pieces)) => {
            let file = checked_file(root, path, before)?;
            for (at, bytes) in pieces {
                file.write_all_at(bytes, *at).map_err(|error| io(&error))?;
            }
            file.sync_all().map_err(|error| io(&error))
        }
        (Before::Folder, After::Absent(below)) => {
            expect(&found, FileType::Directory)?;
            for (inner, is_folder) in below {
                root.place(inner)?.remove(*is_folder).map_err(|why| format!("{}: {why}", shown(inner)))?;
            }
            place.remove(true)
        }
        (before, after) => {
            check(root, path, &place, &found, before)?;
            place.remove(false)?;
            if let After::Link(_) = after { create(root, path, after, rights) } else { Ok(()) }
        }
    }
}

/// Returns whether nothing stands there, and nothing is meant to.
fn is_new(root: &Root, operation: &Operation) -> Outcome<bool> {
    match root.open_at(&operation.path, OFlags::PATH) {
        Err(Errno::NOENT) if matches!(operation.before, Before::Absent | Before::Log) => Ok(true),
        Err(Errno::NOENT) => Err("it is not there".to_owned()),
        Err(error) => Err(told(error)),
        Ok(_) => Ok(false),
    }
}

fn create(root: &Root, path: &[u8], after: &After, rights: Rights) -> Outcome<()> {
    let place = root.place(path)?;
    match after {
        After::Content { bytes, like } => {
            let (mode, uid, gid, label) = match like {
                Some(like) => {
                    let like = root.place(like)?;
                    let found = like.stat()?.ok_or("the file whose rights it takes is not there")?;
                    expect(&found, FileType::RegularFile)?;
                    (found.st_mode & 0o7777, found.st_uid, found.st_gid, like.label()?)
                }
                None => (0o644, 0, 0, root.neighbour_label(path, FileType::RegularFile)?),
            };
            let mut file = new_file(&place)?;
            rustix::fs::fchown(&file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))).map_err(told)?;
            rustix::fs::fchmod(&file, Mode::from_raw_mode(mode)).map_err(told)?;
            place.set_label(label.as_deref())?;
            written(&mut file, bytes, rights)
        }
        After::Appended(bytes) => {
            let label = root.neighbour_label(path, FileType::RegularFile)?;
            let mut file = new_file(&place)?;
            place.set_label(label.as_deref())?;
            written(&mut file, bytes, rights)
        }
        After::Link(target) => {
            let label = root.neighbour_label(path, FileType::Symlink)?;
            rustix::fs::symlinkat(&target[..], &place.folder, place.name).map_err(told)?;
            place.set_label(label.as_deref())
        }
        After::Absent(_) | After::Patched(_) => Err("it is not there".to_owned()),
    }
}

/// Makes a file for its owner, who is root, alone.
fn new_file(place: &Place<'_>) -> Outcome<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&place.folder, place.name, flags, Mode::from_raw_mode(0o600)).map_err(told)?;
    Ok(file.into())
}

/// Returns a file without a name that has the blocks of `file`, where the file system lets files share blocks.
fn shared(folder: &OwnedFd, file: &File) -> Option<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::TMPFILE | OFlags::CLOEXEC;
    let other = rustix::fs::openat(folder, c".", flags, Mode::from_raw_mode(0o600)).ok()?;
    rustix::fs::ioctl_ficlone(&other, file).is_ok().then_some(other)
}

/// Writes `bytes`. The kernel writes all files at once, when all are changed: beside each other, and in one transaction.
fn written(file: &mut File, bytes: &[u8], rights: Rights) -> Outcome<()> {
    file.write_all(bytes).map_err(|error| io(&error))?;
    match rights {
        Rights::OfLinux => Ok(()),
        // A driver that is a program is asked for each file.
        Rights::Inherited => file.sync_all().map_err(|error| io(&error)),
    }
}

fn io(error: &std::io::Error) -> String {
    Errno::from_io_error(error).map_or_else(|| error.to_string(), told)
}

/// Checks what stands at `path`, of which the content matters only where it is a file.
fn check(root: &Root, path: &[u8], place: &Place<'_>, found: &Stat, before: &Before) -> Outcome<()> {
    match before {
        Before::File { sha256: Some(_), .. } => checked_file(root, path, before).map(drop),
        Before::File { length, sha256: None } => {
            expect(found, FileType::RegularFile)?;
            expect_length(found, *length)
        }
        Before::Link(target) => {
            expect(found, FileType::Symlink)?;
            let is = rustix::fs::readlinkat(&place.folder, place.name, Vec::new()).map_err(told)?;
            if is.to_bytes() == target {
                Ok(())
            } else {
                Err("the link leads elsewhere than was planned for".to_owned())
            }
        }
        Before::Folder => expect(found, FileType::Directory),
        Before::Absent | Before::Log => Err("something is there".to_owned()),
    }
}

/// Opens the regular file at `path`, if it is what the job says.
fn checked_file(root: &Root, path: &[u8], before: &Before) -> Outcome<File> {
    let file: OwnedFd = root.open_at(path, OFlags::RDWR).map_err(told)?;
    let found = rustix::fs::fstat(&file).map_err(told)?;
    expect(&found, FileType::RegularFile)?;
    let mut file = File::from(file);
    match before {
        Before::Log => Ok(file),
        Before::File { length, sha256 } => {
            expect_length(&found, *length)?;
            match sha256 {
                Some(expected) if hash(&mut file, *length)? != *expected => {
                    Err("its content is not what was planned for".to_owned())
                }
                _ => Ok(file),
            }
        }
        _ => Err("a file is there".to_owned()),
    }
}

fn hash(file: &mut File, length: u64) -> Outcome<[u8; 32]> {
    let mut hash = Sha256::new();
    let mut piece = vec![0; PIECE];
    let mut file = file.take(length);
    loop {
        let count = file.read(&mut piece).map_err(|error| io(&error))?;
        if count == 0 {
            return Ok(hash.finalize().into());
        }
        hash.update(&piece[..count]);
    }
}

fn expect(found: &Stat, kind: FileType) -> Outcome<()> {
    let is = FileType::from_raw_mode(found.st_mode);
    if is == kind { Ok(()) } else { Err(format!("a {kind:?} was planned for, and a {is:?} is there")) }
}

fn expect_length(found: &Stat, length: u64) -> Outcome<()> {
    let is = u64::try_from(found.st_size).unwrap_or(u64::MAX);
    if is == length { Ok(()) } else { Err(format!("it has {is} bytes instead of {length}")) }
}
