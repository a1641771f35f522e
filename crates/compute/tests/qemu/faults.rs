//! What cannot work says so, names the cause, and leaves nothing running.

use std::fs::OpenOptions;
use std::net::TcpListener;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use compute::{BaseFormat, Driver, Error, ErrorKind, Firmware, Power, ServerSpec, Stop};
use model::ServerId;

use crate::bench::{Bench, qemu_processes, run, server_on, text};
use crate::guest::{self, Mode};

async fn refuses(bench: &Bench, spec: &ServerSpec, kind: ErrorKind, says: &str) -> Error {
    let error = bench.driver.start(spec).await.unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(says), "{error}");
    assert_eq!(qemu_processes(&spec.id.to_string()), [0; 0]);
    assert!(matches!(bench.driver.power(spec.id).await.unwrap(), Power::Absent | Power::Off));
    error
}

/// Makes a qcow2 base whose guest counts in `counter_sector`.
fn qcow2_base(bench: &Bench, counter_sector: u64) -> PathBuf {
    let (raw, qcow2) = (bench.path("plain.raw"), bench.path("base.qcow2"));
    guest::write_disk(&raw, Mode::Obedient, counter_sector);
    run("qemu-img", &["convert", "-f", "raw", "-O", "qcow2", text(&raw), text(&qcow2)]);
    qcow2
}

#[tokio::test]
async fn missing_programs_name_their_package() {
    let nowhere = Path::new("/nonexistent/program");
    let bench = Bench::with(|options| options.binary = Some(nowhere.into())).await;
    let error = refuses(&bench, &bench.server(Mode::Brief), ErrorKind::Missing, "/nonexistent/program").await;
    assert_eq!(error.hint(), Some("install the Debian package `qemu-system-x86`: apt-get install qemu-system-x86"));

    let bench = Bench::with(|options| options.qemu_img = Some(nowhere.into())).await;
    let error = refuses(&bench, &bench.server(Mode::Brief), ErrorKind::Missing, "qemu-img").await;
    assert!(error.hint().unwrap().contains("qemu-utils"));

    let bench = Bench::with(|options| options.uefi_code = Some(nowhere.into())).await;
    let spec = ServerSpec { firmware: Firmware::Uefi, ..bench.server(Mode::Brief) };
    let error = refuses(&bench, &spec, ErrorKind::Missing, "UEFI").await;
    assert!(error.hint().unwrap().contains("ovmf"));
}

#[tokio::test]
async fn bases_that_do_not_fit() {
    let bench = Bench::new().await;
    let mut spec = bench.server(Mode::Brief);
    spec.disk_bytes = guest::DISK_BYTES - 1;
    refuses(&bench, &spec, ErrorKind::Invalid, "smaller than its base of 2097152 bytes").await;
    spec.base = bench.path("absent.raw");
    refuses(&bench, &spec, ErrorKind::Io, "absent.raw").await;
    spec.base = "/dev/zero".into();
    refuses(&bench, &spec, ErrorKind::Refused, "not a regular file").await;
    spec.base = bench.path("pipe");
    run("mkfifo", &[text(&spec.base)]);
    refuses(&bench, &spec, ErrorKind::Refused, "not a regular file").await;
    assert_eq!(bench.driver.power(spec.id).await.unwrap(), Power::Absent, "a refused server leaves no directory");
}

#[tokio::test]
async fn a_qcow2_base_that_names_another_file_is_refused() {
    let bench = Bench::new().await;
    let base = qcow2_base(&bench, guest::COUNTER_SECTOR);
    let overlay = bench.path("overlay.qcow2");
    run("qemu-img", &["create", "-q", "-f", "qcow2", "-b", text(&base), "-F", "qcow2", text(&overlay)]);
    let spec = server_on(overlay, BaseFormat::Qcow2, ServerId::new());
    refuses(&bench, &spec, ErrorKind::Refused, "names a backing file").await;

    let with_data = bench.path("with-data.qcow2");
    let option = format!("data_file={}", text(&bench.path("secret.raw")));
    run("qemu-img", &["create", "-q", "-f", "qcow2", "-o", &option, text(&with_data), "2M"]);
    let spec = server_on(with_data, BaseFormat::Qcow2, ServerId::new());
    refuses(&bench, &spec, ErrorKind::Refused, "names an external data file").await;
}

