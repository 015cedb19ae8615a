//! The script of those who ask the same few things in every cycle.

use std::collections::VecDeque;
use std::fmt::Debug;

use super::reply::Reply;
use super::{Line, Script, Turn, silent, unknown};
use crate::model::Reading;
use crate::protocol::query::Need;
use crate::protocol::{CycleKind, ProtocolError};

/// Silent or senseless answers after which a question that is not required rests for the session.
const FAILURES: usize = 2;

/// What is asked, and what the answers mean.
pub trait Questions: Send {
    /// A question.
    type Query: Copy + PartialEq + Debug + Send + 'static;
    /// The questions of a cycle, in order, the required ones first.
    fn plan(&self) -> &'static [Self::Query];
    /// What it means when the question stays without an answer.
    fn need(&self, query: Self::Query) -> Need;
    /// What to type.
    fn line(&self, query: Self::Query) -> Line;
    /// Takes an answer apart. After an error the half-filled reading is thrown away. What a
    /// [`Need::Once`] says is kept by the questions themselves.
    fn decode(
        &mut self,
        query: Self::Query,
        reply: &Reply,
        into: &mut Reading,
    ) -> Result<(), ProtocolError>;
    /// Everything was asked: what follows from several answers together.
    fn complete(&self, reading: &mut Reading);
    /// The link is new.
    fn forget(&mut self);
}

/// Asks the questions.
#[derive(Debug)]
pub struct Survey<Q: Questions> {
    questions: Q,
    kind: CycleKind,
    queue: VecDeque<Q::Query>,
    /// Answered once and for all, or not worth asking again.
    closed: Vec<Q::Query>,
    failed: Vec<Q::Query>,
    reading: Reading,
    end: Option<Result<(), ProtocolError>>,
    /// Why the last question of this cycle stayed open.
    worst: Option<ProtocolError>,
}

impl<Q: Questions> Survey<Q> {
    /// Has asked nothing yet.
    pub fn new(questions: Q) -> Self {
        Survey {
            questions,
            kind: CycleKind::Read,
            queue: VecDeque::new(),
            closed: Vec::new(),
            failed: Vec::new(),
            reading: Reading::default(),
            end: None,
            worst: None,
        }
    }

    fn failures(&self, query: Q::Query) -> usize {
        self.failed.iter().filter(|failed| **failed == query).count()
    }

    /// Ends the cycle when there is nothing left to ask.
    fn end_if_over(&mut self) {
        if self.queue.is_empty() && self.end.is_none() {
            self.questions.complete(&mut self.reading);
            let nothing = self.kind == CycleKind::Identify && !self.reading.received.device_info;
            self.end = Some(match self.worst.take() {
                Some(error) if nothing => Err(error),
                _ => Ok(()),
            });
        }
    }

    fn fail(&mut self, query: Q::Query, error: ProtocolError) {
        if self.questions.need(query) == Need::Required {
            self.end = Some(Err(error));
            return;
        }
        self.failed.push(query);
        let hopeless = matches!(error, ProtocolError::Unsupported { .. });
        if hopeless || self.failures(query) >= FAILURES {
            self.closed.push(query);
        }
        if matches!(error, ProtocolError::Timeout { .. }) {
            // What is silent now would cost another time-out for each further question.
            self.queue.clear();
        }
        self.queue.pop_front();
        self.worst = Some(error);
        self.end_if_over();
    }
}

impl<Q: Questions> Script for Survey<Q> {
    fn forget(&mut self) {
        self.questions.forget();
        self.closed.clear();
        self.failed.clear();
    }

    /// Questions that failed before come last, so that one that is never answered does not keep the
    /// others from being asked.
    fn begin(&mut self, kind: CycleKind) {
        let mut open = self.questions.plan().to_vec();
        open.retain(|query| !self.closed.contains(query));
        if kind != CycleKind::Read {
            open.retain(|query| self.questions.need(*query) == Need::Once);
        }
        open.sort_by_key(|query| self.failures(*query));
        self.kind = kind;
        self.queue = open.into();
        self.reading = Reading::default();
        self.end = None;
        self.worst = None;
        self.end_if_over();
    }

    fn turn(&self) -> Turn {
        match (&self.end, self.queue.front()) {
            (Some(Err(error)), _) => Turn::Failed(error.clone()),
            (None, Some(query)) => Turn::Say(self.questions.line(*query)),
            (Some(Ok(())), _) | (None, None) => Turn::Done(Box::new(self.reading.clone())),
        }
    }

    fn answered(&mut self, reply: &Reply) {
        let Some(&query) = self.queue.front() else { return };
        let command = self.questions.line(query).command;
        let mut reading = self.reading.clone();
        let decoded = match reply.complaint() {
            Some(complaint) => Err(unknown(&command, complaint)),
            None => self.questions.decode(query, reply, &mut reading),
        };
        match decoded {
            Ok(()) => {
                self.reading = reading;
                if self.questions.need(query) == Need::Once {
                    self.closed.push(query);
                }
                self.queue.pop_front();
                self.end_if_over();
            }
            Err(error) => self.fail(query, error),
        }
    }

    fn unanswered(&mut self, received: usize) {
        let Some(&query) = self.queue.front() else { return };
        let command = self.questions.line(query).command;
        self.fail(query, silent(&command, received));
    }
}
