//! Several batteries on one adapter.

use std::time::Duration;

use bms_reader::transport::{BleConfig, LinkError};
use serde_json::json;

use crate::battery::{ADDRESS, OTHER, battery, battery_with, config, read, visit};
use crate::rig::on_fake;

const THIRD: &str = "A4:C1:37:00:12:36";

/// Where BlueZ has the device of that address.
fn path(address: &str) -> String {
    format!("/org/bluez/hci0/dev_{}", address.replace(':', "_"))
}

#[test]
fn two_batteries_are_read_at_the_same_time_and_connected_one_after_the_other() {
    let slow = |address| battery_with(address, json!({"connect_ms": 400}));
    on_fake(json!({"devices": [slow(ADDRESS), slow(OTHER)]}), async |rig| {
        let both = [ADDRESS, OTHER].map(|address| {
            tokio::spawn(async move { crate::battery::open(&config(address)).await.unwrap() })
        });
        let mut links = Vec::new();
        for link in both {
            links.push(link.await.unwrap());
        }
        for link in &mut links {
            read(link).await.unwrap();
        }
        let state = rig.state().await;
        assert!([ADDRESS, OTHER].iter().all(|it| state["devices"][it]["connected"] == true));
        // Letting one go leaves the other alone.
        links.pop().unwrap().close().await;
        read(&mut links[0]).await.unwrap();
        links.pop().unwrap().close().await;
    });
}

#[test]
fn dead_batteries_do_not_starve_a_live_one() {
    let dead = |address, known| battery_with(address, json!({"visible": false, "known": known}));
    let devices = json!({"devices": [dead(OTHER, true), dead(THIRD, false), battery(ADDRESS)]});
    on_fake(devices, async |rig| {
        let dead = [OTHER, THIRD].map(|address| {
            tokio::spawn(async move {
                let config = BleConfig { scan_timeout: Duration::from_secs(60), ..config(address) };
                loop {
                    let error = visit(&config).await.unwrap_err();
                    assert!(matches!(error, LinkError::NotSeen { .. }), "{error:?}");
                }
            })
        });
        for _ in 0..3 {
            let from = rig.events().len();
            visit(&config(ADDRESS)).await.unwrap();
            let mut calls = rig.events().split_off(from);
            calls.retain(|call| {
                ["StartDiscovery", "Connect"].iter().any(|method| call["method"] == *method)
            });
            let ours = path(ADDRESS);
            let turn = calls.iter().position(|call| call["path"] == ours.as_str()).unwrap();
            // One turn of each dead battery may come first, and our own scan.
            assert!(turn <= 3, "{calls:#?}");
        }
        for task in dead {
            assert!(!task.is_finished());
            task.abort();
        }
    });
}
