//! An RS485-to-Ethernet bridge with the faults that such bridges have. The simulated bus behind it
//! never changes.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bms_reader::sim::Bus;
use bms_reader::transport::esphome::Device;
use bms_reader::transport::{EsphomePort, LinkConfig};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

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
    address: SocketAddr,
    serial: Arc<Mutex<Serial>>,
    /// Connections with smaller numbers are half open.
    first_live: Arc<AtomicUsize>,
    /// The number of the next connection.
    next: Arc<AtomicUsize>,
    stop: CancellationToken,
    listener: Option<JoinHandle<()>>,
}

/// The bus, and how replies from it are changed.
#[derive(Debug)]
struct Serial {
    bus: Bus,
    behaviour: Behaviour,
    /// What may be added to the reply to a request.
    strays: HashMap<Vec<u8>, Vec<u8>>,
    previous: Vec<u8>,
    /// Requests whose last reply was changed.
    disturbed: HashSet<Vec<u8>>,
    disturbances: usize,
}

impl FaultyBridge {
    pub async fn open(medium: Medium, bus: Bus, strays: HashMap<Vec<u8>, Vec<u8>>) -> Self {
        let listener = TcpListener::bind((HOST, 0)).await.unwrap();
        let serial = Serial {
            bus,
            behaviour: Behaviour::Plain,
            strays,
            previous: Vec::new(),
            disturbed: HashSet::new(),
            disturbances: 0,
        };
        let mut bridge = FaultyBridge {
            medium,
            address: listener.local_addr().unwrap(),
            serial: Arc::new(Mutex::new(serial)),
            first_live: Arc::default(),
            next: Arc::default(),
            stop: CancellationToken::new(),
            listener: None,
        };
        bridge.listen(listener);
        bridge
    }

    /// How to connect to it.
    pub fn endpoint(&self) -> LinkConfig {
        let address = self.address.to_string();
        match self.medium {
            Medium::Tcp => LinkConfig::Tcp { address },
            Medium::Esphome => {
                let endpoint = format!("esphome://{address}");
                let device = Device::new(address, endpoint.clone(), Some(KEY));
                LinkConfig::Esphome(EsphomePort { device, name: None, endpoint })
            }
        }
    }

    pub fn set_behaviour(&self, behaviour: Behaviour) {
        self.serial.lock().unwrap().behaviour = behaviour;
    }

    /// The number of changed replies.
    pub fn disturbances(&self) -> usize {
        self.serial.lock().unwrap().disturbances
    }

    /// Present connections become half open: they stay silent from now on.
    pub fn forget_connections(&self) {
        self.first_live.store(self.next.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Closes all connections, and the port.
    pub async fn switch_off(&mut self) {
        self.stop.cancel();
        if let Some(listener) = self.listener.take() {
            listener.await.unwrap();
        }
    }

    /// Listens on the same port again.
    pub async fn switch_on(&mut self) {
        let listener = loop {
            match TcpListener::bind(self.address).await {
                Ok(listener) => break listener,
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => sleep(PACKET_GAP).await,
                Err(error) => panic!("{}: {error}", self.address),
            }
        };
        self.listen(listener);
    }

    fn listen(&mut self, listener: TcpListener) {
        self.stop = CancellationToken::new();
        let (serial, next, first_live) =
            (self.serial.clone(), self.next.clone(), self.first_live.clone());
        let medium = self.medium;
        let accept = async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                let number = next.fetch_add(1, Ordering::Relaxed);
                let (serial, first_live) = (serial.clone(), first_live.clone());
                let is_half_open = move || number < first_live.load(Ordering::Relaxed);
                connections.spawn(async move {
                    // The reader may disconnect at any time.
                    let _ = match medium {
                        Medium::Tcp => serve(stream, &serial, is_half_open).await,
                        Medium::Esphome => serve_esphome(stream, serial, is_half_open).await,
                    };
                });
            }
        };
        let stop = self.stop.clone();
        self.listener = Some(tokio::spawn(async move {
            stop.run_until_cancelled(accept).await;
        }));
    }
}

async fn serve_esphome(
    stream: TcpStream,
    serial: Arc<Mutex<Serial>>,
    is_half_open: impl Fn() -> bool + Clone + Send + Sync + 'static,
) -> io::Result<()> {
    let front = Front::new(Settings::default());
    let silent = is_half_open.clone();
    let bus = move |stream| {
        let (serial, is_half_open) = (serial.clone(), is_half_open.clone());
        tokio::spawn(async move { serve(stream, &serial, is_half_open).await });
    };
    stream.set_nodelay(true)?;
    front.serve(Box::new(stream), Arc::new(bus), silent).await
}

async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    serial: &Mutex<Serial>,
    is_half_open: impl Fn() -> bool,
) -> io::Result<()> {
    let mut requests = serial.lock().unwrap().bus.connect();
    let mut bytes = [0; 256];
    loop {
        let count = stream.read(&mut bytes).await?;
        if count == 0 {
            return Ok(());
        }
        if is_half_open() {
            continue;
        }
        requests.push(&bytes[..count]);
        while let Some(request) = requests.next_request() {
            let packets = serial.lock().unwrap().reply(&request);
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
