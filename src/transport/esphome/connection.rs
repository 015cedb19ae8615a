//! The task that owns the connection to a device and serves all links through it.

use std::future::pending;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::select_all;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::debug;

use super::bluetooth::{self, SCANNER_MODE, SLOTS_REQUEST, SUBSCRIBE};
use super::message::DeviceInfo;
use super::noise::Key;
use super::peers::{Peers, Request};
use super::radio::Radio;
use super::session::{Event, Session};
use crate::transport::WRITE_LIMIT;
use crate::transport::esphome_fault::EsphomeFault;

/// Bytes that are read at once.
const CHUNK: usize = 4096;
/// Requests that wait until the device accepts bytes.
const COMMANDS: usize = 16;
/// Chunks that wait for a link, of at most [`PIECE`] bytes.
const PIECES: usize = 64;
const PIECE: usize = 1024;
/// For the disconnect request, and for what a device sends before it closes the connection.
const DISCONNECT_LIMIT: Duration = Duration::from_secs(1);

/// TCP, or a stream in memory.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Access to the task; it disconnects when all clones are dropped.
#[derive(Debug, Clone)]
pub(super) struct Connection {
    commands: mpsc::Sender<Command>,
    ended: Arc<OnceLock<EsphomeFault>>,
    /// What it receives as a Bluetooth proxy.
    pub radio: watch::Receiver<Radio>,
}

#[derive(Debug)]
enum Command {
    Open {
        port: u64,
        baud: u32,
        data: mpsc::Sender<Vec<u8>>,
        done: Done,
    },
    Close {
        port: u64,
        done: Done,
    },
    Write {
        port: u64,
        bytes: Vec<u8>,
        done: Done,
    },
    AskSlots {
        done: Done,
    },
    /// Asks for advertisements and for the number of free slots.
    Listen {
        done: Done,
    },
    /// About a battery that the proxy connects to.
    Bluetooth(Request),
}

type Done = oneshot::Sender<Result<(), EsphomeFault>>;

/// Makes itself known to the device. The name that it reports comes along with an error.
pub(super) async fn connect(
    stream: Box<dyn Stream>,
    key: Option<&Key>,
) -> Result<(Connection, DeviceInfo), (Option<String>, EsphomeFault)> {
    let session = Session::new(key, Instant::now()).map_err(|fault| (None, fault))?;
    let mut wire = Wire { stream, session, chunk: Vec::with_capacity(CHUNK) };
    loop {
        let step = async {
            wire.flush().await?;
            wire.wait().await
        };
        if let Err(fault) = step.await {
            return Err((wire.session.name().map(str::to_owned), fault));
        }
        if let Some(Event::Ready) = wire.session.next_event() {
            break;
        }
    }
    let info = wire.session.info().clone();
    let (commands, receiver) = mpsc::channel(COMMANDS);
    let peers = Peers::default();
    let radio = peers.radio.subscribe();
    let connection = Connection { commands, ended: Arc::default(), radio };
    let task = Task { wire, ports: Vec::new(), peers, commands: receiver };
    tokio::spawn(task.run(connection.ended.clone()).boxed());
    Ok((connection, info))
}

impl Connection {
    pub fn is_alive(&self) -> bool {
        !self.commands.is_closed()
    }

    /// Subscribes to a port, and returns what it receives.
    pub async fn open(
        &self,
        port: u64,
        baud: u32,
    ) -> Result<mpsc::Receiver<Vec<u8>>, EsphomeFault> {
        let (data, received) = mpsc::channel(PIECES);
        self.call(|done| Command::Open { port, baud, data, done }).await?;
        Ok(received)
    }

    /// Frees a port.
    pub async fn close(&self, port: u64) -> Result<(), EsphomeFault> {
        self.call(|done| Command::Close { port, done }).await
    }

    /// Returns when the system has accepted the bytes.
    pub async fn write(&self, port: u64, bytes: Vec<u8>) -> Result<(), EsphomeFault> {
        self.call(|done| Command::Write { port, bytes, done }).await
    }

    /// Waits until the task has disconnected, which it does if this is the last clone.
    pub async fn close_idle(self) {
        let Connection { commands, mut radio, .. } = self;
        drop(commands);
        let ended = async { while radio.changed().await.is_ok() {} };
        let _ = timeout(DISCONNECT_LIMIT, ended).await;
    }

