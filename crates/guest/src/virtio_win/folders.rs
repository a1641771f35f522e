//! Which folder of virtio-win is for which Windows.

use crate::report::{Os, Windows};

/// Names of the folders for one version: as on the disc, and as tools from before had them.
type Names = [&'static str; 2];

const W7: Names = ["w7", "win7"];
const W8: Names = ["w8", "win8"];
const W8_1: Names = ["w8.1", "win8.1"];
const W10: Names = ["w10", "win10"];
const W11: Names = ["w11", "win11"];
const S2008_R2: Names = ["2k8R2", "win2008r2"];
const S2012: Names = ["2k12", "win2012"];
const S2012_R2: Names = ["2k12R2", "win2012r2"];
const S2016: Names = ["2k16", "win2016"];
const S2019: Names = ["2k19", "win2019"];
const S2022: Names = ["2k22", "win2022"];
const S2025: Names = ["2k25", "win2025"];

/// The first build of a version, and the folders for it and for those until the next, the best first: its own; that of the
/// other family (client or server) with the same kernel; then older ones with which its kernel works. A newer one is never
/// taken, as it may call what is not there yet.
type Row = (u32, &'static [Names]);

const CLIENTS: [Row; 6] = [
    (7600, &[W7, S2008_R2]),
    (9200, &[W8, S2012]),
    (9600, &[W8_1, S2012_R2, W8, S2012]),
    (10240, &[W10, S2016]),
    (17763, &[W10, S2019, S2016]),
    (22000, &[W11, S2022, W10, S2019, S2016]),
];
const SERVERS: [Row; 7] = [
    (7600, &[S2008_R2, W7]),
    (9200, &[S2012, W8]),
    (9600, &[S2012_R2, W8_1, S2012, W8]),
    (10240, &[S2016, W10]),
    (17763, &[S2019, W10, S2016]),
    (20348, &[S2022, S2019, W10, S2016]),
    (26100, &[S2025, W11, S2022, S2019, W10, S2016]),
];

/// What a driver is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Platform {
    Amd64,
    X86,
    Arm64,
}

impl Platform {
    /// Returns names of folders.
    pub(super) fn folders(self) -> &'static [&'static str] {
        match self {
            Self::Amd64 => &["amd64"],
            Self::X86 => &["x86", "i386"],
            Self::Arm64 => &["arm64"],
        }
    }

    /// Returns the name in sections of an INF, in small letters.
    pub(super) fn section(self) -> &'static str {
        self.folders()[0]
    }

    /// Returns the number in a program (PE format, "Machine types").
    pub(super) fn machine(self) -> u16 {
        match self {
            Self::Amd64 => 0x8664,
            Self::X86 => 0x014c,
            Self::Arm64 => 0xaa64,
        }
    }
}

/// What is looked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) platform: Platform,
    pub(super) folders: &'static [Names],
}

impl Target {
    /// Finds it for one Windows; an error says what is not known of it.
    pub(super) fn of(os: &Os, windows: &Windows) -> Result<Self, String> {
        let platform = match os.arch.as_deref() {
            Some("x86_64") => Platform::Amd64,
            Some("i686") => Platform::X86,
            Some("aarch64") => Platform::Arm64,
            Some(other) => return Err(format!("virtio-win has no drivers for {other}")),
            None => return Err("which processor this Windows is for is not known".to_owned()),
        };
        let build = windows.build.as_deref().and_then(|build| build.split('.').next()?.parse::<u32>().ok());
        let build = build.ok_or("which build this Windows is of is not known")?;
        let begins = |text: &Option<String>| text.as_ref().is_some_and(|text| text.starts_with("Server"));
        let is_server = begins(&windows.edition) || os.name.as_ref().is_some_and(|name| name.contains("Server"));
        let rows = if is_server { &SERVERS[..] } else { &CLIENTS[..] };
        let row = rows.iter().rev().find(|(first, _)| *first <= build);
        let (_, folders) = row.ok_or_else(|| format!("virtio-win has no drivers for build {build}"))?;
        Ok(Self { platform, folders })
    }

    /// Says what was looked for.
    pub(super) fn told(&self) -> String {
        let folders: Vec<&str> = self.folders.iter().map(|names| names[0]).collect();
        format!("looked for {} below {}", self.platform.section(), folders.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::OsKind;

    fn target(name: &str, edition: &str, build: &str, arch: &str) -> Result<Target, String> {
        let os = Os { name: Some(name.to_owned()), arch: Some(arch.to_owned()), ..Os::new(OsKind::Windows) };
        let edition = Some(edition.to_owned());
        Target::of(&os, &Windows { edition, build: Some(build.to_owned()), ..Windows::default() })
    }

    #[test]
    fn the_folder_follows_from_build_and_family() {
        for (name, edition, build, first, last) in [
            ("Windows 7 Professional", "Professional", "7601.24499", "w7", "2k8R2"),
            ("Windows Server 2008 R2 Standard", "ServerStandard", "7601", "2k8R2", "w7"),
            ("Windows 8 Pro", "Professional", "9200", "w8", "2k12"),
            ("Windows Server 2012 R2 Datacenter", "ServerDatacenter", "9600.1", "2k12R2", "w8"),
            ("Windows 10 Pro", "Professional", "19045.4010", "w10", "2k16"),
            ("Windows 11 Pro", "Professional", "22631.1", "w11", "2k16"),
            ("Windows Server 2016 Standard", "ServerStandard", "14393.1", "2k16", "w10"),
            ("Windows Server 2019 Standard", "ServerStandard", "17763.4010", "2k19", "2k16"),
            ("Windows Server 2022 Standard", "ServerStandard", "20348.1", "2k22", "2k16"),
            ("Windows Server 2025 Standard", "ServerStandard", "26100.1", "2k25", "2k16"),
        ] {
            let target = target(name, edition, build, "x86_64").unwrap();
            assert_eq!((target.folders[0][0], target.folders[target.folders.len() - 1][0]), (first, last), "{name}");
        }
        assert_eq!(target("Windows 10", "Pro", "10240", "i686").unwrap().platform, Platform::X86);
    }

    #[test]
    fn what_is_not_known_is_told() {
        assert!(target("Windows XP", "", "2600", "i686").unwrap_err().contains("build 2600"));
        assert!(target("Windows 10", "", "19045", "ia64").unwrap_err().contains("ia64"));
        assert!(target("Windows 10", "", "new", "x86_64").unwrap_err().contains("build"));
    }
}
