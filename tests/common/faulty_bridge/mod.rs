//! What is between the reader and a wired bus, with the faults that it has: an RS485-to-Ethernet bridge, an
//! ESPHome device, or a serial adapter. The simulated bus behind it never changes.

#![allow(dead_code, reason = "every test crate uses its own part of it")]

mod terminal;

use std::collections::{HashMap, HashSet};
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bms_reader::sim::Bus;
use bms_reader::transport::esphome::Device;
use bms_reader::transport::{EsphomePort, LinkConfig};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use self::terminal::{Terminal, open_count, unused_path};
use crate::esphome_device::{Front, HOST, KEY, Settings};

/// Pause between two packets, so that they arrive separately.
const PACKET_GAP: Duration = Duration::from_millis(2);
/// The number of pauses in one reply; the pieces of a longer one are sent in groups.
const MAX_GAPS: usize = 30;

/// A request and the reply to it.
pub type Exchange = (Vec<u8>, Vec<u8>);

/// What carries the bytes between the reader and the bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Medium {
    /// A port of this machine.
    Serial,
    Tcp,
    /// A serial port of an ESPHome device, encrypted.
    Esphome,
}

/// What a bridge does to a reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Behaviour {
    /// Forwards it unchanged, in one packet.
    Plain,
    /// Cuts it into pieces of one to seven bytes.
    Pieces,
    /// Adds bytes of another reply. A repeated request gets a clean reply, so that the driver
    /// proceeds to its next request.
    Mixed(Mix),
    /// Sends each reply after the next request.
    OneLate,
    Silent,
    /// Sends the first half only.
    Halved,
    /// Sends this many bytes that belong to no frame first.
    Flooded(usize),
}

/// What is added to a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mix {
    pub source: Source,
    pub portion: Portion,
    /// Inserted after this many quarters of the reply.
    pub quarters: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The reply of another battery, or to another request.
    Stray,
    /// The reply to the previous request.
    Previous,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Portion {
    FirstHalf,
    SecondHalf,
    Whole,
    Twice,
}

impl Mix {
    /// Before a reply and inside it.
    pub fn all() -> impl Iterator<Item = Mix> {
        let all = [
            (Source::Stray, Portion::FirstHalf, 0),
            (Source::Stray, Portion::FirstHalf, 1),
            (Source::Stray, Portion::SecondHalf, 0),
            (Source::Stray, Portion::SecondHalf, 3),
            (Source::Stray, Portion::Whole, 0),
            (Source::Stray, Portion::Whole, 2),
            (Source::Previous, Portion::FirstHalf, 2),
            (Source::Previous, Portion::SecondHalf, 0),
            (Source::Previous, Portion::Twice, 0),
            (Source::Previous, Portion::Twice, 1),
        ];
        all.into_iter().map(|(source, portion, quarters)| Mix { source, portion, quarters })
    }
}

impl Portion {
    fn of(self, reply: &[u8]) -> Vec<u8> {
        let (first, second) = reply.split_at(reply.len() / 2);
        match self {
            Portion::FirstHalf => first.to_vec(),
            Portion::SecondHalf => second.to_vec(),
            Portion::Whole => reply.to_vec(),
            Portion::Twice => reply.repeat(2),
        }
    }
}

#[derive(Debug)]
pub struct FaultyBridge {
    medium: Medium,
    place: Place,
    far: FarEnd,
    /// Connections with smaller numbers are half open.
    first_live: Arc<AtomicUsize>,
    /// The number of the next connection.
    next: Arc<AtomicUsize>,
    stop: CancellationToken,
    listener: Option<JoinHandle<()>>,
}

/// Where the reader finds it.
#[derive(Debug)]
enum Place {
    Path(PathBuf),
    Address(SocketAddr),
}

/// What all connections lead to.
#[derive(Debug, Clone)]
struct FarEnd {
    serial: Arc<Mutex<Serial>>,
    /// Wakes the open connection when there are bytes that were not requested.
    unasked: Arc<Notify>,
    /// Open connections; of an ESPHome device, those to its port.
    open: Arc<AtomicUsize>,
    /// Nothing is read any more.
    blocked: Arc<AtomicBool>,
}

/// The bus, and how replies from it are changed.
#[derive(Debug)]
struct Serial {
    bus: Bus,
    behaviour: Behaviour,
    /// What may be added to the reply to a request.
    strays: HashMap<Vec<u8>, Vec<u8>>,
    previous: Vec<u8>,
    /// Sent without a request.
    unasked: Vec<u8>,
    /// Requests whose last reply was changed.
    disturbed: HashSet<Vec<u8>>,
    disturbances: usize,
}

