//! The chunk store, by itself and through the running server, beside what people use in its place: `zstd` where a disk is
//! kept, `qemu-nbd` over a compressed qcow2 where one is read.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::command::{self, capture};
use crate::demo::server::Server;
use crate::{demo, workspace};

/// Reads of 4 KiB, and how many are asked for at once.
const READS: u32 = 20_000;
const AT_ONCE: u32 = 64;
/// From one to the next: a prime number of blocks, so that they come to all places of the disk.
const STEP: u64 = 4096 * 12_289;
/// Files that are uploaded at once where memory is measured, and their bytes.
const UPLOADS: usize = 10;
const UPLOAD_BYTES: u64 = 256 << 20;

/// The figures of one round.
#[derive(Debug, Default, Clone)]
struct Round {
    seconds: Vec<(&'static str, f64, f64)>,
}

/// Measures everything whose name contains `only`, `runs` times, each time on a new store.
pub(super) fn run(molde: &Path, runs: u32, only: Option<&str>) -> Result<()> {
    let (disk, _) = demo::ensure_disk()?;
    let folder = workspace::target()?.join("bench-store");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder)?;
    let raw = folder.join("disk.raw");
    capture(Command::new("cp").args(["--sparse=always"]).args([&disk.raw, &raw]))?;
    let qcow2 = folder.join("disk.qcow2");
    let convert = ["convert", "-f", "raw", "-O", "qcow2", "-c", "-o", "compression_type=zstd"];
    capture(Command::new("qemu-img").args(convert).args([&raw, &qcow2]))?;
    let length = fs::metadata(&raw)?.len();
    let alone = workspace::build_example("molde-chunks", "throughput")?;
    let files = Files { molde, alone: &alone, folder: &folder, raw: &raw, qcow2: &qcow2 };
    let rounds = (0..=runs).map(|round| one_round(&files, round)).collect::<Result<Vec<_>>>()?;
    println!(
        "\na disk of {} MB; {runs} rounds, each on a new store, after one that is not counted; medians",
        length / 1_000_000
    );
    println!("{:<32} {:>12} {:>12} {:>7}", "", "molde", "peer", "ratio");
    for (place, (name, ..)) in rounds[0].seconds.iter().enumerate() {
        if only.is_some_and(|text| !name.contains(text)) {
            continue;
        }
        let of = |peer: bool| {
            let figure = |round: &Round| if peer { round.seconds[place].2 } else { round.seconds[place].1 };
            middle(rounds[1..].iter().map(figure).collect())
        };
        print_line(name, length, of(false), of(true));
    }
    memory(molde, &folder)?;
    fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))
}

fn middle(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// Prints a line: rates, and how many times as fast as the peer Molde is.
fn print_line(name: &str, length: u64, molde: f64, peer: f64) {
    let (work, unit) =
        if name.starts_with("random") { (f64::from(READS), "IOPS") } else { (length as f64 / 1e6, "MB/s") };
    let rate = |seconds: f64| format!("{:.0} {unit}", work / seconds);
    if peer == 0.0 {
        println!("{name:<32} {:>12} {:>12} {:>7}", rate(molde), "-", "-");
    } else {
        println!("{name:<32} {:>12} {:>12} {:>7.2}", rate(molde), rate(peer), peer / molde);
    }
}

/// What a round works with.
struct Files<'f> {
    molde: &'f Path,
    /// The store without a server.
    alone: &'f Path,
    folder: &'f Path,
    raw: &'f Path,
    qcow2: &'f Path,
}

/// One round on a new store; Molde and its peer in turn.
fn one_round(files: &Files<'_>, number: u32) -> Result<Round> {
    let Files { molde, alone, folder, raw, qcow2 } = *files;
    let data = folder.join(format!("data-{number}"));
    let mut server = Server::start(molde, &data)?;
    capture(&mut server.command(&["bucket", "create", "bench"]))?;
    let mut round = Round::default();
    let put = |key: &str| timed(server.command(&["object", "put", key]).arg(raw));
    // Once through, so that neither program waits for the disk.
    std::io::copy(&mut File::open(raw)?, &mut std::io::sink())?;
    let packed = folder.join("disk.zst");
    let mut zstd = Command::new("sh");
    zstd.args(["-c", "zstd -1 -T2 -q -f -o \"$1\" \"$0\" && sync \"$1\""]).args([raw, &packed]);
    let by_itself = capture(Command::new(alone).args([raw, folder]))?;
    let zstd = timed(&mut zstd)?;
    round.seconds.push(("store alone: keep (zstd -1 -T2)", told(&by_itself, "ingest")?, zstd));
    round.seconds.push(("store alone: keep a known disk", told(&by_itself, "ingest again")?, 0.0));
    round.seconds.push(("object put (zstd -1 -T2)", put("bench/first")?, zstd));
    round.seconds.push(("object put of a known disk", put("bench/second")?, 0.0));
    let uri = serve(&server, "bench/first")?;
    let peer = QemuNbd::start(qcow2, &folder.join("qemu-nbd.sock"))?;
    for (name, command) in
        [("read in order (qemu-nbd)", read_in_order as fn(&str) -> Command), ("random 4 KiB (qemu-nbd)", read_random)]
    {
        // Warm: what was read once before counts on both sides.
        let both = |uri: &str| timed(&mut command(uri)).and_then(|_| timed(&mut command(uri)));
        round.seconds.push((name, both(&uri)?, both(&peer.uri)?));
    }
    drop(peer);
    server.stop()?;
    fs::remove_dir_all(&data)?;
    Ok(round)
}

