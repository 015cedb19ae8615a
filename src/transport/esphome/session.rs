//! The conversation with one device, without IO: bytes and times go in, bytes and events come out.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::bluetooth;
use super::fields::number;
use super::frame::{Framing, Message};
use super::message::{self as api, DeviceInfo, SerialReply};
use super::noise::Key;
use crate::transport::esphome_fault::EsphomeFault;

/// For each step until the device has described itself. A weak Wi-Fi took 28 s in all.
const STEP_LIMIT: Duration = Duration::from_secs(10);
/// Silence after which we ask whether the device is there. It disconnects a client that sends
/// nothing for 150 s.
const PING_AFTER: Duration = Duration::from_secs(20);
/// Silence after which the connection is dead.
const DEAD_AFTER: Duration = Duration::from_secs(90);
/// A device that does not answer this long when a port is opened is gone.
const PORT_LIMIT: Duration = Duration::from_secs(10);
/// Our name in the log of the device.
const CLIENT: &str = "bms-reader";
/// Replies to the request for a port and to its settings.
const PORT_REPLIES: u8 = 2;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The device has described itself.
    Ready,
    PortOpened {
        port: u64,
    },
    PortFailed {
        port: u64,
        fault: EsphomeFault,
    },
    Data {
        port: u64,
        bytes: Vec<u8>,
    },
    /// Of the Bluetooth proxy.
    Bluetooth(Message),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Handshake,
    Hello,
    Info,
    Ready,
}

/// A serial port that was asked for.
#[derive(Debug)]
struct Port {
    number: u64,
    /// `None`: it is open.
    opening: Option<Opening>,
}

#[derive(Debug)]
struct Opening {
    /// Messages are answered in their order, so the reply to this ping follows all others.
    ping: u64,
    replies: u8,
    fault: Option<EsphomeFault>,
    deadline: Instant,
}

#[derive(Debug)]
pub struct Session {
    framing: Framing,
    outgoing: Vec<u8>,
    events: VecDeque<Event>,
    phase: Phase,
    phase_end: Instant,
    last_received: Instant,
    /// Asked since the last byte was received.
    asked: bool,
    pings: u64,
    pongs: u64,
    ports: Vec<Port>,
    api: [u64; 2],
    info: DeviceInfo,
}

impl Session {
    pub fn new(key: Option<&Key>, now: Instant) -> Result<Self, EsphomeFault> {
        let mut outgoing = Vec::new();
        let mut session = Session {
            framing: Framing::new(key, &mut outgoing)?,
            outgoing,
            events: VecDeque::new(),
            phase: Phase::Handshake,
            phase_end: now + STEP_LIMIT,
            last_received: now,
            asked: false,
            pings: 0,
            pongs: 0,
            ports: Vec::new(),
            api: [0; 2],
            info: DeviceInfo::default(),
        };
        session.greet(now)?;
        Ok(session)
    }

    /// The name of the device, as soon as it is known.
    pub fn name(&self) -> Option<&str> {
        match self.phase {
            Phase::Ready => Some(&self.info.name),
            _ => self.framing.name.as_deref(),
        }
    }

    pub fn info(&self) -> &DeviceInfo {
        &self.info
    }

