//! Looking into guests and repairing them: `molde guest` beside `virt-inspector` and `virt-sysprep` of libguestfs.
//!
//! Both work on the same disks in the same run. libguestfs starts a virtual machine of its own for each, without KVM here, so
//! that figures from different machines can be compared. Its own check of a guest there is none: it is set beside inspection.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::measure::{Run, measure, median};
use crate::command::capture;
use crate::demo::server::Server;
use crate::{clients, demo, guests, packages, workspace};

/// What is aimed at, in seconds and bytes.
const INSPECT: f64 = 0.05;
const CHECK: f64 = 0.1;
const FROM_AFAR: f64 = 1.0;
const CHANGED: u64 = 1 << 20;
/// Broken guests that are prepared, and how long that may take; XFS and btrfs are changed by a kernel in a micro-VM.
const PREPARED: [(&str, &str, f64); 3] =
    [("prepare ext4", "bios.raw", 0.5), ("prepare xfs", "bios-xfs.raw", 4.0), ("prepare btrfs", "uefi-btrfs.raw", 4.0)];

/// How long the service that holds the chunks may take to start.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// Measures everything whose name contains `only`, `runs` times, in turn.
pub(super) fn run(molde: &Path, runs: u32, only: Option<&str>) -> Result<()> {
    packages::ensure(&packages::LIBGUESTFS)?;
    let (debian, _) = demo::ensure_disk()?;
    let broken = guests::ensure_broken()?;
    let folder = workspace::target()?.join("bench-guest");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder)?;
    let bench = Bench { molde, folder: &folder, libguestfs: guests::libguestfs(&broken)?, runs };
    println!(
        "medians of {runs} runs, after one that is not counted; whole processes, files in the page cache; a ratio below 1 is for molde"
    );
    println!(
        "{:<16} {:>8} {:>7} {:>9} {:>7} {:>9} {:>8}",
        "", "molde s", "goal s", "virt-* s", "ratio", "molde MiB", "virt MiB"
    );
    let wanted = |name: &str| only.is_none_or(|text| name.contains(text));
    let mut measured = 0;
    for format in ["raw", "qcow2", "vmdk"].into_iter().filter(|format| wanted(&format!("inspect check {format}"))) {
        bench.look(&debian, format)?;
        measured += 1;
    }
    if wanted("inspect check far") {
        bench.look_from_afar(&debian)?;
        measured += 1;
    }
    for (name, disk, goal) in PREPARED.into_iter().filter(|(name, ..)| wanted(name)) {
        bench.prepare(name, &broken.join(disk), goal)?;
        measured += 1;
    }
    ensure!(measured > 0, "nothing is called so");
    fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))
}

