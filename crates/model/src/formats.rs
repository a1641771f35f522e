//! Names of disk and container formats, as OpenStack and Huawei spell them.

macro_rules! names {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$vdoc])* $variant),+ }

        impl $name {
            /// Every value, in the order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Returns the name used in records, APIs and logs.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::names::UnknownName;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text {
                    $($text => Ok(Self::$variant),)+
                    _ => Err($crate::names::UnknownName::new(text, &[$($text),+])),
                }
            }
        }
    };
}
pub(crate) use names;

names! {
    /// How a file holds a disk: Glance's `disk_format`, plus the names that Huawei adds.
    DiskFormat {
        /// The disk itself.
        Raw = "raw",
        /// QEMU copy-on-write, version 2 or 3.
        Qcow2 = "qcow2",
        /// VirtualPC / Hyper-V hard disk, fixed or dynamic.
        Vhd = "vhd",
        /// Hyper-V hard disk, second generation.
        Vhdx = "vhdx",
        /// VMware disk.
        Vmdk = "vmdk",
        /// VirtualBox disk.
        Vdi = "vdi",
        /// Optical disc image.
        Iso = "iso",
        /// Virtuozzo / Parallels disk.
        Ploop = "ploop",
        /// A raw disk with a GUID partition table, as newer Glance names it.
        Gpt = "gpt",
        /// Amazon kernel image.
        Aki = "aki",
        /// Amazon ramdisk image.
        Ari = "ari",
        /// Amazon machine image.
        Ami = "ami",
        /// Huawei's first format for fast creation: a name only, its layout is not public.
        Zvhd = "zvhd",
        /// Huawei's second format for fast creation: a name only, its layout is not public.
        Zvhd2 = "zvhd2",
    }
}

names! {
    /// What is wrapped around the disk file: Glance's `container_format`.
    ContainerFormat {
        /// Nothing.
        Bare = "bare",
        /// An OVF folder.
        Ovf = "ovf",
        /// A tar of OVF and disks.
        Ova = "ova",
        /// A tar of a container's file system.
        Docker = "docker",
        /// A compressed file whose inner kind is not told.
        Compressed = "compressed",
        /// Amazon kernel image.
        Aki = "aki",
        /// Amazon ramdisk image.
        Ari = "ari",
        /// Amazon machine image.
        Ami = "ami",
    }
}
