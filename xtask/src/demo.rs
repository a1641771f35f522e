//! `cargo xtask demo`: a real disk through the main job, with the real binary, as a user would do it.
//!
//! VMDK -> bucket -> image, prepared on the way -> server that boots -> export as qcow2 -> download -> files compared
//! -> undone -> compared with the VMDK

mod console;
mod disk;
mod report;
pub(crate) mod server;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::command::{capture, run, run_within};
use crate::{interrupt, packages, workspace};
pub(crate) use disk::{DemoDisk, ensure_disk};
use report::{Report, size};
use server::Server;

const BUCKET: &str = "demo";
const OBJECT: &str = "demo/debian-12.vmdk";
const EXPORTED: &str = "demo/debian-12.qcow2";
const IMAGE: &str = "debian-12";
const SERVER: &str = "demo";

/// How long one command of the binary may take.
const COMMAND_WITHIN: Duration = Duration::from_secs(600);
/// How long the guest may take from power-on to the end of cloud-init, on an emulated processor.
const BOOT_WITHIN: Duration = Duration::from_secs(480);

/// Walks every step with `binary`, or with one that is built first; with `exit` it leaves at once, else the server stays up until Ctrl-C.
pub(crate) fn walk_through(binary: Option<PathBuf>, exit: bool) -> Result<()> {
    interrupt::listen()?;
    let mut report = Report::default();
    report.step("install what is missing", || packages::ensure(&packages::DEMO).map(|()| ((), String::new())))?;
    let binary = match binary {
        Some(binary) => binary.canonicalize().with_context(|| format!("there is no {}", binary.display()))?,
        None => report.step("build Molde", build)?,
    };
    let disk = report.step("make the disk", || {
        let (disk, how) = ensure_disk()?;
        let told = format!("{how}: {} as VMDK", size(&disk.vmdk)?);
        Ok((disk, told))
    })?;
    let data = new_data_directory()?;
    let mut server = report.step("start the server", || {
        let server = Server::start(&binary, &data).inspect_err(|_| println!("{}", server::log_tail(&data)))?;
        let told = server.api.clone();
        Ok((server, told))
    })?;
    let outcome = walk(&mut report, &server, &disk.vmdk).and_then(|()| {
        report.print();
        print_addresses(&server);
        if exit { Ok(()) } else { stay(&mut server) }
    });
    finish(outcome, server)
}

/// Stops the server whatever happened; a failure keeps the data directory for a look at it, an interruption does not.
fn finish(outcome: Result<()>, mut server: Server) -> Result<()> {
    if outcome.is_err() && !interrupt::heard() {
        println!("\nthe last lines of the server's log:\n{}\n", server.log_tail());
        println!("the data directory stays for a look at it: {}", server.data().display());
        return outcome;
    }
    let status = server.stop()?;
    ensure!(status.success(), "the server ended with {status} after SIGTERM, not with 0");
    drop(server);
    remove_run(std::process::id())?;
    println!("the server ended with 0 after SIGTERM; its data directory is removed");
    outcome
}

/// Every step that a user of a running server takes.
fn walk(report: &mut Report, server: &Server, vmdk: &Path) -> Result<()> {
    report.step("upload the VMDK", || {
        molde(server, &["bucket", "create", BUCKET])?;
        molde(server, &["object", "put", OBJECT, text(vmdk)?])?;
        Ok(((), size(vmdk)?))
    })?;
    report.step("create the image", || create_image(server).map(|told| ((), told)))?;
    report.step("inspect it", || inspect(server).map(|told| ((), told)))?;
    report.step("see what was prepared", || show_report(server).map(|told| ((), told)))?;
    report.step("boot a server from it", || boot(server).map(|told| ((), told)))?;
    report.step("delete the server", || {
        molde(server, &["server", "stop", SERVER])?;
        molde(server, &["server", "delete", SERVER])?;
        Ok(((), String::new()))
    })?;
    report.step("export it as qcow2", || {
        molde(server, &["image", "export", IMAGE, EXPORTED, "--format", "qcow2", "--wait"])?;
        Ok(((), String::new()))
    })?;
    let outcome = compare(report, server, vmdk);
    for extension in ["qcow2", "raw"] {
        let _ = fs::remove_file(server.data().with_extension(extension));
    }
    outcome
}

