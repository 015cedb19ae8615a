//! The easy way to write a driver: a list of questions with one framed answer each.
//!
//! A brand implements [`RequestReply`]; [`Runner`] makes a [`Driver`] of it. How a question goes:
//!
//! ```text
//! Pause(gap) -> Send -> Await(timeout) --good answer--> next question
//!                ^            |  |
//!                |         damaged  silence -> the question has failed
//!                |            v
//!                +-silence- Await(settle) --good answer--> next question
//! ```
//!
//! After a damaged answer the runner listens on for a short while: a good one may stand right
//! behind noise, and a question that is repeated too early collides with it. Only then it asks
//! again. Silence is not asked again: one silent battery on a shared bus costs the others no more
//! than one time-out a cycle, and so does a question that a battery does not know.

mod session;

use std::collections::VecDeque;
use std::fmt::Debug;
use std::time::Duration;

use crate::model::Reading;
use crate::model::reading::Setting;
use crate::protocol::{CycleKind, Driver, ProtocolError, Side, Step};
pub(super) use session::Session;

/// Bytes that may wait for the rest of their frame. The longest answer of any brand is well below;
/// what is older than so many bytes belongs to no frame.
const BUFFER: usize = 4096;

/// A brand that asks a few questions and gets one framed answer to each.
pub trait RequestReply: Send {
    /// A question.
    type Query: Copy + PartialEq + Debug + Send + 'static;
    /// The questions of a cycle, in order, the required ones first: silence of an optional one
    /// must not delay or lose the live values.
    fn plan(&self) -> &'static [Self::Query];
    /// The orders and questions that turn a switch and read it back, all of them required; none
    /// for a brand without control.
    fn write_plan(&mut self, _setting: Setting) -> Vec<Self::Query> {
        Vec::new()
    }
    /// Whether an answer tells by itself what it answers, so that it has a meaning where somebody
    /// recorded nothing else ([`CycleKind::Identify`]). Others would be tried with what is not theirs.
    fn is_self_describing(&self, query: Self::Query) -> bool {
        self.need(query) == Need::Once
    }
    /// What it means when the question stays without an answer.
    fn need(&self, query: Self::Query) -> Need;
    /// The question as people call it, for messages.
    fn describe(&self, query: Self::Query) -> String;
    /// The bytes of the question.
    fn encode(&self, query: Self::Query) -> Vec<u8>;
    /// Where does the first frame in `buffer` end?
    fn frame(&self, query: Self::Query, buffer: &[u8]) -> Framing;
    /// Takes one frame apart. After an error the runner throws `into` away, so there are no half
    /// values to be afraid of. It may be called more than once for a frame.
    fn decode(
        &mut self,
        query: Self::Query,
        frame: &[u8],
        into: &mut Reading,
    ) -> Result<Answer, ProtocolError>;
    /// Limits and pauses around this question.
    fn pacing(&self, query: Self::Query) -> Pacing;
    /// Whether asking again may help after this answer.
    fn is_retryable(&mut self, _query: Self::Query, error: &ProtocolError) -> bool {
        matches!(error, ProtocolError::BadChecksum { .. } | ProtocolError::BadFrame { .. })
    }
    /// As [`Driver::blank`].
    fn redact(&self, _side: Side, _bytes: &mut [u8]) {}
    /// No answer came, not even a damaged one. The dialect may ask differently in the next cycle.
    fn unanswered(&mut self, _query: Self::Query) {}
    /// No answer came either: what is asked instead in this cycle, for a brand that does not know
    /// yet which of its languages the battery speaks.
    fn fallback_plan(&mut self, _query: Self::Query, _kind: CycleKind) -> Option<Vec<Self::Query>> {
        None
    }
    /// A good answer repeats the question to the letter, so it cannot be told from its echo.
    fn reply_equals_request(&self, _query: Self::Query) -> bool {
        false
    }
    /// The link is new: forget what belongs to the session.
    fn reset(&mut self) {}
}

/// How important a question is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Without an answer the cycle fails.
    Required,
    /// Without an answer its fields stay empty.
    Optional,
    /// Optional until it was answered once in the session, and required from then on: values that
    /// come and go with the luck of one answer look like something that the battery lost.
    Steady,
    /// Optional, and the answer holds for the whole session: it is part of every later reading.
    Once,
}

/// For whom a sound frame was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It is the answer, and its values are in the reading.
    Ours,
    /// Somebody else's: the answer may still come.
    Foreign,
}

/// What the front of a buffer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// Not a whole frame yet.
    NeedMore,
    /// So many bytes belong to no frame of ours.
    Junk(usize),
    /// A frame of so many bytes.
    Frame(usize),
    /// So many bytes look like a frame and are none, which decoding them will say. A frame of ours
    /// may begin right behind the first of them.
    Damaged(usize),
}

