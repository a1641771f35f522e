//! What a guest or a name from outside must not reach, and hosts that are unlike the usual one.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::Instant;

use compute::{Acceleration, Driver, Firmware, Power, ServerSpec, Stop};
use model::ServerId;

use crate::bench::{Bench, qemu_processes};
use crate::guest::Mode;

#[tokio::test]
async fn hostile_names_are_only_names() {
    let bench = Bench::new().await;
    let hostile = "a,debug-threads=on,,b\" $(touch /tmp/x) 'q' -monitor stdio \\ {}=;";
    let mut spec = ServerSpec { name: hostile.into(), ..bench.server(Mode::Obedient) };
    let folder = bench.path("base, file=\"{}\" $(x) 'y'\\");
    std::os::unix::fs::symlink(bench.path(""), &folder).unwrap();
    spec.base.socket = folder.join("nbd.sock");
    bench.driver.start(&spec).await.unwrap();
    bench.wait_for_text(spec.id, "boot 1").await;
    let [process] = qemu_processes(&spec.id.to_string())[..] else { panic!("not one process") };
    let command_line = std::fs::read_to_string(format!("/proc/{process}/cmdline")).unwrap();
    let name = format!("guest={}", hostile.replace(',', ",,"));
    assert!(command_line.split('\0').any(|argument| argument == name), "{command_line:?}");
    bench.driver.delete(spec.id).await.unwrap();
}

#[tokio::test]
async fn a_process_has_little() {
    let bench = Bench::new().await;
    let spec = bench.server(Mode::Obedient);
    bench.driver.start(&spec).await.unwrap();
    bench.wait_for_text(spec.id, "boot 1").await;
    let [process] = qemu_processes(&spec.id.to_string())[..] else { panic!("not one process") };
    let proc = |name: &str| format!("/proc/{process}/{name}");

    assert_eq!(std::fs::read_to_string(proc("environ")).unwrap(), "LC_ALL=C\0", "the environment stays out");
    let status = std::fs::read_to_string(proc("status")).unwrap();
    assert!(status.contains("Seccomp:\t2"), "the system call filter is on");
    let stat = std::fs::read_to_string(proc("stat")).unwrap();
    let group = stat.rsplit(") ").next().unwrap().split(' ').nth(2).unwrap();
    assert_eq!(group, process.to_string(), "signals to Molde's process group do not reach it");

    let mode = bench.directory(spec.id).metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700, "config drives hold secrets");
    bench.driver.delete(spec.id).await.unwrap();
}

#[tokio::test]
async fn a_deep_directory_fits_a_socket_address() {
    let bench =
        Bench::with(|options| options.directory = options.directory.join("d".repeat(120)).join("e".repeat(120))).await;
    let spec = bench.server(Mode::Obedient);
    bench.driver.start(&spec).await.unwrap();
    bench.wait_for_text(spec.id, "boot 1").await;
    bench.driver.stop(spec.id, Stop::Soft).await.unwrap();
    assert_eq!(bench.driver.console(spec.id, 4096).await.unwrap(), b"boot 1\nbye\n");
    bench.driver.delete(spec.id).await.unwrap();
}

#[tokio::test]
async fn automatic_acceleration_runs_the_guest_on_every_host() {
    let bench = Bench::with(|options| options.acceleration = Acceleration::Auto).await;
    let (first, second) = (bench.server(Mode::Obedient), bench.server(Mode::Obedient));
    for spec in [&first, &second] {
        let started = Instant::now();
        bench.driver.start(spec).await.unwrap();
        bench.wait_for_text(spec.id, "boot 1").await;
        assert_eq!(bench.driver.power(spec.id).await.unwrap(), Power::Running);
        assert!(started.elapsed().as_secs() < 20, "never a hang");
    }
    let accelerator = |id: ServerId| {
        let [process] = qemu_processes(&id.to_string())[..] else { panic!("not one process") };
        let command_line = std::fs::read_to_string(format!("/proc/{process}/cmdline")).unwrap();
        let mut arguments = command_line.split('\0').skip_while(|&argument| argument != "-accel");
        arguments.nth(1).unwrap().to_owned()
    };
    assert_eq!(accelerator(first.id), accelerator(second.id), "the verdict is kept");
    for spec in [&first, &second] {
        bench.driver.delete(spec.id).await.unwrap();
    }
}

#[tokio::test]
async fn uefi_starts_with_variables_of_its_own() {
    let bench = Bench::new().await;
    let spec = ServerSpec { firmware: Firmware::Uefi, ram_mib: 256, ..bench.server(Mode::Obedient) };
    bench.driver.start(&spec).await.unwrap();
    // The guest's disk is no UEFI one, and the firmware says so.
    bench.wait_for_text(spec.id, "BdsDxe: ").await;
    bench.driver.stop(spec.id, Stop::Hard).await.unwrap();
    // A link count of two shows whether the second start keeps the file or makes a new one.
    let variables = bench.directory(spec.id).join("uefi.vars");
    std::fs::hard_link(&variables, bench.path("same-file")).unwrap();
    bench.driver.start(&spec).await.unwrap();
    assert_eq!(bench.driver.power(spec.id).await.unwrap(), Power::Running);
    assert_eq!(variables.metadata().unwrap().nlink(), 2, "a guest's boot entries outlive its process");
    bench.driver.delete(spec.id).await.unwrap();
}
