//! What is special about a battery on Bluetooth: it serves one program at a time, a connection is
//! dear, and its adapter is shared.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::model::FaultKind;
use crate::protocol::DriverInfo;
use crate::protocol::advertisement::Advertisement;
use crate::transport::LinkError;
use crate::transport::ble::{BleFound, BlePlace};

/// Longest wait for one answer: the first after connecting takes a second or two, and a lost one
/// must leave time to ask again within the read.
const ANSWER: Duration = Duration::from_secs(5);

/// How a battery on Bluetooth is served.
#[derive(Debug, Clone)]
pub struct BleSettings {
    /// The link stays open between two reads; `None`: as suits the brand.
    pub keep_connected: Option<bool>,
    /// Time for one whole read.
    pub limit: Duration,
    /// What was told of the adapters; the batteries share it.
    pub troubles: ReportedAdapterErrors,
}

impl BleSettings {
    /// Whether the link to a battery of this brand stays open. A stream begins anew at each
    /// connection; everybody else does as well when the phone can have the battery in between.
    pub(super) fn keeps_connected(&self, driver: Option<&DriverInfo>) -> bool {
        let streams = || driver.and_then(|it| it.gatt).is_none_or(|gatt| gatt.streams);
        self.keep_connected.unwrap_or_else(streams)
    }
}

/// Time for one answer, where one whole read may take `limit`.
pub fn answer_limit(limit: Duration) -> Duration {
    limit.min(ANSWER)
}

/// Where to look for the conversation with a battery of this brand.
pub fn places(driver: &DriverInfo) -> Vec<BlePlace> {
    let places = driver.gatt.map_or(&[][..], |gatt| gatt.places);
    let place = |it: &crate::protocol::driver::GattChannel| BlePlace {
        service: it.service,
        notify: it.notify,
        write: it.write,
    };
    places.iter().map(place).collect()
}

/// What a scan saw, in the words of those who recognise brands.
pub fn advertisement(found: &BleFound) -> Advertisement<'_> {
    Advertisement {
        name: found.name.as_deref(),
        address: &found.address,
        services: &found.services,
        manufacturer: &found.manufacturer,
    }
}

/// ReportedAdapterErrors of adapters that were told. One adapter carries several batteries, and its trouble is
/// one, so it is told once and not by each of them.
#[derive(Debug, Clone, Default)]
pub struct ReportedAdapterErrors(Arc<Mutex<BTreeSet<String>>>);

impl ReportedAdapterErrors {
    /// Notes it; true when nobody has told it yet.
    pub(super) fn is_news(&self, error: &LinkError) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(error.to_string())
    }

    /// A battery was reached; true when some trouble has ended with that.
    pub(super) fn over(&self) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        !std::mem::take(&mut *told).is_empty()
    }
}

/// Whether it is the trouble of an adapter, or of all of them, and not of one battery. One that
/// hears nothing at all is as good as dead.
pub(super) fn concerns_adapter(error: &LinkError) -> bool {
    matches!(
        error,
        LinkError::NoBus { .. }
            | LinkError::NoAdapter { .. }
            | LinkError::AdapterOff { .. }
            | LinkError::NotSeen { others: 0, .. }
    )
}

/// Whether the same try may well succeed a moment later.
pub(super) fn may_pass(error: &LinkError) -> bool {
    matches!(error, LinkError::Open { .. } | LinkError::Gone { .. } | LinkError::Busy { .. })
}

/// Whether an open link ended; told even when the next one is there before anybody misses it. Tries
/// in vain to open one are nobody's business.
pub(super) fn broke_off(error: &LinkError) -> bool {
    matches!(error, LinkError::Gone { .. } | LinkError::Stuck { .. })
}

/// Whether a conversation that failed so leaves the link in doubt. A battery that says no is awake
/// and hears us.
pub(super) fn leaves_doubt(kind: FaultKind) -> bool {
    !matches!(kind, FaultKind::BmsError | FaultKind::AuthFailed | FaultKind::UnsupportedFrame)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn off(adapter: &str) -> LinkError {
        LinkError::AdapterOff { place: adapter.into() }
    }

    #[test]
    fn a_trouble_of_an_adapter_is_news_once_until_it_is_over() {
        let (one, another) = (ReportedAdapterErrors::default(), ReportedAdapterErrors::default());
        let same = one.clone();
        assert!(one.is_news(&off("hci0")) && !same.is_news(&off("hci0")));
        assert!(same.is_news(&off("hci1")) && another.is_news(&off("hci0")));
        assert!(same.over() && !one.over());
        assert!(one.is_news(&off("hci0")));
    }

    #[test]
    fn a_deaf_adapter_is_told_from_a_battery_that_is_away() {
        let not_seen = |place: &str, others| LinkError::NotSeen {
            place: place.into(),
            adapter: "hci0".into(),
            others,
        };
        assert!(concerns_adapter(&not_seen("A", 0)) && !concerns_adapter(&not_seen("A", 1)));
        let troubles = ReportedAdapterErrors::default();
        assert!(troubles.is_news(&not_seen("A", 0)) && !troubles.is_news(&not_seen("B", 0)));
    }

    #[test]
    fn an_answer_gets_a_share_of_the_whole_read() {
        assert_eq!(answer_limit(Duration::from_secs(20)), ANSWER);
        assert_eq!(answer_limit(Duration::from_secs(3)), Duration::from_secs(3));
    }
}
