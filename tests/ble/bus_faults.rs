//! A bus that is missing or denies access: different faults, because the remedies differ.

use std::time::Duration;

use bms_reader::transport::{BusFault, LinkError};
use serde_json::{Value, json};

use crate::battery::{ADDRESS, bluetooth, config, one_battery, open};
use crate::rig::{BusKind, with_bus, with_fake};

/// The fault that opening a link and listing the adapters report.
async fn fault() -> BusFault {
    let opened = open(&config(ADDRESS)).await.unwrap_err();
    let LinkError::NoBus { fault, .. } = opened else { panic!("{opened:?}") };
    let listed = bluetooth().adapters().await.unwrap_err();
    assert!(matches!(listed, LinkError::NoBus { fault: same, .. } if same == fault), "{listed:?}");
    fault
}

#[test]
fn missing_bus() {
    with_bus(BusKind::Missing, Value::Null, async |_| {
        assert_eq!(fault().await, BusFault::Missing);
    });
}

#[test]
fn missing_bluetooth_service() {
    with_bus(BusKind::NoBluez, Value::Null, async |_| {
        assert_eq!(fault().await, BusFault::NoBluez);
    });
}

#[test]
fn access_denied_by_policy() {
    with_bus(BusKind::Denied, one_battery(), async |_| {
        assert_eq!(fault().await, BusFault::Denied);
    });
}

#[test]
fn bluetooth_service_without_an_adapter() {
    with_fake(one_battery(), async |rig| {
        rig.command(json!({"cmd": "adapter", "on": false})).await;
        assert_eq!(bluetooth().adapters().await.unwrap(), []);
        let error = bluetooth().scan(None, Duration::from_secs(1)).await.unwrap_err();
        assert_eq!(error, LinkError::NoAdapter { adapter: None });
    });
}
