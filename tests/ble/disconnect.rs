//! However an attempt or a link ends, the battery is disconnected.

use std::time::Duration;

use bms_reader::transport::LinkError;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::battery::{
    ADDRESS, OTHER, battery_with, config, one_battery, open, open_default, read, read_once, single,
    two_batteries,
};
use crate::rig::with_fake;

#[test]
fn dropped_link_disconnects() {
    with_fake(one_battery(), async |rig| {
        let mut link = open_default().await;
        read(&mut link).await.unwrap();
        drop(link);
        rig.assert_clean().await;
        assert_eq!(rig.count("Disconnect").await, 1);
    });
}

#[test]
fn second_link_waits_for_the_end_of_the_first() {
    with_fake(one_battery(), async |rig| {
        let mut first = open_default().await;
        read(&mut first).await.unwrap();
        drop(first);
        drop(open_default().await);
        // It did not adopt the connection that was about to end.
        assert_eq!(rig.count("Connect").await, 2);
    });
}

#[test]
fn second_link_to_the_same_battery_is_refused() {
    with_fake(one_battery(), async |_| {
        let mut first = open_default().await;
        let error = open(&config(ADDRESS)).await.unwrap_err();
        assert!(error.to_string().contains("our last connection"), "{error}");
        assert!(matches!(error, LinkError::Open { .. }), "not busy: there is no other program");
        read(&mut first).await.unwrap();
        first.close().await;
    });
}

#[test]
fn cancelled_opening_disconnects_at_any_point() {
    let slow = battery_with(ADDRESS, json!({"connect_ms": 150, "resolve_ms": 150}));
    with_fake(single(slow), async |rig| {
        for delay in (0..1000).step_by(60) {
            let config = config(ADDRESS);
            if let Ok(link) = timeout(Duration::from_millis(delay), open(&config)).await {
                drop(link.unwrap());
            }
            rig.assert_clean().await;
            rig.command(json!({"cmd": "remove_device"})).await;
        }
        read_once(&config(ADDRESS)).await.unwrap();
    });
}

#[test]
fn two_cancelled_openings_do_not_overlap() {
    let slow = |address| battery_with(address, json!({"connect_ms": 300}));
    with_fake(json!({"devices": [slow(ADDRESS), slow(OTHER)]}), async |_| {
        for delay in (0..1200).step_by(150) {
            let both = [ADDRESS, OTHER].map(|address| {
                tokio::spawn(async move {
                    let config = config(address);
                    let _ = timeout(Duration::from_millis(delay), open(&config)).await;
                })
            });
            for opening in both {
                opening.await.unwrap();
            }
        }
    });
}

/// Another open link keeps the bus connection alive, and with it what was started over it.
#[test]
fn late_subscription_is_stopped() {
    with_fake(two_batteries(), async |rig| {
        let other = open(&config(OTHER)).await.unwrap();
        rig.fault("StartNotify", json!({"hold": true}), 1).await;
        open(&config(ADDRESS)).await.unwrap_err();
        let subscribers = |state: &Value| state["devices"][ADDRESS]["sessions"]["ff01"].clone();
        assert_ne!(subscribers(&rig.state().await), json!([]));
        rig.command(json!({"cmd": "clear_faults"})).await;
        rig.wait_for_state(|state| subscribers(state) == json!([])).await;
        other.close().await;
        read_once(&config(ADDRESS)).await.unwrap();
    });
}

#[test]
fn late_scan_is_stopped() {
    with_fake(two_batteries(), async |rig| {
        let other = open(&config(OTHER)).await.unwrap();
        // The scan for the other has seen both.
        rig.command(json!({"cmd": "remove_device", "address": ADDRESS})).await;
        rig.fault("StartDiscovery", json!({"hold": true}), 1).await;
        open(&config(ADDRESS)).await.unwrap_err();
        assert_ne!(rig.state().await["scanners"], json!([]));
        rig.command(json!({"cmd": "clear_faults"})).await;
        rig.wait_for_state(|state| state["scanners"] == json!([])).await;
        other.close().await;
        read_once(&config(ADDRESS)).await.unwrap();
    });
}
