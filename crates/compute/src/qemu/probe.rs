//! Finds out whether KVM really runs a guest: `/dev/kvm` that opens, and even a virtual machine that starts, prove
//! nothing where the host is itself a guest.
//!
//! The probe guest is a boot sector. It enters 64-bit mode with paging, as every kernel does, counts to 100 million
//! and then ends QEMU with [`PASSED`] through the `isa-debug-exit` device. Counting takes a processor well under a
//! second, and minutes where the host's kernel emulates the guest instruction by instruction.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use serde_json::json;
use tokio::process::Command;
use tokio::time::timeout;

use super::command::Accelerator;

/// Longest time for the probe guest; past it a real guest would be slower than under TCG.
const PROBE_LIMIT: Duration = Duration::from_secs(6);
/// Name of the probe guest's disk in the driver's directory. It is read-only: any number of probes may share it.
const PROBE_DISK: &str = "probe.img";
/// SeaBIOS does not boot from a disk of one sector.
const PROBE_DISK_BYTES: u64 = 1 << 20;
/// QEMU's exit code after the guest wrote 0x2a to the debug port: `(0x2a << 1) | 1`.
const PASSED: i32 = 85;

/// Returns whether KVM runs the probe guest, or why not. Takes 6 s at most.
///
/// `directory` is the driver's own.
pub(super) async fn probe_kvm(qemu: &Path, directory: &Path) -> Result<(), String> {
    let opened = File::options().read(true).write(true).open("/dev/kvm");
    opened.map_err(|error| format!("/dev/kvm cannot be opened: {error}"))?;
    probe(qemu, directory, Accelerator::Kvm).await
}

/// Boots the probe guest under `accelerator` and returns why that failed, if it did.
async fn probe(qemu: &Path, directory: &Path, accelerator: Accelerator) -> Result<(), String> {
    write_disk(directory).map_err(|error| format!("cannot write the probe guest: {error}"))?;
    let disk = json!({
        "driver": "raw", "node-name": "disk", "read-only": true,
        "file": {"driver": "file", "read-only": true, "filename": PROBE_DISK},
    });
    let mut command = Command::new(qemu);
    command
        .args(accelerator.arguments())
        .args(["-no-user-config", "-nodefaults", "-display", "none", "-no-reboot"])
        .args(["-machine", "q35,vmport=off", "-m", "64M", "-blockdev", &disk.to_string()])
        .args(["-device", "virtio-blk-pci,drive=disk,bootindex=0"])
        .args(["-device", "isa-debug-exit,iobase=0xf4,iosize=1"])
        .current_dir(directory)
        .env_clear()
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .process_group(0)
        .kill_on_drop(true);
    match timeout(PROBE_LIMIT, command.output()).await {
        Err(_) => Err(format!("the probe guest did not finish in {} s", PROBE_LIMIT.as_secs())),
        Ok(Err(error)) => Err(format!("QEMU could not be run: {error}")),
        Ok(Ok(output)) => verdict(output.status, &output.stderr),
    }
}

fn verdict(status: ExitStatus, stderr: &[u8]) -> Result<(), String> {
    if status.code() == Some(PASSED) {
        return Ok(());
    }
    let said = String::from_utf8_lossy(stderr);
    Err(format!("QEMU ended with {status}: {}", said.lines().next_back().unwrap_or("it said nothing")))
}

/// Writes the probe guest's disk in one step, as another Molde may be booting from it.
fn write_disk(directory: &Path) -> io::Result<()> {
    let unfinished = directory.join(format!("{PROBE_DISK}.{}", std::process::id()));
    let mut file = File::create(&unfinished)?;
    file.write_all(BOOT_CODE)?;
    file.seek(SeekFrom::Start(510))?;
    file.write_all(&[0x55, 0xaa])?;
    file.set_len(PROBE_DISK_BYTES)?;
    std::fs::rename(unfinished, directory.join(PROBE_DISK))
}

