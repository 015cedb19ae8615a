//! Simulated batteries of the brands that are code, and of two that are data, through all commands.

use bms_reader::app;
use bms_reader::config;
use bms_reader::model::{DeviceId, LinkState};
use bms_reader::protocol;
use bms_reader::sim::{self, PackState, SimBrand, SimProtocol, gatt};
use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::commands::{run_program, stdout};
use crate::rig::{TEST_TIMEOUT, with_fake};

/// Of the brands that are data, one that replies and one that sends unasked; `every_brand` reads all
/// of them.
const PROFILES: [&str; 2] = ["gobel", "topband"];

/// Each brand with Bluetooth, and an address for a battery of it.
fn brands() -> impl Iterator<Item = (&'static SimBrand, String)> {
    let has_ble =
        |brand: &&SimBrand| protocol::find(brand.name).is_some_and(|driver| driver.gatt.is_some());
    let is_chosen = |brand: &&SimBrand| {
        matches!(brand.protocol, SimProtocol::Code { .. }) || PROFILES.contains(&brand.name)
    };
    let brands = sim::brands().iter().copied().filter(has_ble).filter(is_chosen);
    brands.zip(0..).map(|(brand, number)| (brand, format!("A4:C1:38:00:{number:02}:00")))
}

/// A battery that never changes. Only its services reveal its brand.
fn device(brand: &SimBrand, address: &str) -> Value {
    let mut device = gatt::device(brand, address, PackState::at_rest()).unwrap();
    device["name"] = json!("Battery");
    device
}

fn one_of_each() -> Value {
    json!({"devices": brands().map(|(brand, address)| device(brand, &address)).collect::<Vec<_>>()})
}

#[test]
fn read_recognises_each_brand() {
    with_fake(one_of_each(), async |_| {
        let devices: Vec<_> = brands()
            .map(|(brand, address)| json!({"id": brand.name.replace('_', "-"), "address": address}))
            .collect();
        let output = run_program(&["read"], &[("DEVICES", &json!(devices).to_string())]).await;
        let text = stdout(&output);
        assert_eq!(output.status.code(), Some(0), "{text}");
        let objects: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(objects.len(), devices.len(), "{text}");
        for (brand, address) in brands() {
            let object = objects.iter().find(|object| object["address"] == *address).unwrap();
            assert_eq!((&object["type"], &object["error"]), (&json!(brand.name), &Value::Null));
            assert_eq!((&object["adapter"], &object["connected"]), (&json!("hci0"), &json!(true)));
            assert!(object["rssi"].as_i64().unwrap() < 0, "{object}");
        }
    });
}

#[test]
fn scan_probe_recognises_each_brand() {
    with_fake(one_of_each(), async |_| {
        let addresses: Vec<_> = brands().map(|(_, address)| address).collect();
        let mut arguments = vec!["scan", "--seconds", "2", "--json", "--probe"];
        arguments.extend(addresses.iter().map(String::as_str));
        let object: Value =
            serde_json::from_str(&stdout(&run_program(&arguments, &[]).await)).unwrap();
        let found = object["bluetooth"].as_array().unwrap();
        for (brand, address) in brands() {
            let device = found.iter().find(|device| device["address"] == *address).unwrap();
            assert_eq!(device["answered"], brand.name, "{object}");
            let environment = json!({"BMS_TYPE": brand.name, "BMS_ADDRESS": address});
            assert_eq!(device["environment"], environment);
        }
    });
}

#[test]
fn check_accepts_each_brand() {
    with_fake(one_of_each(), async |_| {
        for (brand, address) in brands() {
            let environment = [("BMS_ADDRESS", address.as_str()), ("BMS_TYPE", brand.name)];
            let output = run_program(&["check"], &environment).await;
            let text = stdout(&output);
            assert_eq!(output.status.code(), Some(0), "{text}");
            assert!(text.contains(&format!("OK    bms at {address}: ")), "{text}");
        }
    });
}

#[test]
fn stopped_app_disconnects_its_batteries() {
    let second = |address: &str| format!("{}:01", &address[..14]);
    let devices: Vec<_> = brands()
        .flat_map(|(brand, address)| [device(brand, &address), device(brand, &second(&address))])
        .collect();
    with_fake(json!({"devices": devices}), async |rig| {
        for (brand, address) in brands() {
            let before = rig.count("Connect").await;
            let devices = json!([
                {"id": "kept", "address": address, "interval": 1, "keep_connected": true},
                {"id": "closed", "type": brand.name, "address": second(&address), "interval": 1,
                 "keep_connected": false}]);
            let options = ("BMS_OPTIONS_FILE".to_owned(), "/nonexistent/options.json".to_owned());
            let environment = [options, ("DEVICES".to_owned(), devices.to_string())];
            let config = config::load(environment.into_iter().collect()).unwrap();
            let stop = CancellationToken::new();
            let app = app::App::build(&config, &app::SimOptions::default(), &stop);
            for id in ["kept", "closed"] {
                let id = DeviceId::new(id).unwrap();
                let mut state = app.board.subscribe(&id).unwrap();
                let reads = state.wait_for(|state| state.counters.reads >= 4);
                let state = timeout(TEST_TIMEOUT, reads).await.expect("four reads").unwrap();
                assert_eq!((state.link, &*state.profile.brand), (LinkState::Online, brand.name));
                assert_eq!(state.profile.adapter.as_deref(), Some("hci0"));
            }
            // One for the battery that stays connected, and one for each read of the other; the second
            // completes the first.
            let connects = rig.count("Connect").await - before;
            assert!(connects >= 4, "{connects}");
            let running = app::run(app, &config, stop.clone());
            stop.cancel();
            timeout(TEST_TIMEOUT, running).await.expect("the app stops");
            rig.assert_clean().await;
        }
    });
}
