//! Encodes the records of 300 bytes and the commands of 20 bytes.

use super::Layout;
use crate::protocol::checksum::sum8;
use crate::protocol::jk;
use crate::protocol::jk::record::{COMMAND, COMMAND_HEADER, RECORD, RECORD_HEADER};
use crate::protocol::jk::status::ERRORS;
use crate::sim::{PackState, SimPack};

pub(super) fn command_end(buffer: &[u8]) -> Option<usize> {
    let start = buffer.windows(COMMAND_HEADER.len()).position(|seen| seen == COMMAND_HEADER)?;
    (buffer.len() >= start + COMMAND).then_some(start + COMMAND)
}

/// Code and value of a valid command at the end of these bytes.
pub(super) fn command(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let frame = bytes.last_chunk::<COMMAND>()?;
    let (checksum, body) = frame.split_last()?;
    let valid = body.starts_with(&COMMAND_HEADER) && sum8(body) == *checksum;
    let value = frame.get(6..6 + usize::from(frame[5]))?;
    valid.then_some((frame[4], value))
}

pub(super) fn acknowledgement() -> Vec<u8> {
    jk::encode(0xC8, &[1])
}

/// Changes a byte of the first record, or of the acknowledgement if there is no record.
pub(super) fn damaged(reply: &[u8]) -> Vec<u8> {
    let mut reply = reply.to_vec();
    if let Some(byte) = reply.get_mut(10) {
        *byte ^= 0x20;
    }
    reply
}

/// Bytes that are not written are zero.
struct RecordBuilder(Vec<u8>);

impl RecordBuilder {
    fn new(kind: u8, counter: u8) -> Self {
        let mut bytes = [&RECORD_HEADER[..], &[kind, counter]].concat();
        bytes.resize(RECORD - 1, 0);
        RecordBuilder(bytes)
    }

    fn put(&mut self, at: usize, field: &[u8]) {
        for (target, byte) in self.0.iter_mut().skip(at).zip(field) {
            *target = *byte;
        }
    }

    fn u16(&mut self, at: usize, value: i32) {
        // Cells, sensors and resistances are far below the limit.
        self.put(at, &(value as u16).to_le_bytes());
    }

    fn i32(&mut self, at: usize, value: impl TryInto<i32>) {
        self.put(at, &value.try_into().unwrap_or_default().to_le_bytes());
    }

    fn close(mut self) -> Vec<u8> {
        self.0.push(sum8(&self.0));
        self.0
    }
}

pub(super) fn device(layout: Layout) -> Vec<u8> {
    let mut record = RecordBuilder::new(3, 1);
    let (model, hardware, software) = match layout {
        Layout::Cells24 => ("JK-SIM24S", "10.XW", "10.07"),
        Layout::Cells32 => ("JK_SIM16S", "15A", "15.41"),
    };
    let texts = [
        (6, model),
        (22, hardware),
        (30, software),
        (46, "Simulated"),
        (62, "1234"),
        (78, "250613"),
        (86, "50613000001"),
        (97, "0000"),
        (102, "Input Userdata"),
        (118, "123456"),
    ];
    for (at, text) in texts {
        record.put(at, text.as_bytes());
    }
    record.close()
}

pub(super) fn settings(pack: &mut SimPack, seconds: f64) -> Vec<u8> {
    let state = pack.state(seconds);
    let mut record = RecordBuilder::new(1, 1);
    for (at, millivolts) in [(6, 3500), (10, 2500), (14, 2600), (18, 3650), (22, 3550), (26, 10)] {
        record.i32(at, millivolts);
    }
    record.i32(114, state.cells.len());
    for (at, on) in [118, 122, 126].into_iter().zip(pack.switches) {
        record.i32(at, i32::from(on));
    }
    record.i32(130, state.design.0);
    record.close()
}

pub(super) fn cells(layout: Layout, state: &PackState, counter: u8) -> Vec<u8> {
    let mut record = RecordBuilder::new(2, counter);
    // Eight more cells need 16 more bytes of voltages and 16 more of resistances.
    let (room, shift) = match layout {
        Layout::Cells24 => (24, 0),
        Layout::Cells32 => (32, 32),
    };
    let mask_at = 6 + 2 * room;
    let rest = 138 + shift;
    let cells = &state.cells[..state.cells.len().min(room)];
    for (number, cell) in cells.iter().enumerate() {
        record.u16(6 + 2 * number, cell.0);
        record.u16(mask_at + 10 + 2 * number, 60);
    }
    record.put(mask_at, &((1_u64 << cells.len()) - 1).to_le_bytes()[..4]);
    let index_of = |extreme: Option<&_>| {
        let at = extreme.and_then(|extreme| cells.iter().position(|cell| cell == extreme));
        u8::try_from(at.unwrap_or_default()).unwrap_or_default()
    };
    let balanced = state.balancing.iter().position(|on| *on);
    let highest = balanced.and_then(|cell| u8::try_from(cell).ok());
    record.put(mask_at + 8, &[highest.unwrap_or(index_of(cells.iter().max()))]);
    record.put(mask_at + 9, &[index_of(cells.iter().min())]);

    let power = i64::from(state.voltage.0) * i64::from(state.current.0).abs() / 1000;
    record.i32(118 + shift, state.voltage.0);
    record.i32(122 + shift, power);
    record.i32(126 + shift, state.current.0);
    record.i32(rest + 4, state.remaining.0);
    record.i32(rest + 8, state.full.0);
    record.i32(rest + 12, state.cycles);
    record.i32(rest + 16, state.discharged.0);
    let bytes = [
        (2, if balanced.is_some() { 2 } else { 0 }),
        (3, u8::try_from(state.soc.0 / 100).unwrap_or_default()),
        (20, u8::try_from(state.soh.0 / 100).unwrap_or_default()),
        (28, state.charging.into()),
        (29, state.discharging.into()),
    ];
    for (at, value) in bytes {
        record.put(rest + at, &[value]);
    }
    match layout {
        Layout::Cells24 => {
            temperatures(&mut record, state, &[130, 132], 134);
            record.put(136, &state.word(&ERRORS).to_le_bytes()[..2]);
            record.put(rest + 44, &[0x07]);
        }
        Layout::Cells32 => {
            temperatures(&mut record, state, &[162, 164, 256, 258], 144);
            record.u16(254, state.mosfet.0);
            record.put(166, &state.word(&ERRORS).to_le_bytes()[..4]);
            record.put(rest + 44, &[0xFF]);
        }
    }
    record.close()
}

fn temperatures(record: &mut RecordBuilder, state: &PackState, sensors: &[usize], mosfet: usize) {
    record.u16(mosfet, state.mosfet.0);
    for (&at, sensor) in sensors.iter().zip(&state.sensors) {
        record.u16(at, sensor.0);
    }
}
