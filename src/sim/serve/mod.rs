//! Serves a simulated bus on a pseudo-terminal, on a TCP port, or in memory.

mod bus;
mod terminal;

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::SimBrand;
use super::bus::Bus;
use super::faults::Faults;
use crate::transport::tcp::TcpLink;
use crate::transport::{Link, LinkError, MemoryPort};

pub use bus::SimBus;
use terminal::Terminal;

/// Readers served at the same time; further ones are disconnected.
const MAX_READERS: usize = 8;

/// The largest speed, more than a simulated day per second: the time between two requests is
/// computed step by step.
pub const MAX_SPEED: f64 = 100_000.0;

/// Pause after a connection could not be accepted, for example because no file handle was left.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// What to simulate, and where.
#[derive(Debug, Clone)]
pub struct SimServerOptions {
    /// Brand of all batteries on the bus.
    pub brand: &'static SimBrand,
    /// Addresses of the batteries on the bus.
    pub addresses: Vec<u8>,
    /// The same seed gives the same batteries.
    pub seed: u64,
    /// Simulated seconds per second, up to [`MAX_SPEED`]; at 0 the batteries never change.
    pub speed: f64,
    /// Baud rate of the line that carries the replies; `None`: they are not delayed.
    pub pacing: Option<u32>,
    /// Faults of the line and of its batteries.
    pub faults: Faults,
    /// The address for readers to connect to.
    pub listen: ListenAddr,
}

/// Where readers connect to a simulator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddr {
    /// A pseudo-terminal of this machine.
    Terminal {
        /// A symbolic link to it, which exists as long as the simulation.
        link: Option<PathBuf>,
    },
    /// A TCP port: `host:port`, port 0 for any free one.
    Tcp(String),
}

/// A port in memory that serves a bus until `stop`. Needs a running runtime.
pub fn memory(name: &str, bus: SimBus, stop: CancellationToken) -> MemoryPort {
    let (port, mut arrivals) = MemoryPort::new(name);
    let serve = stop.run_until_cancelled_owned(async move {
        let mut readers = JoinSet::new();
        while let Some(link) = arrivals.recv().await {
            admit(&mut readers, &bus, Link::from(link));
        }
        // Links stay usable after the port is dropped.
        while readers.join_next().await.is_some() {}
    });
    tokio::spawn(serve.boxed());
    port
}

fn admit(readers: &mut JoinSet<LinkError>, bus: &SimBus, mut link: Link) {
    while readers.try_join_next().is_some() {}
    if readers.len() < MAX_READERS {
        let bus = bus.clone();
        readers.spawn(async move { bus.serve(&mut link).await }.boxed());
    }
}

/// A simulator on a pseudo-terminal or a TCP port.
#[derive(Debug)]
pub struct SimServer {
    bus: SimBus,
    listener: Listener,
}

#[derive(Debug)]
enum Listener {
    Terminal(Terminal),
    Tcp(TcpListener),
}

impl SimServer {
    /// Opens the port. Requests wait there until [`serve`](SimServer::serve) runs.
    pub async fn open(options: &SimServerOptions) -> io::Result<Self> {
        let SimServerOptions { brand, addresses, seed, faults, .. } = options;
        let distinct: BTreeSet<_> = addresses.iter().collect();
        if distinct.len() < addresses.len() {
            return Err(io::Error::other("two batteries have the same address"));
        }
        if options.pacing == Some(0) {
            return Err(io::Error::other("the baud rate must not be 0"));
        }
        let bus = Bus::with_batteries(brand, addresses, *seed, faults.clone());
        let bus = SimBus::new(bus, options.speed, options.pacing);
        let listener = match &options.listen {
            ListenAddr::Terminal { link } => Listener::Terminal(Terminal::open(link.as_deref())?),
            ListenAddr::Tcp(address) => Listener::Tcp(TcpListener::bind(address).await?),
        };
        Ok(SimServer { bus, listener })
    }

    /// What to configure as `BMS_PORT`.
    pub fn port(&self) -> String {
        match &self.listener {
            Listener::Terminal(terminal) => terminal.port(),
            Listener::Tcp(listener) => {
                listener.local_addr().map_or_else(|_| "tcp://".into(), |at| format!("tcp://{at}"))
            }
        }
    }

