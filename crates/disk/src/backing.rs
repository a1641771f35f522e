//! The file that an overlay reads through: how the overlay names it, and what QEMU calls its format.

use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use crate::error::{Error, ErrorKind, Result};
use crate::format::Format;
use crate::formats::vhdx;
use crate::opened::Opened;

/// A name has at most so many bytes, as in QEMU.
const MAX_NAME: usize = 1023;
/// The kinds of VMDK disks of several files that QEMU opens.
const VMDK_SETS: &[&str] =
    &["monolithicFlat", "vmfs", "vmfsSparse", "seSparse", "twoGbMaxExtentSparse", "twoGbMaxExtentFlat"];

/// A backing file, as an overlay names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backing {
    name: Vec<u8>,
    format: &'static str,
}

impl Backing {
    /// Names the file `base`, which was opened as `opened`, for an overlay at `overlay`; `others` are the other files of its disk.
    ///
    /// The name is relative to the folder of the overlay, where QEMU looks for it, so both may be moved together; that of a
    /// device is absolute.
    ///
    /// # Errors
    /// `Unsupported` where QEMU could not read through the file, or not as it was read here.
    pub fn new(base: &Path, opened: &Opened, others: &[PathBuf], overlay: &Path) -> Result<Self> {
        let format = qemu_format(opened)?;
        let base = real(base)?;
        for other in others {
            check_other(&base, &opened.variant, other)?;
        }
        let folder = folder_of(overlay)?;
        let place = overlay.file_name().map(|name| folder.join(name));
        let taken = |file: &Path| real(file).is_ok_and(|file| Some(file) == place);
        if taken(&base) || others.iter().any(|other| taken(other)) {
            return Err(Error::refused(format!(
                "{} is what the overlay would read through, and it would take its place",
                overlay.display()
            ))
            .with_hint("choose another name"));
        }
        let is_file = fs::metadata(&base).is_ok_and(|metadata| metadata.is_file());
        let name = if is_file { relative(&base, &folder) } else { base };
        let name = without_protocol(name.into_os_string().into_vec());
        if name.len() > MAX_NAME {
            return Err(Error::new(
                ErrorKind::TooLarge,
                format!("the name of the backing file would have {} bytes, allowed are {MAX_NAME}", name.len()),
            )
            .with_hint("put the overlay nearer to it"));
        }
        Ok(Self { name, format })
    }

    /// Returns the name, as it stands in the overlay.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// Returns what QEMU calls the format.
    #[must_use]
    pub fn format(&self) -> &'static str {
        self.format
    }
}

/// Returns what QEMU calls the format of a file, if it can read through it by name and format alone.
fn qemu_format(opened: &Opened) -> Result<&'static str> {
    let name = match opened.format {
        Format::Raw | Format::Iso => "raw",
        Format::Qcow2 if opened.variant.split(' ').any(|word| word == "LUKS") => {
            return Err(Error::unsupported("an overlay of an encrypted file, which only its passphrase opens"));
        }
        Format::Qcow2 => "qcow2",
        Format::Vhd => "vpc",
        Format::Vdi => "vdi",
        Format::Vmdk => "vmdk",
        Format::Vhdx => match vhdx::not_for_qemu(&opened.notes) {
            None => "vhdx",
            Some(why) => {
                return Err(Error::unsupported(format!("an overlay of a VHDX that QEMU does not read through: {why}")));
            }
        },
        Format::Qcow1 => "qcow",
        Format::Qed => "qed",
        Format::Parallels => "parallels",
        other => {
            return Err(Error::unsupported(format!(
                "an overlay of a file in format {other}, which QEMU cannot read through"
            )));
        }
    };
    Ok(name)
}

/// Checks that QEMU finds `other`, a file of the same disk as `base`, where `base` says, and opens disks of that kind.
fn check_other(base: &Path, kind: &str, other: &Path) -> Result<()> {
    if !VMDK_SETS.contains(&kind) {
        return Err(Error::unsupported(format!("an overlay of a disk of several files of the kind {kind:?}")));
    }
    if Some(&*folder_of(other)?) == base.parent() {
        return Ok(());
    }
    Err(Error::unsupported(format!("an overlay of a disk whose file {} does not lie beside it", other.display())))
}

