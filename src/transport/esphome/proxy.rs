//! A device as a Bluetooth proxy.
//!
//! A proxy sends advertisements, and all replies about batteries, to a single client. Up to ESPHome
//! 2026.6 that is the first one that has subscribed: the others are ignored in silence. In later ones it
//! is the newest, so that subscribing would take the proxy away from Home Assistant. Only the
//! client that is served receives the state of the scanner, which reveals both cases. Before a subscription, only
//! connections to batteries reveal another client.

use std::collections::BTreeSet;
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::bluetooth::{CONNECTIONS, RAW_ADVERTISEMENTS, REPORTS_SCANNER};
use super::connection::Connection;
use super::message::DeviceInfo;
use super::peer::Peer;
use super::radio::Radio;
use super::{Device, not_open};
use crate::transport::LinkError;
use crate::transport::esphome_fault::EsphomeFault;

/// For the state of the scanner after a subscription; it is sent at once.
const SCANNER_LIMIT: Duration = Duration::from_secs(3);
/// For the number of free connections.
const SLOTS_LIMIT: Duration = Duration::from_secs(1);
/// Without any message about Bluetooth, another client may have taken the proxy.
const TAKEN_AFTER: Duration = Duration::from_secs(60);
/// From one attempt to take a silent proxy back to the next, doubled each time: another program may have taken it, and
/// would receive nothing any more.
const RETAKE_PAUSE: Duration = Duration::from_secs(600);
const MAX_RETAKE_PAUSE: Duration = Duration::from_secs(86_400);

/// A device that serves us as a Bluetooth proxy.
#[derive(Debug, Clone)]
pub struct Proxy {
    /// As it calls itself.
    pub name: String,
    /// Of ESPHome.
    pub version: String,
    device: Device,
    connection: Connection,
}

impl Proxy {
    /// What it receives.
    pub fn radio(&self) -> watch::Receiver<Radio> {
        self.connection.radio.clone()
    }

    pub fn peer(&self, address: u64) -> Peer {
        self.device.used().insert(address);
        Peer::new(self.connection.clone(), address)
    }

    pub async fn refresh_slots(&self) {
        refresh_slots(&self.connection).await;
    }

    /// Why the connection to it has ended.
    pub fn end(&self) -> EsphomeFault {
        self.connection.end()
    }
}

impl Device {
    /// What it receives, if it is connected at present.
    pub fn radio(&self) -> Option<watch::Receiver<Radio>> {
        let state = self.0.state.try_lock().ok()?;
        let (connection, _) = state.connected.as_ref().filter(|it| it.0.is_alive())?;
        Some(connection.radio.clone())
    }

    /// Connects to the device, unless it is connected, and subscribes to its advertisements.
    pub async fn listen(&self) -> Result<Proxy, LinkError> {
        let (connection, info, _) = self.connection().await.map_err(unreachable)?;
        let failed = |fault| {
            let endpoint = self.0.endpoint.clone();
            LinkError::Esphome { endpoint, fault }
        };
        if info.bluetooth & RAW_ADVERTISEMENTS == 0 {
            return Err(failed(EsphomeFault::NoProxy));
        }
        if info.bluetooth & CONNECTIONS != CONNECTIONS {
            return Err(failed(EsphomeFault::OnlyListens));
        }
        self.subscribe(&connection, &info).await.map_err(failed)?;
        let DeviceInfo { name, version, .. } = info;
        Ok(Proxy { name, version, device: self.clone(), connection })
    }

    /// The batteries that were connected through this device.
    fn used(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        self.0.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether another client is connected to batteries: it would get no answer any more. Connections of ours may be
    /// left from before an outage.
    async fn serves_another(&self, connection: &Connection) -> bool {
        refresh_slots(connection).await;
        let (radio, used) = (connection.radio.borrow(), self.used());
        let allocated = radio.slots.as_ref().map_or(&[][..], |slots| &slots.allocated);
        allocated.iter().any(|address| !used.contains(address))
    }

    async fn subscribe(
        &self,
        connection: &Connection,
        info: &DeviceInfo,
    ) -> Result<(), EsphomeFault> {
        let mut retaken = self.0.retaken.lock().await;
        let (mut radio, now) = (connection.radio.clone(), Instant::now());
        let reports = info.bluetooth & REPORTS_SCANNER != 0;
        let (last, is_ours) = {
            let radio = radio.borrow();
            (radio.last, radio.is_ours || !reports)
        };
        // Served once, and silent since.
        let is_silent = match last.filter(|_| is_ours) {
            Some(last) if now - last < TAKEN_AFTER => return Ok(()),
            last => last.is_some(),
        };
        if reports && self.serves_another(connection).await {
            return Err(EsphomeFault::ProxyBusy);
        }
        if is_silent {
            let pause = match *retaken {
                Some((at, pause)) if now - at < pause => return Err(EsphomeFault::ReceivesNothing),
                Some((_, pause)) => MAX_RETAKE_PAUSE.min(2 * pause),
                None => RETAKE_PAUSE,
            };
            *retaken = Some((now, pause));
        }
        let lost = |fault: EsphomeFault| EsphomeFault::Unreachable(fault.to_string());
        connection.listen().await.map_err(lost)?;
        if !reports {
            return Ok(());
        }
        let confirmed = radio.wait_for(|radio| radio.is_ours);
        match timeout(SCANNER_LIMIT, confirmed).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(lost(connection.end())),
            Err(_) => Err(EsphomeFault::ProxyBusy),
        }
    }
}

/// Asks for the free connections. A change is reported only to the client that is served.
async fn refresh_slots(connection: &Connection) {
    let (mut radio, asked) = (connection.radio.clone(), Instant::now());
    let refreshed = async {
        connection.ask_slots().await.ok()?;
        let is_new = |radio: &Radio| radio.slots_at.is_some_and(|at| at >= asked);
        radio.wait_for(is_new).await.ok().map(drop)
    };
    let _ = timeout(SLOTS_LIMIT, refreshed).await;
}

/// A proxy that cannot be reached is the same as an adapter that is missing.
fn unreachable(error: LinkError) -> LinkError {
    match error {
        LinkError::Open { endpoint, reason } => {
            not_open(&endpoint, EsphomeFault::Unreachable(reason))
        }
        LinkError::NotFound { endpoint } => {
            let reason = "its name is unknown".to_owned();
            not_open(&endpoint, EsphomeFault::Unreachable(reason))
        }
        other => other,
    }
}