impl FaultyBridge {
    pub async fn open(medium: Medium, bus: Bus, strays: HashMap<Vec<u8>, Vec<u8>>) -> Self {
        let serial = Serial {
            bus,
            behaviour: Behaviour::Plain,
            strays,
            previous: Vec::new(),
            unasked: Vec::new(),
            disturbed: HashSet::new(),
            disturbances: 0,
        };
        let serial = Arc::new(Mutex::new(serial));
        let place = match medium {
            Medium::Serial => Place::Path(unused_path()),
            Medium::Tcp | Medium::Esphome => {
                Place::Address((HOST.parse::<IpAddr>().unwrap(), 0).into())
            }
        };
        let mut bridge = FaultyBridge {
            medium,
            place,
            far: FarEnd {
                serial,
                unasked: Arc::default(),
                open: Arc::default(),
                blocked: Arc::default(),
            },
            first_live: Arc::default(),
            next: Arc::default(),
            stop: CancellationToken::new(),
            listener: None,
        };
        bridge.switch_on().await;
        bridge
    }

    /// How to connect to it.
    pub fn endpoint(&self) -> LinkConfig {
        let address = match &self.place {
            Place::Path(path) => return LinkConfig::Serial { path: path.display().to_string() },
            Place::Address(address) => address.to_string(),
        };
        match self.medium {
            Medium::Esphome => {
                let endpoint = format!("esphome://{address}");
                let device = Device::new(address, endpoint.clone(), Some(KEY));
                LinkConfig::Esphome(EsphomePort { device, name: None, endpoint })
            }
            _ => LinkConfig::Tcp { address },
        }
    }

    /// Open connections to the bus.
    pub fn connections(&self) -> usize {
        match &self.place {
            Place::Path(path) => open_count(path),
            Place::Address(_) => self.far.open.load(Ordering::Relaxed),
        }
    }

    /// Sends bytes to the reader that were not requested.
    pub fn send(&self, bytes: &[u8]) {
        self.far.serial.lock().unwrap().unasked.extend_from_slice(bytes);
        self.far.unasked.notify_one();
    }

    pub fn set_behaviour(&self, behaviour: Behaviour) {
        self.far.serial.lock().unwrap().behaviour = behaviour;
    }

    /// The number of changed replies.
    pub fn disturbances(&self) -> usize {
        self.far.serial.lock().unwrap().disturbances
    }

    /// Present connections become half open: they stay silent from now on.
    pub fn forget_connections(&self) {
        self.first_live.store(self.next.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// From now on it reads nothing, so that writes to it end in full buffers.
    pub fn block(&self) {
        self.far.blocked.store(true, Ordering::Relaxed);
    }

    /// Closes all connections, and the port.
    pub async fn switch_off(&mut self) {
        self.stop.cancel();
        if let Some(listener) = self.listener.take() {
            listener.await.unwrap();
        }
    }

    /// Listens at the same place again.
    pub async fn switch_on(&mut self) {
        let address = match &mut self.place {
            Place::Path(path) => {
                let mut terminal = Terminal::plug_in(path);
                let (far, first_live) = (self.far.clone(), self.first_live.clone());
                let blocked = far.blocked.clone();
                return self.run(unless(blocked, async move {
                    let is_half_open = || first_live.load(Ordering::Relaxed) > 0;
                    let _ = far.serve(&mut terminal.far, is_half_open).await;
                }));
            }
            Place::Address(address) => address,
        };
        let listener = loop {
            match TcpListener::bind(*address).await {
                Ok(listener) => break listener,
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => sleep(PACKET_GAP).await,
                Err(error) => panic!("{address}: {error}"),
            }
        };
        *address = listener.local_addr().unwrap();
        self.listen(listener);
    }

    /// Until it is switched off.
    fn run(&mut self, serving: impl Future<Output = ()> + Send + 'static) {
        self.stop = CancellationToken::new();
        self.far.blocked.store(false, Ordering::Relaxed);
        let stop = self.stop.clone();
        self.listener = Some(tokio::spawn(async move {
            stop.run_until_cancelled(serving).await;
        }));
    }

    fn listen(&mut self, listener: TcpListener) {
        let (far, next, first_live) =
            (self.far.clone(), self.next.clone(), self.first_live.clone());
        let medium = self.medium;
        self.run(async move {
            let mut connections = JoinSet::new();
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                let number = next.fetch_add(1, Ordering::Relaxed);
                let (far, first_live) = (far.clone(), first_live.clone());
                let is_half_open = move || number < first_live.load(Ordering::Relaxed);
                let blocked = far.blocked.clone();
                // The reader may disconnect at any time.
                connections.spawn(unless(blocked, async move {
                    let _ = match medium {
                        Medium::Esphome => serve_esphome(stream, far, is_half_open).await,
                        _ => far.serve(&mut stream, is_half_open).await,
                    };
                }));
            }
        });
    }
}

/// Stands still while it is blocked.
async fn unless(blocked: Arc<AtomicBool>, serving: impl Future<Output = ()>) {
    let mut serving = pin!(serving);
    let step = |context: &mut Context<'_>| match blocked.load(Ordering::Relaxed) {
        true => Poll::Pending,
        false => serving.as_mut().poll(context),
    };
    poll_fn(step).await;
}

