//! Calls that BlueZ never answers: each wait is bounded, and the next attempt succeeds.

use std::time::Duration;

use bms_reader::transport::{BleConfig, LinkError};
use serde_json::json;
use tokio::time::timeout;

use crate::battery::{
    ADDRESS, OTHER, battery_with, config, one_battery, open, open_default, read, read_once, single,
    two_batteries,
};
use crate::rig::{Rig, TEST_TIMEOUT, with_fake};

fn hurried() -> BleConfig {
    BleConfig { timeout: Duration::from_secs(5), ..config(ADDRESS) }
}

/// The error of a reading during which BlueZ does not answer one call.
async fn read_with_hanging(rig: &mut Rig, method: &str) -> LinkError {
    rig.fault(method, json!({"hang": true}), 1).await;
    let error = read_once(&hurried()).await.unwrap_err();
    rig.command(json!({"cmd": "clear_faults"})).await;
    read_once(&config(ADDRESS)).await.unwrap();
    error
}

#[test]
fn connect() {
    with_fake(one_battery(), async |rig| {
        let error = read_with_hanging(rig, "Connect").await;
        assert!(matches!(error, LinkError::Open { .. }), "{error:?}");
    });
}

#[test]
fn subscription() {
    with_fake(one_battery(), async |rig| {
        let error = read_with_hanging(rig, "StartNotify").await;
        assert!(matches!(error, LinkError::Open { .. }), "{error:?}");
    });
}

#[test]
fn hanging_subscription_does_not_block_another_battery() {
    with_fake(two_batteries(), async |rig| {
        rig.fault("StartNotify", json!({"hang": true}), 1).await;
        let first = tokio::spawn(async { read_once(&config(ADDRESS)).await });
        rig.wait_for_event(0, |event| event["event"] == "fault").await;
        let mut second = read_once(&config(OTHER)).await;
        if second.is_err() {
            // It waited for the same lock in bluer; by now there is a new connection to the bus.
            second = read_once(&config(OTHER)).await;
        }
        second.unwrap();
        first.await.unwrap().unwrap_err();
        read_once(&config(ADDRESS)).await.unwrap();
    });
}

#[test]
fn scan_start() {
    with_fake(one_battery(), async |rig| {
        let error = read_with_hanging(rig, "StartDiscovery").await;
        assert!(matches!(error, LinkError::NoBus { .. }), "{error:?}");
    });
}

#[test]
fn scan_stop() {
    with_fake(one_battery(), async |rig| {
        rig.scan_may_remain = true;
        let error = read_with_hanging(rig, "StopDiscovery").await;
        assert!(matches!(error, LinkError::NoBus { .. }), "{error:?}");
    });
}

#[test]
fn write() {
    with_fake(one_battery(), async |rig| {
        let error = read_with_hanging(rig, "WriteValue").await;
        assert_eq!(error, LinkError::Stuck { endpoint: ADDRESS.into() });
    });
}

#[test]
fn single_bus_call_is_overcome_by_a_new_connection() {
    with_fake(one_battery(), async |rig| {
        rig.fault("GetManagedObjects", json!({"hang": true}), 1).await;
        read_once(&config(ADDRESS)).await.unwrap();
    });
}

#[test]
fn every_property_read() {
    with_fake(one_battery(), async |rig| {
        rig.fault("Get", json!({"hang": true}), 500).await;
        let error = open(&config(ADDRESS)).await.unwrap_err();
        assert!(matches!(error, LinkError::NoBus { .. }), "{error:?}");
        rig.command(json!({"cmd": "clear_faults"})).await;
        read_once(&config(ADDRESS)).await.unwrap();
    });
}

#[test]
fn disconnect_is_repeated() {
    with_fake(one_battery(), async |rig| {
        let mut link = open_default().await;
        read(&mut link).await.unwrap();
        rig.fault("Disconnect", json!({"hang": true}), 1).await;
        timeout(TEST_TIMEOUT, link.close()).await.expect("closing is bounded");
        assert_eq!(rig.state().await["devices"][ADDRESS]["connected"], false);
        read_once(&config(ADDRESS)).await.unwrap();
    });
}

#[test]
fn service_discovery() {
    with_fake(single(battery_with(ADDRESS, json!({"resolve_ms": -1}))), async |rig| {
        let error = open(&hurried()).await.unwrap_err();
        assert!(matches!(error, LinkError::Open { .. }), "{error:?}");
        rig.command(json!({"cmd": "spec", "set": {"resolve_ms": 100}})).await;
        read_once(&config(ADDRESS)).await.unwrap();
    });
}
