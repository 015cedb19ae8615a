//! A bus that is not there, or does not let us in: told apart, since the remedies differ.

use bms_reader::transport::{BusFault, LinkError};
use serde_json::{Value, json};

use crate::battery::{ADDRESS, bluetooth, config, one, open};
use crate::rig::{Bus, on_bus, on_fake};

async fn fault() -> BusFault {
    let opened = open(&config(ADDRESS)).await.unwrap_err();
    let LinkError::NoBus { fault, .. } = opened else { panic!("{opened:?}") };
    // Whoever asks for the adapters hears the same.
    let listed = bluetooth().adapters().await.unwrap_err();
    assert!(matches!(listed, LinkError::NoBus { fault: same, .. } if same == fault), "{listed:?}");
    assert!(!opened.hint().is_empty());
    fault
}

#[test]
fn without_a_bus() {
    on_bus(Bus::Missing, Value::Null, async |_| assert_eq!(fault().await, BusFault::Missing));
}

#[test]
fn without_a_bluetooth_service() {
    on_bus(Bus::Bare, Value::Null, async |_| assert_eq!(fault().await, BusFault::NoBluez));
}

#[test]
fn with_a_policy_that_forbids_it() {
    on_bus(Bus::Forbidden, one(), async |_| assert_eq!(fault().await, BusFault::Denied));
}

#[test]
fn a_bluetooth_service_without_an_adapter() {
    on_fake(one(), async |rig| {
        rig.order(json!({"cmd": "adapter", "on": false})).await;
        assert_eq!(bluetooth().adapters().await.unwrap(), []);
        let error = bluetooth().scan(None, std::time::Duration::from_secs(1)).await.unwrap_err();
        assert!(matches!(error, LinkError::NoAdapter { .. }), "{error:?}");
    });
}
