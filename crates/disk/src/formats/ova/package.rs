//! The archive as a whole: its members, its descriptor and manifest, and which disk of it is meant.

use std::sync::Arc;

use super::descriptor;
use super::manifest::{self, Line};
use super::tar::{self, Member};
use crate::appliance::{Appliance, ApplianceDisk, Verified};
use crate::error::{Error, ErrorKind, Result};
use crate::fields::read_bytes;
use crate::format::Format;
use crate::gate::Gate;
use crate::opened::Opened;
use crate::slice::Slice;
use crate::source::Source;

/// Bytes of a descriptor or manifest.
const MAX_TEXT: u64 = 1 << 20;
/// So many members are named where something is missing.
const NAMED: usize = 5;

struct Package {
    file: Arc<dyn Source>,
    members: Vec<Member>,
    manifest: Option<Vec<Line>>,
    appliance: Appliance,
}

/// The disk that is meant, before it is known in which format it is.
pub(crate) struct Picked {
    /// The bytes of its file in the archive.
    pub(crate) file: Arc<dyn Source>,
    disk: ApplianceDisk,
    notes: Vec<String>,
}

/// Reads what the appliance in the archive `file` asks for. Its disks are not looked at.
///
/// The archive is refused if it holds anything but regular files with bare names, if its descriptor refers to
/// something outside, or if the manifest has another digest of the descriptor (DMTF DSP0243).
pub fn appliance(file: Arc<dyn Source>) -> Result<Appliance> {
    Ok(Package::open(file)?.appliance)
}

/// Reads every file of the archive `file` that its manifest lists, and compares the digests; the first wrong one is an
/// error. This reads the whole archive once.
pub fn verify_manifest(file: Arc<dyn Source>) -> Result<Verified> {
    let package = Package::open(file)?;
    let mut verified = Verified::default();
    let lines = package.manifest.as_deref().unwrap_or_default();
    for line in lines {
        line.verify(&package.slice(package.member(&line.name)?)?)?;
        verified.files.push(line.name.clone());
    }
    let listed =
        |name: &str| is_kind(name, "mf") || is_kind(name, "cert") || lines.iter().any(|line| line.name == name);
    verified.unlisted = package.members.into_iter().map(|member| member.name).filter(|name| !listed(name)).collect();
    Ok(verified)
}

/// Finds the disk that `gate` chooses by its name or that of its file, or the only one.
pub(crate) fn pick(file: Arc<dyn Source>, gate: &dyn Gate) -> Result<Picked> {
    let package = Package::open(file)?;
    let disks = &package.appliance.disks;
    let named = |name: &str| {
        let by_file = disks.iter().find(|disk| disk.file.as_deref() == Some(name));
        by_file.or_else(|| disks.iter().find(|disk| disk.id == name))
    };
    let disk = match (gate.member(), disks.as_slice()) {
        (_, []) => return Err(Error::unsupported("the descriptor of the appliance has no disk")),
        (Some(name), disks) => match named(name) {
            Some(disk) => disk,
            None => return Err(choose(disks, &format!("the appliance has no disk called {name:?}"))),
        },
        (None, [disk]) => disk,
        (None, disks) => return Err(choose(disks, &format!("the appliance has {} disks", disks.len()))),
    };
    let Some(name) = &disk.file else {
        return Err(Error::unsupported(format!("disk {:?} of the appliance has no file: it begins blank", disk.id)));
    };
    let file = Arc::new(package.slice(package.member(name)?)?);
    Ok(Picked { file, disk: disk.clone(), notes: package.appliance.notes })
}

fn choose(disks: &[ApplianceDisk], what: &str) -> Error {
    let list: Vec<_> = disks.iter().take(2 * NAMED).map(describe).collect();
    let more = if disks.len() > list.len() { ", ..." } else { "" };
    let example = disks[0].file.as_ref().unwrap_or(&disks[0].id);
    Error::refused(format!("{what}: {}{more}", list.join(", "))).with_hint(format!("choose one: --member {example}"))
}

fn describe(disk: &ApplianceDisk) -> String {
    let name = disk.file.as_ref().unwrap_or(&disk.id);
    match (disk.capacity_bytes, &disk.file) {
        (Some(size), Some(_)) => format!("{name} ({size} bytes)"),
        (Some(size), None) => format!("{name} (blank, {size} bytes)"),
        (None, _) => name.clone(),
    }
}

impl Picked {
    /// Refuses what may not lie in an archive.
    pub(crate) fn check(&self, format: Format) -> Result<()> {
        use Format::{Bzip2, Gzip, Ova, Xz, Zip, Zstd};
        if matches!(format, Ova | Gzip | Xz | Zstd | Bzip2 | Zip) {
            return Err(Error::refused(format!(
                "disk {:?} of the appliance is a {format} file: nothing packed is opened inside of an archive",
                self.disk.id
            ))
            .with_hint("unpack the archive, and then the disk"));
        }
        Ok(())
    }

