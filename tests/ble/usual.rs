//! What happens on a good day.

use std::time::Duration;

use bms_reader::transport::ble::BleDevice;
use bms_reader::transport::{BleConfig, LinkError};
use serde_json::json;

use crate::battery::{
    ADDRESS, ANSWER, OTHER, battery, battery_with, ble as ble_link, bluetooth, config, delivered,
    hex, jbd, jk, one, only, open, opened, read, receive, visit,
};
use crate::rig::{PATIENCE, on_fake};

#[test]
fn an_unknown_battery_is_looked_for_read_and_let_go() {
    on_fake(one(), async |rig| {
        let mut link = opened().await;
        assert_eq!(read(&mut link).await.unwrap(), ANSWER);
        assert_eq!(read(&mut link).await.unwrap(), ANSWER);
        assert_eq!(ble_link(&link).adapter(), "hci0");
        let rssi = ble_link(&link).rssi().unwrap();
        assert!((-62..=-60).contains(&rssi), "{rssi}");
        link.close().await;
        // Closed means closed: the goodbye is over when `close` returns.
        assert_eq!(rig.state().await["devices"][ADDRESS]["connected"], false);
        let mut calls = rig.calls().await;
        let steps =
            ["SetDiscoveryFilter", "StartDiscovery", "StopDiscovery", "Connect", "StartNotify"];
        assert_eq!(calls.drain(..5).collect::<Vec<_>>(), steps);
        assert_eq!(calls.drain(..2).collect::<Vec<_>>(), ["WriteValue", "WriteValue"]);
        assert!(calls.contains(&"Disconnect".to_owned()), "{calls:?}");
        assert!(
            rig.writes().await.iter().all(|(_, kind)| kind == "command"),
            "{:?}",
            rig.writes().await
        );
    });
}

#[test]
fn a_battery_that_bluez_knows_needs_no_scan() {
    on_fake(only(battery_with(ADDRESS, json!({"known": true}))), async |rig| {
        visit(&config(ADDRESS)).await.unwrap();
        assert_eq!(rig.count("StartDiscovery").await, 0);
        let mut link = opened().await;
        assert_eq!(ble_link(&link).rssi(), None);
        read(&mut link).await.unwrap();
        link.close().await;
    });
}

#[test]
fn of_two_characteristics_with_one_uuid_each_direction_has_its_own() {
    let twins = json!([{"uuid": "ffe0", "characteristics": [
        {"uuid": "ffe1", "properties": ["write"]},
        {"uuid": "ffe1", "properties": ["notify", "read"]}]}]);
    on_fake(only(battery_with(ADDRESS, json!({"services": twins, "replies": []}))), async |rig| {
        let config = BleConfig { channels: vec![jbd(), jk()], ..config(ADDRESS) };
        let mut link = open(&config).await.unwrap();
        link.send(b"?").await.unwrap();
        assert_eq!(rig.writes().await, [("3f".into(), "request".into())]);
        rig.order(json!({"cmd": "notify", "char": "ffe1", "hex": "2121"})).await;
        assert_eq!(receive(&mut link).await.unwrap(), b"!!");
        link.close().await;
    });
}

#[test]
fn a_long_write_is_cut_to_what_one_packet_holds() {
    let modules = [("00:00:00:00:00:01", 23, 20), ("00:00:00:00:00:02", 100, 97), (ADDRESS, 0, 20)];
    let batteries = modules.map(|(address, mtu, _)| battery_with(address, json!({"mtu": mtu})));
    on_fake(json!({"devices": batteries}), async |rig| {
        let message: Vec<u8> = (0..150).collect();
        for (address, mtu, longest) in modules {
            let before = rig.writes().await.len();
            let mut link = open(&config(address)).await.unwrap();
            link.send(&message).await.unwrap();
            let pieces =
                rig.writes().await[before..].iter().map(|(hex, _)| hex.clone()).collect::<Vec<_>>();
            assert_eq!(pieces, message.chunks(longest).map(hex).collect::<Vec<_>>(), "{mtu}");
            link.close().await;
        }
    });
}

#[test]
fn an_empty_notification_is_no_chunk() {
    on_fake(one(), async |rig| {
        let mut link = opened().await;
        for hex in ["", "01", "", "02"] {
            rig.order(json!({"cmd": "notify", "char": "ff01", "hex": hex})).await;
        }
        assert_eq!(receive(&mut link).await.unwrap(), [1]);
        assert_eq!(receive(&mut link).await.unwrap(), [2]);
        link.close().await;
    });
}

