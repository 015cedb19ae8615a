//! No battery is configured: stay, look around, and say which lines to add.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::poll::advertisement;
use crate::protocol::signs::recognise;
use crate::protocol::{DRIVERS, auto};
use crate::transport::ble::{self, BleFound};
use crate::transport::serial;

/// So often.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// Batteries advertise every second or two.
const LISTEN: Duration = Duration::from_secs(5);

/// Until the stop. Each find is told once.
pub(super) async fn batteries(stop: CancellationToken) {
    warn!(
        "no battery is configured: set BMS_TYPE and BMS_PORT or BMS_ADDRESS (one battery) or \
         DEVICES (several); `bms-reader scan` shows what is there"
    );
    let mut told = BTreeSet::new();
    loop {
        let around = async {
            for line in look_around().await {
                if told.insert(line.clone()) {
                    info!("{line}");
                }
            }
            sleep(LOOK_AGAIN).await;
        };
        if stop.run_until_cancelled(around).await.is_none() {
            return;
        }
    }
}

/// A line about each thing that may be a battery.
async fn look_around() -> Vec<String> {
    let port = |path: &str| format!("found {path}: set BMS_TYPE={} BMS_PORT={path}", auto::AUTO);
    let mut lines: Vec<String> = serial::list().iter().map(|found| port(&found.path)).collect();
    match ble::scan(None, LISTEN).await {
        Ok(found) => lines.extend(found.iter().filter_map(device)),
        Err(error) => {
            lines.push(format!("batteries on Bluetooth are not seen: {error}; {}", error.hint()));
        }
    }
    lines
}

/// What to say about a device that advertises like a battery.
fn device(found: &BleFound) -> Option<String> {
    let guess = recognise(DRIVERS.iter().copied(), &advertisement(found)).into_iter().next()?;
    let (address, title) = (&found.address, guess.driver.title);
    let kind = if guess.likely { guess.driver.name } else { auto::AUTO };
    let name = found.name.as_deref().unwrap_or("without a name").replace(char::is_control, " ");
    Some(format!(
        "found {address} ({name}), perhaps {title}: set BMS_TYPE={kind} BMS_ADDRESS={address}"
    ))
}