/// What came out differs in the files that prepare names, and what is undone in nothing.
fn compare(report: &mut Report, server: &Server, vmdk: &Path) -> Result<()> {
    let (qcow2, raw) = (server.data().with_extension("qcow2"), server.data().with_extension("raw"));
    report.step("download the export", || {
        molde(server, &["object", "get", EXPORTED, text(&qcow2)?])?;
        Ok(((), size(&qcow2)?))
    })?;
    report.step("compare its files with the original's", || {
        let count = compare_files(server, vmdk, &qcow2)?;
        Ok(((), format!("{count} differ, all of them by prepare")))
    })?;
    report.step("undo what was prepared", || {
        molde(server, &["image", "undo-prepare", IMAGE])?;
        molde(server, &["image", "save", IMAGE, text(&raw)?])?;
        Ok(((), size(&raw)?))
    })?;
    report.step("compare with the original", || {
        run(Command::new("qemu-img").args(["compare", "-f", "vmdk", "-F", "raw"]).arg(vmdk).arg(raw))?;
        Ok(((), "identical".into()))
    })
}

/// Lists the files that differ between two disks, each of which must be one that prepare names, lead to one, or lie in one.
fn compare_files(server: &Server, before: &Path, after: &Path) -> Result<usize> {
    let kept = image_report(server)?;
    let mut named: Vec<&str> =
        kept["changes"].as_array().into_iter().flatten().filter_map(|it| it["path"].as_str()).collect();
    named.push("/var/log/molde-prepare.log");
    let arguments = ["guest", "diff", text(before)?, text(after)?];
    println!("$ molde {}", arguments.join(" "));
    let told = server.command(&arguments).output().context("cannot start molde")?;
    let differing = String::from_utf8_lossy(&told.stdout).into_owned();
    print!("{differing}");
    ensure!(
        told.status.code() == Some(1),
        "`molde guest diff` found no difference: {}",
        String::from_utf8_lossy(&told.stderr)
    );
    for path in differing.lines().filter_map(|line| line.get(2..)) {
        let (as_folder, leads) =
            (format!("{path}/"), |name: &&str| path == *name || path.starts_with(&format!("{name}/")));
        ensure!(named.iter().any(|name| leads(name) || name.starts_with(&as_folder)), "prepare did not name {path}");
    }
    Ok(differing.lines().count())
}

fn image_report(server: &Server) -> Result<Value> {
    serde_json::from_str(&capture(&mut server.command(&["image", "report", IMAGE, "--output", "json"]))?)
        .context("`molde image report --output json` printed no JSON")
}

fn build() -> Result<(PathBuf, String)> {
    println!("the first build takes some minutes");
    let binary = workspace::build_release()?;
    let told = size(&binary)?;
    Ok((binary, told))
}

fn create_image(server: &Server) -> Result<String> {
    let asked = ["image", "create", IMAGE, "--from", OBJECT, "--output", "json"];
    let created: Value = serde_json::from_str(&capture(&mut server.command(&asked))?)
        .context("`molde image create --output json` printed no JSON")?;
    println!("$ molde {}\n{created}", asked.join(" "));
    molde(server, &["image", "watch", IMAGE])?;
    let image: Value =
        serde_json::from_str(&capture(&mut server.command(&["image", "show", IMAGE, "--output", "json"]))?)
            .context("`molde image show --output json` printed no JSON")?;
    let status = image["status"].as_str().unwrap_or_default();
    ensure!(matches!(status, "Normal" | "active"), "the image is not Normal: {image}");
    Ok("Normal".into())
}

/// What the server found inside the image: it must be the Debian that was put there.
fn inspect(server: &Server) -> Result<String> {
    molde(server, &["image", "inspect", IMAGE])?;
    let found: Value =
        serde_json::from_str(&capture(&mut server.command(&["image", "inspect", IMAGE, "--output", "json"]))?)
            .context("`molde image inspect --output json` printed no JSON")?;
    let of = |name: &str| found["os"][name].as_str().unwrap_or_default().to_owned();
    ensure!(of("distro") == "debian" && of("version").starts_with("12"), "Debian 12 was not recognised: {found}");
    Ok(format!("{} {} {}", of("distro"), of("version"), of("arch")))
}