/// A link holds 256 chunks; while nothing reads, each new one replaces the oldest.
#[test]
fn unread_stream_keeps_its_newest_chunks() {
    on_fake(one(), async |rig| {
        let mut link = opened().await;
        rig.order(json!({"cmd": "flood", "char": "ff01", "count": 5000})).await;
        delivered(rig, &link).await;
        for number in 5000 - 256..5000_u16 {
            assert_eq!(receive(&mut link).await.unwrap(), number.to_be_bytes());
        }

        rig.order(json!({"cmd": "flood", "char": "ff01", "count": 5000})).await;
        delivered(rig, &link).await;
        link.drain().unwrap();
        rig.order(json!({"cmd": "notify", "char": "ff01", "hex": "cc"})).await;
        assert_eq!(receive(&mut link).await.unwrap(), [0xcc]);
        link.close().await;
    });
}

#[test]
fn a_cancelled_receive_loses_nothing() {
    on_fake(one(), async |rig| {
        let mut link = opened().await;
        let short = Duration::from_millis(20);
        assert!(tokio::time::timeout(short, link.receive()).await.is_err());
        rig.order(json!({"cmd": "notify", "char": "ff01", "hex": "0102"})).await;
        assert_eq!(receive(&mut link).await.unwrap(), [1, 2]);
        link.close().await;
    });
}

#[test]
fn the_adapter_is_found_by_name_or_address_or_is_the_first_that_is_on() {
    on_fake(one(), async |_| {
        for wanted in [None, Some("hci0"), Some("00:AA:01:00:00:23"), Some("00:aa:01:00:00:23")] {
            visit(&BleConfig { adapter: wanted.map(Into::into), ..config(ADDRESS) }).await.unwrap();
        }
        let config = BleConfig { adapter: Some("hci7".into()), ..config(ADDRESS) };
        assert_eq!(
            open(&config).await.unwrap_err(),
            LinkError::NoAdapter { adapter: Some("hci7".into()) }
        );
        let adapters = bluetooth().adapters().await.unwrap();
        assert_eq!(adapters.len(), 1);
        assert_eq!((&*adapters[0].name, &*adapters[0].address), ("hci0", "00:AA:01:00:00:23"));
        assert!(adapters[0].powered);
    });
}

#[test]
fn a_scan_lists_what_is_in_reach_or_connected_and_nothing_that_is_only_remembered() {
    let devices = json!({"devices": [
        battery_with(ADDRESS, json!({"rssi": -80, "manufacturer": {"101": "0102"}})),
        battery_with(OTHER, json!({"rssi": -50, "address_type": "random"})),
        battery_with("00:00:00:00:00:01", json!({"known": true, "visible": false})),
        battery_with("00:00:00:00:00:02", json!({"connected": true}))]});
    on_fake(devices, async |rig| {
        let scan = bluetooth().scan(Some("hci0"), Duration::from_millis(2500));
        let found = tokio::time::timeout(PATIENCE, scan).await.unwrap().unwrap();
        let addresses: Vec<_> = found.iter().map(|found| &*found.address).collect();
        assert_eq!(addresses, [OTHER, ADDRESS, "00:00:00:00:00:02"]);
        let BleDevice { adapter, name, rssi, services, manufacturer, connected, .. } = &found[1];
        assert_eq!((&**adapter, name.as_deref()), ("hci0", Some("xiaoxiang BMS")));
        assert!((-82..=-80).contains(&rssi.unwrap()) && !connected);
        assert_eq!(*services, [jbd().write.service]);
        assert_eq!(*manufacturer, [(101, vec![1, 2])]);
        assert!(found[2].connected && found[2].rssi.is_none());
        // Looking disturbs nobody: the other program's connection stays.
        assert_eq!((rig.count("Connect").await, rig.count("Disconnect").await), (0, 0));
        rig.order(json!({"cmd": "drop"})).await;
    });
}

#[test]
fn a_wrong_address_is_refused_without_a_call() {
    on_fake(only(battery(ADDRESS)), async |rig| {
        let error = open(&config("A4:C1:37")).await.unwrap_err();
        assert!(matches!(error, LinkError::Open { .. }), "{error:?}");
        assert_eq!(rig.calls().await, [""; 0]);
    });
}
