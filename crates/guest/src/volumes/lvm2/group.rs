//! A volume group: which extents of which physical volumes make a logical volume.

use std::collections::{BTreeMap, HashMap};

use super::label::PhysicalVolume;
use super::text::{Section, Value};
use super::{LogicalVolume, device};
use crate::text::clean;
use crate::window::{Piece, Window};

/// The unit of sizes in the text.
const SECTOR: u64 = 512;
/// Longest name, as lvm(8) has it.
const NAME_MAX: usize = 127;

/// A group as its text describes it, checked as far as that can be done without its physical volumes.
pub(super) struct Group {
    pub(super) id: String,
    /// Grows with each change of the text.
    pub(super) serial: u64,
    name: String,
    /// Bytes of an extent.
    extent: u64,
    /// By the names that segments use.
    members: HashMap<String, Member>,
    volumes: Vec<Volume>,
    snapshots: Vec<Snapshot>,
}

/// A volume as it was at another time.
struct Snapshot {
    /// The volume it was made of.
    origin: String,
    /// The volume that holds the blocks it keeps, which is no file system.
    store: String,
    /// Whether its blocks are on the way back into the origin, which holds old ones until then.
    is_merging: bool,
}

/// A physical volume as the group knows it.
struct Member {
    id: String,
    /// Its device when the text was written.
    device: String,
    /// First byte of its first extent.
    start: u64,
    extents: u64,
}

struct Volume {
    name: String,
    is_visible: bool,
    segments: Vec<Segment>,
}

struct Segment {
    start: u64,
    extents: u64,
    kind: String,
    /// Bytes of a stripe; none where there is no second column.
    stripe: Option<u64>,
    /// Member and first extent of each column.
    columns: Vec<(String, u64)>,
}

/// Ranges that are taken, by the id of a physical volume: first byte and the byte after the last.
pub(super) type Taken = HashMap<String, BTreeMap<u64, u64>>;

impl Group {
    /// Reads the group in `root`.
    pub(super) fn read(root: &Section<'_>) -> Result<Self, String> {
        let (name, group) = root.sections().next().ok_or("it describes no volume group")?;
        let extent = group.number("extent_size")?.checked_mul(SECTOR).filter(|size| *size > 0);
        let volumes = group.sections_of("logical_volumes");
        Ok(Self {
            id: group.text("id")?.to_owned(),
            serial: group.number("seqno")?,
            name: checked_name(name)?,
            extent: extent.ok_or("its extents have no size")?,
            members: group
                .sections_of("physical_volumes")
                .map(|(name, member)| Ok((name.to_owned(), Member::read(member)?)))
                .collect::<Result<_, String>>()?,
            volumes: volumes.map(|(name, volume)| Volume::read(name, volume)).collect::<Result<_, String>>()?,
            snapshots: group.sections_of("logical_volumes").flat_map(|(_, volume)| snapshots(volume)).collect(),
        })
    }

    /// Returns the volumes that can be read; notes tell of those that cannot.
    pub(super) fn volumes(&self, physical: &[PhysicalVolume], disk: &Window, taken: &mut Taken) -> Vec<LogicalVolume> {
        let (mut whole, mut partial, mut lost) = (Vec::new(), Vec::new(), Vec::new());
        let mut found = Vec::new();
        for volume in &self.volumes {
            let mapped = self.map(volume, physical, taken);
            if !volume.is_visible {
                continue;
            }
            let name = &volume.name;
            let is_origin = |snapshot: &&Snapshot| snapshot.origin == *name;
            let pieces = match mapped {
                Ok(_) if self.snapshots.iter().any(|snapshot| snapshot.store == *name) => {
                    Err("it is a snapshot".to_owned())
                }
                Ok(_) if self.snapshots.iter().filter(is_origin).any(|snapshot| snapshot.is_merging) => {
                    Err("a snapshot is being merged into it".to_owned())
                }
                mapped => mapped,
            };
            match pieces {
                Err(fault) => disk.budget().note(format!(
                    "The logical volume {name} of the group {} cannot be read: {}.",
                    self.name,
                    clean(fault.as_bytes())
                )),
                Ok(pieces) => {
                    let mut columns = pieces.iter().flat_map(|piece| &piece.columns);
                    let is_there = columns.clone().any(Option::is_some);
                    let list = if columns.all(Option::is_some) { &mut whole } else { &mut partial };
                    if is_there { list } else { &mut lost }.push(name.as_str());
                    if is_there {
                        found.push(LogicalVolume {
                            device: device(&self.name, name),
                            window: disk.of_pieces(pieces),
                            has_snapshots: self.snapshots.iter().any(|snapshot| is_origin(&snapshot)),
                        });
                    }
                }
            }
        }
        self.tell_missing(physical, disk, &[("whole", &whole), ("in part", &partial), ("not there", &lost)]);
        found
    }

    /// Names the members that are not on this disk, and what that means for the volumes.
    fn tell_missing(&self, physical: &[PhysicalVolume], disk: &Window, states: &[(&str, &[&str])]) {
        let missing = self.members.values().filter(|member| !physical.iter().any(|found| found.id == member.id));
        let mut missing: Vec<_> = missing.map(|member| clean(member.device.as_bytes())).collect();
        missing.sort();
        if missing.is_empty() {
            return;
        }
        let states = states.iter().filter(|(_, names)| !names.is_empty());
        let states: Vec<_> = states.map(|(state, names)| format!("{state}: {}", names.join(", "))).collect();
        let volumes = if states.is_empty() { "it has no volumes".to_owned() } else { states.join("; ") };
        disk.budget().note(format!(
            "The volume group {} lacks physical volumes that are not on this disk (they were {}); of its logical volumes \
             {volumes}.",
            self.name,
            missing.join(", ")
        ));
    }

