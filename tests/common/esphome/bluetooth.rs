//! Batteries on Bluetooth, and the part of an ESPHome device that connects to them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bms_reader::protocol;
use bms_reader::protocol::info::GattChannel;
use bms_reader::sim::{self, Responder, SimBrand, SimPack};
use bms_reader::transport::esphome::bluetooth as api;
use bms_reader::transport::esphome::fields::{bytes, number, put_bytes, put_number};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{interval, sleep};

use super::Settings;

/// Features of a proxy of today, and of one that does not report its scanner.
pub const PROXY: u64 = 0xFF;
pub const SILENT_SCANNER: u64 = 0x3F;

const ADVERTISING: Duration = Duration::from_millis(200);
/// Until a battery replies, or is connected.
const DELAY: Duration = Duration::from_millis(30);
const MTU: u64 = 247;
/// Characteristics of a channel: each has a value and a descriptor behind it.
const FIRST_HANDLE: u64 = 3;
const CCCD: u64 = 0x2902;

const ANOTHER_CLIENT: usize = usize::MAX;

/// Everything that is in reach of the proxies of one test.
#[derive(Clone, Default)]
pub struct Air(Arc<Mutex<AirState>>);

#[derive(Default)]
struct AirState {
    batteries: BTreeMap<u64, BatteryState>,
    clients: usize,
    subscriptions: usize,
    /// Where connected batteries send to, and the handle of their notifications.
    channels: BTreeMap<u64, (mpsc::UnboundedSender<Sent>, u64)>,
}

struct BatteryState {
    brand: &'static SimBrand,
    /// By the name of the proxy, in dBm; elsewhere it is not received.
    rssi: BTreeMap<&'static str, i16>,
    /// Number of the client that is connected to it.
    connected: Option<usize>,
    faults: Faults,
}

/// What goes wrong with a battery; each happens to everything that follows.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// A connect fails with this reason.
    pub connect: Option<u64>,
    /// A connect is never answered.
    pub connect_hangs: bool,
    /// The list of services has no end.
    pub endless_services: bool,
    /// A write fails with this GATT error.
    pub write: Option<u64>,
    /// A write is never answered.
    pub write_hangs: bool,
    /// This many notifications are lost.
    pub lost: usize,
    /// The connection is lost when this many writes have been made.
    pub lost_after: Option<usize>,
    /// A disconnect is never confirmed.
    pub disconnect_hangs: bool,
    pub mtu: Option<u64>,
    /// Bytes of one notification.
    pub fragment: Option<usize>,
    /// Only the first half of a reply is sent.
    pub halved: bool,
    /// This many notifications that belong to no frame come before a reply.
    pub flood: usize,
}

