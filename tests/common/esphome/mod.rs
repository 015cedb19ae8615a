//! An ESPHome device: its API in front of serial ports, with the faults that such devices have.

#![allow(dead_code, reason = "every test crate uses its own part of it")]

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bms_reader::transport::esphome::fields::{number, put_bytes, put_number, put_varint, varint};
use bms_reader::transport::esphome::message as api;
use bms_reader::transport::esphome::noise::{Cipher, Side, finish, start};
use bms_reader::transport::esphome::{Device, Key};
use bms_reader::transport::{EsphomePort, LinkConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, WriteHalf, duplex, split};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

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
        let listener = TcpListener::bind((HOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let settings = Arc::new(Mutex::new(settings));
        let seen = watch::Sender::new(Vec::new());
        let mut device = FakeDevice { address, settings, seen, bus, clients: None };
        device.listen(listener);
        device
    }

    fn listen(&mut self, listener: TcpListener) {
        let (settings, seen, bus) = (self.settings.clone(), self.seen.clone(), self.bus.clone());
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            let mut clients = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let front = Front { settings: settings.clone(), seen: seen.clone() };
                let bus = bus.clone();
                clients.spawn(async move {
                    let _ = front.serve(stream, bus, || false).await;
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
}

impl Front {
    pub fn new(settings: Settings) -> Self {
        let settings = Arc::new(Mutex::new(settings));
        Front { settings, seen: watch::Sender::new(Vec::new()) }
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
        stream: TcpStream,
        bus: Bus,
        is_half_open: impl Fn() -> bool,
    ) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut peer = Peer { stream, received: Vec::new(), ciphers: None, chops: false };
        let settings = self.settings();
        peer.chops = settings.chops;
        if settings.silent || !peer.shake_hands(&settings).await? {
            return peer.ignore().await;
        }
        self.note(Seen::Client);
        let (sender, mut data) = mpsc::channel(64);
        let mut client = Client { front: self, peer, bus, ports: Vec::new(), sender };
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
                self.ports.retain(|(number, _)| *number != port);
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
        tokio::spawn(async move {
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

struct Peer {
    stream: TcpStream,
    received: Vec<u8>,
    /// For receiving and for sending.
    ciphers: Option<(Cipher, Cipher)>,
    chops: bool,
}

impl Peer {
    /// Reads and answers nothing.
    async fn ignore(&mut self) -> io::Result<()> {
        while self.stream.read_buf(&mut self.received).await? > 0 {
            self.received.clear();
        }
        Ok(())
    }

    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if !self.chops {
            return self.stream.write_all(bytes).await;
        }
        for byte in bytes {
            self.stream.write_all(&[*byte]).await?;
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    async fn fill(&mut self) -> io::Result<()> {
        match self.stream.read_buf(&mut self.received).await? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    fn take(&mut self, count: usize) -> Vec<u8> {
        let rest = self.received.split_off(count);
        std::mem::replace(&mut self.received, rest)
    }

    async fn noise_body(&mut self) -> io::Result<Vec<u8>> {
        loop {
            if let Some([1, high, low]) = self.received.first_chunk::<3>() {
                let end = 3 + usize::from(u16::from_be_bytes([*high, *low]));
                if self.received.len() >= end {
                    return Ok(self.take(end).split_off(3));
                }
            }
            self.fill().await?;
        }
    }

    async fn send_noise(&mut self, body: &[u8]) -> io::Result<()> {
        let frame = noise_frame(body);
        self.write(&frame).await
    }

    /// False if the client is refused, which closes the connection with bytes unread.
    async fn shake_hands(&mut self, settings: &Settings) -> io::Result<bool> {
        self.fill().await?;
        let Some(key) = &settings.key else {
            if self.received[0] != 0 {
                self.write(b"\0Bad indicator byte").await?;
                return Err(ErrorKind::InvalidData.into());
            }
            return Ok(true);
        };
        if self.received[0] != 1 {
            self.send_noise(b"\x01Bad indicator byte").await?;
            return Err(ErrorKind::InvalidData.into());
        }
        assert_eq!(self.noise_body().await?, b"", "an empty hello");
        let body = self.noise_body().await?;
        let name = [b"\x01", settings.name.as_bytes(), b"\x0062234509afb3\0"].concat();
        self.send_noise(&name).await?;
        let public = body[1..33].try_into().unwrap();
        let started = start(key, &public).unwrap();
        if body[33..] != started.tag {
            self.send_noise(b"\x01Handshake MAC failure").await?;
            return Err(ErrorKind::InvalidData.into());
        }
        let side = Side::generate().unwrap();
        let own = side.public;
        let finished = finish(&started, &own, &side.agree(&public).unwrap()).unwrap();
        self.send_noise(&[&[0], &own[..], &finished.tag].concat()).await?;
        self.ciphers = Some((finished.from_client, finished.from_device));
        Ok(true)
    }

    /// Cancel-safe.
    async fn next_message(&mut self) -> io::Result<(u64, Vec<u8>)> {
        if self.ciphers.is_some() {
            let mut body = self.noise_body().await?;
            let (receiving, _) = self.ciphers.as_mut().unwrap();
            let message = receiving.open(&mut body).expect("a valid frame");
            let kind = u16::from_be_bytes([message[0], message[1]]);
            return Ok((kind.into(), message[4..].to_vec()));
        }
        loop {
            if let Some((kind, start, end)) = plain_frame(&self.received) {
                return Ok((kind, self.take(end).split_off(start)));
            }
            self.fill().await?;
        }
    }

    fn frame(&mut self, kind: u64, payload: &[u8]) -> Vec<u8> {
        let Some((_, sending)) = &mut self.ciphers else {
            let mut frame = vec![0];
            put_varint(&mut frame, payload.len() as u64);
            put_varint(&mut frame, kind);
            frame.extend_from_slice(payload);
            return frame;
        };
        let mut body = Vec::new();
        body.extend((kind as u16).to_be_bytes());
        body.extend((payload.len() as u16).to_be_bytes());
        body.extend_from_slice(payload);
        sending.seal(&mut body).unwrap();
        noise_frame(&body)
    }

    async fn send(&mut self, kind: u64, payload: &[u8]) -> io::Result<()> {
        let frame = self.frame(kind, payload);
        self.write(&frame).await
    }
}

fn noise_frame(body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    [&[1], &length[..], body].concat()
}

/// Type of the first frame, where its payload begins, and where it ends.
fn plain_frame(bytes: &[u8]) -> Option<(u64, usize, usize)> {
    let (length, first) = varint(bytes.get(1..)?).unwrap()?;
    let (kind, second) = varint(&bytes[1 + first..]).unwrap()?;
    let start = 1 + first + second;
    let end = start + length as usize;
    (bytes.len() >= end).then_some((kind, start, end))
}
