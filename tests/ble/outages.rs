//! Lost connections, and restarts of bluetoothd, the adapter and the bus.

use std::time::Duration;

use bms_reader::transport::{Link, LinkError};
use serde_json::{Value, json};

use crate::battery::{
    ADDRESS, REPLY, battery_with, config, one_battery, open, open_default, read, read_once,
    receive, single,
};
use crate::rig::{Rig, with_fake};

/// Waits until the link reports its end.
async fn assert_gone(link: &mut Link) {
    let error = loop {
        if let Err(error) = receive(link).await {
            break error;
        }
    };
    assert!(matches!(error, LinkError::Gone { .. }), "{error:?}");
    assert!(matches!(link.drain(), Err(LinkError::Gone { .. })));
    assert!(matches!(link.send(b"?").await, Err(LinkError::Gone { .. })));
}

/// The battery can be read again within a few attempts.
async fn assert_recovers() {
    let mut last = None;
    for _ in 0..40 {
        match read_once(&config(ADDRESS)).await {
            Ok(()) => return,
            Err(error) => last = Some(error),
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    panic!("not readable again: {last:?}");
}

/// An open link ends with this outage, and the battery can be read again afterwards.
async fn assert_survives(rig: &mut Rig, outage: Value) {
    let mut link = open_default().await;
    read(&mut link).await.unwrap();
    rig.command(outage).await;
    assert_gone(&mut link).await;
    link.close().await;
    assert_recovers().await;
}

#[test]
fn services_resolved_after_connect_are_awaited() {
    with_fake(single(battery_with(ADDRESS, json!({"resolve_ms": 1500}))), async |_| {
        read_once(&config(ADDRESS)).await.unwrap();
    });
}

#[test]
fn lost_connection_ends_the_link() {
    with_fake(one_battery(), async |rig| assert_survives(rig, json!({"cmd": "drop"})).await);
}

#[test]
fn chunks_before_the_end_are_delivered() {
    with_fake(one_battery(), async |rig| {
        let mut link = open_default().await;
        rig.command(json!({"cmd": "notify", "char": "ff01", "hex": "0102"})).await;
        rig.command(json!({"cmd": "drop"})).await;
        assert_eq!(receive(&mut link).await.unwrap(), [1, 2]);
        assert_gone(&mut link).await;
        link.close().await;
    });
}

#[test]
fn chunks_arrive_once_after_a_reconnect() {
    with_fake(one_battery(), async |rig| {
        let mut link = open_default().await;
        rig.command(json!({"cmd": "drop"})).await;
        assert_gone(&mut link).await;
        // The first link is not closed yet, but its task has ended.
        let mut second = open_default().await;
        rig.command(json!({"cmd": "notify", "char": "ff01", "hex": "01"})).await;
        rig.command(json!({"cmd": "notify", "char": "ff01", "hex": "02"})).await;
        assert_eq!(receive(&mut second).await.unwrap(), [1]);
        assert_eq!(receive(&mut second).await.unwrap(), [2]);
        link.close().await;
        assert_eq!(read(&mut second).await.unwrap(), REPLY);
        second.close().await;
    });
}

#[test]
fn each_connection_subscribes_once() {
    with_fake(one_battery(), async |rig| {
        for round in 1..=3 {
            let mut link = open_default().await;
            read(&mut link).await.unwrap();
            drop(link);
            assert_eq!(rig.count("StartNotify").await, round);
        }
    });
}

#[test]
fn bluetoothd_restart() {
    with_fake(one_battery(), async |rig| assert_survives(rig, json!({"cmd": "restart"})).await);
}

#[test]
fn bluetoothd_crash() {
    with_fake(one_battery(), async |rig| {
        assert_survives(rig, json!({"cmd": "restart", "crash": true, "down_ms": 1500})).await;
    });
}

#[test]
fn unplugged_adapter() {
    with_fake(one_battery(), async |rig| {
        let mut link = open_default().await;
        rig.command(json!({"cmd": "adapter", "on": false})).await;
        assert_gone(&mut link).await;
        link.close().await;
        let error = open(&config(ADDRESS)).await.unwrap_err();
        assert_eq!(error, LinkError::NoAdapter { adapter: None });
        rig.command(json!({"cmd": "adapter", "on": true})).await;
        assert_recovers().await;
    });
}

#[test]
fn switched_off_adapter_is_never_switched_on() {
    with_fake(one_battery(), async |rig| {
        let mut link = open_default().await;
        rig.command(json!({"cmd": "power", "on": false})).await;
        assert_gone(&mut link).await;
        link.close().await;
        for _ in 0..2 {
            let error = open(&config(ADDRESS)).await.unwrap_err();
            assert_eq!(error, LinkError::AdapterOff { adapter: "hci0".into() });
        }
        assert!(rig.events().iter().all(|event| event["event"] != "set"), "{:?}", rig.events());
        rig.command(json!({"cmd": "power", "on": true})).await;
        assert_recovers().await;
    });
}

#[test]
fn restarted_bus() {
    with_fake(one_battery(), async |rig| {
        let mut link = open_default().await;
        read(&mut link).await.unwrap();
        rig.kill_bus();
        assert_gone(&mut link).await;
        link.close().await;
        let error = open(&config(ADDRESS)).await.unwrap_err();
        assert!(matches!(error, LinkError::NoBus { .. }), "{error:?}");
        rig.restart_bus();
        assert_recovers().await;
    });
}
