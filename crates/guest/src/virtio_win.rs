//! virtio-win: drivers for virtio devices that an operator supplies, and which of them are for the Windows on a disk.
//!
//! folder or disc ([`Shelf`]) -> the folder for this Windows -> its INF -> the files that it names, looked at -> [`Drivers`]
//!
//! Invariants: nothing is read outside of what was supplied; what is taken is bounded, whole, and made for the processor of
//! the guest. Not here: what becomes of the files in the guest (`check::windows::virtio_win`).

mod folders;
mod inf;
mod program;
mod shelf;

use std::fmt;
use std::path::Path;

use disk::error::{Error, Result};
use serde::{Deserialize, Serialize};

use self::folders::{Platform, Target};
use self::inf::Inf;
use self::shelf::Shelf;
use crate::report::{Report, Windows};
use crate::text::clean;

/// Largest INF, and most bytes of all files that are taken.
const INF_MAX: usize = 1 << 20;
const BYTES_MAX: usize = 24 << 20;
/// Most files of one driver.
const FILES_MAX: usize = 32;
const HINT: &str = "give the folder, or the disc, as the virtio-win project releases it";

/// A driver as the project knows it: the name of its INF, its service and its program, and the devices that it is for. The
/// transitional device is first, then the modern one (Virtio 1.1, 4.1.2.1), with subsystem and revision as QEMU sets them.
struct Known {
    name: &'static str,
    devices: [&'static str; 2],
}

const KNOWN: [Known; 3] = [
    Known {
        name: "viostor",
        devices: ["VEN_1AF4&DEV_1001&SUBSYS_00021AF4&REV_00", "VEN_1AF4&DEV_1042&SUBSYS_11001AF4&REV_01"],
    },
    Known {
        name: "vioscsi",
        devices: ["VEN_1AF4&DEV_1004&SUBSYS_00081AF4&REV_00", "VEN_1AF4&DEV_1048&SUBSYS_11001AF4&REV_01"],
    },
    Known {
        name: "netkvm",
        devices: ["VEN_1AF4&DEV_1000&SUBSYS_00011AF4&REV_00", "VEN_1AF4&DEV_1041&SUBSYS_11001AF4&REV_01"],
    },
];

/// A folder or a disc of virtio-win.
pub struct VirtioWin {
    shelf: Shelf,
}

impl fmt::Debug for VirtioWin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VirtioWin").finish_non_exhaustive()
    }
}

/// The drivers for one Windows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drivers {
    pub(crate) packages: Vec<Package>,
    /// Names of drivers that the Windows lacks and that were not supplied for it, with the reason.
    pub(crate) missing: Vec<(String, String)>,
}

/// One driver with its files.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Package {
    /// Its name, such as `viostor`.
    pub(crate) name: String,
    /// Where it was found.
    pub(crate) from: String,
    /// Its files by name, in small letters; its program is among them.
    pub(crate) files: Vec<(String, Vec<u8>)>,
    /// The devices that its INF names, as the registry does after `PCI\`.
    pub(crate) devices: Vec<String>,
}

impl fmt::Debug for Package {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let files: Vec<&str> = self.files.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Package").field("from", &self.from).field("files", &files).finish_non_exhaustive()
    }
}

impl Package {
    /// Returns the program.
    pub(crate) fn program(&self) -> Option<&[u8]> {
        let name = format!("{}.sys", self.name);
        self.files.iter().find(|(found, _)| *found == name).map(|(_, bytes)| bytes.as_slice())
    }
}

impl Drivers {
    pub(crate) fn package(&self, name: &str) -> Option<&Package> {
        self.packages.iter().find(|package| package.name == name)
    }

    /// Iterates over the reasons why a driver that the Windows lacks cannot be put in.
    pub fn missing(&self) -> impl Iterator<Item = &str> {
        self.missing.iter().map(|(_, why)| why.as_str())
    }

    /// Returns why there is no driver called `name`.
    pub(crate) fn why_not(&self, name: &str) -> Option<&str> {
        self.missing.iter().find(|(found, _)| found == name).map(|(_, why)| why.as_str())
    }
}

impl VirtioWin {
    /// Opens the folder, or the ISO 9660 image, at `path` of the host.
    ///
    /// # Errors
    /// `Io` when it cannot be read; `Refused` when a link in the folder leads out of it, or there is too much in it.
    pub fn open(path: &Path) -> Result<Self> {
        Ok(Self { shelf: Shelf::open(path)? })
    }

    /// Takes the drivers that the Windows in `report` lacks: none for another system. Where nothing is there for it, what
    /// prepare does with them tells so.
    ///
    /// # Errors
    /// When what is there for it cannot be used: a file that is missing, too large, made for another processor, or that a
    /// Windows of 64 bits would not start.
    pub fn drivers_for(&self, report: &Report) -> Result<Drivers> {
        let mut drivers = Drivers::default();
        let Some((os, windows)) = report.os.as_ref().and_then(|os| Some((os, os.windows.as_ref()?))) else {
            return Ok(drivers);
        };
        let mut room = BYTES_MAX;
        for known in KNOWN.iter().filter(|known| is_lacking(windows, known.name)) {
            let target = match Target::of(os, windows) {
                Ok(target) => target,
                Err(why) => {
                    drivers.missing.push((known.name.to_owned(), why));
                    continue;
                }
            };
            match self.folder_for(known.name, &target) {
                Some(folder) => drivers.packages.push(self.package(known, folder, target.platform, &mut room)?),
                None => {
                    let why = format!("virtio-win has no {} for this Windows: {}", known.name, target.told());
                    drivers.missing.push((known.name.to_owned(), why));
                }
            }
        }
        Ok(drivers)
    }

