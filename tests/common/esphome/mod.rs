//! An ESPHome device: its API in front of serial ports and Bluetooth, with the faults that such devices
//! have.

#![allow(dead_code, reason = "every test crate uses its own part of it")]

pub mod bluetooth;
pub mod memory;
mod peer;

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bms_reader::transport::esphome::bluetooth::is_bluetooth;
use bms_reader::transport::esphome::fields::{number, put_bytes, put_number};
use bms_reader::transport::esphome::message as api;
use bms_reader::transport::esphome::{Device, Key};
use bms_reader::transport::{EsphomePort, LinkConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, WriteHalf, duplex, split};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use bluetooth::{Air, RadioClient};
use peer::{Peer, Stream};

/// Long enough that only a hang fails a test.
const PATIENCE: Duration = Duration::from_secs(60);
pub const KEY: Key = Key([7; 32]);
/// A loopback address that other programs hardly use, so that a port is still free after a restart.
pub const HOST: &str = "127.0.0.2";
/// From this minor version of the API on, requests for a port are answered.
const SERIAL_REPLIES: u64 = 16;

/// What the device is, and what is wrong with it; may change at any time.
#[derive(Debug, Clone)]
pub struct Settings {
    pub name: &'static str,
    pub key: Option<Key>,
    pub ports: Vec<&'static str>,
    /// Minor version of its API: 14 is that of ESPHome 2026.6, 19 that of 2026.10.
    pub api: u64,
    /// The ports are used by another client.
    pub in_use: bool,
    /// It reads and never answers.
    pub silent: bool,
    /// It closes the connection within the next frame with serial data.
    pub cuts_frame: bool,
    /// It sends one byte at a time.
    pub chops: bool,
    /// It sends unrequested messages, some of unknown types.
    pub chatty: bool,
    /// What it can do as a Bluetooth proxy; 0 if it is none.
    pub bluetooth: u64,
    /// Connections that it can have.
    pub slots: u64,
    /// Another client receives the advertisements, and this one receives nothing.
    pub taken: bool,
    /// A subscription succeeds, and another client takes the proxy back at once.
    pub stolen: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            name: "garage",
            key: Some(KEY),
            ports: vec!["BMS bus"],
            api: 19,
            in_use: false,
            silent: false,
            cuts_frame: false,
            chops: false,
            chatty: false,
            bluetooth: 0,
            slots: 3,
            taken: false,
            stolen: false,
        }
    }
}

/// What a device has seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    Client,
    Disconnect,
    Subscribed(u64),
    Configured { port: u64, baud: u64 },
    Unsubscribed(u64),
    Written(Vec<u8>),
}

/// Connects the far end of a serial port.
pub type Bus = Arc<dyn Fn(DuplexStream) + Send + Sync>;

/// A device at a TCP port.
pub struct FakeDevice {
    pub address: SocketAddr,
    pub settings: Arc<Mutex<Settings>>,
    seen: watch::Sender<Vec<Seen>>,
    bus: Bus,
    air: Air,
    clients: Option<JoinSet<()>>,
}

/// Every byte comes back.
pub fn echo() -> Bus {
    Arc::new(|stream| {
        tokio::spawn(async move {
            let (mut reading, mut writing) = split(stream);
            let _ = tokio::io::copy(&mut reading, &mut writing).await;
        });
    })
}

impl FakeDevice {
    pub async fn start(settings: Settings, bus: Bus) -> Self {
        FakeDevice::start_in(settings, bus, Air::default()).await
    }

