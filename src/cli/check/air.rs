//! Bluetooth, from the bus to the battery: which part of the way is at fault, and what to do.

use std::time::Duration;

use crate::cli::without_heading;
use crate::config::{Config, Endpoint};
use crate::model::{Fault, FaultKind};
use crate::transport::ble::{AdapterInfo, BleDevice};
use crate::transport::{Bluetooth, LinkError};

/// Looks at the adapters, where a battery is on Bluetooth; at all of them, where there is none yet.
pub(super) async fn adapters(config: &Config) -> bool {
    if config.devices.is_empty() {
        // Why there is none at all is told by the look around.
        let adapters = Bluetooth::default().adapters().await;
        let names = adapters.iter().flatten().map(|it| Some(&*it.name)).collect::<Vec<_>>();
        for (well, line) in verdict(&names, &Ok(adapters.clone().unwrap_or_default())) {
            println!("{} {line}", if well { "fine " } else { "note " });
        }
        return true;
    }
    let wanted: Vec<Option<&str>> = config
        .devices
        .iter()
        .filter_map(|device| match &device.endpoint {
            Endpoint::Ble { adapter, .. } => Some(adapter.as_deref()),
            _ => None,
        })
        .collect();
    if wanted.is_empty() {
        return true;
    }
    let verdict = verdict(&wanted, &Bluetooth::default().adapters().await);
    for (well, line) in &verdict {
        println!("{} {line}", if *well { "fine " } else { "FAIL " });
    }
    verdict.iter().all(|(well, _)| *well)
}

/// One line about each adapter that matters, and whether it is well.
fn verdict(
    wanted: &[Option<&str>],
    adapters: &Result<Vec<AdapterInfo>, LinkError>,
) -> Vec<(bool, String)> {
    let fault = |error: LinkError| {
        let trouble = error.to_string();
        (false, format!("Bluetooth: {}\n      {}", without_heading(&trouble), error.hint()))
    };
    let adapters = match adapters {
        Ok(adapters) => adapters,
        Err(error) => return vec![fault(error.clone())],
    };
    let mut names: Vec<Option<&str>> = wanted.to_vec();
    names.sort_unstable();
    names.dedup();
    let about = |name: Option<&str>| {
        let named =
            |it: &&AdapterInfo| name.is_none_or(|name| name == it.name || name == it.address);
        let (on, off): (Vec<_>, Vec<_>) = adapters.iter().filter(named).partition(|it| it.powered);
        match (on.first(), off.first()) {
            (Some(it), _) => {
                (true, format!("Bluetooth: adapter {} ({}) is on", it.name, it.address))
            }
            (None, Some(it)) => fault(LinkError::AdapterOff { adapter: it.name.clone() }),
            (None, None) => fault(LinkError::NoAdapter { adapter: name.map(str::to_owned) }),
        }
    };
    names.into_iter().map(about).collect()
}

/// More about a battery that is in reach and could not be read all the same.
pub(super) async fn more(place: &Endpoint, fault: &Fault, time: Duration) -> Option<String> {
    let Endpoint::Ble { address, adapter } = place else { return None };
    if !matches!(fault.kind, FaultKind::ConnectFailed | FaultKind::PortBusy | FaultKind::Timeout) {
        return None;
    }
    let found = Bluetooth::default().scan(adapter.as_deref(), time).await.ok()?;
    found.iter().find(|it| it.address.eq_ignore_ascii_case(address)).and_then(seen)
}

fn seen(battery: &BleDevice) -> Option<String> {
    match (battery.connected, battery.rssi) {
        (true, _) => Some(
            "a program of this machine is connected to it: stop that one, or end the connection \
             with `bluetoothctl disconnect`"
                .to_owned(),
        ),
        (false, Some(rssi)) if rssi < FAINT => {
            Some(format!("its signal is faint ({rssi} dBm): bring adapter and battery closer"))
        }
        _ => None,
    }
}

/// Below this, connections rarely hold.
const FAINT: i16 = -90;

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
    fn each_adapter_that_matters_gets_one_line() {
        let adapters = Ok(vec![adapter("hci0", false), adapter("hci1", true)]);
        let lines = verdict(&[Some("hci1"), None, Some("hci1")], &adapters);
        assert_eq!(lines.len(), 2);
        assert!(lines.iter().all(|(well, line)| *well && line.contains("hci1")), "{lines:?}");
        let lines = verdict(&[Some("hci0")], &adapters);
        assert!(
            !lines[0].0 && lines[0].1.contains("switched off\n      switch it on"),
            "{lines:?}"
        );
        let lines = verdict(&[Some("hci7")], &adapters);
        assert!(
            !lines[0].0 && lines[0].1.contains("Bluetooth adapter hci7 not found"),
            "{lines:?}"
        );
        let lines = verdict(&[None], &Ok(Vec::new()));
        assert!(!lines[0].0 && lines[0].1.contains("Bluetooth adapter not found"), "{lines:?}");
    }

    #[test]
    fn a_battery_in_reach_may_be_held_or_faint() {
        assert_eq!(seen(&device(Some(-60), false)), None);
        assert_eq!(seen(&device(None, false)), None);
        assert!(seen(&device(None, true)).is_some_and(|told| told.contains("a program of this")));
        assert!(seen(&device(Some(-95), false)).is_some_and(|told| told.contains("-95 dBm")));
    }
}
