//! Volta Power Systems ("MyVolta"), which send their values unasked. A frame is `55 55`, 16 bytes
//! and `04 04`; 05 and 04 escape a following 04, 05 or 55. Source: recorded frames. Names of the
//! flags: the documents that aiobmsble names.

use std::time::Duration;

use super::checksum::sum8;
use super::info::Characteristic;
use super::query::Progress;
use super::values::{centi_percent, deci_celsius};
use super::{
    AdvertisementMatcher, DecodeError, Driver, DriverInfo, Framing, GattChannel, GattProfile,
    Options, Pacing, Reader, RequestReply, Runner, StatusWord, check, status_word,
};
use crate::model::Reading;
use crate::model::reading::{Cell, Probe, SensorLocation};
use crate::model::units::{Milliamps, Millivolts};

pub static INFO: DriverInfo = DriverInfo {
    gatt: Some(GattProfile { channels: &[CHANNEL], streams: true }),
    matchers: &[AdvertisementMatcher::Name("VPS-*"), AdvertisementMatcher::Service(SERVICE)],
    verified: "recorded frames",
    ..DriverInfo::new("myvolta", "Volta Power Systems", new)
};

const SERVICE: u128 = 0x0003_5B03_58E6_07DD_021A_0812_3A00_0300;
const NOTIFY: Characteristic = Characteristic { service: SERVICE, uuid: SERVICE + 1 };
const CHANNEL: GattChannel = GattChannel::read_only(&[NOTIFY]);

fn new(options: &Options) -> Box<dyn Driver> {
    Box::new(Runner::new(Myvolta { timeout: options.ble_timeout(), seen: 0 }))
}

const SETTLE: Duration = Duration::from_secs(2);
const RETRIES: u8 = 2;

/// Bytes of a frame without marks and escapes.
const SIZE: usize = 16;
/// Lowest voltage of a cell that is fitted.
const FITTED: u16 = 100;

/// Frames of a reading: values, flags, cells in four frames and temperatures in three.
const TYPES: &[u8] = &[0x00, 0x01, 0x11, 0x12, 0x13, 0x14, 0x24, 0x25, 0x26];

static PROTECTIONS: StatusWord = status_word!("flags_1"; 0 PackOvervoltage, 1 PackUndervoltage,
    2 CellOvervoltage, 3 CellUndervoltage, 4 DischargeOvercurrent, 5 ChargeOvercurrent,
    6 CellOvertemperature, 7 CellUndertemperature);
static FAULTS: StatusWord = status_word!("flags_2"; 0 PrechargeFailure, 1 CellDisconnected,
    2 "charger_online", 3 TemperatureSensorFailure, 4 VoltageSensorFailure, 5 AfeFailure,
    6 SystemFailure, 7 FlashFailure);
static MEMORY: StatusWord = status_word!("flags_4"; 0 SystemFailure, 1 EepromFailure, 2 AfeFailure);

#[derive(Debug)]
struct Myvolta {
    timeout: Duration,
    /// One bit for each of [`TYPES`].
    seen: u16,
}

/// What begins here: an incomplete frame, or one of this many bytes with its content. Without a
/// content it is damaged.
enum Found {
    Incomplete,
    Frame(usize, Option<Vec<u8>>),
}

/// Bytes from the start mark on. A frame that has not yet 16 bytes cannot end, so what looks like
/// its end is an escaped 04.
fn unescape(bytes: &[u8]) -> Found {
    let mut content = Vec::new();
    let mut at = 2;
    while let Some(&byte) = bytes.get(at) {
        let next = bytes.get(at + 1);
        match (byte, next) {
            (0x04 | 0x05, None) => return Found::Incomplete,
            (0x04 | 0x05, Some(0x04)) if content.len() == SIZE => {
                return Found::Frame(at + 2, Some(content));
            }
            (0x04 | 0x05, Some(&literal @ (0x04 | 0x05 | 0x55))) => {
                content.push(literal);
                at += 1;
            }
            // The start of the next frame.
            (0x55, _) => return Found::Frame(at, None),
            _ => content.push(byte),
        }
        if content.len() > SIZE {
            return Found::Frame(at + 1, None);
        }
        at += 1;
    }
    Found::Incomplete
}

impl RequestReply for Myvolta {
    type Query = ();

