//! An adapter of this machine and Bluetooth proxies together.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bms_reader::transport::{BleConfig, Bluetooth, LinkConfig, LinkError};
use serde_json::json;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::battery::{
    ADDRESS, OTHER, REQUEST, battery_with, ble_link, config, open, read, single, two_batteries,
};
use crate::esphome_device::bluetooth::Air;
use crate::esphome_device::memory::MemoryProxy;
use crate::rig::{TEST_TIMEOUT, with_fake};

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
