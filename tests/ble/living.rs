//! Simulated batteries on the radio, read by the whole program: each make that has Bluetooth.

use std::time::Duration;

use bms_reader::app;
use bms_reader::config;
use bms_reader::model::{DeviceId, LinkState};
use bms_reader::protocol;
use bms_reader::sim::{MAKES, Make, PackState, gatt};
use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::battery::{ADDRESS, OTHER};
use crate::house::{program, said};
use crate::rig::{PATIENCE, on_fake};

/// Makes that are reached by radio.
fn makes() -> impl Iterator<Item = &'static Make> {
    MAKES
        .iter()
        .copied()
        .filter(|make| protocol::find(make.name).is_some_and(|it| it.gatt.is_some()))
}

/// A battery that never changes, at this address, which nothing but its services gives away.
fn device(address: &str, make: &Make) -> Value {
    let mut device = gatt::device(make, address, PackState::at_rest()).unwrap();
    device["name"] = json!("Battery");
    device
}

#[test]
fn an_address_is_enough_to_read_a_battery() {
    for make in makes() {
        on_fake(json!({"devices": [device(ADDRESS, make)]}), async |_| {
            let output = program(&["read"], &[]).await;
            let object: Value = serde_json::from_str(&said(&output)).unwrap();
            assert_eq!(output.status.code(), Some(0), "{object}");
            assert_eq!((&object["type"], &object["error"]), (&json!(make.name), &Value::Null));
            assert_eq!((&object["adapter"], &object["connected"]), (&json!("hci0"), &json!(true)));
            assert!(object["rssi"].as_i64().unwrap() < 0, "{object}");

            let output =
                program(&["scan", "--seconds", "2", "--json", "--probe", ADDRESS], &[]).await;
            let object: Value = serde_json::from_str(&said(&output)).unwrap();
            let found = &object["bluetooth"][0];
            assert_eq!(found["answered"], make.name, "{object}");
            assert_eq!(
                found["environment"],
                json!({"BMS_TYPE": make.name, "BMS_ADDRESS": ADDRESS})
            );

            let output = program(&["check"], &[("BMS_TYPE", make.name)]).await;
            let text = said(&output);
            assert_eq!(output.status.code(), Some(0), "{text}");
            assert!(text.contains(&format!("fine  bms at {ADDRESS}: ")), "{text}");
        });
    }
}

#[test]
fn a_house_of_two_leaves_both_when_it_stops() {
    for make in makes() {
        let devices = [ADDRESS, OTHER].map(|address| device(address, make));
        on_fake(json!({"devices": devices}), async |rig| {
            let devices = format!(
                r#"[{{"id": "kept", "address": "{ADDRESS}", "interval": 1, "keep_connected": true}},
                    {{"id": "lent", "type": "{}", "address": "{OTHER}", "interval": 1,
                      "keep_connected": false}}]"#,
                make.name
            );
            let options = ("BMS_OPTIONS_FILE".to_owned(), "/nonexistent/options.json".to_owned());
            let environment = [options, ("DEVICES".to_owned(), devices)];
            let config = config::load(environment.into_iter().collect()).unwrap();
            let stop = CancellationToken::new();
            let house = app::House::build(&config, &app::Play::default(), &stop);
            for id in ["kept", "lent"] {
                let id = DeviceId::new(id).unwrap();
                let mut state = house.board().follow(&id).unwrap();
                let read = state.wait_for(|state| state.counters.reads >= 3);
                let state = timeout(PATIENCE, read).await.expect("it is read").unwrap().clone();
                assert_eq!(
                    (state.link, state.profile.make.as_str()),
                    (LinkState::Online, make.name)
                );
                assert_eq!(state.profile.adapter.as_deref(), Some("hci0"));
            }
            let connects = rig.count("Connect").await;
            assert!(connects >= 4, "one is kept and one is connected for each read: {connects}");
            let running = app::run_house(house, &config, stop.clone());
            stop.cancel();
            timeout(Duration::from_secs(5), running).await.expect("the house ends");
            rig.nothing_is_left().await;
        });
    }
}
