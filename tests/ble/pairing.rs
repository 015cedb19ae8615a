//! Boards that ask for a passkey.

use std::time::Duration;

use bms_reader::transport::{BleConfig, LinkError, Passkey};
use serde_json::{Value, json};

use crate::battery::{ADDRESS, battery_with, config, one_battery, open, read_once, single};
use crate::rig::with_fake;

fn with_passkey(passkey: &str) -> BleConfig {
    BleConfig { passkey: Passkey::parse(passkey), ..config(ADDRESS) }
}

fn board() -> Value {
    single(battery_with(ADDRESS, json!({"passkey": "012345"})))
}

#[test]
fn board_with_passkey_is_paired_once() {
    with_fake(board(), async |rig| {
        for _ in 0..2 {
            read_once(&with_passkey("012345")).await.unwrap();
        }
        assert_eq!((rig.count("RegisterAgent").await, rig.count("Pair").await), (1, 1));
    });
}

#[test]
fn wrong_passkey_is_a_pairing_error() {
    with_fake(board(), async |rig| {
        let error = open(&with_passkey("543210")).await.unwrap_err();
        assert!(matches!(error, LinkError::Pairing { .. }), "{error:?}");
        assert!(!format!("{error:?} {error}").contains("543210"));
        read_once(&with_passkey("012345")).await.unwrap();
        assert_eq!(rig.count("Pair").await, 2);
    });
}

#[test]
fn without_passkey_nothing_is_paired() {
    with_fake(one_battery(), async |rig| {
        read_once(&config(ADDRESS)).await.unwrap();
        assert_eq!((rig.count("RegisterAgent").await, rig.count("Pair").await), (0, 0));
    });
}

#[test]
fn pairing_that_hangs_times_out() {
    with_fake(board(), async |rig| {
        rig.fault("Pair", json!({"hang": true}), 1).await;
        let hurried = BleConfig { timeout: Duration::from_secs(4), ..with_passkey("012345") };
        open(&hurried).await.unwrap_err();
        read_once(&with_passkey("012345")).await.unwrap();
    });
}
