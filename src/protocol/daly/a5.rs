//! The A5 dialect of older boards: 13 bytes in each direction.
//!
//! ```text
//! A5  host or board  command  08  eight bytes of data  sum of the twelve before
//! ```
//!
//! Layout: the vendor's papers V1.0 and V1.2 and recorded frames. Bytes that the papers reserve
//! hold rubbish of earlier answers and are never read.

use super::status;
use crate::model::Reading;
use crate::model::reading::{Cell, Probe, SensorLocation};
use crate::model::units::{CentiPercent, DeciCelsius, MilliampHours, Milliamps, Millivolts};
use crate::protocol::ProtocolError;
use crate::protocol::bytes::Reader;
use crate::protocol::query::Framing;

use super::DecodeError;

const START: u8 = 0xA5;
const DATA: usize = 8;
const FRAME: usize = 4 + DATA + 1;

/// Commands that read.
pub(super) mod command {
    pub const RATED: u8 = 0x50;
    pub const TOTALS: u8 = 0x90;
    pub const SWITCHES: u8 = 0x93;
    pub const COUNTS: u8 = 0x94;
    pub const CELLS: u8 = 0x95;
    pub const TEMPERATURES: u8 = 0x96;
    pub const BALANCING: u8 = 0x97;
    pub const FAILURES: u8 = 0x98;
}

/// Commands that turn a switch.
pub(super) const DISCHARGING: u8 = 0xD9;
pub(super) const CHARGING: u8 = 0xDA;

/// The bytes of a question or an order.
pub(super) fn question(host: u8, command: u8, first: u8) -> Vec<u8> {
    let mut frame = vec![START, host, command, DATA as u8, first];
    frame.resize(FRAME - 1, 0);
    frame.push(sum(&frame));
    frame
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum: u8, &byte| sum.wrapping_add(byte))
}

/// What the answer to a question has to look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Expected {
    /// Number of the board.
    pub board: u8,
    pub command: u8,
    /// Frames of which the answer consists at least.
    pub frames: usize,
}

/// Cells in a frame of command 95, and temperatures in one of 96.
const CELLS_EACH: usize = 3;
const TEMPERATURES_EACH: usize = 7;

/// Frames that it takes to tell so many cells or temperatures.
pub(super) fn frames(command: u8, cells: usize, sensors: usize) -> usize {
    match command {
        command::CELLS => cells.div_ceil(CELLS_EACH).max(1),
        command::TEMPERATURES => sensors.div_ceil(TEMPERATURES_EACH).max(1),
        _ => 1,
    }
}

impl Expected {
    /// Where the first frame is, or the frames of an answer of several. Boards send more of them
    /// than there are cells; what comes after the last one that matters is left on the line.
    pub(super) fn find(self, buffer: &[u8]) -> Framing {
        match (0..buffer.len()).find(|&at| may_begin(&buffer[at..])) {
            None => return Framing::Junk(buffer.len()),
            Some(0) => {}
            Some(count) => return Framing::Junk(count),
        }
        let Some(frame) = buffer.get(..FRAME) else {
            let sound = |at: &usize| sound_frame(&buffer[*at..]).is_some();
            return (1..buffer.len()).find(sound).map_or(Framing::NeedMore, Framing::Junk);
        };
        match sound_frame(frame) {
            Some(frame) if !self.is_ours(frame) || self.frames == 1 => Framing::Frame(FRAME),
            Some(_) => self.series(buffer),
            None if frame[2] == self.command && self.frames == 1 => Framing::Damaged(FRAME),
            None => Framing::Junk(1),
        }
    }

    fn is_ours(self, frame: &[u8]) -> bool {
        frame.get(1) == Some(&self.board) && frame.get(2) == Some(&self.command)
    }

    /// Where the frame stands that completes an answer of several.
    fn series(self, buffer: &[u8]) -> Framing {
        let mut numbers = Vec::new();
        let mut at = 0;
        while let Some(rest) = buffer.get(at..).filter(|rest| rest.len() >= FRAME) {
            let Some(frame) = sound_frame(rest) else {
                at += 1;
                continue;
            };
            at += FRAME;
            if self.is_ours(frame) {
                numbers.push(frame[4]);
            }
            if complete(&numbers, self.frames) {
                return Framing::Frame(at);
            }
        }
        Framing::NeedMore
    }

    /// The data of the first frame of ours, or an error; `None` when it is somebody else's.
    pub(super) fn data(
        self,
        frame: &[u8],
        query: &str,
    ) -> Result<Option<[u8; DATA]>, ProtocolError> {
        let query = || query.to_owned();
        let Some(frame) = frame.first_chunk::<FRAME>() else {
            return Err(ProtocolError::BadFrame { query: query(), reason: "it is cut".into() });
        };
        let [_start, board, command, _length, data @ .., got] = *frame;
        let expected = sum(&frame[..FRAME - 1]);
        if expected != got {
            let (expected, got) = (expected.into(), got.into());
            return Err(ProtocolError::BadChecksum { query: query(), expected, got });
        }
        Ok((board == self.board && command == self.command).then_some(data))
    }

