//! After a failed attempt: notices the return of what was missing.

use std::future::{pending, ready};
use std::pin::Pin;
use std::time::Duration;

use bluer::{AdapterEvent, AdapterProperty, Address, DeviceEvent, DeviceProperty, SessionEvent};
use futures_util::stream::{Stream, StreamExt, once, select_all};
use tokio::time::sleep;
use tracing::debug;

use super::bus::{Bus, call_quick};
use super::error::BleError;
use super::lookout::seek;
use super::proxies::parse_address;
use super::{AdapterInfo, BleConfig, LinkError, is_missing};
use crate::transport::BusFault;

/// Until the next connection to a bus that does not work. Trying costs a local socket.
const BUS_PAUSE: Duration = Duration::from_secs(5);

/// Completes when the adapter of the battery returns or is switched on, which includes a start of
/// bluetoothd, and when a battery that was not seen advertises again.
///
/// A battery that was reached and failed is not waited for: its advertisements reveal nothing new.
pub async fn recovered(config: BleConfig, error: LinkError) {
    let Ok(address) = config.address.parse::<Address>() else { return pending().await };
    let route = config.bluetooth.route(config.adapter.as_deref(), Some(&config.address)).await;
    if let Some(proxies) = route {
        let address = parse_address(&config.address).filter(|_| is_missing(&error));
        let Some(address) = address else { return pending().await };
        return config.bluetooth.proxies.received_again(&config, &proxies, address).await;
    }
    let was_usable = !matches!(
        error,
        LinkError::NoBus { .. } | LinkError::NoAdapter { .. } | LinkError::AdapterOff { .. }
    );
    let unseen = matches!(error, LinkError::NotSeen { .. });
    let mut recovery = Recovery { config, address, unseen, was_usable };
    while recovery.watch().await.is_none() {
        sleep(BUS_PAUSE).await;
    }
}

struct Recovery {
    config: BleConfig,
    address: Address,
    /// The battery was not seen.
    unseen: bool,
    /// The adapter was there and switched on when last looked at.
    was_usable: bool,
}

enum Change {
    /// An adapter came, went, or was switched on or off.
    Adapter,
    /// A scan sees the battery. `rssi`: in dBm, where BlueZ has signalled it.
    Seen { rssi: Option<i16> },
    /// BlueZ, the adapter or the battery is gone, or the connection to the bus.
    Ended,
}

type Changes = Pin<Box<dyn Stream<Item = Change> + Send>>;

impl Recovery {
    /// Completes when another attempt makes sense; `None` when the bus does not work.
    async fn watch(&mut self) -> Option<()> {
        let bluetooth = &self.config.bluetooth;
        loop {
            let bus = bluetooth.connect().await.ok()?;
            let (mut changes, adapters) = match self.subscribe(&bus).await {
                Ok(subscribed) => subscribed,
                Err(error) => {
                    debug!("{}: cannot wait for its return: {error}", self.address);
                    if error.bus_fault().is_some() {
                        bluetooth.abandon(&bus).await;
                    }
                    return None;
                }
            };
            let adapter = AdapterInfo::choose(&adapters, self.config.adapter.as_deref()).ok();
            if adapter.is_some() && !self.was_usable {
                return Some(());
            }
            self.was_usable = adapter.is_some();
            // Another line may have to give up this connection, and then nothing may keep it open.
            drop(bus);
            let sought = adapter.filter(|_| self.unseen).map(|adapter| &*adapter.name);
            let _seeker = sought
                .filter(|adapter| bluetooth.locks.adapter(adapter).is_sought(self.address))
                .map(|adapter| seek(bluetooth, adapter));
            loop {
                match (changes.next().await.unwrap_or(Change::Ended), sought) {
                    (Change::Adapter, _) => self.was_usable = false,
                    (Change::Ended, _) => {}
                    (Change::Seen { .. }, None) => continue,
                    (Change::Seen { rssi }, Some(adapter)) => {
                        // The next attempt can do without a scan of its own.
                        bluetooth.locks.adapter(adapter).update(self.address, |history| {
                            (history.unreached, history.rssi) = (false, rssi);
                        });
                        return Some(());
                    }
                }
                break;
            }
        }
    }

    /// What changes, and the adapters at present.
    async fn subscribe(&self, bus: &Bus) -> Result<(Changes, Vec<AdapterInfo>), BleError> {
        let session = &bus.session;
        let sessions = call_quick("watching BlueZ", session.events()).await?;
        let mut changes = vec![ending(sessions.map(|event| match event {
            SessionEvent::AdapterAdded(_) | SessionEvent::AdapterRemoved(_) => Change::Adapter,
        }))];
        // The list comes before and after: what changes in between is either in it or signalled.
        for known in adapters_or_none(bus).await? {
            let adapter = session.adapter(&known.name)?;
            let address = self.address;
            let events = call_quick("watching the adapter", adapter.events()).await?;
            changes.push(ending(events.filter_map(move |event| {
                ready(match event {
                    AdapterEvent::DeviceAdded(added) if added == address => {
                        Some(Change::Seen { rssi: None })
                    }
                    AdapterEvent::PropertyChanged(AdapterProperty::Powered(_)) => {
                        Some(Change::Adapter)
                    }
                    _ => None,
                })
            })));
            if self.unseen {
                let device = adapter.device(address)?;
                let events = call_quick("watching the battery", device.events()).await?;
                changes.push(ending(events.filter_map(|event| {
                    ready(match event {
                        DeviceEvent::PropertyChanged(DeviceProperty::Rssi(rssi)) => {
                            Some(Change::Seen { rssi: Some(rssi) })
                        }
                        DeviceEvent::PropertyChanged(_) => None,
                    })
                })));
            }
        }
        Ok((select_all(changes).boxed(), adapters_or_none(bus).await?))
    }
}

fn ending(changes: impl Stream<Item = Change> + Send + 'static) -> Changes {
    changes.chain(once(ready(Change::Ended))).boxed()
}

/// None while bluetoothd does not run: its start is signalled as well.
async fn adapters_or_none(bus: &Bus) -> Result<Vec<AdapterInfo>, BleError> {
    match bus.adapters().await {
        Err(error) if error.bus_fault() == Some(BusFault::NoBluez) => Ok(Vec::new()),
        other => other,
    }
}
