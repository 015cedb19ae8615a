//! Every brand with Bluetooth, read by the whole program: simulated batteries and, of brands without
//! a simulator, recorded ones.

use std::collections::BTreeMap;
use std::fs;

use bms_reader::protocol::info::GattChannel;
use bms_reader::protocol::{DriverInfo, drivers};
use bms_reader::sim::{self, PackState, gatt};
use serde_json::{Value, json};

use crate::commands::{run_program, stdout};
use crate::rig::with_fake;

/// Each brand with Bluetooth, and an address for a battery of it.
fn brands() -> Vec<(&'static DriverInfo, String)> {
    let brands = drivers().iter().filter(|info| info.gatt.is_some());
    brands.zip(0..).map(|(info, number)| (*info, format!("A4:C1:38:00:{number:02X}:00"))).collect()
}

/// What was recorded of a brand.
fn corpus(info: &DriverInfo) -> Option<Value> {
    let name = info.bluetooth.unwrap_or(info.name);
    let path = format!("{}/tests/corpus/{name}.json", env!("CARGO_MANIFEST_DIR"));
    Some(serde_json::from_slice(&fs::read(path).ok()?).unwrap())
}

/// A battery with the first recorded advertisement of its brand.
fn device(info: &DriverInfo, address: &str) -> Value {
    let mut device = match sim::find(info.name) {
        Some(brand) => gatt::device(brand, address, PackState::at_rest()).unwrap(),
        None => recorded(info, address),
    };
    let corpus = corpus(info).unwrap_or_default();
    let advertisement = &corpus["advertisements"][0]["advertisement"];
    // Replies of a recorded battery may depend on its name.
    let own_name = sim::find(info.name).is_none() && device["name"] != "MockBLEDevice";
    for (key, recorded) in [
        ("name", "local_name"),
        ("adv_services", "service_uuids"),
        ("manufacturer", "manufacturer_data"),
    ] {
        let keeps_own = own_name && key == "name";
        if !keeps_own && !advertisement[recorded].is_null() {
            device[key] = advertisement[recorded].clone();
        }
    }
    device
}

/// A battery that replies as in the first recorded conversation of its brand.
fn recorded(info: &DriverInfo, address: &str) -> Value {
    let conversation = corpus(info).unwrap()["conversations"][0].take();
    let (mut replies, mut unasked): (Vec<Value>, Vec<Value>) = (Vec::new(), Vec::new());
    for event in conversation["conversation"].as_array().unwrap() {
        if event["write"].is_string() {
            replies.push(json!({"on": event["char"], "match": event["write"], "notify": []}));
        } else if event["notify"].is_string() {
            let notify = json!({"char": event["char"], "hex": event["notify"], "after_ms": 5});
            match replies.last_mut() {
                Some(reply) => reply["notify"].as_array_mut().unwrap().push(notify),
                None => unasked.push(notify),
            }
        }
    }
    // Without a request, all that was recorded repeats as one stream, so that nothing depends on when
    // the reader begins.
    if replies.is_empty() {
        let hex: String = unasked.iter().filter_map(|notify| notify["hex"].as_str()).collect();
        let characteristic = &unasked[0]["char"];
        let stream = json!({"char": characteristic, "hex": hex, "after_ms": 200, "repeat": -1});
        unasked = vec![stream];
    }
    json!({
        "address": address, "name": conversation["device"]["name"], "adv_services": [],
        "fragment": 512, "services": services(&info.gatt.unwrap().channels[0]),
        "replies": replies, "on_subscribe": unasked,
    })
}

fn services(channel: &GattChannel) -> Value {
    let uuid = |uuid: u128| {
        let hex = format!("{uuid:032x}");
        [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
    };
    let mut services: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for (characteristic, properties) in channel
        .notify
        .iter()
        .map(|notify| (notify, json!(["notify"])))
        .chain([(&channel.write, json!(["write", "write-without-response"]))])
    {
        let entry = json!({"uuid": uuid(characteristic.uuid), "properties": properties});
        services.entry(uuid(characteristic.service)).or_default().push(entry);
    }
    let service =
        |(uuid, characteristics)| json!({"uuid": uuid, "characteristics": characteristics});
    services.into_iter().map(service).collect()
}

type Brand = (&'static DriverInfo, String);

fn batteries(brands: &[Brand]) -> Value {
    json!({"devices": brands.iter().map(|(info, it)| device(info, it)).collect::<Vec<_>>()})
}

/// Reads the batteries, with or without their type, and returns the JSON objects.
async fn read(brands: &[Brand], with_type: bool) -> Vec<Value> {
    let device = |(info, address): &Brand| {
        let mut device = json!({"id": info.name, "address": address, "scan_timeout": 1});
        if with_type {
            device["type"] = json!(info.name);
        }
        device
    };
    let devices: Vec<_> = brands.iter().map(device).collect();
    let output = run_program(&["read"], &[("DEVICES", &json!(devices).to_string())]).await;
    stdout(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn every_brand_is_read() {
    let brands = brands();
    with_fake(batteries(&brands), async |_| {
        let objects = read(&brands, true).await;
        let failed: Vec<_> = objects.iter().filter(|object| !object["error"].is_null()).collect();
        assert!(failed.is_empty(), "{} failed: {failed:#?}", failed.len());
        assert_eq!(objects.len(), brands.len());
    });
}

/// The frames of these are no proof of the brand: without a checksum, or the same as those of
/// another one. The advertisement tells them apart.
#[test]
fn brands_with_ambiguous_frames_are_told_apart() {
    let mut brands = brands();
    brands.retain(|(info, _)| {
        // These were recorded once, but only two readings without a checksum are believed.
        let is_unchecked = info.unchecked && !["dometic", "lithionics"].contains(&info.name);
        let is_unchecked = is_unchecked
            && corpus(info).is_some_and(|corpus| !corpus["advertisements"][0].is_null());
        is_unchecked || ["ag", "ej", "ejpro", "renogy", "renogy-pro"].contains(&info.name)
    });
    with_fake(batteries(&brands), async |_| {
        let objects = read(&brands, false).await;
        let wrong = objects.iter().filter(|object| object["type"] != object["id"]);
        let wrong: Vec<_> =
            wrong.map(|object| [&object["id"], &object["type"], &object["error"]]).collect();
        assert!(
            wrong.is_empty() && objects.len() >= 9,
            "{} of {}: {wrong:#?}",
            wrong.len(),
            objects.len()
        );
    });
}