    /// What the frames of an answer of several say, in order. They are numbered from 1 by every
    /// recorded board and from 0 by the paper, and do not always come in order.
    pub(super) fn series_data(self, frames: &[u8]) -> Vec<[u8; DATA - 1]> {
        let mut found: Vec<(u8, [u8; DATA - 1])> = Vec::new();
        let mut rest = frames;
        while !rest.is_empty() {
            let Some(frame) = sound_frame(rest) else {
                rest = &rest[1..];
                continue;
            };
            rest = &rest[FRAME..];
            if let ([_, _, _, _, number, data @ .., _], true) = (*frame, self.is_ours(frame)) {
                found.push((number, data));
            }
        }
        let base = u8::from(!found.iter().any(|(number, _)| *number == 0));
        let wanted = (base..).take(self.frames);
        wanted.filter_map(|number| found.iter().find(|it| it.0 == number).map(|it| it.1)).collect()
    }
}

/// Whether frames of these numbers are an answer of so many.
fn complete(numbers: &[u8], frames: usize) -> bool {
    [0, 1].iter().any(|base: &u8| (*base..).take(frames).all(|number| numbers.contains(&number)))
}

fn may_begin(bytes: &[u8]) -> bool {
    bytes[0] == START && bytes.get(3).is_none_or(|length| usize::from(*length) == DATA)
}

fn sound_frame(bytes: &[u8]) -> Option<&[u8; FRAME]> {
    let frame = bytes.first_chunk::<FRAME>()?;
    (may_begin(frame) && sum(&frame[..FRAME - 1]) == frame[FRAME - 1]).then_some(frame)
}

/// What command 94 has told: without it nobody knows how many cells there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub cells: usize,
    pub sensors: usize,
}

/// Commands of one frame.
pub(super) fn single(
    command: u8,
    data: [u8; DATA],
    counts: &mut Counts,
    into: &mut Reading,
) -> Result<(), DecodeError> {
    let mut reader = Reader::big_endian(&data);
    match command {
        command::TOTALS => totals(&mut reader, into)?,
        command::COUNTS => *counts = count(&mut reader, into)?,
        command::SWITCHES => {
            reader.u8()?;
            into.switches.charging = Some(reader.u8()? != 0);
            into.switches.discharging = Some(reader.u8()? != 0);
            // A heartbeat, not the cycles.
            reader.u8()?;
            into.pack.remaining = Some(MilliampHours(reader.u32()?.into()));
        }
        command::BALANCING => {
            for (index, cell) in into.cells.iter_mut().enumerate() {
                let byte = data.get(index / 8).copied().unwrap_or_default();
                cell.balancing = Some(byte & 1 << (index % 8) != 0);
            }
        }
        command::FAILURES => {
            let [failures @ .., code] = data;
            status::note_failures(failures, into);
            into.pack.error_code = Some(code.into());
        }
        command::RATED => {
            let rated = reader.u32()?;
            into.pack.design = (rated != 0).then_some(MilliampHours(rated.into()));
            into.received.settings = true;
        }
        _ => {}
    }
    Ok(())
}

/// Command 90: a raw current above 30000 discharges, as two recorded boards prove, in contrast to
/// the other dialects.
fn totals(reader: &mut Reader<'_>, into: &mut Reading) -> Result<(), DecodeError> {
    const STILL: i32 = 30_000;
    let voltage = reader.u16()?;
    // The voltage measured at the terminals, which most boards leave at 0.
    reader.u16()?;
    let current = STILL - i32::from(reader.u16()?);
    let soc = super::soc(reader.u16()?)?;
    let pack = &mut into.pack;
    pack.voltage = Some(Millivolts(i32::from(voltage) * 100));
    pack.current = Some(Milliamps(super::amps(current)? * 100));
    pack.soc = Some(CentiPercent(soc));
    into.received.cell_info = true;
    Ok(())
}

/// Command 94: some boards have a 0 where the paper has the cycles and the count further behind, so
/// a 0 is taken for unknown.
fn count(reader: &mut Reader<'_>, into: &mut Reading) -> Result<Counts, DecodeError> {
    const MOST_CELLS: u8 = 48;
    const MOST_SENSORS: u8 = 16;
    let cells = super::counted("cell count", reader.u8()?.into(), 1, MOST_CELLS)?;
    let sensors = super::counted("sensor count", reader.u8()?.into(), 0, MOST_SENSORS)?;
    let [charger, load, _contacts] = [reader.u8()?, reader.u8()?, reader.u8()?];
    let cycles = reader.u16()?;
    into.states.insert("charger_connected", charger != 0);
    into.states.insert("load_connected", load != 0);
    into.pack.cycles = (cycles != 0).then_some(cycles.into());
    Ok(Counts { cells, sensors })
}

/// Command 95: three cells in each frame, after its number. Values behind the last cell are old ones.
pub(super) fn cells(frames: &[[u8; DATA - 1]], counts: Counts, into: &mut Reading) {
    let words = frames.iter().flat_map(|data| data[..2 * CELLS_EACH].as_chunks::<2>().0);
    let voltages = words.map(|word| Millivolts(u16::from_be_bytes(*word).into()));
    into.cells = voltages.take(counts.cells).map(Cell::of).collect();
}

/// Command 96: seven whole degrees in each frame, from -40 on; FF is a sensor that is not there.
pub(super) fn temperatures(frames: &[[u8; DATA - 1]], counts: Counts, into: &mut Reading) {
    let raw = frames.iter().flatten().take(counts.sensors);
    let value = |raw: &u8| (*raw != 0xFF).then(|| DeciCelsius((i32::from(*raw) - 40) * 10));
    into.probes =
        raw.map(|raw| Probe { location: SensorLocation::Cells, value: value(raw) }).collect();
}
