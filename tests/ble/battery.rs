//! Batteries for the tests: what they are asked, and what they answer.

use std::sync::LazyLock;
use std::time::Duration;

use bms_reader::transport::{
    BleChannel, BleConfig, BleLink, Bluetooth, CharacteristicId, Endpoint, Link, LinkError, Passkey,
};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::rig::{PATIENCE, Rig};

pub const ADDRESS: &str = "A4:C1:37:00:12:34";
pub const OTHER: &str = "C8:47:80:00:12:34";

/// A question, and its answer of 34 bytes in two notifications.
pub const QUESTION: [u8; 7] = [0xdd, 0xa5, 0x03, 0x00, 0xff, 0xfd, 0x77];
pub const ANSWER: &str = "dd03001b0528000013882710002a2a7c00000000000020320304020b9f0b9afc6c77";

const fn short(uuid: u128) -> u128 {
    0x0000_0000_0000_1000_8000_0080_5f9b_34fb | uuid << 96
}

pub const fn id(service: u128, uuid: u128) -> CharacteristicId {
    CharacteristicId { service: short(service), uuid: short(uuid) }
}

pub fn jbd() -> BleChannel {
    let (notify, write) = (vec![id(0xff00, 0xff01)], id(0xff00, 0xff02));
    BleChannel { notify, write, prefer_response: false }
}

pub fn jk() -> BleChannel {
    let (notify, write) = (vec![id(0xffe0, 0xffe1)], id(0xffe0, 0xffe1));
    BleChannel { notify, write, prefer_response: false }
}

/// What all links of a test share, as those of the program do.
pub fn bluetooth() -> &'static Bluetooth {
    static BLUETOOTH: LazyLock<Bluetooth> = LazyLock::new(Bluetooth::default);
    &BLUETOOTH
}

/// A battery of one service, one characteristic for each direction.
pub fn battery(address: &str) -> Value {
    json!({
        "address": address, "name": "xiaoxiang BMS", "adv_services": ["ff00"],
        "services": [{"uuid": "ff00", "characteristics": [
            {"uuid": "ff01", "properties": ["read", "notify"]},
            {"uuid": "ff02", "properties": ["read", "write-without-response", "write"]}]}],
        "replies": [{"on": "ff02", "match": "dda50300fffd77",
            "notify": [{"char": "ff01", "after_ms": 5, "hex": ANSWER}]}]
    })
}

/// The same with other properties.
pub fn battery_with(address: &str, properties: Value) -> Value {
    let mut battery = battery(address);
    for (key, value) in properties.as_object().unwrap() {
        battery[key] = value.clone();
    }
    battery
}

pub fn only(battery: Value) -> Value {
    json!({"devices": [battery]})
}

pub fn one() -> Value {
    only(battery(ADDRESS))
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

pub fn with_passkey(number: &str) -> BleConfig {
    BleConfig { passkey: Passkey::parse(number), ..config(ADDRESS) }
}

/// Opens as the program does.
pub async fn open(config: &BleConfig) -> Result<Link, LinkError> {
    let endpoint = Endpoint::Ble(config.clone());
    timeout(PATIENCE, endpoint.open(9600)).await.expect("opening has an end")
}

pub async fn opened() -> Link {
    open(&config(ADDRESS)).await.unwrap()
}

pub fn ble(link: &Link) -> &BleLink {
    let Link::Ble(link) = link else { panic!("{link:?}") };
    link
}

/// Waits until the link has received every notification that the fake sent before this call: signals
/// arrive in order, so it has once it has received a new signal strength that was sent after them.
pub async fn delivered(rig: &mut Rig, link: &Link) {
    let link = ble(link);
    let marker = if link.rssi() == Some(-1) { -2 } else { -1 };
    rig.order(json!({"cmd": "rssi", "value": marker})).await;
    let arrived = async {
        while link.rssi() != Some(marker) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, arrived).await.expect("the link receives the signal strength");
}

/// Asks, and collects the answer.
pub async fn read(link: &mut Link) -> Result<String, LinkError> {
    link.drain()?;
    link.send(&QUESTION).await?;
    let mut heard = String::new();
    while heard.len() < ANSWER.len() {
        heard += &hex(&receive(link).await?);
    }
    Ok(heard)
}

pub async fn receive(link: &mut Link) -> Result<Vec<u8>, LinkError> {
    timeout(PATIENCE, link.receive()).await.expect("an answer or an end")
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A whole visit.
pub async fn visit(config: &BleConfig) -> Result<(), LinkError> {
    let mut link = open(config).await?;
    let answer = read(&mut link).await;
    link.close().await;
    assert_eq!(answer?, ANSWER);
    Ok(())
}
