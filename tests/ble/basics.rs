//! Opening, reading and closing a link when nothing fails.

use std::time::Duration;

use bms_reader::transport::{BleConfig, LinkError};
use serde_json::json;
use tokio::time::timeout;

use crate::battery::{
    ADDRESS, REPLY, ble_link, bluetooth, config, one_battery, open, open_default, read, read_once,
    receive, wait_delivered,
};
use crate::rig::with_fake;

#[test]
fn unknown_battery_is_found_read_and_disconnected() {
    with_fake(one_battery(), async |rig| {
        let mut link = open_default().await;
        assert_eq!(read(&mut link).await.unwrap(), REPLY);
        assert_eq!(read(&mut link).await.unwrap(), REPLY);
        assert_eq!(ble_link(&link).adapter(), "hci0");
        let rssi = ble_link(&link).rssi().unwrap();
        assert!((-62..=-60).contains(&rssi), "{rssi}");
        link.close().await;
        // `close` returns after the disconnect.
        assert_eq!(rig.state().await["devices"][ADDRESS]["connected"], false);
        let calls = rig.calls().await;
        let steps = [
            "SetDiscoveryFilter",
            "StartDiscovery",
            "StopDiscovery",
            "Connect",
            "StartNotify",
            "WriteValue",
            "WriteValue",
        ];
        assert_eq!(calls[..7], steps);
        assert!(calls[7..].contains(&"Disconnect".to_owned()), "{calls:?}");
        let writes = rig.writes().await;
        assert!(writes.iter().all(|(_, kind)| kind == "command"), "{writes:?}");
    });
}

#[test]
fn empty_notification_is_no_chunk() {
    with_fake(one_battery(), async |rig| {
        let mut link = open_default().await;
        for hex in ["", "01", "", "02"] {
            rig.command(json!({"cmd": "notify", "char": "ff01", "hex": hex})).await;
        }
        assert_eq!(receive(&mut link).await.unwrap(), [1]);
        assert_eq!(receive(&mut link).await.unwrap(), [2]);
        link.close().await;
    });
}

/// A link holds 256 chunks; while nothing reads, each new one replaces the oldest.
#[test]
fn unread_stream_keeps_its_newest_chunks() {
    with_fake(one_battery(), async |rig| {
        let mut link = open_default().await;
        rig.command(json!({"cmd": "flood", "char": "ff01", "count": 5000})).await;
        wait_delivered(rig, &link).await;
        for number in 5000 - 256..5000_u16 {
            assert_eq!(receive(&mut link).await.unwrap(), number.to_be_bytes());
        }
        link.close().await;
    });
}

#[test]
fn drain_discards_an_overflowing_stream() {
    with_fake(one_battery(), async |rig| {
        let mut link = open_default().await;
        rig.command(json!({"cmd": "flood", "char": "ff01", "count": 5000})).await;
        wait_delivered(rig, &link).await;
        link.drain().unwrap();
        rig.command(json!({"cmd": "notify", "char": "ff01", "hex": "cc"})).await;
        assert_eq!(receive(&mut link).await.unwrap(), [0xcc]);
        link.close().await;
    });
}

#[test]
fn cancelled_receive_loses_nothing() {
    with_fake(one_battery(), async |rig| {
        let mut link = open_default().await;
        assert!(timeout(Duration::from_millis(20), link.receive()).await.is_err());
        rig.command(json!({"cmd": "notify", "char": "ff01", "hex": "0102"})).await;
        assert_eq!(receive(&mut link).await.unwrap(), [1, 2]);
        link.close().await;
    });
}

#[test]
fn adapter_is_selected_by_name_or_address() {
    with_fake(one_battery(), async |_| {
        for wanted in [None, Some("hci0"), Some("00:AA:01:00:00:23"), Some("00:aa:01:00:00:23")] {
            let adapter = wanted.map(Into::into);
            read_once(&BleConfig { adapter, ..config(ADDRESS) }).await.unwrap();
        }
        let config = BleConfig { adapter: Some("hci7".into()), ..config(ADDRESS) };
        let missing = LinkError::NoAdapter { adapter: Some("hci7".into()) };
        assert_eq!(open(&config).await.unwrap_err(), missing);
    });
}

#[test]
fn adapters_are_listed() {
    with_fake(one_battery(), async |_| {
        let adapters = bluetooth().adapters().await.unwrap();
        assert_eq!(adapters.len(), 1);
        assert_eq!((&*adapters[0].name, &*adapters[0].address), ("hci0", "00:AA:01:00:00:23"));
        assert!(adapters[0].powered);
    });
}

#[test]
fn invalid_address_is_rejected_without_a_call() {
    with_fake(one_battery(), async |rig| {
        let error = open(&config("A4:C1:37")).await.unwrap_err();
        assert!(matches!(error, LinkError::Open { .. }), "{error:?}");
        assert_eq!(rig.calls().await, [""; 0]);
    });
}
