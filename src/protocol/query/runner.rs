//! Drives a [`RequestReply`] protocol.

use std::collections::VecDeque;

use super::numbered::{Numbered, NumberedRequests};
use super::{Framing, Need, Pacing, Progress, RequestReply, Session};
use crate::model::Reading;
use crate::protocol::driver::{CycleKind, Driver, Pause, Side, Step};
use crate::protocol::error::{DecodeError, ProtocolError};
use crate::protocol::receive_buffer::{ReceiveBuffer, work};

/// Bytes that may wait for the rest of their frame. The longest reply of any brand is well below;
/// older bytes belong to no frame.
const BUFFER: usize = 4096;

/// Drives a [`RequestReply`] protocol.
#[derive(Debug)]
pub struct Runner {
    protocol: Box<dyn NumberedRequests>,
    kind: CycleKind,
    state: RunnerState,
    /// Requests of this cycle without a reply; the front one is in progress.
    queue: VecDeque<usize>,
    request: Vec<u8>,
    pacing: Pacing,
    retries_left: u8,
    buffer: ReceiveBuffer,
    /// The frame that was decoded last; kept for its memory.
    frame: Vec<u8>,
    /// Bytes since the request, without its echo.
    received: usize,
    /// The reading before the request in progress; `None` while no frame has changed it.
    before: Option<Reading>,
    /// The most specific error of this request so far.
    error: Option<ProtocolError>,
    /// The most specific error of the optional requests of this cycle.
    optional_error: Option<ProtocolError>,
    reading: Reading,
    session: Session,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum RunnerState {
    /// Leaving the line quiet before the request.
    Pausing,
    Sending,
    Receiving,
    /// Receiving after a damaged reply.
    Settling,
    Done,
    Failed(ProtocolError),
}

impl Runner {
    /// Ready for the first cycle of a session.
    pub fn new(protocol: impl RequestReply + 'static) -> Self {
        Runner::of(Box::new(Numbered::new(protocol)))
    }

    fn of(protocol: Box<dyn NumberedRequests>) -> Self {
        let mut runner = Runner {
            protocol,
            kind: CycleKind::Read,
            state: RunnerState::Done,
            queue: VecDeque::new(),
            request: Vec::new(),
            pacing: Pacing::default(),
            retries_left: 0,
            buffer: ReceiveBuffer::default(),
            frame: Vec::new(),
            received: 0,
            before: None,
            error: None,
            optional_error: None,
            reading: Reading::default(),
            session: Session::default(),
        };
        runner.start(CycleKind::Read);
        runner
    }

    /// Begins the request at the front of the queue, or ends the cycle.
    fn next_request(&mut self) {
        while self.queue.front().is_some_and(|query| !self.protocol.is_due(*query)) {
            self.queue.pop_front();
        }
        let Some(&query) = self.queue.front() else { return self.finish() };
        self.pacing = self.protocol.pacing(query);
        self.retries_left = self.pacing.retries;
        self.error = None;
        self.before = None;
        self.prepare_request(query);
        if !self.pacing.gap.is_zero() && !self.request.is_empty() {
            self.state = RunnerState::Pausing;
        }
    }

    /// The bytes of a request may differ from try to try.
    fn prepare_request(&mut self, query: usize) {
        self.protocol.begin(query);
        self.request = self.protocol.encode(query);
        self.received = 0;
        if let Some(before) = self.before.take() {
            self.reading = before;
        }
        if self.request.is_empty() {
            // The battery sends unasked, perhaps since the previous request.
            self.state = RunnerState::Receiving;
        } else {
            self.buffer.clear();
            self.state = RunnerState::Sending;
        }
    }

    fn finish(&mut self) {
        self.queue.clear();
        self.buffer.clear();
        let identified_nothing =
            self.kind == CycleKind::Identify && self.reading == Reading::default();
        self.state = match self.optional_error.take() {
            Some(error) if identified_nothing => RunnerState::Failed(error),
            _ => RunnerState::Done,
        };
    }

