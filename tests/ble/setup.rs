//! The set-up page with batteries on Bluetooth.

use std::net::TcpListener;
use std::time::Instant;

use bms_reader::app;
use bms_reader::config;
use bms_reader::sim::{self, PackState, gatt};
use serde_json::{Value, json};
use tokio::task::spawn_blocking;
use tokio::time::{Duration, sleep};
use tokio_util::sync::CancellationToken;

use crate::http::request;
use crate::rig::{TEST_TIMEOUT, with_fake};

const BATTERY: &str = "A4:C1:38:00:00:01";
const HEADPHONES: &str = "00:11:22:33:44:55";

async fn send(address: &str, method: &'static str, path: &'static str, body: Value) -> Value {
    let address = address.to_owned();
    let answer = spawn_blocking(move || request(&address, method, path, &[], &body)).await;
    answer.unwrap().map(|answer| answer.json).unwrap_or_default()
}

/// Waits until the state of the page is as wanted.
async fn wait_for(address: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let end = Instant::now() + TEST_TIMEOUT;
    loop {
        let state = send(address, "GET", "/api/setup", Value::Null).await;
        if wanted(&state) {
            return state;
        }
        assert!(Instant::now() < end, "{what}: {state:#}");
        sleep(Duration::from_millis(50)).await;
    }
}

#[test]
fn battery_is_found_while_the_search_runs_and_tested() {
    let brand = sim::find("jk").unwrap();
    let battery = gatt::device(brand, BATTERY, PackState::at_rest()).unwrap();
    let headphones = json!({"address": HEADPHONES, "name": "Headphones", "adv_services": ["110b"]});
    with_fake(json!({"devices": [headphones, battery]}), async |rig| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        let variables =
            [("BMS_OPTIONS_FILE", "/nonexistent/options.json"), ("HTTP_LISTEN", &*address)];
        let environment = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let config = config::load(environment.into()).unwrap();
        let stop = CancellationToken::new();
        let running = app::App::build(&config, &app::SimOptions::default(), &stop);
        let story = async {
            let early = wait_for(&address, "a battery", |state| {
                state["found"]
                    .as_array()
                    .is_some_and(|found| found.iter().any(|device| device["address"] == BATTERY))
            });
            let state = early.await;
            let found = state["found"].as_array().unwrap();
            let device = found.iter().find(|device| device["address"] == BATTERY).unwrap();
            assert_eq!(device["type"], "jk", "{device}");
            assert_eq!(device["adapter"], "hci0");
            assert!(device["rssi"].as_i64().unwrap() < 0, "{device}");
            let stranger = found.iter().find(|device| device["address"] == HEADPHONES);
            assert!(stranger.is_none_or(|device| device["type"].is_null()), "{state}");
            wait_for(&address, "the end of the search", |state| state["searching"] == false).await;
            let target = json!({"address": BATTERY});
            assert_eq!(send(&address, "POST", "/api/setup/test", target).await, json!({}));
            let state = wait_for(&address, "the test", |state| state["test"]["running"] == false);
            let packs = &state.await["test"]["packs"];
            assert_eq!(packs[0]["type"], "jk", "{packs}");
            let values = packs[0]["values"].as_array().unwrap();
            assert!(values.iter().any(|value| value["key"] == "soc"), "{packs}");
        };
        let run = async { app::run(running, &config, stop.clone()).await };
        tokio::join!(run, async {
            story.await;
            stop.cancel();
        });
        assert!(rig.count("Connect").await >= 1);
        rig.assert_clean().await;
    });
}