/// The boot sector: x86 machine code for address 0x7c00, assembled by hand.
///
/// Page tables lie at 0x1000, 0x2000 and 0x3000 and map the first 2 MiB to themselves.
#[rustfmt::skip]
const BOOT_CODE: &[u8] = &[
    0xfa,                               // 7c00  cli
    0x31, 0xc0,                         // 7c01  xor ax, ax
    0x8e, 0xd8,                         // 7c03  mov ds, ax
    0x8e, 0xc0,                         // 7c05  mov es, ax
    0x8e, 0xd0,                         // 7c07  mov ss, ax
    0xbc, 0x00, 0x7c,                   // 7c09  mov sp, 0x7c00
    0xfc,                               // 7c0c  cld
    0xbf, 0x00, 0x10,                   // 7c0d  mov di, 0x1000              clear three pages
    0xb9, 0x00, 0x18,                   // 7c10  mov cx, 0x1800
    0xf3, 0xab,                         // 7c13  rep stosw
    0xc7, 0x06, 0x00, 0x10, 0x03, 0x20, // 7c15  mov word [0x1000], 0x2003   PML4 -> 0x2000, present, writable
    0xc7, 0x06, 0x00, 0x20, 0x03, 0x30, // 7c1b  mov word [0x2000], 0x3003   PDPT -> 0x3000, present, writable
    0xc7, 0x06, 0x00, 0x30, 0x83, 0x00, // 7c21  mov word [0x3000], 0x0083   one 2 MiB page at 0
    0x0f, 0x01, 0x16, 0x80, 0x7c,       // 7c27  lgdt [0x7c80]
    0x0f, 0x20, 0xe0,                   // 7c2c  mov eax, cr4
    0x0c, 0x20,                         // 7c2f  or al, 0x20                 CR4.PAE
    0x0f, 0x22, 0xe0,                   // 7c31  mov cr4, eax
    0x66, 0xb8, 0x00, 0x10, 0x00, 0x00, // 7c34  mov eax, 0x1000
    0x0f, 0x22, 0xd8,                   // 7c3a  mov cr3, eax
    0x66, 0xb9, 0x80, 0x00, 0x00, 0xc0, // 7c3d  mov ecx, 0xc0000080         EFER
    0x0f, 0x32,                         // 7c43  rdmsr
    0x80, 0xcc, 0x01,                   // 7c45  or ah, 1                    EFER.LME
    0x0f, 0x30,                         // 7c48  wrmsr
    0x0f, 0x20, 0xc0,                   // 7c4a  mov eax, cr0
    0x66, 0x0d, 0x01, 0x00, 0x00, 0x80, // 7c4d  or eax, 0x80000001          CR0.PG, CR0.PE
    0x0f, 0x22, 0xc0,                   // 7c53  mov cr0, eax
    0xea, 0x5b, 0x7c, 0x08, 0x00,       // 7c56  jmp 0x08:0x7c5b             64-bit code from here
    0xb9, 0x00, 0xe1, 0xf5, 0x05,       // 7c5b  mov ecx, 100000000
    0xff, 0xc9,                         // 7c60  dec ecx
    0x75, 0xfc,                         // 7c62  jnz 0x7c60
    0xb0, 0x2a,                         // 7c64  mov al, 0x2a
    0xe6, 0xf4,                         // 7c66  out 0xf4, al                ends QEMU
    0xf4,                               // 7c68  hlt
    0xeb, 0xfd,                         // 7c69  jmp 0x7c68
    0x90, 0x90, 0x90, 0x90, 0x90,       // 7c6b  fill
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, // 7c70  GDT: the null descriptor
    0x00, 0x00, 0x00, 0x00, 0x00, 0x9a, 0x20, 0x00, // 7c78  0x08: code, ring 0, 64 bits
    0x0f, 0x00, 0x70, 0x7c, 0x00, 0x00, // 7c80  limit and address of the GDT
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::QemuOptions;

    /// The positive control: TCG executes every guest, so the probe guest must pass under it.
    #[tokio::test]
    async fn the_probe_guest_passes_where_guests_run() {
        let directory = tempfile::tempdir().unwrap();
        let qemu = QemuOptions::new(directory.path()).find_qemu().unwrap();
        assert_eq!(probe(&qemu, directory.path(), Accelerator::Tcg).await, Ok(()));
    }

    #[tokio::test]
    async fn a_guest_that_never_finishes_is_given_up() {
        let directory = tempfile::tempdir().unwrap();
        let started = std::time::Instant::now();
        // `yes` refuses the options, the script waits for ever: neither is an emulator.
        let refused = probe(Path::new("/usr/bin/yes"), directory.path(), Accelerator::Tcg).await.unwrap_err();
        assert!(refused.contains("exit status: 1"), "{refused}");
        let hanging = directory.path().join("hang");
        std::fs::write(&hanging, "#!/bin/sh\nexec sleep 600\n").unwrap();
        std::fs::set_permissions(&hanging, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        let hung = probe(&hanging, directory.path(), Accelerator::Tcg).await.unwrap_err();
        assert!(hung.contains("did not finish"), "{hung}");
        assert!(started.elapsed() < PROBE_LIMIT * 2);
    }
}
