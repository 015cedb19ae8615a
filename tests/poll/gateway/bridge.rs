//! An RS485-to-Ethernet bridge with a simulated bus behind it, on which time stands still, and the
//! ways in which such bridges misbehave.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bms_reader::sim::Bus;
use bms_reader::transport::{Endpoint, TcpConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// An address of this machine on which hardly anybody else listens, so that the port of a bridge
/// that restarts is still free afterwards.
const HOST: &str = "127.0.0.2";
/// Between two things that arrive separately.
const APART: Duration = Duration::from_millis(2);
/// So many pieces of one answer arrive separately; longer ones are cut, too, but not as slowly.
const SLOW_PIECES: usize = 30;

/// A question and what was answered to it.
pub type Exchange = (Vec<u8>, Vec<u8>);

/// What a bridge does with an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Manner {
    /// It passes it on.
    Plain,
    /// It cuts it into pieces of one to seven bytes.
    Pieces,
    /// It adds what belongs somewhere else. A question that is asked again is spared, so that the
    /// next one has its turn.
    Mixed(Mix),
    /// Every answer comes behind the next question.
    OneLate,
}

/// What is added to an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mix {
    pub what: What,
    pub how_much: HowMuch,
    /// Behind so many quarters of the answer.
    pub quarters: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// What somebody else answers.
    Stray,
    /// The answer to the previous question.
    Previous,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HowMuch {
    FirstHalf,
    SecondHalf,
    Whole,
    Twice,
}

impl Mix {
    /// In front of an answer and somewhere in it.
    pub fn all() -> impl Iterator<Item = Mix> {
        let all = [
            (What::Stray, HowMuch::FirstHalf, 0),
            (What::Stray, HowMuch::FirstHalf, 1),
            (What::Stray, HowMuch::SecondHalf, 0),
            (What::Stray, HowMuch::SecondHalf, 3),
            (What::Stray, HowMuch::Whole, 0),
            (What::Stray, HowMuch::Whole, 2),
            (What::Previous, HowMuch::FirstHalf, 2),
            (What::Previous, HowMuch::SecondHalf, 0),
            (What::Previous, HowMuch::Twice, 0),
            (What::Previous, HowMuch::Twice, 1),
        ];
        all.into_iter().map(|(what, how_much, quarters)| Mix { what, how_much, quarters })
    }
}

impl HowMuch {
    fn of(self, answer: &[u8]) -> Vec<u8> {
        let (first, second) = answer.split_at(answer.len() / 2);
        match self {
            HowMuch::FirstHalf => first.to_vec(),
            HowMuch::SecondHalf => second.to_vec(),
            HowMuch::Whole => answer.to_vec(),
            HowMuch::Twice => answer.repeat(2),
        }
    }
}

/// The bridge.
#[derive(Debug)]
pub struct Bridge {
    at: SocketAddr,
    serial: Arc<Mutex<Serial>>,
    /// Connections with smaller numbers are half open.
    deaf_below: Arc<AtomicUsize>,
    /// The number of the next connection.
    next: Arc<AtomicUsize>,
    power: CancellationToken,
    door: Option<JoinHandle<()>>,
}

/// The side of the bus.
#[derive(Debug)]
struct Serial {
    bus: Bus,
    manner: Manner,
    /// What may be added to the answer to a question.
    strays: HashMap<Vec<u8>, Vec<u8>>,
    previous: Vec<u8>,
    /// Questions to which something was added when they were asked last.
    disturbed: HashSet<Vec<u8>>,
    disturbances: usize,
}

impl Bridge {
    pub async fn open(bus: Bus, strays: HashMap<Vec<u8>, Vec<u8>>) -> Self {
        let listener = TcpListener::bind((HOST, 0)).await.unwrap();
        let serial = Serial {
            bus,
            manner: Manner::Plain,
            strays,
            previous: Vec::new(),
            disturbed: HashSet::new(),
            disturbances: 0,
        };
        let mut bridge = Bridge {
            at: listener.local_addr().unwrap(),
            serial: Arc::new(Mutex::new(serial)),
            deaf_below: Arc::default(),
            next: Arc::default(),
            power: CancellationToken::new(),
            door: None,
        };
        bridge.listen(listener);
        bridge
    }

