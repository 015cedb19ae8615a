//! What is special about Bluetooth: a battery serves one program at a time, connecting takes long,
//! and the adapter is shared.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::protocol::DriverInfo;
use crate::protocol::advertisement::Advertisement;
use crate::protocol::info::{Characteristic, GattChannel};
use crate::transport::ble::BleDevice;
use crate::transport::{BleChannel, CharacteristicId, EsphomeFault, LinkError};

/// Longest wait for one reply within the time of a read: the first after connecting takes a second
/// or two, and a lost one must leave time to repeat the request.
pub(super) const MAX_REPLY_TIMEOUT: Duration = Duration::from_secs(5);

/// How a battery on Bluetooth is polled.
#[derive(Debug, Clone)]
pub struct BleSettings {
    /// Keep the connection open between two reads; `None`: as suits the brand.
    pub keep_connected: Option<bool>,
    /// Shared by all batteries on Bluetooth.
    pub adapter_errors: ReportedAdapterErrors,
}

impl BleSettings {
    /// A stream restarts at each connection, so that one is kept. All others are released, so that
    /// a phone can connect between two reads.
    pub(super) fn keeps_connected(&self, driver: Option<&DriverInfo>) -> bool {
        let streams = || driver.and_then(|info| info.gatt).is_none_or(|gatt| gatt.streams);
        self.keep_connected.unwrap_or_else(streams)
    }
}

/// The GATT characteristics that a battery of this brand may have.
pub fn ble_channels(driver: &DriverInfo) -> Vec<BleChannel> {
    let id = |characteristic: &Characteristic| CharacteristicId {
        service: characteristic.service,
        uuid: characteristic.uuid,
    };
    let channels = driver.gatt.map_or(&[][..], |gatt| gatt.channels);
    let convert = |channel: &GattChannel| BleChannel {
        notify: channel.notify.iter().map(id).collect(),
        write: id(&channel.write),
        prefer_response: channel.prefer_response,
        read_only: channel.read_only,
        read: channel.read.iter().map(id).collect(),
        greeting: channel.greeting.iter().map(|(to, bytes)| (id(to), bytes.to_vec())).collect(),
    };
    channels.iter().map(convert).collect()
}

/// The advertisement in a scan result.
pub fn advertisement(found: &BleDevice) -> Advertisement<'_> {
    Advertisement {
        name: found.name.as_deref(),
        address: &found.address,
        services: &found.services,
        manufacturer: &found.manufacturer,
    }
}

/// Adapter errors that are in the log already. An adapter carries several batteries, and its error
/// is logged once instead of once per battery.
#[derive(Debug, Clone, Default)]
pub struct ReportedAdapterErrors(Arc<Mutex<BTreeSet<String>>>);

impl ReportedAdapterErrors {
    /// False if this error is known.
    pub(super) fn insert(&self, error: &LinkError) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(error.to_string())
    }

    /// Forgets all errors, because a battery was reached; true if there were any.
    pub(super) fn clear(&self) -> bool {
        let mut errors = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        !std::mem::take(&mut *errors).is_empty()
    }
}

/// Distinguishes an unusable adapter or proxy from an unreachable battery. An adapter that receives no
/// advertisement at all counts as unusable.
pub(super) fn is_adapter_error(error: &LinkError) -> bool {
    if let LinkError::Esphome { fault, .. } = error {
        return !matches!(
            fault,
            EsphomeFault::PinRequired | EsphomeFault::BatteryTaken | EsphomeFault::NoSlot(_)
        );
    }
    matches!(
        error,
        LinkError::NoBus { .. }
            | LinkError::NoAdapter { .. }
            | LinkError::AdapterOff { .. }
            | LinkError::NotSeen { others: 0, .. }
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adapter_off(adapter: &str) -> LinkError {
        LinkError::AdapterOff { adapter: adapter.into() }
    }

    fn not_seen(battery: &str, others: usize) -> LinkError {
        LinkError::NotSeen { endpoint: battery.into(), adapter: "hci0".into(), others }
    }

    #[test]
    fn adapter_error_is_reported_once_until_cleared() {
        let errors = ReportedAdapterErrors::default();
        let shared = errors.clone();
        assert!(errors.insert(&adapter_off("hci0")) && !shared.insert(&adapter_off("hci0")));
        assert!(shared.insert(&adapter_off("hci1")));
        assert!(shared.clear() && !errors.clear());
        assert!(errors.insert(&adapter_off("hci0")));
    }

    #[test]
    fn adapter_that_receives_nothing_is_one_error_for_all_batteries() {
        assert!(is_adapter_error(&not_seen("A", 0)) && !is_adapter_error(&not_seen("A", 1)));
        let errors = ReportedAdapterErrors::default();
        assert!(errors.insert(&not_seen("A", 0)) && !errors.insert(&not_seen("B", 0)));
    }
}
