//! Batteries for the tests, and the steps of reading one.

use std::sync::LazyLock;
use std::time::Duration;

use bms_reader::transport::{
    BleChannel, BleConfig, BleLink, Bluetooth, CharacteristicId, Link, LinkConfig, LinkError,
};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::rig::{Rig, TEST_TIMEOUT};

pub const ADDRESS: &str = "A4:C1:37:00:12:34";
pub const OTHER: &str = "C8:47:80:00:12:34";

/// JBD's request for its basic data. The reply has 34 bytes in two notifications.
pub const REQUEST: [u8; 7] = [0xdd, 0xa5, 0x03, 0x00, 0xff, 0xfd, 0x77];
pub const REPLY: &str = "dd03001b0528000013882710002a2a7c00000000000020320304020b9f0b9afc6c77";

/// By the 16 bits that Bluetooth assigns.
pub const fn id(service: u128, uuid: u128) -> CharacteristicId {
    const BASE: u128 = 0x0000_0000_0000_1000_8000_0080_5f9b_34fb;
    CharacteristicId { service: BASE | service << 96, uuid: BASE | uuid << 96 }
}

pub fn jbd() -> BleChannel {
    let (notify, write) = (vec![id(0xff00, 0xff01)], id(0xff00, 0xff02));
    BleChannel {
        notify,
        write,
        prefer_response: false,
        read_only: false,
        greeting: Vec::new(),
        read: Vec::new(),
    }
}

pub fn jk() -> BleChannel {
    let (notify, write) = (vec![id(0xffe0, 0xffe1)], id(0xffe0, 0xffe1));
    BleChannel {
        notify,
        write,
        prefer_response: false,
        read_only: false,
        greeting: Vec::new(),
        read: Vec::new(),
    }
}

/// Shared by all links of a test, as in the program.
pub fn bluetooth() -> &'static Bluetooth {
    static BLUETOOTH: LazyLock<Bluetooth> = LazyLock::new(Bluetooth::default);
    &BLUETOOTH
}

/// A JBD battery: one service with one characteristic for each direction.
pub fn battery(address: &str) -> Value {
    json!({
        "address": address, "name": "xiaoxiang BMS", "adv_services": ["ff00"],
        "services": [{"uuid": "ff00", "characteristics": [
            {"uuid": "ff01", "properties": ["read", "notify"]},
            {"uuid": "ff02", "properties": ["read", "write-without-response", "write"]}]}],
        "replies": [{"on": "ff02", "match": "dda50300fffd77",
            "notify": [{"char": "ff01", "after_ms": 5, "hex": REPLY}]}]
    })
}

/// The same with other entries in its spec.
pub fn battery_with(address: &str, properties: Value) -> Value {
    let mut battery = battery(address);
    for (key, value) in properties.as_object().unwrap() {
        battery[key] = value.clone();
    }
    battery
}

pub fn single(battery: Value) -> Value {
    json!({"devices": [battery]})
}

pub fn one_battery() -> Value {
    single(battery(ADDRESS))
}

pub fn two_batteries() -> Value {
    json!({"devices": [battery(ADDRESS), battery(OTHER)]})
}

pub fn config(address: &str) -> BleConfig {
    BleConfig {
        bluetooth: bluetooth().clone(),
        address: address.into(),
        adapter: None,
        scan_timeout: Duration::from_secs(10),
        timeout: Duration::from_secs(20),
        passkey: None,
        channels: vec![jbd()],
    }
}

/// Opens a link as the program does.
pub async fn open(config: &BleConfig) -> Result<Link, LinkError> {
    let endpoint = LinkConfig::Ble(config.clone());
    timeout(TEST_TIMEOUT, endpoint.open(9600)).await.expect("opening is bounded")
}

/// Opens a link to the battery at [`ADDRESS`].
pub async fn open_default() -> Link {
    open(&config(ADDRESS)).await.unwrap()
}

pub fn ble_link(link: &Link) -> &BleLink {
    link.ble().unwrap_or_else(|| panic!("{link:?}"))
}

/// Waits until the link has received every notification that the fake has sent so far. Signals
/// arrive in order, so a new signal strength that is sent now arrives after them.
pub async fn wait_delivered(rig: &mut Rig, link: &Link) {
    let link = ble_link(link);
    let marker = if link.rssi() == Some(-1) { -2 } else { -1 };
    rig.command(json!({"cmd": "rssi", "value": marker})).await;
    let arrived = async {
        while link.rssi() != Some(marker) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(TEST_TIMEOUT, arrived).await.expect("the signal strength arrives");
}

/// Sends the request and returns the reply in hex.
pub async fn read(link: &mut Link) -> Result<String, LinkError> {
    link.drain()?;
    link.send(&REQUEST).await?;
    let mut received = String::new();
    while received.len() < REPLY.len() {
        received += &hex(&receive(link).await?);
    }
    Ok(received)
}

pub async fn receive(link: &mut Link) -> Result<Vec<u8>, LinkError> {
    timeout(TEST_TIMEOUT, link.receive()).await.expect("a chunk or the end")
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Opens a link, reads and closes it.
pub async fn read_once(config: &BleConfig) -> Result<(), LinkError> {
    let mut link = open(config).await?;
    let reply = read(&mut link).await;
    link.close().await;
    assert_eq!(reply?, REPLY);
    Ok(())
}
