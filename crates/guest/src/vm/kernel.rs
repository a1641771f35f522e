//! The kernel of the host's distribution, and the modules that a kind of file system needs of it.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use disk::error::{Error, ErrorKind, Result};

use super::machine::{Machine, missing};
use super::{module, vmlinux};

/// Largest file of a kernel, longest text that lists modules, and longest module, in bytes.
const KERNEL_MAX: u64 = 256 << 20;
const LIST_MAX: u64 = 16 << 20;
const MODULE_MAX: u64 = 64 << 20;
/// Modules of all machines: the drives.
const DRIVES: [&str; 2] = ["virtio_pci", "virtio_blk"];
/// How a kernel's settings say that it insists on signatures.
const INSISTS: &[u8] = b"CONFIG_MODULE_SIG_FORCE=y";
/// What is asked for by name while the kernel runs, where nobody answers.
const CODE_PAGES: [&str; 2] = ["nls_cp437", "nls_ascii"];
const CHECKSUMS: [&str; 3] = ["crc32c_generic", "xxhash_generic", "blake2b_generic"];

/// A kernel and the folder of its modules.
#[derive(Debug)]
pub(super) struct Kernel {
    path: PathBuf,
    modules: PathBuf,
}

/// A kernel as a machine starts with it.
pub(super) struct Image {
    /// Its file, which unpacks itself.
    pub(super) packed: Vec<u8>,
    /// What is in it, where that can be started too.
    pub(super) unpacked: Option<Vec<u8>>,
}

/// Returns the newest kernel that has its modules: one for clouds, if there is one, as it starts faster.
pub(super) fn newest(machine: &Machine) -> Option<Kernel> {
    let entries = fs::read_dir(&machine.kernels).ok()?.flatten();
    let mut found: Vec<(bool, Vec<u64>, Kernel)> = entries
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let version = name.strip_prefix("vmlinuz-")?;
            let modules = machine.modules.join(version);
            let is_whole = modules.join("modules.dep").is_file();
            let numbers = version.split(|letter: char| !letter.is_ascii_digit()).filter_map(|part| part.parse().ok());
            let kernel = Kernel { path: entry.path(), modules };
            is_whole.then(|| (version.contains("cloud"), numbers.collect(), kernel))
        })
        .collect();
    found.sort_by(|one, other| (one.0, &one.1).cmp(&(other.0, &other.1)));
    found.pop().map(|(_, _, kernel)| kernel)
}

impl Kernel {
    /// Reads the kernel.
    ///
    /// # Errors
    ///
    /// Where it cannot be read.
    pub(super) fn image(&self) -> Result<Image> {
        let packed = read(&self.path, KERNEL_MAX)?;
        let unpacked = vmlinux::unpack(&packed);
        Ok(Image { packed, unpacked })
    }

    /// Reads the modules for the file systems of `kinds`, each after what it depends on.
    ///
    /// # Errors
    ///
    /// Where the kernel does not know a kind, or a module cannot be read.
    pub(super) fn modules(&self, kinds: &[&str]) -> Result<Vec<Vec<u8>>> {
        let (depends, builtin) = (self.list("modules.dep")?, self.list("modules.builtin")?);
        let depends: HashMap<String, (&str, &str)> = depends
            .lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(path, needs)| (name(path), (path, needs)))
            .collect();
        let is_builtin = |wanted: &str| builtin.lines().any(|path| name(path) == wanted);
        let mut paths: Vec<&str> = Vec::new();
        let mut add = |wanted: &str| {
            let Some((path, needs)) = depends.get(wanted) else { return is_builtin(wanted) };
            // The list names the nearest need first.
            for path in needs.split_ascii_whitespace().rev().chain([*path]) {
                if !paths.contains(&path) {
                    paths.push(path);
                }
            }
            true
        };
        for wanted in DRIVES {
            if !add(wanted) {
                return Err(missing("kernel with drivers of virtio"));
            }
        }
        if kinds.contains(&"btrfs") || kinds.contains(&"xfs") {
            // Those that are not there are for checksums that the kernel does not know.
            CHECKSUMS.iter().filter(|wanted| kinds.contains(&"btrfs") || wanted.starts_with("crc")).for_each(
                |wanted| {
                    add(wanted);
                },
            );
        }
        if kinds.contains(&"vfat") {
            for wanted in CODE_PAGES {
                add(wanted);
            }
        }
        for kind in kinds {
            let module = match *kind {
                agent::NTFS => "fuse",
                kind if kind.starts_with("ext") => "ext4",
                kind => kind,
            };
            if !add(module) {
                return Err(missing(&format!("kernel that knows {kind}")));
            }
        }
        let insists = self.insists_on_signatures();
        let lean = |bytes: Vec<u8>| if insists { bytes } else { module::lean(bytes) };
        paths.iter().map(|path| self.module(path).map(lean)).collect()
    }

    /// Returns whether the kernel loads no module that is not signed, as far as its settings lie beside it.
    fn insists_on_signatures(&self) -> bool {
        let name = self.path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let settings = self.path.with_file_name(name.replacen("vmlinuz", "config", 1));
        read(&settings, LIST_MAX).is_ok_and(|text| text.split(|byte| *byte == b'\n').any(|line| line == INSISTS))
    }

    fn list(&self, name: &str) -> Result<String> {
        let path = self.modules.join(name);
        let bytes = read(&path, LIST_MAX)?;
        String::from_utf8(bytes).map_err(|_| Error::corrupt(format!("`{}` is no text", path.display())))
    }

    /// Reads a module, unpacked: the kernel itself may not know how.
    fn module(&self, path: &str) -> Result<Vec<u8>> {
        let path = self.modules.join(path);
        let file = read(&path, MODULE_MAX)?;
        let unpack = |mut from: Box<dyn Read + '_>| {
            let mut bytes = Vec::new();
            from.by_ref().take(MODULE_MAX).read_to_end(&mut bytes).map(|_| bytes)
        };
        let cannot = |error| Error::io(format!("unpack `{}`", path.display()), error);
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("xz") => unpack(Box::new(liblzma::read::XzDecoder::new(&file[..]))).map_err(cannot),
            Some("zst") => {
                let decoder = zstd::stream::read::Decoder::new(&file[..]).map_err(cannot)?;
                unpack(Box::new(decoder)).map_err(cannot)
            }
            Some("gz") => unpack(Box::new(flate2::read::GzDecoder::new(&file[..]))).map_err(cannot),
            _ => Ok(file),
        }
    }
}

