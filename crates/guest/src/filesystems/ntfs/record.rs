//! Blocks with a signature whose strides of 512 bytes are protected against torn writes ("fixups").

use crate::fields::{le16, stands_at};

const STRIDE: usize = 512;

/// Checks the signature of `block` and puts back the last two bytes of each stride.
pub(super) fn restore(block: &mut [u8], signature: [u8; 4]) -> Result<(), String> {
    if !stands_at(block, 0, &signature) {
        let name = String::from_utf8_lossy(&signature);
        return Err(format!("one of its blocks is no {name} block"));
    }
    let (at, count) = (usize::from(le16(block, 4)), usize::from(le16(block, 6)));
    let strides = block.len() / STRIDE;
    // The first entry is the mark that each stride must end with, the others are what stood there.
    let entries = block.get(at..at + 2 * count).filter(|_| count == strides + 1);
    let entries = entries.ok_or("one of its blocks has no sound table of fixups")?.to_vec();
    for (stride, saved) in entries[2..].chunks_exact(2).enumerate() {
        let end = &mut block[(stride + 1) * STRIDE - 2..(stride + 1) * STRIDE];
        if *end != entries[..2] {
            return Err("one of its blocks was written only in part".to_owned());
        }
        end.copy_from_slice(saved);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block() -> Vec<u8> {
        let mut block = vec![7; 1024];
        block[..8].copy_from_slice(b"FILE\x30\x00\x03\x00");
        block[0x30..0x36].copy_from_slice(&[9, 9, 1, 2, 3, 4]);
        block[510..512].copy_from_slice(&[9, 9]);
        block[1022..].copy_from_slice(&[9, 9]);
        block
    }

    #[test]
    fn strides_get_their_ends_back() {
        let mut sound = block();
        restore(&mut sound, *b"FILE").unwrap();
        assert_eq!((&sound[510..512], &sound[1022..]), (&[1, 2][..], &[3, 4][..]));
    }

    #[test]
    fn torn_and_impossible_blocks_are_refused() {
        assert!(restore(&mut block(), *b"INDX").unwrap_err().contains("no INDX block"));
        for (at, value, why) in [(510, 0, "in part"), (6, 4, "fixups"), (5, 0xff, "fixups"), (7, 0xff, "fixups")] {
            let mut damaged = block();
            damaged[at] = value;
            assert!(restore(&mut damaged, *b"FILE").unwrap_err().contains(why), "{at}");
        }
    }
}
