//! Short scans for batteries that were not seen, so that their return is noticed between two attempts.
//!
//! BlueZ only has active scans. One disturbs a connect, so it needs the permit of the adapter, and it
//! takes time from open connections, so all batteries that are sought share one, which runs a third of
//! the time at most and ends when another battery needs the adapter. After an hour a battery is left to
//! the attempts, and to whatever else scans.

use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::debug;

use super::bus::{AdapterHandle, call_quick};
use super::error::BleError;
use super::locks::Seeker;
use super::scan::{SCAN_POLL, Scan};
use super::{Bluetooth, LinkError};

/// From the end of one scan to the next.
const PAUSE: Duration = Duration::from_secs(8);
/// Batteries advertise every 0.1 to 2 s, and BlueZ listens half of the time.
const SLICE: Duration = Duration::from_secs(4);
/// Length of a scan that makes way for another battery. Without it, a busy adapter would never scan.
const MIN_SLICE: Duration = Duration::from_secs(1);

/// Lets the adapter of that name scan now and then as long as the seeker exists.
pub(super) fn seek(bluetooth: &Bluetooth, adapter: &str) -> Seeker {
    let (seeker, starts) = bluetooth.locks.adapter(adapter).seekers.join();
    if starts {
        tokio::spawn(run(bluetooth.clone(), adapter.to_owned()).boxed());
    }
    seeker
}

/// Nothing stops this task from outside, because it has to stop the scan that it has started.
async fn run(bluetooth: Bluetooth, name: String) {
    let lock = bluetooth.locks.adapter(&name);
    loop {
        sleep(PAUSE).await;
        if !lock.seekers.keep_running() {
            return;
        }
        if let Err(error) = look_out(&bluetooth, &name).await {
            debug!("{name}: no scan for the batteries that are missing: {error}");
        }
    }
}

async fn look_out(bluetooth: &Bluetooth, name: &str) -> Result<(), LinkError> {
    let adapter = bluetooth.adapter(Some(name)).await?;
    let _permit = adapter.lock.acquire(name).await?;
    match scan(&adapter).await {
        Ok(()) => Ok(()),
        Err(error) => Err(adapter.link_error(&error, name).await),
    }
}

async fn scan(adapter: &AdapterHandle) -> Result<(), BleError> {
    let discovering = call_quick("asking for other scans", adapter.adapter.is_discovering());
    // BlueZ also signals what the scan of another program sees.
    if discovering.await? {
        return Ok(());
    }
    let lock = &adapter.lock;
    let mut scan = Scan::start(adapter).await?;
    let started = Instant::now();
    let mut running = true;
    while running && !lock.seekers.is_empty() {
        let longest = if lock.is_contended() { MIN_SLICE } else { SLICE };
        let now = Instant::now();
        if now >= started + longest {
            break;
        }
        let next_poll = (started + longest).min(now + SCAN_POLL);
        running = timeout_at(next_poll, scan.next_event()).await.unwrap_or(true);
    }
    scan.stop().await
}