/// Limits and pauses of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pacing {
    /// Time for one answer.
    pub timeout: Duration,
    /// Quiet time before each question.
    pub gap: Duration,
    /// Time to listen on after a damaged answer before the question is repeated.
    pub settle: Duration,
    /// Further tries after a damaged answer.
    pub retries: u8,
}

/// Asks the questions of a dialect.
#[derive(Debug)]
pub struct Runner<D: RequestReply> {
    dialect: D,
    kind: CycleKind,
    state: State,
    /// Still to be asked; the front one is being asked.
    queue: VecDeque<D::Query>,
    request: Vec<u8>,
    pacing: Pacing,
    /// Of `pacing.retries`, what is left.
    retries: u8,
    buffer: Vec<u8>,
    /// Bytes that came since the question, without its echo.
    received: usize,
    /// The most telling error of this question so far.
    error: Option<ProtocolError>,
    /// The most telling error of the optional questions of this cycle.
    worst: Option<ProtocolError>,
    reading: Reading,
    session: Session<D::Query>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// The line is left quiet before the question.
    Gap,
    /// The question is being sent.
    Asking,
    /// The answer is awaited.
    Listening,
    /// A damaged answer came; perhaps a good one stands behind it.
    Settling,
    Done,
    Failed(ProtocolError),
}

impl<D: RequestReply> Runner<D> {
    /// Ready for the first cycle of a session.
    pub fn new(dialect: D) -> Self {
        let mut runner = Runner {
            dialect,
            kind: CycleKind::Read,
            state: State::Done,
            queue: VecDeque::new(),
            request: Vec::new(),
            pacing: Pacing::default(),
            retries: 0,
            buffer: Vec::new(),
            received: 0,
            error: None,
            worst: None,
            reading: Reading::default(),
            session: Session::default(),
        };
        runner.start(CycleKind::Read);
        runner
    }

    /// Begins with the question at the front of the queue, or ends the cycle.
    fn next(&mut self) {
        let Some(&query) = self.queue.front() else { return self.finish() };
        self.pacing = self.dialect.pacing(query);
        self.retries = self.pacing.retries;
        self.error = None;
        self.prepare();
        if !self.pacing.gap.is_zero() {
            self.state = State::Gap;
        }
    }

    /// Makes the bytes of the question, which may differ from try to try.
    fn prepare(&mut self) {
        if let Some(&query) = self.queue.front() {
            self.request = self.dialect.encode(query);
        }
        self.buffer.clear();
        self.received = 0;
        self.state = State::Asking;
    }

    fn finish(&mut self) {
        self.queue.clear();
        self.buffer.clear();
        let nothing_new = self.kind == CycleKind::Identify && self.reading == Reading::default();
        self.state = match self.worst.take() {
            Some(error) if nothing_new => State::Failed(error),
            _ => State::Done,
        };
    }

    /// Frames that somebody recorded are only tried with what names itself.
    fn retain_self_describing(&mut self) {
        if self.kind == CycleKind::Identify {
            self.queue.retain(|query| self.dialect.is_self_describing(*query));
        }
    }

    fn listens(&self) -> bool {
        matches!(self.state, State::Listening | State::Settling)
    }

    /// Takes whole frames from the front of the buffer until the question is settled.
    fn digest(&mut self) {
        while self.listens() {
            let Some(&query) = self.queue.front() else { return };
            let echo = !self.dialect.reply_equals_request(query);
            if echo && !self.request.is_empty() && self.buffer.starts_with(&self.request) {
                // Two-wire adapters may hear what they say.
                self.received = self.received.saturating_sub(self.request.len());
                self.buffer.drain(..self.request.len());
                continue;
            }
            if echo && self.request.starts_with(&self.buffer) {
                return;
            }
            match self.dialect.frame(query, &self.buffer) {
                Framing::NeedMore | Framing::Junk(0) | Framing::Frame(0) | Framing::Damaged(0) => {
                    return;
                }
                Framing::Junk(count) => {
                    self.buffer.drain(..count.min(self.buffer.len()));
                }
                Framing::Frame(count) => {
                    let frame: Vec<u8> =
                        self.buffer.drain(..count.min(self.buffer.len())).collect();
                    self.judge(query, &frame);
                }
                Framing::Damaged(count) => {
                    let frame = self.buffer[..count.min(self.buffer.len())].to_vec();
                    self.buffer.drain(..1);
                    self.judge(query, &frame);
                }
            }
        }
    }

