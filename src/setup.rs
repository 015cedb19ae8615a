//! Looking for batteries, reading one for a test, and removing one from the broker, on request of the
//! set-up page. The results
//! are shared like those of the board: only the newest are kept.

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::model::{DeviceId, DeviceState, Fault};

/// Devices that are kept. Batteries come first, so that a crowd of phones does not displace them.
pub const MAX_FOUND: usize = 64;
/// Requests that may wait; more are refused.
const INBOX: usize = 4;

/// A port or Bluetooth device that may be a battery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The path of the port, or the address of the Bluetooth device.
    pub address: String,
    /// The device behind the path, or the advertised name.
    pub name: Option<String>,
    /// Name of the Bluetooth adapter; `None` for a port.
    pub adapter: Option<String>,
    /// Signal strength in dBm.
    pub rssi: Option<i16>,
    /// The type to set, and the brands that the advertisement matches.
    pub brand: Option<(&'static str, String)>,
    /// The match is more than a hint that brands share.
    pub likely: bool,
}

impl Found {
    pub fn is_port(&self) -> bool {
        self.adapter.is_none()
    }
}

/// A battery to read. What is `None` is found out, or has its default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Target {
    /// A serial device, or `tcp://host:port`.
    pub port: Option<String>,
    /// A Bluetooth address, if there is no port.
    pub address: Option<String>,
    pub adapter: Option<String>,
    pub brand: Option<String>,
    /// On the bus.
    pub slave_id: Option<u8>,
    pub password: Option<crate::model::Secret>,
}

/// A battery that answered.
#[derive(Debug, Clone)]
pub struct Pack {
    pub brand: &'static str,
    pub title: &'static str,
    /// On the bus; `None` on Bluetooth.
    pub slave_id: Option<u8>,
    /// With its values.
    pub state: DeviceState,
}

/// The test of one place.
#[derive(Debug, Clone)]
pub struct Test {
    pub target: Target,
    pub begin: Instant,
    pub running: bool,
    /// Those that have answered so far. The first one is known long before all others of a bus.
    pub packs: Vec<Pack>,
    /// Why none answered.
    pub fault: Option<Fault>,
}

/// What the page shows.
#[derive(Debug, Clone, Default)]
pub struct SetupState {
    /// A search runs.
    pub searching: bool,
    /// Batteries before other devices, ports before Bluetooth, the strongest signal first.
    pub found: Vec<Found>,
    /// Why Bluetooth could not be searched.
    pub bluetooth_error: Option<Fault>,
    /// The newest test.
    pub test: Option<Test>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Job {
    Search,
    Test(Target),
}

/// Why a job was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("another search or test is running; wait for its end or stop it")]
    Busy,
    #[error("{0}")]
    Invalid(String),
}

#[derive(Debug)]
pub enum Request {
    /// One job runs at a time.
    Start(Job, oneshot::Sender<Result<(), Refusal>>),
    Stop,
    /// Clears what the broker retains about a battery; answered with the number of topics.
    Forget(DeviceId, oneshot::Sender<Result<usize, Refusal>>),
}

/// The page's side; cheap to clone.
#[derive(Debug, Clone)]
pub struct Setup {
    requests: mpsc::Sender<Request>,
    state: watch::Receiver<SetupState>,
}

/// The side of the task that carries the requests out.
#[derive(Debug)]
pub struct SetupTask {
    pub requests: mpsc::Receiver<Request>,
    pub state: watch::Sender<SetupState>,
}

impl Setup {
    pub fn new() -> (Setup, SetupTask) {
        let (sender, requests) = mpsc::channel(INBOX);
        let (state, receiver) = watch::channel(SetupState::default());
        (Setup { requests: sender, state: receiver }, SetupTask { requests, state })
    }

    pub fn state(&self) -> SetupState {
        self.state.borrow().clone()
    }

    /// Returns as soon as the job has begun or was refused.
    pub async fn start(&self, job: Job) -> Result<(), Refusal> {
        let (reply, answer) = oneshot::channel();
        self.requests.try_send(Request::Start(job, reply)).map_err(|_| Refusal::Busy)?;
        answer.await.unwrap_or(Err(Refusal::Busy))
    }

    /// Removes a battery that is not configured from the broker, so that Home Assistant forgets it.
    pub async fn forget(&self, id: DeviceId) -> Result<usize, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.requests.try_send(Request::Forget(id, reply)).map_err(|_| Refusal::Busy)?;
        answer.await.unwrap_or(Err(Refusal::Busy))
    }

    /// Stops the job that runs, if one does.
    pub fn stop(&self) {
        // A full inbox contains jobs that are about to be refused, so the page tries again.
        let _ = self.requests.try_send(Request::Stop);
    }
}
