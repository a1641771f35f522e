//! The hashes by which the index of a folder sorts names: legacy, half MD4 and TEA.
//!
//! Facts: the kernel's "ext4 Data Structures and Algorithms", Hash Tree Directories, and RFC 1320 for MD4.

use super::layout::Layout;

/// Returns the hash of `name`, of which the lowest bit is never set; none where `version` is unknown.
pub(super) fn hash(layout: &Layout, version: u8, name: &[u8]) -> Option<u32> {
    let is_unsigned = version >= 3 || layout.is_hash_unsigned;
    let mut state = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];
    if layout.hash_seed != [0; 4] {
        state = layout.hash_seed;
    }
    let hash = match version {
        0 | 3 => legacy(name, is_unsigned),
        1 | 4 => {
            for start in (0..name.len()).step_by(32) {
                half_md4(&mut state, &words::<8>(&name[start..], is_unsigned));
            }
            state[1]
        }
        2 | 5 => {
            for start in (0..name.len()).step_by(16) {
                tea(&mut state, &words::<4>(&name[start..], is_unsigned));
            }
            state[0]
        }
        _ => return None,
    };
    // The largest value stands for the end of the index.
    Some(match hash & !1 {
        0xffff_fffe => 0xffff_fffc,
        hash => hash,
    })
}

/// A byte as the machine that made the file system took a `char`: with a sign, or without.
fn widened(byte: u8, is_unsigned: bool) -> u32 {
    if is_unsigned { byte.into() } else { i32::from(byte as i8) as u32 }
}

/// Packs up to `4 * N` bytes into words; what is missing is filled with the length.
fn words<const N: usize>(bytes: &[u8], is_unsigned: bool) -> [u32; N] {
    // Names have at most 255 bytes.
    let filling = u32::from(bytes.len() as u8) * 0x0101_0101;
    let mut words = [filling; N];
    for (word, part) in words.iter_mut().zip(bytes.chunks(4)) {
        *word = part.iter().fold(filling, |word, byte| widened(*byte, is_unsigned).wrapping_add(word << 8));
    }
    words
}

fn legacy(name: &[u8], is_unsigned: bool) -> u32 {
    let (mut before, mut last) = (0x37ab_e8f9_u32, 0x12a3_fe2d_u32);
    for byte in name {
        let mixed = last ^ widened(*byte, is_unsigned).wrapping_mul(7_152_373);
        let sum = before.wrapping_add(mixed);
        let sum = if sum & 0x8000_0000 != 0 { sum.wrapping_sub(0x7fff_ffff) } else { sum };
        before = last;
        last = sum;
    }
    last << 1
}

fn tea(state: &mut [u32; 4], key: &[u32; 4]) {
    let (mut left, mut right) = (state[0], state[1]);
    let mut sum = 0_u32;
    let half = |value: u32, sum: u32, first: u32, second: u32| {
        (value << 4).wrapping_add(first) ^ value.wrapping_add(sum) ^ (value >> 5).wrapping_add(second)
    };
    for _ in 0..16 {
        sum = sum.wrapping_add(0x9e37_79b9);
        left = left.wrapping_add(half(right, sum, key[0], key[1]));
        right = right.wrapping_add(half(left, sum, key[2], key[3]));
    }
    state[0] = state[0].wrapping_add(left);
    state[1] = state[1].wrapping_add(right);
}

/// The three rounds of MD4 over eight words instead of sixteen.
fn half_md4(state: &mut [u32; 4], words: &[u32; 8]) {
    type Mix = fn(u32, u32, u32) -> u32;
    const ROUNDS: [(Mix, u32, [usize; 8], [u32; 4]); 3] = [
        (|x, y, z| z ^ (x & (y ^ z)), 0, [0, 1, 2, 3, 4, 5, 6, 7], [3, 7, 11, 19]),
        (|x, y, z| (x & y).wrapping_add((x ^ y) & z), 0x5a82_7999, [1, 3, 5, 7, 0, 2, 4, 6], [3, 5, 9, 13]),
        (|x, y, z| x ^ y ^ z, 0x6ed9_eba1, [3, 7, 2, 6, 1, 5, 0, 4], [3, 9, 11, 15]),
    ];
    let [mut a, mut b, mut c, mut d] = *state;
    for (mix, constant, order, turns) in ROUNDS {
        for (step, word) in order.into_iter().enumerate() {
            let sum = a.wrapping_add(mix(b, c, d)).wrapping_add(words[word]).wrapping_add(constant);
            (a, d, c, b) = (d, c, b, sum.rotate_left(turns[step % 4]));
        }
    }
    for (word, mixed) in state.iter_mut().zip([a, b, c, d]) {
        *word = word.wrapping_add(mixed);
    }
}