/// Returns what the module at `path` is called.
fn name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split('.').next().unwrap_or(file).replace('-', "_")
}

fn read(path: &Path, most: u64) -> Result<Vec<u8>> {
    let cannot = |error| Error::io(format!("read `{}`", path.display()), error);
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(cannot)?;
    file.take(most + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() as u64 > most {
        return Err(Error::new(ErrorKind::TooLarge, format!("`{}` is longer than {most} bytes", path.display())));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(folder: &Path) -> Machine {
        Machine { kernels: folder.to_owned(), modules: folder.join("modules"), ..Machine::default() }
    }

    #[test]
    fn the_newest_whole_kernel_is_taken_and_modules_come_after_their_needs() {
        let folder = tempfile::tempdir().unwrap();
        let machine = machine(folder.path());
        assert!(newest(&machine).is_none());
        for (version, is_whole) in [
            ("6.1.0-9-cloud-amd64", true),
            ("6.1.0-10-cloud-amd64", true),
            ("6.12.0-1-amd64", true),
            ("6.2.0-1-cloud-amd64", false),
        ] {
            fs::write(folder.path().join(format!("vmlinuz-{version}")), "").unwrap();
            let modules = machine.modules.join(version);
            fs::create_dir_all(&modules).unwrap();
            if is_whole {
                fs::write(modules.join("modules.dep"), "a/virtio_pci.ko: a/virtio-ring.ko a/virtio.ko\na/virtio_blk.ko: a/virtio.ko\nfs/xfs.ko.gz:\na/virtio-ring.ko:\na/virtio.ko:\n").unwrap();
                fs::write(modules.join("modules.builtin"), "kernel/fs/ext4/ext4.ko\n").unwrap();
            }
        }
        let kernel = newest(&machine).unwrap();
        assert!(kernel.path.ends_with("vmlinuz-6.1.0-10-cloud-amd64"), "{kernel:?}");
        fs::create_dir_all(kernel.modules.join("a")).unwrap();
        fs::create_dir_all(kernel.modules.join("fs")).unwrap();
        for name in ["virtio_pci", "virtio_blk", "virtio-ring", "virtio"] {
            fs::write(kernel.modules.join(format!("a/{name}.ko")), name).unwrap();
        }
        let mut packed = flate2::read::GzEncoder::new(&b"xfs"[..], flate2::Compression::fast());
        let mut bytes = Vec::new();
        packed.read_to_end(&mut bytes).unwrap();
        fs::write(kernel.modules.join("fs/xfs.ko.gz"), bytes).unwrap();
        let modules = kernel.modules(&["xfs", "ext3"]).unwrap();
        assert_eq!(
            modules,
            ["virtio", "virtio-ring", "virtio_pci", "virtio_blk", "xfs"].map(|name| name.as_bytes().to_vec())
        );
        let error = kernel.modules(&["btrfs"]).unwrap_err();
        assert!(error.to_string().contains("btrfs") && error.hint().is_some());
    }

    #[test]
    fn a_kernel_that_insists_on_signatures_gets_modules_with_theirs() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vmlinuz-6.1.0-9-amd64");
        let kernel = Kernel { path, modules: folder.path().to_owned() };
        // A file of ELF with one section, and a signature of no bytes.
        let mut module = vec![0; 128];
        module[..6].copy_from_slice(b"\x7fELF\x02\x01");
        (module[0x28], module[0x3a], module[0x3c]) = (64, 64, 1);
        let signed = [&module[..], &[0; 12], b"~Module signature appended~\n"].concat();
        fs::write(folder.path().join("modules.dep"), "virtio_pci.ko:\nvirtio_blk.ko:\n").unwrap();
        fs::write(folder.path().join("modules.builtin"), "").unwrap();
        for drive in DRIVES {
            fs::write(folder.path().join(format!("{drive}.ko")), &signed).unwrap();
        }
        assert_eq!(kernel.modules(&[]).unwrap(), [&module[..], &module]);
        for (settings, insists) in [
            ("CONFIG_MODULE_SIG=y\nCONFIG_MODULE_SIG_FORCE=y\nCONFIG_MODULE_SIG_ALL=y\n", true),
            ("CONFIG_MODULE_SIG=y\n# CONFIG_MODULE_SIG_FORCE is not set\n", false),
            ("CONFIG_MODULE_SIG_FORCE=y", true),
        ] {
            fs::write(folder.path().join("config-6.1.0-9-amd64"), settings).unwrap();
            let expected = if insists { &signed } else { &module };
            assert_eq!(kernel.modules(&[]).unwrap(), [&expected[..], expected], "{settings:?}");
        }
    }
}
