//! Ctrl-C and SIGTERM: heard once, asked for wherever a task waits, so that it stops what it started.

use std::future::pending;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result, bail};
use tokio::signal::unix::{Signal, SignalKind, signal};

static HEARD: AtomicBool = AtomicBool::new(false);

/// From here on a signal does not end the process; it makes [`check`] fail.
pub(crate) fn listen() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().context("cannot hear signals")?;
    for kind in [SignalKind::interrupt(), SignalKind::terminate()] {
        // Registered before this returns, so that no signal falls into a gap.
        let guard = runtime.enter();
        let heard = signal(kind).context("cannot hear signals")?;
        drop(guard);
        runtime.spawn(note(heard));
    }
    std::thread::spawn(move || runtime.block_on(pending::<()>()));
    Ok(())
}

/// Whether a signal asked the task to stop.
pub(crate) fn heard() -> bool {
    HEARD.load(Ordering::SeqCst)
}

/// Fails when a signal asked the task to stop.
pub(crate) fn check() -> Result<()> {
    if heard() {
        bail!("interrupted");
    }
    Ok(())
}

async fn note(mut signals: Signal) {
    signals.recv().await;
    HEARD.store(true, Ordering::SeqCst);
}
