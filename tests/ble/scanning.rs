//! Finding batteries, and batteries that are not found.

use std::time::Duration;

use bms_reader::transport::ble::BleDevice;
use bms_reader::transport::{BleConfig, LinkError};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::battery::{
    ADDRESS, OTHER, battery, battery_with, ble_link, bluetooth, config, jbd, one_battery, open,
    open_default, read, read_once, single,
};
use crate::rig::{TEST_TIMEOUT, with_fake};

const PENDING: &str = "Operation already in progress";

fn scan_for(seconds: u64) -> BleConfig {
    BleConfig { scan_timeout: Duration::from_secs(seconds), ..config(ADDRESS) }
}

/// A battery out of reach, and another one.
fn away_beside_another() -> Value {
    let away = battery_with(ADDRESS, json!({"visible": false}));
    json!({"devices": [away, battery(OTHER)]})
}

fn not_seen(others: usize) -> LinkError {
    LinkError::NotSeen { endpoint: ADDRESS.into(), adapter: "hci0".into(), others }
}

#[test]
fn battery_known_to_bluez_needs_no_scan() {
    with_fake(single(battery_with(ADDRESS, json!({"known": true}))), async |rig| {
        read_once(&config(ADDRESS)).await.unwrap();
        assert_eq!(rig.count("StartDiscovery").await, 0);
        let mut link = open_default().await;
        assert_eq!(ble_link(&link).rssi(), None);
        read(&mut link).await.unwrap();
        link.close().await;
    });
}

#[test]
fn battery_dropped_by_bluez_is_scanned_for_again() {
    with_fake(one_battery(), async |rig| {
        read_once(&config(ADDRESS)).await.unwrap();
        rig.command(json!({"cmd": "remove_device"})).await;
        read_once(&config(ADDRESS)).await.unwrap();
        assert_eq!(rig.count("StartDiscovery").await, 2);
    });
}

#[test]
fn scan_lists_devices_in_reach_or_connected() {
    let devices = json!({"devices": [
        battery_with(ADDRESS, json!({"rssi": -80, "manufacturer": {"101": "0102"}})),
        battery_with(OTHER, json!({"rssi": -50, "address_type": "random"})),
        battery_with("00:00:00:00:00:01", json!({"known": true, "visible": false})),
        battery_with("00:00:00:00:00:02", json!({"connected": true}))]});
    with_fake(devices, async |rig| {
        let scan = bluetooth().scan(Some("hci0"), Duration::from_millis(2500));
        let found = timeout(TEST_TIMEOUT, scan).await.unwrap().unwrap();
        let addresses: Vec<_> = found.iter().map(|found| &*found.address).collect();
        assert_eq!(addresses, [OTHER, ADDRESS, "00:00:00:00:00:02"]);
        let BleDevice { adapter, name, rssi, services, manufacturer, connected, .. } = &found[1];
        assert_eq!((&**adapter, name.as_deref()), ("hci0", Some("xiaoxiang BMS")));
        assert!((-82..=-80).contains(&rssi.unwrap()) && !connected);
        assert_eq!(*services, [jbd().write.service]);
        assert_eq!(*manufacturer, [(101, vec![1, 2])]);
        assert!(found[2].connected && found[2].rssi.is_none());
        // The connection of another program stays open.
        assert_eq!((rig.count("Connect").await, rig.count("Disconnect").await), (0, 0));
        rig.command(json!({"cmd": "drop"})).await;
    });
}

#[test]
fn battery_out_of_reach_is_not_seen() {
    with_fake(single(battery_with(ADDRESS, json!({"visible": false}))), async |rig| {
        assert_eq!(open(&scan_for(2)).await.unwrap_err(), not_seen(0));
        // The time is shorter than one turn at the adapter, so there is only one scan.
        assert_eq!((rig.count("StartDiscovery").await, rig.count("Connect").await), (1, 0));
        rig.command(json!({"cmd": "visible", "on": true})).await;
        read_once(&scan_for(2)).await.unwrap();
    });
}

#[test]
fn known_battery_out_of_reach_is_not_seen() {
    let away = battery_with(ADDRESS, json!({"known": true, "visible": false}));
    with_fake(single(away), async |rig| {
        for _ in 0..2 {
            assert_eq!(open(&scan_for(2)).await.unwrap_err(), not_seen(0));
            // After one failed attempt, a scan has to see it first.
            assert_eq!(rig.count("Connect").await, 1);
        }
        rig.command(json!({"cmd": "visible", "on": true})).await;
        read_once(&scan_for(2)).await.unwrap();
    });
}

#[test]
fn not_seen_error_counts_other_devices() {
    with_fake(away_beside_another(), async |rig| {
        let one_other = open(&scan_for(1)).await.unwrap_err();
        assert_eq!(one_other, not_seen(1));
        rig.command(json!({"cmd": "visible", "on": false})).await;
        let none = open(&scan_for(1)).await.unwrap_err();
        assert_eq!(none, not_seen(0));
        assert_eq!(none.to_string(), "hci0 sees no Bluetooth device at all");
        assert_ne!(one_other.hint(), none.hint());
    });
}

#[test]
fn connected_device_counts_as_seen() {
    with_fake(away_beside_another(), async |_| {
        let connected = open(&config(OTHER)).await.unwrap();
        assert_eq!(open(&scan_for(2)).await.unwrap_err(), not_seen(1));
        connected.close().await;
    });
}

#[test]
fn scan_that_bluez_did_not_stop_is_reused() {
    with_fake(one_battery(), async |rig| {
        rig.scan_may_remain = true;
        rig.fault("StopDiscovery", json!({"error": "InProgress", "message": PENDING}), 1).await;
        read_once(&config(ADDRESS)).await.unwrap();
        let scanners = rig.state().await["scanners"].clone();
        assert_eq!(scanners.as_array().map(Vec::len), Some(1));
        // BlueZ refuses a new scan because it is scanning for us already.
        rig.command(json!({"cmd": "visible", "on": false})).await;
        rig.command(json!({"cmd": "remove_device"})).await;
        let second = tokio::spawn(async { read_once(&config(ADDRESS)).await });
        let refused =
            |event: &Value| event["event"] == "error" && event["method"] == "StartDiscovery";
        rig.wait_for_event(0, refused).await;
        rig.command(json!({"cmd": "visible", "on": true})).await;
        second.await.unwrap().unwrap();
        // That bus connection is not used again, and BlueZ ends the scan with it.
        read_once(&config(ADDRESS)).await.unwrap();
        rig.scan_may_remain = false;
        rig.assert_released().await;
        rig.scan_may_remain = true;
    });
}

#[test]
fn adapter_switched_off_ends_the_scan() {
    with_fake(single(battery_with(ADDRESS, json!({"visible": false}))), async |rig| {
        let opening = tokio::spawn(async { open(&config(ADDRESS)).await });
        rig.wait_for_event(0, |event| event["method"] == "StartDiscovery").await;
        rig.command(json!({"cmd": "power", "on": false})).await;
        let error = opening.await.unwrap().unwrap_err();
        assert_eq!(error, LinkError::AdapterOff { adapter: "hci0".into() });
    });
}
