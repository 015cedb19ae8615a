//! Serial ports of an ESPHome device: what goes wrong between us and the device. What goes wrong on
//! the bus behind it is in `bridge`.

use std::time::Duration;

use bms_reader::model::FaultKind;
use bms_reader::poll::CycleError;
use bms_reader::transport::esphome::Key;
use bms_reader::transport::{EsphomeFault, EsphomeLink, LinkError};
use tokio::time::timeout;

use crate::esphome_device::{FakeDevice, KEY, Seen, Settings, echo};

/// Long enough that only a hang fails a test.
const PATIENCE: Duration = Duration::from_secs(60);
const SETTINGS_OF: [fn() -> Settings; 2] = [plain, Settings::default];

fn plain() -> Settings {
    Settings { key: None, ..Settings::default() }
}

async fn receive(link: &mut EsphomeLink, count: usize) -> Vec<u8> {
    let mut received = Vec::new();
    while received.len() < count {
        received.extend(timeout(PATIENCE, link.receive()).await.expect("bytes").expect("a link"));
    }
    received
}

async fn assert_echo(link: &mut EsphomeLink) {
    link.send(b"request").await.unwrap();
    assert_eq!(receive(link, 7).await, b"request");
}

/// The error of a device with these settings, and how it is shown.
async fn refusal(
    settings: Settings,
    key: Option<Key>,
    name: Option<&str>,
) -> (LinkError, FaultKind) {
    let fake = FakeDevice::start(settings, echo()).await;
    let error = fake.port(&fake.device(key), name).open(9600).await.unwrap_err();
    let fault = CycleError::Link(error.clone()).fault();
    assert!(!fault.hint.is_empty() && !fault.message.contains("BwcH"), "{fault:?}");
    (error, fault.kind)
}

