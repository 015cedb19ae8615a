//! The program itself: what `read`, `check` and `scan` say when something is in the way.

use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::battery::{ADDRESS, OTHER, battery, battery_with, one, only};
use crate::rig::{Bus, on_bus, on_fake};

/// What the program answers about the battery at [`ADDRESS`]. It inherits the bus of the test.
pub async fn program(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
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

pub fn said(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The one JSON object of a read that fails before there is a connection.
async fn failed_read(environment: &[(&str, &str)]) -> Value {
    failure(environment, false).await
}

async fn failure(environment: &[(&str, &str)], connected: bool) -> Value {
    let output = program(&["read"], environment).await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = said(&output);
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
fn a_battery_out_of_reach_is_told_as_such() {
    let away = battery_with(ADDRESS, json!({"visible": false}));
    on_fake(json!({"devices": [away, battery(OTHER)]}), async |_| {
        let error = failed_read(&[]).await;
        assert_error(&error, "device_not_found", "does not see A4:C1:37:00:12:34", "near enough");
    });
}

#[test]
fn an_adapter_that_hears_nothing_is_told_as_such() {
    on_fake(only(battery_with(ADDRESS, json!({"visible": false}))), async |_| {
        let error = failed_read(&[]).await;
        assert_error(&error, "device_not_found", "sees no Bluetooth device at all", "antenna");
    });
}

#[test]
fn a_battery_that_another_program_holds_is_told_as_such() {
    on_fake(one(), async |rig| {
        let pending = json!({"error": "InProgress", "message": "Operation already in progress"});
        rig.fault("Connect", pending, 1000).await;
        let error = failed_read(&[]).await;
        assert_error(
            &error,
            "port_busy",
            "in use by another program",
            "another program on this host",
        );
    });
}

/// It offers what one brand has and does not answer it; the last one that it may be finds nothing
/// to talk to.
#[test]
fn a_battery_that_nobody_knows_is_told_as_such() {
    let properties = json!(["read", "notify", "write-without-response", "write"]);
    let service = json!({"uuid": "ffe0",
        "characteristics": [{"uuid": "ffe1", "properties": properties}]});
    let silent = json!({"name": "?", "adv_services": [], "replies": [], "services": [service]});
    on_fake(only(battery_with(ADDRESS, silent)), async |_| {
        let error = failure(&[("BMS_TIMEOUT", "2")], true).await;
        assert_error(&error, "timeout", "tried: ", "of a supported type");
    });
}

#[test]
fn an_adapter_that_is_off_is_told_as_such() {
    on_fake(one(), async |rig| {
        rig.order(json!({"cmd": "power", "on": false})).await;
        let error = failed_read(&[]).await;
        assert_error(&error, "adapter_not_found", "is switched off", "bluetoothctl power on");
        let error = failed_read(&[("BMS_ADAPTER", "hci7")]).await;
        assert_error(&error, "adapter_not_found", "Bluetooth adapter hci7 not found", "plugged in");

        let output = program(&["check"], &[]).await;
        let text = said(&output);
        assert_eq!(output.status.code(), Some(1));
        assert!(
            text.contains("FAIL  Bluetooth: the Bluetooth adapter hci0 is switched off"),
            "{text}"
        );
        rig.order(json!({"cmd": "power", "on": true})).await;
    });
}

#[test]
fn a_bus_that_is_missing_is_told_as_such() {
    on_bus(Bus::Missing, one(), async |_| {
        let error = failed_read(&[]).await;
        assert_error(&error, "adapter_not_found", "the D-Bus socket is missing", "-v /run/dbus");
    });
}

#[test]
fn a_bus_that_refuses_is_a_matter_of_permission() {
    on_bus(Bus::Forbidden, one(), async |_| {
        let error = failed_read(&[]).await;
        assert_error(&error, "permission_denied", "D-Bus refuses", "group");
    });
}

#[test]
fn check_tells_the_adapter_from_the_battery() {
    let batteries = [battery_with(ADDRESS, json!({"visible": false})), battery(OTHER)];
    on_fake(json!({"devices": batteries}), async |_| {
        let output = program(&["check"], &[]).await;
        let text = said(&output);
        assert_eq!(output.status.code(), Some(1));
        assert!(text.contains("OK    Bluetooth: adapter hci0 (00:AA:01:00:00:23) is on"), "{text}");
        assert!(text.contains("FAIL  bms at A4:C1:37:00:12:34: device_not_found: "), "{text}");
        assert!(text.contains("but another device"), "{text}");
    });
}

#[test]
fn scan_lists_what_is_in_reach() {
    on_fake(json!({"devices": [battery(ADDRESS), battery(OTHER)]}), async |_| {
        let output = program(&["scan", "--seconds", "2", "--json"], &[]).await;
        assert_eq!(output.status.code(), Some(0));
        let object: Value = serde_json::from_str(&said(&output)).unwrap();
        assert_eq!(object["bluetooth_error"], Value::Null);
        let found = object["bluetooth"].as_array().unwrap();
        let mut addresses: Vec<_> =
            found.iter().map(|it| it["address"].as_str().unwrap()).collect();
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
fn scan_without_bluetooth_still_answers() {
    on_bus(Bus::Missing, one(), async |_| {
        let output = program(&["scan", "--json"], &[]).await;
        assert_eq!(output.status.code(), Some(0));
        let object: Value = serde_json::from_str(&said(&output)).unwrap();
        assert_eq!(object["bluetooth_error"]["type"], "adapter_not_found");
        assert!(object["serial"].is_array());
    });
}