    /// Returns the folder of the driver `name`: the first in the order of the target that has its INF.
    fn folder_for(&self, name: &str, target: &Target) -> Option<&str> {
        let inf = format!("{name}.inf");
        let with_inf = || {
            self.shelf
                .files()
                .filter_map(|path| path.rsplit_once('/'))
                .filter(|(_, file)| file.eq_ignore_ascii_case(&inf))
        };
        target.folders.iter().find_map(|wanted| {
            let fitting = with_inf().map(|(folder, _)| folder).filter(|folder| {
                let is_in = |names: &[&str]| {
                    folder.split('/').any(|part| names.iter().any(|name| part.eq_ignore_ascii_case(name)))
                };
                is_in(wanted) && is_in(target.platform.folders())
            });
            // Some discs have a driver twice; that below its own name is the whole one.
            let is_own = |folder: &str| folder.split('/').any(|part| part.eq_ignore_ascii_case(name));
            fitting.min_by_key(|folder| (!is_own(folder), *folder))
        })
    }

    fn package(&self, known: &Known, folder: &str, platform: Platform, room: &mut usize) -> Result<Package> {
        let shown = |file: &str| format!("`{}`", clean(format!("{folder}/{file}").as_bytes()));
        let refused = |why: String| Error::refused(why).with_hint(HINT);
        let inf_name = format!("{}.inf", known.name);
        let inf = Inf::parse(&self.take(folder, &inf_name, INF_MAX)?)
            .ok_or_else(|| refused(format!("{} is no INF", shown(&inf_name))))?;
        let is_named = |device: &&&str| device.get(..17).is_some_and(|id| inf.mentions(id));
        let devices: Vec<String> = known.devices.iter().filter(is_named).map(|device| (*device).to_owned()).collect();
        if devices.is_empty() {
            return Err(refused(format!("{} names no device of {}", shown(&inf_name), known.name)));
        }
        let mut names = vec![format!("{}.sys", known.name), inf_name.clone()];
        names.push(inf.catalogue(platform).unwrap_or_else(|| format!("{}.cat", known.name)));
        names.extend(inf.files(platform).map_err(|why| refused(format!("{} {why}", shown(&inf_name))))?);
        names.iter_mut().for_each(|name| name.make_ascii_lowercase());
        names.sort();
        names.dedup();
        if names.len() > FILES_MAX {
            return Err(refused(format!("{} names more than {FILES_MAX} files", shown(&inf_name))));
        }
        let mut files = Vec::new();
        for name in names {
            let bytes = self.take(folder, &name, *room)?;
            *room -= bytes.len();
            files.push((name, bytes));
        }
        let package = Package { name: known.name.to_owned(), from: clean(folder.as_bytes()), files, devices };
        let program = package.program().unwrap_or_default();
        program::check(program, platform).map_err(|(why, hint)| {
            Error::refused(format!("{} {why}", shown(&format!("{}.sys", known.name)))).with_hint(hint)
        })?;
        Ok(package)
    }

    /// Reads the file `name` of `folder`, whatever its case.
    fn take(&self, folder: &str, name: &str, most: usize) -> Result<Vec<u8>> {
        let is_it = |path: &&str| {
            path.rsplit_once('/').is_some_and(|(of, file)| of == folder && file.eq_ignore_ascii_case(name))
        };
        let Some(path) = self.shelf.files().find(is_it) else {
            let (folder, name) = (clean(folder.as_bytes()), clean(name.as_bytes()));
            return Err(
                Error::refused(format!("`{folder}` has no {name}, which belongs to its driver")).with_hint(HINT)
            );
        };
        let bytes = self.shelf.read(path, most)?;
        if bytes.len() > most {
            let told =
                format!("`{}` is too large: at most {} MiB are taken in all", clean(path.as_bytes()), BYTES_MAX >> 20);
            return Err(Error::refused(told).with_hint(HINT));
        }
        Ok(bytes)
    }
}

/// Returns whether a Windows has no driver called `name` that can start.
fn is_lacking(windows: &Windows, name: &str) -> bool {
    let is_there = |name: &str| {
        windows.services.iter().any(|service| {
            service.name.eq_ignore_ascii_case(name)
                && service.is_file_there == Some(true)
                && (name != "netkvm" || service.start != Some(4))
        })
    };
    match name {
        // What lets it start is one of the two.
        "viostor" | "vioscsi" => !is_there("viostor") && !is_there("vioscsi"),
        name => !is_there(name),
    }
}
