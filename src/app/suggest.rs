//! Without any configured battery: looks for batteries and suggests the settings for them.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::board::Board;
use crate::model::DiscoveredDevice;
use crate::poll::advertisement;
use crate::protocol::detection::{self, recognise};
use crate::transport::Bluetooth;
use crate::transport::ble::BleDevice;
use crate::transport::serial;

const SCAN_INTERVAL: Duration = Duration::from_secs(60);
/// Batteries advertise every second or two.
const SCAN_DURATION: Duration = Duration::from_secs(5);

/// Scans until the stop. A device is logged once; the set-up page shows the newest scan.
pub(super) async fn batteries(board: Board, stop: CancellationToken) {
    warn!(
        "no battery is configured: set BMS_TYPE and BMS_PORT or BMS_ADDRESS (one battery) or \
         DEVICES (several); `bms-reader scan` lists what is connected"
    );
    let bluetooth = Bluetooth::default();
    let mut logged = BTreeSet::new();
    let scan = async {
        loop {
            let devices = scan(&bluetooth).await;
            for line in devices.iter().map(log_line) {
                if logged.insert(line.clone()) {
                    info!("{line}");
                }
            }
            board.set_discovered(devices);
            sleep(SCAN_INTERVAL).await;
        }
    };
    stop.run_until_cancelled(scan).await;
}

fn log_line(device: &DiscoveredDevice) -> String {
    let DiscoveredDevice { address, description, settings } = device;
    if settings.is_empty() {
        return format!("{address}: {description}");
    }
    format!("found {address} ({description}): set {}", settings.join(" "))
}

/// Everything that may be a battery, or why Bluetooth could not be scanned.
async fn scan(bluetooth: &Bluetooth) -> Vec<DiscoveredDevice> {
    let mut devices: Vec<_> = serial::list().iter().map(|port| serial_port(&port.path)).collect();
    match bluetooth.scan(None, SCAN_DURATION).await {
        Ok(found) => devices.extend(found.iter().filter_map(ble_device)),
        Err(error) => devices.push(DiscoveredDevice {
            address: "Bluetooth".to_owned(),
            description: format!("{error}; {}", error.hint()),
            settings: Vec::new(),
        }),
    }
    devices
}

fn serial_port(path: &str) -> DiscoveredDevice {
    DiscoveredDevice {
        address: path.to_owned(),
        description: "a serial port".to_owned(),
        settings: vec![format!("BMS_TYPE={}", detection::AUTO), format!("BMS_PORT={path}")],
    }
}

/// `None` if it does not advertise like a battery.
fn ble_device(found: &BleDevice) -> Option<DiscoveredDevice> {
    let guesses = recognise(&advertisement(found));
    if guesses.is_empty() {
        return None;
    }
    let (address, titles) = (&found.address, detection::titles(&guesses));
    let kind = detection::type_to_set(&guesses);
    let name = found.name.as_deref().unwrap_or("unnamed").replace(char::is_control, " ");
    Some(DiscoveredDevice {
        address: address.clone(),
        description: format!("{name}, perhaps {titles}"),
        settings: vec![format!("BMS_TYPE={kind}"), format!("BMS_ADDRESS={address}")],
    })
}
