//! What BlueZ was seen to do, each of it survived.

use std::time::Duration;

use bms_reader::transport::{Link, LinkError};
use serde_json::json;

use crate::battery::{
    ADDRESS, ANSWER, battery_with, config, one, only, open, opened, read, receive, visit,
};
use crate::rig::{Rig, on_fake};

/// A link that has just died says so, whoever asks.
async fn is_gone(link: &mut Link) {
    let error = loop {
        match receive(link).await {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert!(matches!(error, LinkError::Gone { .. }), "{error:?}");
    assert!(matches!(link.drain(), Err(LinkError::Gone { .. })));
    assert!(matches!(link.send(b"?").await, Err(LinkError::Gone { .. })));
}

/// It works again within a few attempts, as a line makes them.
async fn comes_back() {
    let mut last = None;
    for _ in 0..40 {
        match visit(&config(ADDRESS)).await {
            Ok(()) => return,
            Err(error) => last = Some(error),
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    panic!("it never came back: {last:?}");
}

#[test]
fn connect_returns_before_the_services_are_known() {
    on_fake(only(battery_with(ADDRESS, json!({"resolve_ms": 1500}))), async |_| {
        visit(&config(ADDRESS)).await.unwrap();
    });
}

#[test]
fn a_lost_link_is_noticed_though_the_notifications_stay_open_and_silent() {
    on_fake(one(), async |rig| {
        let mut link = opened().await;
        read(&mut link).await.unwrap();
        rig.order(json!({"cmd": "drop"})).await;
        is_gone(&mut link).await;
        link.close().await;
        comes_back().await;
    });
}

#[test]
fn what_came_before_the_end_is_still_delivered() {
    on_fake(one(), async |rig| {
        let mut link = opened().await;
        rig.order(json!({"cmd": "notify", "char": "ff01", "hex": "0102"})).await;
        rig.order(json!({"cmd": "drop"})).await;
        assert_eq!(receive(&mut link).await.unwrap(), [1, 2]);
        is_gone(&mut link).await;
        link.close().await;
    });
}

#[test]
fn no_file_descriptor_is_ever_asked_for() {
    on_fake(one(), async |rig| {
        visit(&config(ADDRESS)).await.unwrap();
        assert_eq!((rig.count("AcquireNotify").await, rig.count("AcquireWrite").await), (0, 0));
    });
}

#[test]
fn after_a_reconnect_each_word_comes_once() {
    on_fake(one(), async |rig| {
        let mut link = opened().await;
        rig.order(json!({"cmd": "drop"})).await;
        is_gone(&mut link).await;
        // Not closed before the next one opens: its task ends by itself.
        let mut second = opened().await;
        rig.order(json!({"cmd": "notify", "char": "ff01", "hex": "01"})).await;
        rig.order(json!({"cmd": "notify", "char": "ff01", "hex": "02"})).await;
        assert_eq!(receive(&mut second).await.unwrap(), [1]);
        assert_eq!(receive(&mut second).await.unwrap(), [2]);
        link.close().await;
        assert_eq!(read(&mut second).await.unwrap(), ANSWER);
        second.close().await;
    });
}

#[test]
fn each_connection_subscribes_anew() {
    on_fake(one(), async |rig| {
        for round in 1..=3 {
            let mut link = opened().await;
            read(&mut link).await.unwrap();
            drop(link);
            assert_eq!(rig.count("StartNotify").await, round);
        }
    });
}

async fn survives(rig: &mut Rig, blow: serde_json::Value) {
    let mut link = opened().await;
    read(&mut link).await.unwrap();
    rig.order(blow).await;
    is_gone(&mut link).await;
    link.close().await;
    comes_back().await;
}

#[test]
fn bluetoothd_ends_and_starts_again() {
    on_fake(one(), async |rig| survives(rig, json!({"cmd": "restart"})).await);
}

#[test]
fn bluetoothd_dies_and_starts_again() {
    on_fake(one(), async |rig| {
        survives(rig, json!({"cmd": "restart", "crash": true, "down_ms": 1500})).await;
    });
}

#[test]
fn an_adapter_is_pulled_and_plugged_in_again() {
    on_fake(one(), async |rig| {
        let mut link = opened().await;
        rig.order(json!({"cmd": "adapter", "on": false})).await;
        is_gone(&mut link).await;
        link.close().await;
        let error = open(&config(ADDRESS)).await.unwrap_err();
        assert!(matches!(error, LinkError::NoAdapter { .. }), "{error:?}");
        rig.order(json!({"cmd": "adapter", "on": true})).await;
        comes_back().await;
    });
}

#[test]
fn an_adapter_is_switched_off_and_nobody_but_its_owner_switches_it_on() {
    on_fake(one(), async |rig| {
        let mut link = opened().await;
        rig.order(json!({"cmd": "power", "on": false})).await;
        is_gone(&mut link).await;
        link.close().await;
        for _ in 0..2 {
            let error = open(&config(ADDRESS)).await.unwrap_err();
            assert_eq!(error, LinkError::AdapterOff { adapter: "hci0".into() });
        }
        assert!(rig.events().iter().all(|event| event["event"] != "set"), "{:?}", rig.events());
        rig.order(json!({"cmd": "power", "on": true})).await;
        comes_back().await;
    });
}

#[test]
fn the_adapter_goes_off_during_a_scan() {
    on_fake(only(battery_with(ADDRESS, json!({"visible": false}))), async |rig| {
        let opening = tokio::spawn(async { open(&config(ADDRESS)).await });
        rig.heard(0, |event| event["method"] == "StartDiscovery").await;
        rig.order(json!({"cmd": "power", "on": false})).await;
        let error = opening.await.unwrap().unwrap_err();
        assert_eq!(error, LinkError::AdapterOff { adapter: "hci0".into() });
    });
}

#[test]
fn the_bus_dies_and_comes_back() {
    on_fake(one(), async |rig| {
        let mut link = opened().await;
        read(&mut link).await.unwrap();
        rig.end_bus();
        is_gone(&mut link).await;
        link.close().await;
        let error = open(&config(ADDRESS)).await.unwrap_err();
        assert!(matches!(error, LinkError::NoBus { .. }), "{error:?}");
        rig.new_bus();
        comes_back().await;
    });
}
