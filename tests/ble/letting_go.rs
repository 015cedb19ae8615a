//! However an attempt or a link ends, the battery is let go.

use std::time::Duration;

use bms_reader::transport::LinkError;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::battery::{
    ADDRESS, OTHER, battery, battery_with, config, one, only, open, opened, read, visit,
};
use crate::rig::on_fake;

#[test]
fn a_dropped_link_says_goodbye() {
    on_fake(one(), async |rig| {
        let mut link = opened().await;
        read(&mut link).await.unwrap();
        drop(link);
        rig.nothing_is_left().await;
        assert_eq!(rig.count("Disconnect").await, 1);
    });
}

#[test]
fn a_second_conversation_waits_for_the_end_of_the_first() {
    on_fake(one(), async |rig| {
        let mut first = opened().await;
        read(&mut first).await.unwrap();
        drop(first);
        drop(opened().await);
        // Nobody took over what was about to be ended.
        assert_eq!(rig.count("Connect").await, 2);
        rig.nothing_is_left().await;

        let mut kept = opened().await;
        let error = open(&config(ADDRESS)).await.unwrap_err();
        assert!(error.to_string().contains("our last connection"), "{error}");
        assert!(matches!(error, LinkError::Open { .. }), "no other program");
        read(&mut kept).await.unwrap();
        kept.close().await;
    });
}

#[test]
fn two_that_give_up_at_once_do_not_get_in_each_others_way() {
    let slow = |address| battery_with(address, json!({"connect_ms": 300}));
    on_fake(json!({"devices": [slow(ADDRESS), slow(OTHER)]}), async |_| {
        for patience in (0..1200).step_by(150) {
            let both = [ADDRESS, OTHER].map(|address| {
                tokio::spawn(async move {
                    let config = config(address);
                    let _ = timeout(Duration::from_millis(patience), open(&config)).await;
                })
            });
            for one in both {
                one.await.unwrap();
            }
        }
    });
}

#[test]
fn an_opening_that_is_given_up_leaves_nothing_wherever_it_is() {
    let slow = battery_with(ADDRESS, json!({"connect_ms": 150, "resolve_ms": 150}));
    on_fake(only(slow), async |rig| {
        for patience in (0..1000).step_by(60) {
            let config = config(ADDRESS);
            if let Ok(link) = timeout(Duration::from_millis(patience), open(&config)).await {
                drop(link.unwrap());
            }
            rig.nothing_is_left().await;
            rig.order(json!({"cmd": "forget"})).await;
        }
        visit(&config(ADDRESS)).await.unwrap();
    });
}

/// Another open link keeps the connection to the bus, and with it everything that hangs on it.
#[test]
fn late_subscription_is_stopped() {
    on_fake(two(), async |rig| {
        let other = open(&config(OTHER)).await.unwrap();
        rig.fault("StartNotify", json!({"hold": true}), 1).await;
        open(&config(ADDRESS)).await.unwrap_err();
        let subscribers = |state: &Value| state["devices"][ADDRESS]["sessions"]["ff01"].clone();
        assert_ne!(subscribers(&rig.state().await), json!([]));
        rig.order(json!({"cmd": "calm"})).await;
        rig.until(|state| subscribers(state) == json!([])).await;
        other.close().await;
        visit(&config(ADDRESS)).await.unwrap();
    });
}

#[test]
fn late_scan_is_stopped() {
    on_fake(two(), async |rig| {
        let other = open(&config(OTHER)).await.unwrap();
        // Its scan saw both.
        rig.order(json!({"cmd": "forget", "address": ADDRESS})).await;
        rig.fault("StartDiscovery", json!({"hold": true}), 1).await;
        open(&config(ADDRESS)).await.unwrap_err();
        assert_ne!(rig.state().await["scanners"], json!([]));
        rig.order(json!({"cmd": "calm"})).await;
        rig.until(|state| state["scanners"] == json!([])).await;
        other.close().await;
        visit(&config(ADDRESS)).await.unwrap();
    });
}

fn two() -> Value {
    json!({"devices": [battery(ADDRESS), battery(OTHER)]})
}
