//! The 300 byte records and 20 byte commands, as a board writes them.

use super::Layout;
use crate::model::Alarm;
use crate::sim::state::PackState;

/// Length of a command and of its acknowledgement.
pub(super) const COMMAND: usize = 20;
const RECORD: usize = 300;
const COMMAND_HEADER: [u8; 4] = [0xAA, 0x55, 0x90, 0xEB];

/// What boards with a Bluetooth module say to it between records.
pub(super) const NOISE: &[u8] = b"AT\r\n";

/// The sum that ends records and commands.
fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum: u8, byte| sum.wrapping_add(*byte))
}

/// Where the first command in a buffer ends.
pub(super) fn command_end(buffer: &[u8]) -> Option<usize> {
    let start = buffer.windows(COMMAND_HEADER.len()).position(|seen| seen == COMMAND_HEADER)?;
    (buffer.len() >= start + COMMAND).then_some(start + COMMAND)
}

/// Code and value of a sound command at the end of these bytes.
pub(super) fn command(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let frame = bytes.last_chunk::<COMMAND>()?;
    let (checksum, body) = frame.split_last()?;
    let sound = body.starts_with(&COMMAND_HEADER) && sum(body) == *checksum;
    let value = frame.get(6..6 + usize::from(frame[5]))?;
    sound.then_some((frame[4], value))
}

/// The same for every command.
pub(super) fn acknowledgement() -> Vec<u8> {
    let mut frame = COMMAND_HEADER.to_vec();
    frame.extend([0xC8, 1, 1]);
    frame.resize(COMMAND - 1, 0);
    frame.push(sum(&frame));
    frame
}

/// The first record of an answer with a byte changed, or the acknowledgement where there is none.
pub(super) fn damaged(answer: &[u8]) -> Vec<u8> {
    let mut answer = answer.to_vec();
    if let Some(byte) = answer.get_mut(10) {
        *byte ^= 0x20;
    }
    answer
}

/// A record in the making: everything that is not written is zero.
struct Sheet(Vec<u8>);

impl Sheet {
    fn new(kind: u8, counter: u8) -> Self {
        let mut bytes = vec![0x55, 0xAA, 0xEB, 0x90, kind, counter];
        bytes.resize(RECORD - 1, 0);
        Sheet(bytes)
    }

    fn put(&mut self, at: usize, field: &[u8]) {
        for (place, byte) in self.0.iter_mut().skip(at).zip(field) {
            *place = *byte;
        }
    }

    fn u16(&mut self, at: usize, value: i32) {
        // Cells, sensors and resistances are far below the limits.
        self.put(at, &(value as u16).to_le_bytes());
    }

    fn i32(&mut self, at: usize, value: impl TryInto<i32>) {
        self.put(at, &value.try_into().unwrap_or_default().to_le_bytes());
    }

    fn close(mut self) -> Vec<u8> {
        self.0.push(sum(&self.0));
        self.0
    }
}

/// Record 03.
pub(super) fn device(layout: Layout) -> Vec<u8> {
    let mut sheet = Sheet::new(3, 1);
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
        sheet.put(at, text.as_bytes());
    }
    sheet.close()
}

/// What the owner has set.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    pub(super) charging: bool,
    pub(super) discharging: bool,
    pub(super) balancing: bool,
}

/// Record 01.
pub(super) fn settings(state: &PackState, wanted: Wanted) -> Vec<u8> {
    let mut sheet = Sheet::new(1, 1);
    for (at, millivolts) in [(6, 3500), (10, 2500), (14, 2600), (18, 3650), (22, 3550), (26, 10)] {
        sheet.i32(at, millivolts);
    }
    sheet.i32(114, state.cells.len());
    sheet.i32(118, i32::from(wanted.charging));
    sheet.i32(122, i32::from(wanted.discharging));
    sheet.i32(126, i32::from(wanted.balancing));
    sheet.i32(130, state.design.0);
    sheet.close()
}