/// What prepare did to the image: all that kept it from starting must be repaired.
fn show_report(server: &Server) -> Result<String> {
    molde(server, &["image", "report", IMAGE])?;
    let kept = image_report(server)?;
    let (before, after) = (&kept["blocking"], &kept["blocking_after"]);
    ensure!(kept["state"] == "prepared" && after == 0, "the image was not prepared: {kept}");
    let count = kept["changes"].as_array().map_or(0, Vec::len);
    Ok(format!("{before} faults repaired, {count} files, {} KiB", kept["changed_bytes"].as_u64().unwrap_or(0) >> 10))
}

/// A server whose guest must take its name from the config drive and run the command it was given.
fn boot(server: &Server) -> Result<String> {
    let name = format!("demo-{}", std::process::id());
    let proof = format!("molde-proof host={name} sum=42");
    let user_data = server.data().with_extension("user-data");
    fs::write(&user_data, user_data_for(&name))?;
    let file = text(&user_data)?;
    molde(
        server,
        &["server", "create", SERVER, "--image", IMAGE, "--flavor", "m1.tiny", "--user-data", file, "--wait"],
    )?;
    fs::remove_file(&user_data)?;
    console::wait_for(|| server.command(&["server", "console", SERVER, "--follow"]), &proof, BOOT_WITHIN)
}

/// The proof is computed in the guest, so that no echo of this text can be taken for it.
fn user_data_for(name: &str) -> String {
    format!(
        "#cloud-config\nhostname: {name}\nruncmd:\n  \
         - [ sh, -c, 'echo \"molde-proof host=$(hostname) sum=$((6 * 7))\" > /dev/ttyS0' ]\n"
    )
}

fn print_addresses(server: &Server) {
    let (data, binary) = (server.data().display(), server.binary().display());
    println!("\nAPI  {}   (OpenStack, IMS)\nS3   {}\n", server.api, server.s3);
    println!("  export MOLDE_CREDENTIALS={data}/credentials.json");
    println!("  {binary} image list");
    println!("  OS_CLIENT_CONFIG_FILE={data}/clouds.yaml openstack --os-cloud molde image list");
    println!("  the S3 keys are `access_key` and `secret_key` in {data}/credentials.json\n");
}

fn stay(server: &mut Server) -> Result<()> {
    println!("the server stays up; Ctrl-C stops it and removes its data");
    while !interrupt::heard() {
        server.check()?;
        std::thread::sleep(Duration::from_millis(200));
    }
    println!();
    Ok(())
}

/// A directory that no other run uses; what runs left behind that are no more is removed.
fn new_data_directory() -> Result<PathBuf> {
    let folder = workspace::target()?.join("demo");
    for (pid, _) in runs(&folder)? {
        if pid == std::process::id() || !Path::new("/proc").join(pid.to_string()).exists() {
            remove_run(pid)?;
        }
    }
    Ok(folder.join(format!("data-{}", std::process::id())))
}

/// Removes the data directory, the log and whatever else the run `pid` wrote.
fn remove_run(pid: u32) -> Result<()> {
    for (_, path) in runs(&workspace::target()?.join("demo"))?.into_iter().filter(|(own, _)| *own == pid) {
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.with_context(|| format!("cannot remove {}", path.display()))?;
    }
    Ok(())
}

/// What runs wrote into `folder`: `data-PID` and `data-PID.*`.
fn runs(folder: &Path) -> Result<Vec<(u32, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_prefix("data-"));
        let pid = name.and_then(|name| name.split('.').next()).and_then(|pid| pid.parse().ok());
        found.extend(pid.map(|pid| (pid, path)));
    }
    Ok(found)
}

fn molde(server: &Server, arguments: &[&str]) -> Result<()> {
    run_within(&mut server.command(arguments), COMMAND_WITHIN)
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("the path {} is not text", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_known_by_its_process() {
        let folder = std::env::temp_dir().join(format!("molde-runs-{}", std::process::id()));
        fs::create_dir_all(folder.join("data-12")).unwrap();
        for name in ["data-12.log", "data-x", "debian-12.raw"] {
            fs::write(folder.join(name), "").unwrap();
        }
        let mut found = runs(&folder).unwrap();
        found.sort();
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(found, [(12, folder.join("data-12")), (12, folder.join("data-12.log"))]);
    }

    #[test]
    fn the_proof_is_not_in_what_is_sent() {
        assert!(!user_data_for("demo-1").contains("host=demo-1"));
    }
}
