//! The part of `check` about Bluetooth: the adapters, and why a battery in range was not read.

use std::time::Duration;

use crate::config::{Config, Device, Endpoint};
use crate::model::{Fault, FaultKind};
use crate::transport::ble::{AdapterInfo, BleDevice};
use crate::transport::{Bluetooth, LinkError};

/// Batteries advertise every second or two.
const LISTEN_TIME: Duration = Duration::from_secs(3);
/// In dBm; below it, connections rarely hold.
const WEAK_SIGNAL: i16 = -90;

/// Checks the adapters of the configured batteries; without a battery lists all adapters.
pub(super) async fn check_adapters(config: &Config, bluetooth: &Bluetooth) -> bool {
    let no_battery = config.devices.is_empty();
    let adapter_of = |device: &Device| match &device.endpoint {
        Endpoint::Ble { adapter, .. } => Some(adapter.clone()),
        _ => None,
    };
    let mut wanted = Vec::new();
    for adapter in config.devices.iter().filter_map(adapter_of) {
        if !bluetooth.uses_proxy(adapter.as_deref()).await {
            wanted.push(adapter);
        }
    }
    if wanted.is_empty() && !no_battery {
        return true;
    }
    let results = match bluetooth.adapters().await {
        Ok(found) => {
            if no_battery {
                wanted = found.iter().map(|adapter| Some(adapter.name.clone())).collect();
            }
            choose_adapters(wanted, &found)
        }
        // The scan that follows reports it.
        Err(_) if no_battery => return true,
        Err(error) => vec![Err(error)],
    };
    let failure = if no_battery { "note" } else { "FAIL" };
    for result in &results {
        match result {
            Ok(AdapterInfo { name, address, .. }) => {
                println!("OK    Bluetooth: adapter {name} ({address}) is on");
            }
            Err(error) => println!("{failure}  Bluetooth: {error}\n      {}", error.hint()),
        }
    }
    no_battery || results.iter().all(Result::is_ok)
}

/// Connects to each proxy and reports what it receives, or why it cannot be used.
pub(super) async fn check_proxies(bluetooth: &Bluetooth) -> bool {
    let infos = bluetooth.proxy_infos(LISTEN_TIME).await;
    for info in &infos {
        match info {
            Ok(info) => println!("OK    Bluetooth proxy: {info}"),
            Err(error) => println!("FAIL  Bluetooth proxy: {error}\n      {}", error.hint()),
        }
    }
    infos.iter().all(Result::is_ok)
}

/// Each adapter once; `None` stands for any adapter.
fn choose_adapters(
    mut wanted: Vec<Option<String>>,
    found: &[AdapterInfo],
) -> Vec<Result<AdapterInfo, LinkError>> {
    wanted.sort_unstable();
    wanted.dedup();
    let choose = |name: &Option<String>| AdapterInfo::choose(found, name.as_deref()).cloned();
    wanted.iter().map(choose).collect()
}

/// Why a battery that is in range could not be read, if a scan shows it.
pub(super) async fn further_hint(
    endpoint: &Endpoint,
    fault: &Fault,
    scan_timeout: Duration,
    bluetooth: &Bluetooth,
) -> Option<String> {
    let Endpoint::Ble { address, adapter } = endpoint else { return None };
    if !matches!(fault.kind, FaultKind::ConnectFailed | FaultKind::PortBusy | FaultKind::Timeout) {
        return None;
    }
    let found = bluetooth.scan(adapter.as_deref(), scan_timeout).await.ok()?;
    found.iter().find(|device| device.address.eq_ignore_ascii_case(address)).and_then(hint_about)
}

fn hint_about(battery: &BleDevice) -> Option<String> {
    match (battery.connected, battery.rssi) {
        (true, _) => Some(
            "another program on this machine is connected to it: stop that program, or run \
             `bluetoothctl disconnect`"
                .to_owned(),
        ),
        (false, Some(rssi)) if rssi < WEAK_SIGNAL => {
            Some(format!("its signal is weak ({rssi} dBm): move the adapter closer to the battery"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adapter(name: &str, powered: bool) -> AdapterInfo {
        AdapterInfo { name: name.into(), address: "00:11:22:33:44:55".into(), powered }
    }

    fn device(rssi: Option<i16>, connected: bool) -> BleDevice {
        BleDevice {
            adapter: "hci0".into(),
            address: "C8:47:80:37:02:E8".into(),
            name: None,
            rssi,
            services: Vec::new(),
            manufacturer: Vec::new(),
            connected,
        }
    }

    #[test]
    fn each_wanted_adapter_is_checked_once() {
        let found = [adapter("hci0", false), adapter("hci1", true)];
        let wanted = vec![Some("hci1".into()), None, Some("hci1".into())];
        assert_eq!(choose_adapters(wanted, &found), vec![Ok(adapter("hci1", true)); 2]);
    }

    #[test]
    fn unusable_adapter_is_reported_with_a_remedy() {
        let found = [adapter("hci0", false)];
        let error = |wanted: Option<&str>, found: &[AdapterInfo]| {
            choose_adapters(vec![wanted.map(str::to_owned)], found).remove(0).unwrap_err()
        };
        let off = error(Some("hci0"), &found);
        assert!(off.to_string().contains("switched off"), "{off}");
        assert!(off.hint().contains("bluetoothctl power on"), "{off}");
        let missing = error(Some("hci7"), &found).to_string();
        assert!(missing.contains("hci7"), "{missing}");
        let none = error(None, &[]).to_string();
        assert!(none.contains("Bluetooth adapter not found"), "{none}");
    }

    #[test]
    fn battery_in_range_may_be_connected_or_weak() {
        assert_eq!(hint_about(&device(Some(-60), false)), None);
        assert_eq!(hint_about(&device(None, false)), None);
        let connected = hint_about(&device(None, true)).unwrap();
        assert!(connected.contains("another program"), "{connected}");
        let weak = hint_about(&device(Some(-95), false)).unwrap();
        assert!(weak.contains("-95 dBm"), "{weak}");
    }
}