/// Record 02.
pub(super) fn cells(layout: Layout, state: &PackState, counter: u8) -> Vec<u8> {
    let mut sheet = Sheet::new(2, counter);
    // Eight cells more are 16 bytes more of voltages and 16 more of resistances.
    let (room, shift) = match layout {
        Layout::Cells24 => (24, 0),
        Layout::Cells32 => (32, 32),
    };
    let mask_at = 6 + 2 * room;
    let rest = 138 + shift;
    let cells = &state.cells[..state.cells.len().min(room)];
    for (number, cell) in cells.iter().enumerate() {
        sheet.u16(6 + 2 * number, cell.0);
        sheet.u16(mask_at + 10 + 2 * number, 60);
    }
    sheet.put(mask_at, &((1_u64 << cells.len()) - 1).to_le_bytes()[..4]);
    let extreme = |wanted: Option<&_>| {
        let at = wanted.and_then(|wanted| cells.iter().position(|cell| cell == wanted));
        u8::try_from(at.unwrap_or_default()).unwrap_or_default()
    };
    let balanced = state.balancing.iter().position(|on| *on);
    let highest = balanced.and_then(|cell| u8::try_from(cell).ok());
    sheet.put(mask_at + 8, &[highest.unwrap_or(extreme(cells.iter().max()))]);
    sheet.put(mask_at + 9, &[extreme(cells.iter().min())]);

    let power = i64::from(state.voltage.0) * i64::from(state.current.0).abs() / 1000;
    sheet.i32(118 + shift, state.voltage.0);
    sheet.i32(122 + shift, power);
    sheet.i32(126 + shift, state.current.0);
    sheet.i32(rest + 4, state.remaining.0);
    sheet.i32(rest + 8, state.full.0);
    sheet.i32(rest + 12, state.cycles);
    sheet.i32(rest + 16, state.discharged.0);
    let bytes = [
        (2, if balanced.is_some() { 2 } else { 0 }),
        (3, u8::try_from(state.soc.0 / 100).unwrap_or_default()),
        (20, u8::try_from(state.soh.0 / 100).unwrap_or_default()),
        (28, state.charging.into()),
        (29, state.discharging.into()),
    ];
    for (at, value) in bytes {
        sheet.put(rest + at, &[value]);
    }
    match layout {
        Layout::Cells24 => {
            temperatures(&mut sheet, state, &[130, 132], 134);
            sheet.put(136, &errors(state).to_le_bytes()[..2]);
            sheet.put(rest + 44, &[0x07]);
        }
        Layout::Cells32 => {
            temperatures(&mut sheet, state, &[162, 164, 256, 258], 144);
            sheet.u16(254, state.mosfet.0);
            sheet.put(166, &errors(state).to_le_bytes());
            sheet.put(rest + 44, &[0xFF]);
        }
    }
    sheet.close()
}

fn temperatures(sheet: &mut Sheet, state: &PackState, sensors: &[usize], mosfet: usize) {
    sheet.u16(mosfet, state.mosfet.0);
    for (&at, sensor) in sensors.iter().zip(&state.sensors) {
        sheet.u16(at, sensor.0);
    }
}

/// The error word. Whatever the board has no bit for is not told.
fn errors(state: &PackState) -> u32 {
    const BITS: [(u32, Alarm); 16] = [
        (0, Alarm::WireResistanceWarning),
        (1, Alarm::MosOvertemperature),
        (4, Alarm::CellOvervoltage),
        (5, Alarm::PackOvervoltage),
        (6, Alarm::ChargeOvercurrent),
        (8, Alarm::ChargeOvertemperature),
        (9, Alarm::ChargeUndertemperature),
        (11, Alarm::CellUndervoltage),
        (12, Alarm::PackUndervoltage),
        (13, Alarm::DischargeOvercurrent),
        (14, Alarm::DischargeShortCircuit),
        (15, Alarm::DischargeOvertemperature),
        (16, Alarm::ChargeMosFailure),
        (17, Alarm::DischargeMosFailure),
        (19, Alarm::DefaultPasswordWarning),
        (27, Alarm::DischargeUndertemperature),
    ];
    BITS.iter().filter(|(_, alarm)| state.alarms.contains(alarm)).map(|(bit, _)| 1 << bit).sum()
}
