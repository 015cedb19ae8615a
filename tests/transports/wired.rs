//! Wired transports: two batteries, each on a bus of its own.

use std::collections::HashMap;
use std::marker::PhantomData;

use bms_reader::model::FaultKind;
use bms_reader::protocol::driver::Medium as DriverMedium;
use bms_reader::sim::{self, Bus, Faults, SimPack};
use bms_reader::transport::LinkConfig;

use crate::faulty_bridge::{Behaviour, FaultyBridge, Medium};
use crate::transport::{Behavior, FLOOD_PIECE, REQUEST, Transport};

/// One of the wired transports.
pub trait Kind {
    const MEDIUM: Medium;
    const AWAY: FaultKind;
    const IS_EXCLUSIVE: bool;
    const MAX_UNREAD: Option<usize>;
    const SECRETS: &'static [&'static str];
}

pub struct Serial;
impl Kind for Serial {
    const MEDIUM: Medium = Medium::Serial;
    const AWAY: FaultKind = FaultKind::PortNotFound;
    const IS_EXCLUSIVE: bool = true;
    const MAX_UNREAD: Option<usize> = None;
    const SECRETS: &'static [&'static str] = &[];
}

pub struct Tcp;
impl Kind for Tcp {
    const MEDIUM: Medium = Medium::Tcp;
    const AWAY: FaultKind = FaultKind::ConnectFailed;
    const IS_EXCLUSIVE: bool = false;
    const MAX_UNREAD: Option<usize> = None;
    const SECRETS: &'static [&'static str] = &[];
}

/// A serial port of an ESPHome device.
pub struct Esphome;
impl Kind for Esphome {
    const MEDIUM: Medium = Medium::Esphome;
    const AWAY: FaultKind = FaultKind::ConnectFailed;
    const IS_EXCLUSIVE: bool = true;
    const MAX_UNREAD: Option<usize> = Some(64 * 1024);
    const SECRETS: &'static [&'static str] = &["BwcHBw", "7, 7, 7"];
}

pub struct Wired<K> {
    /// Of each battery.
    bridges: [FaultyBridge; 2],
    endpoints: [LinkConfig; 2],
    kind: PhantomData<K>,
}

async fn bridge(medium: Medium) -> FaultyBridge {
    let brand = sim::find("jbd").unwrap();
    let mut bus = Bus::new(brand, 1, Faults::default());
    bus.add(1, brand.pack(SimPack::fixed(1)));
    FaultyBridge::open(medium, bus, HashMap::new()).await
}

impl<K: Kind> Transport for Wired<K> {
    const MEDIUM: DriverMedium = DriverMedium::Serial;
    const AWAY: &'static [FaultKind] = &[FaultKind::Disconnected, K::AWAY];
    const IS_EXCLUSIVE: bool = K::IS_EXCLUSIVE;
    const MAX_UNREAD: Option<usize> = K::MAX_UNREAD;
    const SECRETS: &'static [&'static str] = K::SECRETS;

    fn run(_: &str, law: impl AsyncFnOnce(&mut Self)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let bridges = [bridge(K::MEDIUM).await, bridge(K::MEDIUM).await];
            let endpoints = [bridges[0].endpoint(), bridges[1].endpoint()];
            let mut wired = Wired { bridges, endpoints, kind: PhantomData };
            law(&mut wired).await;
            wired.wait_connections(0).await;
        });
    }

    fn endpoint(&self, battery: usize) -> LinkConfig {
        self.endpoints[battery].clone()
    }

    async fn set_behavior(&mut self, battery: usize, behavior: Behavior) {
        self.bridges[battery].set_behaviour(match behavior {
            Behavior::Plain => Behaviour::Plain,
            Behavior::Pieces => Behaviour::Pieces,
            Behavior::Silent => Behaviour::Silent,
            Behavior::Halved => Behaviour::Halved,
            Behavior::Flooded(count) => Behaviour::Flooded(count * FLOOD_PIECE),
        });
    }

    async fn send(&mut self, battery: usize, bytes: &[u8]) {
        self.bridges[battery].send(bytes);
    }

    async fn vanish(&mut self) {
        for bridge in &mut self.bridges {
            bridge.switch_off().await;
        }
    }

    async fn come_back(&mut self) {
        for bridge in &mut self.bridges {
            bridge.switch_on().await;
        }
    }

    async fn block(&mut self) -> Vec<u8> {
        self.bridges[0].block();
        // More than the buffers of the kernel hold.
        REQUEST.repeat(if K::MEDIUM == Medium::Serial { 1 << 16 } else { 4 << 20 })
    }

    async fn connections(&mut self) -> usize {
        self.bridges.iter().map(FaultyBridge::connections).sum()
    }
}
