//! What happens when Molde dies, and what must not be mistaken for a server's process.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use compute::{Base, Driver, Power, Stop};
use model::ServerId;

use crate::bases::{Trouble, Troubled};
use crate::bench::{Bench, is_alive, kill, qemu_processes, text, until};
use crate::guest::{self, Mode};

/// Starts the example `boot`, which starts a server, as another process.
fn spawn_boot(bench: &Bench, base: &Base, bytes: u64) -> Child {
    // Test binaries lie in `deps`, examples beside it.
    let here = std::env::current_exe().unwrap();
    let example = here.parent().unwrap().with_file_name("examples").join("boot");
    assert!(example.exists(), "`cargo build -p molde-compute --examples` makes {}", example.display());
    let bytes = bytes.to_string();
    let arguments = [text(&base.socket), &base.export, &bytes, text(&bench.options.directory)];
    Command::new(example).args(arguments).stdout(Stdio::piped()).spawn().unwrap()
}

/// Runs the example `boot` and returns it with the server that it has started.
fn boot_elsewhere(bench: &Bench, base: &Base) -> (Child, ServerId) {
    let mut process = spawn_boot(bench, base, guest::DISK_BYTES);
    let mut line = String::new();
    BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let id = line.trim().strip_prefix("started ").unwrap_or_else(|| panic!("{line:?}")).parse().unwrap();
    (process, id)
}

#[tokio::test]
async fn a_server_survives_the_death_of_its_driver() {
    let bench = Bench::new().await;
    let spec = bench.server(Mode::Obedient);
    let (mut parent, id) = boot_elsewhere(&bench, &spec.base);
    parent.kill().unwrap();
    parent.wait().unwrap();

    assert_eq!(qemu_processes(&id.to_string()).len(), 1);
    assert_eq!(bench.driver.adopt().await.unwrap(), [(id, Power::Running)]);
    bench.wait_for_text(id, "boot 1").await;
    bench.driver.stop(id, Stop::Soft).await.unwrap();
    assert_eq!(bench.driver.console(id, 4096).await.unwrap(), b"boot 1\nbye\n", "an adopted server can be stopped");
    assert_eq!(bench.driver.adopt().await.unwrap(), [(id, Power::Off)]);
    bench.driver.delete(id).await.unwrap();
    assert!(!bench.directory(id).exists());
}

#[tokio::test]
async fn delete_ends_an_adopted_process() {
    let bench = Bench::new().await;
    let spec = bench.server(Mode::Deaf);
    let (mut parent, id) = boot_elsewhere(&bench, &spec.base);
    parent.kill().unwrap();
    parent.wait().unwrap();
    bench.wait_for_power(id, Power::Running).await;
    bench.driver.delete(id).await.unwrap();
    assert_eq!(qemu_processes(&id.to_string()), [0; 0]);
    assert!(!bench.directory(id).exists());
}

#[tokio::test]
async fn a_process_with_a_reused_number_is_left_alone() {
    let bench = Bench::new().await;
    let spec = bench.server(Mode::Obedient);
    bench.driver.start(&spec).await.unwrap();
    bench.wait_for_text(spec.id, "boot 1").await;
    // QEMU dies without tidying up, and its number goes to somebody else.
    let pid_file = bench.directory(spec.id).join("pid");
    let number = std::fs::read_to_string(&pid_file).unwrap();
    assert_eq!(qemu_processes(&spec.id.to_string()), [number.trim().parse::<i32>().unwrap()]);
    kill(number.trim().parse().unwrap());
    bench.wait_for_power(spec.id, Power::Off).await;
    assert!(pid_file.exists(), "SIGKILL leaves the pid file");
    // The bystander even has QEMU's option on its command line.
    let script = ["-c", "sleep 600; :", "-uuid", &spec.id.to_string()];
    let mut bystander = Command::new("sh").args(script).process_group(0).spawn().unwrap();
    std::fs::write(&pid_file, format!("{}\n", bystander.id())).unwrap();

    let after_restart = bench.new_driver().await;
    assert_eq!(after_restart.adopt().await.unwrap(), [(spec.id, Power::Off)]);
    after_restart.stop(spec.id, Stop::Hard).await.unwrap();
    assert!(is_alive(bystander.id()));
    after_restart.start(&spec).await.unwrap();
    bench.wait_for_text(spec.id, "boot 2").await;
    after_restart.delete(spec.id).await.unwrap();
    assert!(is_alive(bystander.id()));
    let group = rustix::process::Pid::from_child(&bystander);
    rustix::process::kill_process_group(group, rustix::process::Signal::KILL).unwrap();
    bystander.wait().unwrap();
}

