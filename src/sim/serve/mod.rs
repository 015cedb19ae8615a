//! Puts a simulated bus where a reader can find it: on a pseudo-terminal, on a TCP port, or in
//! memory.

mod stage;
mod terminal;

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

pub use stage::SimBus;
use terminal::Terminal;

/// Readers that are served at once; further ones are hung up on.
const READERS: usize = 8;

/// More than a day in a second; what passes between two questions is computed step by step.
pub const TOP_SPEED: f64 = 100_000.0;

/// After a connection that could not be accepted (no file handle left), before the next try.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A simulator as the command line describes it.
#[derive(Debug, Clone)]
pub struct SimulateOptions {
    /// What is simulated.
    pub brand: &'static SimBrand,
    /// Addresses of the batteries on the bus.
    pub addresses: Vec<u8>,
    /// The same seed gives the same batteries.
    pub seed: u64,
    /// Simulated seconds in a second; at 0 the batteries never change.
    pub speed: f64,
    /// Answers leave no faster than a line of this baud rate would carry them.
    pub pacing: Option<u32>,
    /// What goes wrong.
    pub faults: Faults,
    /// Where readers find it.
    pub place: ListenAddr,
}

/// Where readers find a simulator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddr {
    /// A pseudo-terminal.
    Terminal {
        /// A symbolic link to it, for as long as the simulation lasts.
        link: Option<PathBuf>,
    },
    /// A TCP port: `host:port`, port 0 for any that is free.
    Tcp(String),
}

/// Simulates until the stop.
pub async fn run(options: SimulateOptions, stop: CancellationToken) -> io::Result<()> {
    let stand = SimServer::open(&options).await?;
    tracing::info!("simulated {} at {}", options.brand.name, stand.place());
    stand.serve(stop).await
}

/// A port in memory with the bus behind it, until the stop. Needs a running runtime.
pub fn memory(name: &str, stage: SimBus, stop: CancellationToken) -> MemoryPort {
    let (port, mut arrivals) = MemoryPort::new(name);
    let serve = stop.run_until_cancelled_owned(async move {
        let mut readers = JoinSet::new();
        while let Some(link) = arrivals.recv().await {
            admit(&mut readers, &stage, Link::Memory(link));
        }
        // The port is gone, but its links may still be in use.
        while readers.join_next().await.is_some() {}
    });
    tokio::spawn(serve.boxed());
    port
}

fn admit(readers: &mut JoinSet<LinkError>, stage: &SimBus, mut link: Link) {
    while readers.try_join_next().is_some() {}
    if readers.len() < READERS {
        let stage = stage.clone();
        readers.spawn(async move { stage.converse(&mut link).await }.boxed());
    }
}

/// A simulator that readers can find.
#[derive(Debug)]
pub struct SimServer {
    stage: SimBus,
    door: Listener,
}

#[derive(Debug)]
enum Listener {
    Terminal(Terminal),
    Tcp(TcpListener),
}

impl SimServer {
    /// Checks the options and makes the place. Who asks from now on is answered as soon as
    /// [`serve`](SimServer::serve) runs.
    pub async fn open(options: &SimulateOptions) -> io::Result<Self> {
        check(options)?;
        let bus = Bus::with_batteries(
            options.brand,
            &options.addresses,
            options.seed,
            options.faults.clone(),
        );
        let stage = SimBus::new(bus, options.speed, options.pacing);
        let door = match &options.place {
            ListenAddr::Terminal { link } => Listener::Terminal(Terminal::open(link.as_deref())?),
            ListenAddr::Tcp(address) => Listener::Tcp(TcpListener::bind(address).await?),
        };
        Ok(SimServer { stage, door })
    }

    /// What to configure as the port.
    pub fn place(&self) -> String {
        match &self.door {
            Listener::Terminal(terminal) => terminal.place(),
            Listener::Tcp(listener) => {
                listener.local_addr().map_or_else(|_| "tcp://".into(), |at| format!("tcp://{at}"))
            }
        }
    }

    /// The bus in its time.
    pub fn stage(&self) -> &SimBus {
        &self.stage
    }

    /// Answers until the stop; then the place is gone.
    pub async fn serve(self, stop: CancellationToken) -> io::Result<()> {
        let stage = self.stage;
        let served = match self.door {
            Listener::Terminal(terminal) => stop.run_until_cancelled(terminal.serve(&stage)).await,
            Listener::Tcp(listener) => stop.run_until_cancelled(accept(listener, &stage)).await,
        };
        served.map_or(Ok(()), |error| Err(io::Error::other(error)))
    }
}

