//! Asks who is at a port or a Bluetooth address, with the search that a battery of type `auto` has.

use std::time::Duration;

use futures_util::FutureExt;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::app;
use crate::board::Board;
use crate::config::{Device, Endpoint};
use crate::model::{AlarmThresholds, DeviceId, Fault, FaultKind, Profile};
use crate::poll::read_once;
use crate::protocol::driver::Medium;
use crate::protocol::{self, DriverInfo, Options, advertisement, detection};
use crate::transport::Bluetooth;
use crate::transport::ble::BleDevice;

/// Time for a whole read over Bluetooth, and for finding the device again.
const WHOLE_READ: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_secs(5);

/// Who is there, or why nobody can be named.
pub(super) type Answer = Result<Answered, Fault>;

/// Who is there.
#[derive(Debug, Clone)]
pub(super) struct Answered {
    /// The brand that it answered as.
    pub driver: &'static DriverInfo,
    /// What it calls itself.
    pub model: Option<String>,
}

/// Whether this is a port, and not a Bluetooth address.
pub(super) fn is_port(endpoint: &str) -> bool {
    Endpoint::parse(endpoint).is_some()
}

/// Who is at each of these ports, in no order; all are asked at the same time.
pub(super) async fn ports(ports: impl Iterator<Item = String>) -> Vec<(String, Answer)> {
    let mut asking = JoinSet::new();
    for path in ports {
        if let Some(endpoint) = Endpoint::parse(&path) {
            asking.spawn(async move { (path, ask(endpoint, &Bluetooth::default()).await) }.boxed());
        }
    }
    asking.join_all().await
}

/// Who is at this address.
pub(super) async fn device(found: &BleDevice, bluetooth: &Bluetooth) -> Answer {
    ask(Endpoint::ble(&found.address, Some(&found.adapter)), bluetooth).await
}

async fn ask(endpoint: Endpoint, bluetooth: &Bluetooth) -> Answer {
    let nobody = || Fault::new(FaultKind::Timeout, "it was not asked", "please report this");
    let radio = matches!(endpoint, Endpoint::Ble { .. });
    let id = DeviceId::new("probe").ok_or_else(nobody)?;
    let device = Device {
        profile: Profile {
            id: id.clone(),
            name: endpoint.to_string(),
            brand: detection::AUTO.to_owned(),
            title: String::new(),
            port: None,
            address: None,
            adapter: None,
            interval_ms: 0,
            controls: Vec::new(),
        },
        driver: None,
        options: Options {
            timeout: if radio { WHOLE_READ } else { detection::TIMEOUT },
            medium: if radio { Medium::Ble } else { Medium::Serial },
            mac: advertisement::address_bytes(&endpoint.to_string()).filter(|_| radio),
            ..Options::default()
        },
        endpoint,
        bauds: Vec::new(),
        interval: WHOLE_READ,
        control: false,
        thresholds: AlarmThresholds::default(),
        scan_timeout: LOOK,
        keep_connected: None,
    };
    let board = Board::new([device.profile.clone()]);
    for line in
        app::lines(&[device], bluetooth, &app::SimOptions::default(), &CancellationToken::new())
    {
        read_once(line, &board).await;
    }
    let state = board.latest(&id).ok_or_else(nobody)?;
    match protocol::find(&state.profile.brand).zip(state.snapshot) {
        Some((driver, snapshot)) => {
            Ok(Answered { driver, model: snapshot.reading.identity.model.clone() })
        }
        None => Err(state.attempt.and_then(|attempt| attempt.fault).unwrap_or_else(nobody)),
    }
}
