//! The output of `read`, `check` and `scan` when something fails.

use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::battery::{ADDRESS, OTHER, battery, battery_with, one_battery, single, two_batteries};
use crate::rig::{BusKind, with_bus, with_fake};

/// Runs the program for the battery at [`ADDRESS`]. It inherits the bus of the test.
pub async fn run_program(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bms-reader"));
    command
        .args(arguments)
        .env("BMS_OPTIONS_FILE", "/nonexistent/options.json")
        .env("BMS_ADDRESS", ADDRESS)
        .env("BMS_SCAN_TIMEOUT", "2")
        .env("LOG_LEVEL", "DEBUG")
        .envs(environment.iter().copied());
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The error in the JSON object of a failed `read`, before or after it was `connected`.
async fn read_error(environment: &[(&str, &str)], connected: bool) -> Value {
    let output = run_program(&["read"], environment).await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = stdout(&output);
    assert_eq!(text.lines().count(), 1, "{text}");
    let object: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(object["address"], ADDRESS);
    assert_eq!(
        (&object["connected"], &object["status"]),
        (&json!(connected), &Value::Null),
        "{text}"
    );
    object["error"].clone()
}

fn assert_error(error: &Value, kind: &str, message: &str, hint: &str) {
    let text = |key: &str| error[key].as_str().unwrap_or_default();
    assert_eq!(error["type"], kind, "{error}");
    assert!(text("message").contains(message), "{error}");
    assert!(text("hint").contains(hint), "{error}");
}

#[test]
fn battery_out_of_reach() {
    let away = battery_with(ADDRESS, json!({"visible": false}));
    with_fake(json!({"devices": [away, battery(OTHER)]}), async |_| {
        let error = read_error(&[], false).await;
        assert_error(&error, "device_not_found", "does not see A4:C1:37:00:12:34", "near enough");
    });
}

#[test]
fn device_without_a_service_of_a_battery() {
    let keyboard = json!([{"uuid": "1812", "characteristics": [
        {"uuid": "2a4d", "properties": ["read", "notify", "write"]}]}]);
    with_fake(single(battery_with(ADDRESS, json!({"services": keyboard}))), async |_| {
        let error = read_error(&[], true).await;
        let message = "A4:C1:37:00:12:34 has no Bluetooth service of a known battery";
        assert_error(&error, "connect_failed", message, "`bms-reader scan` lists the devices");
    });
}

#[test]
fn adapter_that_sees_nothing() {
    with_fake(single(battery_with(ADDRESS, json!({"visible": false}))), async |_| {
        let error = read_error(&[], false).await;
        assert_error(&error, "device_not_found", "sees no Bluetooth device at all", "antenna");
    });
}

#[test]
fn battery_in_use_by_another_program() {
    with_fake(one_battery(), async |rig| {
        let pending = json!({"error": "InProgress", "message": "Operation already in progress"});
        rig.fault("Connect", pending, 1000).await;
        let error = read_error(&[], false).await;
        assert_error(
            &error,
            "port_busy",
            "in use by another program",
            "another program on this host",
        );
    });
}

/// It has the characteristics of one brand and never replies. The last brand that it may be has
/// other characteristics.
#[test]
fn battery_of_an_unknown_brand() {
    let properties = json!(["read", "notify", "write-without-response", "write"]);
    let service = json!({"uuid": "ffe0",
        "characteristics": [{"uuid": "ffe1", "properties": properties}]});
    let silent = json!({"name": "?", "adv_services": [], "replies": [], "services": [service]});
    with_fake(single(battery_with(ADDRESS, silent)), async |_| {
        let error = read_error(&[("BMS_TIMEOUT", "2")], true).await;
        assert_error(&error, "timeout", "tried: ", "of a supported type");
    });
}

#[test]
fn missing_adapter() {
    with_fake(one_battery(), async |_| {
        let error = read_error(&[("BMS_ADAPTER", "hci7")], false).await;
        assert_error(&error, "adapter_not_found", "Bluetooth adapter hci7 not found", "plugged in");
    });
}

#[test]
fn adapter_that_is_off() {
    with_fake(one_battery(), async |rig| {
        rig.command(json!({"cmd": "power", "on": false})).await;
        let error = read_error(&[], false).await;
        assert_error(&error, "adapter_not_found", "is switched off", "bluetoothctl power on");
        rig.command(json!({"cmd": "power", "on": true})).await;
    });
}

#[test]
fn check_reports_an_adapter_that_is_off() {
    with_fake(one_battery(), async |rig| {
        rig.command(json!({"cmd": "power", "on": false})).await;
        let output = run_program(&["check"], &[]).await;
        let text = stdout(&output);
        assert_eq!(output.status.code(), Some(1));
        let line = "Bluetooth: the Bluetooth adapter hci0 is switched off";
        assert!(text.contains(line), "{text}");
        rig.command(json!({"cmd": "power", "on": true})).await;
    });
}

#[test]
fn missing_bus() {
    with_bus(BusKind::Missing, one_battery(), async |_| {
        let error = read_error(&[], false).await;
        assert_error(&error, "adapter_not_found", "the D-Bus socket is missing", "-v /run/dbus");
    });
}

#[test]
fn bus_that_denies_access() {
    with_bus(BusKind::Denied, one_battery(), async |_| {
        let error = read_error(&[], false).await;
        assert_error(&error, "permission_denied", "D-Bus refuses", "D-Bus policy");
    });
}

#[test]
fn check_reports_adapter_and_battery_separately() {
    let batteries = [battery_with(ADDRESS, json!({"visible": false})), battery(OTHER)];
    with_fake(json!({"devices": batteries}), async |_| {
        let output = run_program(&["check"], &[]).await;
        let text = stdout(&output);
        assert_eq!(output.status.code(), Some(1));
        assert!(text.contains("OK    Bluetooth: adapter hci0 (00:AA:01:00:00:23) is on"), "{text}");
        assert!(text.contains("FAIL  bms at A4:C1:37:00:12:34: device_not_found: "), "{text}");
        assert!(text.contains("but another device"), "{text}");
    });
}

#[test]
fn scan_lists_devices_in_reach() {
    with_fake(two_batteries(), async |_| {
        let output = run_program(&["scan", "--seconds", "2", "--json"], &[]).await;
        assert_eq!(output.status.code(), Some(0));
        let object: Value = serde_json::from_str(&stdout(&output)).unwrap();
        assert_eq!(object["bluetooth_error"], Value::Null);
        let found = object["bluetooth"].as_array().unwrap();
        let mut addresses: Vec<_> =
            found.iter().map(|device| device["address"].as_str().unwrap()).collect();
        addresses.sort_unstable();
        assert_eq!(addresses, [ADDRESS, OTHER]);
        for device in found {
            assert_eq!(
                (&device["name"], &device["adapter"]),
                (&json!("xiaoxiang BMS"), &json!("hci0"))
            );
            assert_eq!(device["services"], json!(["ff00"]));
            assert!(device["rssi"].as_i64().unwrap() < 0, "{device}");
        }
    });
}

#[test]
fn scan_without_bluetooth_lists_ports() {
    with_bus(BusKind::Missing, one_battery(), async |_| {
        let output = run_program(&["scan", "--json"], &[]).await;
        assert_eq!(output.status.code(), Some(0));
        let object: Value = serde_json::from_str(&stdout(&output)).unwrap();
        assert_eq!(object["bluetooth_error"]["type"], "adapter_not_found");
        assert!(object["serial"].is_array());
    });
}
