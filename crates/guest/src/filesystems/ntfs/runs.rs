//! Runs of clusters: where the pieces of a stream lie.

/// Most runs of one stream: some 12 MiB of memory, and more than the fragments of any file that is read here.
const RUNS_MAX: usize = 512 << 10;

/// Clusters that lie one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    /// Cluster of the stream where it begins.
    pub(super) vcn: u64,
    /// Cluster of the volume where it lies; none for a hole.
    pub(super) lcn: Option<u64>,
    pub(super) clusters: u64,
}

impl Run {
    pub(super) fn end(&self) -> u64 {
        self.vcn + self.clusters
    }
}

/// Adds the packed runs that begin at `vcn` to `runs`, which they must continue; `clusters` are in the volume.
pub(super) fn unpack(runs: &mut Vec<Run>, packed: &[u8], vcn: u64, clusters: u64) -> Result<(), String> {
    if runs.last().map_or(0, Run::end) != vcn {
        return Err("pieces of it are missing".to_owned());
    }
    let mut rest = packed;
    let (mut vcn, mut place) = (vcn, 0_i64);
    while let Some((head, tail)) = rest.split_first().filter(|(head, _)| **head != 0) {
        let (length_size, place_size) = (usize::from(head & 15), usize::from(head >> 4));
        let bad = || "its list of runs is broken".to_owned();
        if length_size == 0 || length_size > 8 || place_size > 8 || tail.len() < length_size + place_size {
            return Err(bad());
        }
        let (length, tail) = tail.split_at(length_size);
        let (moved, tail) = tail.split_at(place_size);
        let count = u64::try_from(number(length)).ok().filter(|count| *count > 0).ok_or_else(bad)?;
        let lcn = if place_size == 0 {
            None
        } else {
            place = place.checked_add(number(moved)).ok_or_else(bad)?;
            let lcn = u64::try_from(place).map_err(|_| bad())?;
            if lcn.checked_add(count).is_none_or(|end| end > clusters) {
                return Err("one of its runs lies past the end of the volume".to_owned());
            }
            Some(lcn)
        };
        // So that the bytes of a stream can be counted in 63 bits.
        if runs.len() == RUNS_MAX || count > 1 << 42 || vcn > 1 << 42 {
            return Err("it has too many runs".to_owned());
        }
        runs.push(Run { vcn, lcn, clusters: count });
        vcn += count;
        rest = tail;
    }
    Ok(())
}

/// Reads a signed number of 1 to 8 bytes.
fn number(bytes: &[u8]) -> i64 {
    let sign = if bytes.last().is_some_and(|byte| byte & 0x80 != 0) { 0xff } else { 0 };
    let mut wide = [sign; 8];
    wide[..bytes.len()].copy_from_slice(bytes);
    i64::from_le_bytes(wide)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_unpacked_with_holes_and_steps_back() {
        let mut runs = Vec::new();
        unpack(&mut runs, &[0x21, 0x18, 0x34, 0x56, 0x01, 0x04, 0x11, 0x08, 0xf0, 0, 0xff], 0, 0x10000).unwrap();
        let expected = [(0, Some(0x5634), 0x18), (0x18, None, 4), (0x1c, Some(0x5624), 8)];
        assert_eq!(runs, expected.map(|(vcn, lcn, clusters)| Run { vcn, lcn, clusters }));
        unpack(&mut runs, &[0x11, 1, 1], 0x24, 0x10000).unwrap();
        assert_eq!(runs[3], Run { vcn: 0x24, lcn: Some(1), clusters: 1 });
    }

    #[test]
    fn runs_that_lead_astray_are_refused() {
        for (packed, why) in [
            (&[0x11, 1, 0xff][..], "broken"),
            (&[0x11, 0, 1], "broken"),
            (&[0x11, 0x80, 1], "broken"),
            (&[0x19, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1], "broken"),
            (&[0x11, 1], "broken"),
            (&[0x88, 1, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f], "past the end"),
            (&[0x11, 2, 0x63], "past the end"),
            (&[0x08, 0, 0, 0, 0, 0, 0, 0, 0x10], "too many"),
        ] {
            assert!(unpack(&mut Vec::new(), packed, 0, 100).unwrap_err().contains(why), "{packed:?}");
        }
        assert!(unpack(&mut Vec::new(), &[], 1, 100).unwrap_err().contains("missing"));
        let many = [0x01, 1].repeat(RUNS_MAX + 1);
        assert!(unpack(&mut Vec::new(), &many, 0, 100).unwrap_err().contains("too many"));
    }
}
