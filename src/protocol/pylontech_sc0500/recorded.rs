//! A console that somebody else has logged in at, as in a recorded conversation: no log-in, no
//! number, only `getpwr` and `info`.

use std::time::Duration;

use super::super::console::info::Info;
use super::super::console::reply::Reply;
use super::super::console::{GAP, Line, Questions, unreadable};
use super::super::query::Need;
use super::{SLOW, divide_into_modules, getpwr};
use crate::model::Reading;
use crate::protocol::{CapacityUnit, Options, ProtocolError};

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Query {
    Getpwr,
    Info,
}

/// Reads a stack whose console is in debug mode already.
#[derive(Debug)]
pub(super) struct Recorded {
    unit: CapacityUnit,
    timeout: Duration,
    info: Option<Info>,
}

impl Recorded {
    pub(super) fn new(options: &Options) -> Self {
        Recorded { unit: options.capacity_unit, timeout: options.timeout, info: None }
    }
}

impl Questions for Recorded {
    type Query = Query;

    fn plan(&self) -> &'static [Query] {
        &[Query::Getpwr, Query::Info]
    }

    fn need(&self, query: Query) -> Need {
        if query == Query::Getpwr { Need::Required } else { Need::Once }
    }

    fn line(&self, query: Query) -> Line {
        let (command, patience) = match query {
            Query::Getpwr => ("getpwr", self.timeout),
            Query::Info => ("info", self.timeout * SLOW),
        };
        Line { command: command.to_owned(), patience, pause: GAP }
    }

    fn decode(
        &mut self,
        query: Query,
        reply: &Reply,
        into: &mut Reading,
    ) -> Result<(), ProtocolError> {
        let command = self.line(query).command;
        if !reply.succeeded() {
            return Err(unreadable(&command, "no word of success behind it"));
        }
        match query {
            Query::Getpwr => getpwr::decode(&reply.lines, self.unit, into)
                .map_err(|misfit| unreadable(&command, misfit.to_string())),
            Query::Info => {
                self.info = Info::parse(&reply.lines);
                self.info.as_ref().map(|_| ()).ok_or_else(|| unreadable(&command, "no data in it"))
            }
        }
    }

    fn complete(&self, reading: &mut Reading) {
        let serials = self.info.iter().flat_map(|info| info.modules.values()).collect();
        divide_into_modules(reading, serials);
        if let Some(info) = &self.info {
            info.tell(&mut reading.identity, &mut reading.pack);
            reading.received.device_info = true;
        }
    }

    fn forget(&mut self) {
        self.info = None;
    }
}
