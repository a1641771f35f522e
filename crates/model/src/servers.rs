//! Servers: the record, its states and allowed moves, and flavors.

use crate::formats::names;
use crate::{ContentId, DiskFormat, ImageId, JobId, ProjectId, ServerId, Timestamp, UserId};

names! {
    /// Where a server is in its life; the texts are Nova's `status`.
    ServerState {
        /// A job is making it.
        Build = "BUILD",
        /// Its process runs.
        Active = "ACTIVE",
        /// It is powered off.
        Stopped = "SHUTOFF",
        /// Making or running it failed; `reason` says why.
        Error = "ERROR",
        /// Gone.
        Deleted = "DELETED",
    }
}

impl ServerState {
    /// Every allowed move. Whatever is not listed is refused.
    pub const MOVES: &'static [(Self, Self)] = &[
        (Self::Build, Self::Active),
        (Self::Build, Self::Error),
        (Self::Build, Self::Deleted),
        (Self::Active, Self::Stopped),
        (Self::Active, Self::Error),
        (Self::Active, Self::Deleted),
        (Self::Stopped, Self::Active),
        (Self::Stopped, Self::Error),
        (Self::Stopped, Self::Deleted),
        (Self::Error, Self::Active),
        (Self::Error, Self::Stopped),
        (Self::Error, Self::Deleted),
    ];

    /// Returns whether a server may go from this state to `next`.
    #[must_use]
    pub fn may_become(self, next: Self) -> bool {
        Self::MOVES.contains(&(self, next))
    }
}

/// A size of server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flavor {
    /// Its name, which is also its id.
    pub name: &'static str,
    /// Virtual processors.
    pub vcpus: u32,
    /// Memory in MiB.
    pub ram_mib: u32,
    /// Root disk in GiB; the image's own size where that is larger.
    pub disk_gib: u32,
}

/// The built-in flavors.
pub const FLAVORS: &[Flavor] = &[
    Flavor { name: "m1.nano", vcpus: 1, ram_mib: 256, disk_gib: 1 },
    Flavor { name: "m1.tiny", vcpus: 1, ram_mib: 512, disk_gib: 1 },
    Flavor { name: "m1.small", vcpus: 1, ram_mib: 2048, disk_gib: 20 },
    Flavor { name: "m1.medium", vcpus: 2, ram_mib: 4096, disk_gib: 40 },
    Flavor { name: "m1.large", vcpus: 4, ram_mib: 8192, disk_gib: 80 },
];

/// The disk that a server begins with. The content is kept as long as the server, also when its image goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RootDisk {
    /// The bytes.
    pub content: ContentId,
    /// How the bytes hold the disk.
    pub format: DiskFormat,
    /// Length of the server's own disk in bytes; at least that of the disk it begins with.
    pub size: u64,
    /// Whether UEFI starts it; a PC BIOS otherwise.
    pub uefi: bool,
}

/// A virtual machine made from an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Its id.
    pub id: ServerId,
    /// The project that owns it.
    pub project: ProjectId,
    /// Who made it.
    pub user: UserId,
    /// What people call it; also its host name.
    pub name: String,
    /// Where it is in its life.
    pub state: ServerState,
    /// Why it is in [`ServerState::Error`], as a sentence.
    pub reason: Option<String>,
    /// The image it was made from, which may be gone.
    pub image: ImageId,
    /// The disk it began with.
    pub disk: RootDisk,
    /// Name of its flavor.
    pub flavor: String,
    /// What cloud-init gets, as given by the user.
    pub user_data: Option<Vec<u8>>,
    /// A public key for the image's default user.
    pub ssh_key: Option<String>,
    /// Ports of this host that reach the guest: (host, guest).
    pub forwards: Vec<(u16, u16)>,
    /// The job that makes it.
    pub job: Option<JobId>,
    /// When the record was made.
    pub created_at: Timestamp,
    /// When the record changed last.
    pub updated_at: Timestamp,
}
