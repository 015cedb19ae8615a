//! Lithionics Li3, which send lines of text without a checksum and unasked. Nothing is ever written.
//! Sources: recorded lines, aiobmsble.
//!
//! ```text
//! 1399,350,350,350,349,55,48,-3,99,000000       comma form: V, four cells, °F, °F, A, %, status
//! &,1,319,006391,…                              Ah left, Ah in total
//!
//! 1,01594,0525,048,048,0,00000,000000,080,000100  fixed form: id, Ah, V, %, ?, charging, A, W, °F, status
//! &,1,0525,0525,078,2,…                         number of modules
//! #,1,1,0000,0000,4,25.4,27.1,329,337,333,0005,0102,329,331,337,325
//!                                               module, cells, °C cells, °C board, lowest, highest, mean, …, cells
//! ```

use std::time::Duration;

use super::query::Progress;
use super::values::{centi_percent, deci_celsius};
use super::{
    AdvertisementMatcher, DecodeError, Driver, DriverInfo, Framing, GattChannel, GattProfile,
    Options, Pacing, RequestReply, Runner, short,
};
use crate::model::Reading;
use crate::model::reading::{Cell, Module, Probe, SensorLocation};
use crate::model::units::{DeciCelsius, MilliampHours, Milliamps, Millivolts, divide_rounded};

pub static INFO: DriverInfo = DriverInfo {
    gatt: Some(GattProfile { channels: &[CHANNEL], streams: true }),
    matchers: &[AdvertisementMatcher::Name("Li[0-9]-*")],
    text: true,
    unchecked: true,
    verified: "recorded lines",
    ..DriverInfo::new("lithionics", "Lithionics", new)
};

const CHANNEL: GattChannel = GattChannel::read_only(&[short(0xFFE0, 0xFFE1)]);

fn new(options: &Options) -> Box<dyn Driver> {
    let received = Received::default();
    Box::new(Runner::new(Lithionics { timeout: options.ble_timeout(), received }))
}

/// Time for the lines of all modules after the line of the pack.
const MODULES: Duration = Duration::from_secs(2);
const LONGEST_LINE: usize = 300;
const MAX_MODULES: usize = 9;
const MAX_CELLS: usize = 16;
/// Bits of the status that are problems, according to aiobmsble.
const PROBLEMS: u32 = 0x68_CEFD;
/// The auxiliary contact is closed, which is normal.
const AUXILIARY: u32 = 0x00_0100;

#[derive(Debug)]
struct Lithionics {
    timeout: Duration,
    received: Received,
}

/// What has arrived of a reading.
#[derive(Debug, Default)]
struct Received {
    form: Option<Form>,
    /// The `&` line.
    status: bool,
    /// Number of modules according to the `&` line.
    expected: usize,
    modules: Vec<ModuleLine>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Comma,
    Fixed,
}

#[derive(Debug, Clone)]
struct ModuleLine {
    number: usize,
    probes: [Probe; 2],
    range: (Millivolts, Millivolts),
    cells: Vec<Cell>,
}

/// A number with up to one sign and one point, in units of `10^-decimals`.
fn decimal(text: &str, decimals: u32) -> Option<i32> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let negative = whole.starts_with('-');
    let digits = whole.trim_start_matches(['-', '+']);
    let all = || digits.bytes().chain(fraction.bytes());
    if digits.is_empty()
        || digits.len() > 6
        || fraction.len() > 6
        || !all().all(|it| it.is_ascii_digit())
    {
        return None;
    }
    let padded = format!("{digits}{fraction:0<width$.width$}", width = decimals as usize);
    let magnitude: i32 = padded.parse().ok()?;
    Some(if negative { -magnitude } else { magnitude })
}

/// The fields of a line.
struct Fields<'a>(Vec<&'a str>);

impl Fields<'_> {
    fn get(&self, at: usize, decimals: u32) -> Result<i32, DecodeError> {
        let text = *self.0.get(at).ok_or(DecodeError::Missing("field"))?;
        let not_a_number =
            || DecodeError::NotANumber { field: format!("field {at}"), text: text.into() };
        decimal(text.trim(), decimals).ok_or_else(not_a_number)
    }

    /// Hundredths of a volt.
    fn volts(&self, at: usize) -> Result<Millivolts, DecodeError> {
        self.get(at, 0).map(|centivolts| Millivolts(centivolts * 10))
    }

    fn fahrenheit(&self, at: usize) -> Result<Option<DeciCelsius>, DecodeError> {
        let degrees = i64::from(self.get(at, 0)?);
        Ok(deci_celsius(divide_rounded((degrees - 32) * 50, 9) as i32))
    }

    fn decode_status(&self, at: usize, into: &mut Reading) {
        let text = self.0.get(at).copied().unwrap_or_default();
        if let Ok(status) = u32::from_str_radix(text.trim(), 16) {
            into.pack.error_code = Some(status & PROBLEMS);
            into.alarms.note_unknown_bits("status", status & !(PROBLEMS | AUXILIARY));
        }
    }
}

impl Lithionics {
    fn decode_comma(&mut self, fields: &Fields<'_>, into: &mut Reading) -> Result<(), DecodeError> {
        let pack = &mut into.pack;
        pack.voltage = Some(fields.volts(0)?);
        pack.current = Some(Milliamps(fields.get(7, 3)?));
        pack.soc = centi_percent(fields.get(8, 2)?);
        let cells: Result<Vec<Cell>, _> = (1..5).map(|at| fields.volts(at).map(Cell::of)).collect();
        into.cells = cells?;
        let location = SensorLocation::Cells;
        let probes = (5..7).map(|at| Ok(Probe { location, value: fields.fahrenheit(at)? }));
        into.probes = probes.collect::<Result<_, DecodeError>>()?;
        fields.decode_status(9, into);
        self.received.form = Some(Form::Comma);
        Ok(())
    }

