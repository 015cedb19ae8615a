//! Services and characteristics: which are used, how they are written, and a BlueZ that has cached
//! the wrong ones.

use bms_reader::transport::{BleChannel, BleConfig, LinkError};
use serde_json::{Value, json};

use crate::battery::{
    ADDRESS, battery, battery_with, config, hex, id, jbd, jk, open, read_once, receive, single,
};
use crate::rig::{Rig, with_fake};

fn with_services(services: Value) -> Value {
    single(battery_with(ADDRESS, json!({"services": services, "replies": []})))
}

fn with_channel(channel: BleChannel) -> BleConfig {
    BleConfig { channels: vec![channel], ..config(ADDRESS) }
}

async fn notify(rig: &mut Rig, characteristic: &str, hex: &str) {
    rig.command(json!({"cmd": "notify", "char": characteristic, "hex": hex})).await;
}

#[test]
fn same_uuid_is_chosen_by_properties() {
    let services = json!([{"uuid": "ffe0", "characteristics": [
        {"uuid": "ffe1", "properties": ["write"]},
        {"uuid": "ffe1", "properties": ["notify", "read"]}]}]);
    with_fake(with_services(services), async |rig| {
        let config = BleConfig { channels: vec![jbd(), jk()], ..config(ADDRESS) };
        let mut link = open(&config).await.unwrap();
        link.send(b"?").await.unwrap();
        assert_eq!(rig.writes().await, [("3f".into(), "request".into())]);
        notify(rig, "ffe1", "2121").await;
        assert_eq!(receive(&mut link).await.unwrap(), b"!!");
        link.close().await;
    });
}

/// As Renogy has it.
#[test]
fn notify_and_write_may_be_in_different_services() {
    let services = json!([
        {"uuid": "fff0", "characteristics": [{"uuid": "fff1", "properties": ["notify"]}]},
        {"uuid": "ffd0", "characteristics": [
            {"uuid": "ffd1", "properties": ["write-without-response"]}]}]);
    with_fake(with_services(services), async |rig| {
        let (notifying, write) = (vec![id(0xfff0, 0xfff1)], id(0xffd0, 0xffd1));
        let channel = BleChannel { notify: notifying, write, ..jbd() };
        let mut link = open(&with_channel(channel)).await.unwrap();
        link.send(b"?").await.unwrap();
        assert_eq!(rig.writes().await, [("3f".into(), "command".into())]);
        notify(rig, "fff1", "0102").await;
        assert_eq!(receive(&mut link).await.unwrap(), [1, 2]);
        link.close().await;
    });
}

#[test]
fn all_notify_characteristics_form_one_stream() {
    let services = json!([
        {"uuid": "ff00", "characteristics": [
            {"uuid": "ff01", "properties": ["notify"]},
            {"uuid": "ff02", "properties": ["write-without-response"]}]},
        {"uuid": "fff0", "characteristics": [{"uuid": "fff3", "properties": ["indicate"]}]}]);
    with_fake(with_services(services), async |rig| {
        let channel = BleChannel { notify: vec![id(0xff00, 0xff01), id(0xfff0, 0xfff3)], ..jbd() };
        let mut link = open(&with_channel(channel)).await.unwrap();
        assert_eq!(rig.count("StartNotify").await, 2);
        for (characteristic, byte) in [("ff01", 1), ("fff3", 2), ("ff01", 3)] {
            notify(rig, characteristic, &hex(&[byte])).await;
            assert_eq!(receive(&mut link).await.unwrap(), [byte]);
        }
        link.close().await;
    });
}

#[test]
fn failed_second_subscription_releases_the_first() {
    let services = json!([{"uuid": "ff00", "characteristics": [
        {"uuid": "ff01", "properties": ["notify"]}, {"uuid": "ff03", "properties": ["notify"]},
        {"uuid": "ff02", "properties": ["write"]}]}]);
    with_fake(with_services(services), async |rig| {
        let second = format!("{}/service000a/char000e", Rig::device_path(ADDRESS));
        let fault = json!({"error": "Failed", "message": "ATT error: 0x0e", "path": second});
        rig.fault("StartNotify", fault, 1).await;
        let channel = BleChannel { notify: vec![id(0xff00, 0xff01), id(0xff00, 0xff03)], ..jbd() };
        let error = open(&with_channel(channel.clone())).await.unwrap_err();
        assert!(matches!(error, LinkError::Open { .. }), "{error:?}");
        assert_eq!(rig.count("StartNotify").await, 2);
        rig.assert_clean().await;
        open(&with_channel(channel)).await.unwrap().close().await;
    });
}

