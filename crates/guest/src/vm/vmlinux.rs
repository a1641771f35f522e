//! The kernel inside the file of a kernel: QEMU starts it as it is, which spares the machine unpacking it.
//!
//! ```text
//! the file: boot sector and set-up, then an unpacker that holds the payload: the kernel, an ELF file, compressed
//! ```
//!
//! The set-up says where the payload lies ("The Linux/x86 Boot Protocol", `payload_offset`, from version 2.08 on), and its last
//! four bytes how long the kernel is ("Kernel Image Header", `arch/x86/boot/compressed/Makefile`).

use super::elf;
use crate::fields::{le16, le32, stands_at};
use crate::initramfs::unpack::whole;

/// Largest kernel, unpacked.
const KERNEL_MAX: usize = 256 << 20;
const SECTOR: usize = 512;
/// The last sector of the set-up of those who do not say which, and the first version that tells of the payload.
const SET_UP_SECTORS: u8 = 4;
const TELLS_PAYLOAD: u16 = 0x0208;

/// Returns the kernel in `file`; none where it is packed in an unknown way, or cannot be started but by its own unpacker.
pub(super) fn unpack(file: &[u8]) -> Option<Vec<u8>> {
    if !stands_at(file, 0x202, b"HdrS") || le16(file, 0x206) < TELLS_PAYLOAD {
        return None;
    }
    let sectors = match file[0x1f1] {
        0 => SET_UP_SECTORS,
        sectors => sectors,
    };
    let (offset, length) = (usize::try_from(le32(file, 0x248)).ok()?, usize::try_from(le32(file, 0x24c)).ok()?);
    let start = (usize::from(sectors) + 1) * SECTOR + offset;
    let payload = file.get(start..start.checked_add(length)?)?;
    let (packed, size) = payload.split_last_chunk::<4>()?;
    let size = usize::try_from(u32::from_le_bytes(*size)).ok().filter(|size| *size <= KERNEL_MAX)?;
    // That of gzip is a part of it; what made the others has appended it.
    let packed = if payload.starts_with(b"\x1f\x8b") { payload } else { packed };
    let mut kernel = Vec::with_capacity(size);
    whole(packed, size as u64, &mut kernel).ok()?;
    (kernel.len() == size && elf::starts_directly(&kernel)).then_some(kernel)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// An ELF file whose only header is that of a note of `kind`.
    fn elf(kind: u32) -> Vec<u8> {
        let mut file = vec![0; 64 + 56];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        file[18] = 62;
        file[32] = 64;
        file[54] = 56;
        file[56] = 1;
        file[64] = 4;
        let mut note = Vec::new();
        // One of another maker, with a name and a value that are filled up.
        for (name, kind, value) in [(&b"GNU!!\0"[..], 18_u32, &b"12345"[..]), (b"Xen\0", kind, &[0; 4])] {
            for word in [name.len() as u32, value.len() as u32, kind] {
                note.extend(word.to_le_bytes());
            }
            for part in [name, value] {
                note.extend(part);
                note.resize(note.len().next_multiple_of(4), 0);
            }
        }
        file[72] = 64 + 56;
        file[96] = note.len() as u8;
        file.extend(note);
        file
    }

    fn packed(payload: &[u8]) -> Vec<u8> {
        let mut file = vec![0; 6 * SECTOR];
        file[0x1f1] = 2;
        file[0x202..0x208].copy_from_slice(b"HdrS\x0f\x02");
        file[0x248..0x24c].copy_from_slice(&(3 * SECTOR as u32).to_le_bytes());
        file[0x24c..0x250].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        file.extend(payload);
        file.extend(b"what follows");
        file
    }

    fn gzip(kernel: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(kernel).unwrap();
        encoder.finish().unwrap()
    }

    fn xz(kernel: &[u8]) -> Vec<u8> {
        let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
        encoder.write_all(kernel).unwrap();
        let mut payload = encoder.finish().unwrap();
        payload.extend((kernel.len() as u32).to_le_bytes());
        payload
    }

    #[test]
    fn a_kernel_that_can_be_started_directly_comes_out_whole() {
        let kernel = elf(18);
        assert_eq!(unpack(&packed(&gzip(&kernel))).as_ref(), Some(&kernel));
        assert_eq!(unpack(&packed(&xz(&kernel))).as_ref(), Some(&kernel));
    }

    #[test]
    fn the_others_are_left_to_their_unpacker() {
        assert_eq!(unpack(&packed(&gzip(&elf(17)))), None);
        assert_eq!(unpack(&packed(&gzip(b"no ELF file"))), None);
        assert_eq!(unpack(&packed(b"an unknown way to pack")), None);
        assert_eq!(unpack(b"MZ"), None);
        let file = packed(&xz(&elf(18)));
        for at in [0x202, 0x248, 0x24c, 6 * SECTOR, file.len() - 13] {
            let mut altered = file.clone();
            altered[at] ^= 0xff;
            assert_eq!(unpack(&altered), None, "altered at {at:#x}");
        }
        for end in 0..file.len() - b"what follows".len() {
            assert_eq!(unpack(&file[..end]), None, "cut at {end}");
        }
    }
}
