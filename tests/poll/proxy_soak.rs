//! Many connections through two Bluetooth proxies, with random faults.

use std::collections::BTreeMap;
use std::time::Duration;

use bms_reader::transport::LinkConfig;
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep, timeout};

use crate::esphome_device::bluetooth::{Air, Faults};
use crate::esphome_device::memory::MemoryProxy;
use crate::proxy::{bluetooth, config};

/// Variable with the number of cycles; `./test all` sets it to 2,000.
const CYCLES: &str = "BMS_READER_SOAK";
const DEFAULT_CYCLES: usize = 150;
const BATTERIES: usize = 3;
/// A cycle never takes longer: the scan, a connect that hangs and is cancelled, and an unusable proxy.
const LIMIT: Duration = Duration::from_secs(60);
/// JBD's request for its basic data.
const REQUEST: [u8; 7] = [0xDD, 0xA5, 3, 0, 0xFF, 0xFD, 0x77];
const FIRST: u64 = 0xA4C1_3700_1234;

/// The same numbers at each run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) % limit
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Trouble {
    None,
    Connect,
    ConnectHangs,
    Services,
    Write,
    WriteHangs,
    Notifications,
    LinkLost,
    OutOfReach,
    NoSlot,
    ProxyOff,
    ProxyLost,
    Taken,
    Dropped,
}

const TROUBLES: [Trouble; 14] = [
    Trouble::None,
    Trouble::Connect,
    Trouble::ConnectHangs,
    Trouble::Services,
    Trouble::Write,
    Trouble::WriteHangs,
    Trouble::Notifications,
    Trouble::LinkLost,
    Trouble::OutOfReach,
    Trouble::NoSlot,
    Trouble::ProxyOff,
    Trouble::ProxyLost,
    Trouble::Taken,
    Trouble::Dropped,
];

fn faults(trouble: Trouble) -> Faults {
    let mut faults = Faults::default();
    match trouble {
        Trouble::Connect => faults.connect = Some(133),
        Trouble::ConnectHangs => faults.connect_hangs = true,
        Trouble::Services => faults.endless_services = true,
        Trouble::Write => faults.write = Some(133),
        Trouble::WriteHangs => faults.write_hangs = true,
        Trouble::Notifications => faults.lost = 1,
        Trouble::LinkLost => faults.lost_after = Some(0),
        _ => {}
    }
    faults
}

/// Connects, reads and disconnects; whether the battery has answered.
async fn read(config: &LinkConfig) -> bool {
    let Ok(mut link) = config.open(0).await else { return false };
    let mut received = 0;
    if link.send(&REQUEST).await.is_ok() {
        let reply = async {
            while received < 34 {
                let Ok(chunk) = link.receive().await else { return };
                received += chunk.len();
            }
        };
        let _ = timeout(Duration::from_secs(5), reply).await;
    }
    link.close().await;
    received >= 34
}

/// Three free connections, and no other program.
fn restore(proxy: &MemoryProxy) {
    proxy.change(|settings| (settings.slots, settings.taken) = (3, false));
    proxy.switch_on();
}

#[tokio::test(start_paused = true)]
async fn every_cycle_ends_within_its_limit_and_leaves_nothing() {
    let air = Air::default();
    let near = [("garage", -60), ("house", -68)];
    (0..BATTERIES).for_each(|number| air.add(FIRST + number as u64, "jbd", &near));
    let proxies = ["garage", "house"].map(|name| MemoryProxy::start(name, &air));
    let bluetooth = bluetooth(&[&proxies[0], &proxies[1]]);
    let configs = (0..BATTERIES).map(|number| {
        let address = format!("A4:C1:37:00:12:{:02X}", 0x34 + number);
        LinkConfig::Ble(config(&bluetooth, "jbd", &address))
    });
    let configs: Vec<_> = configs.collect();
    assert!(read(&configs[0]).await);
    sleep(Duration::from_secs(20)).await;
    let tasks = || Handle::current().metrics().num_alive_tasks();
    let at_rest = tasks();
    let mut random = Random(7);
    let mut answered: BTreeMap<Trouble, (usize, usize)> = BTreeMap::new();
    let cycles = std::env::var(CYCLES).ok().and_then(|text| text.parse().ok());
    let cycles = cycles.unwrap_or(DEFAULT_CYCLES);
    for cycle in 0..cycles {
        let trouble = TROUBLES[random.below(TROUBLES.len() as u64) as usize];
        let (number, proxy) = (random.below(BATTERIES as u64), &proxies[random.below(2) as usize]);
        let (battery, config) = (FIRST + number, &configs[number as usize]);
        air.change(battery, |it| *it = faults(trouble));
        match trouble {
            Trouble::OutOfReach => air.move_to(battery, &[]),
            Trouble::NoSlot => proxy.change(|settings| settings.slots = 0),
            Trouble::ProxyOff => proxy.switch_off(),
            Trouble::Taken => proxy.change(|settings| settings.taken = true),
            _ => {}
        }
        let begin = Instant::now();
        let cut = Duration::from_millis(random.below(600));
        let run = async {
            match trouble {
                Trouble::Dropped => timeout(cut, read(config)).await.unwrap_or_default(),
                Trouble::ProxyLost => {
                    tokio::join!(read(config), async {
                        sleep(cut).await;
                        proxy.switch_off();
                    })
                    .0
                }
                _ => read(config).await,
            }
        };
        let good = timeout(LIMIT, run).await;
        let good = good.unwrap_or_else(|_| panic!("cycle {cycle} ({trouble:?}) has no end"));
        let count = answered.entry(trouble).or_default();
        *count = (count.0 + usize::from(good), count.1 + 1);
        air.change(battery, |it| *it = Faults::default());
        air.move_to(battery, &near);
        proxies.iter().for_each(restore);
        // For what was dropped, and for the proxies to be connected again.
        sleep(Duration::from_secs(12)).await;
        assert!(read(config).await, "cycle {cycle}: not read after {trouble:?}");
        sleep(Duration::from_secs(6)).await;
        let (connected, clients) = air.counts();
        assert_eq!(connected, 0, "cycle {cycle} ({trouble:?})");
        assert!(clients <= proxies.len(), "cycle {cycle} ({trouble:?}): {clients} clients");
        assert!(tasks() <= at_rest, "cycle {cycle} ({trouble:?}): {} tasks", tasks());
        assert!(begin.elapsed() < LIMIT + Duration::from_secs(100), "cycle {cycle}");
    }
    println!("{cycles} cycles: answered and tried by fault {answered:?}");
    assert_eq!(answered.len(), TROUBLES.len(), "{answered:?}");
    let (good, all) = answered[&Trouble::None];
    assert_eq!(good, all, "{answered:?}");
    let (good, _) = answered[&Trouble::ConnectHangs];
    assert_eq!(good, 0, "{answered:?}");
}