    /// Where readers find it.
    pub fn endpoint(&self) -> Endpoint {
        Endpoint::Tcp(TcpConfig { host: HOST.into(), port: self.at.port() })
    }

    pub fn behave(&self, manner: Manner) {
        self.serial.lock().unwrap().manner = manner;
    }

    /// How often something was added to an answer.
    pub fn disturbances(&self) -> usize {
        self.serial.lock().unwrap().disturbances
    }

    /// From now on the present connections swallow everything and say nothing.
    pub fn forget_connections(&self) {
        self.deaf_below.store(self.next.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Hangs up on everybody; the port is closed when this returns.
    pub async fn switch_off(&mut self) {
        self.power.cancel();
        if let Some(door) = self.door.take() {
            door.await.unwrap();
        }
    }

    /// Listens again, on the same port.
    pub async fn switch_on(&mut self) {
        let listener = loop {
            match TcpListener::bind(self.at).await {
                Ok(listener) => break listener,
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => sleep(APART).await,
                Err(error) => panic!("{}: {error}", self.at),
            }
        };
        self.listen(listener);
    }

    fn listen(&mut self, listener: TcpListener) {
        self.power = CancellationToken::new();
        let (serial, next, deaf_below) =
            (self.serial.clone(), self.next.clone(), self.deaf_below.clone());
        let accept = async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                let number = next.fetch_add(1, Ordering::Relaxed);
                let (serial, deaf_below) = (serial.clone(), deaf_below.clone());
                connections.spawn(async move {
                    let is_deaf = || number < deaf_below.load(Ordering::Relaxed);
                    // The reader may leave whenever it likes.
                    let _ = converse(stream, &serial, is_deaf).await;
                });
            }
        };
        let power = self.power.clone();
        self.door = Some(tokio::spawn(async move {
            power.run_until_cancelled(accept).await;
        }));
    }
}

async fn converse(
    mut stream: TcpStream,
    serial: &Mutex<Serial>,
    is_deaf: impl Fn() -> bool,
) -> io::Result<()> {
    let mut requests = serial.lock().unwrap().bus.connect();
    let mut bytes = [0; 256];
    loop {
        let count = stream.read(&mut bytes).await?;
        if count == 0 {
            return Ok(());
        }
        if is_deaf() {
            continue;
        }
        requests.push(&bytes[..count]);
        while let Some(request) = requests.next_request() {
            let packets = serial.lock().unwrap().answer(&request);
            let together = packets.len().div_ceil(SLOW_PIECES);
            for (number, packet) in packets.iter().enumerate() {
                stream.write_all(packet).await?;
                if number % together.max(1) == 0 {
                    sleep(APART).await;
                }
            }
        }
    }
}

impl Serial {
    /// What goes to the reader after a question, in the packets in which it goes.
    fn answer(&mut self, request: &[u8]) -> Vec<Vec<u8>> {
        let answer = self.bus.answer(request, 0.0);
        let previous = std::mem::replace(&mut self.previous, answer.clone());
        match self.manner {
            Manner::Plain => vec![answer],
            Manner::Pieces => pieces(&answer),
            Manner::Mixed(mix) => self.mixed(mix, request, &previous, answer),
            Manner::OneLate => {
                self.disturbances += 1;
                vec![previous]
            }
        }
    }

    fn mixed(
        &mut self,
        mix: Mix,
        request: &[u8],
        previous: &[u8],
        answer: Vec<u8>,
    ) -> Vec<Vec<u8>> {
        if self.disturbed.remove(request) {
            return vec![answer];
        }
        self.disturbed.insert(request.to_vec());
        let other = match mix.what {
            What::Stray => self.strays.get(request).map_or(&[][..], Vec::as_slice),
            What::Previous => previous,
        };
        let other = mix.how_much.of(other);
        if other.is_empty() {
            return vec![answer];
        }
        self.disturbances += 1;
        let (front, back) = answer.split_at(answer.len() * mix.quarters / 4);
        vec![front.to_vec(), other, back.to_vec()]
    }
}

fn pieces(answer: &[u8]) -> Vec<Vec<u8>> {
    let mut rest = answer;
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
