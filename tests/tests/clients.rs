//! Clients that nobody here wrote, unmodified, against a server: each script says what it did.

use std::path::PathBuf;

use tests::{Molde, command, disks, run, tool};

/// Returns the Python that has the clients: that of `MOLDE_CLIENTS`, or where `cargo xtask clients` puts it.
fn python() -> PathBuf {
    let folder = std::env::var_os("MOLDE_CLIENTS")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/clients")), PathBuf::from);
    let python = folder.join("bin/python");
    assert!(python.exists(), "`{}` is not there: run `cargo xtask clients` first", python.display());
    python
}

/// Runs a script with a file of the data directory; it has to end well and to leave nothing.
fn drive(script: &str, file: &str, done_with: &[&str]) {
    let molde = Molde::start();
    let script = format!("{}/clients/{script}", env!("CARGO_MANIFEST_DIR"));
    let mut python = command(python(), [script]);
    python.arg(molde.data().join(file)).current_dir(molde.file("")).env("PYTHONDONTWRITEBYTECODE", "1");
    let told = run(&mut python).ok();
    for client in done_with {
        assert!(told.contains(client), "{client} was not driven: {told}");
    }
    assert_eq!(molde.images().len(), 0);
    assert_eq!(molde.heads(), 0, "contents are left when everything was removed");
}

#[test]
fn openstack() {
    drive("openstack.py", "clouds.yaml", &[]);
}

#[test]
fn huawei_cloud_ims() {
    drive("ims.py", "credentials.json", &[]);
}

#[test]
fn boto3() {
    drive("s3_boto3.py", "credentials.json", &[]);
}

#[test]
fn aws_cli_and_rclone() {
    drive("s3_cli.py", "credentials.json", &["aws", "rclone"]);
}

/// What is written is read by others: dissect.hypervisor shares no line with QEMU.
#[test]
fn dissect_hypervisor() {
    let folder = tempfile::tempdir().unwrap();
    let raw = folder.path().join("disk.raw");
    disks::linux(&raw, 24, 21);
    let kinds = [
        ("plain.qcow2", "qcow2", ""),
        ("zlib.qcow2", "qcow2", "compression=zlib"),
        ("zstd.qcow2", "qcow2", "compression=zstd"),
        ("dynamic.vhd", "vhd", ""),
        ("fixed.vhd", "vhd", "subformat=fixed"),
        ("dynamic.vhdx", "vhdx", ""),
        ("fixed.vhdx", "vhdx", "subformat=fixed"),
        ("dynamic.vdi", "vdi", ""),
        ("sparse.vmdk", "vmdk", ""),
        ("stream.vmdk", "vmdk", "subformat=streamOptimized"),
        ("flat.vmdk", "vmdk", "subformat=monolithicFlat"),
    ];
    let mut files = vec![format!("{}/clients/dissect_disks.py", env!("CARGO_MANIFEST_DIR"))];
    for (name, format, options) in kinds {
        let file = folder.path().join(name);
        let mut convert = command(tests::binary(), ["disk", "convert", "-O", format]);
        if !options.is_empty() {
            convert.args(["-o", options]);
        }
        run(convert.args([&raw, &file])).ok();
        files.push(file.to_str().unwrap().to_owned());
    }
    let told = run(command(python(), files).env("PYTHONDONTWRITEBYTECODE", "1")).ok();
    let wanted = tool("sha256sum", [raw.to_str().unwrap()]);
    let expected = kinds.map(|(name, ..)| format!("{} {} {name}\n", wanted.split(' ').next().unwrap(), 24 << 20));
    assert_eq!(told, expected.concat());
}