struct Bench<'b> {
    molde: &'b Path,
    folder: &'b Path,
    libguestfs: [(&'static str, PathBuf); 5],
    runs: u32,
}

impl Bench<'_> {
    /// Inspection and check of the Debian disk in one format.
    fn look(&self, debian: &demo::DemoDisk, format: &str) -> Result<()> {
        let disk = match format {
            "raw" => debian.raw.clone(),
            "vmdk" => debian.vmdk.clone(),
            _ => self.convert(&debian.raw)?,
        };
        let mut virt = self.virt("virt-inspector");
        virt.args(["--no-applications", "--no-icon", &format!("--format={format}"), "-a"]).arg(&disk);
        let molde = |verb: &str| {
            let mut command = Command::new("sh");
            // A check that finds what blocks ends with 1.
            command
                .args(["-c", "\"$@\"; test $? -le 1", "sh"])
                .arg(self.molde)
                .args(["guest", verb, "--json"])
                .arg(&disk);
            command
        };
        let [inspect, check, virt] = self.in_turn([&molde("inspect"), &molde("check"), &virt], || Ok(()))?;
        print_line(&format!("inspect {format}"), &inspect, INSPECT, &virt);
        print_line(&format!("check {format}"), &check, CHECK, &virt);
        Ok(())
    }

    /// Inspection and check of an image by a server that keeps its chunks in a bucket elsewhere, and has read none of them.
    fn look_from_afar(&self, debian: &demo::DemoDisk) -> Result<()> {
        let shelf = Shelf::start()?;
        let key = self.folder.join("key");
        fs::write(&key, Shelf::SECRET_KEY)?;
        let config = format!(
            "[store]\nurl = \"s3://{}\"\nendpoint = \"{}\"\naccess_key = \"{}\"\nsecret_key_file = {key:?}\n",
            Shelf::BUCKET,
            shelf.address,
            Shelf::ACCESS_KEY
        );
        let data = self.folder.join("far");
        let start = || Server::start_with(self.molde, &data, &config);
        let mut server = start()?;
        let disk = debian.vmdk.display().to_string();
        capture(&mut server.command(&["image", "create", "debian", "--file", &disk, "--wait"]))?;
        let credentials = data.join("credentials.json");
        let mut measured = [Vec::new(), Vec::new()];
        for round in 0..=self.runs {
            for (verb, runs) in ["inspect", "check"].into_iter().zip(&mut measured) {
                server.stop()?;
                fs::remove_dir_all(data.join("cache"))?;
                server = start()?;
                let mut command = Command::new("sh");
                command.args(["-c", "\"$@\"; test $? -le 1", "sh"]).arg(self.molde);
                command.args(["image", verb, "debian", "--credentials"]).arg(&credentials);
                let run = measure(&command, &self.folder.join("time"))?;
                if round > 0 {
                    runs.push(run);
                }
            }
        }
        for (verb, runs) in ["inspect", "check"].into_iter().zip(&measured) {
            let wall = median(runs, |run| run.wall_seconds);
            println!("{:<16} {wall:>8.3} {FROM_AFAR:>7.2}", format!("{verb} far"));
        }
        Ok(())
    }

    /// The repair of a broken disk into an overlay, beside what libguestfs clears of one in an overlay.
    fn prepare(&self, name: &str, broken: &Path, goal: f64) -> Result<()> {
        let [ready, overlay] = ["ready.qcow2", "overlay.qcow2"].map(|name| self.folder.join(name));
        let mut molde = Command::new(self.molde);
        molde.args(["guest", "prepare", "--json", "--force", "--overlay"]).arg(broken).arg("-o").arg(&ready);
        let mut virt = self.virt("virt-sysprep");
        virt.args(["--quiet", "--format=qcow2", "-a"]).arg(&overlay);
        let new_overlay = || {
            let mut create = Command::new("qemu-img");
            create.args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"]).arg(broken).arg(&overlay);
            capture(&mut create).map(drop)
        };
        let [molde_runs, virt_runs] = self.in_turn([&molde, &virt], new_overlay)?;
        print_line(name, &molde_runs, goal, &virt_runs);
        let told: serde_json::Value = serde_json::from_str(&capture(&mut molde)?)?;
        let changed = told["bytes_changed"].as_u64().context("`molde guest prepare --json` tells no bytes_changed")?;
        let peer = fs::metadata(&overlay)?.len();
        let kept = self.kept_of_prepare(broken)?;
        println!(
            "{name} changed {changed} bytes, for which a store keeps {kept} more (goal: less than {CHANGED}); the overlay of virt-sysprep has {peer}"
        );
        Ok(())
    }

    /// How many bytes of new chunks the repair of a broken disk costs the store of a server.
    fn kept_of_prepare(&self, broken: &Path) -> Result<u64> {
        let data = self.folder.join("near");
        let server = Server::start(self.molde, &data)?;
        let disk = broken.display().to_string();
        capture(&mut server.command(&["image", "create", "broken", "--file", &disk, "--wait"]))?;
        let kept = || -> Result<u64> {
            let told: serde_json::Value =
                serde_json::from_str(&capture(&mut server.command(&["quota", "show", "--output", "json"]))?)?;
            told["stored_bytes"]["used"].as_u64().context("`molde quota show` tells no used bytes")
        };
        let before = kept()?;
        capture(&mut server.command(&["image", "prepare", "broken"]))?;
        let after = kept()?;
        drop(server);
        fs::remove_dir_all(&data)?;
        after.checked_sub(before).filter(|more| *more > 0).context("the repair added nothing to the store")
    }

    fn virt(&self, program: &str) -> Command {
        let mut command = Command::new("env");
        command.args(self.libguestfs.iter().map(|(name, value)| format!("{name}={}", value.display()))).arg(program);
        command
    }

    fn convert(&self, raw: &Path) -> Result<PathBuf> {
        let qcow2 = self.folder.join("debian-12.qcow2");
        capture(Command::new("qemu-img").args(["convert", "-f", "raw", "-O", "qcow2"]).args([raw, &qcow2]))?;
        Ok(qcow2)
    }

    /// Runs the programs one after the other, again and again, so that a change in the machine's speed meets all of them.
    fn in_turn<const N: usize>(
        &self,
        commands: [&Command; N],
        before: impl Fn() -> Result<()>,
    ) -> Result<[Vec<Run>; N]> {
        let mut measured = [const { Vec::new() }; N];
        for round in 0..=self.runs {
            before()?;
            for (command, runs) in commands.iter().zip(&mut measured) {
                let run = measure(command, &self.folder.join("time"))?;
                if round > 0 {
                    runs.push(run);
                }
            }
        }
        Ok(measured)
    }
}

