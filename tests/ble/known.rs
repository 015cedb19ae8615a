//! Failures that other programs' trackers are full of, each with its answer.

use std::time::Duration;

use bms_reader::transport::{BleConfig, LinkError};
use serde_json::{Value, json};

use crate::battery::{
    ADDRESS, OTHER, battery, battery_with, config, one, only, open, opened, read, visit,
    with_passkey,
};
use crate::rig::on_fake;

const ABORTED: &str = "le-connection-abort-by-local";
const PENDING: &str = "Operation already in progress";

fn busy() -> LinkError {
    LinkError::Busy { endpoint: ADDRESS.into() }
}

#[test]
fn a_connect_in_progress_is_cancelled_and_tried_again() {
    on_fake(one(), async |rig| {
        rig.fault("Connect", json!({"error": "InProgress", "message": PENDING}), 1).await;
        visit(&config(ADDRESS)).await.unwrap();
        let calls = rig.calls().await;
        let at = |method| calls.iter().position(|call| call == method).unwrap();
        assert!(at("Connect") < at("Disconnect"), "{calls:?}");
        assert_eq!(rig.count("Connect").await, 2);
    });
}

#[test]
fn a_connect_that_stays_in_progress_is_another_program() {
    on_fake(one(), async |rig| {
        rig.fault("Connect", json!({"error": "InProgress", "message": PENDING}), 99).await;
        assert_eq!(open(&config(ADDRESS)).await.unwrap_err(), busy());
        let tries = rig.count("Connect").await;
        assert!(tries <= 3, "{tries}");
        rig.order(json!({"cmd": "calm"})).await;
        visit(&config(ADDRESS)).await.unwrap();
    });
}

#[test]
fn a_scan_that_bluez_did_not_stop_is_used_and_left_with_its_connection() {
    on_fake(one(), async |rig| {
        rig.scan_goes_on = true;
        rig.fault("StopDiscovery", json!({"error": "InProgress", "message": PENDING}), 1).await;
        visit(&config(ADDRESS)).await.unwrap();
        let scanners = rig.state().await["scanners"].clone();
        assert_eq!(scanners.as_array().map(Vec::len), Some(1));
        // Now a new scan is refused: BlueZ thinks that it scans for us, and it does.
        rig.order(json!({"cmd": "visible", "on": false})).await;
        rig.order(json!({"cmd": "forget"})).await;
        let second = tokio::spawn(async { visit(&config(ADDRESS)).await });
        let refused =
            |event: &Value| event["event"] == "error" && event["method"] == "StartDiscovery";
        rig.heard(0, refused).await;
        rig.order(json!({"cmd": "visible", "on": true})).await;
        second.await.unwrap().unwrap();
        // That connection to the bus is not used again, and BlueZ ends the scan with it.
        visit(&config(ADDRESS)).await.unwrap();
        rig.scan_goes_on = false;
        rig.nothing_is_held().await;
        rig.scan_goes_on = true;
    });
}

#[test]
fn a_battery_that_another_program_listens_to_is_busy_and_stays_with_it() {
    let taken = battery_with(ADDRESS, json!({"connected": true}));
    on_fake(only(taken), async |rig| {
        rig.fault("StartNotify", json!({"error": "NotPermitted", "message": "Notify acquired"}), 1)
            .await;
        assert_eq!(open(&config(ADDRESS)).await.unwrap_err(), busy());
        assert_eq!(rig.count("Disconnect").await, 0);
        assert_eq!(rig.state().await["devices"][ADDRESS]["connected"], true);
        visit(&config(ADDRESS)).await.unwrap();
    });
}

#[test]
fn our_own_connection_is_given_back_when_another_program_listens() {
    on_fake(one(), async |rig| {
        rig.fault("StartNotify", json!({"error": "NotPermitted", "message": "Notify acquired"}), 1)
            .await;
        assert_eq!(open(&config(ADDRESS)).await.unwrap_err(), busy());
        assert_eq!(rig.state().await["devices"][ADDRESS]["connected"], false);
        visit(&config(ADDRESS)).await.unwrap();
    });
}

#[test]
fn an_aborted_set_up_is_tried_again() {
    on_fake(one(), async |rig| {
        rig.fault("Connect", json!({"error": "Failed", "message": ABORTED}), 2).await;
        visit(&config(ADDRESS)).await.unwrap();
        assert_eq!(rig.count("Connect").await, 3);
    });
}

