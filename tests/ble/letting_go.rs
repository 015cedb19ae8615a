//! However an attempt or a link ends, the battery is let go.

use std::time::Duration;

use serde_json::json;
use tokio::time::timeout;

use crate::battery::{ADDRESS, battery_with, config, one, only, open, opened, read, visit};
use crate::rig::on_fake;

#[test]
fn a_dropped_link_says_goodbye() {
    on_fake(one(), async |rig| {
        let mut link = opened().await;
        read(&mut link).await.unwrap();
        drop(link);
        rig.nothing_is_left().await;
        assert_eq!(rig.count("Disconnect"), 1);
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

#[test]
fn a_subscription_that_is_confirmed_after_its_time_is_stopped() {
    on_fake(one(), async |rig| {
        rig.fault("StartNotify", json!({"delay_ms": 8000}), 1).await;
        open(&config(ADDRESS)).await.unwrap_err();
        rig.nothing_is_left().await;
        visit(&config(ADDRESS)).await.unwrap();
    });
}

#[test]
fn a_scan_that_is_confirmed_after_its_time_is_stopped() {
    on_fake(one(), async |rig| {
        rig.fault("StartDiscovery", json!({"delay_ms": 6000}), 1).await;
        open(&config(ADDRESS)).await.unwrap_err();
        tokio::time::sleep(Duration::from_secs(3)).await;
        rig.nothing_is_left().await;
        visit(&config(ADDRESS)).await.unwrap();
    });
}
