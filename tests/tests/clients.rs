//! Clients that nobody here wrote, unmodified, against a server: each script says what it did.

use std::path::PathBuf;

use tests::{Molde, command, run};

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
