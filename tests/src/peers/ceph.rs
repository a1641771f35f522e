//! Ceph: a whole cluster of one monitor, one manager and one disk in memory, with its S3 gateway (RGW).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::{Process, free_port};
use crate::{S3, command, run, wait_for};

/// A running cluster. It keeps its objects when the gateway is killed.
pub struct Ceph {
    gateway: Process,
    _daemons: Vec<Process>,
    port: u16,
    folder: TempDir,
}

impl Ceph {
    /// The access key of its one user.
    pub const ACCESS_KEY: &str = "testkey";
    /// The secret key.
    pub const SECRET_KEY: &str = "testsecret";

    /// Starts a cluster, which takes some 20 seconds.
    #[must_use]
    pub fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("molde-ceph-").tempdir().unwrap();
        let port = free_port();
        let daemons = start_cluster(folder.path(), port);
        let gateway = start_gateway(folder.path(), port);
        let user = ["user", "create", "--uid=test", "--display-name=test", "--access-key", Self::ACCESS_KEY];
        tool(folder.path(), "radosgw-admin", user.into_iter().chain(["--secret", Self::SECRET_KEY]));
        Self { gateway, _daemons: daemons, port, folder }
    }

    /// Returns the address of the gateway.
    #[must_use]
    pub fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Makes a bucket.
    pub fn make_bucket(&self, name: &str) {
        super::make_bucket(&self.s3(), name);
    }

    /// Makes a bucket keep old versions.
    pub fn make_versioned(&self, name: &str) {
        super::make_versioned(&self.s3(), name);
    }

    /// Lets the user's buckets hold so many bytes in all, from now on.
    pub fn set_quota(&self, bytes: u64) {
        let size = bytes.to_string();
        let quota = ["quota", "set", "--quota-scope=user", "--uid=test", "--max-size", &size];
        tool(self.folder.path(), "radosgw-admin", quota);
        tool(self.folder.path(), "radosgw-admin", ["quota", "enable", "--quota-scope=user", "--uid=test"]);
    }

    /// Returns a client.
    #[must_use]
    pub fn s3(&self) -> S3 {
        let (host, region) = (format!("127.0.0.1:{}", self.port), "us-east-1".into());
        S3 { host, region, access_key: Self::ACCESS_KEY.into(), secret_key: Self::SECRET_KEY.into() }
    }

    /// Kills the gateway (SIGKILL).
    pub fn kill9(&mut self) {
        self.gateway.kill9();
    }

    /// Starts the gateway again.
    pub fn restart(&mut self) {
        self.gateway = start_gateway(self.folder.path(), self.port);
    }
}

fn start_cluster(folder: &Path, port: u16) -> Vec<Process> {
    let (monitor, id) = (free_port(), fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap());
    let (id, monitor2) = (id.trim(), free_port());
    let address = format!("[v2:127.0.0.1:{monitor2},v1:127.0.0.1:{monitor}]");
    for name in ["mon", "osd", "mgr", "rgw", "run", "log"] {
        fs::create_dir(folder.join(name)).unwrap();
    }
    fs::write(folder.join("ceph.conf"), configuration(folder, id, &address, port)).unwrap();
    let map = folder.join("monmap");
    let map = map.to_str().unwrap();
    tool(folder, "monmaptool", ["--create", "--clobber", "--fsid", id, "--addv", "a", &address, map]);
    tool(folder, "ceph-mon", ["-i", "a", "--mkfs", "--monmap", map]);
    let mut daemons = vec![daemon(folder, "ceph-mon", &["-i", "a", "-f"])];
    wait_for("the monitor answers", || {
        (run(with_configuration(folder, "timeout").args(["5", "ceph", "-s"])).code == Some(0)).then_some(())
    });
    daemons.push(daemon(folder, "ceph-mgr", &["-i", "x", "-f"]));
    let disk = fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap();
    tool(folder, "ceph", ["osd", "new", disk.trim()]);
    tool(folder, "ceph-osd", ["-i", "0", "--mkfs", "--osd-uuid", disk.trim()]);
    tool(folder, "ceph", ["osd", "crush", "add", "osd.0", "1", "root=default", "host=h"]);
    daemons.push(daemon(folder, "ceph-osd", &["-i", "0", "-f"]));
    wait_for("the disk is up", || {
        let told = run(with_configuration(folder, "timeout").args(["5", "ceph", "osd", "stat"]));
        told.stdout.contains("1 up").then_some(())
    });
    let keyring = folder.join("rgw/keyring");
    let name = ["--create-keyring", "--gen-key", "-n", "client.rgw.a"];
    tool(folder, "ceph-authtool", [keyring.to_str().unwrap()].into_iter().chain(name));
    daemons
}

fn start_gateway(folder: &Path, port: u16) -> Process {
    let mut gateway = daemon(folder, "radosgw", &["-n", "client.rgw.a", "-f"]);
    gateway.wait_until_listening(port);
    gateway
}

fn daemon(folder: &Path, program: &str, arguments: &[&str]) -> Process {
    Process::start(program, folder, with_configuration(folder, program).args(arguments))
}

fn tool<'a>(folder: &Path, program: &str, arguments: impl IntoIterator<Item = &'a str>) {
    run(with_configuration(folder, program).args(arguments)).ok();
}

/// Daemons and tools lie in `sbin` where a user's PATH may not lead.
fn with_configuration(folder: &Path, program: &str) -> Command {
    let beside = ["/usr/bin", "/usr/sbin"].map(|bin| PathBuf::from(bin).join(program));
    let found = beside.into_iter().find(|path| path.exists()).unwrap_or_else(|| program.into());
    let mut command = command(found, [""; 0]);
    command.env("CEPH_CONF", folder.join("ceph.conf"));
    command
}

/// Nobody is asked for a key inside the cluster, one copy is enough, and a nearly full disk does not matter.
fn configuration(folder: &Path, id: &str, address: &str, port: u16) -> String {
    let folder = folder.display();
    format!(
        "[global]\nfsid = {id}\nmon_host = {address}\npublic_addr = 127.0.0.1\nms_bind_ipv6 = false\n\
         auth_cluster_required = none\nauth_service_required = none\nauth_client_required = none\n\
         auth_allow_insecure_global_id_reclaim = false\nms_mon_client_mode = crc\n\
         osd_pool_default_size = 1\nosd_pool_default_min_size = 1\nosd_pool_default_pg_num = 8\n\
         osd_crush_chooseleaf_type = 0\nmon_allow_pool_size_one = true\nmon_max_pg_per_osd = 1000\n\
         mon_data_avail_crit = 1\nmon_data_avail_warn = 1\nrun_dir = {folder}/run\n\
         admin_socket = {folder}/run/$name.$pid.asok\npid_file =\nlog_file = {folder}/log/$name.log\n\
         osd_objectstore = memstore\nmemstore_device_bytes = 4294967296\nosd_class_load_list = *\n\
         osd_max_object_name_len = 1024\n\
         [mon.a]\nmon_data = {folder}/mon\n[osd.0]\nosd_data = {folder}/osd\n[mgr.x]\nmgr_data = {folder}/mgr\n\
         [client.rgw.a]\nrgw_data = {folder}/rgw\nkeyring = {folder}/rgw/keyring\n\
         rgw_frontends = beast endpoint=127.0.0.1:{port}\nrgw_enable_apis = s3, admin\nrgw_dns_name = localhost\n"
    )
}
