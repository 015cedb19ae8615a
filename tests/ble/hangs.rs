//! Calls that BlueZ never answers: each wait has an end, and the next attempt works.

use std::time::Duration;

use bms_reader::transport::{BleConfig, LinkError};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::battery::{
    ADDRESS, OTHER, battery, battery_with, config, one, only, open, opened, read, visit,
    with_passkey,
};
use crate::rig::{PATIENCE, Rig, on_fake};

fn hurried() -> BleConfig {
    BleConfig { timeout: Duration::from_secs(5), ..config(ADDRESS) }
}

async fn hangs(rig: &mut Rig, method: &str, fault: Value) -> LinkError {
    rig.fault(method, fault, 1).await;
    let error = visit(&hurried()).await.unwrap_err();
    rig.order(json!({"cmd": "calm"})).await;
    visit(&config(ADDRESS)).await.unwrap();
    error
}

#[test]
fn a_connect_that_hangs() {
    on_fake(one(), async |rig| {
        let error = hangs(rig, "Connect", json!({"hang": true})).await;
        assert!(matches!(error, LinkError::Open { .. }), "{error:?}");
    });
}

#[test]
fn a_subscription_that_hangs() {
    on_fake(one(), async |rig| {
        let error = hangs(rig, "StartNotify", json!({"hang": true})).await;
        assert!(matches!(error, LinkError::Open { .. }), "{error:?}");
    });
}

#[test]
fn a_subscription_that_hangs_does_not_hold_another_battery_up() {
    let two = json!({"devices": [battery(ADDRESS), battery(OTHER)]});
    on_fake(two, async |rig| {
        rig.fault("StartNotify", json!({"hang": true}), 1).await;
        let first = tokio::spawn(async { visit(&config(ADDRESS)).await });
        rig.heard(0, |event| event["event"] == "fault").await;
        let mut second = visit(&config(OTHER)).await;
        if second.is_err() {
            // It waited for the same lock in bluer; by now there is a new connection to the bus.
            second = visit(&config(OTHER)).await;
        }
        second.unwrap();
        first.await.unwrap().unwrap_err();
        visit(&config(ADDRESS)).await.unwrap();
    });
}

#[test]
fn a_scan_that_does_not_start() {
    on_fake(one(), async |rig| {
        let error = hangs(rig, "StartDiscovery", json!({"hang": true})).await;
        assert!(matches!(error, LinkError::NoBus { .. }), "{error:?}");
    });
}

#[test]
fn a_scan_that_does_not_stop() {
    on_fake(one(), async |rig| {
        rig.scan_goes_on = true;
        let error = hangs(rig, "StopDiscovery", json!({"hang": true})).await;
        assert!(matches!(error, LinkError::NoBus { .. }), "{error:?}");
    });
}

#[test]
fn a_write_that_hangs() {
    on_fake(one(), async |rig| {
        let error = hangs(rig, "WriteValue", json!({"hang": true})).await;
        assert_eq!(error, LinkError::Stuck { endpoint: ADDRESS.into() });
    });
}

#[test]
fn a_bluetoothd_that_answers_nothing() {
    on_fake(one(), async |rig| {
        rig.fault("GetManagedObjects", json!({"hang": true}), 1).await;
        // Once is overcome with another connection to the bus.
        visit(&config(ADDRESS)).await.unwrap();
        rig.fault("Get", json!({"hang": true}), 500).await;
        let error = open(&config(ADDRESS)).await.unwrap_err();
        assert!(matches!(error, LinkError::NoBus { .. }), "{error:?}");
        rig.order(json!({"cmd": "calm"})).await;
        visit(&config(ADDRESS)).await.unwrap();
    });
}

#[test]
fn a_goodbye_that_hangs() {
    on_fake(one(), async |rig| {
        let mut link = opened().await;
        read(&mut link).await.unwrap();
        rig.fault("Disconnect", json!({"hang": true}), 1).await;
        timeout(PATIENCE, link.close()).await.expect("closing has an end");
        // It was said a second time.
        assert_eq!(rig.state().await["devices"][ADDRESS]["connected"], false);
        visit(&config(ADDRESS)).await.unwrap();
    });
}

#[test]
fn a_pairing_that_hangs() {
    let board = battery_with(ADDRESS, json!({"passkey": "012345"}));
    on_fake(only(board), async |rig| {
        rig.fault("Pair", json!({"hang": true}), 1).await;
        let config = BleConfig { timeout: Duration::from_secs(4), ..with_passkey("012345") };
        open(&config).await.unwrap_err();
        visit(&with_passkey("012345")).await.unwrap();
    });
}

#[test]
fn services_that_never_come() {
    let board = battery_with(ADDRESS, json!({"resolve_ms": -1}));
    on_fake(only(board), async |rig| {
        let error = open(&hurried()).await.unwrap_err();
        assert!(matches!(error, LinkError::Open { .. }), "{error:?}");
        rig.order(json!({"cmd": "spec", "set": {"resolve_ms": 100}})).await;
        visit(&config(ADDRESS)).await.unwrap();
    });
}
