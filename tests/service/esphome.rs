//! Batteries on a serial port and behind the Bluetooth of an ESPHome device, with encryption.

use std::sync::Arc;
use std::thread;

use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::esphome_device::bluetooth::{Air, PROXY};
use crate::esphome_device::{Bus, FakeDevice, Seen, Settings, echo};
use crate::fixture::{Packs, PublishedBattery, legacy_environment, run};
use crate::mosquitto::Mosquitto;

const ID: &str = "bms_lifepo4_01";
/// The key of the device, in base64.
const KEY: &str = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";

enum Action {
    Off,
    On,
    WaitForDisconnect,
}

/// A device in a thread of its own, in front of a simulator.
struct Device {
    address: String,
    actions: mpsc::Sender<Action>,
    done: std::sync::mpsc::Receiver<()>,
}

impl Device {
    fn start(packs: &Packs) -> Self {
        let simulator = packs.port.strip_prefix("tcp://").unwrap().to_owned();
        let bus: Bus = Arc::new(move |mut port| {
            let simulator = simulator.clone();
            tokio::spawn(async move {
                let mut simulator = TcpStream::connect(simulator).await.unwrap();
                let _ = copy_bidirectional(&mut port, &mut simulator).await;
            });
        });
        Device::start_in(Settings::default(), bus, Air::default())
    }

    fn start_in(settings: Settings, bus: Bus, air: Air) -> Self {
        let (actions, mut received) = mpsc::channel(1);
        let (report, done) = std::sync::mpsc::channel();
        let (started, address) = std::sync::mpsc::channel();
        thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let mut device = FakeDevice::start_in(settings, bus, air).await;
                started.send(device.address.to_string()).unwrap();
                while let Some(action) = received.recv().await {
                    match action {
                        Action::Off => device.switch_off().await,
                        Action::On => device.switch_on().await,
                        Action::WaitForDisconnect => {
                            device
                                .wait_for("disconnect request", |seen| {
                                    seen.contains(&Seen::Disconnect)
                                })
                                .await;
                        }
                    }
                    report.send(()).unwrap();
                }
            });
        });
        Device { address: address.recv().unwrap(), actions, done }
    }

    fn run(&self, action: Action) {
        self.actions.blocking_send(action).unwrap();
        self.done.recv().unwrap();
    }
}

#[test]
fn battery_is_read_and_its_key_is_nowhere() {
    let packs = Packs::on_tcp(&[1]);
    let device = Device::start(&packs);
    let broker = Mosquitto::start();
    let capture = std::env::temp_dir().join(format!("bms-esphome-{}.jsonl", std::process::id()));
    let port = format!("esphome://{}/BMS%20bus?key={KEY}", device.address);
    let mut variables = legacy_environment(&port, &broker);
    variables.extend([
        ("LOG_LEVEL", "TRACE".to_owned()),
        ("BMS_CAPTURE", capture.display().to_string()),
        ("BMS_TIMEOUT", "0.5".to_owned()),
    ]);
    let mut battery = PublishedBattery::start(broker, ID, &variables);
    battery.wait_good();
    let state = battery.service.wait_state(ID, "a read", |state| state["status"].is_object());

    device.run(Action::Off);
    let failed = battery.wait_raw("an error", |raw| !raw["error"].is_null());
    device.run(Action::On);
    battery.mqtt.clear();
    battery.wait_good();

    let environment: Vec<_> = variables.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let report = run(&["diagnose"], &environment, "");
    let recorded = std::fs::read_to_string(&capture).unwrap();
    std::fs::remove_file(&capture).unwrap();
    let published = format!("{:?}", battery.mqtt.all());
    let pages: Vec<_> = ["/", "/metrics", "/api/overview", "/api/devices", "/setup"]
        .map(|path| battery.service.text(path))
        .into();
    let texts = [
        format!("{state}{failed}{published}{}", pages.concat()),
        battery.service.log(),
        recorded,
        String::from_utf8_lossy(&report.stdout).into_owned(),
        String::from_utf8_lossy(&report.stderr).into_owned(),
    ];
    for text in &texts {
        assert!(!text.contains(KEY.trim_end_matches('=')), "{text}");
    }
    assert!(texts[3].contains("esphome://<") || texts[3].contains("esphome://127"), "{}", texts[3]);

    battery.service.signal("-TERM");
    device.run(Action::WaitForDisconnect);
    assert!(battery.service.wait_for_exit().success());
}

#[test]
fn battery_is_read_through_a_proxy_and_the_key_is_nowhere() {
    const ADDRESS: &str = "A4:C1:37:00:12:34";
    let air = Air::default();
    air.add(0xA4C1_3700_1234, "jbd", &[("garage", -60)]);
    let settings = Settings { bluetooth: PROXY, ..Settings::default() };
    let device = Device::start_in(settings, echo(), air);
    let broker = Mosquitto::start();
    let mut variables = legacy_environment("", &broker);
    variables.retain(|(name, _)| *name != "BMS_PORT");
    variables.extend([
        ("LOG_LEVEL", "TRACE".to_owned()),
        ("BMS_TYPE", "jbd".to_owned()),
        ("BMS_ADDRESS", ADDRESS.to_owned()),
        ("BMS_ADAPTER", "garage".to_owned()),
        ("BLE_PROXIES", format!("{}?key={KEY}", device.address)),
    ]);
    let mut battery = PublishedBattery::start(broker, ID, &variables);
    battery.wait_good();
    device.run(Action::Off);
    let failed = battery.wait_raw("an error", |raw| !raw["error"].is_null());
    assert_eq!(failed["error"]["type"], "adapter_not_found", "{failed}");
    device.run(Action::On);
    battery.mqtt.clear();
    battery.wait_good();
    let environment: Vec<_> = variables.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let report = run(&["diagnose"], &environment, "");
    let published = format!("{failed}{:?}", battery.mqtt.all());
    assert!(published.contains("garage"), "{published}");
    let texts = [
        published,
        battery.service.log(),
        ["/metrics", "/api/overview", "/api/devices", "/setup"]
            .map(|path| battery.service.text(path))
            .concat(),
        String::from_utf8_lossy(&report.stdout).into_owned(),
        String::from_utf8_lossy(&report.stderr).into_owned(),
    ];
    for text in &texts {
        assert!(!text.contains(KEY.trim_end_matches('=')), "{text}");
    }
    battery.service.signal("-TERM");
    device.run(Action::WaitForDisconnect);
    assert!(battery.service.wait_for_exit().success());
}