fn check(options: &SimulateOptions) -> io::Result<()> {
    let allowed = &options.brand.addresses;
    let outside = options.addresses.iter().find(|address| !allowed.contains(address));
    let mut addresses = options.addresses.clone();
    addresses.sort_unstable();
    addresses.dedup();
    let wrong = if let Some(address) = outside {
        let (first, last) = (allowed.start(), allowed.end());
        format!("address {address}: {} has {first} to {last}", options.brand.name)
    } else if addresses.is_empty() {
        "no address: a bus needs at least one battery".into()
    } else if addresses.len() < options.addresses.len() {
        "two batteries with one address would talk at the same time".into()
    } else if !(0.0..=TOP_SPEED).contains(&options.speed) {
        format!("speed {}: it must be from 0 (time stands still) to {TOP_SPEED}", options.speed)
    } else if options.pacing == Some(0) {
        "a line of 0 baud carries nothing".into()
    } else {
        return Ok(());
    };
    Err(io::Error::new(io::ErrorKind::InvalidInput, wrong))
}

async fn accept(listener: TcpListener, stage: &SimBus) -> LinkError {
    let mut readers = JoinSet::new();
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let link = TcpLink::new(format!("tcp://{peer}"), stream);
                admit(&mut readers, stage, Link::Tcp(link));
            }
            Err(error) => {
                tracing::warn!("cannot accept a connection: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
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
    use crate::transport::{Endpoint, SerialConfig, TcpConfig};

    /// Long enough that only a hang fails a test.
    const PATIENCE: Duration = Duration::from_secs(10);
    const QUESTION: &[u8] = b"~22014A42E00201FD28\r";

    fn options(place: ListenAddr) -> SimulateOptions {
        SimulateOptions {
            brand: &daren::BRAND,
            addresses: vec![1, 2],
            seed: 1,
            speed: 1.0,
            pacing: None,
            faults: Faults::default(),
            place,
        }
    }

    struct Running {
        place: String,
        stop: CancellationToken,
        task: JoinHandle<io::Result<()>>,
    }

    impl Running {
        async fn start(place: ListenAddr) -> Self {
            let stand = SimServer::open(&options(place)).await.unwrap();
            let stop = CancellationToken::new();
            let place = stand.place();
            Running { place, task: tokio::spawn(stand.serve(stop.clone())), stop }
        }

        async fn end(self) {
            self.stop.cancel();
            timeout(PATIENCE, self.task).await.unwrap().unwrap().unwrap();
        }
    }

    fn terminal() -> ListenAddr {
        ListenAddr::Terminal { link: None }
    }

    fn serial(path: &str) -> Endpoint {
        Endpoint::Serial(SerialConfig { path: path.into() })
    }

    fn tcp(place: &str) -> Endpoint {
        let (host, port) = place.strip_prefix("tcp://").unwrap().rsplit_once(':').unwrap();
        Endpoint::Tcp(TcpConfig { host: host.into(), port: port.parse().unwrap() })
    }

    /// Asks until the answer is whole.
    async fn ask(link: &mut Link) {
        link.send(QUESTION).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r") {
            answer.extend(timeout(PATIENCE, link.receive()).await.unwrap().unwrap());
        }
        assert_eq!((&answer[..13], answer.len()), (&b"~22014A00E0C6"[..], 216));
    }

    async fn is_gone(link: &mut Link) -> bool {
        matches!(timeout(PATIENCE, link.receive()).await.unwrap(), Err(LinkError::Gone { .. }))
    }

    fn scratch(name: &str) -> PathBuf {
        let name = format!("bms-simulator-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = fs::remove_file(&path);
        path
    }

    #[tokio::test]
    async fn a_terminal_serves_readers_one_after_another() {
        let running = Running::start(terminal()).await;
        for _ in 0..3 {
            let mut link = serial(&running.place).open(9600).await.unwrap();
            ask(&mut link).await;
            ask(&mut link).await;
        }
        running.end().await;
    }

    #[tokio::test]
    async fn a_reader_that_leaves_in_the_middle_harms_nobody() {
        let running = Running::start(terminal()).await;
        let mut hasty = serial(&running.place).open(9600).await.unwrap();
        hasty.send(&[QUESTION, &QUESTION[..9]].concat()).await.unwrap();
        drop(hasty);
        let mut link = serial(&running.place).open(9600).await.unwrap();
        // The answer to the first reader is still there, and its half question still open.
        let mut stale = 0;
        while stale < 216 {
            stale += timeout(PATIENCE, link.receive()).await.unwrap().unwrap().len();
        }
        link.send(b"\r").await.unwrap();
        ask(&mut link).await;
        running.end().await;
    }

    #[tokio::test]
    async fn a_reader_that_stops_reading_does_not_end_the_simulation() {
        const LAST_QUESTION: &[u8] = b"\r~22014A4F0000FD8C\r";
        const LAST_ANSWER: &[u8] = b"~22014A00E002C8FD14\r";
        let running = Running::start(terminal()).await;
        let mut link = serial(&running.place).open(9600).await.unwrap();
        // The answers are far more than a terminal holds back (about 70 kB).
        link.send(&QUESTION.repeat(600)).await.unwrap();
        tokio::time::pause();
        tokio::time::sleep(Duration::from_secs(60)).await;
        tokio::time::resume();
        link.send(LAST_QUESTION).await.unwrap();
        let mut heard = Vec::new();
        while !heard.ends_with(LAST_ANSWER) {
            heard.extend(timeout(PATIENCE, link.receive()).await.unwrap().unwrap());
        }
        running.end().await;
    }

    #[tokio::test]
    async fn the_end_of_a_terminal_is_an_unplugged_port() {
        let running = Running::start(terminal()).await;
        let place = running.place.clone();
        let mut link = serial(&place).open(9600).await.unwrap();
        ask(&mut link).await;
        running.end().await;
        assert!(is_gone(&mut link).await);
    }

    #[tokio::test]
    async fn the_link_leads_to_the_terminal_and_ends_with_it() {
        let path = scratch("link");
        symlink("/nowhere", &path).unwrap();
        let place = ListenAddr::Terminal { link: Some(path.clone()) };
        let running = Running::start(place).await;
        assert_eq!(Path::new(&running.place), path);
        ask(&mut serial(&running.place).open(9600).await.unwrap()).await;
        running.end().await;
        assert!(fs::symlink_metadata(&path).is_err(), "the link is still there");
        let error = serial(&path.display().to_string()).open(9600).await.unwrap_err();
        assert!(matches!(error, LinkError::NotFound { .. }), "{error:?}");
    }

    #[tokio::test]
    async fn a_tcp_port_serves_several_readers_and_hangs_up_at_the_end() {
        let running = Running::start(ListenAddr::Tcp("127.0.0.1:0".into())).await;
        let mut first = tcp(&running.place).open(0).await.unwrap();
        let mut second = tcp(&running.place).open(0).await.unwrap();
        ask(&mut second).await;
        ask(&mut first).await;
        first.close().await;
        ask(&mut second).await;
        running.end().await;
        assert!(is_gone(&mut second).await);
    }

    #[tokio::test]
    async fn too_many_readers_are_hung_up_on_until_one_leaves() {
        let running = Running::start(ListenAddr::Tcp("127.0.0.1:0".into())).await;
        let mut readers = Vec::new();
        for _ in 0..READERS {
            let mut link = tcp(&running.place).open(0).await.unwrap();
            ask(&mut link).await;
            readers.push(link);
        }
        let mut late = tcp(&running.place).open(0).await.unwrap();
        assert!(is_gone(&mut late).await);
        ask(&mut readers[0]).await;
        running.end().await;
    }

    #[tokio::test]
    async fn a_port_in_memory_ends_with_the_stop() {
        let stop = CancellationToken::new();
        let bus = Bus::with_batteries(&daren::BRAND, &[1], 1, Faults::default());
        let port = memory("simulator", SimBus::new(bus, 1.0, None), stop.clone());
        for _ in 0..3 {
            ask(&mut Link::Memory(port.open().unwrap())).await;
        }
        let mut link = Link::Memory(port.open().unwrap());
        ask(&mut link).await;
        stop.cancel();
        assert!(is_gone(&mut link).await);
        assert!(matches!(port.open(), Err(LinkError::NotFound { .. })));
    }

    #[tokio::test]
    async fn a_link_in_memory_outlives_its_port() {
        let bus = Bus::with_batteries(&daren::BRAND, &[1], 1, Faults::default());
        let stage = SimBus::new(bus, 1.0, None);
        let mut link =
            Link::Memory(memory("simulator", stage, CancellationToken::new()).open().unwrap());
        ask(&mut link).await;
    }

    #[tokio::test]
    async fn impossible_options_are_refused_in_words() {
        let refusal = async |change: fn(&mut SimulateOptions)| {
            let mut options = options(terminal());
            change(&mut options);
            let error = SimServer::open(&options).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            error.to_string()
        };
        assert!(refusal(|o| o.addresses = vec![1, 16]).await.starts_with("address 16: daren has"));
        assert!(refusal(|o| o.addresses.clear()).await.starts_with("no address"));
        assert!(refusal(|o| o.addresses = vec![1, 1]).await.starts_with("two batteries"));
        assert!(refusal(|o| o.speed = -1.0).await.starts_with("speed -1"));
        assert!(refusal(|o| o.speed = 1e9).await.starts_with("speed 1000000000"));
        assert!(refusal(|o| o.speed = f64::NAN).await.starts_with("speed NaN"));
        assert!(refusal(|o| o.pacing = Some(0)).await.starts_with("a line of 0 baud"));
    }
}
