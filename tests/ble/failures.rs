//! Failures of BlueZ that the issue trackers of other programs are full of, each with its remedy.

use bms_reader::transport::LinkError;
use serde_json::{Value, json};

use crate::battery::{
    ADDRESS, battery_with, config, one_battery, open, open_default, read, read_once, single,
};
use crate::rig::with_fake;

const ABORTED: &str = "le-connection-abort-by-local";

fn in_progress() -> Value {
    json!({"error": "InProgress", "message": "Operation already in progress"})
}

fn aborted() -> Value {
    json!({"error": "Failed", "message": ABORTED})
}

fn notify_acquired() -> Value {
    json!({"error": "NotPermitted", "message": "Notify acquired"})
}

fn busy() -> LinkError {
    LinkError::Busy { endpoint: ADDRESS.into(), program: None }
}

#[test]
fn pending_connect_is_cancelled_and_retried() {
    with_fake(one_battery(), async |rig| {
        rig.fault("Connect", in_progress(), 1).await;
        read_once(&config(ADDRESS)).await.unwrap();
        let calls = rig.calls().await;
        let first = |method| calls.iter().position(|call| call == method).unwrap();
        assert!(first("Connect") < first("Disconnect"), "{calls:?}");
        assert_eq!(rig.count("Connect").await, 2);
    });
}

#[test]
fn connect_that_stays_pending_is_busy() {
    with_fake(one_battery(), async |rig| {
        rig.fault("Connect", in_progress(), 99).await;
        assert_eq!(open(&config(ADDRESS)).await.unwrap_err(), busy());
        assert_eq!(rig.count("Connect").await, 3);
        rig.command(json!({"cmd": "clear_faults"})).await;
        read_once(&config(ADDRESS)).await.unwrap();
    });
}

#[test]
fn aborted_connect_is_retried() {
    with_fake(one_battery(), async |rig| {
        rig.fault("Connect", aborted(), 2).await;
        read_once(&config(ADDRESS)).await.unwrap();
        assert_eq!(rig.count("Connect").await, 3);
    });
}

#[test]
fn connect_that_always_aborts_is_an_open_error() {
    with_fake(one_battery(), async |rig| {
        rig.fault("Connect", aborted(), 99).await;
        let error = open(&config(ADDRESS)).await.unwrap_err();
        assert_eq!(error, LinkError::Open { endpoint: ADDRESS.into(), reason: ABORTED.into() });
        assert_eq!(rig.count("Connect").await, 3);
        rig.command(json!({"cmd": "clear_faults"})).await;
        read_once(&config(ADDRESS)).await.unwrap();
    });
}

#[test]
fn connection_of_another_program_is_left_open() {
    let connected = battery_with(ADDRESS, json!({"connected": true}));
    with_fake(single(connected), async |rig| {
        rig.fault("StartNotify", notify_acquired(), 1).await;
        assert_eq!(open(&config(ADDRESS)).await.unwrap_err(), busy());
        assert_eq!(rig.count("Disconnect").await, 0);
        assert_eq!(rig.state().await["devices"][ADDRESS]["connected"], true);
        read_once(&config(ADDRESS)).await.unwrap();
    });
}

#[test]
fn own_connection_is_closed_when_another_program_has_subscribed() {
    with_fake(one_battery(), async |rig| {
        rig.fault("StartNotify", notify_acquired(), 1).await;
        assert_eq!(open(&config(ADDRESS)).await.unwrap_err(), busy());
        assert_eq!(rig.state().await["devices"][ADDRESS]["connected"], false);
        read_once(&config(ADDRESS)).await.unwrap();
    });
}

#[test]
fn connection_of_a_crashed_run_is_adopted() {
    with_fake(single(battery_with(ADDRESS, json!({"connected": true}))), async |rig| {
        read_once(&config(ADDRESS)).await.unwrap();
        assert_eq!((rig.count("Connect").await, rig.count("StartDiscovery").await), (0, 0));
        assert_eq!(rig.state().await["devices"][ADDRESS]["connected"], false);
        read_once(&config(ADDRESS)).await.unwrap();
    });
}

#[test]
fn unusable_connection_of_a_crashed_run_is_replaced() {
    with_fake(single(battery_with(ADDRESS, json!({"connected": true}))), async |rig| {
        rig.fault("StartNotify", json!({"error": "Failed", "message": "Not connected"}), 1).await;
        read_once(&config(ADDRESS)).await.unwrap();
        assert_eq!(rig.count("Connect").await, 1);
    });
}

#[test]
fn connection_lost_before_services_are_resolved_is_an_open_error() {
    with_fake(single(battery_with(ADDRESS, json!({"resolve_ms": -1}))), async |rig| {
        let opening = tokio::spawn(async { open(&config(ADDRESS)).await });
        rig.wait_for_event(0, |event| event["event"] == "connected").await;
        rig.command(json!({"cmd": "drop"})).await;
        let error = opening.await.unwrap().unwrap_err();
        assert!(matches!(error, LinkError::Open { .. }), "{error:?}");
    });
}

#[test]
fn device_removed_from_bluez_ends_the_link() {
    with_fake(one_battery(), async |rig| {
        let mut link = open_default().await;
        read(&mut link).await.unwrap();
        rig.command(json!({"cmd": "remove_device"})).await;
        let error = loop {
            if let Err(error) = read(&mut link).await {
                break error;
            }
        };
        assert!(matches!(error, LinkError::Gone { .. }), "{error:?}");
        link.close().await;
        read_once(&config(ADDRESS)).await.unwrap();
    });
}

#[test]
fn device_is_removed_from_bluez_after_three_failures() {
    with_fake(one_battery(), async |rig| {
        rig.fault("StartNotify", json!({"error": "Failed", "message": "ATT error: 0x0e"}), 3).await;
        for _ in 0..3 {
            let error = open(&config(ADDRESS)).await.unwrap_err();
            assert!(matches!(error, LinkError::Open { .. }), "{error:?}");
        }
        assert_eq!(rig.count("RemoveDevice").await, 0);
        for _ in 0..2 {
            read_once(&config(ADDRESS)).await.unwrap();
            assert_eq!(rig.count("RemoveDevice").await, 1);
        }
    });
}