    fn decode_fixed(&mut self, fields: &Fields<'_>, into: &mut Reading) -> Result<(), DecodeError> {
        let pack = &mut into.pack;
        pack.remaining = Some(MilliampHours(i64::from(fields.get(1, 0)?) * 100));
        pack.voltage = Some(Millivolts(fields.get(2, 0)? * 100));
        pack.soc = centi_percent(fields.get(3, 2)?);
        let amount = fields.get(6, 0)?.abs() * 100;
        pack.current = Some(Milliamps(if fields.get(5, 0)? == 1 { amount } else { -amount }));
        let value = fields.fahrenheit(8)?;
        into.probes = vec![Probe { location: SensorLocation::Cells, value }];
        fields.decode_status(9, into);
        self.received.form = Some(Form::Fixed);
        Ok(())
    }

    /// The `&` line has other fields in each form, so it counts after the main line only.
    fn decode_status(
        &mut self,
        fields: &Fields<'_>,
        into: &mut Reading,
    ) -> Result<(), DecodeError> {
        match self.received.form {
            None => return Err(DecodeError::Foreign),
            Some(Form::Comma) => {
                into.pack.remaining = Some(MilliampHours(fields.get(2, 3)?.into()));
            }
            Some(Form::Fixed) => {
                let modules = fields.get(5, 0).ok().and_then(|count| usize::try_from(count).ok());
                self.received.expected = modules.filter(|it| *it <= MAX_MODULES).unwrap_or(0);
            }
        }
        self.received.status = true;
        Ok(())
    }

    fn decode_module(&mut self, fields: &Fields<'_>) -> Result<(), DecodeError> {
        let limited = |at: usize, most: usize| {
            let count = fields.get(at, 0)?;
            let found = usize::try_from(count).ok().filter(|it| (1..=most).contains(it));
            found.ok_or(DecodeError::OutOfRange { field: "module", value: count.into() })
        };
        let (number, count) = (limited(2, MAX_MODULES)?, limited(5, MAX_CELLS)?);
        let probe = |at, location| Ok(Probe { location, value: deci_celsius(fields.get(at, 1)?) });
        let cells = (13..13 + count).map(|at| fields.volts(at).map(Cell::of));
        let line = ModuleLine {
            number,
            probes: [probe(6, SensorLocation::Cells)?, probe(7, SensorLocation::Mosfet)?],
            range: (fields.volts(8)?, fields.volts(9)?),
            cells: cells.collect::<Result<_, DecodeError>>()?,
        };
        let modules = &mut self.received.modules;
        modules.retain(|known| known.number != number);
        modules.push(line);
        modules.sort_by_key(|module| module.number);
        Ok(())
    }

    fn put_modules(&self, into: &mut Reading) {
        if self.received.form != Some(Form::Fixed) {
            return;
        }
        into.probes.truncate(1);
        (into.cells, into.modules) = (Vec::new(), Vec::new());
        for line in &self.received.modules {
            let first = into.cells.len();
            into.cells.extend(line.cells.iter().cloned());
            into.probes.extend(line.probes);
            into.modules.push(Module {
                serial: None,
                cells: first..into.cells.len(),
                range: Some(line.range),
            });
        }
    }
}

impl RequestReply for Lithionics {
    type Query = ();

    fn plan(&self) -> &'static [()] {
        &[()]
    }

    fn is_self_describing(&self, _query: ()) -> bool {
        true
    }

    fn frame(&self, _query: (), buffer: &[u8]) -> Framing {
        match buffer.iter().position(|byte| *byte == b'\n') {
            Some(end) => Framing::Frame(end + 1),
            None if buffer.len() > LONGEST_LINE => Framing::Junk(buffer.len()),
            None => Framing::NeedMore,
        }
    }

    /// A line that is incomplete or no line of these is left out, as the next one follows soon.
    fn decode(&mut self, _query: (), frame: &[u8], into: &mut Reading) -> Result<(), DecodeError> {
        let line = String::from_utf8_lossy(frame);
        let fields = Fields(line.trim().split(',').collect());
        let decoded = match (fields.0[0], fields.0.len()) {
            ("&", _) => self.decode_status(&fields, into),
            ("#", _) => self.decode_module(&fields),
            (first, 10) if first.len() == 1 => self.decode_fixed(&fields, into),
            (_, 10) => self.decode_comma(&fields, into),
            _ => Err(DecodeError::Foreign),
        };
        decoded.map_err(|_| DecodeError::Foreign)?;
        self.put_modules(into);
        Ok(())
    }

    fn pacing(&self, _query: ()) -> Pacing {
        Pacing { timeout: self.timeout, settle: self.timeout, ..Pacing::default() }
    }

    fn begin(&mut self, _query: ()) {
        self.received = Received::default();
    }

    fn progress(&self, _query: ()) -> Progress {
        let Received { form, status, expected, modules } = &self.received;
        match form {
            Some(Form::Comma) if *status => Progress::Complete,
            Some(Form::Fixed) if *status && modules.len() >= *expected => Progress::Complete,
            Some(Form::Fixed) if *status => Progress::Enough(MODULES),
            _ => Progress::Missing,
        }
    }
}
