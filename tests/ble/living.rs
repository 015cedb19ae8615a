//! Simulated batteries on the radio, read by the whole program: each brand that has Bluetooth.

use bms_reader::app;
use bms_reader::config;
use bms_reader::model::{DeviceId, LinkState};
use bms_reader::protocol;
use bms_reader::sim::{BRANDS, PackState, SimBrand, gatt};
use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::house::{program, said};
use crate::rig::{PATIENCE, on_fake};

/// Brands that are reached by radio.
fn brands() -> impl Iterator<Item = &'static SimBrand> {
    BRANDS
        .iter()
        .copied()
        .filter(|brand| protocol::find(brand.name).is_some_and(|it| it.gatt.is_some()))
}

/// A battery that never changes, at this address, which nothing but its services gives away.
fn device(address: &str, brand: &SimBrand) -> Value {
    let mut device = gatt::device(brand, address, PackState::at_rest()).unwrap();
    device["name"] = json!("Battery");
    device
}

/// Such an address for each brand, and each house.
fn address(brand: usize, battery: usize) -> String {
    format!("A4:C1:38:00:0{brand}:0{battery}")
}

#[test]
fn an_address_is_enough_to_read_a_battery() {
    let devices: Vec<_> =
        brands().enumerate().map(|(number, brand)| device(&address(number, 0), brand)).collect();
    on_fake(json!({"devices": devices}), async |_| {
        for (number, brand) in brands().enumerate() {
            let address = address(number, 0);
            let environment = [("BMS_ADDRESS", address.as_str())];
            let output = program(&["read"], &environment).await;
            let object: Value = serde_json::from_str(&said(&output)).unwrap();
            assert_eq!(output.status.code(), Some(0), "{object}");
            assert_eq!((&object["type"], &object["error"]), (&json!(brand.name), &Value::Null));
            assert_eq!((&object["adapter"], &object["connected"]), (&json!("hci0"), &json!(true)));
            assert!(object["rssi"].as_i64().unwrap() < 0, "{object}");

            let probe = ["scan", "--seconds", "2", "--json", "--probe", &address];
            let output = program(&probe, &environment).await;
            let object: Value = serde_json::from_str(&said(&output)).unwrap();
            let found = object["bluetooth"].as_array().unwrap();
            let found = found.iter().find(|it| it["address"] == address.as_str()).unwrap();
            assert_eq!(found["answered"], brand.name, "{object}");
            assert_eq!(
                found["environment"],
                json!({"BMS_TYPE": brand.name, "BMS_ADDRESS": address})
            );

            let environment = [("BMS_ADDRESS", address.as_str()), ("BMS_TYPE", brand.name)];
            let output = program(&["check"], &environment).await;
            let text = said(&output);
            assert_eq!(output.status.code(), Some(0), "{text}");
            assert!(text.contains(&format!("OK    bms at {address}: ")), "{text}");
        }
    });
}

#[test]
fn a_house_of_two_leaves_both_when_it_stops() {
    let devices: Vec<_> = brands()
        .enumerate()
        .flat_map(|(number, brand)| [0, 1].map(|battery| device(&address(number, battery), brand)))
        .collect();
    on_fake(json!({"devices": devices}), async |rig| {
        for (number, brand) in brands().enumerate() {
            let before = rig.count("Connect").await;
            let (kept, lent) = (address(number, 0), address(number, 1));
            let devices = format!(
                r#"[{{"id": "kept", "address": "{kept}", "interval": 1, "keep_connected": true}},
                    {{"id": "lent", "type": "{}", "address": "{lent}", "interval": 1,
                      "keep_connected": false}}]"#,
                brand.name
            );
            let options = ("BMS_OPTIONS_FILE".to_owned(), "/nonexistent/options.json".to_owned());
            let environment = [options, ("DEVICES".to_owned(), devices)];
            let config = config::load(environment.into_iter().collect()).unwrap();
            let stop = CancellationToken::new();
            let house = app::App::build(&config, &app::SimOptions::default(), &stop);
            for id in ["kept", "lent"] {
                let id = DeviceId::new(id).unwrap();
                let mut state = house.board().subscribe(&id).unwrap();
                let read = state.wait_for(|state| state.counters.reads >= 3);
                let state = timeout(PATIENCE, read).await.expect("it is read").unwrap().clone();
                assert_eq!(
                    (state.link, state.profile.brand.as_str()),
                    (LinkState::Online, brand.name)
                );
                assert_eq!(state.profile.adapter.as_deref(), Some("hci0"));
            }
            let connects = rig.count("Connect").await - before;
            assert!(connects >= 4, "one is kept and one is connected for each read: {connects}");
            let running = app::run(house, &config, stop.clone());
            stop.cancel();
            timeout(PATIENCE, running).await.expect("the house ends");
            rig.nothing_is_left().await;
        }
    });
}
