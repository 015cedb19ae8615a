//! The two dialects with registers: what each register holds, and Modbus around it.

use super::{CHARGING, DISCHARGING, DalyPack, Dialect, failures};
use crate::model::Alarm;
use crate::sim::Corruption;
use crate::sim::state::PackState;

const REQUEST: usize = 8;
const D2: u8 = 0xD2;

pub fn request_end(buffer: &[u8]) -> Option<usize> {
    (REQUEST..=buffer.len()).find(|&end| is_sound(&buffer[end - REQUEST..end]))
}

fn crc(bytes: &[u8]) -> [u8; 2] {
    let mut crc = 0xFFFF_u16;
    for byte in bytes {
        crc ^= u16::from(*byte);
        for _ in 0..8 {
            let carry = crc & 1;
            crc >>= 1;
            if carry == 1 {
                crc ^= 0xA001;
            }
        }
    }
    crc.to_le_bytes()
}

fn is_sound(frame: &[u8]) -> bool {
    matches!(frame, [body @ .., low, high] if crc(body) == [*low, *high])
}

fn closed(mut frame: Vec<u8>) -> Vec<u8> {
    frame.extend(crc(&frame));
    frame
}

pub fn respond(pack: &mut DalyPack, request: &[u8], seconds: f64) -> Option<Vec<u8>> {
    let request = request.last_chunk::<REQUEST>().filter(|request| is_sound(*request))?;
    let [to, function, high, low, upper, lower, ..] = *request;
    let (asked, answers) = match pack.dialect {
        Dialect::P81 => (0x80 + pack.address, 0x50 + pack.address),
        _ => (D2, D2),
    };
    if to != asked {
        return None;
    }
    let [register, value] = [[high, low], [upper, lower]].map(u16::from_be_bytes);
    match function {
        3 => {
            let state = pack.state(seconds);
            let last = register.checked_add(value)?;
            let content: Option<Vec<u16>> =
                (register..last).map(|it| content(pack.dialect, &state, it)).collect();
            // A bad question is not answered at all.
            let content = content.filter(|content| (1..=81).contains(&content.len()))?;
            let mut frame = vec![answers, 3, (content.len() * 2) as u8];
            frame.extend(content.into_iter().flat_map(u16::to_be_bytes));
            Some(closed(frame))
        }
        6 => {
            let switch = switch(pack.dialect, register)?;
            pack.off[switch] = value == 0;
            Some(closed(vec![answers, 6, high, low, upper, lower]))
        }
        _ => None,
    }
}

fn switch(dialect: Dialect, register: u16) -> Option<usize> {
    match (dialect, register) {
        (Dialect::D2, 0xA5) | (Dialect::P81, 0x121) => Some(CHARGING),
        (Dialect::D2, 0xA6) | (Dialect::P81, 0x122) => Some(DISCHARGING),
        _ => None,
    }
}

/// What a register holds; `None` where the board has none.
fn content(dialect: Dialect, state: &PackState, register: u16) -> Option<u16> {
    match dialect {
        Dialect::P81 => p81(state, register),
        _ => d2(state, register),
    }
}

fn word(value: i32) -> u16 {
    value as u16
}

fn cell(state: &PackState, index: u16) -> u16 {
    state.cells.get(usize::from(index)).map_or(0, |cell| word(cell.0))
}

fn degrees(tenths: i32) -> u16 {
    word(tenths / 10 + 40)
}

fn motion(state: &PackState) -> u16 {
    match state.current.0 {
        0 => 0,
        1.. => 1,
        _ => 2,
    }
}

fn extremes(state: &PackState) -> (u16, u16) {
    let cells = || state.cells.iter().map(|cell| word(cell.0));
    (cells().max().unwrap_or(0), cells().min().unwrap_or(0))
}

/// Sixteen cells as bits, from this one on.
fn balancing(state: &PackState, first: usize) -> u16 {
    let cells = state.balancing.iter().skip(first).take(16).enumerate();
    cells.fold(0, |mask, (bit, on)| mask | u16::from(*on) << bit)
}