#[test]
fn a_set_up_that_always_aborts_has_an_end_and_a_reason() {
    on_fake(one(), async |rig| {
        rig.fault("Connect", json!({"error": "Failed", "message": ABORTED}), 99).await;
        let error = open(&config(ADDRESS)).await.unwrap_err();
        assert_eq!(error, LinkError::Open { endpoint: ADDRESS.into(), reason: ABORTED.into() });
        assert_eq!(rig.count("Connect").await, 3);
        rig.order(json!({"cmd": "calm"})).await;
        visit(&config(ADDRESS)).await.unwrap();
    });
}

#[test]
fn a_link_that_breaks_while_its_services_are_read_is_an_error_with_an_end() {
    on_fake(only(battery_with(ADDRESS, json!({"resolve_ms": 3000}))), async |rig| {
        let opening = tokio::spawn(async { open(&config(ADDRESS)).await });
        rig.heard(0, |event| event["event"] == "connected").await;
        rig.order(json!({"cmd": "drop"})).await;
        let error = opening.await.unwrap().unwrap_err();
        assert!(matches!(error, LinkError::Open { .. }), "{error:?}");
    });
}

/// What BlueZ remembers, and whether asking anew helps.
fn remembering(services: Value) -> Value {
    only(battery_with(ADDRESS, json!({"remembers": services})))
}

#[test]
fn resolved_without_any_service_is_asked_anew() {
    on_fake(remembering(json!([])), async |rig| {
        visit(&config(ADDRESS)).await.unwrap();
        assert_eq!((rig.count("RemoveDevice").await, rig.count("StartDiscovery").await), (1, 2));
    });
}

#[test]
fn services_of_another_firmware_are_asked_anew() {
    let old = json!([{"uuid": "fff0", "characteristics": [
        {"uuid": "fff1", "properties": ["notify"]}]}]);
    on_fake(remembering(old), async |rig| {
        visit(&config(ADDRESS)).await.unwrap();
        assert_eq!(rig.count("RemoveDevice").await, 1);
    });
}

#[test]
fn a_battery_without_the_services_is_told_from_one_that_is_not_there() {
    let mut other = battery(ADDRESS);
    other["services"][0]["uuid"] = json!("fff0");
    on_fake(only(other), async |rig| {
        let error = open(&config(ADDRESS)).await.unwrap_err();
        assert_eq!(error, LinkError::NoService { endpoint: ADDRESS.into() });
        assert!(error.hint().contains("cache"), "{}", error.hint());
        // Once, not for ever.
        assert_eq!(rig.count("RemoveDevice").await, 1);
    });
}

#[test]
fn an_adapter_that_holds_a_link_is_not_deaf() {
    let away = battery_with(ADDRESS, json!({"visible": false}));
    on_fake(json!({"devices": [away, battery(OTHER)]}), async |_| {
        let held = open(&config(OTHER)).await.unwrap();
        let config = BleConfig { scan_timeout: Duration::from_secs(2), ..config(ADDRESS) };
        let error = open(&config).await.unwrap_err();
        let (endpoint, adapter) = (ADDRESS.to_owned(), "hci0".to_owned());
        assert_eq!(error, LinkError::NotSeen { endpoint, adapter, others: 1 });
        held.close().await;
    });
}

#[test]
fn a_battery_out_of_reach_is_not_seen() {
    on_fake(only(battery_with(ADDRESS, json!({"visible": false}))), async |rig| {
        let config = BleConfig { scan_timeout: Duration::from_secs(2), ..config(ADDRESS) };
        let error = open(&config).await.unwrap_err();
        let (endpoint, adapter) = (ADDRESS.to_owned(), "hci0".to_owned());
        assert_eq!(error, LinkError::NotSeen { endpoint, adapter, others: 0 });
        // The time is shorter than one turn at the adapter, so there is only one.
        assert_eq!((rig.count("StartDiscovery").await, rig.count("Connect").await), (1, 0));
        rig.order(json!({"cmd": "visible", "on": true})).await;
        visit(&config).await.unwrap();
    });
}

#[test]
fn an_adapter_that_hears_nothing_is_told_from_a_battery_that_is_away() {
    let away = battery_with(ADDRESS, json!({"visible": false}));
    on_fake(json!({"devices": [away, battery(OTHER)]}), async |rig| {
        let config = BleConfig { scan_timeout: Duration::from_secs(1), ..config(ADDRESS) };
        let away = open(&config).await.unwrap_err();
        assert_eq!(away.to_string(), format!("hci0 does not see {ADDRESS}, but another device"));
        rig.order(json!({"cmd": "visible", "on": false})).await;
        let deaf = open(&config).await.unwrap_err();
        assert_eq!(deaf.to_string(), "hci0 sees no Bluetooth device at all");
        assert_ne!(away.hint(), deaf.hint());
    });
}

