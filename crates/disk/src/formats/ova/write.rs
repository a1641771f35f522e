//! The archive that is written: descriptor, manifest and a compressed VMDK, in the order that importers read.
//!
//! ```text
//! header | descriptor (.ovf) | header | manifest (.mf) | header | disk (.vmdk) | two blocks of zeros
//! |------------------- head, known last -----------------------|
//! ```
//! The length and digest of the disk are known when it was written, so everything before it has a length that does not
//! depend on them: the descriptor ends with spaces.

use std::io::{self, Write};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::envelope::Machine;
use super::manifest::hex;
use super::tar::{self, BLOCK};
use crate::error::{Error, Result};
use crate::formats::vmdk;
use crate::options::{Known, WriteOptions};
use crate::output::{Output, Progress, Stream};
use crate::source::Source;

/// The options of the writer.
pub(crate) const OPTIONS: &[Known] = &[
    ("name", "name of the machine and its files: appliance"),
    ("firmware", "what starts the guest: bios or efi"),
    ("vcpus", "number of processors: 1"),
    ("memory", "memory in MiB: 1024"),
    ("nics", "number of network cards: 1"),
    ("controller", "what the disk hangs on: scsi (LSI Logic), pvscsi (VMware) or sata"),
    ("os", "guest: other, linux, debian, ubuntu, rhel, centos, sles, freebsd or windows-server"),
    ("level", "how hard to compress the disk"),
];

/// A sector of a VMDK, in which its capacity is counted.
const SECTOR: u64 = 512;

struct Archive {
    machine: Machine,
    /// The size of the disk in bytes.
    capacity: u64,
    disk: Box<dyn Stream>,
}

/// Returns the appliance that holds `disk`.
pub(crate) fn write(disk: Arc<dyn Source>, options: &WriteOptions) -> Result<Output> {
    let machine = Machine::new(options)?;
    let mut inner = WriteOptions::default();
    inner.set("subformat", "streamOptimized");
    inner.set("name", &disk_name(&machine));
    if let Some(level) = options.text("level") {
        inner.set("level", level);
    }
    let size = disk.len();
    match vmdk::write(disk, &inner)? {
        // The digest is made while the disk is written, so its first bytes must come first.
        Output::Stream(stream) if stream.head_length() == 0 => {
            let capacity = size.div_ceil(SECTOR).saturating_mul(SECTOR);
            Ok(Output::Stream(Box::new(Archive { machine, capacity, disk: stream })))
        }
        _ => Err(Error::unsupported("the disk of an appliance must be made from its beginning to its end")),
    }
}

impl Stream for Archive {
    fn head_length(&self) -> u64 {
        let file = |length: usize| BLOCK + (length as u64).next_multiple_of(BLOCK);
        file(self.descriptor_length()) + file(self.manifest("", "").len()) + BLOCK
    }

    fn write(&self, threads: usize, progress: Progress<'_>, out: &mut dyn Write) -> Result<Vec<u8>> {
        let mut hashed = Hashed { out, hash: Sha256::new(), length: 0 };
        self.disk.write(threads, progress, &mut hashed)?;
        let (digest, length) = (hex(&hashed.hash.finalize()), hashed.length);
        let end = vec![0; (tar::padding(length) + 2 * BLOCK) as usize];
        out.write_all(&end).map_err(|error| Error::io("write the end of the archive", error))?;
        let descriptor = self.descriptor(length);
        let manifest = self.manifest(&hex(&Sha256::digest(&descriptor)), &digest);
        let mut head = Vec::new();
        for (extension, content) in [("ovf", descriptor), ("mf", manifest)] {
            head.extend(tar::header(&format!("{}.{extension}", self.machine.name), content.len() as u64)?);
            head.extend_from_slice(content.as_bytes());
            head.resize(head.len().next_multiple_of(BLOCK as usize), 0);
        }
        head.extend(tar::header(&disk_name(&self.machine), length)?);
        Ok(head)
    }
}

fn disk_name(machine: &Machine) -> String {
    format!("{}-disk1.vmdk", machine.name)
}

impl Archive {
    fn envelope(&self, length: u64) -> String {
        self.machine.envelope(&disk_name(&self.machine), length, self.capacity)
    }

    /// The length of the descriptor, whatever the length of the disk.
    fn descriptor_length(&self) -> usize {
        self.envelope(u64::MAX).len()
    }

    fn descriptor(&self, length: u64) -> String {
        format!("{:1$}", self.envelope(length), self.descriptor_length())
    }

    /// The manifest; the names and the digits of the digests give it a length that is always the same.
    fn manifest(&self, descriptor: &str, disk: &str) -> String {
        let name = &self.machine.name;
        format!("SHA256({name}.ovf)= {descriptor:64}\nSHA256({})= {disk:64}\n", disk_name(&self.machine))
    }
}

/// Passes bytes on, and takes their digest and number.
struct Hashed<'a> {
    out: &'a mut dyn Write,
    hash: Sha256,
    length: u64,
}

impl Write for Hashed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.length += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::ova::{appliance, verify_manifest};

    /// A disk that was made before.
    struct Made(Vec<u8>);

    impl Stream for Made {
        fn write(&self, _: usize, _: Progress<'_>, out: &mut dyn Write) -> Result<Vec<u8>> {
            for piece in self.0.chunks(700) {
                out.write_all(piece).map_err(|error| Error::io("write", error))?;
            }
            Ok(Vec::new())
        }
    }

    #[test]
    fn the_head_fits_whatever_the_length_of_the_disk() {
        for length in [1, 511, 512, 513, 123_456] {
            let machine = Machine::new(&WriteOptions::default()).unwrap();
            let archive = Archive { machine, capacity: 1 << 20, disk: Box::new(Made(vec![7; length])) };
            let mut tail = Vec::new();
            let mut file = archive.write(1, &|_, _| (), &mut tail).unwrap();
            assert_eq!(file.len() as u64, archive.head_length());
            file.extend(tail);
            assert_eq!(file.len() % BLOCK as usize, 0);
            let file: Arc<dyn Source> = Arc::new(file);
            let found = appliance(Arc::clone(&file)).unwrap();
            assert_eq!((found.disks[0].file_size, found.disks[0].capacity_bytes), (length as u64, Some(1 << 20)));
            assert_eq!(found.notes, Vec::<String>::new());
            assert_eq!(verify_manifest(file).unwrap().files, ["appliance.ovf", "appliance-disk1.vmdk"]);
        }
    }
}