#[tokio::test]
async fn a_locked_pid_file_of_another_program_is_not_believed() {
    let bench = Bench::new().await;
    let spec = bench.server(Mode::Obedient);
    bench.driver.start(&spec).await.unwrap();
    bench.driver.stop(spec.id, Stop::Hard).await.unwrap();
    // Another server's QEMU, as far as the kernel knows, holds the lock on this server's pid file.
    let other = ServerId::new().to_string();
    let mut holder = Command::new("qemu-system-x86_64")
        .args(["-accel", "tcg", "-nodefaults", "-display", "none", "-S", "-uuid", &other, "-pidfile"])
        .arg(bench.directory(spec.id).join("pid"))
        .spawn()
        .unwrap();
    let pid_file = bench.directory(spec.id).join("pid");
    let written = async || std::fs::read_to_string(&pid_file).is_ok_and(|pid| pid.trim() == holder.id().to_string());
    until("the other QEMU has written its pid file", written).await;
    assert_eq!(bench.driver.power(spec.id).await.unwrap(), Power::Off);
    let refused = bench.driver.start(&spec).await.unwrap_err();
    assert!(refused.to_string().to_lowercase().contains("lock"), "{refused}");
    bench.driver.delete(spec.id).await.unwrap();
    assert!(is_alive(holder.id()));
    holder.kill().unwrap();
    holder.wait().unwrap();
}

/// The server of the base dies while the guest waits for a sector of it, and comes back later.
#[tokio::test]
async fn a_guest_waits_for_its_base_and_sees_no_error() {
    const SECTOR: u64 = guest::DISK_BYTES / 1024;
    let bench = Bench::new().await;
    let trouble = Trouble::waiting();
    let bytes = guest::disk(Mode::Obedient, SECTOR);
    let spec = bench.server_on(Troubled { bytes, byte: SECTOR * 512, trouble: trouble.clone() });
    bench.driver.start(&spec).await.unwrap();
    until("the guest reads the sector", async || trouble.was_met()).await;
    bench.bases.go_away();
    trouble.end();
    // Attempts to connect fail for a while; nothing depends on how many.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(bench.driver.power(spec.id).await.unwrap(), Power::Running);
    assert_eq!(bench.driver.console(spec.id, 4096).await.unwrap(), b"");
    bench.bases.come_back();
    bench.wait_for_text(spec.id, "boot 1").await;

    // While it is away, the guest still runs on what it has read, and can be stopped and removed.
    bench.bases.go_away();
    bench.driver.stop(spec.id, Stop::Soft).await.unwrap();
    assert_eq!(bench.driver.console(spec.id, 4096).await.unwrap(), b"boot 1\nbye\n");
    let refused = bench.driver.start(&spec).await.unwrap_err();
    assert!(refused.to_string().contains("base.sock"), "{refused}");
    bench.bases.come_back();
    bench.driver.start(&spec).await.unwrap();
    bench.wait_for_text(spec.id, "boot 2").await;
    bench.driver.delete(spec.id).await.unwrap();
}

/// A guest that hangs on a base whose server never comes back ends all the same.
#[tokio::test]
async fn a_guest_that_waits_for_its_base_can_be_stopped() {
    const SECTOR: u64 = guest::DISK_BYTES / 1024;
    let bench = Bench::new().await;
    let trouble = Trouble::waiting();
    let bytes = guest::disk(Mode::Obedient, SECTOR);
    let spec = bench.server_on(Troubled { bytes, byte: SECTOR * 512, trouble: trouble.clone() });
    bench.driver.start(&spec).await.unwrap();
    until("the guest reads the sector", async || trouble.was_met()).await;
    bench.bases.go_away();
    trouble.end();
    tokio::time::timeout(Duration::from_secs(25), bench.driver.stop(spec.id, Stop::Hard)).await.unwrap().unwrap();
    assert_eq!(bench.driver.power(spec.id).await.unwrap(), Power::Off);
    bench.bases.come_back();
    bench.run_in(spec.id, "qemu-img", "check -q root.qcow2");
    bench.driver.delete(spec.id).await.unwrap();
}

/// Kills Molde at many moments of a start; the next start of the same server must go on from there.
#[tokio::test]
async fn a_start_can_be_repeated_after_a_crash() {
    let mut reached = 0;
    for milliseconds in [2, 5, 10, 15, 20, 30, 40, 60, 90, 130] {
        let bench = Bench::new().await;
        let mut spec = bench.server(Mode::Obedient);
        spec.disk_bytes = guest::DISK_BYTES;
        let mut parent = spawn_boot(&bench, &spec.base, spec.disk_bytes);
        // The moment of the crash is what this test varies; nothing depends on what it hits.
        std::thread::sleep(Duration::from_millis(milliseconds));
        parent.kill().unwrap();
        parent.wait().unwrap();
        for (id, _) in bench.driver.adopt().await.unwrap() {
            reached += 1;
            spec.id = id;
            bench.driver.start(&spec).await.unwrap_or_else(|error| panic!("after {milliseconds} ms: {error}"));
            bench.wait_for_text(id, "boot 1").await;
            assert_eq!(qemu_processes(&id.to_string()).len(), 1, "after {milliseconds} ms");
            bench.driver.delete(id).await.unwrap();
            assert!(!bench.directory(id).exists());
        }
    }
    assert!(reached > 0, "no crash came after the server's directory was made");
}