#[test]
fn channel_that_lacks_a_notify_characteristic_is_not_used() {
    with_fake(single(battery(ADDRESS)), async |_| {
        let channel = BleChannel { notify: vec![id(0xff00, 0xff01), id(0xff00, 0xff03)], ..jbd() };
        let error = open(&with_channel(channel)).await.unwrap_err();
        assert_eq!(error, LinkError::NoService { endpoint: ADDRESS.into() });
    });
}

#[test]
fn greeting_is_written_before_requests() {
    let services = json!([
        {"uuid": "ff00", "characteristics": [
            {"uuid": "ff01", "properties": ["notify"]},
            {"uuid": "ff02", "properties": ["write-without-response"]}]},
        {"uuid": "fff0", "characteristics": [{"uuid": "fffa", "properties": ["write"]}]}]);
    with_fake(with_services(services), async |rig| {
        let absent = (id(0xfff0, 0xfffb), b"no".to_vec());
        let greeting = vec![absent, (id(0xfff0, 0xfffa), b"hi".to_vec())];
        let mut link = open(&with_channel(BleChannel { greeting, ..jbd() })).await.unwrap();
        link.send(b"?").await.unwrap();
        let expected = [("6869".into(), "request".into()), ("3f".into(), "command".into())];
        assert_eq!(rig.writes().await, expected);
        link.close().await;
    });
}

#[test]
fn response_is_requested_where_nothing_else_is_possible() {
    let services = json!([{"uuid": "ff00", "characteristics": [
        {"uuid": "ff01", "properties": ["notify"]}, {"uuid": "ff02", "properties": ["write"]}]}]);
    with_fake(with_services(services), async |rig| {
        let mut link = open(&config(ADDRESS)).await.unwrap();
        link.send(b"?").await.unwrap();
        assert_eq!(rig.writes().await, [("3f".into(), "request".into())]);
        link.close().await;
    });
}

#[test]
fn response_is_requested_where_the_channel_prefers_it() {
    with_fake(single(battery(ADDRESS)), async |rig| {
        let channel = BleChannel { prefer_response: true, ..jbd() };
        let mut link = open(&with_channel(channel)).await.unwrap();
        link.send(b"?").await.unwrap();
        assert_eq!(rig.writes().await, [("3f".into(), "request".into())]);
        link.close().await;
    });
}

#[test]
fn long_write_is_split_into_packets() {
    let mtus = [("00:00:00:00:00:01", 23, 20), ("00:00:00:00:00:02", 100, 97), (ADDRESS, 0, 20)];
    let batteries = mtus.map(|(address, mtu, _)| battery_with(address, json!({"mtu": mtu})));
    with_fake(json!({"devices": batteries}), async |rig| {
        let message: Vec<u8> = (0..150).collect();
        for (address, mtu, max_write) in mtus {
            let before = rig.writes().await.len();
            let mut link = open(&config(address)).await.unwrap();
            link.send(&message).await.unwrap();
            let writes = rig.writes().await.split_off(before);
            let pieces: Vec<_> = writes.into_iter().map(|(hex, _)| hex).collect();
            assert_eq!(pieces, message.chunks(max_write).map(hex).collect::<Vec<_>>(), "{mtu}");
            link.close().await;
        }
    });
}

/// A battery of which BlueZ has cached these services.
fn with_cached(services: Value) -> Value {
    single(battery_with(ADDRESS, json!({"cached_services": services})))
}

#[test]
fn empty_service_cache_is_cleared() {
    with_fake(with_cached(json!([])), async |rig| {
        read_once(&config(ADDRESS)).await.unwrap();
        assert_eq!((rig.count("RemoveDevice").await, rig.count("StartDiscovery").await), (1, 2));
    });
}

#[test]
fn outdated_service_cache_is_cleared() {
    let outdated = json!([{"uuid": "fff0", "characteristics": [
        {"uuid": "fff1", "properties": ["notify"]}]}]);
    with_fake(with_cached(outdated), async |rig| {
        read_once(&config(ADDRESS)).await.unwrap();
        assert_eq!(rig.count("RemoveDevice").await, 1);
    });
}

#[test]
fn missing_service_is_reported_after_clearing_the_cache_once() {
    let mut other = battery(ADDRESS);
    other["services"][0]["uuid"] = json!("fff0");
    with_fake(single(other), async |rig| {
        let error = open(&config(ADDRESS)).await.unwrap_err();
        assert_eq!(error, LinkError::NoService { endpoint: ADDRESS.into() });
        assert!(error.hint().contains("cache"), "{}", error.hint());
        assert_eq!(rig.count("RemoveDevice").await, 1);
    });
}