/// Returns the absolute path of the folder that a file lies in, or will lie in, without links.
fn folder_of(path: &Path) -> Result<PathBuf> {
    real(path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")))
}

/// Returns the absolute path of a file or folder, without links.
fn real(path: &Path) -> Result<PathBuf> {
    fs::canonicalize(path).map_err(|error| Error::io(format!("find {}", path.display()), error))
}

/// Returns the way from `folder` to `file`; both are absolute and without links.
fn relative(file: &Path, folder: &Path) -> PathBuf {
    let common = file.components().zip(folder.components()).take_while(|(one, other)| one == other).count();
    let up = folder.components().skip(common).map(|_| Component::ParentDir);
    up.chain(file.components().skip(common)).collect()
}

/// Returns a relative name of which QEMU does not take the beginning for a protocol, as in `nbd:`.
fn without_protocol(name: Vec<u8>) -> Vec<u8> {
    match name.iter().find(|byte| matches!(byte, b':' | b'/')) {
        Some(b':') => [b"./", &*name].concat(),
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn opened(format: Format, variant: &str) -> Opened {
        let disk = Arc::new(vec![0; 512]);
        Opened { disk, format, variant: variant.to_owned(), block_size: None, notes: Vec::new() }
    }

    #[test]
    fn names_are_relative_and_no_protocols() {
        let way = |file: &str, folder: &str| relative(Path::new(file), Path::new(folder)).into_os_string();
        assert_eq!(way("/a/b/disk", "/a/b"), "disk");
        assert_eq!(way("/a/b/disk", "/a"), "b/disk");
        assert_eq!(way("/a/disk", "/a/b/c"), "../../disk");
        assert_eq!(way("/a/disk", "/b"), "../a/disk");
        for (name, safe) in [("a:b", "./a:b"), (":", "./:"), ("a/b:c", "a/b:c"), ("../a:b", "../a:b"), ("a", "a")] {
            assert_eq!(without_protocol(name.into()), safe.as_bytes());
        }
    }

    #[test]
    fn what_qemu_cannot_read_through_is_refused() {
        for format in [Format::Gzip, Format::Xz, Format::Zstd, Format::Bzip2, Format::Zip, Format::Ova, Format::Luks] {
            let refused = qemu_format(&opened(format, "")).unwrap_err();
            assert!(refused.to_string().contains(format.as_str()), "{refused}");
        }
        qemu_format(&opened(Format::Qcow2, "v3 LUKS")).unwrap_err();
        assert_eq!(qemu_format(&opened(Format::Vhd, "dynamic")).unwrap(), "vpc");
        let mut vhdx = opened(Format::Vhdx, "dynamic");
        assert_eq!(qemu_format(&vhdx).unwrap(), "vhdx");
        for note in ["the log has changes that were not finished: 3 entries", "its sectors have 4096 bytes"] {
            vhdx.notes = vec![note.to_owned()];
            assert!(qemu_format(&vhdx).unwrap_err().to_string().ends_with(note));
        }
    }

    #[test]
    fn other_files_lie_beside_and_the_overlay_takes_no_place_of_theirs() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("below")).unwrap();
        for name in ["disk.vmdk", "disk-flat.vmdk", "below/disk-flat.vmdk"] {
            fs::write(at(name), "").unwrap();
        }
        let name = |kind: &str, other: &str, overlay: &str| {
            Backing::new(&at("disk.vmdk"), &opened(Format::Vmdk, kind), &[at(other)], &at(overlay))
        };
        let backing = name("monolithicFlat", "disk-flat.vmdk", "below/out").unwrap();
        assert_eq!((backing.name(), backing.format()), (&b"../disk.vmdk"[..], "vmdk"));
        let kind = |refused: Result<Backing>| refused.unwrap_err().kind();
        assert_eq!(kind(name("monolithicFlat", "below/disk-flat.vmdk", "out")), ErrorKind::Unsupported);
        assert_eq!(kind(name("2GbMaxExtentFlat", "disk-flat.vmdk", "out")), ErrorKind::Unsupported);
        assert_eq!(kind(name("monolithicFlat", "disk-flat.vmdk", "below/../disk.vmdk")), ErrorKind::Refused);
        assert_eq!(kind(name("monolithicFlat", "disk-flat.vmdk", "disk-flat.vmdk")), ErrorKind::Refused);
        assert_eq!(kind(name("monolithicFlat", "absent/disk-flat.vmdk", "out")), ErrorKind::Io);
        let far = (0..6).fold(at("deep"), |path, _| path.join("n".repeat(200))).join("disk");
        fs::create_dir_all(far.parent().unwrap()).unwrap();
        fs::write(&far, "").unwrap();
        let refused = Backing::new(&far, &opened(Format::Raw, ""), &[], &at("out")).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::TooLarge);
    }
}
