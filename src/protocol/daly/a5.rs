//! The A5 dialect of older boards: 13 bytes in each direction.
//!
//! ```text
//! A5  host or board  command  08  eight bytes of data  sum of the twelve before
//! ```
//!
//! Layout: the vendor's papers V1.0 and V1.2 and recorded frames. Bytes that the papers reserve
//! have remains of earlier replies and are never read.

use super::query::Query;
use super::status;
use super::values::{current, degrees, soc};
use crate::model::{Cell, MilliampHours, Millivolts, Reading, SensorLocation};
use crate::protocol::checksum::sum8;
use crate::protocol::values;
use crate::protocol::{DecodeError, FrameShape, Framing, Need, Reader, check};

const START: u8 = 0xA5;
const DATA: usize = 8;
pub const FRAME: usize = 4 + DATA + 1;

const READ_CELLS: u8 = 0x95;
const READ_TEMPERATURES: u8 = 0x96;

pub(super) static TOTALS: Query = Query::command("Totals", Need::Required, 0x90);
pub(super) static COUNTS: Query = Query::command("Counts", Need::Required, 0x94);
pub(super) static CELLS: Query = Query::command("Cells", Need::Required, READ_CELLS);
pub(super) static SWITCHES: Query = Query::command("Switches", Need::Steady, 0x93);
pub(super) static TEMPERATURES: Query =
    Query::command("Temperatures", Need::Steady, READ_TEMPERATURES);
pub(super) static BALANCING: Query = Query::command("Balancing", Need::Steady, 0x97);
pub(super) static FAILURES: Query = Query::command("Failures", Need::Steady, 0x98);
pub(super) static RATED: Query = Query::command("Rated", Need::Once, 0x50);

pub fn encode(address: u8, command: u8, data: [u8; DATA]) -> Vec<u8> {
    let mut frame = vec![START, address, command, DATA as u8];
    frame.extend(data);
    frame.push(sum8(&frame));
    frame
}

/// Address, command and data of a frame.
pub fn decode(frame: &[u8]) -> Result<(u8, u8, [u8; DATA]), DecodeError> {
    let Some(frame) = frame.first_chunk::<FRAME>() else {
        return Err(DecodeError::TooShort(frame.len()));
    };
    let [_start, address, command, _length, data @ .., sum] = *frame;
    check(sum8(&frame[..FRAME - 1]), sum)?;
    Ok((address, command, data))
}

/// Number of cells and sensors from command 94, without which the longer replies have no end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub cells: usize,
    pub sensors: usize,
}

/// What the reply to a request looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Expected {
    board: u8,
    command: u8,
    /// Minimum number of frames.
    frames: usize,
}

/// Cells in a frame of command 95, and temperatures in one of 96.
const CELLS_PER_FRAME: usize = 3;
const TEMPERATURES_PER_FRAME: usize = 7;

impl FrameShape for Expected {
    fn may_begin(&self, bytes: &[u8]) -> bool {
        bytes[0] == START && bytes.get(3).is_none_or(|length| usize::from(*length) == DATA)
    }

    fn length(&self, _bytes: &[u8]) -> Option<usize> {
        Some(FRAME)
    }

    fn is_valid(&self, frame: &[u8]) -> bool {
        decode(frame).is_ok()
    }

    fn is_expected(&self, frame: &[u8]) -> bool {
        frame[2] == self.command && self.frames == 1
    }
}

impl Expected {
    pub(super) fn new(board: u8, command: u8, counts: Counts) -> Self {
        let frames = match command {
            READ_CELLS => counts.cells.div_ceil(CELLS_PER_FRAME),
            READ_TEMPERATURES => counts.sensors.div_ceil(TEMPERATURES_PER_FRAME),
            _ => 1,
        };
        Expected { board, command, frames: frames.max(1) }
    }

    /// The first frame, or all frames of a reply that has several. Boards send more of them than
    /// there are cells; what follows the last one that matters is left on the line.
    pub(super) fn find_reply(self, buffer: &[u8]) -> Framing {
        match self.find(buffer) {
            Framing::Frame(_) if self.frames > 1 && self.data(buffer).is_ok() => {
                self.find_series(buffer)
            }
            other => other,
        }
    }

    fn find_series(self, buffer: &[u8]) -> Framing {
        let mut numbers = Vec::new();
        for (end, [number, ..]) in self.frames_in(buffer) {
            numbers.push(number);
            let is_complete =
                |base: &u8| (*base..).take(self.frames).all(|number| numbers.contains(&number));
            if [0, 1].iter().any(is_complete) {
                return Framing::Frame(end);
            }
        }
        Framing::NeedMore
    }