impl Air {
    fn state(&self) -> MutexGuard<'_, AirState> {
        self.0.lock().unwrap()
    }

    /// Puts a battery in reach of these proxies.
    pub fn add(&self, address: u64, brand: &str, rssi: &[(&'static str, i16)]) {
        let (brand, rssi) = (sim::find(brand).unwrap(), rssi.iter().copied().collect());
        let battery = BatteryState { brand, rssi, connected: None, faults: Faults::default() };
        self.state().batteries.insert(address, battery);
    }

    pub fn change(&self, address: u64, change: impl FnOnce(&mut Faults)) {
        change(&mut self.state().batteries.get_mut(&address).unwrap().faults);
    }

    pub fn move_to(&self, address: u64, rssi: &[(&'static str, i16)]) {
        self.state().batteries.get_mut(&address).unwrap().rssi = rssi.iter().copied().collect();
    }

    /// Another client of the proxy is connected to it, or no longer.
    pub fn take(&self, address: u64, taken: bool) {
        let mut state = self.state();
        let battery = state.batteries.get_mut(&address).unwrap();
        battery.connected = taken.then_some(ANOTHER_CLIENT);
    }

    /// Sends a notification of a connected battery that was not requested.
    pub fn notify(&self, address: u64, bytes: &[u8]) {
        let state = self.state();
        let (sender, handle) = &state.channels[&address];
        let _ = sender.send((api::NOTIFICATION, message(&[address, *handle], Some((3, bytes)))));
    }

    /// Connections to batteries, and clients of proxies.
    pub fn counts(&self) -> (usize, usize) {
        let state = self.state();
        let connected = state.batteries.values().filter(|it| it.connected.is_some()).count();
        (connected, state.clients)
    }

    /// How often a client has subscribed to advertisements, with success or not.
    pub fn subscriptions(&self) -> usize {
        self.state().subscriptions
    }

    fn faults(&self, address: u64) -> Faults {
        self.state().batteries.get(&address).map(|it| it.faults.clone()).unwrap_or_default()
    }
}

type Sent = (u64, Vec<u8>);

/// The Bluetooth side of one client of a device.
pub struct RadioClient {
    air: Air,
    settings: Arc<Mutex<Settings>>,
    number: usize,
    sender: mpsc::UnboundedSender<Sent>,
    subscribed: bool,
    connections: BTreeMap<u64, BatteryConnection>,
    /// Advertisements, and what happens later.
    tasks: JoinSet<()>,
}

struct BatteryConnection {
    pack: Arc<Mutex<Box<dyn Responder>>>,
    channel: GattChannel,
    brand: &'static SimBrand,
    /// Handles whose notifications the proxy forwards, and those that the battery sends.
    forwarded: Vec<u64>,
    enabled: Vec<u64>,
    writes: usize,
    streams: bool,
}

impl BatteryConnection {
    fn new(brand: &'static SimBrand) -> Self {
        let name = format!("{}:ble", brand.driver());
        let brand = sim::find(&name).unwrap_or(brand);
        let gatt = protocol::find(brand.driver()).unwrap().gatt.unwrap();
        let mut pack = brand.pack(SimPack::fixed(*brand.addresses.start()));
        pack.connected();
        BatteryConnection {
            pack: Arc::new(Mutex::new(pack)),
            channel: gatt.channels[0],
            brand,
            forwarded: Vec::new(),
            enabled: Vec::new(),
            writes: 0,
            streams: false,
        }
    }

    /// Service, UUID and properties, in the order of the handles.
    fn characteristics(&self) -> Vec<(u128, u128, u64)> {
        let mut all: Vec<(u128, u128, u64)> = Vec::new();
        let notify = self.channel.notify.iter().map(|it| (it, api::NOTIFIES));
        let write = (&self.channel.write, api::WRITABLE | api::WRITABLE_WITHOUT_RESPONSE);
        for (it, properties) in notify.chain([write]) {
            match all.iter_mut().find(|(_, uuid, _)| *uuid == it.uuid) {
                Some(known) => known.2 |= properties,
                None => all.push((it.service, it.uuid, properties)),
            }
        }
        all
    }

    fn notify_handle(&self) -> u64 {
        let uuid = self.channel.notify[0].uuid;
        let position = self.characteristics().iter().position(|it| it.1 == uuid).unwrap();
        FIRST_HANDLE + 3 * position as u64
    }

    fn is_subscribed(&self) -> bool {
        let handle = self.notify_handle();
        self.forwarded.contains(&handle) && self.enabled.contains(&(handle + 1))
    }
}

fn message(numbers: &[u64], data: Option<(u32, &[u8])>) -> Vec<u8> {
    let mut payload = Vec::new();
    (1..).zip(numbers).for_each(|(field, number)| put_number(&mut payload, field, *number));
    if let Some((field, bytes)) = data {
        put_bytes(&mut payload, field, bytes);
    }
    payload
}

fn put_uuid(out: &mut Vec<u8>, uuid: u128, short: u32) {
    let number = (uuid >> 96) as u64;
    if uuid == api::short_uuid(number) {
        put_number(out, short, number);
    } else {
        put_number(out, 1, (uuid >> 64) as u64);
        put_number(out, 1, uuid as u64);
    }
}

impl RadioClient {
    pub fn new(air: Air, settings: Arc<Mutex<Settings>>) -> (Self, mpsc::UnboundedReceiver<Sent>) {
        static NUMBERS: AtomicUsize = AtomicUsize::new(1);
        let (sender, sent) = mpsc::unbounded_channel();
        air.state().clients += 1;
        let client = RadioClient {
            air,
            settings,
            number: NUMBERS.fetch_add(1, Ordering::Relaxed),
            sender,
            subscribed: false,
            connections: BTreeMap::new(),
            tasks: JoinSet::new(),
        };
        (client, sent)
    }

    fn settings(&self) -> Settings {
        self.settings.lock().unwrap().clone()
    }

    fn send(&self, kind: u64, payload: Vec<u8>) {
        let _ = self.sender.send((kind, payload));
    }

    fn send_later(&mut self, kind: u64, payload: Vec<u8>) {
        let sender = self.sender.clone();
        self.tasks.spawn(async move {
            sleep(DELAY).await;
            let _ = sender.send((kind, payload));
        });
    }

    fn send_slots(&self) {
        let settings = self.settings();
        let used = self.connections.len() as u64;
        let mut slots = message(&[settings.slots.saturating_sub(used), settings.slots], None);
        let state = self.air.state();
        let others = state.batteries.iter().filter(|(_, it)| it.connected == Some(ANOTHER_CLIENT));
        let others = others.map(|(address, _)| address);
        self.connections.keys().chain(others).for_each(|it| put_number(&mut slots, 3, *it));
        drop(state);
        self.send(api::SLOTS, slots);
    }

    pub fn handle(&mut self, kind: u64, payload: &[u8]) {
        let settings = self.settings();
        let (address, handle) = (number(payload, 1), number(payload, 2));
        self.air.state().subscriptions += usize::from(kind == api::SUBSCRIBE);
        match kind {
            api::SLOTS_REQUEST => self.send_slots(),
            api::SUBSCRIBE if settings.taken => {}
            api::SUBSCRIBE => self.subscribe(&settings),
            api::DEVICE_REQUEST if handle == api::DISCONNECT => self.disconnect(address),
            api::DEVICE_REQUEST => {
                assert!(number(payload, 3) != 0, "the type of the address");
                self.connect(address, &settings);
            }
            _ if !self.connections.contains_key(&address) => {
                self.send(api::GATT_ERROR, message(&[address, handle, u64::MAX], None));
            }
            api::SERVICES_REQUEST => self.list_services(address),
            api::NOTIFY => {
                self.connections.get_mut(&address).unwrap().forwarded.push(handle);
                self.send(api::NOTIFY_REPLY, message(&[address, handle], None));
            }
            api::WRITE_DESCRIPTOR => {
                assert_eq!(bytes(payload, 3), [1, 0]);
                self.connections.get_mut(&address).unwrap().enabled.push(handle);
                self.send_later(api::WRITE_REPLY, message(&[address, handle], None));
            }
            api::WRITE => self.write(address, handle, bytes(payload, 4)),
            other => panic!("message {other}"),
        }
    }

    fn subscribe(&mut self, settings: &Settings) {
        if settings.bluetooth & api::REPORTS_SCANNER != 0 {
            self.send(api::SCANNER_STATE, message(&[2, 1, 1], None));
        }
        if std::mem::replace(&mut self.subscribed, true) {
            return;
        }
        let (air, sender, name) = (self.air.clone(), self.sender.clone(), settings.name);
        let settings = self.settings.clone();
        self.tasks.spawn(async move {
            let mut ticks = interval(ADVERTISING);
            loop {
                ticks.tick().await;
                let (taken, stolen) = {
                    let settings = settings.lock().unwrap();
                    (settings.taken, settings.stolen)
                };
                if taken || stolen {
                    continue;
                }
                let advertisements = advertisements(&air, name);
                if !advertisements.is_empty()
                    && sender.send((api::ADVERTISEMENTS, advertisements)).is_err()
                {
                    return;
                }
            }
        });
    }

    fn connect(&mut self, address: u64, settings: &Settings) {
        let failed = |error| message(&[address, 0, 0, error], None);
        if self.connections.len() as u64 >= settings.slots {
            return self.send(api::CONNECTION, failed(0));
        }
        let faults = self.air.faults(address);
        if faults.connect_hangs {
            return;
        }
        let mut state = self.air.state();
        let number = self.number;
        let reachable = state.batteries.get_mut(&address).filter(|battery| {
            battery.connected.is_none() && battery.rssi.contains_key(settings.name)
        });
        let brand = reachable.filter(|_| faults.connect.is_none()).map(|battery| {
            battery.connected = Some(number);
            battery.brand
        });
        drop(state);
        let Some(brand) = brand else {
            return self.send_later(api::CONNECTION, failed(faults.connect.unwrap_or(133)));
        };
        let connection = BatteryConnection::new(brand);
        let channel = (self.sender.clone(), connection.notify_handle());
        self.air.state().channels.insert(address, channel);
        self.connections.insert(address, connection);
        self.send_slots();
        let mtu = faults.mtu.unwrap_or(MTU);
        self.send_later(api::CONNECTION, message(&[address, 1, mtu], None));
    }

    fn disconnect(&mut self, address: u64) {
        if !self.air.faults(address).disconnect_hangs {
            self.end(address, 0x16);
        }
    }

    fn end(&mut self, address: u64, reason: u64) {
        if self.connections.remove(&address).is_some()
            && let Some(battery) = self.air.state().batteries.get_mut(&address)
        {
            battery.connected = None;
        }
        self.send_slots();
        self.send(api::CONNECTION, message(&[address, 0, 0, reason], None));
    }

    fn list_services(&mut self, address: u64) {
        let characteristics = self.connections[&address].characteristics();
        for (position, (service, uuid, properties)) in (0..).zip(characteristics) {
            let handle = FIRST_HANDLE + 3 * position;
            let mut descriptor = message(&[0, handle + 1], None);
            put_number(&mut descriptor, 3, CCCD);
            let mut characteristic = message(&[0, handle, properties], None);
            put_bytes(&mut characteristic, 4, &descriptor);
            put_uuid(&mut characteristic, uuid, 5);
            let mut list = message(&[0, 1], Some((3, &characteristic)));
            put_uuid(&mut list, service, 4);
            self.send(api::SERVICES, message(&[address], Some((2, &list))));
        }
        if !self.air.faults(address).endless_services {
            self.send(api::SERVICES_DONE, message(&[address], None));
        }
    }

    fn write(&mut self, address: u64, handle: u64, data: &[u8]) {
        let faults = self.air.faults(address);
        if faults.write_hangs {
            return;
        }
        if let Some(error) = faults.write {
            return self.send(api::GATT_ERROR, message(&[address, handle, error], None));
        }
        let connection = self.connections.get_mut(&address).unwrap();
        connection.writes += 1;
        if faults.lost_after.is_some_and(|count| connection.writes > count) {
            return self.end(address, 8);
        }
        self.send(api::WRITE_REPLY, message(&[address, handle], None));
        let connection = self.connections.get_mut(&address).unwrap();
        let mut reply = connection.pack.lock().unwrap().respond(data, 0.0);
        if let Some(reply) = reply.as_mut().filter(|_| faults.halved) {
            reply.truncate(reply.len() / 2);
        }
        if !connection.is_subscribed() {
            return;
        }
        let size = faults.fragment.or(connection.brand.notification).unwrap();
        let pack = connection.pack.clone();
        let stream = connection.brand.stream.filter(|_| !connection.streams);
        connection.streams |= stream.is_some();
        let (air, sender, notify) =
            (self.air.clone(), self.sender.clone(), connection.notify_handle());
        let number = self.number;
        self.tasks.spawn(async move {
            sleep(DELAY).await;
            for _ in 0..faults.flood {
                let payload = message(&[address, notify], Some((3, &[0; 20])));
                let _ = sender.send((api::NOTIFICATION, payload));
            }
            let mut frame = reply;
            loop {
                for piece in frame.iter().flat_map(|frame| frame.chunks(size)) {
                    if !air.loses_notification(address) {
                        let payload = message(&[address, notify], Some((3, piece)));
                        let _ = sender.send((api::NOTIFICATION, payload));
                    }
                }
                let Some(seconds) = stream else { return };
                sleep(Duration::from_secs_f64(seconds)).await;
                if !air.is_connected_to(address, number) {
                    return;
                }
                frame = pack.lock().unwrap().unsolicited(0.0);
            }
        });
    }
}

impl Drop for RadioClient {
    fn drop(&mut self) {
        let mut state = self.air.state();
        state.clients -= 1;
        for battery in state.batteries.values_mut() {
            battery.connected.take_if(|client| *client == self.number);
        }
    }
}

impl Air {
    fn loses_notification(&self, address: u64) -> bool {
        let mut state = self.state();
        let Some(battery) = state.batteries.get_mut(&address) else { return true };
        let left = battery.faults.lost;
        battery.faults.lost = left.saturating_sub(1);
        left > 0
    }

    fn is_connected_to(&self, address: u64, client: usize) -> bool {
        self.state().batteries.get(&address).is_some_and(|it| it.connected == Some(client))
    }
}

/// Of the batteries that this proxy receives: a connected one is silent.
fn advertisements(air: &Air, proxy: &str) -> Vec<u8> {
    let mut all = Vec::new();
    for (address, battery) in &air.state().batteries {
        let Some(rssi) = battery.rssi.get(proxy).filter(|_| battery.connected.is_none()) else {
            continue;
        };
        let zigzag = ((i64::from(*rssi) << 1) ^ (i64::from(*rssi) >> 63)) as u64;
        let advertisement = message(&[*address, zigzag, 0], Some((4, &[2, 1, 6])));
        put_bytes(&mut all, 1, &advertisement);
    }
    all
}
