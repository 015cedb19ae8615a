//! An adapter of this machine and Bluetooth proxies together.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bms_reader::transport::{BleConfig, Bluetooth, LinkConfig, LinkError};
use serde_json::json;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::battery::{
    ADDRESS, OTHER, REQUEST, battery_with, ble_link, config, one_battery, open, read, single,
    two_batteries,
};
use crate::esphome_device::bluetooth::Air;
use crate::esphome_device::memory::MemoryProxy;
use crate::rig::{Rig, TEST_TIMEOUT, with_fake};

const ADAPTER: &str = "hci0";

fn with_proxies(address: &str, proxies: &[&MemoryProxy]) -> BleConfig {
    let devices = proxies.iter().map(|proxy| (None, proxy.device.clone()));
    let bluetooth = Bluetooth::with_proxies(devices.collect());
    BleConfig { bluetooth, scan_timeout: Duration::from_secs(1), ..config(address) }
}

fn number(address: &str) -> u64 {
    u64::from_str_radix(&address.replace(':', ""), 16).unwrap()
}

#[test]
fn battery_moves_to_a_proxy_and_back_to_the_adapter() {
    with_fake(single(battery_with(ADDRESS, json!({"visible": false}))), async |rig| {
        let air = Air::default();
        air.add(number(ADDRESS), "jbd", &[("garage", -60)]);
        let proxy = MemoryProxy::start("garage", &air);
        let config = with_proxies(ADDRESS, &[&proxy]);
        let error = open(&config).await.unwrap_err();
        assert!(matches!(error, LinkError::NotSeen { .. }), "{error}");
        let link = open(&config).await.unwrap();
        assert_eq!(ble_link(&link).adapter(), "garage");
        link.close().await;
        // It stays there, although the adapter would see it now.
        rig.command(json!({"cmd": "visible", "on": true})).await;
        let link = open(&config).await.unwrap();
        assert_eq!(ble_link(&link).adapter(), "garage");
        link.close().await;
        proxy.switch_off();
        open(&config).await.unwrap_err();
        let mut link = open(&config).await.unwrap();
        assert_eq!(ble_link(&link).adapter(), ADAPTER);
        read(&mut link).await.unwrap();
        link.close().await;
    });
}

/// What the battery is read through, one connection after the other, until it is this.
async fn wait_route(config: &BleConfig, expected: &str) {
    let mut route = Vec::new();
    let waiting = async {
        while route.last().map(String::as_str) != Some(expected) {
            if let Ok(mut link) = open(config).await {
                let adapter = ble_link(&link).adapter().to_owned();
                if adapter == ADAPTER {
                    read(&mut link).await.unwrap();
                }
                link.close().await;
                route.push(adapter);
            }
            sleep(Duration::from_millis(200)).await;
        }
    };
    let waited = timeout(TEST_TIMEOUT, waiting).await;
    waited.unwrap_or_else(|_| panic!("never read through {expected}: {route:?}"));
}

/// The battery is read through this for a while.
async fn assert_route_stays(config: &BleConfig, expected: &str) {
    for _ in 0..8 {
        let link = open(config).await.unwrap();
        assert_eq!(ble_link(&link).adapter(), expected);
        link.close().await;
        sleep(Duration::from_millis(200)).await;
    }
}

/// At the adapter, its signal is -60 to -62 dBm.
#[test]
fn battery_follows_the_better_signal_between_connections() {
    with_fake(one_battery(), async |rig| {
        let air = Air::default();
        air.add(number(ADDRESS), "jbd", &[("garage", -56)]);
        let proxy = MemoryProxy::start("garage", &air);
        let config = with_proxies(ADDRESS, &[&proxy]);
        assert_route_stays(&config, ADAPTER).await;
        air.move_to(number(ADDRESS), &[("garage", -40)]);
        let link = open(&config).await.unwrap();
        sleep(Duration::from_secs(3)).await;
        assert_eq!(air.counts().0, 0, "an open connection is not moved");
        link.close().await;
        wait_route(&config, "garage").await;
        assert_eq!(rig.state().await["devices"][ADDRESS]["connected"], false);
        air.move_to(number(ADDRESS), &[("garage", -66)]);
        sleep(Duration::from_secs(3)).await;
        assert_route_stays(&config, "garage").await;
        air.move_to(number(ADDRESS), &[("garage", -80)]);
        wait_route(&config, ADAPTER).await;
        assert_route_stays(&config, ADAPTER).await;
        assert_eq!(air.counts().0, 0);
    });
}

/// After the adapter has failed to connect to the battery, it is read through this.
async fn assert_route_after_failure(rig: &mut Rig, rssi: i16, expected: &str) {
    let air = Air::default();
    air.add(number(ADDRESS), "jbd", &[("garage", rssi)]);
    let proxy = MemoryProxy::start("garage", &air);
    let config = with_proxies(ADDRESS, &[&proxy]);
    assert_route_stays(&config, ADAPTER).await;
    rig.fault("Connect", json!({"error": "Failed", "message": "lost"}), 99).await;
    open(&config).await.unwrap_err();
    rig.command(json!({"cmd": "clear_faults"})).await;
    assert_route_stays(&config, expected).await;
}