#[tokio::test]
async fn a_qcow2_base_boots() {
    let bench = Bench::new().await;
    let base = qcow2_base(&bench, guest::COUNTER_SECTOR);
    let before = std::fs::read(&base).unwrap();
    let spec = server_on(base.clone(), BaseFormat::Qcow2, ServerId::new());
    bench.driver.start(&spec).await.unwrap();
    bench.wait_for_text(spec.id, "boot 1").await;
    bench.driver.stop(spec.id, Stop::Soft).await.unwrap();
    assert!(std::fs::read(base).unwrap() == before, "the base has changed");
    let overlay = bench.directory(spec.id).join("root.qcow2");
    let info = run("qemu-img", &["info", "--output=json", text(&overlay)]);
    let info: serde_json::Value = serde_json::from_slice(&info).unwrap();
    assert_eq!(info["virtual-size"], spec.disk_bytes);
    assert_eq!(info["backing-filename-format"], "qcow2");
    run("qemu-img", &["check", "-q", text(&overlay)]);
    bench.driver.delete(spec.id).await.unwrap();
}

/// The guest reads a sector whose cluster the base lost: it must stand still, not see an error.
#[tokio::test]
async fn a_disk_fault_pauses_the_guest() {
    const LOST: u64 = guest::DISK_BYTES / 2;
    let bench = Bench::new().await;
    let base = qcow2_base(&bench, LOST / 512);
    // A cluster pointer that is no multiple of the cluster size is corrupt; reading through it fails.
    let file = OpenOptions::new().read(true).write(true).open(&base).unwrap();
    let word = |at| {
        let mut bytes = [0; 8];
        file.read_exact_at(&mut bytes, at).unwrap();
        u64::from_be_bytes(bytes) & 0x00ff_ffff_ffff_fe00
    };
    let entry_at = word(word(40)) + LOST / 65536 * 8;
    let entry = word(entry_at);
    assert_ne!(entry, 0, "the cluster has data");
    file.write_all_at(&((entry + 512) | 1 << 63).to_be_bytes(), entry_at).unwrap();

    let spec = server_on(base, BaseFormat::Qcow2, ServerId::new());
    bench.driver.start(&spec).await.unwrap();
    let paused = Power::Paused { reason: "reading or writing its disk failed on this host".into() };
    bench.wait_for_power(spec.id, paused.clone()).await;
    assert_eq!(bench.driver.adopt().await.unwrap(), [(spec.id, paused.clone())]);
    // Start lets it go on, and it meets the same fault again.
    bench.driver.start(&spec).await.unwrap();
    bench.wait_for_power(spec.id, paused).await;
    assert_eq!(bench.driver.console(spec.id, 4096).await.unwrap(), b"", "the guest saw no disk error");
    // The power button is not waited for: 60 s would fail the test's own limit.
    let stop = bench.driver.stop(spec.id, Stop::Soft);
    tokio::time::timeout(std::time::Duration::from_secs(20), stop)
        .await
        .expect("a paused guest stops at once")
        .unwrap();
    bench.driver.delete(spec.id).await.unwrap();
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let bench = Bench::new().await;
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let spec = ServerSpec { forwards: vec![(port, 22)], ..bench.server(Mode::Obedient) };
    let error = refuses(&bench, &spec, ErrorKind::Failed, &port.to_string()).await;
    assert_eq!(error.hint(), Some("the port is taken on this host; choose another one to forward"));
    drop(taken);
    bench.driver.start(&spec).await.unwrap();
    std::net::TcpStream::connect(("127.0.0.1", port)).expect("QEMU listens on the forwarded port");
    bench.driver.delete(spec.id).await.unwrap();
}

#[tokio::test]
async fn a_wrong_specification_makes_nothing() {
    let bench = Bench::new().await;
    let mut spec = bench.server(Mode::Brief);
    spec.config_drive.user_data = Some(vec![b'x'; (64 << 10) + 1]);
    refuses(&bench, &spec, ErrorKind::Invalid, "at most 65536 bytes").await;
    assert_eq!(bench.driver.power(spec.id).await.unwrap(), Power::Absent);
}