    /// The data of every frame of this reply, with its end.
    fn frames_in(self, buffer: &[u8]) -> impl Iterator<Item = (usize, [u8; DATA])> {
        let mut at = 0;
        std::iter::from_fn(move || {
            while let Some(rest) = buffer.get(at..).filter(|rest| rest.len() >= FRAME) {
                if !self.may_begin(rest) || !self.is_valid(rest) {
                    at += 1;
                    continue;
                }
                at += FRAME;
                if let Ok(data) = self.data(rest) {
                    return Some((at, data));
                }
            }
            None
        })
    }

    /// The data of the first frame.
    pub(super) fn data(self, frame: &[u8]) -> Result<[u8; DATA], DecodeError> {
        let (board, command, data) = decode(frame)?;
        let is_ours = board == self.board && command == self.command;
        is_ours.then_some(data).ok_or(DecodeError::Foreign)
    }

    /// The data of a reply that has several frames, in order and without their numbers. Every
    /// recorded board numbers them from 1, the paper from 0, and they may be out of order.
    fn series(self, frames: &[u8]) -> Vec<u8> {
        let found: Vec<_> = self.frames_in(frames).map(|(_, data)| data).collect();
        let base = u8::from(!found.iter().any(|data| data[0] == 0));
        let numbers = (base..).take(self.frames);
        let data = numbers.filter_map(|number| found.iter().find(|data| data[0] == number));
        data.flat_map(|data| data[1..].iter().copied()).collect()
    }

    pub(super) fn decode(
        self,
        frames: &[u8],
        counts: &mut Counts,
        into: &mut Reading,
    ) -> Result<(), DecodeError> {
        let data = self.data(frames)?;
        let mut reader = Reader::big_endian(&data);
        match self.command {
            0x90 => totals(&mut reader, into)?,
            0x94 => *counts = count(&mut reader, into)?,
            READ_CELLS => cells(&self.series(frames), *counts, into),
            0x93 => {
                // The last byte is a heartbeat, not the cycles.
                let [_motion, charging, discharging, _heartbeat] = reader.bytes()?;
                into.switches.charging = Some(charging != 0);
                into.switches.discharging = Some(discharging != 0);
                into.pack.remaining = Some(MilliampHours(reader.u32()?.into()));
            }
            READ_TEMPERATURES => {
                let raw = self.series(frames);
                let values = raw.iter().take(counts.sensors).map(|&raw| degrees(raw.into()));
                into.probes = values::probes(std::iter::repeat(SensorLocation::Cells), values);
            }
            0x97 => {
                values::set_balancing(&mut into.cells, u64::from_le_bytes(data));
            }
            0x98 => {
                let [failures @ .., code] = data;
                status::note_failures(failures, into);
                into.pack.error_code = Some(code.into());
            }
            0x50 => {
                let rated = reader.u32()?;
                into.pack.design = (rated != 0).then_some(MilliampHours(rated.into()));
                into.received.settings = true;
            }
            _ => {}
        }
        Ok(())
    }
}

/// A raw current above 30000 discharges, as two recorded boards prove, in contrast to the other
/// dialects.
fn totals(reader: &mut Reader<'_>, into: &mut Reading) -> Result<(), DecodeError> {
    // Most boards leave the voltage measured at the terminals at 0.
    let [voltage, _terminal_voltage, raw_current, charge] = reader.words()?;
    let pack = &mut into.pack;
    pack.voltage = Some(Millivolts(i32::from(voltage) * 100));
    pack.soc = Some(soc(charge)?);
    pack.current = Some(current(30_000 - i32::from(raw_current))?);
    into.received.cell_info = true;
    Ok(())
}

/// Some boards have a 0 where the paper has the cycles and the count further behind, so a 0 is
/// taken for unknown.
fn count(reader: &mut Reader<'_>, into: &mut Reading) -> Result<Counts, DecodeError> {
    let cells = values::count("cell count", reader.u8()?, 1..=48)?;
    let sensors = values::count("sensor count", reader.u8()?, 0..=16)?;
    let [charger, load, _contacts] = reader.bytes()?;
    let cycles = reader.u16()?;
    into.states.insert("charger_connected", charger != 0);
    into.states.insert("load_connected", load != 0);
    into.pack.cycles = (cycles != 0).then_some(cycles.into());
    Ok(Counts { cells, sensors })
}

/// Three cells in each frame and one unused byte. What follows the last cell is old.
fn cells(data: &[u8], counts: Counts, into: &mut Reading) {
    let frames = data.chunks(DATA - 1);
    let words = frames.flat_map(|frame| frame[..2 * CELLS_PER_FRAME].as_chunks::<2>().0);
    let voltages = words.map(|word| Millivolts(u16::from_be_bytes(*word).into()));
    into.cells = voltages.take(counts.cells).map(Cell::of).collect();
}