    /// To identify a battery, or a recording, only replies count that identify their request.
    fn retain_self_describing(&mut self) {
        if self.kind == CycleKind::Identify {
            self.queue.retain(|query| self.protocol.is_self_describing(*query));
        }
    }

    pub(in crate::protocol) fn is_done(&self) -> bool {
        self.state == RunnerState::Done
    }

    /// The step is [`Step::Await`].
    pub(in crate::protocol) fn is_receiving(&self) -> bool {
        matches!(self.state, RunnerState::Receiving | RunnerState::Settling)
    }

    /// Takes frames from the front of the buffer until the request is settled.
    fn take_frames(&mut self) {
        while self.is_receiving() {
            let Some(&query) = self.queue.front() else { return };
            // Two-wire adapters may receive what they send.
            if !self.protocol.reply_equals_request(query) {
                if !self.request.is_empty() && self.buffer.starts_with(&self.request) {
                    self.received = self.received.saturating_sub(self.request.len());
                    self.buffer.consume(self.request.len());
                    continue;
                }
                if self.request.starts_with(&self.buffer) {
                    return;
                }
            }
            let available = self.buffer.len();
            let framing = self.protocol.frame(query, &self.buffer);
            work::add(framing.searched(available));
            match framing {
                Framing::NeedMore | Framing::Junk(0) | Framing::Frame(0) | Framing::Damaged(0) => {
                    return;
                }
                Framing::Junk(count) => self.buffer.consume(count),
                Framing::Frame(count) | Framing::Damaged(count) => {
                    let mut frame = std::mem::take(&mut self.frame);
                    frame.clear();
                    frame.extend_from_slice(&self.buffer[..count.min(available)]);
                    let is_damaged = matches!(framing, Framing::Damaged(_));
                    self.buffer.consume(if is_damaged { 1 } else { count });
                    self.handle_frame(query, &frame);
                    self.frame = frame;
                }
            }
        }
    }

    fn handle_frame(&mut self, query: usize, frame: &[u8]) {
        match self.decode(query, frame) {
            Err(DecodeError::Foreign) => {}
            Ok(()) if self.protocol.progress(query) != Progress::Complete => {}
            Ok(()) => self.complete(query),
            Err(error) => {
                let error = error.in_answer_to(self.protocol.describe(query));
                let retry = self.protocol.is_retryable(query, &error);
                self.error = ProtocolError::more_specific(self.error.take(), error);
                if retry {
                    self.state = RunnerState::Settling;
                } else {
                    self.give_up(query);
                }
            }
        }
    }

    fn complete(&mut self, query: usize) {
        match self.protocol.need(query) {
            Need::Once => self.session.closed.push(query),
            Need::Steady => self.session.note_reply(query),
            Need::Required | Need::Optional => {}
        }
        self.queue.pop_front();
        self.next_request();
    }

    /// Decodes into copies, so that a bad frame leaves nothing behind.
    fn decode(&mut self, query: usize, frame: &[u8]) -> Result<(), DecodeError> {
        let mut reading = self.reading.clone();
        self.protocol.decode(query, frame, &mut reading)?;
        if self.protocol.need(query) == Need::Once {
            self.protocol.decode(query, frame, &mut self.session.known)?;
        }
        let before = std::mem::replace(&mut self.reading, reading);
        self.before.get_or_insert(before);
        self.protocol.accept(query);
        Ok(())
    }