    /// Serves readers until `stop`, then closes the port.
    pub async fn serve(self, stop: CancellationToken) -> io::Result<()> {
        let bus = self.bus;
        let failed = match self.listener {
            Listener::Terminal(terminal) => stop.run_until_cancelled(terminal.serve(&bus)).await,
            Listener::Tcp(listener) => stop.run_until_cancelled(accept(listener, &bus)).await,
        };
        failed.map_or(Ok(()), |error| Err(io::Error::other(error)))
    }
}

async fn accept(listener: TcpListener, bus: &SimBus) -> LinkError {
    let mut readers = JoinSet::new();
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let link = TcpLink::new(format!("tcp://{peer}"), stream);
                admit(&mut readers, bus, Link::from(link));
            }
            Err(error) => {
                tracing::warn!("cannot accept a connection: {error}");
                tokio::time::sleep(ACCEPT_BACKOFF).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use tokio::task::JoinHandle;
    use tokio::time::timeout;

    use super::*;
    use crate::sim::daren;
    use crate::transport::LinkConfig;

    /// Long enough that only a hang fails a test.
    const TIMEOUT: Duration = Duration::from_secs(10);
    const REQUEST: &[u8] = b"~22014A42E00201FD28\r";

    fn options(listen: ListenAddr) -> SimServerOptions {
        SimServerOptions {
            brand: &daren::BRAND,
            addresses: vec![1, 2],
            seed: 1,
            speed: 1.0,
            pacing: None,
            faults: Faults::default(),
            listen,
        }
    }

    struct Running {
        port: String,
        stop: CancellationToken,
        task: JoinHandle<io::Result<()>>,
    }

    impl Running {
        async fn start(listen: ListenAddr) -> Self {
            let server = SimServer::open(&options(listen)).await.unwrap();
            let stop = CancellationToken::new();
            let port = server.port();
            Running { port, task: tokio::spawn(server.serve(stop.clone())), stop }
        }

        async fn end(self) {
            self.stop.cancel();
            timeout(TIMEOUT, self.task).await.unwrap().unwrap().unwrap();
        }
    }

    fn terminal() -> ListenAddr {
        ListenAddr::Terminal { link: None }
    }

    fn serial(path: &str) -> LinkConfig {
        LinkConfig::Serial { path: path.into() }
    }

    fn tcp(port: &str) -> LinkConfig {
        LinkConfig::Tcp { address: port.strip_prefix("tcp://").unwrap().into() }
    }

    /// Sends a request and receives the whole reply.
    async fn request(link: &mut Link) {
        link.send(REQUEST).await.unwrap();
        let mut reply = Vec::new();
        while !reply.ends_with(b"\r") {
            reply.extend(timeout(TIMEOUT, link.receive()).await.unwrap().unwrap());
        }
        assert_eq!((&reply[..13], reply.len()), (&b"~22014A00E0C6"[..], 216));
    }

    async fn is_gone(link: &mut Link) -> bool {
        matches!(timeout(TIMEOUT, link.receive()).await.unwrap(), Err(LinkError::Gone { .. }))
    }

    fn scratch(name: &str) -> PathBuf {
        let name = format!("bms-simulator-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = fs::remove_file(&path);
        path
    }

    #[tokio::test]
    async fn terminal_serves_readers_one_after_another() {
        let running = Running::start(terminal()).await;
        for _ in 0..3 {
            let mut link = serial(&running.port).open(9600).await.unwrap();
            request(&mut link).await;
            request(&mut link).await;
        }
        running.end().await;
    }

    #[tokio::test]
    async fn next_reader_is_served_after_one_left_mid_request() {
        let running = Running::start(terminal()).await;
        let mut first = serial(&running.port).open(9600).await.unwrap();
        first.send(&[REQUEST, &REQUEST[..9]].concat()).await.unwrap();
        drop(first);
        let mut link = serial(&running.port).open(9600).await.unwrap();
        // The reply to the first reader is still there, and its incomplete request is still pending.
        let mut stale = 0;
        while stale < 216 {
            stale += timeout(TIMEOUT, link.receive()).await.unwrap().unwrap().len();
        }
        link.send(b"\r").await.unwrap();
        request(&mut link).await;
        running.end().await;
    }

    #[tokio::test]
    async fn simulation_survives_a_reader_that_stops_reading() {
        const LAST_REQUEST: &[u8] = b"\r~22014A4F0000FD8C\r";
        const LAST_REPLY: &[u8] = b"~22014A00E002C8FD14\r";
        let running = Running::start(terminal()).await;
        let mut link = serial(&running.port).open(9600).await.unwrap();
        // The replies are far more than a terminal holds back (about 70 kB).
        link.send(&REQUEST.repeat(600)).await.unwrap();
        tokio::time::pause();
        tokio::time::sleep(Duration::from_secs(60)).await;
        tokio::time::resume();
        link.send(LAST_REQUEST).await.unwrap();
        let mut received = Vec::new();
        while !received.ends_with(LAST_REPLY) {
            received.extend(timeout(TIMEOUT, link.receive()).await.unwrap().unwrap());
        }
        running.end().await;
    }

    #[tokio::test]
    async fn closing_a_terminal_looks_like_an_unplugged_port() {
        let running = Running::start(terminal()).await;
        let port = running.port.clone();
        let mut link = serial(&port).open(9600).await.unwrap();
        request(&mut link).await;
        running.end().await;
        assert!(is_gone(&mut link).await);
    }

    #[tokio::test]
    async fn port_link_exists_as_long_as_the_terminal() {
        let path = scratch("link");
        symlink("/nowhere", &path).unwrap();
        let listen = ListenAddr::Terminal { link: Some(path.clone()) };
        let running = Running::start(listen).await;
        assert_eq!(Path::new(&running.port), path);
        request(&mut serial(&running.port).open(9600).await.unwrap()).await;
        running.end().await;
        assert!(fs::symlink_metadata(&path).is_err(), "the link is still there");
        let error = serial(&path.display().to_string()).open(9600).await.unwrap_err();
        assert!(matches!(error, LinkError::NotFound { .. }), "{error:?}");
    }

    #[tokio::test]
    async fn tcp_port_serves_several_readers_until_the_stop() {
        let running = Running::start(ListenAddr::Tcp("127.0.0.1:0".into())).await;
        let mut first = tcp(&running.port).open(0).await.unwrap();
        let mut second = tcp(&running.port).open(0).await.unwrap();
        request(&mut second).await;
        request(&mut first).await;
        first.close().await;
        request(&mut second).await;
        running.end().await;
        assert!(is_gone(&mut second).await);
    }

    #[tokio::test]
    async fn surplus_readers_are_disconnected() {
        let running = Running::start(ListenAddr::Tcp("127.0.0.1:0".into())).await;
        let mut readers = Vec::new();
        for _ in 0..MAX_READERS {
            let mut link = tcp(&running.port).open(0).await.unwrap();
            request(&mut link).await;
            readers.push(link);
        }
        let mut late = tcp(&running.port).open(0).await.unwrap();
        assert!(is_gone(&mut late).await);
        request(&mut readers[0]).await;
        running.end().await;
    }

    #[tokio::test]
    async fn memory_port_closes_at_the_stop() {
        let stop = CancellationToken::new();
        let bus = Bus::with_batteries(&daren::BRAND, &[1], 1, Faults::default());
        let port = memory("simulator", SimBus::new(bus, 1.0, None), stop.clone());
        for _ in 0..3 {
            request(&mut Link::from(port.open().unwrap())).await;
        }
        let mut link = Link::from(port.open().unwrap());
        request(&mut link).await;
        stop.cancel();
        assert!(is_gone(&mut link).await);
        assert!(matches!(port.open(), Err(LinkError::NotFound { .. })));
    }

    #[tokio::test]
    async fn memory_link_outlives_its_port() {
        let bus = Bus::with_batteries(&daren::BRAND, &[1], 1, Faults::default());
        let bus = SimBus::new(bus, 1.0, None);
        let mut link =
            Link::from(memory("simulator", bus, CancellationToken::new()).open().unwrap());
        request(&mut link).await;
    }

    #[tokio::test]
    async fn impossible_options_are_refused() {
        let error = async |options| SimServer::open(&options).await.unwrap_err().to_string();
        let same_address = SimServerOptions { addresses: vec![1, 1], ..options(terminal()) };
        assert_eq!(error(same_address).await, "two batteries have the same address");
        let no_rate = SimServerOptions { pacing: Some(0), ..options(terminal()) };
        assert_eq!(error(no_rate).await, "the baud rate must not be 0");
    }
}
