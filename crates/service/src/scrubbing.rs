//! Scrubbing: every pack of the store is read back once in a set number of days, on one node or another, and slowly.

use std::time::Duration;

use catalog::scrubs;
use chunks::PackScrub;
use tokio::sync::watch;

use crate::error::Result;
use crate::service::Service;

const DAY: u64 = 24 * 3600;
/// How often it is asked whether a pack is due.
const LOOK: Duration = Duration::from_secs(60);

/// Reads packs back as they become due: when three quarters of the days are over, so that the last quarter is for
/// reading, at four times the pace at which an even reading would go.
pub(crate) async fn scrub(service: Service, mut stopped: watch::Receiver<bool>) {
    let period = u64::from(service.parts.settings.scrub_days) * DAY;
    if period == 0 {
        return;
    }
    let mut rest = LOOK;
    loop {
        tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(rest) => {}
        }
        let scrubbing = next(&service, period);
        rest = tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => return,
            done = scrubbing => done.unwrap_or_else(|error| {
                tracing::warn!(error = %error.chain(), "the store cannot be scrubbed now");
                LOOK
            }),
        };
    }
}

/// Scrubs the pack that is due, if one is, and returns how long to rest after it.
async fn next(service: &Service, period: u64) -> Result<Duration> {
    let Some(scrub) = service.parts.store.scrub_next(period / 4 * 3).await? else { return Ok(LOOK) };
    tell(&scrub);
    let mut tx = service.parts.catalog.read().await?;
    let total = scrubs::checked(&mut tx).await?.bytes;
    Ok(pause(scrub.size, total, period))
}

/// How long to rest after `size` bytes, so that `total` bytes take a quarter of `period` seconds.
fn pause(size: u64, total: u64, period: u64) -> Duration {
    let share = u128::from(size) * u128::from(period) * 250 / u128::from(total.max(size).max(1));
    Duration::from_millis(u64::try_from(share).unwrap_or(u64::MAX))
}

fn tell(scrub: &PackScrub) {
    let PackScrub { pack, size, blobs, damage } = scrub;
    match damage {
        None => tracing::debug!(%pack, bytes = size, blobs, "scrubbed a pack"),
        Some(damage) => tracing::error!(%pack, bytes = size, damage, "a pack of the store is damaged"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_reads_everything_in_a_quarter_of_the_time() {
        let (pack, packs) = (16 << 20, 1000);
        let period = 30 * DAY;
        assert_eq!(pause(pack, pack * packs, period) * packs as u32, Duration::from_secs(period / 4));
        // One pack alone, and a size that was not told.
        assert_eq!(pause(pack, pack, period), Duration::from_secs(period / 4));
        assert_eq!(pause(pack, 0, period), Duration::from_secs(period / 4));
        assert_eq!(pause(0, 0, period), Duration::ZERO);
    }
}