    /// Returns the disk as that of the archive.
    pub(crate) fn opened(self, inner: Opened) -> Opened {
        let mut notes = self.notes;
        notes.extend(inner.notes);
        let size = inner.disk.len();
        if let Some(capacity) = self.disk.capacity_bytes.filter(|capacity| *capacity != size) {
            notes.push(format!("the disk has {size} bytes, and the descriptor of the appliance says {capacity}"));
        }
        if self.disk.format.contains("vmdk") && inner.format != Format::Vmdk {
            notes.push(format!("the descriptor calls the disk a VMDK, and it is in format {}", inner.format));
        }
        let variant = format!("{} {}", inner.format, inner.variant).trim_end().to_owned();
        Opened { disk: inner.disk, format: Format::Ova, variant, block_size: inner.block_size, notes }
    }
}

impl Package {
    fn open(file: Arc<dyn Source>) -> Result<Self> {
        let members = tar::members(&*file)?;
        let mut package = Self { file, members, manifest: None, appliance: Appliance::default() };
        let Some(descriptor) = package.of_kind("ovf").next() else { return Err(no_descriptor(&package.members)) };
        let text = package.text(descriptor)?;
        let manifest = package.read_manifest(descriptor)?;
        let mut appliance = descriptor::parse(&text, &package.members)?;
        let count = package.of_kind("ovf").count();
        if count > 1 {
            let name = &descriptor.name;
            appliance.notes.push(format!("the archive has {count} descriptors, of which the first counts: {name}"));
        }
        if package.of_kind("cert").next().is_some() {
            appliance.notes.push("the certificate of the appliance was not looked at".to_owned());
        }
        (package.manifest, package.appliance) = (manifest, appliance);
        Ok(package)
    }

    /// Reads the manifest, whose files must be in the archive; the digest of the descriptor must be right.
    fn read_manifest(&self, descriptor: &Member) -> Result<Option<Vec<Line>>> {
        let mut manifests = self.of_kind("mf");
        let Some(manifest) = manifests.next() else { return Ok(None) };
        if manifests.next().is_some() {
            return Err(Error::refused("the archive has more than one manifest"));
        }
        let lines = manifest::parse(&self.text(manifest)?)?;
        let mut own = None;
        for line in &lines {
            self.member(&line.name)?;
            if line.name == descriptor.name {
                own = Some(line);
            }
        }
        let Some(own) = own else {
            return Err(Error::corrupt(format!("the manifest does not list the descriptor {:?}", descriptor.name)));
        };
        own.verify(&self.slice(descriptor)?)?;
        Ok(Some(lines))
    }

    fn of_kind<'a>(&'a self, extension: &'a str) -> impl Iterator<Item = &'a Member> {
        self.members.iter().filter(move |member| is_kind(&member.name, extension))
    }

    fn member(&self, name: &str) -> Result<&Member> {
        self.members
            .iter()
            .find(|member| member.name == name)
            .ok_or_else(|| Error::corrupt(format!("the manifest lists {name:?}, which is not in the archive")))
    }

    fn slice(&self, member: &Member) -> Result<Slice> {
        Slice::new(Arc::clone(&self.file), member.offset, member.length, &member.name)
    }

    fn text(&self, member: &Member) -> Result<Vec<u8>> {
        if member.length > MAX_TEXT {
            return Err(Error::new(
                ErrorKind::TooLarge,
                format!("{:?} of the archive has {} bytes; the limit is {MAX_TEXT}", member.name, member.length),
            ));
        }
        read_bytes(&*self.file, member.offset, member.length as usize, &member.name)
    }
}

fn is_kind(name: &str, extension: &str) -> bool {
    // The tar of macOS puts what it knows of a file before it, under its name after `._`.
    name.rsplit_once('.').is_some_and(|(stem, found)| !stem.starts_with("._") && found.eq_ignore_ascii_case(extension))
}

fn no_descriptor(members: &[Member]) -> Error {
    let names: Vec<_> = members.iter().take(NAMED).map(|member| member.name.as_str()).collect();
    let more = if members.len() > NAMED { ", ..." } else { "" };
    let holds = if names.is_empty() { "is empty".to_owned() } else { format!("holds {}{more}", names.join(", ")) };
    Error::unsupported(format!("the tar archive has no descriptor (.ovf), so it is no appliance: it {holds}"))
        .with_hint("unpack it and give the disk itself")
}
