//! What cannot work says so, names the cause, and leaves nothing running.

use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;

use compute::{Driver, Error, ErrorKind, Firmware, Power, ServerSpec, Stop};

use crate::bases::{Trouble, Troubled};
use crate::bench::{Bench, qemu_processes, text};
use crate::guest::{self, Mode};

async fn refuses(bench: &Bench, spec: &ServerSpec, kind: ErrorKind, says: &str) -> Error {
    let error = bench.driver.start(spec).await.unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(says), "{error}");
    assert_eq!(qemu_processes(&spec.id.to_string()), [0; 0]);
    assert!(matches!(bench.driver.power(spec.id).await.unwrap(), Power::Absent | Power::Off));
    error
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
async fn bases_that_are_not_there() {
    let bench = Bench::new().await;
    let mut spec = bench.server(Mode::Brief);
    spec.base.export = "server/none".into();
    refuses(&bench, &spec, ErrorKind::Failed, "no export has this name").await;
    spec.base.socket = bench.path("absent.sock");
    refuses(&bench, &spec, ErrorKind::Failed, "base.sock").await;
    spec.base.socket = "absent.sock".into();
    refuses(&bench, &spec, ErrorKind::Invalid, "not an absolute path").await;
}

/// The overlay is what people find in the server's directory: it must lead them to the base, and hold the rest.
#[tokio::test]
async fn an_overlay_names_its_base() {
    let bench = Bench::new().await;
    // Larger than its base, which does not end with a whole sector.
    let mut base = guest::disk(Mode::Obedient, guest::COUNTER_SECTOR);
    base.extend([9; 100]);
    let spec = bench.server_on(base.clone());
    bench.driver.start(&spec).await.unwrap();
    bench.wait_for_text(spec.id, "boot 1").await;
    bench.driver.stop(spec.id, Stop::Soft).await.unwrap();
    let qemu_img = |arguments: &str| bench.run_in(spec.id, "qemu-img", arguments);
    qemu_img("check -q root.qcow2");
    let info = qemu_img("info --output=json root.qcow2");
    let info: serde_json::Value = serde_json::from_slice(&info).unwrap();
    assert_eq!(info["virtual-size"], spec.disk_bytes);
    assert_eq!(info["backing-filename"], format!("nbd+unix:///{}?socket=base.sock", spec.base.export));
    let flat = bench.path("flat.raw");
    qemu_img(&format!("convert -O raw root.qcow2 {}", text(&flat)));
    base[guest::COUNTER_SECTOR as usize * 512] = b'1';
    base.resize(spec.disk_bytes as usize, 0);
    assert!(std::fs::read(flat).unwrap() == base, "the disk is the base and what the guest wrote");
    bench.driver.delete(spec.id).await.unwrap();
}

/// The guest reads a sector that cannot be read: it must stand still, not see an error.
#[tokio::test]
async fn a_disk_fault_pauses_the_guest() {
    const LOST: u64 = guest::DISK_BYTES / 2;
    let bench = Bench::new().await;
    let trouble = Arc::<Trouble>::default();
    let bytes = guest::disk(Mode::Obedient, LOST / 512);
    let spec = bench.server_on(Troubled { bytes, byte: LOST, trouble: trouble.clone() });
    bench.driver.start(&spec).await.unwrap();
    let paused = Power::Paused { reason: "reading or writing its disk failed on this host".into() };
    bench.wait_for_power(spec.id, paused.clone()).await;
    assert_eq!(bench.driver.adopt().await.unwrap(), [(spec.id, paused.clone())]);
    // Start lets it go on, and it meets the same fault again.
    bench.driver.start(&spec).await.unwrap();
    bench.wait_for_power(spec.id, paused).await;
    assert_eq!(bench.driver.console(spec.id, 4096).await.unwrap(), b"", "the guest saw no disk error");
    // Once it is mended, it goes on as if nothing had been.
    trouble.end();
    bench.driver.start(&spec).await.unwrap();
    bench.wait_for_text(spec.id, "boot 1").await;
    bench.driver.delete(spec.id).await.unwrap();
}

/// A paused guest hears no power button, so none is waited for.
#[tokio::test]
async fn a_paused_guest_stops_at_once() {
    let bench = Bench::new().await;
    let bytes = guest::disk(Mode::Obedient, 99);
    let spec = bench.server_on(Troubled { bytes, byte: 99 * 512, trouble: Arc::default() });
    bench.driver.start(&spec).await.unwrap();
    let paused = Power::Paused { reason: "reading or writing its disk failed on this host".into() };
    bench.wait_for_power(spec.id, paused).await;
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
