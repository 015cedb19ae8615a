//! What the laws need of a transport.

use std::sync::LazyLock;
use std::time::Duration;

use bms_reader::model::{FaultKind, Reading};
use bms_reader::protocol::driver::Medium;
use bms_reader::protocol::{self, CycleKind, DriverInfo, Options, Step};
use bms_reader::sim::{self, Responder, SimPack};
use bms_reader::transport::{Link, LinkConfig, LinkError};
use tokio::time::{Instant, sleep, timeout};

use crate::common::play;

/// Long enough that only a hang fails a test.
pub const PATIENCE: Duration = Duration::from_secs(90);
/// For what is released in the background: the slowest disconnect has five seconds.
const RELEASE_LIMIT: Duration = Duration::from_secs(20);

/// JBD's request for its basic data: the same on a wire and over Bluetooth.
pub const REQUEST: [u8; 7] = [0xdd, 0xa5, 0x03, 0x00, 0xff, 0xfd, 0x77];

/// What a battery does from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behavior {
    Plain,
    /// It sends its replies in small pieces.
    Pieces,
    Silent,
    /// It sends the first half of each reply.
    Halved,
    /// It sends this many times [`FLOOD_PIECE`] zero bytes before each reply.
    Flooded(usize),
}

/// A notification of every brand is at least as long.
pub const FLOOD_PIECE: usize = 20;

/// Two JBD batteries, 0 and 1, each with a line of its own, and the way to them.
pub trait Transport: Sized {
    const MEDIUM: Medium;
    /// The errors of a read while the transport is away.
    const AWAY: &'static [FaultKind];
    /// Whether a second link to a battery is refused. An RS485 bridge may accept several clients, so lines keep
    /// to one of their own accord.
    const IS_EXCLUSIVE: bool;
    /// Bytes that the program itself keeps of what is not read; `None`: the kernel keeps them and stops the sender.
    const MAX_UNREAD: Option<usize>;
    /// Parts of keys and passwords in use.
    const SECRETS: &'static [&'static str];

    /// Runs a test of that name. Afterwards nothing may be left over.
    fn run(name: &str, law: impl AsyncFnOnce(&mut Self));

    fn endpoint(&self, battery: usize) -> LinkConfig;

    async fn set_behavior(&mut self, battery: usize, behavior: Behavior);

    /// Sends bytes over the open link of a battery that were not requested.
    async fn send(&mut self, battery: usize, bytes: &[u8]);

    /// The adapter, bridge or device fails at once.
    async fn vanish(&mut self);

    async fn come_back(&mut self);

    /// From now on it accepts no byte. Returns a request that is large enough to notice that.
    async fn block(&mut self) -> Vec<u8>;

    /// Open connections to batteries.
    async fn connections(&mut self) -> usize;

    /// Opens a link as the program does.
    async fn try_open(&self, battery: usize) -> Result<Link, LinkError> {
        let endpoint = self.endpoint(battery);
        timeout(PATIENCE, endpoint.open(9600)).await.expect("opening has a limit")
    }

    async fn open(&self, battery: usize) -> Link {
        self.try_open(battery).await.unwrap()
    }

    /// Opens a link to a transport that has just returned.
    async fn open_again(&self, battery: usize) -> Link {
        let end = Instant::now() + PATIENCE;
        loop {
            match self.try_open(battery).await {
                Ok(link) => return link,
                Err(error) => assert!(Instant::now() < end, "it does not return: {error}"),
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until this many connections are open.
    async fn wait_connections(&mut self, count: usize) {
        let end = Instant::now() + RELEASE_LIMIT;
        loop {
            let open = self.connections().await;
            if open == count {
                return;
            }
            assert!(Instant::now() < end, "{open} connections instead of {count}");
            sleep(Duration::from_millis(10)).await;
        }
    }
}

pub fn jbd() -> &'static DriverInfo {
    protocol::find("jbd").unwrap()
}

/// A battery that never changes.
fn battery() -> Box<dyn Responder> {
    sim::find("jbd").unwrap().pack(SimPack::fixed(1))
}

/// The reply to [`REQUEST`].
pub static REPLY: LazyLock<Vec<u8>> =
    LazyLock::new(|| battery().respond(&REQUEST, 0.0).expect("a reply"));

/// The values of both batteries.
pub static READING: LazyLock<Reading> = LazyLock::new(|| {
    let mut battery = battery();
    let mut driver = jbd().driver(&Options { medium: Medium::Ble, ..Options::default() });
    let mut last = None;
    for _ in 0..4 {
        driver.start(CycleKind::Read);
        let end =
            play(driver.as_mut(), |request| battery.respond(request, 0.0).into_iter().collect());
        if let Step::Done(reading) = end.unwrap().end {
            last = Some(*reading);
        }
    }
    last.expect("a reading")
});

/// The next chunk, or why there is none.
pub async fn receive(link: &mut Link) -> Result<Vec<u8>, LinkError> {
    timeout(PATIENCE, link.receive()).await.expect("a chunk or the end")
}

pub async fn receive_exactly(link: &mut Link, count: usize) -> Vec<u8> {
    let mut received = Vec::new();
    while received.len() < count {
        received.extend(receive(link).await.unwrap());
    }
    received
}

/// Sends the request and checks the reply.
pub async fn assert_read(link: &mut Link) {
    link.drain().unwrap();
    link.send(&REQUEST).await.unwrap();
    let received = receive_exactly(link, REPLY.len()).await;
    assert!(received == *REPLY, "{} bytes", received.len());
}