fn power(state: &PackState) -> u16 {
    let watts = i64::from(state.voltage.0) * i64::from(state.current.0.abs()) / 1_000_000;
    u16::try_from(watts).unwrap_or(u16::MAX)
}

fn d2(state: &PackState, register: u16) -> Option<u16> {
    let (highest, lowest) = extremes(state);
    let failures = failures(state);
    let text = |text: &[u8], first: u16| {
        let at = usize::from(register - first) * 2;
        let byte = |at: usize| text.get(at).copied().unwrap_or(0);
        u16::from_be_bytes([byte(at), byte(at + 1)])
    };
    Some(match register {
        0x00..=0x1F => cell(state, register),
        // A sensor that is not fitted holds 0 °C.
        0x20..=0x27 => {
            state.sensors.get(usize::from(register - 0x20)).map_or(40, |it| degrees(it.0))
        }
        0x28 => word(state.voltage.0 / 100),
        0x29 => word(30_000 + state.current.0 / 100),
        0x2A => word(state.soc.0 / 10),
        0x2B => highest,
        0x2C => lowest,
        0x2F => motion(state),
        0x30 => (state.remaining.0 / 100) as u16,
        0x31 => state.cells.len() as u16,
        0x32 => state.sensors.len() as u16,
        0x33 => state.cycles as u16,
        0x34 => state.balancing.contains(&true).into(),
        0x35 => state.charging.into(),
        0x36 => state.discharging.into(),
        0x38 => highest - lowest,
        0x39 => power(state),
        0x3A..=0x3D => {
            let at = usize::from(register - 0x3A) * 2;
            let byte = |at: usize| failures.get(at).copied().unwrap_or(0);
            u16::from_le_bytes([byte(at), byte(at + 1)])
        }
        0x3E => balancing(state, 0),
        0x3F => balancing(state, 16),
        0x40 => 30_000,
        0x42 => degrees(state.mosfet.0),
        0x80 => (state.design.0 / 100) as u16,
        0x81 => 3200,
        0x8B | 0x8C => 3650,
        0x8D | 0x8E => 2500,
        0x8F | 0x90 => 584,
        0x91 | 0x92 => 400,
        0xA5 => state.charging.into(),
        0xA6 => state.discharging.into(),
        0xA9..=0xB0 => text(b"SIM_1.0", 0xA9),
        0xB1..=0xB8 => text(b"SIMULATED-D2", 0xB1),
        0xB9..=0xC8 => text(b"SIMDALY0001", 0xB9),
        register if register <= 0xA8 => 0,
        _ => return None,
    })
}

fn p81(state: &PackState, register: u16) -> Option<u16> {
    let (highest, lowest) = extremes(state);
    let text = |text: &[u8], first: u16| {
        let at = usize::from(register - first) * 2;
        let byte = |at: usize| text.get(at).copied().unwrap_or(0);
        u16::from_be_bytes([byte(at), byte(at + 1)])
    };
    Some(match register {
        0x00..=0x2F => cell(state, register),
        0x30..=0x37 => {
            state.sensors.get(usize::from(register - 0x30)).map_or(0xFF, |it| degrees(it.0))
        }
        0x38 => word(state.voltage.0 / 100),
        0x39 => word(30_000 + state.current.0 / 100),
        0x3A => word(state.soc.0 / 10),
        0x3B => 0x2A,
        0x3C => state.cells.len() as u16,
        0x3D => state.sensors.len() as u16,
        0x3E => highest,
        0x40 => lowest,
        0x42 => highest - lowest,
        0x48 => motion(state),
        0x4B => (state.remaining.0 / 100) as u16,
        0x4C => state.cycles as u16,
        // What a recorded board shows while no cell is balanced.
        0x4D => 7,
        0x4F..=0x51 => balancing(state, usize::from(register - 0x4F) * 16),
        0x52 => state.charging.into(),
        0x53 => state.discharging.into(),
        0x58 => power(state),
        0x5A => degrees(state.mosfet.0),
        0x5B => degrees(state.ambient.0),
        0x5C => 0xFF,
        0x6D..=0x73 => {
            let at = usize::from(register - 0x6D) * 2;
            u16::from_le_bytes([level_byte(state, at), level_byte(state, at + 1)])
        }
        0x178..=0x185 => text(b"SIM_1.0ESS", 0x178),
        0x186..=0x18C => text(b"SIMULATED-81", 0x186),
        0x18D..=0x198 => text(b"SIMDALY0081", 0x18D),
        register if register <= 0x1C2 => 0,
        _ => return None,
    })
}

