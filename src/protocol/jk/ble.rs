//! The conversation over Bluetooth: two requests per session, then a stream.
//!
//! ```text
//! 97 -> record 03 -> acknowledgement -> 96 -> record 01, then record 02 twice a second
//! ```
//!
//! Several boards require this order. A board streams until it is disconnected (measured: 171 s without
//! any write), so later cycles only receive; after a timeout they send 96 again.

use std::time::Duration;

use super::cells::{self, Layout};
use super::record::{Kind, Reassembly, Record, StreamItem};
use super::redact::redact_stream;
use super::{Command, device_info, layout, request, switch_command};
use crate::model::{Reading, Setting};
use crate::protocol::{CycleKind, Driver, Options, ProtocolError, Side, Step};

/// The acknowledgement follows its record at once; the next request must not collide with it.
const ACKNOWLEDGEMENT_TIMEOUT: Duration = Duration::from_millis(400);
/// Attempts per request and cycle while bytes arrive without the expected record.
const MAX_ATTEMPTS: u8 = 2;
/// Cycles without device information after which the session continues without it.
const MAX_DEVICE_FAILURES: u8 = 2;
/// Records checked after a switch command: the transistors follow within a second.
const MAX_CHECKS: u8 = 4;

pub(super) struct JkBle {
    timeout: Duration,
    kind: CycleKind,
    state: State,
    reassembly: Reassembly,
    /// Attempts of the current request.
    attempts: u8,
    /// Bytes of this cycle, and how many of them preceded the current request.
    received: usize,
    received_before: usize,
    acknowledged: bool,
    /// The newest record 02 of this cycle.
    newest: Option<(Record, Layout)>,
    /// The switch command was sent; the number of records checked since.
    checks: Option<u8>,
    /// Record 01 was received after the switch command.
    read_back: bool,
    error: Option<ProtocolError>,
    session: Session,
}

/// State that survives a cycle.
#[derive(Default)]
struct Session {
    /// Values of records 03 and 01.
    known: Reading,
    layout: Option<Layout>,
    opened: bool,
    /// Record 02 is being received.
    streaming: bool,
    /// Cycles without device information.
    device_failures: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// 97 and record 03.
    Device,
    /// The end of the reply to 97.
    Acknowledgement,
    /// 96 and the first record 02.
    Opening,
    /// The next record 02.
    Streaming,
    /// A switch command and its acknowledgement.
    Switch(Setting),
    /// 96 and the changed settings.
    ReadBack,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Sending(Phase),
    Awaiting(Phase),
    Done,
    Failed(ProtocolError),
}

impl JkBle {
    pub(super) fn new(options: &Options) -> Self {
        let mut driver = JkBle {
            timeout: options.timeout,
            kind: CycleKind::Read,
            state: State::Sending(Phase::Device),
            reassembly: Reassembly::default(),
            attempts: 0,
            received: 0,
            received_before: 0,
            acknowledged: false,
            newest: None,
            checks: None,
            read_back: false,
            error: None,
            session: Session::default(),
        };
        driver.start(CycleKind::Read);
        driver
    }

    /// The configured timeout covers a whole read: both requests and one repetition.
    fn limit(&self, phase: Phase) -> Duration {
        match phase {
            Phase::Acknowledgement => ACKNOWLEDGEMENT_TIMEOUT,
            Phase::Device | Phase::Switch(_) => {
                (self.timeout / 6).clamp(Duration::from_secs(1), Duration::from_secs(5))
            }
            // Boards send a record every 0.43 to 0.55 s.
            Phase::Opening | Phase::Streaming | Phase::ReadBack => {
                (self.timeout / 3).clamp(Duration::from_secs(2), Duration::from_secs(10))
            }
        }
    }

    fn request(&self, phase: Phase) -> Vec<u8> {
        match phase {
            Phase::Device | Phase::Acknowledgement => request(Command::Device),
            Phase::Opening | Phase::Streaming | Phase::ReadBack => request(Command::Stream),
            Phase::Switch(Setting { switch, on }) => self
                .session
                .layout
                .and_then(|layout| switch_command(layout, switch, on))
                .unwrap_or_default(),
        }
    }

