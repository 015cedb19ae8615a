//! Wireless transports: two batteries at one adapter, or at one Bluetooth proxy.

use std::sync::LazyLock;
use std::time::Duration;

use bms_reader::model::FaultKind;
use bms_reader::poll::ble_channels;
use bms_reader::protocol::driver::Medium;
use bms_reader::sim::{self, PackState, gatt};
use bms_reader::transport::ble::ANY_PROXY;
use bms_reader::transport::{BleConfig, Bluetooth, LinkConfig};
use serde_json::{Value, json};

use crate::esphome_device::bluetooth::{Air, Faults};
use crate::esphome_device::memory::MemoryProxy;
use crate::rig::{BusKind, Rig, with_bus_as};
use crate::transport::{Behavior, FLOOD_PIECE, REQUEST, Transport, jbd};

const ADDRESSES: [&str; 2] = ["A4:C1:37:00:12:34", "A4:C1:37:00:12:35"];
/// Chunks that a link keeps, and in front of it those that have arrived over the proxy.
const MAX_UNREAD: usize = 2 * 256 * FLOOD_PIECE;
/// The fake BlueZ shortens the names of what Bluetooth assigns.
const NOTIFIES: &str = "ff01";

fn config(bluetooth: &Bluetooth, battery: usize, adapter: Option<&str>) -> LinkConfig {
    LinkConfig::Ble(BleConfig {
        bluetooth: bluetooth.clone(),
        address: ADDRESSES[battery].to_owned(),
        adapter: adapter.map(str::to_owned),
        scan_timeout: Duration::from_secs(5),
        timeout: Duration::from_secs(10),
        passkey: None,
        channels: ble_channels(jbd()),
    })
}

fn device(battery: usize) -> Value {
    gatt::device(sim::find("jbd").unwrap(), ADDRESSES[battery], PackState::at_rest()).unwrap()
}

/// What the fake bluetoothd changes for a behavior.
fn spec(battery: usize, behavior: Behavior) -> Value {
    let device = device(battery);
    let (mut replies, mut fragment) = (device["replies"].clone(), device["fragment"].clone());
    let notifications =
        replies.as_array_mut().unwrap().iter_mut().flat_map(|it| it["notify"].as_array_mut());
    let mut lose = 0;
    match behavior {
        Behavior::Plain => {}
        Behavior::Pieces => fragment = json!(3),
        Behavior::Silent => lose = 1,
        Behavior::Halved => notifications.flatten().for_each(|it| {
            let hex = it["hex"].as_str().unwrap();
            it["hex"] = json!(hex[..hex.len() / 4 * 2]);
        }),
        Behavior::Flooded(count) => notifications.for_each(|list| {
            let hex = "00".repeat(count * FLOOD_PIECE);
            list.insert(0, json!({"char": list[0]["char"], "hex": hex, "fragment": FLOOD_PIECE}));
        }),
    }
    json!({"replies": replies, "fragment": fragment, "lose": lose})
}

impl Transport for Rig {
    const MEDIUM: Medium = Medium::Ble;
    const AWAY: &'static [FaultKind] = &[FaultKind::AdapterNotFound, FaultKind::Disconnected];
    const IS_EXCLUSIVE: bool = true;
    const MAX_UNREAD: Option<usize> = Some(MAX_UNREAD);
    const SECRETS: &'static [&'static str] = &[];

    fn run(name: &str, law: impl AsyncFnOnce(&mut Self)) {
        let devices = json!({"devices": [device(0), device(1)]});
        with_bus_as(name, BusKind::Complete, devices, law);
    }

    fn endpoint(&self, battery: usize) -> LinkConfig {
        static BLUETOOTH: LazyLock<Bluetooth> = LazyLock::new(Bluetooth::default);
        config(&BLUETOOTH, battery, None)
    }

    async fn set_behavior(&mut self, battery: usize, behavior: Behavior) {
        let set = spec(battery, behavior);
        self.command(json!({"cmd": "spec", "address": ADDRESSES[battery], "set": set})).await;
    }

    async fn send(&mut self, battery: usize, bytes: &[u8]) {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let address = ADDRESSES[battery];
        let command = json!({"cmd": "notify", "address": address, "char": NOTIFIES, "hex": hex});
        self.command(command).await;
    }

    async fn vanish(&mut self) {
        self.command(json!({"cmd": "stop", "crash": true})).await;
    }

    async fn come_back(&mut self) {
        self.command(json!({"cmd": "start"})).await;
    }

    async fn block(&mut self) -> Vec<u8> {
        self.fault("WriteValue", json!({"hang": true}), 1).await;
        REQUEST.to_vec()
    }

    async fn connections(&mut self) -> usize {
        let state = self.state().await;
        let devices = state["devices"].as_object().unwrap().values();
        devices.filter(|device| device["connected"] == true).count()
    }
}

/// A Bluetooth proxy.
pub struct Proxy {
    air: Air,
    proxy: MemoryProxy,
    bluetooth: Bluetooth,
}

fn number(battery: usize) -> u64 {
    u64::from_str_radix(&ADDRESSES[battery].replace(':', ""), 16).unwrap()
}

impl Transport for Proxy {
    const MEDIUM: Medium = Medium::Ble;
    const AWAY: &'static [FaultKind] = &[FaultKind::AdapterNotFound, FaultKind::Disconnected];
    const IS_EXCLUSIVE: bool = true;
    const MAX_UNREAD: Option<usize> = Some(MAX_UNREAD);
    const SECRETS: &'static [&'static str] = &["BwcHBw", "7, 7, 7"];

    fn run(_: &str, law: impl AsyncFnOnce(&mut Self)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let air = Air::default();
            (0..2).for_each(|battery| air.add(number(battery), "jbd", &[("garage", -60)]));
            let proxy = MemoryProxy::start("garage", &air);
            let bluetooth = Bluetooth::with_proxies(vec![(None, proxy.device.clone())]);
            let mut proxy = Proxy { air, proxy, bluetooth };
            law(&mut proxy).await;
            proxy.wait_connections(0).await;
        });
    }

    fn endpoint(&self, battery: usize) -> LinkConfig {
        config(&self.bluetooth, battery, Some(ANY_PROXY))
    }

    async fn set_behavior(&mut self, battery: usize, behavior: Behavior) {
        self.air.change(number(battery), |faults| {
            *faults = Faults::default();
            match behavior {
                Behavior::Plain => {}
                Behavior::Pieces => faults.fragment = Some(3),
                Behavior::Silent => faults.lost = usize::MAX,
                Behavior::Halved => faults.halved = true,
                Behavior::Flooded(count) => faults.flood = count,
            }
        });
    }

    async fn send(&mut self, battery: usize, bytes: &[u8]) {
        self.air.notify(number(battery), bytes);
    }

    async fn vanish(&mut self) {
        self.proxy.switch_off();
    }

    async fn come_back(&mut self) {
        self.proxy.switch_on();
    }

    async fn block(&mut self) -> Vec<u8> {
        self.air.change(number(0), |faults| faults.write_hangs = true);
        REQUEST.to_vec()
    }

    async fn connections(&mut self) -> usize {
        self.air.counts().0
    }
}
