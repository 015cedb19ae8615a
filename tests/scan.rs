//! Which brand an advertisement belongs to, with the recorded advertisements of every brand and with
//! those of devices that are no battery.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

use std::collections::BTreeMap;

use bms_reader::protocol;
use bms_reader::protocol::advertisement::Advertisement;
use bms_reader::protocol::detection::recognise;
use bms_reader::protocol::uuid16;
use serde_json::Value;

/// What a device advertises.
#[derive(Debug, Default)]
struct Device {
    name: Option<String>,
    address: String,
    services: Vec<u128>,
    manufacturer: Vec<(u16, Vec<u8>)>,
}

impl Device {
    fn new(name: &str, address: &str, services: &[u16], manufacturer: &[(u16, &[u8])]) -> Self {
        Device {
            name: Some(name).filter(|name| !name.is_empty()).map(str::to_owned),
            address: address.to_owned(),
            services: services.iter().map(|short| uuid16(*short)).collect(),
            manufacturer: manufacturer.iter().map(|(id, data)| (*id, data.to_vec())).collect(),
        }
    }

    fn recorded(advertisement: &Value) -> Self {
        let texts = |key: &str| {
            let list = advertisement[key].as_array().cloned().unwrap_or_default();
            list.into_iter().map(|text| text.as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        let data = advertisement["manufacturer_data"].as_object().cloned().unwrap_or_default();
        let parse = |uuid: &String| u128::from_str_radix(&uuid.replace('-', ""), 16).unwrap();
        let mut device = Device {
            name: advertisement["local_name"].as_str().map(str::to_owned),
            address: texts("platform_data").pop().unwrap_or_else(|| "02:00:00:00:00:01".to_owned()),
            services: texts("service_uuids").iter().map(parse).collect(),
            manufacturer: data
                .iter()
                .map(|(id, data)| (id.parse().unwrap(), bytes(data.as_str().unwrap())))
                .collect(),
        };
        device.restore_address();
        device
    }

    /// Recordings hide the second half of an address, but not where manufacturer data repeats it
    /// backwards, as that of JBD boards does.
    fn restore_address(&mut self) {
        let Some(known) = self.address.strip_suffix(":00:00:00") else { return };
        let Some((id, data)) = self.manufacturer.first().filter(|(_, data)| data.len() == 4) else {
            return;
        };
        let [low, high] = id.to_le_bytes();
        let octets = [data[3], data[2], data[1], data[0], high, low];
        let address = octets.map(|octet| format!("{octet:02X}")).join(":");
        if address.starts_with(known) {
            self.address = address;
        }
    }

    /// The brands that it may be, and whether it is likely to be one of them.
    fn guesses(&self) -> Vec<(&'static str, bool)> {
        let guesses = recognise(&Advertisement {
            name: self.name.as_deref(),
            address: &self.address,
            services: &self.services,
            manufacturer: &self.manufacturer,
        });
        guesses.into_iter().map(|guess| (guess.driver.name, guess.likely)).collect()
    }
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<_> = hex.chars().map(|digit| digit.to_digit(16).unwrap() as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// The recorded advertisements of each brand that is supported.
fn recorded() -> BTreeMap<String, Vec<Device>> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus");
    let mut all: BTreeMap<String, Vec<Device>> = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let corpus: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let file = path.file_stem().unwrap().to_str().unwrap();
        let name = corpus["profile"].as_str().unwrap_or(file);
        let Some(brand) = protocol::find(name).map(|info| info.name) else { continue };
        let list = corpus["advertisements"].as_array().cloned().unwrap_or_default();
        let devices = list.iter().map(|entry| Device::recorded(&entry["advertisement"]));
        all.entry(brand.to_owned()).or_default().extend(devices);
    }
    all
}

#[test]
fn recorded_advertisements_name_their_brand_first() {
    let (mut count, mut wrong) = (0, Vec::new());
    for (brand, devices) in recorded() {
        for device in devices {
            count += 1;
            let guesses = device.guesses();
            if guesses.first().is_none_or(|(first, _)| *first != brand) {
                wrong.push(format!("{brand}: {device:?}\n    {guesses:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(count >= 150, "{count}");
}

/// Where brands share their marks, the scan names them as possible and leaves the decision to a
/// request: nameless JBD boards, modules of Telink, HM-10 and the Renogy dongle.
const SHARED_MARKS: &[&str] = &["eleksol", "greenway", "jbd", "pwrxtreme", "renogy", "topband"];

#[test]
fn no_other_brand_is_likely() {
    let mut possible = 0;
    for (brand, devices) in recorded() {
        for device in devices {
            let guesses = device.guesses();
            let likely = guesses.iter().filter(|(_, likely)| *likely).map(|(name, _)| *name);
            let likely: Vec<_> = likely.collect();
            if likely.is_empty() {
                possible += 1;
                assert!(SHARED_MARKS.contains(&brand.as_str()), "{brand}: {device:?} {guesses:?}");
            } else {
                assert_eq!(likely, [brand.as_str()], "{device:?}");
            }
        }
    }
    assert!(possible <= 20, "{possible} advertisements name no likely brand");
}

#[test]
fn brands_with_shared_marks_are_all_named() {
    for (device, expected) in [
        // An HM-10 module with the unassigned company id.
        (
            Device::new("Battery", "02:00:00:00:00:01", &[0xFFE0], &[(0xFFFF, &[1])]),
            ["topband", "jk"],
        ),
        // A module with the address of Telink.
        (Device::new("", "A5:C2:37:00:00:01", &[0xFF06], &[]), ["eleksol", "jbd"]),
        // The name of Epoch and the company id of Topband.
        (
            Device::new("EpochGC2-1", "30:55:44:00:00:01", &[0xFFE0], &[(0xFFFF, &[0x30])]),
            ["epoch-pro", "topband"],
        ),
    ] {
        let guesses = device.guesses();
        let names: Vec<_> = guesses.iter().map(|(name, _)| *name).take(2).collect();
        assert_eq!(names, expected, "{device:?}");
    }
}

/// Devices that share a mark with a battery: dossiers name most of them.
#[test]
fn foreign_devices_are_never_likely() {
    let beacon: &[u8] = &[0x02, 0x15, 0xFD, 0xA5, 0x06, 0x93];
    for device in [
        Device::new(
            "[TV] Samsung 7 Series (55)",
            "64:E7:D8:00:00:01",
            &[],
            &[(0x0075, &[0x42, 4])],
        ),
        Device::new("HLK-LD2450_6D1F", "A4:C1:38:00:00:02", &[0xAF30], &[]),
        Device::new("HLK-LD2410_A1B2", "02:00:00:00:00:02", &[0xAF30, 0xFFF0], &[]),
        Device::new("ihoment_H6160_1A2B", "A4:C1:38:00:00:03", &[0x1910], &[(0x8802, &[0xEC])]),
        Device::new("Govee_H6182_3C4D", "A4:C1:38:00:00:04", &[0x180F, 0x1812], &[(0x8803, &[0])]),
        Device::new(
            "GVH5075_5E6F",
            "A4:C1:38:00:00:05",
            &[0xEC88],
            &[(0xEC88, &[0, 3]), (76, beacon)],
        ),
        Device::new("GModule", "A4:C1:38:00:00:06", &[0x1812], &[]),
        // The dongle of a Renogy solar controller or inverter.
        Device::new("BT-TH-0A1B2C3D", "60:98:66:00:00:07", &[0xFFD0], &[(0x9860, &[0x66])]),
        Device::new("SmartSolar HQ2134ABCDE", "C0:00:00:00:00:08", &[], &[(0x02E1, &[0x10, 0, 1])]),
        Device::new("FSC-BP104D", "DC:0D:30:00:00:09", &[0xFFF0], &[(76, beacon)]),
        Device::new("LYWSD03MMC", "A4:C1:38:00:00:0A", &[0xFE95, 0x181A], &[]),
        Device::new("ELK-BLEDOM", "BE:16:00:00:00:0B", &[0xFFF0], &[]),
        Device::new("HMSoft", "00:15:83:00:00:0C", &[0xFFE0], &[]),
        Device::new("TP_LINK_BULB", "50:C7:BF:00:00:0D", &[], &[]),
        Device::new("Glasses", "02:00:00:00:00:0E", &[0x180A], &[(0xFFFF, &[0x4E])]),
        Device::new("Nordic_UART", "02:00:00:00:00:0F", &[0x1801], &[(0x0059, &[1])]),
        Device::new("ABCRDEFGHI", "02:00:00:00:00:10", &[0xFFF0], &[]),
        Device::new("BM2", "02:00:00:00:00:11", &[0xFFF0], &[(76, beacon)]),
        Device::new("", "02:00:00:00:00:12", &[0xFF00, 0xFFE0, 0xFFF0], &[(0, &[0; 6])]),
    ] {
        let guesses = device.guesses();
        assert!(guesses.iter().all(|(_, likely)| !likely), "{device:?} {guesses:?}");
    }
}
