//! LZNT1 ([MS-XCA] section 2.5): chunks of up to 4 KiB, each a row of letters and references to what came before.

use crate::fields::le16;

const CHUNK: usize = 4096;

/// Unpacks `packed`, which must fill at most `length` bytes; what it leaves out is zero.
pub(super) fn unpack(packed: &[u8], length: usize) -> Result<Vec<u8>, String> {
    let mut out = Vec::with_capacity(length);
    let mut rest = packed;
    while out.len() < length && rest.len() >= 2 {
        let head = le16(rest, 0);
        if head == 0 {
            break;
        }
        let end = 2 + usize::from(head & 0xfff) + 1;
        let body = rest.get(2..end).ok_or("its compressed bytes are cut")?;
        let start = out.len();
        if head & 0x8000 == 0 {
            out.extend_from_slice(body);
        } else {
            unpack_chunk(&mut out, body)?;
        }
        rest = &rest[end..];
        // A short chunk is followed by zeros up to the next one.
        out.resize((start + CHUNK).min(length), 0);
    }
    out.resize(length, 0);
    Ok(out)
}

fn unpack_chunk(out: &mut Vec<u8>, body: &[u8]) -> Result<(), String> {
    let start = out.len();
    let mut at = 0;
    while at < body.len() {
        let flags = body[at];
        at += 1;
        for bit in 0..8 {
            if at >= body.len() {
                return Ok(());
            }
            if flags & 1 << bit == 0 {
                out.push(body[at]);
                at += 1;
            } else {
                let pair = usize::from(le16(body, at));
                at += 2;
                copy(out, start, pair)?;
            }
            if out.len() - start > CHUNK {
                return Err("a chunk of its compressed bytes is too long".to_owned());
            }
        }
    }
    Ok(())
}

/// Copies what a reference names: the further a chunk has come, the more of its bits say how far back.
fn copy(out: &mut Vec<u8>, start: usize, pair: usize) -> Result<(), String> {
    let done = out.len() - start;
    let distance_bits = (done.max(2) - 1).ilog2().max(3) + 1;
    let length_bits = 16 - distance_bits.min(12);
    let distance = (pair >> length_bits) + 1;
    let length = (pair & ((1 << length_bits) - 1)) + 3;
    if distance > done {
        return Err("its compressed bytes refer to what is not there".to_owned());
    }
    for _ in 0..length {
        out.push(out[out.len() - distance]);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of [MS-XCA] section 3.3.
    #[test]
    fn example_of_the_specification() {
        let packed = [
            0x38, 0xb0, 0x88, 0x46, 0x23, 0x20, 0x00, 0x20, 0x47, 0x20, 0x41, 0x00, 0x10, 0xa2, 0x47, 0x01, 0xa0, 0x45,
            0x20, 0x44, 0x00, 0x08, 0x45, 0x01, 0x50, 0x79, 0x00, 0xc0, 0x45, 0x20, 0x05, 0x24, 0x13, 0x88, 0x05, 0xb4,
            0x02, 0x4a, 0x44, 0xef, 0x03, 0x58, 0x02, 0x8c, 0x09, 0x16, 0x01, 0x48, 0x45, 0x00, 0xbe, 0x00, 0x9e, 0x00,
            0x04, 0x01, 0x18, 0x90, 0x00,
        ];
        let expected = b"F# F# G A A G F# E D D E F# F# E E F# F# G A A G F# E D D E F# E D D E E F# D E F# G F# D E \
            F# G F# E D E A F# F# G A A G F# E D D E F# E D D\0";
        assert_eq!(unpack(&packed, expected.len()).unwrap(), expected);
    }

    #[test]
    fn references_before_the_chunk_and_cut_chunks_are_refused() {
        assert!(unpack(&[0x02, 0xb0, 0x01, 0x00, 0x10], 4096).unwrap_err().contains("not there"));
        assert!(unpack(&[0xff, 0xb0, 0], 4096).unwrap_err().contains("cut"));
        // One letter, then 16 references of 4098 bytes each.
        let bomb = [&[0x05, 0xb0, 0x06, b'a'][..], &[0xff, 0x0f, 0xff, 0x0f]].concat();
        assert!(unpack(&bomb, 1 << 16).unwrap_err().contains("too long"));
        assert_eq!(unpack(&[], 5).unwrap(), [0; 5]);
    }
}
