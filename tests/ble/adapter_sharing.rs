//! Several batteries on one adapter.

use std::time::Duration;

use bms_reader::transport::{BleConfig, LinkError};
use serde_json::json;

use crate::battery::{ADDRESS, OTHER, battery, battery_with, config, open, read, read_once};
use crate::rig::{Rig, with_fake};

const THIRD: &str = "A4:C1:37:00:12:36";

/// The rig fails if their connects overlap.
#[test]
fn two_batteries_are_connected_at_the_same_time() {
    let slow = |address| battery_with(address, json!({"connect_ms": 400}));
    with_fake(json!({"devices": [slow(ADDRESS), slow(OTHER)]}), async |rig| {
        let both = [ADDRESS, OTHER]
            .map(|address| tokio::spawn(async move { open(&config(address)).await.unwrap() }));
        let mut links = Vec::new();
        for link in both {
            links.push(link.await.unwrap());
        }
        for link in &mut links {
            read(link).await.unwrap();
        }
        let devices = rig.state().await["devices"].clone();
        assert!([ADDRESS, OTHER].iter().all(|address| devices[address]["connected"] == true));
        // Closing one leaves the other alone.
        links.pop().unwrap().close().await;
        read(&mut links[0]).await.unwrap();
        links.pop().unwrap().close().await;
    });
}

#[test]
fn unreachable_batteries_do_not_starve_another() {
    let dead = |address, known| battery_with(address, json!({"visible": false, "known": known}));
    let devices = json!({"devices": [dead(OTHER, true), dead(THIRD, false), battery(ADDRESS)]});
    with_fake(devices, async |rig| {
        let dead = [OTHER, THIRD].map(|address| {
            tokio::spawn(async move {
                let config = BleConfig { scan_timeout: Duration::from_secs(60), ..config(address) };
                loop {
                    let error = read_once(&config).await.unwrap_err();
                    assert!(matches!(error, LinkError::NotSeen { .. }), "{error:?}");
                }
            })
        });
        for _ in 0..3 {
            let from = rig.event_count();
            read_once(&config(ADDRESS)).await.unwrap();
            let mut calls = rig.events().split_off(from);
            calls.retain(|call| {
                ["StartDiscovery", "Connect"].iter().any(|method| call["method"] == *method)
            });
            let own = Rig::device_path(ADDRESS);
            let turn = calls.iter().position(|call| call["path"] == own.as_str()).unwrap();
            // One turn of each dead battery may come first, and our own scan.
            assert!(turn <= 3, "{calls:#?}");
        }
        for task in dead {
            assert!(!task.is_finished());
            task.abort();
        }
    });
}
