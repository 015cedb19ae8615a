//! No battery is configured: stay, look around, and say which lines to add.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::board::Board;
use crate::model::DiscoveredDevice;
use crate::poll::advertisement;
use crate::protocol::detection;
use crate::protocol::detection::recognise;
use crate::transport::Bluetooth;
use crate::transport::ble::BleDevice;
use crate::transport::serial;

/// So often.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// Batteries advertise every second or two.
const LISTEN: Duration = Duration::from_secs(5);

/// Until the stop. Each find is told once; the set-up page shows the newest look.
pub(super) async fn batteries(board: Board, stop: CancellationToken) {
    warn!(
        "no battery is configured: set BMS_TYPE and BMS_PORT or BMS_ADDRESS (one battery) or \
         DEVICES (several); `bms-reader scan` shows what is there"
    );
    let bluetooth = Bluetooth::default();
    let mut told = BTreeSet::new();
    loop {
        let around = async {
            let findings = look_around(&bluetooth).await;
            for finding in &findings {
                let line = told_as(finding);
                if told.insert(line.clone()) {
                    info!("{line}");
                }
            }
            board.set_discovered(findings);
            sleep(LOOK_AGAIN).await;
        };
        if stop.run_until_cancelled(around).await.is_none() {
            return;
        }
    }
}

fn told_as(finding: &DiscoveredDevice) -> String {
    let DiscoveredDevice { address, description, settings } = finding;
    if settings.is_empty() {
        return format!("{address}: {description}");
    }
    format!("found {address}, {description}: set {}", settings.join(" "))
}

/// Each thing that may be a battery.
async fn look_around(bluetooth: &Bluetooth) -> Vec<DiscoveredDevice> {
    let mut findings: Vec<DiscoveredDevice> =
        serial::list().iter().map(|found| port(&found.path)).collect();
    match bluetooth.scan(None, LISTEN).await {
        Ok(found) => findings.extend(found.iter().filter_map(device)),
        Err(error) => findings.push(DiscoveredDevice {
            address: "Bluetooth".to_owned(),
            description: format!("batteries are not seen: {error}; {}", error.hint()),
            settings: Vec::new(),
        }),
    }
    findings
}

fn port(path: &str) -> DiscoveredDevice {
    DiscoveredDevice {
        address: path.to_owned(),
        description: "a serial port".to_owned(),
        settings: vec![format!("BMS_TYPE={}", detection::AUTO), format!("BMS_PORT={path}")],
    }
}

/// What to say about a device that advertises like a battery.
fn device(found: &BleDevice) -> Option<DiscoveredDevice> {
    let guess = recognise(&advertisement(found)).into_iter().next()?;
    let (address, title) = (&found.address, guess.driver.title);
    let kind = if guess.likely { guess.driver.name } else { detection::AUTO };
    let name = found.name.as_deref().unwrap_or("without a name").replace(char::is_control, " ");
    Some(DiscoveredDevice {
        address: address.clone(),
        description: format!("{name}, perhaps {title}"),
        settings: vec![format!("BMS_TYPE={kind}"), format!("BMS_ADDRESS={address}")],
    })
}
