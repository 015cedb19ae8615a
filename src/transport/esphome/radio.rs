//! What a Bluetooth proxy receives, and the connections that it has left.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::bluetooth::{RawAdvertisement, Slots, short_uuid};

/// Devices that are remembered; the one that was silent for the longest time is forgotten first.
const MAX_DEVICES: usize = 255;
/// A device that was received within this time is in reach.
pub const IN_REACH: Duration = Duration::from_secs(60);
/// Services and manufacturers of one device.
const MAX_ENTRIES: usize = 16;

/// Types of the structures in an advertisement.
const SHORT_UUIDS: [u8; 2] = [0x02, 0x03];
const MEDIUM_UUIDS: [u8; 2] = [0x04, 0x05];
const LONG_UUIDS: [u8; 2] = [0x06, 0x07];
const NAMES: [u8; 2] = [0x08, 0x09];
const MANUFACTURER: u8 = 0xFF;

/// The content of advertisements.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Advertised {
    pub name: Option<String>,
    pub services: Vec<u128>,
    /// By company identifier.
    pub manufacturer: Vec<(u16, Vec<u8>)>,
}

impl Advertised {
    /// Adds what an advertisement contains. A name is in one packet and the services are in another,
    /// so nothing is removed.
    pub fn merge(&mut self, mut data: &[u8]) {
        while let Some((&length, rest)) = data.split_first() {
            let Some((structure, rest)) = rest.split_at_checked(length.into()) else { return };
            data = rest;
            let Some((kind, content)) = structure.split_first() else { continue };
            match kind {
                kind if SHORT_UUIDS.contains(kind) => self.add_services::<2>(content),
                kind if MEDIUM_UUIDS.contains(kind) => self.add_services::<4>(content),
                kind if LONG_UUIDS.contains(kind) => self.add_services::<16>(content),
                kind if NAMES.contains(kind) => self.set_name(content),
                &MANUFACTURER => self.set_manufacturer(content),
                _ => {}
            }
        }
    }

    /// The least significant byte comes first.
    fn add_services<const SIZE: usize>(&mut self, content: &[u8]) {
        for bytes in content.chunks_exact(SIZE) {
            let number = bytes.iter().rev().fold(0, |all, byte| all << 8 | u128::from(*byte));
            let uuid = if SIZE == 16 { number } else { short_uuid(number as u64) };
            if !self.services.contains(&uuid) && self.services.len() < MAX_ENTRIES {
                self.services.push(uuid);
                self.services.sort_unstable();
            }
        }
    }

    fn set_name(&mut self, content: &[u8]) {
        let name = String::from_utf8_lossy(content);
        let name = name.trim_end_matches('\0').replace(char::is_control, " ");
        // A shortened name does not replace the complete one.
        let is_longer = self.name.as_ref().is_none_or(|known| !known.starts_with(&name));
        if !name.is_empty() && is_longer {
            self.name = Some(name);
        }
    }

    fn set_manufacturer(&mut self, content: &[u8]) {
        let Some((company, data)) = content.split_first_chunk() else { return };
        let company = u16::from_le_bytes(*company);
        self.manufacturer.retain(|(known, _)| *known != company);
        self.manufacturer.truncate(MAX_ENTRIES - 1);
        self.manufacturer.push((company, data.to_vec()));
        self.manufacturer.sort_unstable();
    }
}

/// A device in reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// The last time.
    pub at: Instant,
    /// In dBm, smoothed.
    pub rssi: i16,
    /// A connect needs it.
    pub address_type: u64,
    pub advertised: Advertised,
}

/// What a proxy has reported.
#[derive(Debug, Default)]
pub struct Radio {
    pub slots: Option<Slots>,
    /// When they were reported last.
    pub slots_at: Option<Instant>,
    /// The state of its scanner has arrived since the subscription, so the advertisements are ours.
    pub is_ours: bool,
    /// The mode of its scanner is passive: names are not received.
    pub is_passive: bool,
    /// When anything that only the client that is served receives arrived last, or when the
    /// subscription was sent.
    pub last: Option<Instant>,
    devices: BTreeMap<u64, Received>,
}

impl Radio {
    pub fn receive(&mut self, advertisement: &RawAdvertisement<'_>, now: Instant) {
        if !self.devices.contains_key(&advertisement.address) && self.devices.len() >= MAX_DEVICES {
            let oldest = self.devices.iter().min_by_key(|(_, device)| device.at);
            if let Some(oldest) = oldest.map(|(address, _)| *address) {
                self.devices.remove(&oldest);
            }
        }
        let RawAdvertisement { address, rssi, address_type, data } = *advertisement;
        let device = self.devices.entry(address).or_insert_with(|| Received {
            at: now,
            rssi,
            address_type,
            advertised: Advertised::default(),
        });
        let is_stale = now - device.at > IN_REACH;
        device.rssi = if is_stale { rssi } else { smoothed(device.rssi, rssi) };
        (device.at, device.address_type) = (now, address_type);
        device.advertised.merge(data);
    }

