//! The conversation of a console that gets the same commands in every cycle.

use std::collections::VecDeque;

use super::info::Info;
use super::reply::Reply;
use super::{COMMAND_GAP, Command, ConsoleStep, Conversation, quoted, timed_out, unreadable};
use crate::model::Reading;
use crate::protocol::query::Session;
use crate::protocol::{CycleKind, DecodeError, Need, Options, ProtocolError};

/// The commands of a console, the required ones first.
#[derive(Debug)]
pub struct ConsoleDialect {
    pub queries: &'static [ConsoleQuery],
    /// Runs at the end of a cycle, for what follows from several replies together.
    pub complete: fn(&mut Reading, Option<&Info>),
}

#[derive(Debug)]
pub struct ConsoleQuery {
    /// `{}` is replaced by the address.
    pub command: &'static str,
    pub need: Need,
    /// Some replies take a multiple of the configured timeout.
    pub timeouts: u32,
    pub decode: Decode,
}

/// A query whose reply comes within the configured timeout.
pub const fn query(command: &'static str, need: Need, decode: Decode) -> ConsoleQuery {
    ConsoleQuery { command, need, timeouts: 1, decode }
}

/// How a reply is decoded.
#[derive(Debug)]
pub enum Decode {
    /// As the identity of the battery, kept for the session.
    Info,
    Values(fn(&[String], &Options, &mut Reading) -> Result<(), DecodeError>),
}

/// Sends the queries of a dialect.
#[derive(Debug)]
pub struct QueryPlan {
    dialect: &'static ConsoleDialect,
    options: Options,
    kind: CycleKind,
    info: Option<Info>,
    /// Queries are identified by their index in the dialect.
    queue: VecDeque<usize>,
    session: Session,
    reading: Reading,
    end: Option<Result<(), ProtocolError>>,
    /// The last error of an optional query in this cycle.
    error: Option<ProtocolError>,
}

impl QueryPlan {
    pub fn new(dialect: &'static ConsoleDialect, options: &Options) -> Self {
        QueryPlan {
            dialect,
            options: options.clone(),
            kind: CycleKind::Read,
            info: None,
            queue: VecDeque::new(),
            session: Session::default(),
            reading: Reading::default(),
            end: None,
            error: None,
        }
    }

    fn current(&self) -> Option<(usize, &'static ConsoleQuery, String)> {
        let index = *self.queue.front()?;
        let query = self.dialect.queries.get(index)?;
        Some((index, query, query.command.replace("{}", &self.options.address.to_string())))
    }

    fn finish_if_empty(&mut self) {
        if !self.queue.is_empty() || self.end.is_some() {
            return;
        }
        (self.dialect.complete)(&mut self.reading, self.info.as_ref());
        if let Some(info) = &self.info {
            info.apply(&mut self.reading);
        }
        let unidentified = self.kind == CycleKind::Identify && self.info.is_none();
        self.end = Some(match self.error.take() {
            Some(error) if unidentified => Err(error),
            _ => Ok(()),
        });
    }

    fn decode(&mut self, query: &ConsoleQuery, reply: &Reply) -> Result<(), DecodeError> {
        match query.decode {
            Decode::Info => {
                self.info = Some(Info::parse(&reply.lines).ok_or(DecodeError::Empty)?);
            }
            Decode::Values(decode) => {
                let mut reading = self.reading.clone();
                decode(&reply.lines, &self.options, &mut reading)?;
                self.reading = reading;
            }
        }
        Ok(())
    }

    fn fail(&mut self, index: usize, need: Need, error: ProtocolError) {
        if need == Need::Required || self.session.is_steady(index) {
            self.session.note_steady_failure(index);
            self.end = Some(Err(error));
            return;
        }
        self.session.note_failure(index, matches!(error, ProtocolError::Unsupported { .. }));
        if matches!(error, ProtocolError::Timeout { .. }) {
            // Each further query to a silent console would cost another timeout.
            self.queue.clear();
        }
        self.queue.pop_front();
        self.error = Some(error);
        self.finish_if_empty();
    }
}

