//! The way without a log-in: what the console tells at the user's prompt.
//!
//! | command | gives |
//! |---|---|
//! | `pwr` | the stack: voltage, current, state of charge, words, error number |
//! | `info` | names, versions, serial numbers of the modules |
//! | `bat` | the cells |
//! | `unit` | the lowest and highest cell of each module, where `bat` gives no cells |
//!
//! `unit` and `bat` count from the far end of the stack: their first module is the last BMU
//! (mletenay/home-assistant-pylontech).

use std::time::Duration;

use super::super::console::info::Info;
use super::super::console::reply::Reply;
use super::super::console::table::{Row, Table, field, number, temperature};
use super::super::console::{GAP, Line, Questions, unreadable, words};
use super::super::query::Need;
use super::{SLOW, divide_into_modules};
use crate::model::Reading;
use crate::model::reading::{Cell, ConsoleStatus, Module, Probe, SensorLocation};
use crate::model::units::{MilliampHours, Millivolts, MilliwattHours};
use crate::protocol::DecodeError;
use crate::protocol::{Options, ProtocolError};

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Query {
    Pwr,
    Info,
    Bat,
    Unit,
}

/// Reads a stack at the user's prompt.
#[derive(Debug)]
pub(super) struct User {
    timeout: Duration,
    info: Option<Info>,
}

impl User {
    pub(super) fn new(options: &Options) -> Self {
        User { timeout: options.timeout, info: None }
    }
}

impl Questions for User {
    type Query = Query;

    fn plan(&self) -> &'static [Query] {
        &[Query::Pwr, Query::Info, Query::Bat, Query::Unit]
    }

    fn need(&self, query: Query) -> Need {
        match query {
            Query::Pwr => Need::Required,
            Query::Info => Need::Once,
            Query::Bat | Query::Unit => Need::Optional,
        }
    }

    fn line(&self, query: Query) -> Line {
        let patience = if query == Query::Info { self.timeout * SLOW } else { self.timeout };
        Line { command: command(query).to_owned(), patience, pause: GAP }
    }

    fn decode(
        &mut self,
        query: Query,
        reply: &Reply,
        into: &mut Reading,
    ) -> Result<(), ProtocolError> {
        if !reply.succeeded() {
            return Err(unreadable(command(query), "no word of success behind it"));
        }
        let decoded = match query {
            Query::Pwr => pwr(&reply.lines, into),
            Query::Bat => bat(&reply.lines, into),
            Query::Unit => unit(&reply.lines, into),
            Query::Info => {
                self.info = Info::parse(&reply.lines);
                self.info.as_ref().map(|_| ()).ok_or(DecodeError::Empty)
            }
        };
        decoded.map_err(|misfit| unreadable(command(query), misfit.to_string()))
    }

    fn complete(&self, reading: &mut Reading) {
        let units = std::mem::take(&mut reading.modules);
        let serials = self.info.iter().flat_map(|info| info.modules.values().rev()).collect();
        if reading.cells.is_empty() {
            let serials: Vec<&String> = serials;
            let known = serials.len() == units.len();
            let serial =
                |index| serials.get(index).filter(|_| known).map(|it: &&String| (*it).clone());
            reading.modules = units
                .into_iter()
                .enumerate()
                .map(|(index, unit)| Module { serial: serial(index), ..unit })
                .collect();
        } else {
            divide_into_modules(reading, serials);
        }
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

fn command(query: Query) -> &'static str {
    match query {
        Query::Pwr => "pwr",
        Query::Info => "info",
        Query::Bat => "bat",
        Query::Unit => "unit",
    }
}

const LOW_VOLTAGE: &str = "this is the console of a low-voltage pack (pylontech-console)";

