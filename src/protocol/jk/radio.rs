//! The conversation over Bluetooth: two questions in a session, then a stream.
//!
//! ```text
//! 97 -> record 03 -> acknowledgement -> 96 -> record 01, then record 02 twice a second
//! ```
//!
//! Several boards want this order. A board goes on until it is disconnected (measured: 171 s
//! without any write), so a further cycle only listens; after a silence it asks 96 once more.

use std::time::Duration;

use super::cells::{self, Layout};
use super::record::{Kind, Reassembly, Record, Word};
use super::secrets::Redactor;
use super::{Command, about, layout, order, request};
use crate::model::Reading;
use crate::model::reading::{Setting, Switch};
use crate::protocol::{CycleKind, Driver, Options, ProtocolError, Side, Step};

/// The acknowledgement follows its record at once; the next question must not collide with it.
const ACKNOWLEDGEMENT: Duration = Duration::from_millis(400);
/// How often a question is asked in one cycle while something comes, but not what was wanted.
const TRIES: u8 = 2;
/// Cycles in which the device information is asked for in vain, before the session goes on without.
const FAILURES: u8 = 2;
/// Records that are looked at after an order: the transistors follow the switch within a second.
const LOOKS: u8 = 4;

/// A conversation over Bluetooth.
pub(super) struct JkBle {
    timeout: Duration,
    kind: CycleKind,
    state: State,
    reassembly: Reassembly,
    /// How often the present question was asked.
    tries: u8,
    /// Bytes of this cycle, and how many of them came before the present question.
    received: usize,
    earlier: usize,
    acknowledged: bool,
    /// The newest record 02 of this cycle.
    newest: Option<(Box<Record>, Layout)>,
    /// The order of this cycle was sent, and so many records were looked at since its read-back.
    ordered: Option<u8>,
    /// Record 01 came after the order.
    read_back: bool,
    error: Option<ProtocolError>,
    session: Session,
}

/// What is remembered from one cycle to the next.
#[derive(Default)]
struct Session {
    /// What records 03 and 01 said.
    known: Reading,
    layout: Option<Layout>,
    /// 96 was asked.
    opened: bool,
    /// Record 02 came, and did not stay away since.
    streaming: bool,
    /// Cycles in which the device information stayed away.
    failures: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// 97 and record 03.
    Device,
    /// What closes the answer to 97.
    Acknowledgement,
    /// 96 and the first record 02.
    Opening,
    /// The next record 02.
    Listening,
    /// An order and its acknowledgement.
    Order(Setting),
    /// 96 and what the order has changed.
    ReadBack,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Asking(Phase),
    Awaiting(Phase),
    Done(Box<Reading>),
    Failed(ProtocolError),
}

impl JkBle {
    pub(super) fn new(options: &Options) -> Self {
        let mut radio = JkBle {
            timeout: options.timeout,
            kind: CycleKind::Read,
            state: State::Asking(Phase::Device),
            reassembly: Reassembly::default(),
            tries: 0,
            received: 0,
            earlier: 0,
            acknowledged: false,
            newest: None,
            ordered: None,
            read_back: false,
            error: None,
            session: Session::default(),
        };
        radio.start(CycleKind::Read);
        radio
    }

    /// The time-out is that of a whole read, which has room for both questions and a repetition.
    fn limit(&self, phase: Phase) -> Duration {
        match phase {
            Phase::Acknowledgement => ACKNOWLEDGEMENT,
            Phase::Device | Phase::Order(_) => {
                (self.timeout / 6).clamp(Duration::from_secs(1), Duration::from_secs(5))
            }
            // Boards send every 0.43 to 0.55 s.
            Phase::Opening | Phase::Listening | Phase::ReadBack => {
                (self.timeout / 3).clamp(Duration::from_secs(2), Duration::from_secs(10))
            }
        }
    }

