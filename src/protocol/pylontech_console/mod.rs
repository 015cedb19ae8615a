//! The text console of Pylontech's low-voltage packs (US2000, US3000, US5000 and relatives).
//!
//! One console speaks for all packs of a stack; each pack is a battery of its own here, with its
//! number as the address. Four commands, all of them at the user's prompt: `pwr` (a row for each
//! pack), `bat n` (its cells), `stat n` (its history) and `info n` (its names). Columns are found by
//! their names, because firmwares differ (captures of a US2000C in Hrabovszki1023/pylontech-console;
//! forms of newer firmware in esphome's component `pylontech`).

mod decode;

use std::time::Duration;

use super::console::info::Info;
use super::console::reply::Reply;
use super::console::{GAP, Line, Questions, Survey, Terminal, unreadable, words};
use super::info::{DriverInfo, SerialDefaults};
use super::query::Need;
use crate::model::Reading;
use crate::protocol::Options;
use crate::protocol::{DecodeError, ProtocolError};

/// What the rest of the program knows about this brand.
pub static INFO: DriverInfo = DriverInfo {
    serial: SerialDefaults::new(&[115_200], 5),
    addresses: 1..=16,
    text: true,
    verified: "recorded answers of a US2000C",
    ..DriverInfo::new("pylontech-console", "Pylontech console", |options| {
        Box::new(Terminal::new(Survey::new(Console::new(options))))
    })
};

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Query {
    Pwr,
    Bat,
    Stat,
    Info,
}

/// Reads one pack.
#[derive(Debug)]
struct Console {
    pack: u8,
    timeout: Duration,
    info: Option<Info>,
}

impl Console {
    fn new(options: &Options) -> Self {
        Console { pack: options.address, timeout: options.timeout, info: None }
    }

    fn command(&self, query: Query) -> String {
        match query {
            Query::Pwr => "pwr".to_owned(),
            Query::Bat => format!("bat {}", self.pack),
            Query::Stat => format!("stat {}", self.pack),
            Query::Info => format!("info {}", self.pack),
        }
    }
}

impl Questions for Console {
    type Query = Query;

    fn plan(&self) -> &'static [Query] {
        &[Query::Pwr, Query::Bat, Query::Stat, Query::Info]
    }

    fn need(&self, query: Query) -> Need {
        match query {
            Query::Pwr => Need::Required,
            Query::Bat | Query::Stat => Need::Optional,
            Query::Info => Need::Once,
        }
    }

    fn line(&self, query: Query) -> Line {
        Line { command: self.command(query), patience: self.timeout, pause: GAP }
    }

    fn decode(
        &mut self,
        query: Query,
        reply: &Reply,
        into: &mut Reading,
    ) -> Result<(), ProtocolError> {
        let command = self.command(query);
        if !reply.succeeded() {
            return Err(unreadable(&command, "no word of success behind it"));
        }
        let decoded = match query {
            Query::Pwr => decode::pwr(&reply.lines, self.pack, into),
            Query::Bat => decode::bat(&reply.lines, into),
            Query::Stat => decode::stat(&reply.lines, into),
            Query::Info => {
                self.info = Info::parse(&reply.lines);
                self.info.as_ref().map(|_| ()).ok_or(DecodeError::Empty)
            }
        };
        decoded.map_err(|misfit| match misfit {
            DecodeError::Missing(decode::NO_PACK) => ProtocolError::Refused {
                query: format!("`{command}` for pack {}", self.pack),
                code: 0,
                reason: "no pack has this number",
            },
            other => unreadable(&command, other.to_string()),
        })
    }

    fn complete(&self, reading: &mut Reading) {
        words::note_cells(reading);
        if let Some(info) = &self.info {
            info.tell(&mut reading.identity, &mut reading.pack);
            reading.received.device_info = true;
        }
    }

    fn forget(&mut self) {
        self.info = None;
    }
}