impl Conversation for QueryPlan {
    fn reset(&mut self) {
        self.info = None;
        self.session.renew();
    }

    fn start(&mut self, kind: CycleKind) {
        let plan: Vec<usize> = (0..self.dialect.queries.len()).collect();
        self.queue = self.session.open(&plan);
        if kind != CycleKind::Read {
            self.queue.retain(|index| self.dialect.queries[*index].need == Need::Once);
        }
        self.kind = kind;
        self.reading = Reading::default();
        self.end = None;
        self.error = None;
        self.finish_if_empty();
    }

    fn step(&self) -> ConsoleStep {
        match (&self.end, self.current()) {
            (Some(Err(error)), _) => ConsoleStep::Failed(error.clone()),
            (None, Some((_, query, text))) => {
                let timeout = self.options.timeout * query.timeouts;
                ConsoleStep::Send(Command { text, timeout, pause: COMMAND_GAP })
            }
            _ => ConsoleStep::Done(Box::new(self.reading.clone())),
        }
    }

    fn on_reply(&mut self, reply: &Reply) {
        let Some((index, query, command)) = self.current() else { return };
        let result = match reply.unknown_command() {
            Some(line) => {
                Err(ProtocolError::Unsupported { query: quoted(&command), reason: line.to_owned() })
            }
            None if !reply.succeeded() => Err(unreadable(&command, NO_SUCCESS_LINE)),
            None => self.decode(query, reply).map_err(|error| match error {
                DecodeError::Missing(NO_SUCH_PACK) => ProtocolError::Refused {
                    query: format!("`{command}` for pack {}", self.options.address),
                    code: 0,
                    reason: "no pack has this number",
                },
                other => unreadable(&command, other.to_string()),
            }),
        };
        if let Err(error) = result {
            return self.fail(index, query.need, error);
        }
        match query.need {
            Need::Once => self.session.closed.push(index),
            Need::Steady => self.session.note_reply(index),
            Need::Required | Need::Optional => {}
        }
        self.queue.pop_front();
        self.finish_if_empty();
    }

    fn on_timeout(&mut self, received: usize) {
        if let Some((index, query, command)) = self.current() {
            self.fail(index, query.need, timed_out(&command, received));
        }
    }
}

/// [`DecodeError::Missing`] with this name is reported as a refusal by the console.
pub(crate) const NO_SUCH_PACK: &str = "pack of this number";

/// Reason for a reply that was cut off.
pub(crate) const NO_SUCCESS_LINE: &str = "the line `Command completed successfully` is missing";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::console::reply::Prompt;

    static DIALECT: ConsoleDialect = ConsoleDialect {
        queries: &[
            query("pwr", Need::Required, Decode::Values(|_, _, _| Ok(()))),
            query("bat", Need::Steady, Decode::Values(|_, _, _| Ok(()))),
        ],
        complete: |_, _| {},
    };

    /// Reads once; `bat` has this reply.
    fn read(plan: &mut QueryPlan, bat: &str) -> ConsoleStep {
        plan.start(CycleKind::Read);
        for line in ["Command completed successfully", bat] {
            plan.on_reply(&Reply { lines: vec![line.to_owned()], prompt: Prompt::User });
        }
        plan.step()
    }

    #[test]
    fn damaged_command_loses_no_values() {
        let mut plan = QueryPlan::new(&DIALECT, &Options::default());
        let (good, damaged) = ("Command completed successfully", "Unknown command 'b@t'");
        assert!(matches!(read(&mut plan, good), ConsoleStep::Done(_)));
        assert!(
            matches!(read(&mut plan, damaged), ConsoleStep::Failed(_)),
            "and not without cells"
        );
        assert!(matches!(read(&mut plan, good), ConsoleStep::Done(_)));
        assert!(plan.session.open(&[0, 1]).contains(&1));
    }

    #[test]
    fn console_without_a_command_is_read_without_it() {
        let mut plan = QueryPlan::new(&DIALECT, &Options::default());
        assert!(matches!(read(&mut plan, "Unknown command 'bat'"), ConsoleStep::Done(_)));
        assert_eq!(plan.session.open(&[0, 1]), [0]);
    }
}
