//! The promises of `Driver`, each once; another driver passes them by giving a bench of its own.

use compute::{Driver, ErrorKind, Power, Stop};
use model::ServerId;

use crate::bench::{Bench, qemu_processes};
use crate::guest::Mode;

#[tokio::test]
async fn a_life_from_start_to_delete() {
    let bench = Bench::new().await;
    let driver: &dyn Driver = &bench.driver;
    let spec = bench.server(Mode::Obedient);
    assert_eq!(driver.power(spec.id).await.unwrap(), Power::Absent);

    driver.start(&spec).await.unwrap();
    assert_eq!(driver.power(spec.id).await.unwrap(), Power::Running);
    bench.wait_for_text(spec.id, "boot 1").await;

    driver.stop(spec.id, Stop::Soft).await.unwrap();
    assert_eq!(driver.power(spec.id).await.unwrap(), Power::Off);
    assert_eq!(driver.console(spec.id, 4096).await.unwrap(), b"boot 1\nbye\n", "the guest saw the power button");

    driver.start(&spec).await.unwrap();
    bench.wait_for_text(spec.id, "boot 2").await;
    driver.stop(spec.id, Stop::Hard).await.unwrap();
    assert_eq!(driver.power(spec.id).await.unwrap(), Power::Off);
    assert_eq!(driver.console(spec.id, 4096).await.unwrap(), b"boot 1\nbye\nboot 2\n");
    assert_eq!(driver.console(spec.id, 4).await.unwrap(), b"t 2\n");

    driver.delete(spec.id).await.unwrap();
    assert_eq!(driver.power(spec.id).await.unwrap(), Power::Absent);
    assert_eq!(qemu_processes(&spec.id.to_string()), [0; 0]);
}

#[tokio::test]
async fn every_verb_may_be_repeated() {
    let bench = Bench::new().await;
    let driver: &dyn Driver = &bench.driver;
    let spec = bench.server(Mode::Obedient);
    driver.start(&spec).await.unwrap();
    let process = qemu_processes(&spec.id.to_string());
    driver.start(&spec).await.unwrap();
    assert_eq!(qemu_processes(&spec.id.to_string()), process, "a second start starts nothing");
    for how in [Stop::Hard, Stop::Hard, Stop::Soft] {
        driver.stop(spec.id, how).await.unwrap();
        assert_eq!(driver.power(spec.id).await.unwrap(), Power::Off);
    }
    for _ in 0..2 {
        driver.delete(spec.id).await.unwrap();
        driver.stop(spec.id, Stop::Soft).await.unwrap();
        assert_eq!(driver.power(spec.id).await.unwrap(), Power::Absent);
    }
    assert_eq!(driver.console(spec.id, 1).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn starts_at_once_start_one_process() {
    let bench = Bench::new().await;
    let spec = bench.server(Mode::Obedient);
    let another = bench.new_driver().await;
    let start = || bench.driver.start(&spec);
    for started in <[_; 4]>::from(tokio::join!(start(), start(), start(), start())) {
        started.unwrap();
    }
    assert_eq!(qemu_processes(&spec.id.to_string()).len(), 1);
    another.start(&spec).await.unwrap();
    assert_eq!(qemu_processes(&spec.id.to_string()).len(), 1, "a second driver finds the first one's process");
    bench.wait_for_text(spec.id, "boot 1").await;
    bench.driver.delete(spec.id).await.unwrap();
}

#[tokio::test]
async fn a_guest_that_powers_off_is_off() {
    let bench = Bench::new().await;
    let spec = bench.server(Mode::Brief);
    bench.driver.start(&spec).await.unwrap();
    bench.wait_for_power(spec.id, Power::Off).await;
    assert_eq!(bench.driver.console(spec.id, 4096).await.unwrap(), b"boot 1\nbye\n");
    bench.driver.delete(spec.id).await.unwrap();
}

#[tokio::test]
async fn a_deaf_guest_is_stopped_in_the_end() {
    let bench = Bench::with(|options| options.soft_stop = std::time::Duration::from_millis(300)).await;
    let spec = bench.server(Mode::Deaf);
    bench.driver.start(&spec).await.unwrap();
    bench.wait_for_text(spec.id, "boot 1").await;
    bench.driver.stop(spec.id, Stop::Soft).await.unwrap();
    assert_eq!(bench.driver.power(spec.id).await.unwrap(), Power::Off);
    assert_eq!(bench.driver.console(spec.id, 4096).await.unwrap(), b"boot 1\n");
    bench.driver.delete(spec.id).await.unwrap();
}

#[tokio::test]
async fn delete_does_not_wait_for_a_soft_stop() {
    let bench = Bench::with(|options| options.soft_stop = std::time::Duration::from_secs(600)).await;
    let spec = bench.server(Mode::Deaf);
    bench.driver.start(&spec).await.unwrap();
    bench.wait_for_text(spec.id, "boot 1").await;
    let delete = async {
        bench.driver.delete(spec.id).await.unwrap();
        assert_eq!(bench.driver.power(spec.id).await.unwrap(), Power::Absent);
    };
    let (stopped, ()) = tokio::join!(bench.driver.stop(spec.id, Stop::Soft), delete);
    stopped.unwrap();
}

#[tokio::test]
async fn adopt_lists_every_server_and_starts_none() {
    let bench = Bench::new().await;
    let (running, off) = (bench.server(Mode::Obedient), bench.server(Mode::Obedient));
    for spec in [&running, &off] {
        bench.driver.start(spec).await.unwrap();
    }
    bench.driver.stop(off.id, Stop::Hard).await.unwrap();
    std::fs::create_dir(bench.options.directory.join("not a server")).unwrap();
    std::fs::create_dir(bench.options.directory.join(ServerId::new().uuid().simple().to_string())).unwrap();

    let after_restart = bench.new_driver().await;
    let mut expected = [(running.id, Power::Running), (off.id, Power::Off)];
    expected.sort_by_key(|(id, _)| *id);
    assert_eq!(after_restart.adopt().await.unwrap(), expected);
    assert_eq!(qemu_processes(&off.id.to_string()), [0; 0]);
    after_restart.delete(running.id).await.unwrap();
    after_restart.delete(off.id).await.unwrap();
    assert_eq!(after_restart.adopt().await.unwrap(), []);
}
