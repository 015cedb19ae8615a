//! Simulated batteries on the radio, read by the whole program: each make that only ever answers.
//! Makes that stream are read in their own tests.

use std::time::Duration;

use bms_reader::app;
use bms_reader::config;
use bms_reader::model::{DeviceId, LinkState};
use bms_reader::protocol::driver::{Carrier, GattPlace};
use bms_reader::protocol::{self, Ask, DriverInfo, Options, Step};
use bms_reader::sim::{Battery, Faults, MAKES, Make, PackState};
use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::battery::{ADDRESS, OTHER};
use crate::house::{program, said};
use crate::rig::{PATIENCE, on_fake};

/// Longer than any cycle.
const STEPS: usize = 200;

/// Makes that are reached by radio and say nothing unasked.
fn makes() -> impl Iterator<Item = (&'static Make, &'static DriverInfo, GattPlace)> {
    MAKES.iter().filter(|make| make.stream.is_none()).filter_map(|make| {
        let driver = protocol::find(make.name)?;
        let place = driver.gatt?.places.first()?;
        Some((*make, driver, *place))
    })
}

fn uuid(uuid: u128) -> String {
    let hex = format!("{uuid:032x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A battery that never changes, at this address: all that its driver asks, with the answers.
fn device(address: &str, make: &Make, driver: &DriverInfo, place: GattPlace) -> Value {
    let battery = Battery::fixed(PackState::at_rest());
    let mut pack = (make.new)(*make.addresses.start(), battery, Faults::default());
    let options = Options { carrier: Carrier::Radio, ..Options::default() };
    let mut driver = (driver.new)(&options);
    driver.start(Ask::Read);
    let (mut replies, mut answer) = (Vec::new(), None);
    for _ in 0..STEPS {
        match driver.step() {
            Step::Send(question) => {
                answer = pack.respond(&question, 0.0);
                if let Some(answer) = &answer {
                    let notify =
                        json!({"char": uuid(place.notify), "after_ms": 2, "hex": hex(answer)});
                    let on = uuid(place.write);
                    replies.push(json!({"on": on, "match": hex(&question), "notify": [notify]}));
                }
                driver.advance();
            }
            Step::Pause(_) => driver.advance(),
            Step::Await(_) => match answer.take() {
                Some(answer) => driver.receive(&answer),
                None => driver.silence(),
            },
            Step::Done(_) => break,
            Step::Failed(error) => panic!("{error}"),
        }
    }
    json!({
        "address": address, "name": "Battery", "adv_services": [uuid(place.service)],
        "fragment": make.notification.unwrap_or(20), "replies": replies,
        "services": [{"uuid": uuid(place.service), "characteristics": [
            {"uuid": uuid(place.notify), "properties": ["notify"]},
            {"uuid": uuid(place.write), "properties": ["write-without-response"]}]}],
    })
}

#[test]
fn an_address_is_enough_to_read_a_battery() {
    for (make, driver, place) in makes() {
        on_fake(json!({"devices": [device(ADDRESS, make, driver, place)]}), async |_| {
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
    for (make, driver, place) in makes() {
        let devices = [ADDRESS, OTHER].map(|address| device(address, make, driver, place));
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