    /// Returns the pieces of `volume`, and marks their places as taken.
    fn map(&self, volume: &Volume, physical: &[PhysicalVolume], taken: &mut Taken) -> Result<Vec<Piece>, String> {
        let mut pieces: Vec<Piece> = Vec::new();
        let mut end = 0_u64;
        for segment in &volume.segments {
            if segment.kind != "striped" {
                return Err(format!("it is of the kind {}, which is not read", segment.kind));
            }
            if segment.start != end {
                return Err("its segments overlap or leave a hole".to_owned());
            }
            end = end.checked_add(segment.extents).ok_or("its segments are too long")?;
            let start = pieces.last().map_or(0, |last| last.start + last.len);
            let len = segment.extents.checked_mul(self.extent).ok_or("its segments are too long")?;
            start.checked_add(len).ok_or("its segments are too long")?;
            let count = segment.columns.len() as u64;
            if count == 0 || segment.extents == 0 || !segment.extents.is_multiple_of(count) {
                return Err("its stripes do not divide its extents".to_owned());
            }
            let stripe = if count == 1 { len } else { segment.stripe.unwrap_or_default() };
            if stripe == 0 || (count > 1 && !self.extent.is_multiple_of(stripe)) {
                return Err("its stripes have a wrong size".to_owned());
            }
            let mut columns = Vec::new();
            for (member, first) in &segment.columns {
                columns.push(self.column(member, *first, segment.extents / count, physical, taken)?);
            }
            pieces.push(Piece { start, len, stripe, columns });
        }
        if pieces.is_empty() { Err("it has no segments".to_owned()) } else { Ok(pieces) }
    }

    /// Returns where on the disk a run of extents begins; none where its physical volume is missing.
    fn column(
        &self,
        name: &str,
        first: u64,
        extents: u64,
        physical: &[PhysicalVolume],
        taken: &mut Taken,
    ) -> Result<Option<u64>, String> {
        let member = self.members.get(name).ok_or("it lies on a physical volume that its group does not have")?;
        let outside = "it reaches out of its physical volume";
        first.checked_add(extents).filter(|end| *end <= member.extents).ok_or(outside)?;
        let start = first.checked_mul(self.extent).and_then(|at| at.checked_add(member.start)).ok_or(outside)?;
        // The length of the whole segment was seen to fit.
        let end = start.checked_add(extents * self.extent).ok_or(outside)?;
        let ranges = taken.entry(member.id.clone()).or_default();
        if ranges.range(..end).next_back().is_some_and(|(_, other)| *other > start) {
            return Err("it shares its place with another volume".to_owned());
        }
        ranges.insert(start, end);
        let Some(found) = physical.iter().find(|found| found.id == member.id) else { return Ok(None) };
        if end > found.window.len() {
            return Err(outside.to_owned());
        }
        if found.reserved.iter().any(|(from, to)| start < *to && *from < end) {
            return Err("it lies on the metadata of its physical volume".to_owned());
        }
        Ok(Some(found.window.offset() + start))
    }
}

impl Member {
    fn read(section: &Section<'_>) -> Result<Self, String> {
        Ok(Self {
            id: section.text("id")?.replace('-', ""),
            device: section.text("device").unwrap_or("unknown").to_owned(),
            start: section.number("pe_start")?.checked_mul(SECTOR).ok_or("its first extent is too far away")?,
            extents: section.number("pe_count")?,
        })
    }
}

impl Volume {
    fn read(name: &str, section: &Section<'_>) -> Result<Self, String> {
        let mut segments =
            section.sections().map(|(_, segment)| Segment::read(segment)).collect::<Result<Vec<_>, _>>()?;
        segments.sort_by_key(|segment| segment.start);
        let is_visible = section.list("status").contains(&Value::Text("VISIBLE"));
        Ok(Self { name: checked_name(name)?, is_visible, segments })
    }
}

impl Segment {
    fn read(section: &Section<'_>) -> Result<Self, String> {
        let mut columns = Vec::new();
        for pair in section.list("stripes").chunks(2) {
            let [Value::Text(member), Value::Number(first)] = pair else {
                return Err("a segment has no places".to_owned());
            };
            columns.push(((*member).to_owned(), *first));
        }
        Ok(Self {
            start: section.number("start_extent")?,
            extents: section.number("extent_count")?,
            // What follows a plus sign are flags for older programs.
            kind: section.text("type")?.split('+').next().unwrap_or_default().to_owned(),
            stripe: section.number("stripe_size").ok().and_then(|size| size.checked_mul(SECTOR)),
            columns,
        })
    }
}

/// Returns the snapshots among the segments of `volume`.
fn snapshots(volume: &Section<'_>) -> Vec<Snapshot> {
    let segments = volume.sections().filter(|(_, segment)| segment.text("type") == Ok("snapshot"));
    let read = |segment: &Section<'_>| {
        let merging = segment.text("merging_store").ok();
        Some(Snapshot {
            origin: segment.text("origin").ok()?.to_owned(),
            store: merging.or_else(|| segment.text("cow_store").ok())?.to_owned(),
            is_merging: merging.is_some(),
        })
    };
    segments.filter_map(|(_, segment)| read(segment)).collect()
}

/// Returns `name` if lvm(8) allows it for a group or a volume.
fn checked_name(name: &str) -> Result<String, String> {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"+_.-".contains(&byte);
    let is_name = (1..=NAME_MAX).contains(&name.len())
        && name.bytes().all(is_letter)
        && !name.starts_with('-')
        && !matches!(name, "." | "..");
    if is_name { Ok(name.to_owned()) } else { Err(format!("{} is no name", clean(name.as_bytes()))) }
}