#[test]
fn battery_leaves_an_adapter_that_fails_for_a_proxy() {
    with_fake(one_battery(), async |rig| assert_route_after_failure(rig, -72, "garage").await);
}

#[test]
fn battery_stays_at_an_adapter_that_fails_if_the_proxy_is_too_far_away() {
    with_fake(one_battery(), async |rig| assert_route_after_failure(rig, -90, ADAPTER).await);
}

/// BlueZ knows the battery from earlier, so that nothing has measured its signal yet.
#[test]
fn signal_at_the_adapter_is_measured_before_it_is_compared() {
    with_fake(single(battery_with(ADDRESS, json!({"known": true}))), async |rig| {
        let air = Air::default();
        air.add(number(ADDRESS), "jbd", &[("garage", -40)]);
        let proxy = MemoryProxy::start("garage", &air);
        let config = with_proxies(ADDRESS, &[&proxy]);
        assert_eq!(rig.count("StartDiscovery").await, 0);
        wait_route(&config, "garage").await;
        assert_eq!(rig.count("StartDiscovery").await, 1);
    });
}

/// What each battery was read through last, and how often it was read.
type Reads = Arc<Mutex<BTreeMap<String, (String, u32)>>>;

/// Reads a battery with a connection for each read until the stop.
async fn read_repeatedly(config: BleConfig, reads: Reads, stop: CancellationToken) {
    while !stop.is_cancelled() {
        if let Ok(mut link) = LinkConfig::Ble(config.clone()).open(9600).await {
            let adapter = ble_link(&link).adapter().to_owned();
            let answered = async {
                link.send(&REQUEST).await?;
                link.receive().await
            };
            if timeout(Duration::from_secs(5), answered).await.is_ok_and(|it| it.is_ok()) {
                let mut reads = reads.lock().unwrap();
                let entry = reads.entry(config.address.clone()).or_default();
                *entry = (adapter, entry.1 + 1);
            }
            link.close().await;
        }
        sleep(Duration::from_millis(200)).await;
    }
}

/// Waits until each of these batteries was read twice more, the last time through what is expected.
async fn wait_read(reads: &Reads, expected: &[(&str, &str)]) {
    let before = reads.lock().unwrap().clone();
    let is_read = |(address, adapter): &(&str, &str)| {
        let earlier = before.get(*address).map_or(0, |it| it.1);
        let reads = reads.lock().unwrap();
        reads.get(*address).is_some_and(|(by, count)| by == adapter && *count >= earlier + 2)
    };
    let all_read = async {
        while !expected.iter().all(is_read) {
            sleep(Duration::from_millis(20)).await;
        }
    };
    let waited = timeout(TEST_TIMEOUT, all_read).await;
    waited.unwrap_or_else(|_| panic!("expected {expected:?}, read {:?}", reads.lock().unwrap()));
}

#[test]
fn six_batteries_go_on_when_one_of_two_proxies_dies() {
    with_fake(two_batteries(), async |_| {
        let near = [("garage", -60), ("attic", -80)];
        let batteries = ["A4:C1:37:00:00:01", "A4:C1:37:00:00:02"];
        let distant = ["A4:C1:37:00:00:03", "A4:C1:37:00:00:04"];
        let air = Air::default();
        batteries.iter().for_each(|address| air.add(number(address), "jbd", &near));
        distant.iter().for_each(|address| air.add(number(address), "jbd", &near[1..]));
        let [garage, attic] = ["garage", "attic"].map(|name| MemoryProxy::start(name, &air));
        let all = with_proxies(ADDRESS, &[&garage, &attic]);
        let (reads, stop) = (Reads::default(), CancellationToken::new());
        let addresses = [ADDRESS, OTHER].into_iter().chain(batteries).chain(distant);
        let tasks: Vec<_> = addresses
            .map(|address| BleConfig { address: address.to_owned(), ..all.clone() })
            .map(|config| tokio::spawn(read_repeatedly(config, reads.clone(), stop.clone())))
            .collect();
        let by = |middle| {
            let local = [ADDRESS, OTHER].map(|address| (address, ADAPTER));
            let near = batteries.map(|address| (address, middle));
            [local, near, distant.map(|address| (address, "attic"))].concat()
        };
        wait_read(&reads, &by("garage")).await;
        garage.switch_off();
        let died = Instant::now();
        wait_read(&reads, &by("attic")).await;
        println!("measured: six batteries are read again {:?} after a proxy died", died.elapsed());
        stop.cancel();
        futures_util::future::join_all(tasks).await;
        assert_eq!(air.counts().0, 0, "connections are left");
    });
}
