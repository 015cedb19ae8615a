//! A device as a Bluetooth proxy.
//!
//! A proxy sends advertisements, and all replies about batteries, to a single client. Up to ESPHome
//! 2026.6 that is the first one that has subscribed: the others are ignored in silence. In later ones it
//! is the newest, so that subscribing again would take the proxy away from Home Assistant. Only the
//! client that is served receives the state of the scanner, which reveals both cases.

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
/// From one attempt to take a silent proxy back to the next: another program may have taken it.
const RETAKE_PAUSE: Duration = Duration::from_secs(600);

/// A device that serves us as a Bluetooth proxy.
#[derive(Debug, Clone)]
pub struct Proxy {
    /// As it calls itself.
    pub name: String,
    /// Of ESPHome.
    pub version: String,
    connection: Connection,
}

impl Proxy {
    /// What it receives.
    pub fn radio(&self) -> watch::Receiver<Radio> {
        self.connection.radio.clone()
    }

    pub fn peer(&self, address: u64) -> Peer {
        Peer::new(self.connection.clone(), address)
    }

    /// Asks for the free connections. A change is reported only to the client that is served.
    pub async fn refresh_slots(&self) {
        let (mut radio, asked) = (self.radio(), Instant::now());
        let refreshed = async {
            self.connection.ask_slots().await.ok()?;
            let is_new = |radio: &Radio| radio.slots_at.is_some_and(|at| at >= asked);
            radio.wait_for(is_new).await.ok().map(drop)
        };
        let _ = timeout(SLOTS_LIMIT, refreshed).await;
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
        Ok(Proxy { name, version, connection })
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
        if let (Some(last), true) = (last, is_ours) {
            if now - last < TAKEN_AFTER {
                return Ok(());
            }
            if retaken.is_some_and(|at| now - at < RETAKE_PAUSE) {
                return Err(EsphomeFault::ReceivesNothing);
            }
            *retaken = Some(now);
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