async fn serve_esphome(
    stream: TcpStream,
    far: FarEnd,
    is_half_open: impl Fn() -> bool + Clone + Send + Sync + 'static,
) -> io::Result<()> {
    let front = Front::new(Settings::default());
    let silent = is_half_open.clone();
    let bus = move |mut stream| {
        let (far, is_half_open) = (far.clone(), is_half_open.clone());
        tokio::spawn(async move { far.serve(&mut stream, is_half_open).await });
    };
    front.serve(Box::new(stream), Arc::new(bus), silent).await
}

/// An open connection, for counting them.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn new(open: &'a AtomicUsize) -> Self {
        open.fetch_add(1, Ordering::Relaxed);
        Counted(open)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl FarEnd {
    async fn serve(
        &self,
        stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
        is_half_open: impl Fn() -> bool,
    ) -> io::Result<()> {
        let _counted = Counted::new(&self.open);
        let mut requests = self.serial.lock().unwrap().bus.connect();
        let mut bytes = [0; 256];
        loop {
            let count = tokio::select! {
                read = stream.read(&mut bytes) => read?,
                () = self.unasked.notified() => {
                    let unasked = std::mem::take(&mut self.serial.lock().unwrap().unasked);
                    stream.write_all(&unasked).await?;
                    continue;
                }
            };
            if count == 0 {
                return Ok(());
            }
            if is_half_open() {
                continue;
            }
            requests.push(&bytes[..count]);
            while let Some(request) = requests.next_request() {
                let packets = self.serial.lock().unwrap().reply(&request);
                let group = packets.len().div_ceil(MAX_GAPS);
                for (number, packet) in packets.iter().enumerate() {
                    stream.write_all(packet).await?;
                    if number % group.max(1) == 0 {
                        sleep(PACKET_GAP).await;
                    }
                }
            }
        }
    }
}

impl Serial {
    /// The packets that are sent to the reader after a request.
    fn reply(&mut self, request: &[u8]) -> Vec<Vec<u8>> {
        let reply = self.bus.reply(request, 0.0);
        let previous = std::mem::replace(&mut self.previous, reply.clone());
        match self.behaviour {
            Behaviour::Plain => vec![reply],
            Behaviour::Pieces => pieces(&reply),
            Behaviour::Mixed(mix) => self.mixed(mix, request, &previous, reply),
            Behaviour::OneLate => {
                self.disturbances += 1;
                vec![previous]
            }
            Behaviour::Silent => Vec::new(),
            Behaviour::Halved => vec![reply[..reply.len() / 2].to_vec()],
            Behaviour::Flooded(count) => vec![vec![0; count], reply],
        }
    }

    fn mixed(&mut self, mix: Mix, request: &[u8], previous: &[u8], reply: Vec<u8>) -> Vec<Vec<u8>> {
        if self.disturbed.remove(request) {
            return vec![reply];
        }
        self.disturbed.insert(request.to_vec());
        let other = match mix.source {
            Source::Stray => self.strays.get(request).map_or(&[][..], Vec::as_slice),
            Source::Previous => previous,
        };
        let other = mix.portion.of(other);
        if other.is_empty() {
            return vec![reply];
        }
        self.disturbances += 1;
        let (front, back) = reply.split_at(reply.len() * mix.quarters / 4);
        vec![front.to_vec(), other, back.to_vec()]
    }
}

fn pieces(reply: &[u8]) -> Vec<Vec<u8>> {
    let mut rest = reply;
    let mut pieces = Vec::new();
    for length in (1..=7).cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, later) = rest.split_at(rest.len().min(length));
        pieces.push(piece.to_vec());
        rest = later;
    }
    pieces
}
