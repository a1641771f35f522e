//! Which findings are repaired.

use serde::{Deserialize, Serialize};

use super::finding::{Action, Kind};
use super::kinds::{CLOUD_INIT_MISSING, INITRAMFS_SEALED, KINDS, VIRTIO_DISK, VIRTIO_NET};
use crate::programs::Programs;
use crate::virtio_win::Drivers;

/// What a caller wants repaired, by the ids of kinds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    /// Repair these alone, automatic or on request; all automatic ones where it is empty.
    pub only: Vec<String>,
    /// Leave these.
    pub skip: Vec<String>,
    /// Repair these too, which are done on request.
    pub with: Vec<String>,
    /// Drivers of virtio-win for this guest, with which those that it lacks are put in.
    pub drivers: Option<Drivers>,
    /// That programs of the guest may be run, and the packages that they may install.
    pub programs: Option<Programs>,
}

impl Choice {
    /// Returns the first id that is named and not known, or cannot be repaired.
    ///
    /// # Errors
    /// A sentence that names it, and what is there instead.
    pub fn check(&self) -> Result<(), String> {
        for id in self.only.iter().chain(&self.with).chain(&self.skip) {
            match KINDS.iter().find(|kind| kind.id == id) {
                None => return Err(format!("there is no finding `{id}`; `molde guest findings` lists all")),
                Some(kind) if self.action(kind) == Action::Manual && !self.skip.contains(id) => {
                    return Err(format!("`{id}` is not repaired by prepare: {}", kind.remedy));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// Returns what prepare does about `kind`: drivers that are supplied are put in, and so are packages; what takes
    /// programs of the guest is repaired where they may be run.
    pub(super) fn action(&self, kind: &Kind) -> Action {
        let is_supplied = self.drivers.is_some() && [VIRTIO_DISK.id, VIRTIO_NET.id].contains(&kind.id);
        let may_run = self.programs.as_ref().is_some_and(|programs| {
            kind.id == INITRAMFS_SEALED.id || (kind.id == CLOUD_INIT_MISSING.id && programs.has_packages())
        });
        if is_supplied || may_run { Action::Automatic } else { kind.action }
    }

    pub(super) fn takes(&self, kind: &Kind) -> bool {
        let named = |list: &[String]| list.iter().any(|id| id == kind.id);
        let action = self.action(kind);
        if action == Action::Manual || named(&self.skip) {
            return false;
        }
        named(&self.with) || named(&self.only) || (self.only.is_empty() && action == Action::Automatic)
    }
}

#[cfg(test)]
mod tests {
    use super::super::kinds::{CLOUD_INIT_MISSING, FSTAB_DEVICE_NAME, SHELL_HISTORY};
    use super::*;

    fn ids(ids: &[&str]) -> Vec<String> {
        ids.iter().map(|id| (*id).to_owned()).collect()
    }

    #[test]
    fn what_loses_something_is_done_on_request_only() {
        let usual = Choice::default();
        assert!(usual.takes(&FSTAB_DEVICE_NAME) && !usual.takes(&SHELL_HISTORY) && !usual.takes(&CLOUD_INIT_MISSING));
        let with = Choice { with: ids(&["shell-history"]), ..Choice::default() };
        assert!(with.takes(&FSTAB_DEVICE_NAME) && with.takes(&SHELL_HISTORY));
        let only = Choice { only: ids(&["shell-history"]), ..Choice::default() };
        assert!(!only.takes(&FSTAB_DEVICE_NAME) && only.takes(&SHELL_HISTORY));
        let skip = Choice { skip: ids(&["fstab-device-name"]), ..Choice::default() };
        assert!(!skip.takes(&FSTAB_DEVICE_NAME));
    }

    #[test]
    fn unknown_and_manual_ids_are_told() {
        assert!(Choice { only: ids(&["fstab"]), ..Choice::default() }.check().unwrap_err().contains("`fstab`"));
        assert!(Choice { with: ids(&["cloud-init-missing"]), ..Choice::default() }.check().is_err());
        assert!(Choice { skip: ids(&["cloud-init-missing"]), ..Choice::default() }.check().is_ok());
    }

    #[test]
    fn drivers_are_put_in_where_they_are_supplied() {
        let only = Choice { only: ids(&["windows-lacks-viostor"]), ..Choice::default() };
        assert!(only.check().is_err() && !only.takes(&VIRTIO_DISK));
        let supplied = Choice { drivers: Some(Drivers::default()), ..Choice::default() };
        assert!(supplied.takes(&VIRTIO_DISK) && supplied.takes(&VIRTIO_NET) && !supplied.takes(&CLOUD_INIT_MISSING));
        assert!(Choice { drivers: Some(Drivers::default()), ..only }.check().is_ok());
    }

    #[test]
    fn programs_of_the_guest_are_run_where_they_may() {
        let may = Choice { programs: Some(Programs::default()), ..Choice::default() };
        assert!(may.takes(&INITRAMFS_SEALED) && !may.takes(&CLOUD_INIT_MISSING) && !may.takes(&SHELL_HISTORY));
        assert!(!Choice::default().takes(&INITRAMFS_SEALED));
    }
}