    fn question(&self, phase: Phase) -> Vec<u8> {
        match phase {
            Phase::Device | Phase::Acknowledgement => request(Command::Device),
            Phase::Opening | Phase::Listening | Phase::ReadBack => request(Command::Stream),
            Phase::Order(Setting { switch, on }) => {
                self.session.layout.and_then(|layout| order(layout, switch, on)).unwrap_or_default()
            }
        }
    }

    fn describe(phase: Phase) -> String {
        match phase {
            Phase::Device | Phase::Acknowledgement => "command 97 (device information)".into(),
            Phase::Opening | Phase::Listening => "command 96 (live values)".into(),
            Phase::Order(Setting { switch, on }) => {
                let what = match switch {
                    Switch::Charging => "charging",
                    Switch::Discharging => "discharging",
                    Switch::Balancing => "balancing",
                };
                format!("the order to switch {what} {}", if on { "on" } else { "off" })
            }
            Phase::ReadBack => "command 96 (read-back)".into(),
        }
    }

    fn asks(&mut self, phase: Phase) {
        self.tries = 0;
        self.asks_again(phase);
    }

    fn asks_again(&mut self, phase: Phase) {
        self.tries += 1;
        self.earlier = self.received;
        self.acknowledged = false;
        self.reassembly.clear();
        self.state = State::Asking(phase);
    }

    /// Something came, but not what was wanted: asking again may help, after silence it does not.
    fn is_retryable(&self) -> bool {
        self.received > self.earlier && self.tries < TRIES
    }

    fn take(&mut self, phase: Phase, word: Word) {
        match word {
            Word::Acknowledged => self.acknowledge(phase),
            Word::Flawed(flaw) => self.note(flaw.in_answer_to(Self::describe(phase))),
            Word::Record(record) => match record.kind() {
                Kind::Device => self.take_device(phase, &record),
                Kind::Settings => self.take_settings(phase, &record),
                Kind::Cells => self.take_cells(phase, record),
                Kind::Logbook => {}
            },
        }
    }

    fn acknowledge(&mut self, phase: Phase) {
        self.acknowledged = true;
        match phase {
            Phase::Acknowledgement => self.go_on(),
            Phase::Order(_) => self.asks(Phase::ReadBack),
            _ => {}
        }
    }

    fn take_device(&mut self, phase: Phase, record: &Record) {
        about::device(record, &mut self.session.known);
        if phase == Phase::Device {
            self.state = State::Awaiting(Phase::Acknowledgement);
            if self.acknowledged {
                self.go_on();
            }
        }
    }

    fn take_settings(&mut self, phase: Phase, record: &Record) {
        about::settings(record, &mut self.session.known);
        match phase {
            Phase::Opening if self.newest.is_some() => self.go_on(),
            Phase::ReadBack => self.read_back = true,
            _ => {}
        }
    }

    fn take_cells(&mut self, phase: Phase, record: Box<Record>) {
        let software = self.session.known.identity.software.as_deref();
        let Some(layout) = layout(&record, software) else {
            return self.unsupported(phase, "live values in an unknown layout".into());
        };
        self.newest = Some((record, layout));
        self.session.layout = Some(layout);
        self.session.streaming = true;
        match phase {
            // Record 01 comes first; without it something was lost.
            Phase::Opening if !self.session.known.received.settings && self.tries < TRIES => {
                self.asks_again(phase);
            }
            Phase::Opening | Phase::Listening => self.go_on(),
            Phase::ReadBack if self.read_back => self.look(),
            _ => {}
        }
    }

    /// Compares with the order what record 02 says, until it agrees or has had time enough.
    fn look(&mut self) {
        let looks = self.ordered.unwrap_or_default() + 1;
        self.ordered = Some(looks);
        let reading = self.reading();
        let obeyed = match self.kind {
            CycleKind::Write(Setting { switch, on }) => reading.switches.get(switch) == Some(on),
            CycleKind::Read | CycleKind::Identify => true,
        };
        if obeyed || looks >= LOOKS {
            self.state = State::Done(Box::new(reading));
        }
    }

