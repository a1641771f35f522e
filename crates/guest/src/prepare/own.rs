//! The engines in this process: the own writers of ext2, ext3, ext4 and FAT, and that of values of the registry.

use std::ops::Range;
use std::sync::Arc;

use disk::error::{Error, Result};
use disk::source::Source;

use crate::plan::{Change, RecordFile, State};
use crate::report::FilesystemKind;
use crate::write::{self, Attributes, NtfsWriter, Overlay, Writer};

/// Makes `changes`, in their order, in the file system that lies in `range`; `record` goes to its file.
pub(super) fn apply_all(
    overlay: &mut Overlay,
    (kind, range): (FilesystemKind, Range<u64>),
    changes: &[&Change],
    record: Option<(&RecordFile, &str)>,
    now: u64,
) -> Result<()> {
    let writer = write::open(overlay, kind, range, now)?;
    let mut writer = writer.ok_or_else(|| Error::unsupported(format!("there is no writer for {kind}")))?;
    for change in changes {
        apply(&mut *writer, change).map_err(|error| cannot(&change.summary(), &error))?;
    }
    match record {
        Some((file, text)) => append(&mut *writer, &file.inner, text).map_err(|error| cannot(&file.inner, &error)),
        None => Ok(()),
    }
}

/// Sets values of registry hives in the NTFS that lies in `range`; nothing else is changed there, and so no record is left.
pub(super) fn set_values(
    overlay: &mut Overlay,
    disk: &Arc<dyn Source>,
    range: Range<u64>,
    changes: &[&Change],
    now: u64,
) -> Result<()> {
    let writer = NtfsWriter::open(Arc::clone(disk), range)?;
    for change in changes {
        let done = match &change.after {
            State::Values(values) => {
                writer.edit(&change.inner, values, now).and_then(|edited| writer.write(overlay, &change.inner, &edited))
            }
            after => Err(Error::unsupported(format!("on NTFS no {} is written", after.as_str()))),
        };
        done.map_err(|error| cannot(&change.summary(), &error))?;
    }
    Ok(())
}

/// Makes one change. What the plan saw is looked at again where it is known, so that nothing else is overwritten.
fn apply(writer: &mut dyn Writer, change: &Change) -> Result<()> {
    let path = change.inner.as_bytes();
    match (&change.before, &change.after) {
        (State::Absent, State::File(bytes)) => {
            let like = change.like.as_deref().map(str::as_bytes);
            make_parents(writer, path)?;
            let attributes = match like {
                Some(like) => writer.attributes(like)?,
                None => Attributes { mode: 0o644, uid: 0, gid: 0 },
            };
            writer.create(path, bytes, attributes, like)
        }
        (State::File(_) | State::Unread { .. }, State::File(bytes)) => writer.replace(path, bytes),
        (State::File(_) | State::Unread { .. }, State::Appended(bytes)) => writer.append(path, bytes),
        (State::Absent, State::Link(target)) => {
            make_parents(writer, path)?;
            writer.symlink(path, target.as_bytes())
        }
        (State::Link(_) | State::File(_) | State::Unread { .. }, State::Link(target)) => {
            writer.remove(path)?;
            writer.symlink(path, target.as_bytes())
        }
        (State::Folder(below), State::Absent) => {
            for (inner, is_folder) in below {
                if *is_folder { writer.remove_folder(inner.as_bytes())? } else { writer.remove(inner.as_bytes())? }
            }
            writer.remove_folder(path)
        }
        (State::File(_) | State::Unread { .. } | State::Link(_), State::Absent) => writer.remove(path),
        (before, after) => {
            Err(Error::refused(format!("a {} there would have to become a {}", before.as_str(), after.as_str())))
        }
    }
}

/// Makes the folders that lead to `path`, as far as they are not there.
fn make_parents(writer: &mut dyn Writer, path: &[u8]) -> Result<()> {
    let ends = path.iter().enumerate().skip(1).filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    for end in ends {
        if !writer.exists(&path[..end])? {
            writer.make_folder(&path[..end], Attributes { mode: 0o755, uid: 0, gid: 0 })?;
        }
    }
    Ok(())
}

fn append(writer: &mut dyn Writer, path: &str, text: &str) -> Result<()> {
    if writer.exists(path.as_bytes())? {
        return writer.append(path.as_bytes(), text.as_bytes());
    }
    make_parents(writer, path.as_bytes())?;
    writer.create(path.as_bytes(), text.as_bytes(), Attributes { mode: 0o600, uid: 0, gid: 0 }, None)
}

/// Says what could not be done, with the way out that `error` knows.
pub(super) fn cannot(what: &str, error: &Error) -> Error {
    let hint = error.hint().map(str::to_owned);
    let told = Error::new(error.kind(), format!("cannot {what}: {error}"));
    match hint {
        Some(hint) => told.with_hint(hint),
        None => told,
    }
}