fn pwr(lines: &[String], into: &mut Reading) -> Result<(), DecodeError> {
    let table = Table::find(lines).ok_or(DecodeError::Empty)?;
    let row = table.rows().next().ok_or(DecodeError::Empty)?;
    // Its rows are packs, and their charge is a share only.
    if row.word("Coulomb").is_some() && row.word("CoulombAH").is_none() {
        return Err(DecodeError::Invalid(LOW_VOLTAGE.into()));
    }
    let pack = &mut into.pack;
    pack.voltage = row.volts("Volt")?;
    pack.current = row.amps("Curr")?;
    pack.soc = row.share("CoulombAH")?;
    pack.remaining = row.amount("CoulombAH", "mAH")?.map(|it| MilliampHours(it.into()));
    let energy = row.amount("CoulombWH", "WH")?;
    pack.remaining_energy = energy.map(|hours| MilliwattHours(i64::from(hours) * 1000));
    if pack.voltage.is_none() {
        return Err(DecodeError::Empty);
    }
    let average =
        lines.iter().filter_map(|line| field(line)).find(|(key, _)| key == "AverageTempr");
    if let Some((key, text)) = average {
        let value = number(&key, text)?.map(temperature);
        into.probes.push(Probe { location: SensorLocation::Average, value });
    }
    // The controller's own, in its own case.
    if let Some(value) = row.degrees("Tempr")? {
        into.probes.push(Probe { location: SensorLocation::Ambient, value: Some(value) });
    }
    let word = |name| row.word(name).map(str::to_owned);
    let words = ConsoleStatus {
        base: word("Base.St"),
        voltage: word("Volt.St"),
        current: word("Curr.St"),
        temperature: word("Temp.St"),
    };
    words::note_pack(words, into);
    for (subject, name) in [
        ("cell_voltage_status", "B.V.St"),
        ("cell_temperature_status", "B.T.St"),
        ("module_voltage_status", "U.V.St"),
        ("module_temperature_status", "U.T.St"),
    ] {
        words::note(into, subject, row.word(name));
    }
    if let Some(code) = row.word("Err Code").and_then(error_code) {
        words::note_error_code(into, code);
    }
    into.received.cell_info = true;
    Ok(())
}

/// `0x0` here, decimal elsewhere.
fn error_code(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

/// Rows of number (from 0), millivolts, milliamperes, 0.001 °C and two words. Their head was never
/// recorded, so the order counts here.
fn bat(lines: &[String], into: &mut Reading) -> Result<(), DecodeError> {
    let mut cells = Vec::new();
    for line in lines.iter().filter(|line| line.starts_with(|c: char| c.is_ascii_digit())) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [index, voltage, _, degrees, first, second, ..] = *words else { continue };
        let name = |what: &str| format!("{what} of cell {index}");
        let index = number("cell", index)?.ok_or(DecodeError::Empty)?;
        if usize::try_from(index) != Ok(cells.len()) {
            return Err(DecodeError::Invalid(format!(
                "cell {index} does not follow on its predecessor"
            )));
        }
        cells.push(Cell {
            voltage: number(&name("voltage"), voltage)?.map(Millivolts),
            temperature: number(&name("temperature"), degrees)?.map(temperature),
            voltage_status: Some(first.to_owned()),
            temperature_status: Some(second.to_owned()),
            ..Cell::default()
        });
    }
    if cells.is_empty() {
        return Err(DecodeError::Empty);
    }
    into.cells = cells;
    Ok(())
}

fn unit(lines: &[String], into: &mut Reading) -> Result<(), DecodeError> {
    let table = Table::find(lines).ok_or(DecodeError::Empty)?;
    let module = |row: Row<'_>| {
        let range = row.volts("BVlow")?.zip(row.volts("BVhigh")?);
        Ok(Module { range, ..Module::default() })
    };
    let present = table.rows().filter(|row| !row.is_absent());
    into.modules = present.map(module).collect::<Result<_, DecodeError>>()?;
    if into.modules.is_empty() { Err(DecodeError::Empty) } else { Ok(()) }
}