fn esphome_fault(error: LinkError) -> EsphomeFault {
    match error {
        LinkError::Esphome { fault, .. } => fault,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn bytes_pass_in_both_directions_in_any_pieces() {
    for settings in SETTINGS_OF {
        for chops in [false, true] {
            let settings = Settings { chops, chatty: true, ..settings() };
            let key = settings.key.clone();
            let fake = FakeDevice::start(settings, echo()).await;
            let mut link =
                fake.port(&fake.device(key), Some("bms bus")).open(19_200).await.unwrap();
            assert_eq!(fake.count(&Seen::Configured { port: 0, baud: 19_200 }), 1);
            let request: Vec<u8> = (0..=255).chain(0..=255).collect();
            link.send(&request).await.unwrap();
            assert_eq!(receive(&mut link, request.len()).await, request);
        }
    }
}

#[tokio::test]
async fn wrong_key_and_wrong_encryption_are_told_apart() {
    let other = Some(Key([8; 32]));
    let (error, kind) = refusal(Settings::default(), other, None).await;
    assert_eq!((esphome_fault(error), kind), (EsphomeFault::WrongKey, FaultKind::AuthFailed));
    let (error, kind) = refusal(Settings::default(), None, None).await;
    assert_eq!((esphome_fault(error), kind), (EsphomeFault::KeyRequired, FaultKind::AuthFailed));
    let (error, kind) = refusal(plain(), Some(KEY), None).await;
    assert_eq!((esphome_fault(error), kind), (EsphomeFault::NotEncrypted, FaultKind::AuthFailed));
}

#[tokio::test]
async fn missing_and_ambiguous_ports_are_named() {
    let ports = vec!["BMS bus", "Other bus"];
    for (name, kind) in [(Some("bus"), "no serial port \"bus\""), (None, "several serial ports")] {
        let settings = Settings { ports: ports.clone(), ..Settings::default() };
        let (error, fault) = refusal(settings, Some(KEY), name).await;
        let text = error.to_string();
        assert_eq!(fault, FaultKind::PortNotFound);
        assert!(text.contains(kind) && text.ends_with("it has BMS bus, Other bus"), "{text}");
    }
}

#[tokio::test]
async fn port_in_use_is_busy() {
    let in_use = Settings { in_use: true, ..Settings::default() };
    let (error, kind) = refusal(in_use.clone(), Some(KEY), None).await;
    assert!(matches!(error, LinkError::Busy { .. }), "{error:?}");
    assert_eq!(kind, FaultKind::PortBusy);
    // ESPHome 2026.6 does not report it.
    let fake = FakeDevice::start(Settings { api: 14, ..in_use }, echo()).await;
    fake.port(&fake.device(Some(KEY)), None).open(9600).await.unwrap();
}

#[tokio::test]
async fn older_device_that_answers_no_request_is_read() {
    let fake = FakeDevice::start(Settings { api: 14, ..Settings::default() }, echo()).await;
    let mut link = fake.port(&fake.device(Some(KEY)), None).open(9600).await.unwrap();
    assert_echo(&mut link).await;
}

#[tokio::test]
async fn ports_of_a_device_share_its_connection() {
    let settings = Settings { ports: vec!["one", "two"], ..Settings::default() };
    let fake = FakeDevice::start(settings, echo()).await;
    let device = fake.device(Some(KEY));
    let [one, two] = [Some("one"), Some("two")].map(|name| fake.port(&device, name));
    let (mut first, mut second) = tokio::try_join!(one.open(9600), two.open(19_200)).unwrap();
    assert_echo(&mut first).await;
    assert_echo(&mut second).await;
    assert_eq!(fake.count(&Seen::Client), 1);
    let twice = one.open(9600).await.unwrap_err();
    assert!(matches!(twice, LinkError::Busy { .. }), "{twice:?}");
    assert_echo(&mut first).await;
    // A dropped link frees its port, too.
    drop(first);
    let mut first = one.open(4800).await.unwrap();
    assert_echo(&mut first).await;
    assert_eq!(fake.count(&Seen::Client), 1);
}

#[tokio::test]
async fn closed_link_frees_the_port_and_the_last_handle_disconnects() {
    let fake = FakeDevice::start(Settings::default(), echo()).await;
    let port = fake.port(&fake.device(Some(KEY)), None);
    let link = port.open(9600).await.unwrap();
    bms_reader::transport::Link::from(link).close().await;
    fake.wait_for("unsubscribed", |seen| seen.contains(&Seen::Unsubscribed(0))).await;
    assert_eq!(fake.count(&Seen::Disconnect), 0);
    drop(port);
    fake.wait_for("disconnect request", |seen| seen.contains(&Seen::Disconnect)).await;
}

#[tokio::test]
async fn frame_that_is_cut_ends_the_link_and_nothing_of_it_is_received() {
    for settings in SETTINGS_OF {
        let settings = Settings { cuts_frame: true, ..settings() };
        let key = settings.key.clone();
        let fake = FakeDevice::start(settings, echo()).await;
        let port = fake.port(&fake.device(key), None);
        let mut link = port.open(9600).await.unwrap();
        link.send(b"request").await.unwrap();
        let error = timeout(PATIENCE, link.receive()).await.unwrap().unwrap_err();
        assert!(matches!(error, LinkError::Gone { .. }), "{error:?}");
        assert!(link.send(b"request").await.is_err());
        let mut link = port.open(9600).await.unwrap();
        assert_echo(&mut link).await;
    }
}

#[tokio::test]
async fn restarted_device_is_connected_again() {
    let mut fake = FakeDevice::start(Settings::default(), echo()).await;
    let port = fake.port(&fake.device(Some(KEY)), None);
    let mut link = port.open(9600).await.unwrap();
    fake.switch_off().await;
    let error = timeout(PATIENCE, link.receive()).await.unwrap().unwrap_err();
    assert!(matches!(error, LinkError::Gone { .. }), "{error:?}");
    let error = port.open(9600).await.unwrap_err();
    assert!(matches!(error, LinkError::Open { .. }), "{error:?}");
    fake.switch_on().await;
    let reopened = async {
        loop {
            // The failure counts for another second.
            if let Ok(link) = port.open(9600).await {
                return link;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let mut link = timeout(PATIENCE, reopened).await.expect("it is back");
    assert_echo(&mut link).await;
}

#[tokio::test]
async fn another_device_at_the_address_is_not_read() {
    let fake = FakeDevice::start(Settings::default(), echo()).await;
    let port = fake.port(&fake.device(Some(KEY)), None);
    let mut link = port.open(9600).await.unwrap();
    fake.change(|settings| {
        settings.name = "kitchen";
        settings.cuts_frame = true;
    });
    link.send(b"request").await.unwrap();
    assert!(timeout(PATIENCE, link.receive()).await.unwrap().is_err());
    let fault = esphome_fault(port.open(9600).await.unwrap_err());
    let [expected, found] = ["garage", "kitchen"].map(str::to_owned);
    assert_eq!(fault, EsphomeFault::OtherDevice { expected, found });
}

#[tokio::test]
async fn what_is_no_esphome_device_is_named() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        use tokio::io::AsyncWriteExt;
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    });
    let device = bms_reader::transport::esphome::Device::new(
        address.to_string(),
        format!("esphome://{address}"),
        None,
    );
    let endpoint = format!("esphome://{address}/");
    let port = bms_reader::transport::EsphomePort { device, name: None, endpoint };
    assert_eq!(esphome_fault(port.open(9600).await.unwrap_err()), EsphomeFault::NotEsphome);
    server.await.unwrap();
}