    /// Subscribes to the advertisements.
    pub async fn listen(&self) -> Result<(), EsphomeFault> {
        self.call(|done| Command::Listen { done }).await
    }

    /// Asks for the number of free slots.
    pub async fn ask_slots(&self) -> Result<(), EsphomeFault> {
        self.call(|done| Command::AskSlots { done }).await
    }

    /// Sends a request; its reply arrives in the request.
    pub async fn request(&self, request: Request) -> Result<(), EsphomeFault> {
        self.commands.send(Command::Bluetooth(request)).await.map_err(|_| self.end())
    }

    async fn call(&self, command: impl FnOnce(Done) -> Command) -> Result<(), EsphomeFault> {
        let (done, result) = oneshot::channel();
        if self.commands.send(command(done)).await.is_err() {
            return Err(self.end());
        }
        result.await.unwrap_or_else(|_| Err(self.end()))
    }

    /// Why the connection has ended.
    pub fn end(&self) -> EsphomeFault {
        self.ended
            .get()
            .cloned()
            .unwrap_or_else(|| EsphomeFault::Closed("it was closed".to_owned()))
    }
}

/// A connection and what is said on it.
struct Wire {
    stream: Box<dyn Stream>,
    session: Session,
    chunk: Vec<u8>,
}

impl Wire {
    async fn flush(&mut self) -> Result<(), EsphomeFault> {
        let bytes = self.session.take_outgoing();
        if bytes.is_empty() {
            return Ok(());
        }
        match timeout(WRITE_LIMIT, self.stream.write_all(&bytes)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.last_words(EsphomeFault::Closed(error.to_string())).await),
            Err(_) => Err(EsphomeFault::Closed("it accepts no data".to_owned())),
        }
    }

    /// A device that refuses a client sends the reason before it closes the connection.
    async fn last_words(&mut self, fault: EsphomeFault) -> EsphomeFault {
        let read = async {
            loop {
                if let Err(reason) = self.read().await {
                    return reason;
                }
            }
        };
        match timeout(DISCONNECT_LIMIT, read).await {
            Ok(EsphomeFault::Closed(_)) | Err(_) => fault,
            Ok(reason) => reason,
        }
    }

    /// Waits until something is received or due. Cancel-safe.
    async fn wait(&mut self) -> Result<(), EsphomeFault> {
        let deadline = self.session.deadline();
        tokio::select! {
            read = self.read() => read,
            () = sleep_until(deadline) => self.session.handle_timeout(Instant::now()),
        }
    }

    async fn read(&mut self) -> Result<(), EsphomeFault> {
        match self.stream.read_buf(&mut self.chunk).await {
            Ok(0) => Err(EsphomeFault::Closed("it closed the connection".to_owned())),
            Err(error) => Err(EsphomeFault::Closed(error.to_string())),
            Ok(_) => {
                let handled = self.session.receive(&self.chunk, Instant::now());
                self.chunk.clear();
                handled
            }
        }
    }
}

/// Waits until the link of a port was dropped.
async fn link_dropped(ports: &[TaskPort]) {
    let closed: Vec<_> = ports.iter().map(|port| port.data.closed().boxed()).collect();
    match closed.is_empty() {
        true => pending().await,
        false => drop(select_all(closed).await),
    }
}

struct Task {
    wire: Wire,
    ports: Vec<TaskPort>,
    peers: Peers,
    commands: mpsc::Receiver<Command>,
}

struct TaskPort {
    number: u64,
    data: mpsc::Sender<Vec<u8>>,
    /// `None`: it is open.
    opening: Option<Done>,
}

impl Task {
    async fn run(mut self, ended: Arc<OnceLock<EsphomeFault>>) {
        if let Err(fault) = self.serve().await {
            // Before the links notice the end.
            let _ = ended.set(fault);
        }
    }

    async fn serve(&mut self) -> Result<(), EsphomeFault> {
        loop {
            self.dispatch()?;
            self.release_dropped()?;
            self.wire.flush().await?;
            tokio::select! {
                command = self.commands.recv() => match command {
                    Some(command) => self.handle(command).await?,
                    None => return self.disconnect().await,
                },
                () = link_dropped(&self.ports) => {}
                waited = self.wire.wait() => waited?,
            }
        }
    }

