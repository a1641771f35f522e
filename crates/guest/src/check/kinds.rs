//! All kinds of findings, in the order in which a person would read about them.

use super::finding::{Action, Kind, Severity};

macro_rules! kinds {
    ($($name:ident = $id:literal, $severity:ident, $action:ident, $remedy:literal;)*) => {
        $(
            pub(super) static $name: Kind =
                Kind { id: $id, severity: Severity::$severity, action: Action::$action, remedy: $remedy };
        )*
        /// Every kind.
        pub static KINDS: &[&Kind] = &[$(&$name),*];
    };
}

kinds! {
    ROOT_BY_NAME = "root-by-name", BlocksBoot, Automatic,
        "Name the root file system by its UUID on the kernel's command line.";
    RESUME_MISSING = "resume-missing", Hygiene, Automatic,
        "Take `resume=` off the kernel's command line.";
    INITRAMFS_VIRTIO = "initramfs-lacks-virtio", BlocksBoot, Automatic,
        "Append the drivers for virtio disks to the initramfs.";
    INITRAMFS_SEALED = "initramfs-not-appendable", BlocksBoot, Manual,
        "Let prepare run the guest's own tool (`--run-programs`), or make the initramfs anew in the running guest, with the virtio drivers in it.";
    KERNEL_VIRTIO = "kernel-lacks-virtio", BlocksBoot, Manual,
        "Install another kernel in the guest: this one has no driver for virtio disks.";
    KERNEL_XEN = "kernel-xen-only", BlocksBoot, Manual,
        "Install another kernel in the guest: this one starts under Xen only.";
    INITRAMFS_NET = "initramfs-net-rules", BlocksCloud, Automatic,
        "Append an empty file to the initramfs in the place of each rule.";
    UEFI_FALLBACK = "uefi-fallback-missing", BlocksBoot, Automatic,
        "Copy the guest's own loader into \\EFI\\BOOT, where firmware looks that knows of no entry.";
    UEFI_FALLBACK_UNKNOWN = "uefi-fallback-unknown", BlocksBoot, Manual,
        "Put a loader into \\EFI\\BOOT in the running guest: none is there whose place is known.";
    FSTAB_DEVICE_NAME = "fstab-device-name", BlocksBoot, Automatic,
        "Name the file system by its UUID.";
    FSTAB_MISSING_DEVICE = "fstab-missing-device", BlocksBoot, Automatic,
        "Turn the line into a comment.";
    CRYPTTAB_DEVICE_NAME = "crypttab-device-name", BlocksBoot, Automatic,
        "Name the encrypted device by its UUID.";
    CRYPTTAB_MISSING_DEVICE = "crypttab-missing-device", BlocksBoot, Manual,
        "Add the disk, or take the line out of /etc/crypttab before the image is used.";
    DEVICES_FILE = "lvm-devices-file", BlocksBoot, Automatic,
        "Delete the list, so that LVM looks at all disks.";
    DEVICE_CACHE = "device-cache", Hygiene, Automatic,
        "Delete the file; it is made again.";
    SERIAL_CONSOLE = "serial-console-missing", Info, Automatic,
        "Add `console=tty0 console=ttyS0,115200` to the kernel's command line, so that a cloud's console log shows how it starts.";
    NETWORK_STATIC = "network-static", BlocksCloud, Automatic,
        "Let the adapter ask for its address (DHCP).";
    NETWORK_MAC = "network-mac", BlocksCloud, Automatic,
        "Do not bind the settings to the address of one adapter.";
    NETWORK_KEPT = "network-manual", Info, Manual,
        "Look at these settings: they are neither plain Ethernet nor left by an installer, so they stay as they are.";
    PERSISTENT_NET = "persistent-net-rules", BlocksCloud, Automatic,
        "Delete the rules that name adapters by their old addresses.";
    RESOLV_CONF = "resolv-conf-static", Hygiene, Automatic,
        "Empty the file; DHCP fills it.";
    CLOUD_INIT_MISSING = "cloud-init-missing", BlocksCloud, Manual,
        "Install the package cloud-init in the guest, give prepare the packages (`--packages`), or set keys and host names of new servers by other means.";
    CLOUD_INIT_DISABLED = "cloud-init-disabled", BlocksCloud, Automatic,
        "Take away what switches cloud-init off.";
    CLOUD_INIT_DATASOURCE = "cloud-init-datasource", BlocksCloud, Automatic,
        "Turn the list into a comment, so that cloud-init looks for every cloud that it knows.";
    CLOUD_INIT_NETWORK = "cloud-init-network-disabled", BlocksCloud, Automatic,
        "Let cloud-init set up the network.";
    CLOUD_INIT_INSTANCE = "cloud-init-stale-instance", BlocksCloud, Automatic,
        "Delete what cloud-init remembers of the server that it ran on.";
    HYPERVISOR_TOOLS = "hypervisor-tools", Hygiene, Automatic,
        "Keep the services from starting.";
    XORG_DRIVER = "xorg-driver", Hygiene, Automatic,
        "Put the file aside, so that the graphics driver is chosen anew.";
    MACHINE_ID = "machine-id", Hygiene, Automatic,
        "Empty the file; each new server gets an id of its own.";
    SSH_HOST_KEYS = "ssh-host-keys", Leak, Automatic,
        "Delete the keys; each new server makes its own.";
    SSH_HOST_KEYS_KEPT = "ssh-host-keys-kept", Leak, OnRequest,
        "Delete the keys. Nothing in this guest is known to make new ones, so do it only if something else does.";
    RANDOM_SEED = "random-seed", Leak, Automatic,
        "Delete the file; each new server makes its own.";
    DHCP_LEASES = "dhcp-leases", Hygiene, Automatic,
        "Delete the leases.";
    SHELL_HISTORY = "shell-history", Leak, OnRequest,
        "Delete the histories.";
    AUTHORIZED_KEYS = "authorized-keys", Leak, OnRequest,
        "Delete the files, after which these keys no longer let anyone in.";
    PRIVATE_KEYS = "private-keys", Leak, OnRequest,
        "Delete the keys.";
    TLS_KEYS = "tls-keys", Leak, Manual,
        "Take the keys out, or give new certificates to every server, if others get the image.";
    CLOUD_CREDENTIALS = "cloud-credentials", Leak, OnRequest,
        "Delete the files.";
    PASSWORDS = "passwords", Leak, Manual,
        "Lock these accounts, or change their passwords, if others get the image.";
    LOGS = "logs", Hygiene, OnRequest,
        "Empty the logs.";
    BOOT_DRIVERS = "windows-boot-drivers", BlocksBoot, Automatic,
        "Let the drivers of disks that Windows has start at boot.";
    FALLBACK_DRIVERS = "windows-fallback-drivers", Hygiene, Automatic,
        "Let the drivers of other disks start at boot too, for hardware without virtio.";
    VIRTIO_DISK = "windows-lacks-viostor", BlocksBoot, Manual,
        "Give prepare a folder or a disc of virtio-win (`--virtio-win`), install that in the running guest (`virtio-win-guest-tools.exe`, or `pnputil /add-driver viostor.inf /install`), or give the disk by SATA or IDE.";
    HIBERNATED = "windows-hibernated", BlocksBoot, Manual,
        "Start Windows, switch hibernation off with `powercfg /h off`, and shut it down with `shutdown /s /t 0`.";
    VIRTIO_NET = "windows-lacks-netkvm", BlocksCloud, Manual,
        "Give prepare a folder or a disc of virtio-win (`--virtio-win`), install that in the running guest (`virtio-win-guest-tools.exe`, or `pnputil /add-driver netkvm.inf /install`), or give the adapter as e1000.";
    DRIVERS_WAIT = "windows-drivers-wait", Info, Manual,
        "Nothing to do: Windows installs them when it finds their device at its next start.";
    DRIVER_POLICY = "windows-driver-policy", BlocksCloud, Manual,
        "Lift the policy `Device Installation Restrictions` until the image has started once in the cloud.";
    CLOUDBASE_MISSING = "cloudbase-init-missing", BlocksCloud, Manual,
        "Install cloudbase-init in the guest, or set passwords and host names of new servers by other means.";
    CLOUDBASE_DISABLED = "cloudbase-init-disabled", BlocksCloud, Automatic,
        "Let the service start by itself.";
    CLOUDBASE_METADATA = "cloudbase-init-metadata", BlocksCloud, Manual,
        "Add `cloudbaseinit.metadata.services.configdrive.ConfigDriveService` to `metadata_services` in the file.";
    INPUT_DRIVERS = "windows-input-drivers", Hygiene, Automatic,
        "Let the drivers of keyboard and mouse start on demand, without filters of another hypervisor.";
    FOREIGN_DRIVERS = "windows-foreign-drivers", Info, Manual,
        "Uninstall the tools of the other hypervisor in the running guest.";
    FAST_STARTUP = "windows-fast-startup", Hygiene, Automatic,
        "Switch fast startup off.";
    NOT_GENERAL = "windows-not-generalized", Hygiene, Manual,
        "Run `sysprep /generalize /oobe /shutdown` in the guest before the image is made.";
    ANSWER_FILES = "windows-answer-files", Leak, Manual,
        "Delete the files, or the passwords in them, in the running guest.";
    AUTO_LOGON = "windows-auto-logon", Leak, Manual,
        "Delete the value in the running guest, and change the password.";
    WINDOWS_SECRETS = "windows-secrets", Leak, Manual,
        "Delete the files in the running guest.";
    VOLUME_DIRTY = "windows-volume-dirty", Hygiene, Manual,
        "Start Windows, let it check its volumes (`chkdsk /f`), and shut it down with `shutdown /s /t 0`.";
    HIVE_PENDING = "windows-registry-pending", Hygiene, Manual,
        "Start Windows and shut it down with `shutdown /s /t 0`, so that it ends its write.";
    CLOCK_LOCAL = "windows-clock-local", Info, Manual,
        "If the cloud gives universal time, set `RealTimeIsUniversal` to 1 in the running guest.";
    PAGEFILE = "windows-pagefile-elsewhere", Info, Manual,
        "Put the page file on C: in the running guest, or leave it to Windows.";
    DRIVE_LETTERS = "windows-drive-letters", Info, Manual,
        "Nothing to do for letters of data disks that stay behind; else see which letters programs need.";
    CRASH_REBOOT = "windows-crash-reboot", Info, OnRequest,
        "Let a crash stop Windows with its reason on the console.";
    REMOTE_DESKTOP = "windows-remote-desktop-off", Info, Manual,
        "Allow remote desktop in the running guest, if servers are to be reached so.";
    SCANNERS = "windows-antivirus", Info, Manual,
        "If drivers do not start in the cloud, uninstall the program before the image is made.";
    UNCLEAN = "unclean-shutdown", Info, Manual,
        "Nothing to do: the guest replays the journal when it starts.";
    NO_SYSTEM = "no-system", Info, Manual,
        "If this is no data disk, see the notes for what could not be read.";
}