    /// With batteries in reach.
    pub async fn start_in(settings: Settings, bus: Bus, air: Air) -> Self {
        let listener = TcpListener::bind((HOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let settings = Arc::new(Mutex::new(settings));
        let seen = watch::Sender::new(Vec::new());
        let mut device = FakeDevice { address, settings, seen, bus, air, clients: None };
        device.listen(listener);
        device
    }

    fn listen(&mut self, listener: TcpListener) {
        let (settings, seen, bus) = (self.settings.clone(), self.seen.clone(), self.bus.clone());
        let air = self.air.clone();
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            let mut clients = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                let front =
                    Front { settings: settings.clone(), seen: seen.clone(), air: air.clone() };
                let bus = bus.clone();
                clients.spawn(async move {
                    let _ = front.serve(Box::new(stream), bus, || false).await;
                });
            }
        });
        self.clients = Some(accepting);
    }

    pub fn change(&self, change: impl FnOnce(&mut Settings)) {
        change(&mut self.settings.lock().unwrap());
    }

    /// All connections end, and nothing listens.
    pub async fn switch_off(&mut self) {
        if let Some(mut clients) = self.clients.take() {
            clients.shutdown().await;
        }
    }

    pub async fn switch_on(&mut self) {
        let listener = timeout(PATIENCE, async {
            loop {
                match TcpListener::bind(self.address).await {
                    Ok(listener) => return listener,
                    Err(error) if error.kind() == ErrorKind::AddrInUse => {
                        tokio::time::sleep(Duration::from_millis(2)).await;
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        });
        let listener = listener.await.expect("the port is free");
        self.listen(listener);
    }

    /// As a client with this key knows it.
    pub fn device(&self, key: Option<Key>) -> Device {
        Device::new(self.address.to_string(), format!("esphome://{}", self.address), key)
    }

    pub fn port(&self, device: &Device, name: Option<&str>) -> EsphomePort {
        let name = name.map(str::to_owned);
        let endpoint = format!("esphome://{}/{}", self.address, name.as_deref().unwrap_or(""));
        EsphomePort { device: device.clone(), name, endpoint }
    }

    /// Its only port, with the right key.
    pub fn endpoint(&self) -> LinkConfig {
        LinkConfig::Esphome(self.port(&self.device(Some(KEY)), None))
    }

    pub async fn wait_for(&self, what: &str, wanted: impl FnMut(&Vec<Seen>) -> bool) {
        let mut seen = self.seen.subscribe();
        let found = timeout(PATIENCE, seen.wait_for(wanted)).await.is_ok();
        assert!(found, "{what}: {:?}", self.seen.borrow());
    }

    pub fn count(&self, what: &Seen) -> usize {
        self.seen.borrow().iter().filter(|seen| *seen == what).count()
    }
}

/// Serves one client after the other.
#[derive(Clone)]
pub struct Front {
    pub settings: Arc<Mutex<Settings>>,
    pub seen: watch::Sender<Vec<Seen>>,
    pub air: Air,
}

impl Front {
    pub fn new(settings: Settings) -> Self {
        Front::in_reach_of(settings, Air::default())
    }

    pub fn in_reach_of(settings: Settings, air: Air) -> Self {
        let settings = Arc::new(Mutex::new(settings));
        Front { settings, seen: watch::Sender::new(Vec::new()), air }
    }

    fn settings(&self) -> Settings {
        self.settings.lock().unwrap().clone()
    }

    fn note(&self, seen: Seen) {
        self.seen.send_modify(|all| all.push(seen));
    }

    /// Nothing is answered while `is_half_open`.
    pub async fn serve(
        self,
        stream: Box<dyn Stream>,
        bus: Bus,
        is_half_open: impl Fn() -> bool,
    ) -> io::Result<()> {
        let mut peer = Peer::new(stream);
        let settings = self.settings();
        peer.chops = settings.chops;
        if settings.silent || !peer.shake_hands(&settings).await? {
            return peer.ignore().await;
        }
        self.note(Seen::Client);
        let (sender, mut data) = mpsc::channel(64);
        let (radio, mut sent) = RadioClient::new(self.air.clone(), self.settings.clone());
        let tasks = JoinSet::new();
        let mut client = Client { front: self, peer, bus, ports: Vec::new(), sender, tasks, radio };
        loop {
            tokio::select! {
                message = client.peer.next_message() => {
                    let (kind, payload) = message?;
                    if client.front.settings().silent || is_half_open() {
                        continue;
                    }
                    if !client.handle(kind, &payload).await? {
                        return Ok(());
                    }
                }
                Some((port, bytes)) = data.recv() => client.forward(port, &bytes).await?,
                Some((kind, payload)) = sent.recv() => {
                    if !client.front.settings().silent && !is_half_open() {
                        client.peer.send(kind, &payload).await?;
                    }
                }
            }
        }
    }
}

struct Client {
    front: Front,
    peer: Peer,
    bus: Bus,
    ports: Vec<(u64, WriteHalf<DuplexStream>)>,
    sender: mpsc::Sender<(u64, Vec<u8>)>,
    /// What the buses send; the buses see the end of the connection.
    tasks: JoinSet<()>,
    radio: RadioClient,
}

impl Client {
    /// False at the end.
    async fn handle(&mut self, kind: u64, payload: &[u8]) -> io::Result<bool> {
        let settings = self.front.settings();
        if settings.chatty {
            self.peer.send(137, b"\x08\x01").await?;
            self.peer.send(api::SERIAL_DATA, &api::serial_data(9, b"other port")).await?;
        }
        match kind {
            api::HELLO => {
                let mut reply = Vec::new();
                put_number(&mut reply, 1, 1);
                put_number(&mut reply, 2, settings.api);
                put_bytes(&mut reply, 4, settings.name.as_bytes());
                self.peer.send(api::HELLO_REPLY, &reply).await?;
            }
            api::DEVICE_INFO => {
                let mut reply = Vec::new();
                put_bytes(&mut reply, 2, settings.name.as_bytes());
                put_bytes(&mut reply, 4, b"2026.10.0");
                put_number(&mut reply, 15, settings.bluetooth);
                for name in &settings.ports {
                    let mut port = Vec::new();
                    put_bytes(&mut port, 1, name.as_bytes());
                    put_bytes(&mut reply, 25, &port);
                }
                self.peer.send(api::DEVICE_INFO_REPLY, &reply).await?;
            }
            api::PING => self.peer.send(api::PONG, &[]).await?,
            api::DISCONNECT => {
                self.front.note(Seen::Disconnect);
                self.peer.send(api::DISCONNECT_REPLY, &[]).await?;
                return Ok(false);
            }
            127 => {}
            kind if is_bluetooth(kind) => self.radio.handle(kind, payload),
            _ => self.handle_serial(&settings, kind, payload).await?,
        }
        Ok(true)
    }

    async fn handle_serial(
        &mut self,
        settings: &Settings,
        kind: u64,
        payload: &[u8],
    ) -> io::Result<()> {
        let port = number(payload, 1);
        let mut reply = Vec::new();
        put_number(&mut reply, 1, port);
        match kind {
            api::SERIAL_REQUEST if number(payload, 2) == api::SUBSCRIBE => {
                if !settings.in_use {
                    self.front.note(Seen::Subscribed(port));
                    self.subscribe(port);
                }
            }
            api::SERIAL_REQUEST => {
                put_number(&mut reply, 2, api::UNSUBSCRIBE);
                self.front.note(Seen::Unsubscribed(port));
                if let Some(at) = self.ports.iter().position(|(number, _)| *number == port) {
                    // The bus sees the end.
                    let _ = self.ports.remove(at).1.shutdown().await;
                }
                return self.reply(settings, &reply).await;
            }
            api::SERIAL_CONFIGURE => {
                put_number(&mut reply, 2, api::CONFIGURE);
                self.front.note(Seen::Configured { port, baud: number(payload, 2) });
            }
            api::SERIAL_WRITE => {
                let (_, bytes) = api::read_serial_data(payload);
                self.front.note(Seen::Written(bytes.to_vec()));
                if let Some((_, bus)) = self.ports.iter_mut().find(|(number, _)| *number == port) {
                    let _ = bus.write_all(bytes).await;
                }
                return Ok(());
            }
            other => panic!("message {other}"),
        }
        put_number(&mut reply, 3, if settings.in_use { api::STATUS_IN_USE } else { 0 });
        self.reply(settings, &reply).await
    }

    async fn reply(&mut self, settings: &Settings, reply: &[u8]) -> io::Result<()> {
        if settings.api >= SERIAL_REPLIES {
            self.peer.send(api::SERIAL_REPLY, reply).await?;
        }
        Ok(())
    }

    fn subscribe(&mut self, port: u64) {
        let (near, far) = duplex(1 << 16);
        (self.bus)(far);
        let (mut reading, writing) = split(near);
        self.ports.push((port, writing));
        let sender = self.sender.clone();
        self.tasks.spawn(async move {
            // A message has at most 256 bytes.
            let mut bytes = [0; 256];
            while let Ok(count @ 1..) = reading.read(&mut bytes).await {
                if sender.send((port, bytes[..count].to_vec())).await.is_err() {
                    break;
                }
            }
        });
    }

    async fn forward(&mut self, port: u64, bytes: &[u8]) -> io::Result<()> {
        if !self.ports.iter().any(|(number, _)| *number == port) {
            return Ok(());
        }
        let cuts = std::mem::take(&mut self.front.settings.lock().unwrap().cuts_frame);
        let frame = self.peer.frame(api::SERIAL_DATA, &api::serial_data(port, bytes));
        if cuts {
            self.peer.stream.write_all(&frame[..frame.len() / 2]).await?;
            return Err(ErrorKind::ConnectionReset.into());
        }
        self.peer.write(&frame).await
    }
}
