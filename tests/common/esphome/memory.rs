//! A Bluetooth proxy that is reached without a network.

use std::sync::{Arc, Mutex};

use bms_reader::transport::esphome::Device;
use tokio::io::{DuplexStream, duplex};
use tokio::task::JoinSet;

use super::bluetooth::{Air, PROXY};
use super::{Front, KEY, Settings, echo};

/// A Bluetooth proxy in this process.
#[derive(Clone)]
pub struct MemoryProxy {
    pub front: Front,
    clients: Arc<Mutex<Option<JoinSet<()>>>>,
    pub device: Device,
}

impl MemoryProxy {
    pub fn start(name: &'static str, air: &Air) -> Self {
        let settings = Settings { name, bluetooth: PROXY, ..Settings::default() };
        MemoryProxy::with(settings, air)
    }

    pub fn with(settings: Settings, air: &Air) -> Self {
        let name = settings.name;
        let front = Front::in_reach_of(settings, air.clone());
        let clients = Arc::new(Mutex::new(Some(JoinSet::new())));
        let (serving, all) = (front.clone(), clients.clone());
        let dial = move || -> Option<DuplexStream> {
            let (near, far) = duplex(1 << 16);
            let front = serving.clone();
            all.lock().unwrap().as_mut()?.spawn(async move {
                let _ = front.serve(Box::new(far), echo(), || false).await;
            });
            Some(near)
        };
        let device = Device::in_memory(name, Some(KEY), Arc::new(dial));
        MemoryProxy { front, clients, device }
    }

    pub fn change(&self, change: impl FnOnce(&mut Settings)) {
        change(&mut self.front.settings.lock().unwrap());
    }

    /// All connections end, and new ones are refused.
    pub fn switch_off(&self) {
        self.clients.lock().unwrap().take();
    }

    /// Unless it is on.
    pub fn switch_on(&self) {
        self.clients.lock().unwrap().get_or_insert_default();
    }
}