#[test]
fn a_battery_that_bluez_remembers_but_is_away_is_not_seen_either() {
    let away = battery_with(ADDRESS, json!({"known": true, "visible": false}));
    on_fake(only(away), async |rig| {
        let config = BleConfig { scan_timeout: Duration::from_secs(2), ..config(ADDRESS) };
        for _ in 0..2 {
            let error = open(&config).await.unwrap_err();
            assert!(matches!(error, LinkError::NotSeen { .. }), "{error:?}");
            // Called once; from then on it has to be seen first.
            assert_eq!(rig.count("Connect").await, 1);
        }
        rig.order(json!({"cmd": "visible", "on": true})).await;
        visit(&config).await.unwrap();
    });
}

#[test]
fn a_battery_that_bluez_has_dropped_since_is_looked_for_again() {
    on_fake(one(), async |rig| {
        visit(&config(ADDRESS)).await.unwrap();
        rig.order(json!({"cmd": "forget"})).await;
        visit(&config(ADDRESS)).await.unwrap();
        assert_eq!(rig.count("StartDiscovery").await, 2);
    });
}

#[test]
fn a_connection_of_a_crashed_run_is_taken_over() {
    on_fake(only(battery_with(ADDRESS, json!({"connected": true}))), async |rig| {
        visit(&config(ADDRESS)).await.unwrap();
        assert_eq!((rig.count("Connect").await, rig.count("StartDiscovery").await), (0, 0));
        assert_eq!(rig.state().await["devices"][ADDRESS]["connected"], false);
        visit(&config(ADDRESS)).await.unwrap();
    });
}

#[test]
fn a_useless_connection_of_a_crashed_run_is_closed_and_made_anew() {
    on_fake(only(battery_with(ADDRESS, json!({"connected": true}))), async |rig| {
        rig.fault("StartNotify", json!({"error": "Failed", "message": "Not connected"}), 1).await;
        visit(&config(ADDRESS)).await.unwrap();
        assert_eq!(rig.count("Connect").await, 1);
    });
}

#[test]
fn an_object_that_vanishes_under_an_open_link_ends_it() {
    on_fake(one(), async |rig| {
        let mut link = opened().await;
        read(&mut link).await.unwrap();
        rig.order(json!({"cmd": "forget"})).await;
        let error = loop {
            if let Err(error) = read(&mut link).await {
                break error;
            }
        };
        assert!(matches!(error, LinkError::Gone { .. }), "{error:?}");
        link.close().await;
        visit(&config(ADDRESS)).await.unwrap();
    });
}

#[test]
fn after_three_failures_bluez_starts_over() {
    on_fake(one(), async |rig| {
        rig.fault("StartNotify", json!({"error": "Failed", "message": "ATT error: 0x0e"}), 3).await;
        for _ in 0..3 {
            let error = open(&config(ADDRESS)).await.unwrap_err();
            assert!(matches!(error, LinkError::Open { .. }), "{error:?}");
        }
        assert_eq!(rig.count("RemoveDevice").await, 0);
        visit(&config(ADDRESS)).await.unwrap();
        assert_eq!(rig.count("RemoveDevice").await, 1);
        visit(&config(ADDRESS)).await.unwrap();
        assert_eq!(rig.count("RemoveDevice").await, 1);
    });
}

#[test]
fn a_board_that_wants_to_be_paired_is_paired_once() {
    on_fake(only(battery_with(ADDRESS, json!({"passkey": "012345"}))), async |rig| {
        for _ in 0..2 {
            visit(&with_passkey("012345")).await.unwrap();
        }
        assert_eq!((rig.count("RegisterAgent").await, rig.count("Pair").await), (1, 1));
        // A pairing is not lost for a firmware with other services.
        assert_eq!(rig.state().await["agents"], json!([]));
    });
}

#[test]
fn a_wrong_passkey_is_told() {
    on_fake(only(battery_with(ADDRESS, json!({"passkey": "012345"}))), async |rig| {
        let error = open(&with_passkey("543210")).await.unwrap_err();
        assert!(matches!(error, LinkError::Pairing { .. }), "{error:?}");
        assert!(!format!("{error:?} {error}").contains("543210"));
        visit(&with_passkey("012345")).await.unwrap();
        assert_eq!(rig.count("Pair").await, 2);
    });
}

#[test]
fn without_a_passkey_there_is_no_agent_and_no_pairing() {
    on_fake(one(), async |rig| {
        visit(&config(ADDRESS)).await.unwrap();
        assert_eq!((rig.count("RegisterAgent").await, rig.count("Pair").await), (0, 0));
    });
}
