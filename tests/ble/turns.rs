//! Several batteries on one adapter.

use std::time::{Duration, Instant};

use bms_reader::transport::{BleConfig, LinkError};
use serde_json::json;

use crate::battery::{ADDRESS, OTHER, battery, battery_with, config, read, visit};
use crate::rig::on_fake;

const THIRD: &str = "A4:C1:37:00:12:36";

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
    on_fake(devices, async |_| {
        let dead = [OTHER, THIRD].map(|address| {
            tokio::spawn(async move {
                let config = BleConfig { scan_timeout: Duration::from_secs(60), ..config(address) };
                loop {
                    let error = visit(&config).await.unwrap_err();
                    assert!(matches!(error, LinkError::NotSeen { .. }), "{error:?}");
                }
            })
        });
        let mut longest = Duration::ZERO;
        for _ in 0..3 {
            let begun = Instant::now();
            visit(&config(ADDRESS)).await.unwrap();
            longest = longest.max(begun.elapsed());
        }
        // Two dead ones with a turn each: 8 s of calling the one that BlueZ knows, 5 s of looking.
        assert!(longest < Duration::from_secs(25), "{longest:?}");
        println!("measured: the longest visit beside two dead batteries took {longest:?}");
        for task in dead {
            assert!(!task.is_finished());
            task.abort();
        }
    });
}