/// A byte of the failure table with levels: 1 warns, 2 has acted.
fn level_byte(state: &PackState, index: usize) -> u8 {
    let level = |[warning, protection]: [Alarm; 2]| {
        if state.alarms.contains(&protection) {
            2
        } else {
            u8::from(state.alarms.contains(&warning))
        }
    };
    let counted = LEVELS.get(index).map_or(0, |[low, high]| level(*low) | level(*high) << 3);
    counted | FLAGS.get(index).map_or(0, |alarms| state.bits(alarms))
}

const LEVELS: [[[Alarm; 2]; 2]; 8] = {
    use Alarm::*;
    [
        [[CellOvervoltageWarning, CellOvervoltage], [CellUndervoltageWarning, CellUndervoltage]],
        [
            [CellDifferenceWarning, CellDifference],
            [ChargeOvertemperatureWarning, ChargeOvertemperature],
        ],
        [
            [ChargeUndertemperatureWarning, ChargeUndertemperature],
            [DischargeOvertemperatureWarning, DischargeOvertemperature],
        ],
        [
            [DischargeUndertemperatureWarning, DischargeUndertemperature],
            [TemperatureDifferenceWarning, TemperatureDifference],
        ],
        [[PackOvervoltageWarning, PackOvervoltage], [PackUndervoltageWarning, PackUndervoltage]],
        [
            [ChargeOvercurrentWarning, ChargeOvercurrent],
            [DischargeOvercurrentWarning, DischargeOvercurrent],
        ],
        [[LowSocWarning, LowBattery], [LowSohWarning, LowSohWarning]],
        [[MosOvertemperatureWarning, MosOvertemperature], [ThermalRunaway, ThermalRunaway]],
    ]
};

const FLAGS: [[Option<Alarm>; 8]; 14] = {
    use Alarm::*;
    const NONE: [Option<Alarm>; 8] = [None; 8];
    let mut flags = [NONE; 14];
    flags[0][7] = Some(CommunicationFailure);
    flags[2][7] = Some(TemperatureSensorFailure);
    flags[4][6] = Some(ShortCircuit);
    flags[5][6] = Some(ChargeUndervoltageWarning);
    flags[5][7] = Some(DischargeOvervoltageWarning);
    flags[11] = [
        Some(AfeFailure),
        None,
        Some(SamplingFailure),
        Some(VoltageSensorFailure),
        Some(CellDisconnected),
        None,
        Some(CurrentSensorFailure),
        None,
    ];
    flags[12] = [
        None,
        Some(EepromFailure),
        Some(FlashFailure),
        Some(ClockFailure),
        Some(ChargeMosFailure),
        Some(DischargeMosFailure),
        Some(PrechargeFailure),
        None,
    ];
    flags[13][7] = Some(HeaterFailure);
    flags
};

pub fn corrupt(corrupt: Corruption, answer: &[u8]) -> Vec<u8> {
    let (&[address, function], Some((body, _))) =
        (answer.first_chunk::<2>().unwrap_or(&[0, 0]), answer.split_last_chunk::<2>())
    else {
        return Vec::new();
    };
    match corrupt {
        Corruption::Refused(code) => closed(vec![address, function | 0x80, code]),
        Corruption::Foreign => {
            let mut foreign = body.to_vec();
            foreign[0] = address ^ 1;
            closed(foreign)
        }
        Corruption::Checksum => {
            let mut answer = answer.to_vec();
            if let Some(last) = answer.last_mut() {
                *last ^= 1;
            }
            answer
        }
    }
}