    async fn handle(&mut self, command: Command) -> Result<(), EsphomeFault> {
        let session = &mut self.wire.session;
        match command {
            Command::Open { port, data, done, .. }
                if self.ports.iter().any(|it| it.number == port && !it.data.is_closed()) =>
            {
                drop(data);
                let _ = done.send(Err(EsphomeFault::PortBusy));
            }
            Command::Open { port, baud, data, done } => {
                self.ports.retain(|it| it.number != port);
                session.open_port(port, baud, Instant::now())?;
                self.ports.push(TaskPort { number: port, data, opening: Some(done) });
            }
            Command::Close { port, done } => {
                self.ports.retain(|it| it.number != port);
                session.close_port(port)?;
                self.wire.flush().await?;
                let _ = done.send(Ok(()));
            }
            Command::Write { port, bytes, done } => {
                session.write_port(port, &bytes)?;
                self.wire.flush().await?;
                let _ = done.send(Ok(()));
            }
            Command::Listen { done } => {
                self.peers.radio.send_modify(|radio| {
                    (radio.is_ours, radio.last) = (false, Some(Instant::now()));
                });
                session.send(SLOTS_REQUEST, &[])?;
                session.send(SUBSCRIBE, &bluetooth::subscribe_raw())?;
                let _ = done.send(Ok(()));
            }
            Command::AskSlots { done } => {
                session.send(SLOTS_REQUEST, &[])?;
                let _ = done.send(Ok(()));
            }
            Command::Bluetooth(mut request) => {
                let (kind, payload) = (request.kind, std::mem::take(&mut request.payload));
                if self.peers.begin(request) {
                    session.send(kind, &payload)?;
                }
            }
        }
        Ok(())
    }

    /// Passes on what the session has received.
    fn dispatch(&mut self) -> Result<(), EsphomeFault> {
        while let Some(event) = self.wire.session.next_event() {
            match event {
                Event::Ready => {}
                Event::PortOpened { port } => self.opened(port, Ok(())),
                Event::PortFailed { port, fault } => {
                    self.opened(port, Err(fault));
                    self.ports.retain(|it| it.number != port);
                }
                Event::Bluetooth(message) => {
                    let was_ours = self.peers.radio.borrow().is_ours;
                    self.peers.handle(&message, Instant::now());
                    let radio = self.peers.radio.borrow();
                    if radio.is_ours && !was_ours && radio.is_passive {
                        // Most batteries have their names in the reply to an active scan only.
                        let active = bluetooth::active_scan();
                        self.wire.session.send(SCANNER_MODE, &active)?;
                    }
                }
                Event::Data { port, bytes } => {
                    let Some(port) = self.ports.iter().find(|it| it.number == port) else {
                        continue;
                    };
                    let lost = |piece: &[u8]| {
                        matches!(port.data.try_send(piece.to_vec()), Err(TrySendError::Full(_)))
                    };
                    // As a serial port loses what is not read.
                    if bytes.chunks(PIECE).filter(|piece| lost(piece)).count() > 0 {
                        debug!("serial data lost, because it is not read");
                    }
                }
            }
        }
        Ok(())
    }

    fn opened(&mut self, port: u64, result: Result<(), EsphomeFault>) {
        let port = self.ports.iter_mut().find(|it| it.number == port);
        if let Some(done) = port.and_then(|port| port.opening.take()) {
            let _ = done.send(result);
        }
    }

    /// Frees the ports and batteries whose links were dropped.
    fn release_dropped(&mut self) -> Result<(), EsphomeFault> {
        for address in self.peers.take_dropped() {
            let payload = bluetooth::disconnect(address);
            self.wire.session.send(bluetooth::DEVICE_REQUEST, &payload)?;
        }
        let is_dropped = |port: &&TaskPort| port.data.is_closed();
        let dropped: Vec<_> = self.ports.iter().filter(is_dropped).map(|it| it.number).collect();
        self.ports.retain(|port| !dropped.contains(&port.number));
        dropped.into_iter().try_for_each(|port| self.wire.session.close_port(port))
    }

    async fn disconnect(&mut self) -> Result<(), EsphomeFault> {
        self.wire.session.disconnect()?;
        self.wire.flush().await?;
        let closed = async { while self.wire.wait().await.is_ok() {} };
        let _ = timeout(DISCONNECT_LIMIT, closed).await;
        Ok(())
    }
}