/// Lets the server serve an object over NBD and returns where.
fn serve(server: &Server, object: &str) -> Result<String> {
    let answer = capture(&mut server.command(&["object", "serve", object, "--output", "json"]))?;
    let answer: serde_json::Value = serde_json::from_str(&answer)?;
    let uri = answer["uri"].as_str().or_else(|| answer["export"]["uri"].as_str());
    Ok(uri.with_context(|| format!("no URI in {answer}"))?.to_owned())
}

fn read_in_order(uri: &str) -> Command {
    let mut command = Command::new("nbdcopy");
    command.args([uri, "null:"]);
    command
}

fn read_random(uri: &str) -> Command {
    let mut command = Command::new("qemu-img");
    command.args(["bench", "-f", "raw", "-t", "none", "-s", "4096"]);
    command.args(["-c", &READS.to_string(), "-d", &AT_ONCE.to_string(), "-S", &STEP.to_string(), uri]);
    command
}

/// Returns the seconds that a line of the store's own measurement tells: `NAME  754 MB/s (1073 MB in 1.42 s)`.
fn told(measured: &str, name: &str) -> Result<f64> {
    let line = measured.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix("  "));
    let seconds = line.and_then(|line| line.split_once(" in ")?.1.strip_suffix(" s)")?.parse().ok());
    seconds.with_context(|| format!("no seconds of `{name}` in\n{measured}"))
}

fn timed(command: &mut Command) -> Result<f64> {
    let start = Instant::now();
    capture(command)?;
    Ok(start.elapsed().as_secs_f64())
}

/// How much memory the server takes while many files that nobody knows arrive at once.
fn memory(molde: &Path, folder: &Path) -> Result<()> {
    let data = folder.join("data-memory");
    let mut server = Server::start(molde, &data)?;
    capture(&mut server.command(&["bucket", "create", "bench"]))?;
    let files: Vec<PathBuf> = (0..UPLOADS).map(|number| folder.join(format!("noise-{number}"))).collect();
    for (seed, file) in (1..).zip(&files) {
        noise(file, seed)?;
    }
    let before = server.memory_peak()?;
    let start = Instant::now();
    let mut puts = Vec::new();
    for (number, file) in files.iter().enumerate() {
        let mut put = server.command(&["object", "put", &format!("bench/noise-{number}")]);
        puts.push(put.arg(file).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?);
    }
    for mut put in puts {
        ensure!(put.wait()?.success(), "an upload failed");
    }
    let rate = UPLOAD_BYTES as f64 * UPLOADS as f64 / 1e6 / start.elapsed().as_secs_f64();
    println!(
        "{UPLOADS} uploads at once of {} MiB each: {rate:.0} MB/s, peak memory of the server {:.0} MiB ({before:.0} before)",
        UPLOAD_BYTES >> 20,
        server.memory_peak()?
    );
    server.stop()?;
    Ok(())
}

/// Writes a file that no compression shortens.
fn noise(path: &Path, seed: u64) -> Result<()> {
    let mut file = std::io::BufWriter::with_capacity(1 << 20, File::create(path)?);
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    for _ in 0..UPLOAD_BYTES / 8 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        file.write_all(&state.wrapping_mul(0x2545_F491_4F6C_DD1D).to_le_bytes())?;
    }
    Ok(file.flush()?)
}

/// `qemu-nbd` over a qcow2 file; it ends when this is dropped.
struct QemuNbd {
    child: Child,
    uri: String,
}

impl QemuNbd {
    fn start(file: &Path, socket: &Path) -> Result<Self> {
        let _ = fs::remove_file(socket);
        let mut command = Command::new("qemu-nbd");
        command.args(["--read-only", "--persistent", "--shared=8", "--format=qcow2", "--socket"]).args([socket, file]);
        let child = command.spawn().context("cannot start qemu-nbd")?;
        let peer = Self { child, uri: format!("nbd+unix:///?socket={}", socket.display()) };
        let deadline = Instant::now() + Duration::from_secs(20);
        while !socket.exists() {
            if Instant::now() > deadline {
                bail!("qemu-nbd did not come up");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(peer)
    }
}

impl Drop for QemuNbd {
    fn drop(&mut self) {
        if let Err(error) = command::end(&mut self.child) {
            command::report(&error);
        }
    }
}