    fn judge(&mut self, query: D::Query, frame: &[u8]) {
        match self.take(query, frame) {
            Ok(Answer::Foreign) => {}
            Ok(Answer::Ours) => {
                self.queue.pop_front();
                self.next();
            }
            Err(error) => {
                let again = self.dialect.is_retryable(query, &error);
                self.note(error);
                if again {
                    self.state = State::Settling;
                } else {
                    self.give_up(query);
                }
            }
        }
    }

    /// Decodes into copies, so that a bad frame leaves nothing behind.
    fn take(&mut self, query: D::Query, frame: &[u8]) -> Result<Answer, ProtocolError> {
        let mut reading = self.reading.clone();
        let answer = self.dialect.decode(query, frame, &mut reading)?;
        if answer == Answer::Ours {
            match self.dialect.need(query) {
                Need::Once => {
                    self.dialect.decode(query, frame, &mut self.session.known)?;
                    self.session.closed.push(query);
                }
                Need::Steady => self.session.answered(query),
                Need::Required | Need::Optional => {}
            }
            self.reading = reading;
        }
        Ok(answer)
    }

    /// Keeps the more telling one of two errors.
    fn note(&mut self, error: ProtocolError) {
        self.error = ProtocolError::more_specific(self.error.take(), error);
    }

    /// The question has failed for this cycle. A battery that says no is awake, so the next
    /// question follows; after anything else the optional ones have to wait for the next cycle.
    fn give_up(&mut self, query: D::Query) {
        let error = self.error.take().unwrap_or_else(|| ProtocolError::Timeout {
            query: self.dialect.describe(query),
            received: self.received,
        });
        let refused = matches!(error, ProtocolError::Refused { .. });
        let need = self.dialect.need(query);
        let required = need == Need::Required || self.session.steady.contains(&query);
        if required && self.kind != CycleKind::Identify {
            self.finish();
            self.state = State::Failed(error);
            return;
        }
        if matches!(need, Need::Once | Need::Steady) {
            self.session.failure(query, refused);
        }
        self.queue.pop_front();
        if refused || self.kind == CycleKind::Identify {
            self.worst = ProtocolError::more_specific(self.worst.take(), error);
            self.next();
        } else {
            self.finish();
        }
    }
}

impl<D: RequestReply> Driver for Runner<D> {
    fn reset(&mut self) {
        self.session = Session::default();
        self.dialect.reset();
        self.start(CycleKind::Read);
    }

    fn start(&mut self, kind: CycleKind) {
        self.queue = match kind {
            CycleKind::Write(setting) => self.dialect.write_plan(setting).into(),
            CycleKind::Read | CycleKind::Identify => self.session.open(self.dialect.plan()),
        };
        self.kind = kind;
        self.retain_self_describing();
        self.worst = None;
        self.reading = self.session.known.clone();
        self.next();
    }

    fn step(&mut self) -> Step {
        let pacing = self.pacing;
        match &self.state {
            State::Gap => Step::Pause(pacing.gap),
            State::Asking => Step::Send(self.request.clone()),
            State::Listening => Step::Await(pacing.timeout),
            State::Settling => Step::Await(pacing.settle.min(pacing.timeout)),
            State::Done => Step::Done(Box::new(self.reading.clone())),
            State::Failed(error) => Step::Failed(error.clone()),
        }
    }

    fn advance(&mut self) {
        match self.state {
            State::Gap => self.state = State::Asking,
            State::Asking => self.state = State::Listening,
            _ => {}
        }
    }

    /// What comes while nothing is awaited answers no question of ours and is dropped.
    fn receive(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while self.listens() && !rest.is_empty() {
            let room = BUFFER - self.buffer.len();
            let (piece, later) = rest.split_at(room.min(rest.len()));
            self.buffer.extend_from_slice(piece);
            self.received += piece.len();
            rest = later;
            self.digest();
            if self.buffer.len() == BUFFER {
                self.buffer.drain(..BUFFER / 2);
                self.digest();
            }
        }
    }

    fn redact(&self, side: Side, bytes: &mut [u8]) {
        self.dialect.redact(side, bytes);
    }

    fn handle_timeout(&mut self) {
        let Some(&query) = self.queue.front() else { return };
        match self.state {
            State::Listening => {
                if self.error.is_none() {
                    self.dialect.unanswered(query);
                    if let Some(plan) = self.dialect.fallback_plan(query, self.kind) {
                        self.queue = self.session.open(&plan);
                        self.retain_self_describing();
                        return self.next();
                    }
                }
                self.give_up(query);
            }
            State::Settling if self.retries > 0 => {
                self.retries -= 1;
                self.prepare();
            }
            State::Settling => self.give_up(query),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
