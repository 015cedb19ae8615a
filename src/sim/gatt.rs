//! A description of a Bluetooth battery as JSON: every request of its driver with the reply.
//!
//! The fake bluetoothd of the tests and the virtual boards of the lab read the same JSON.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::battery::Battery;
use super::state::PackState;
use super::{Responder, SimBrand, SimPack, find};
use crate::model;
use crate::protocol::advertisement::AdvertisementMatcher;
use crate::protocol::info::GattChannel;
use crate::protocol::{self, CycleKind, Driver, Medium, Options, ProtocolError, Step};

/// More steps than any cycle has.
const MAX_STEPS: usize = 200;

/// Default bytes per notification.
const NOTIFICATION_SIZE: usize = 20;

const REPLY_DELAY_MS: u64 = 10;

/// The first cycles of a session; some requests are sent once, and some later than others.
const CYCLES: [CycleKind; 4] =
    [CycleKind::Identify, CycleKind::Read, CycleKind::Read, CycleKind::Read];

#[derive(Debug, thiserror::Error)]
pub enum GattSpecError {
    #[error("{0} has no Bluetooth")]
    NoBluetooth(&'static str),
    #[error(transparent)]
    Conversation(#[from] ProtocolError),
}

/// A battery with a fixed state. `expected` contains the values that a reader must publish, by key.
pub fn device(brand: &SimBrand, address: &str, state: PackState) -> Result<Value, GattSpecError> {
    // A brand whose frames differ over Bluetooth has another simulator there.
    let brand = find(&format!("{}:ble", brand.name)).unwrap_or(brand);
    let no_bluetooth = || GattSpecError::NoBluetooth(brand.name);
    let info = protocol::find(brand.driver()).ok_or_else(no_bluetooth)?;
    let channel =
        info.gatt.and_then(|gatt| gatt.channels.first().copied()).ok_or_else(no_bluetooth)?;
    let expected = expected(&state);
    let variant = brand.variant().map(str::to_owned);
    let options = Options { medium: Medium::Ble, variant, ..Options::default() };
    let mut recorder = Recorder {
        board: brand.pack_on(
            Medium::Ble,
            SimPack { battery: Battery::fixed(state), ..SimPack::fixed(*brand.addresses.start()) },
        ),
        stream: brand.stream,
        channel,
        requests: BTreeSet::new(),
        replies: Vec::new(),
        values: BTreeMap::new(),
    };
    let mut driver = info.driver(&options);
    for kind in CYCLES {
        recorder.record(driver.as_mut(), kind)?;
    }
    let name = info.matchers.iter().find_map(|matcher| match matcher {
        AdvertisementMatcher::Name(pattern) => Some(pattern.replace('*', "SIM")),
        _ => None,
    });
    // What it sends without any request begins with the subscription.
    let notify_uuid = channel.notify.first().map(|notify| uuid(notify.uuid));
    let unasked = recorder.stream.filter(|_| recorder.replies.is_empty());
    let unasked = unasked.and_then(|seconds| {
        let (bytes, pause) = (recorder.board.unsolicited(0.0)?, (seconds * 1000.0) as u64);
        Some(json!({"char": notify_uuid, "after_ms": pause, "hex": hex(&bytes), "repeat": -1}))
    });
    let services = services(channel, &recorder.values);
    let service =
        |(uuid, characteristics)| json!({"uuid": uuid, "characteristics": characteristics});
    Ok(json!({
        "address": address, "name": name.unwrap_or_else(|| brand.name.to_owned()),
        "adv_services": services.keys().collect::<Vec<_>>(),
        "fragment": brand.notification.unwrap_or(NOTIFICATION_SIZE),
        "services": services.iter().map(service).collect::<Vec<_>>(),
        "replies": recorder.replies, "on_subscribe": Vec::from_iter(unasked),
        "expected": expected,
    }))
}

/// The characteristics of a channel by service. Old modules have one for both directions.
fn services(channel: GattChannel, values: &BTreeMap<u8, Vec<u8>>) -> BTreeMap<String, Vec<Value>> {
    let mut properties: BTreeMap<_, Vec<&str>> = BTreeMap::new();
    for notify in channel.notify {
        properties.entry((notify.service, notify.uuid)).or_default().push("notify");
    }
    if !channel.read_only {
        let write = properties.entry((channel.write.service, channel.write.uuid)).or_default();
        write.extend(["write-without-response", "write"]);
    }
    let mut services: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for ((service, characteristic), properties) in properties {
        let characteristic = json!({"uuid": uuid(characteristic), "properties": properties});
        services.entry(uuid(service)).or_default().push(characteristic);
    }
    for (number, read) in (0..).zip(channel.read) {
        let value = values.get(&number).map(|value| hex(value));
        let read_only = json!({"uuid": uuid(read.uuid), "properties": ["read"], "value": value});
        services.entry(uuid(read.service)).or_default().push(read_only);
    }
    services
}

/// Runs a driver against a simulated battery and records the conversation.
struct Recorder {
    board: Box<dyn Responder>,
    stream: Option<f64>,
    channel: GattChannel,
    requests: BTreeSet<Vec<u8>>,
    replies: Vec<Value>,
    /// Of the characteristics that are read, by number.
    values: BTreeMap<u8, Vec<u8>>,
}

impl Recorder {
    fn record(&mut self, driver: &mut dyn Driver, kind: CycleKind) -> Result<(), ProtocolError> {
        let mut reply = None;
        driver.start(kind);
        for _ in 0..MAX_STEPS {
            match driver.step() {
                Step::Send(request) => {
                    reply = self.reply_to(&request);
                    driver.advance();
                }
                Step::Pause(_) => driver.advance(),
                Step::Await(_) => match reply.take().or_else(|| self.board.unsolicited(0.0)) {
                    Some(bytes) => driver.receive(&bytes),
                    None => driver.handle_timeout(),
                },
                Step::Done(_) => break,
                Step::Failed(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn reply_to(&mut self, request: &[u8]) -> Option<Vec<u8>> {
        let reply = self.board.respond(request, 0.0)?;
        if let (false, [number, _, value @ ..]) = (self.channel.read.is_empty(), &reply[..]) {
            self.values.insert(*number, value.to_vec());
            return Some(reply);
        }
        if self.requests.insert(request.to_vec()) {
            let notify_uuid = self.channel.notify.first().map(|notify| uuid(notify.uuid));
            let mut notify =
                vec![json!({"char": notify_uuid, "after_ms": REPLY_DELAY_MS, "hex": hex(&reply)})];
            if let Some((seconds, bytes)) = self.stream.zip(self.board.unsolicited(0.0)) {
                let pause = (seconds * 1000.0) as u64;
                notify.push(
                    json!({"char": notify_uuid, "after_ms": pause, "hex": hex(&bytes), "repeat": -1}),
                );
            }
            let on = uuid(self.channel.write.uuid);
            self.replies.push(json!({"on": on, "match": hex(request), "notify": notify}));
        }
        Some(reply)
    }
}

/// Values that every brand reports.
fn expected(state: &PackState) -> Map<String, Value> {
    let mut expected = Map::new();
    let mut add = |key: &str, value: model::Value| {
        expected.insert(key.to_owned(), value.to_string().into());
    };
    add("pack_voltage", state.voltage.into());
    add("pack_current", state.current.into());
    add("soc", state.soc.into());
    add("remaining_capacity", state.remaining.into());
    for (number, cell) in (1..).zip(&state.cells) {
        add(&format!("cell_{number}_voltage"), (*cell).into());
    }
    expected
}

/// The 16-bit form where possible: an advertisement has no room for the long one.
fn uuid(uuid: u128) -> String {
    let short = (uuid >> 96) as u16;
    if uuid == protocol::uuid16(short) {
        return format!("{short:04x}");
    }
    let hex = format!("{uuid:032x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::{brands, jbd, jk};

    const ADDRESS: &str = "A4:C1:37:00:12:34";

    #[test]
    fn every_request_has_a_reply() {
        let device = device(&jbd::BRAND, ADDRESS, PackState::at_rest()).unwrap();
        let replies = device["replies"].as_array().unwrap();
        let requests: Vec<_> =
            replies.iter().map(|reply| reply["match"].as_str().unwrap()).collect();
        for register in ["03", "04", "05"] {
            let is_register = |request: &&&str| request.starts_with(&format!("dda5{register}"));
            assert_eq!(requests.iter().filter(is_register).count(), 1, "{requests:?}");
        }
        assert_eq!(
            (&device["expected"]["soc"], &device["expected"]["cell_9_voltage"]),
            (&json!("64.0"), &json!("3.326"))
        );
        assert_eq!(replies[0]["notify"].as_array().unwrap().len(), 1);
        let characteristics = &device["services"][0]["characteristics"];
        assert_eq!(characteristics[0], json!({"uuid": "ff01", "properties": ["notify"]}));
        assert_eq!(characteristics[1]["uuid"], "ff02");
    }

    #[test]
    fn stream_repeats_after_its_request() {
        let device = device(&jk::BRAND, ADDRESS, PackState::at_rest()).unwrap();
        let stream = &device["replies"][1];
        assert!(stream["match"].as_str().unwrap().starts_with("aa5590eb96"));
        let record = &stream["notify"][1];
        assert!(record["hex"].as_str().unwrap().starts_with("55aaeb9002"));
        assert_eq!((&record["repeat"], &record["after_ms"]), (&json!(-1), &json!(500)));
        assert_eq!(device["services"][0]["characteristics"].as_array().unwrap().len(), 1);
        assert_eq!(device["name"], "JK_SIM");
    }

    #[test]
    fn every_bluetooth_brand_has_a_description() {
        for brand in brands() {
            // JK boards have these dialects on their wires only.
            let wire = ["jk:ttl", "jk:pb"].contains(&brand.name);
            let radio = !wire && protocol::find(brand.driver()).unwrap().gatt.is_some();
            let written = device(brand, ADDRESS, PackState::at_rest());
            assert_eq!(written.is_ok(), radio, "{}: {written:?}", brand.name);
        }
    }

    #[test]
    fn long_uuid_keeps_its_form() {
        assert_eq!(
            uuid(0x6e40_0001_b5a3_f393_e0a9_e50e_24dc_ca9e),
            "6e400001-b5a3-f393-e0a9-e50e24dcca9e"
        );
        assert_eq!(uuid(protocol::uuid16(0xFFE0)), "ffe0");
    }
}