    pub fn get(&self, address: u64) -> Option<&Received> {
        self.devices.get(&address)
    }

    /// Whether it can connect to one more battery, as far as it has reported.
    pub fn has_slot(&self) -> bool {
        self.slots.as_ref().is_none_or(|slots| slots.free > 0)
    }

    /// The devices that were received within a minute.
    pub fn in_reach(&self, now: Instant) -> impl Iterator<Item = (u64, &Received)> {
        let recent = move |(_, device): &(&u64, &Received)| now - device.at <= IN_REACH;
        self.devices.iter().filter(recent).map(|(address, device)| (*address, device))
    }
}

fn smoothed(before: i16, new: i16) -> i16 {
    ((i32::from(before) * 3 + i32::from(new)) / 4) as i16
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::bluetooth::read_advertisements;
    use super::super::message::tests::recorded;
    use super::*;

    fn structure(kind: u8, content: &[u8]) -> Vec<u8> {
        [&[content.len() as u8 + 1, kind], content].concat()
    }

    #[test]
    fn recorded_advertisement_is_decoded() {
        let recorded = recorded("two advertisements");
        let mut radio = Radio::default();
        let now = Instant::now();
        for advertisement in read_advertisements(&recorded) {
            radio.receive(&advertisement, now);
        }
        let found: Vec<_> = radio.in_reach(now).map(|(_, device)| device).collect();
        let battery = found.iter().find(|device| device.rssi == -61).unwrap();
        assert_eq!(battery.advertised.name.as_deref(), Some("xiaoxiang BMS"));
        assert_eq!(battery.advertised.services, [short_uuid(0xFF00)]);
        assert_eq!(found.len(), 2);
    }

    #[test]
    fn name_and_services_of_different_packets_are_merged() {
        let mut found = Advertised::default();
        found.merge(&structure(0x03, &[0xE0, 0xFF]));
        found.merge(&structure(0x09, b"JK-B2A8S20P\0"));
        found.merge(&structure(0x08, b"JK-B2"));
        found.merge(&structure(0xFF, &[0x65, 0x0B, 0x88, 0xA0]));
        found.merge(&structure(0xFF, &[0x65, 0x0B, 0x89]));
        assert_eq!(found.name.as_deref(), Some("JK-B2A8S20P"));
        assert_eq!(found.services, [short_uuid(0xFFE0)]);
        assert_eq!(found.manufacturer, [(0x0B65, vec![0x89])]);
    }

    #[test]
    fn memory_is_bounded_and_the_newest_devices_stay() {
        let (mut radio, now) = (Radio::default(), Instant::now());
        for address in 0..1000_u64 {
            let at = now + Duration::from_millis(address);
            let advertisement = RawAdvertisement { address, rssi: -70, address_type: 0, data: &[] };
            radio.receive(&advertisement, at);
        }
        assert_eq!(radio.devices.len(), MAX_DEVICES);
        assert!(radio.get(999).is_some() && radio.get(0).is_none());
        let later = now + Duration::from_secs(1) + IN_REACH;
        assert_eq!(radio.in_reach(later).count(), 0);
    }

    proptest! {
        #[test]
        fn what_is_advertised_is_decoded(
            name in "[a-zA-Z0-9_ -]{1,20}",
            shorts in prop::collection::btree_set(any::<u16>(), 0..5),
            long: u128,
            company: u16,
            data in prop::collection::vec(any::<u8>(), 0..20),
            unknown in prop::collection::vec(any::<u8>(), 0..10),
        ) {
            let content: Vec<u8> = shorts.iter().flat_map(|short| short.to_le_bytes()).collect();
            let manufacturer = [&company.to_le_bytes()[..], &data].concat();
            let mut found = Advertised::default();
            for part in [
                structure(0x01, &[6]),
                structure(0x02, &content),
                structure(0x16, &unknown),
                structure(0x07, &long.to_le_bytes()),
                structure(0x09, name.as_bytes()),
                structure(0xFF, &manufacturer),
            ] {
                found.merge(&part);
            }
            let mut services: Vec<_> = shorts.iter().map(|it| short_uuid((*it).into())).collect();
            services.push(long);
            services.sort_unstable();
            services.dedup();
            prop_assert_eq!(found.name, Some(name));
            prop_assert_eq!(found.services, services);
            prop_assert_eq!(found.manufacturer, vec![(company, data)]);
        }

        #[test]
        fn any_advertisement_is_bounded(packets: Vec<Vec<u8>>) {
            let mut found = Advertised::default();
            packets.iter().for_each(|packet| found.merge(packet));
            prop_assert!(found.services.len() <= MAX_ENTRIES);
            prop_assert!(found.manufacturer.len() <= MAX_ENTRIES);
            prop_assert!(found.name.is_none_or(|name| !name.contains(char::is_control)));
        }
    }
}
