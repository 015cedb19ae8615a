//! Batteries behind Bluetooth proxies, in virtual time: the devices are in memory.

use std::time::Duration;

use bms_reader::board::Board;
use bms_reader::model::{FaultKind, LinkState};
use bms_reader::poll::{BleSettings, CycleError, Line, ReportedAdapterErrors, ble_channels};
use bms_reader::protocol::driver::Medium;
use bms_reader::protocol::{self, Options};
use bms_reader::transport::ble::ANY_PROXY;
use bms_reader::transport::{BleConfig, Bluetooth, EsphomeFault, Link, LinkConfig, LinkError};
use tokio::time::{Instant, sleep, timeout};

use crate::esphome_device::Settings;
use crate::esphome_device::bluetooth::{Air, Faults, PROXY, SILENT_SCANNER};
use crate::esphome_device::memory::MemoryProxy;
use crate::fixture::{FakeBus, TestLine, id, member, profile, wait_seconds};

/// Long enough that only a hang fails a test; in virtual time.
const PATIENCE: Duration = Duration::from_secs(600);
const BATTERY: u64 = 0xA4C1_3700_1234;
const ADDRESS: &str = "A4:C1:37:00:12:34";

pub fn bluetooth(proxies: &[&MemoryProxy]) -> Bluetooth {
    Bluetooth::with_proxies(proxies.iter().map(|proxy| (None, proxy.device.clone())).collect())
}

pub fn config(bluetooth: &Bluetooth, brand: &str, address: &str) -> BleConfig {
    BleConfig {
        bluetooth: bluetooth.clone(),
        address: address.to_owned(),
        adapter: Some(ANY_PROXY.to_owned()),
        scan_timeout: Duration::from_secs(5),
        timeout: Duration::from_secs(20),
        passkey: None,
        channels: ble_channels(protocol::find(brand).unwrap()),
    }
}

/// One proxy with one battery.
struct Rig {
    air: Air,
    proxy: MemoryProxy,
    bluetooth: Bluetooth,
}

impl Rig {
    fn with(settings: Settings) -> Self {
        let air = Air::default();
        air.add(BATTERY, "jbd", &[("garage", -60)]);
        let proxy = MemoryProxy::with(settings, &air);
        let bluetooth = bluetooth(&[&proxy]);
        Rig { air, proxy, bluetooth }
    }

    fn start() -> Self {
        Rig::with(Settings { bluetooth: PROXY, ..Settings::default() })
    }

    fn faulty(change: impl FnOnce(&mut Faults)) -> Self {
        let rig = Rig::start();
        rig.air.change(BATTERY, change);
        rig
    }

    fn config(&self) -> LinkConfig {
        LinkConfig::Ble(config(&self.bluetooth, "jbd", ADDRESS))
    }

    async fn open(&self) -> Result<Link, LinkError> {
        timeout(PATIENCE, self.config().open(0)).await.expect("every wait has a limit")
    }

    /// The error and its kind; nothing is left over afterwards.
    async fn error(&self) -> (LinkError, FaultKind) {
        let error = self.open().await.unwrap_err();
        let fault = CycleError::Link(error.clone()).fault();
        assert!(!fault.hint.is_empty() && !fault.message.contains("BwcH"), "{fault:?}");
        assert_eq!(self.air.counts().0, 0, "{error}");
        (error, fault.kind)
    }
}

fn esphome_fault((error, kind): (LinkError, FaultKind)) -> (EsphomeFault, FaultKind) {
    match error {
        LinkError::Esphome { fault, .. } => (fault, kind),
        other => panic!("{other:?}"),
    }
}

/// A battery that is read every 10 s.
fn line(config: BleConfig, brand: &str) -> TestLine {
    let mut member = member(1);
    member.driver = protocol::find(brand);
    let timeout = Duration::from_secs(20);
    let mac = Some([0xA4, 0xC1, 0x37, 0x00, 0x12, 0x34]);
    member.options = Options { medium: Medium::Ble, timeout, mac, ..Options::default() };
    let adapter_errors = ReportedAdapterErrors::default();
    let ble = Some(BleSettings { keep_connected: None, adapter_errors });
    let line = Line { ble, ..Line::new(LinkConfig::Ble(config), vec![member]) };
    TestLine::run_on(Board::new([profile(&id(1))]), FakeBus::default(), line)
}