    fn plan(&self) -> &'static [()] {
        &[()]
    }

    fn is_self_describing(&self, _query: ()) -> bool {
        true
    }

    fn frame(&self, _query: (), buffer: &[u8]) -> Framing {
        let start = buffer.windows(2).position(|pair| pair == [0x55, 0x55]);
        match start {
            // The start of a frame may follow.
            None if buffer.ends_with(&[0x55]) => Framing::Junk(buffer.len() - 1),
            None => Framing::Junk(buffer.len()),
            Some(0) => match unescape(buffer) {
                Found::Incomplete => Framing::NeedMore,
                Found::Frame(length, Some(_)) => Framing::Frame(length),
                Found::Frame(..) => Framing::Junk(1),
            },
            Some(start) => Framing::Junk(start),
        }
    }

    fn decode(&mut self, _query: (), frame: &[u8], into: &mut Reading) -> Result<(), DecodeError> {
        let Found::Frame(_, Some(content)) = unescape(frame) else {
            return Err(DecodeError::Empty);
        };
        let mut reader = Reader::little_endian(&content).at(1);
        check(!sum8(&content[1..SIZE - 1]), content[SIZE - 1])?;
        let kind = reader.u8()?;
        reader.skip(5)?;
        let data: [u8; 8] = reader.bytes()?;
        let known = TYPES.iter().position(|known| *known == kind);
        let Some(index) = known.filter(|index| self.seen & 1 << index == 0) else {
            return Err(DecodeError::Foreign);
        };
        decode_values(kind, &data, into)?;
        self.seen |= 1 << index;
        Ok(())
    }

    fn pacing(&self, _query: ()) -> Pacing {
        let settle = SETTLE.min(self.timeout);
        Pacing { timeout: self.timeout, settle, retries: RETRIES, ..Pacing::default() }
    }

    fn begin(&mut self, _query: ()) {
        self.seen = 0;
    }

    fn progress(&self, _query: ()) -> Progress {
        let all = (1 << TYPES.len()) - 1;
        if self.seen == all { Progress::Complete } else { Progress::Missing }
    }
}

/// Four numbers, or flags. Cells and sensors arrive in any order of their frames.
fn decode_values(kind: u8, data: &[u8; 8], into: &mut Reading) -> Result<(), DecodeError> {
    let mut reader = Reader::little_endian(data);
    let index = 4 * usize::from(kind & 0x0F);
    match kind {
        0x00 => {
            into.pack.voltage = Some(Millivolts(reader.u16()?.into()));
            into.pack.current = Some(Milliamps(i32::from(reader.i16()?) * 10));
            into.pack.soc = centi_percent(i64::from(reader.at(6).u16()?) * 10);
        }
        0x01 => {
            PROTECTIONS.decode(data[1], into);
            FAULTS.decode(data[2], into);
            MEMORY.decode(data[4], into);
            // The other bits of this byte are set on a battery without a fault.
            into.states.insert("heater_on", data[3] & 0x80 != 0);
        }
        0x11..=0x14 => {
            let cells = reader.u16s(4)?;
            let first = index - 4;
            into.cells.resize(into.cells.len().max(index), Cell::default());
            for (cell, raw) in into.cells[first..].iter_mut().zip(cells) {
                cell.voltage = (raw >= FITTED).then_some(Millivolts(raw.into()));
            }
            let fitted = into.cells.iter().rposition(|cell| cell.voltage.is_some());
            into.cells.truncate(fitted.map_or(0, |last| last + 1));
        }
        _ => {
            let first = index - 16;
            let absent = Probe { location: SensorLocation::Cells, value: None };
            into.probes.resize(into.probes.len().max(first + 4), absent);
            for probe in &mut into.probes[first..first + 4] {
                probe.value = deci_celsius(reader.i16()?.into());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_bytes_are_literal() {
        let mut frame = vec![0x55, 0x55, 0x01, 0x00, 0x02, 0, 0, 0, 0x08];
        frame
            .extend([0x05, 0x55, 0x05, 0x05, 0x05, 0x04, 0x04, 0x55, 1, 2, 3, 4, 0xAA, 0x05, 0x04]);
        let Found::Frame(length, Some(content)) = unescape(&frame) else { panic!("no frame") };
        assert_eq!(length, frame.len());
        assert_eq!(content[7..], [0x55, 0x05, 0x04, 0x55, 1, 2, 3, 4, 0xAA]);
    }

    #[test]
    fn start_within_a_frame_begins_another() {
        let cut = [0x55, 0x55, 0x01, 0x00, 0x55, 0x55, 0x01];
        assert!(matches!(unescape(&cut), Found::Frame(4, None)));
        assert!(matches!(unescape(&cut[..4]), Found::Incomplete));
    }
}