    /// The bytes to send.
    pub fn take_outgoing(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.outgoing)
    }

    pub fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) must be called.
    pub fn deadline(&self) -> Instant {
        if self.phase != Phase::Ready {
            return self.phase_end;
        }
        let silence = if self.asked { DEAD_AFTER } else { PING_AFTER };
        let openings = self.ports.iter().filter_map(|port| port.opening.as_ref());
        let ports = openings.map(|opening| opening.deadline);
        ports.fold(self.last_received + silence, Instant::min)
    }

    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), EsphomeFault> {
        if now < self.deadline() {
            return Ok(());
        }
        let silence = now.saturating_duration_since(self.last_received);
        if self.phase != Phase::Ready || silence >= DEAD_AFTER {
            return Err(EsphomeFault::Silent);
        }
        let late = |port: &&Port| port.opening.as_ref().is_some_and(|it| it.deadline <= now);
        let late: Vec<_> = self.ports.iter().filter(late).map(|port| port.number).collect();
        for number in late {
            self.finish_opening(number, true)?;
        }
        if !self.asked && silence >= PING_AFTER {
            self.ping()?;
            self.asked = true;
        }
        Ok(())
    }

    pub fn receive(&mut self, bytes: &[u8], now: Instant) -> Result<(), EsphomeFault> {
        self.last_received = now;
        self.asked = false;
        self.framing.push(bytes);
        while let Some(message) = self.framing.next_message()? {
            match self.phase {
                Phase::Ready if bluetooth::is_bluetooth(message.kind) => {
                    self.events.push_back(Event::Bluetooth(message));
                }
                _ => self.handle(&message, now)?,
            }
        }
        self.greet(now)
    }

    /// Says hello once the connection is encrypted, or at once where it is not.
    fn greet(&mut self, now: Instant) -> Result<(), EsphomeFault> {
        if self.phase == Phase::Handshake && self.framing.is_established() {
            self.enter(Phase::Hello, now);
            self.send(api::HELLO, &api::hello(CLIENT))?;
        }
        Ok(())
    }

    fn enter(&mut self, phase: Phase, now: Instant) {
        (self.phase, self.phase_end) = (phase, now + STEP_LIMIT);
    }

    /// Queues a message.
    pub fn send(&mut self, kind: u64, payload: &[u8]) -> Result<(), EsphomeFault> {
        self.framing.write(kind, payload, &mut self.outgoing)
    }

    fn ping(&mut self) -> Result<(), EsphomeFault> {
        self.pings += 1;
        self.send(api::PING, &[])
    }

    fn handle(&mut self, message: &Message, now: Instant) -> Result<(), EsphomeFault> {
        let payload = &message.payload[..];
        match (message.kind, self.phase) {
            (api::PING, _) => self.send(api::PONG, &[])?,
            (api::DISCONNECT, _) => {
                self.send(api::DISCONNECT_REPLY, &[])?;
                return Err(EsphomeFault::Closed(
                    "it ends the connection, as before a restart".into(),
                ));
            }
            (api::HELLO_REPLY, Phase::Hello) => {
                self.api = [1, 2].map(|field| number(payload, field));
                // Major version 0 is that of tests.
                if self.api[0] > 1 {
                    return Err(EsphomeFault::Version(self.api[0]));
                }
                self.enter(Phase::Info, now);
                self.send(api::DEVICE_INFO, &[])?;
            }
            (api::DEVICE_INFO_REPLY, Phase::Info) => {
                self.info = DeviceInfo::read(payload, self.api);
                self.enter(Phase::Ready, now);
                self.events.push_back(Event::Ready);
            }
            (api::PONG, Phase::Ready) => {
                self.pongs += 1;
                self.finish_openings()?;
            }
            (api::SERIAL_REPLY, Phase::Ready) => self.handle_reply(SerialReply::read(payload))?,
            (api::SERIAL_DATA, Phase::Ready) => {
                let (port, bytes) = api::read_serial_data(payload);
                let is_open = |it: &Port| it.number == port && it.opening.is_none();
                if !bytes.is_empty() && self.ports.iter().any(is_open) {
                    self.events.push_back(Event::Data { port, bytes: bytes.to_vec() });
                }
            }
            // Devices send others unasked.
            _ => {}
        }
        Ok(())
    }

    /// Subscribes to a serial port and sets its baud rate. [`Event::PortOpened`] or
    /// [`Event::PortFailed`] is the answer.
    pub fn open_port(&mut self, port: u64, baud: u32, now: Instant) -> Result<(), EsphomeFault> {
        self.close_port(port)?;
        self.send(api::SERIAL_REQUEST, &api::serial_request(port, api::SUBSCRIBE))?;
        self.send(api::SERIAL_CONFIGURE, &api::serial_settings(port, baud))?;
        self.ping()?;
        let (ping, deadline) = (self.pings, now + PORT_LIMIT);
        let opening = Some(Opening { ping, replies: 0, fault: None, deadline });
        self.ports.push(Port { number: port, opening });
        Ok(())
    }

    /// Frees a serial port for other clients.
    pub fn close_port(&mut self, port: u64) -> Result<(), EsphomeFault> {
        let count = self.ports.len();
        self.ports.retain(|it| it.number != port);
        if self.ports.len() < count {
            self.send(api::SERIAL_REQUEST, &api::serial_request(port, api::UNSUBSCRIBE))?;
        }
        Ok(())
    }

    /// Sends bytes to the bus behind a port.
    pub fn write_port(&mut self, port: u64, bytes: &[u8]) -> Result<(), EsphomeFault> {
        self.send(api::SERIAL_WRITE, &api::serial_data(port, bytes))
    }

    /// Requests the end of the connection.
    pub fn disconnect(&mut self) -> Result<(), EsphomeFault> {
        self.send(api::DISCONNECT, &[])
    }

    fn handle_reply(&mut self, reply: SerialReply) -> Result<(), EsphomeFault> {
        let port = reply.port;
        let is_refused = !api::STATUS_OK.contains(&reply.status);
        if !matches!(reply.kind, api::SUBSCRIBE | api::CONFIGURE) {
            return Ok(());
        }
        let Some(known) = self.ports.iter_mut().find(|known| known.number == port) else {
            return Ok(());
        };
        let fault = is_refused.then_some(match reply.status {
            api::STATUS_IN_USE => EsphomeFault::PortBusy,
            status => EsphomeFault::PortRefused { status, text: reply.text },
        });
        match (&mut known.opening, fault) {
            (Some(opening), fault) => {
                opening.replies = opening.replies.saturating_add(1);
                opening.fault = opening.fault.take().or(fault);
                self.finish_openings()
            }
            // Another client has taken it.
            (None, Some(fault)) => {
                self.ports.retain(|known| known.number != port);
                self.events.push_back(Event::PortFailed { port, fault });
                Ok(())
            }
            (None, None) => Ok(()),
        }
    }

    fn finish_openings(&mut self) -> Result<(), EsphomeFault> {
        let numbers: Vec<_> = self.ports.iter().map(|port| port.number).collect();
        numbers.into_iter().try_for_each(|number| self.finish_opening(number, false))
    }

    /// Decides whether a port is open, if everything has been answered or it is too late for more.
    fn finish_opening(&mut self, port: u64, late: bool) -> Result<(), EsphomeFault> {
        let (pongs, expected) = (self.pongs, self.info.replies_to_serial_requests());
        let Some(known) = self.ports.iter_mut().find(|known| known.number == port) else {
            return Ok(());
        };
        let Some(opening) = &mut known.opening else { return Ok(()) };
        let is_answered = pongs >= opening.ping;
        if late && !is_answered {
            return Err(EsphomeFault::Silent);
        }
        if !late && !(is_answered && (opening.replies >= PORT_REPLIES || !expected)) {
            return Ok(());
        }
        match opening.fault.take() {
            None => {
                known.opening = None;
                self.events.push_back(Event::PortOpened { port });
            }
            Some(fault) => {
                self.close_port(port)?;
                self.events.push_back(Event::PortFailed { port, fault });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