/// moto, an S3 service in memory. What molde serves itself has no conditional writes, which a store needs.
struct Shelf {
    moto: Child,
    address: String,
}

impl Shelf {
    const ACCESS_KEY: &str = "testkey";
    const SECRET_KEY: &str = "testsecret";
    const BUCKET: &str = "chunks";

    /// Starts it, with an empty bucket.
    fn start() -> Result<Self> {
        let programs = clients::install()?.join("bin");
        // Nobody else takes a port in so short a time.
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut moto = Command::new(programs.join("moto_server"));
        moto.args(["-H", "127.0.0.1", "-p", &port.to_string()]).stdout(Stdio::null()).stderr(Stdio::null());
        let shelf =
            Self { moto: moto.spawn().context("moto cannot be started")?, address: format!("http://127.0.0.1:{port}") };
        let end = Instant::now() + READY_WITHIN;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            ensure!(Instant::now() < end, "moto was not ready after {} s", READY_WITHIN.as_secs());
            thread::sleep(Duration::from_millis(50));
        }
        let mut make = Command::new(programs.join("aws"));
        make.env("AWS_ACCESS_KEY_ID", Self::ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", Self::SECRET_KEY);
        make.args([
            "--region",
            "us-east-1",
            "--endpoint-url",
            &shelf.address,
            "s3api",
            "create-bucket",
            "--bucket",
            Self::BUCKET,
        ]);
        capture(&mut make)?;
        Ok(shelf)
    }
}

impl Drop for Shelf {
    fn drop(&mut self) {
        // One that has ended already is none the worse.
        let _ = self.moto.kill();
        let _ = self.moto.wait();
    }
}

fn print_line(name: &str, molde: &[Run], goal: f64, virt: &[Run]) {
    let [molde_wall, virt_wall] = [molde, virt].map(|runs| median(runs, |run| run.wall_seconds));
    let [molde_peak, virt_peak] = [molde, virt].map(|runs| median(runs, |run| run.peak_mebibytes));
    println!(
        "{name:<16} {molde_wall:>8.3} {goal:>7.2} {virt_wall:>9.2} {:>7.4} {molde_peak:>9.0} {virt_peak:>8.0}",
        molde_wall / virt_wall
    );
}
