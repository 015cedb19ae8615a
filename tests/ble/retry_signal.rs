//! The signal that a battery can be reached again, without the line that waits for it.

use std::time::{Duration, Instant};

use bms_reader::transport::{BleConfig, LinkConfig, LinkError, RetrySignal};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::battery::{
    ADDRESS, OTHER, battery, battery_with, bluetooth, config as ble_config, one_battery, open,
    read_once,
};
use crate::recovery::OUTAGES;
use crate::rig::{TEST_TIMEOUT, with_fake};

fn not_seen(address: &str) -> LinkError {
    LinkError::NotSeen { endpoint: address.into(), adapter: "hci0".into(), others: 0 }
}

fn retry_signal(error: &LinkError) -> RetrySignal {
    LinkConfig::Ble(ble_config(ADDRESS)).retry_signal(error).unwrap()
}

/// Whether it comes within a moment in which nothing happens.
async fn comes_at_once(signal: &RetrySignal) -> bool {
    timeout(Duration::from_millis(500), signal.clone()).await.is_ok()
}

fn away() -> Value {
    battery_with(ADDRESS, json!({"visible": false}))
}

#[test]
fn battery_that_was_just_seen_needs_no_scan() {
    with_fake(json!({"devices": [away(), battery(OTHER)]}), async |rig| {
        read_once(&ble_config(OTHER)).await.unwrap();
        rig.command(json!({"cmd": "remove_device", "address": OTHER})).await;
        let hurried = BleConfig { scan_timeout: Duration::from_secs(1), ..ble_config(ADDRESS) };
        let error = read_once(&hurried).await.unwrap_err();
        let signal = retry_signal(&error);
        assert!(!comes_at_once(&signal).await);
        let signal = tokio::spawn(signal);
        rig.command(json!({"cmd": "visible", "on": true})).await;
        read_once(&ble_config(OTHER)).await.unwrap();
        timeout(TEST_TIMEOUT, signal).await.expect("a signal").unwrap();
        let scans = rig.count("StartDiscovery").await;
        read_once(&ble_config(ADDRESS)).await.unwrap();
        assert_eq!(rig.count("StartDiscovery").await, scans);
    });
}

#[test]
fn batteries_that_are_sought_share_the_scans() {
    with_fake(
        json!({"devices": [away(), battery_with(OTHER, json!({"visible": false}))]}),
        async |rig| {
            let signals = [ADDRESS, OTHER].map(|address| {
                let signal = LinkConfig::Ble(ble_config(address)).retry_signal(&not_seen(address));
                tokio::spawn(signal.unwrap())
            });
            rig.wait_for_event(0, |event| event["method"] == "StopDiscovery").await;
            assert!(signals.iter().all(|signal| !signal.is_finished()));
            rig.command(json!({"cmd": "visible", "on": true})).await;
            for signal in signals {
                timeout(TEST_TIMEOUT, signal).await.expect("a signal").unwrap();
            }
            // Two for each of them would be four.
            let scans = rig.count("StartDiscovery").await;
            assert!(scans < 4, "{scans} scans");
        },
    );
}

/// The rig fails if it connects during the scan.
#[test]
fn scan_for_a_missing_battery_makes_way_for_another() {
    with_fake(json!({"devices": [away(), battery(OTHER)]}), async |rig| {
        read_once(&ble_config(OTHER)).await.unwrap();
        let signal = tokio::spawn(retry_signal(&not_seen(ADDRESS)));
        let from = rig.event_count();
        rig.wait_for_event(from, |event| event["method"] == "StartDiscovery").await;
        read_once(&ble_config(OTHER)).await.unwrap();
        let mut calls = rig.calls().await;
        calls.retain(|call| ["StopDiscovery", "Connect"].contains(&&**call));
        assert_eq!(calls[..4].join(" "), "StopDiscovery Connect StopDiscovery Connect");
        signal.abort();
    });
}

#[test]
fn advertisement_is_no_signal_after_a_failed_connect() {
    with_fake(json!({"devices": [battery(ADDRESS)]}), async |_| {
        let reason = "connecting took too long".to_owned();
        let signal = retry_signal(&LinkError::Open { endpoint: ADDRESS.into(), reason });
        assert!(!comes_at_once(&signal).await);
        let found = bluetooth().scan(None, Duration::from_secs(1)).await.unwrap();
        assert_eq!(found[0].address, ADDRESS);
        assert!(!comes_at_once(&signal).await);
    });
}

/// Whatever the last error was: the battery may not have been the reason.
#[test]
fn return_of_the_adapter_is_a_signal_after_a_failed_connect() {
    with_fake(json!({"devices": [battery(ADDRESS)]}), async |rig| {
        for outage in &OUTAGES[..4] {
            let reason = "connecting took too long".to_owned();
            let signal = retry_signal(&LinkError::Open { endpoint: ADDRESS.into(), reason });
            assert!(!comes_at_once(&signal).await);
            let end = Instant::now() + TEST_TIMEOUT;
            // Again if it was not watching yet.
            loop {
                rig.command((outage.start)()).await;
                rig.command((outage.end)()).await;
                if comes_at_once(&signal).await {
                    break;
                }
                assert!(Instant::now() < end, "{}: no signal", outage.name);
            }
        }
    });
}

#[test]
fn restarted_bus_is_a_signal() {
    with_fake(json!({"devices": [battery(ADDRESS)]}), async |rig| {
        rig.kill_bus();
        let error = ble_link_error().await;
        assert!(matches!(error, LinkError::NoBus { .. }), "{error:?}");
        let signal = retry_signal(&error);
        assert!(!comes_at_once(&signal).await);
        rig.restart_bus();
        timeout(TEST_TIMEOUT, signal).await.expect("a signal");
    });
}

async fn ble_link_error() -> LinkError {
    read_once(&ble_config(ADDRESS)).await.unwrap_err()
}

/// During an attempt the signal is not awaited, and then it must not keep what the attempt needs.
#[test]
fn abandoned_wait_for_a_return_does_not_block_the_next_attempt() {
    with_fake(one_battery(), async |rig| {
        rig.suspend_bus(true);
        let config = ble_config(ADDRESS);
        let error = open(&config).await.unwrap_err();
        assert!(matches!(error, LinkError::NoBus { .. }), "{error:?}");
        let signal = LinkConfig::Ble(config.clone()).retry_signal(&error).unwrap();
        // It has begun to connect, and the bus does not answer.
        assert!(timeout(Duration::from_millis(100), signal.clone()).await.is_err());
        rig.suspend_bus(false);
        loop {
            let read = timeout(TEST_TIMEOUT / 2, read_once(&config)).await;
            match read.expect("the attempt is bounded") {
                Ok(()) => break,
                Err(error) => assert!(matches!(error, LinkError::NoBus { .. }), "{error:?}"),
            }
        }
        drop(signal);
    });
}
