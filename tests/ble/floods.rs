//! More signals and clients than any machine has: nothing hangs, and what has to arrive arrives.

use std::time::Duration;

use bms_reader::transport::{BleConfig, Bluetooth, LinkConfig, LinkError};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::battery::{
    ADDRESS, REPLY, battery, bluetooth, config, one_battery, open_default, read, read_once, receive,
};
use crate::rig::{TEST_TIMEOUT, with_fake};

const SIGNALS: u16 = 10_000;
const PART: u16 = 500;
const CLIENTS: usize = 20;
const STRANGERS: usize = 40;

/// A reader that is too slow misses chunks, but never gets one twice or out of order. In parts, because
/// on a busy machine the reply to a call would arrive too late behind all of them.
#[test]
fn flood_of_notifications_arrives_in_order() {
    with_fake(one_battery(), async |rig| {
        let mut link = open_default().await;
        for _ in 0..SIGNALS / PART {
            let receiving = async {
                let mut numbers = Vec::new();
                while numbers.last() != Some(&(PART - 1)) {
                    let chunk = receive(&mut link).await.unwrap();
                    numbers.push(u16::from_be_bytes(chunk.try_into().unwrap()));
                }
                numbers
            };
            let flood = rig.command(json!({"cmd": "flood", "char": "ff01", "count": PART}));
            let (numbers, ()) = tokio::join!(receiving, flood);
            assert!(numbers.is_sorted_by(|one, next| one < next), "{numbers:?}");
        }
        assert_eq!(read(&mut link).await.unwrap(), REPLY);
        link.close().await;
    });
}

#[test]
fn battery_is_read_during_a_storm_of_properties() {
    with_fake(one_battery(), async |rig| {
        let mut link = open_default().await;
        let mut reads = 0;
        let storm = rig.command(json!({"cmd": "storm", "count": SIGNALS}));
        tokio::pin!(storm);
        loop {
            tokio::select! {
                () = &mut storm => break,
                reply = read(&mut link) => {
                    assert_eq!(reply.unwrap(), REPLY);
                    reads += 1;
                }
            }
        }
        assert!(reads > 0, "the storm was over at once");
        link.close().await;
        read_once(&config(ADDRESS)).await.unwrap();
    });
}

#[test]
fn battery_is_found_among_many_devices() {
    let stranger = |number: usize| {
        json!({"address": format!("00:11:22:33:44:{number:02X}"), "name": "Tag", "services": [],
            "manufacturer": {"76": "00".repeat(200)}})
    };
    let mut devices: Vec<Value> = (0..STRANGERS).map(stranger).collect();
    devices.push(battery(ADDRESS));
    with_fake(json!({"devices": devices}), async |_| {
        read_once(&config(ADDRESS)).await.unwrap();
        let scan = bluetooth().scan(None, Duration::from_secs(1));
        let found = timeout(TEST_TIMEOUT, scan).await.unwrap().unwrap();
        assert_eq!(found.len(), STRANGERS + 1);
    });
}

/// Each of them has its own connection to the bus and gets every signal.
#[test]
fn many_clients_survive_a_storm() {
    with_fake(one_battery(), async |rig| {
        read_once(&config(ADDRESS)).await.unwrap();
        let reason = "connecting took too long".to_owned();
        let error = LinkError::Open { endpoint: ADDRESS.into(), reason };
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| BleConfig { bluetooth: Bluetooth::default(), ..config(ADDRESS) })
            .collect();
        let signals: Vec<_> = clients
            .iter()
            .map(|client| LinkConfig::Ble(client.clone()).retry_signal(&error).unwrap())
            .map(tokio::spawn)
            .collect();
        rig.command(json!({"cmd": "storm", "count": SIGNALS / 10})).await;
        for client in &clients {
            let adapters = timeout(TEST_TIMEOUT, client.bluetooth.adapters()).await.unwrap();
            assert_eq!(adapters.unwrap().len(), 1);
        }
        assert!(signals.iter().all(|signal| !signal.is_finished()));
        let end = Instant::now() + TEST_TIMEOUT;
        // Again for a client that was not watching yet.
        while !signals.iter().all(JoinHandle::is_finished) {
            assert!(Instant::now() < end, "not every client notices that the adapter is on");
            rig.command(json!({"cmd": "power", "on": false})).await;
            rig.command(json!({"cmd": "power", "on": true})).await;
            sleep(Duration::from_millis(100)).await;
        }
        read_once(&config(ADDRESS)).await.unwrap();
    });
}
