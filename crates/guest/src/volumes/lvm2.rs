//! LVM2: logical volumes, from the labels and the text metadata of their physical volumes.
//!
//! label -> PV header -> metadata areas -> text -> volume group -> segments -> pieces of the disk
//!
//! Formats: the manual pages lvm(8), pvck(8), and the structures that `pvck --dump headers` names. Nothing is
//! activated that Linux would refuse: whatever is not sound is told by a note, and its volume is left out.

mod group;
mod label;
mod text;

use self::group::{Group, Taken};
use self::label::PhysicalVolume;
use crate::budget::Budget;
use crate::text::clean;
use crate::window::Window;

/// Most logical volumes that are looked at.
const VOLUMES_MAX: usize = 128;

/// A logical volume that can be read, in whole or in part.
pub(crate) struct LogicalVolume {
    /// Its name in the guest: `/dev/mapper/group-volume`.
    pub(crate) device: String,
    pub(crate) window: Window,
    /// Whether a snapshot keeps the blocks of it that change, which nothing but the device-mapper sees to.
    pub(crate) has_snapshots: bool,
}

/// Returns the device-mapper's name for a volume of a group: dashes inside are doubled.
pub(crate) fn device(group: &str, volume: &str) -> String {
    format!("/dev/mapper/{}-{}", group.replace('-', "--"), volume.replace('-', "--"))
}

/// Returns the logical volumes of the physical ones in `places`, which are windows with their devices.
pub(crate) fn logical_volumes(places: &[(Window, String)]) -> Vec<LogicalVolume> {
    let Some((disk, _)) = places.first() else { return Vec::new() };
    let budget = disk.budget().clone();
    let mut physical: Vec<PhysicalVolume> = Vec::new();
    for (window, device) in places {
        match label::read(window, device) {
            Ok(found) if physical.iter().any(|other| other.id == found.id) => {
                budget.note(format!("{device} has the same id as another physical volume; it was left out."));
            }
            Ok(found) => physical.push(found),
            Err(fault) => budget.note(format!("The LVM physical volume {device} cannot be read: {fault}.")),
        }
    }
    let (mut volumes, mut taken) = (Vec::new(), Taken::default());
    for group in groups(&physical, &budget) {
        volumes.extend(group.volumes(&physical, disk, &mut taken));
    }
    if volumes.len() > VOLUMES_MAX {
        budget.note(format!("There are {} logical volumes; {VOLUMES_MAX} were looked at.", volumes.len()));
        volumes.truncate(VOLUMES_MAX);
    }
    volumes
}

/// Reads the groups, each from its newest text: a physical volume that was away may have an old one.
fn groups(physical: &[PhysicalVolume], budget: &Budget) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for volume in physical {
        for text in &volume.texts {
            let read = text::parse(text).and_then(|root| Group::read(&root));
            match read {
                Err(fault) => {
                    let fault = clean(fault.as_bytes());
                    budget.note(format!("The LVM metadata on {} cannot be used: {fault}.", volume.device));
                }
                Ok(group) => match groups.iter_mut().find(|known| known.id == group.id) {
                    Some(known) if known.serial < group.serial => *known = group,
                    Some(_) => {}
                    None => groups.push(group),
                },
            }
        }
    }
    groups
}