    /// The request has failed in this cycle. A battery that refuses one is awake, so the next one
    /// follows; after anything else the optional ones wait for the next cycle.
    fn give_up(&mut self, query: usize) {
        let error = self.error.take().unwrap_or_else(|| ProtocolError::Timeout {
            query: self.protocol.describe(query),
            received: self.received,
        });
        let refused = matches!(error, ProtocolError::Refused { .. });
        let need = self.protocol.need(query);
        let required = need == Need::Required || self.session.is_steady(query);
        if required && self.kind != CycleKind::Identify {
            self.session.note_steady_failure(query);
            self.finish();
            self.state = RunnerState::Failed(error);
            return;
        }
        if matches!(need, Need::Once | Need::Steady) {
            self.session.note_failure(query, refused);
        }
        self.queue.pop_front();
        if refused || self.kind == CycleKind::Identify {
            self.optional_error = ProtocolError::more_specific(self.optional_error.take(), error);
        } else {
            let (protocol, session) = (&self.protocol, &self.session);
            self.queue.retain(|query| {
                protocol.need(*query) == Need::Required || session.is_steady(*query)
            });
        }
        self.next_request();
    }
}

impl Driver for Runner {
    fn reset(&mut self) {
        self.session.renew();
        self.protocol.reset();
        self.start(CycleKind::Read);
    }

    fn start(&mut self, kind: CycleKind) {
        self.queue = match kind {
            CycleKind::Write(setting) => self.protocol.write_plan(setting).into(),
            CycleKind::Read | CycleKind::Identify => self.session.open(&self.protocol.plan()),
        };
        self.kind = kind;
        self.retain_self_describing();
        self.optional_error = None;
        self.reading = self.session.known.clone();
        self.next_request();
    }

    fn step(&mut self) -> Step {
        let Pacing { timeout, gap, settle, .. } = self.pacing;
        match &self.state {
            RunnerState::Pausing => Step::Pause(Pause::Quiet(gap)),
            RunnerState::Sending => Step::Send(self.request.clone()),
            RunnerState::Receiving => {
                match self.queue.front().map(|query| self.protocol.progress(*query)) {
                    Some(Progress::Enough(linger)) => Step::Await(linger),
                    _ => Step::Await(timeout),
                }
            }
            RunnerState::Settling => Step::Await(settle.min(timeout)),
            RunnerState::Done => Step::Done(Box::new(self.reading.clone())),
            RunnerState::Failed(error) => Step::Failed(error.clone()),
        }
    }

    fn advance(&mut self) {
        match self.state {
            RunnerState::Pausing => self.state = RunnerState::Sending,
            RunnerState::Sending => {
                self.state = RunnerState::Receiving;
                let query = self.queue.front().copied();
                if let Some(query) = query.filter(|query| !self.protocol.has_reply(*query)) {
                    self.complete(query);
                }
            }
            _ => {}
        }
    }

    /// Bytes that arrive while nothing is awaited belong to no request and are dropped.
    fn receive(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while self.is_receiving() && !rest.is_empty() {
            let free = BUFFER - self.buffer.len();
            let (piece, later) = rest.split_at(free.min(rest.len()));
            self.buffer.extend(piece);
            self.received += piece.len();
            rest = later;
            self.take_frames();
            if self.buffer.len() == BUFFER {
                self.buffer.consume(BUFFER / 2);
                self.take_frames();
            }
        }
    }

    fn handle_timeout(&mut self) {
        let Some(&query) = self.queue.front() else { return };
        match self.state {
            RunnerState::Receiving
                if matches!(self.protocol.progress(query), Progress::Enough(_)) =>
            {
                self.complete(query);
            }
            RunnerState::Receiving => {
                let silent = self.error.is_none();
                let fallback =
                    silent.then(|| self.protocol.fallback_plan(query, self.kind)).flatten();
                let Some(plan) = fallback else { return self.give_up(query) };
                self.queue = self.session.open(&plan);
                self.retain_self_describing();
                self.next_request();
            }
            RunnerState::Settling if self.retries_left > 0 => {
                self.retries_left -= 1;
                self.prepare_request(query);
            }
            RunnerState::Settling => self.give_up(query),
            _ => {}
        }
    }

    fn redact(&self, side: Side, bytes: &mut [u8]) {
        self.protocol.redact(side, bytes);
    }
}

#[cfg(test)]
mod tests;