    fn describe(phase: Phase) -> String {
        match phase {
            Phase::Device | Phase::Acknowledgement => "command 97 (device information)".into(),
            Phase::Opening | Phase::Streaming => "command 96 (live values)".into(),
            Phase::Switch(Setting { switch, on }) => {
                format!("the command to switch {} {}", switch.name(), if on { "on" } else { "off" })
            }
            Phase::ReadBack => "command 96 (read-back)".into(),
        }
    }

    fn send(&mut self, phase: Phase) {
        self.attempts = 0;
        self.send_again(phase);
    }

    fn send_again(&mut self, phase: Phase) {
        self.attempts += 1;
        self.received_before = self.received;
        self.acknowledged = false;
        self.reassembly.clear();
        self.state = State::Sending(phase);
    }

    /// A repetition helps if something else was received, but not after a timeout.
    fn is_retryable(&self) -> bool {
        self.received > self.received_before && self.attempts < MAX_ATTEMPTS
    }

    fn handle(&mut self, phase: Phase, item: StreamItem) {
        match item {
            StreamItem::Acknowledgement => self.handle_acknowledgement(phase),
            StreamItem::Invalid(flaw) => self.note(flaw.in_answer_to(Self::describe(phase))),
            StreamItem::Record(record) => match record.kind() {
                Kind::Device => self.handle_device(phase, &record),
                Kind::Settings => self.handle_settings(phase, &record),
                Kind::Cells => self.handle_cells(phase, record),
                Kind::Logbook => {}
            },
        }
    }

    fn handle_acknowledgement(&mut self, phase: Phase) {
        self.acknowledged = true;
        match phase {
            Phase::Acknowledgement => self.next_phase(),
            Phase::Switch(_) => self.send(Phase::ReadBack),
            _ => {}
        }
    }

    fn handle_device(&mut self, phase: Phase, record: &Record) {
        device_info::device(record, &mut self.session.known);
        if phase == Phase::Device {
            self.state = State::Awaiting(Phase::Acknowledgement);
            if self.acknowledged {
                self.next_phase();
            }
        }
    }

    fn handle_settings(&mut self, phase: Phase, record: &Record) {
        device_info::settings(record, &mut self.session.known);
        match phase {
            Phase::Opening if self.newest.is_some() => self.next_phase(),
            Phase::ReadBack => self.read_back = true,
            _ => {}
        }
    }

    fn handle_cells(&mut self, phase: Phase, record: Record) {
        let software = self.session.known.identity.software.as_deref();
        let Some(layout) = layout(&record, software) else {
            return self.unsupported(phase, "live values in an unknown layout".into());
        };
        self.newest = Some((record, layout));
        self.session.layout = Some(layout);
        self.session.streaming = true;
        match phase {
            // Record 01 precedes record 02; without it something was lost.
            Phase::Opening
                if !self.session.known.received.settings && self.attempts < MAX_ATTEMPTS =>
            {
                self.send_again(phase);
            }
            Phase::Opening | Phase::Streaming => self.next_phase(),
            Phase::ReadBack if self.read_back => self.check_switch(),
            _ => {}
        }
    }

    /// Compares record 02 with the requested state until it agrees or the limit is reached.
    fn check_switch(&mut self) {
        let checks = self.checks.unwrap_or_default() + 1;
        self.checks = Some(checks);
        let confirmed = match self.kind {
            CycleKind::Write(Setting { switch, on }) => {
                self.reading().switches.get(switch) == Some(on)
            }
            CycleKind::Read | CycleKind::Identify => true,
        };
        if confirmed || checks >= MAX_CHECKS {
            self.state = State::Done;
        }
    }

    /// The values of the session, and the newest live values unless only the session is asked for.
    fn reading(&self) -> Reading {
        let mut reading = self.session.known.clone();
        if let Some((record, layout)) = &self.newest
            && self.kind != CycleKind::Identify
        {
            cells::decode(record, *layout, &mut reading);
        }
        reading
    }