    /// What the session knows, with the newest live values.
    fn reading(&self) -> Reading {
        let mut reading = self.session.known.clone();
        if let Some((record, layout)) = &self.newest {
            cells::note(record, *layout, &mut reading);
        }
        reading
    }

    /// The next phase, when one is over.
    fn go_on(&mut self) {
        match self.kind {
            CycleKind::Identify => self.state = State::Done(Box::new(self.session.known.clone())),
            _ if !self.session.streaming || !self.session.opened => {
                self.session.opened = true;
                self.asks(Phase::Opening);
            }
            CycleKind::Write(setting) if self.ordered.is_none() => self.give_order(setting),
            _ if self.newest.is_some() => self.state = State::Done(Box::new(self.reading())),
            _ => self.state = State::Awaiting(Phase::Listening),
        }
    }

    fn give_order(&mut self, setting: Setting) {
        self.ordered = Some(0);
        self.asks(Phase::Order(setting));
        if self.question(Phase::Order(setting)).is_empty() {
            let reason = "this board has no such switch".into();
            let query = Self::describe(Phase::Order(setting));
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
        let silence =
            || ProtocolError::Timeout { query: Self::describe(phase), received: self.received };
        self.state = State::Failed(self.error.clone().unwrap_or_else(silence));
    }
}

impl Driver for JkBle {
    fn redact(&self, side: Side, bytes: &mut [u8]) {
        if side == Side::Battery {
            Redactor::default().redact(bytes);
        }
    }

    fn reset(&mut self) {
        self.session = Session::default();
        self.start(CycleKind::Read);
    }

    fn start(&mut self, kind: CycleKind) {
        self.kind = kind;
        self.newest = None;
        self.ordered = None;
        self.read_back = false;
        self.error = None;
        // The caller has thrown away what came between the cycles, so the rest of a record that
        // was begun will not come.
        self.reassembly.clear();
        self.received = 0;
        let device = &self.session.known.received.device_info;
        if *device || (kind != CycleKind::Identify && self.session.failures >= FAILURES) {
            self.go_on();
        } else {
            self.asks(Phase::Device);
        }
    }

    fn step(&mut self) -> Step {
        match &self.state {
            State::Asking(phase) => Step::Send(self.question(*phase)),
            State::Awaiting(phase) => Step::Await(self.limit(*phase)),
            State::Done(reading) => Step::Done(reading.clone()),
            State::Failed(error) => Step::Failed(error.clone()),
        }
    }

    fn advance(&mut self) {
        if let State::Asking(phase) = self.state {
            self.state = State::Awaiting(phase);
        }
    }

    /// What comes while nothing is awaited is dropped; the stream brings more.
    fn receive(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            let State::Awaiting(_) = self.state else { return };
            self.received += 1;
            self.reassembly.push(byte);
            while let State::Awaiting(phase) = self.state {
                let Some(word) = self.reassembly.next_word() else { break };
                self.take(phase, word);
            }
        }
    }

    fn handle_timeout(&mut self) {
        let State::Awaiting(phase) = self.state else { return };
        match phase {
            Phase::Device if self.is_retryable() => self.asks_again(phase),
            Phase::Device => {
                self.session.failures += 1;
                let nothing = self.session.known == Reading::default();
                if self.kind == CycleKind::Identify && nothing {
                    self.fail(phase)
                } else {
                    self.go_on()
                }
            }
            Phase::Acknowledgement => self.go_on(),
            Phase::Listening => {
                self.session.streaming = false;
                self.asks(Phase::Opening);
            }
            Phase::Opening | Phase::ReadBack if self.is_retryable() => self.asks_again(phase),
            Phase::Opening if self.newest.is_some() => self.go_on(),
            Phase::Opening | Phase::ReadBack => self.fail(phase),
            Phase::Order(_) => self.asks(Phase::ReadBack),
        }
    }
}

#[cfg(test)]
mod tests;