async fn wait_reads(line: &TestLine, count: u64) {
    let good = async {
        loop {
            if line.state(1).counters.reads >= count {
                return;
            }
            sleep(Duration::from_millis(100)).await;
        }
    };
    if timeout(PATIENCE, good).await.is_err() {
        panic!("{:?}", line.state(1));
    }
}

#[tokio::test(start_paused = true)]
async fn jbd_and_jk_are_read_through_a_proxy() {
    for (brand, streams) in [("jbd", 0), ("jk", 1)] {
        let air = Air::default();
        air.add(BATTERY, brand, &[("garage", -60)]);
        let proxy = MemoryProxy::start("garage", &air);
        let line = line(config(&bluetooth(&[&proxy]), brand, ADDRESS), brand);
        wait_reads(&line, 3).await;
        let state = line.state(1);
        assert_eq!(state.counters.errors, 0, "{state:?}");
        assert_eq!(state.profile.adapter.as_deref(), Some("garage"));
        let reading = &state.snapshot.unwrap().reading;
        assert_eq!((reading.cells.len(), reading.pack.voltage.unwrap().0), (16, 53_020));
        wait_seconds(1).await;
        assert_eq!(air.counts(), (streams, 1), "a stream keeps its connection");
        line.stop.cancel();
        line.task.await.unwrap();
        assert_eq!(air.counts().0, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn small_mtu_and_a_proxy_without_scanner_state_work() {
    let rig = Rig::with(Settings { bluetooth: SILENT_SCANNER, ..Settings::default() });
    rig.air.change(BATTERY, |faults| faults.mtu = Some(23));
    let line = line(config(&rig.bluetooth, "jbd", ADDRESS), "jbd");
    wait_reads(&line, 2).await;
    assert_eq!(line.state(1).counters.errors, 0);
}

#[tokio::test(start_paused = true)]
async fn unusable_proxies_are_told_apart() {
    let of = |change: fn(&mut Settings)| {
        let mut settings = Settings { bluetooth: PROXY, ..Settings::default() };
        change(&mut settings);
        Rig::with(settings)
    };
    let rig = of(|settings| settings.taken = true);
    let expected = (EsphomeFault::ProxyBusy, FaultKind::PortBusy);
    assert_eq!(esphome_fault(rig.error().await), expected);
    let rig = of(|settings| settings.bluetooth = 0);
    let expected = (EsphomeFault::NoProxy, FaultKind::AdapterNotFound);
    assert_eq!(esphome_fault(rig.error().await), expected);
    let rig = of(|settings| settings.bluetooth = 0x61);
    let expected = (EsphomeFault::OnlyListens, FaultKind::AdapterNotFound);
    assert_eq!(esphome_fault(rig.error().await), expected);
    let rig = of(|settings| settings.slots = 0);
    let expected = (EsphomeFault::NoSlot(0), FaultKind::ConnectFailed);
    assert_eq!(esphome_fault(rig.error().await), expected);
    let rig = of(|settings| settings.key = None);
    let expected = (EsphomeFault::NotEncrypted, FaultKind::AuthFailed);
    assert_eq!(esphome_fault(rig.error().await), expected);
    let rig = Rig::start();
    rig.proxy.switch_off();
    let (fault, kind) = esphome_fault(rig.error().await);
    assert!(matches!(fault, EsphomeFault::Unreachable(_)), "{fault:?}");
    assert_eq!(kind, FaultKind::AdapterNotFound);
}

#[tokio::test(start_paused = true)]
async fn battery_out_of_reach_differs_from_a_proxy_without_any_device() {
    let rig = Rig::start();
    rig.air.move_to(BATTERY, &[]);
    let expected = (EsphomeFault::ReceivesNothing, FaultKind::AdapterNotFound);
    assert_eq!(esphome_fault(rig.error().await), expected);
    rig.air.add(BATTERY + 1, "jbd", &[("garage", -80)]);
    let (error, kind) = rig.error().await;
    assert_eq!(kind, FaultKind::DeviceNotFound);
    assert!(error.to_string().starts_with("garage does not see"), "{error}");
    rig.air.move_to(BATTERY, &[("garage", -60)]);
    rig.open().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn battery_of_another_client_is_taken() {
    let rig = Rig::start();
    rig.open().await.unwrap().close().await;
    rig.air.take(BATTERY, true);
    // Until then it was received a moment ago.
    sleep(Duration::from_secs(61)).await;
    let error = rig.open().await.unwrap_err();
    let kind = CycleError::Link(error.clone()).fault().kind;
    let expected = (EsphomeFault::BatteryTaken, FaultKind::PortBusy);
    assert_eq!(esphome_fault((error, kind)), expected);
    rig.air.take(BATTERY, false);
    rig.open().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn proxy_that_connects_another_client_is_not_taken_from_it() {
    let rig = Rig::start();
    rig.air.add(BATTERY + 1, "jbd", &[("garage", -60)]);
    rig.air.take(BATTERY + 1, true);
    let error = rig.open().await.unwrap_err();
    let kind = CycleError::Link(error.clone()).fault().kind;
    let expected = (EsphomeFault::ProxyBusy, FaultKind::PortBusy);
    assert_eq!(esphome_fault((error, kind)), expected);
    assert_eq!(rig.air.subscriptions(), 0);
    rig.air.take(BATTERY + 1, false);
    sleep(Duration::from_secs(1)).await;
    rig.open().await.unwrap();
}

/// ESPHome 2026.7 and newer serve the newest client, so each subscription takes the proxy from the other one.
#[tokio::test(start_paused = true)]
async fn proxy_that_another_program_takes_back_is_asked_less_and_less_often() {
    let rig = Rig::start();
    let line = line(config(&rig.bluetooth, "jbd", ADDRESS), "jbd");
    wait_reads(&line, 2).await;
    rig.proxy.change(|settings| settings.stolen = true);
    wait_seconds(2 * 3600).await;
    // At the start, and after about 1, 11, 31 and 71 minutes.
    assert_eq!(rig.air.subscriptions(), 5);
}

#[tokio::test(start_paused = true)]
async fn proxy_that_another_program_has_left_is_used_again_soon() {
    let rig = Rig::start();
    rig.air.add(BATTERY + 1, "jbd", &[("garage", -60)]);
    let line = line(config(&rig.bluetooth, "jbd", ADDRESS), "jbd");
    wait_reads(&line, 2).await;
    rig.proxy.change(|settings| settings.stolen = true);
    rig.air.take(BATTERY + 1, true);
    wait_seconds(180).await;
    assert_eq!(line.fault(1), Some(FaultKind::PortBusy));
    assert_eq!(rig.air.subscriptions(), 1);
    rig.proxy.change(|settings| settings.stolen = false);
    rig.air.take(BATTERY + 1, false);
    let (left, before) = (Instant::now(), line.state(1).counters.reads);
    wait_reads(&line, before + 1).await;
    assert!(left.elapsed() < Duration::from_secs(90), "{:?}", left.elapsed());
}

#[tokio::test(start_paused = true)]
async fn named_proxy_that_was_never_reached_is_no_adapter_of_this_machine() {
    let rig = Rig::start();
    rig.proxy.switch_off();
    let adapter = Some("garage".to_owned());
    let config = BleConfig { adapter, ..config(&rig.bluetooth, "jbd", ADDRESS) };
    let config = LinkConfig::Ble(config);
    let unreachable = |error: LinkError| {
        matches!(error, LinkError::Esphome { fault: EsphomeFault::Unreachable(_), .. })
    };
    assert!(unreachable(config.open(0).await.unwrap_err()));
    rig.proxy.switch_on();
    sleep(Duration::from_secs(2)).await;
    config.open(0).await.unwrap().close().await;
    rig.proxy.switch_off();
    sleep(Duration::from_secs(2)).await;
    assert!(unreachable(config.open(0).await.unwrap_err()), "its name is known");
}

#[tokio::test(start_paused = true)]
async fn failed_steps_have_a_limit_and_leave_nothing() {
    type Change = fn(&mut Faults);
    let faults: [(Change, &str); 4] = [
        (|it| it.connect = Some(133), "reason 133"),
        (|it| it.connect_hangs = true, "connecting took too long"),
        (|it| it.endless_services = true, "reading its services took too long"),
        (|it| it.connect = Some(0x3E), "signal is too weak"),
    ];
    for (fault, expected) in faults {
        let rig = Rig::faulty(fault);
        let begin = Instant::now();
        let (error, kind) = rig.error().await;
        assert_eq!(kind, FaultKind::ConnectFailed);
        assert!(error.to_string().contains(expected), "{error}");
        assert!(begin.elapsed() < Duration::from_secs(40), "{error}");
        rig.air.change(BATTERY, |faults| *faults = Faults::default());
        rig.open().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn gatt_error_ends_the_link_and_a_pin_is_named() {
    let request = [0xDD, 0xA5, 3, 0, 0xFF, 0xFD, 0x77];
    for (fault, kind, text) in
        [(133, FaultKind::Disconnected, "error 133"), (5, FaultKind::AuthFailed, "wants a PIN")]
    {
        let rig = Rig::faulty(|faults| faults.write = Some(fault));
        let mut link = rig.open().await.unwrap();
        let error = link.send(&request).await.unwrap_err();
        let shown = CycleError::Link(error).fault();
        assert_eq!(shown.kind, kind);
        assert!(shown.message.contains(text), "{shown:?}");
        link.close().await;
        assert_eq!(rig.air.counts().0, 0);
    }
    let rig = Rig::faulty(|faults| faults.write_hangs = true);
    let mut link = rig.open().await.unwrap();
    let begin = Instant::now();
    let error = link.send(&request).await.unwrap_err();
    assert!(matches!(error, LinkError::Stuck { .. }), "{error:?}");
    assert!(begin.elapsed() <= Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn dropped_link_and_dropped_attempt_free_the_battery() {
    let rig = Rig::start();
    drop(rig.open().await.unwrap());
    sleep(Duration::from_secs(1)).await;
    assert_eq!(rig.air.counts(), (0, 1));
    for delay in [1, 20, 40, 60, 80, 100, 150, 220, 230, 240, 250, 300] {
        let _ = timeout(Duration::from_millis(delay), rig.config().open(0)).await;
        sleep(Duration::from_secs(1)).await;
        assert_eq!(rig.air.counts(), (0, 1), "dropped after {delay} ms");
    }
    rig.open().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn disconnect_that_is_never_confirmed_has_a_limit() {
    let rig = Rig::faulty(|faults| faults.disconnect_hangs = true);
    let link = rig.open().await.unwrap();
    let begin = Instant::now();
    link.close().await;
    assert!(begin.elapsed() <= Duration::from_secs(6), "{:?}", begin.elapsed());
}

#[tokio::test(start_paused = true)]
async fn lost_notifications_cost_one_read_at_most() {
    for count in [1, 2, 3] {
        let rig = Rig::start();
        let line = line(config(&rig.bluetooth, "jbd", ADDRESS), "jbd");
        wait_reads(&line, 1).await;
        rig.air.change(BATTERY, |faults| faults.lost = count);
        wait_reads(&line, 4).await;
        let state = line.state(1);
        assert!(state.counters.errors <= 1, "{state:?}");
        assert_eq!(state.link, LinkState::Online);
    }
}

#[tokio::test(start_paused = true)]
async fn proxy_that_is_lost_and_returns_is_used_again() {
    let rig = Rig::start();
    let line = line(config(&rig.bluetooth, "jbd", ADDRESS), "jbd");
    wait_reads(&line, 2).await;
    rig.proxy.switch_off();
    wait_seconds(60).await;
    assert_eq!(line.fault(1), Some(FaultKind::AdapterNotFound));
    assert!(matches!(line.state(1).link, LinkState::Offline { .. }));
    assert_eq!(rig.air.counts(), (0, 0));
    rig.proxy.switch_on();
    let back = Instant::now();
    let before = line.state(1).counters.reads;
    wait_reads(&line, before + 1).await;
    assert!(back.elapsed() < Duration::from_secs(30), "{:?}", back.elapsed());
    assert_eq!(rig.air.counts().1, 1, "one connection");
}

#[tokio::test(start_paused = true)]
async fn proxy_taken_by_another_program_is_noticed_and_left() {
    let rig = Rig::start();
    let line = line(config(&rig.bluetooth, "jbd", ADDRESS), "jbd");
    wait_reads(&line, 2).await;
    rig.proxy.change(|settings| settings.taken = true);
    wait_seconds(300).await;
    let fault = line.state(1).attempt.unwrap().fault.unwrap();
    assert!(fault.hint.contains("Home Assistant"), "{fault:?}");
    rig.proxy.change(|settings| settings.taken = false);
    let before = line.state(1).counters.reads;
    wait_reads(&line, before + 1).await;
}

#[tokio::test(start_paused = true)]
async fn best_proxy_is_used_and_another_one_when_it_dies() {
    let air = Air::default();
    air.add(BATTERY, "jk", &[("garage", -60), ("house", -70)]);
    let [garage, house] = ["garage", "house"].map(|name| MemoryProxy::start(name, &air));
    let line = line(config(&bluetooth(&[&house, &garage]), "jk", ADDRESS), "jk");
    wait_reads(&line, 2).await;
    let adapter = || line.state(1).profile.adapter.clone();
    assert_eq!(adapter().as_deref(), Some("garage"));
    garage.switch_off();
    let died = Instant::now();
    let before = line.state(1).counters.reads;
    wait_reads(&line, before + 1).await;
    assert_eq!(adapter().as_deref(), Some("house"));
    assert!(died.elapsed() < Duration::from_secs(30), "{:?}", died.elapsed());
    assert_eq!(air.counts().0, 1, "never two connections to one battery");
    // It stays: the other one is not better by enough.
    garage.switch_on();
    air.move_to(BATTERY, &[("garage", -66), ("house", -70)]);
    wait_seconds(120).await;
    assert_eq!(adapter().as_deref(), Some("house"));
}

#[tokio::test(start_paused = true)]
async fn named_proxy_is_the_only_one_used() {
    let air = Air::default();
    air.add(BATTERY, "jbd", &[("garage", -60), ("house", -90)]);
    let [garage, house] = ["garage", "house"].map(|name| MemoryProxy::start(name, &air));
    let bluetooth = bluetooth(&[&garage, &house]);
    let adapter = Some("House".to_owned());
    let config = BleConfig { adapter, ..config(&bluetooth, "jbd", ADDRESS) };
    let link = LinkConfig::Ble(config).open(0).await.unwrap();
    assert_eq!(link.ble().unwrap().adapter(), "house");
    assert_eq!(link.ble().unwrap().rssi(), Some(-90));
}

#[tokio::test(start_paused = true)]
async fn batteries_of_a_proxy_share_its_connection_and_take_turns() {
    let air = Air::default();
    let addresses: Vec<u64> = (0..5).map(|number| BATTERY + number).collect();
    addresses.iter().for_each(|address| air.add(*address, "jbd", &[("garage", -60)]));
    let proxy = MemoryProxy::start("garage", &air);
    let bluetooth = bluetooth(&[&proxy]);
    let read = |number: usize| {
        let address = format!("A4:C1:37:00:12:{:02X}", 0x34 + number);
        let config = LinkConfig::Ble(config(&bluetooth, "jbd", &address));
        async move {
            let link = config.open(0).await.unwrap();
            sleep(Duration::from_secs(1)).await;
            link.close().await;
        }
    };
    // Three connections for five batteries.
    futures_util::future::join_all((0..5).map(read)).await;
    assert_eq!(air.counts(), (0, 1));
    let found = bluetooth.scan(Some(ANY_PROXY), Duration::from_secs(1)).await.unwrap();
    assert_eq!(found.len(), 5);
    assert!(found.iter().all(|device| device.adapter == "garage" && !device.connected));
}