    fn next_phase(&mut self) {
        match self.kind {
            CycleKind::Identify => self.state = State::Done,
            _ if !self.session.streaming || !self.session.opened => {
                self.session.opened = true;
                self.send(Phase::Opening);
            }
            CycleKind::Write(setting) if self.checks.is_none() => self.send_switch_command(setting),
            _ if self.newest.is_some() => self.state = State::Done,
            _ => self.state = State::Awaiting(Phase::Streaming),
        }
    }

    fn send_switch_command(&mut self, setting: Setting) {
        self.checks = Some(0);
        self.send(Phase::Switch(setting));
        if self.request(Phase::Switch(setting)).is_empty() {
            let reason = "this board does not have this switch".into();
            let query = Self::describe(Phase::Switch(setting));
            self.state = State::Failed(ProtocolError::Unsupported { query, reason });
        }
    }

    fn note(&mut self, error: ProtocolError) {
        self.error = ProtocolError::more_specific(self.error.take(), error);
    }

    fn unsupported(&mut self, phase: Phase, reason: String) {
        self.note(ProtocolError::Unsupported { query: Self::describe(phase), reason });
    }

    fn fail(&mut self, phase: Phase) {
        self.session.streaming = false;
        let timeout =
            || ProtocolError::Timeout { query: Self::describe(phase), received: self.received };
        self.state = State::Failed(self.error.clone().unwrap_or_else(timeout));
    }
}

impl Driver for JkBle {
    fn redact(&self, side: Side, bytes: &mut [u8]) {
        if side == Side::Battery {
            redact_stream(bytes);
        }
    }

    fn reset(&mut self) {
        self.session = Session::default();
        self.start(CycleKind::Read);
    }

    fn start(&mut self, kind: CycleKind) {
        self.kind = kind;
        self.newest = None;
        self.checks = None;
        self.read_back = false;
        self.error = None;
        // The caller drops bytes between cycles, so a partial record will not be completed.
        self.reassembly.clear();
        self.received = 0;
        let device = &self.session.known.received.device_info;
        if *device
            || (kind != CycleKind::Identify && self.session.device_failures >= MAX_DEVICE_FAILURES)
        {
            self.next_phase();
        } else {
            self.send(Phase::Device);
        }
    }

    fn step(&mut self) -> Step {
        match &self.state {
            State::Sending(phase) => Step::Send(self.request(*phase)),
            State::Awaiting(phase) => Step::Await(self.limit(*phase)),
            State::Done => Step::Done(Box::new(self.reading())),
            State::Failed(error) => Step::Failed(error.clone()),
        }
    }

    fn advance(&mut self) {
        if let State::Sending(phase) = self.state {
            self.state = State::Awaiting(phase);
        }
    }

    /// Bytes outside of an `Await` are dropped; the stream continues.
    fn receive(&mut self, mut bytes: &[u8]) {
        while let State::Awaiting(phase) = self.state {
            let before = bytes.len();
            let item = self.reassembly.receive(&mut bytes);
            self.received += before - bytes.len();
            match item {
                Some(item) => self.handle(phase, item),
                None => return,
            }
        }
    }

    fn handle_timeout(&mut self) {
        let State::Awaiting(phase) = self.state else { return };
        match phase {
            Phase::Device if self.is_retryable() => self.send_again(phase),
            Phase::Device => {
                self.session.device_failures += 1;
                let is_empty = self.session.known == Reading::default();
                if self.kind == CycleKind::Identify && is_empty {
                    self.fail(phase);
                } else {
                    self.next_phase();
                }
            }
            Phase::Acknowledgement => self.next_phase(),
            Phase::Streaming => {
                self.session.streaming = false;
                self.send(Phase::Opening);
            }
            Phase::Opening | Phase::ReadBack if self.is_retryable() => self.send_again(phase),
            Phase::Opening if self.newest.is_some() => self.next_phase(),
            Phase::Opening | Phase::ReadBack => self.fail(phase),
            Phase::Switch(_) => self.send(Phase::ReadBack),
        }
    }
}

#[cfg(test)]
mod tests;
