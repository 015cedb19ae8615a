//! The two dialects with registers, over Modbus.

use super::{DalyPack, Dialect, motion};
use crate::model::Alarm;
use crate::protocol::daly::status::{FAILURES, FLAGS, LEVELS};
use crate::protocol::modbus::{READ, WRITE, checked, with_crc};
use crate::sim::Corruption;
use crate::sim::pack::{CHARGING, DISCHARGING};
use crate::sim::state::PackState;

const REQUEST: usize = 8;

pub fn request_end(buffer: &[u8]) -> Option<usize> {
    (REQUEST..=buffer.len()).find(|&end| checked(&buffer[end - REQUEST..end]).is_ok())
}

pub fn respond(pack: &mut DalyPack, request: &[u8], seconds: f64) -> Option<Vec<u8>> {
    let DalyPack { dialect, pack } = pack;
    let request = checked(request.last_chunk::<REQUEST>()?).ok()?;
    let &[to, function, high, low, upper, lower] = request else { return None };
    let (own, reply) = match dialect {
        Dialect::P81 => (0x80 + pack.address, 0x50 + pack.address),
        _ => (0xD2, 0xD2),
    };
    if to != own {
        return None;
    }
    let [register, value] = [[high, low], [upper, lower]].map(u16::from_be_bytes);
    match function {
        READ => {
            let state = pack.state(seconds);
            let last = register.checked_add(value)?;
            let content: Option<Vec<u16>> =
                (register..last).map(|register| content(*dialect, &state, register)).collect();
            // An invalid request is ignored.
            let content = content.filter(|content| (1..=81).contains(&content.len()))?;
            let mut frame = vec![reply, READ, (content.len() * 2) as u8];
            frame.extend(content.into_iter().flat_map(u16::to_be_bytes));
            Some(with_crc(frame))
        }
        WRITE => {
            let switch = switch(*dialect, register)?;
            pack.switches[switch] = value != 0;
            Some(with_crc(vec![reply, WRITE, high, low, upper, lower]))
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

/// The content of a register; `None` where the board has none.
fn content(dialect: Dialect, state: &PackState, register: u16) -> Option<u16> {
    match dialect {
        Dialect::P81 => p81(state, register),
        _ => d2(state, register),
    }
}

fn cell(state: &PackState, index: u16) -> u16 {
    state.cells.get(usize::from(index)).map_or(0, |cell| cell.0 as u16)
}

fn degrees(tenths: i32) -> u16 {
    (tenths / 10 + 40) as u16
}

fn sensor(state: &PackState, index: u16, missing: u16) -> u16 {
    state.sensors.get(usize::from(index)).map_or(missing, |sensor| degrees(sensor.0))
}

fn extremes(state: &PackState) -> (u16, u16) {
    let cells = || state.cells.iter().map(|cell| cell.0 as u16);
    (cells().max().unwrap_or(0), cells().min().unwrap_or(0))
}

fn power(state: &PackState) -> u16 {
    let watts = i64::from(state.voltage.0) * i64::from(state.current.0.abs()) / 1_000_000;
    u16::try_from(watts).unwrap_or(u16::MAX)
}

/// One register of a text.
fn text(text: &[u8], index: u16) -> u16 {
    let byte = |at: usize| text.get(at).copied().unwrap_or(0);
    let at = usize::from(index) * 2;
    u16::from_be_bytes([byte(at), byte(at + 1)])
}

/// One register of bytes of which the low one comes first.
fn bytes(index: u16, byte: impl Fn(usize) -> u8) -> u16 {
    let at = usize::from(index) * 2;
    u16::from_le_bytes([byte(at), byte(at + 1)])
}

fn d2(state: &PackState, register: u16) -> Option<u16> {
    let (highest, lowest) = extremes(state);
    Some(match register {
        0x00..=0x1F => cell(state, register),
        // A sensor that is not fitted has 0 °C.
        0x20..=0x27 => sensor(state, register - 0x20, 40),
        0x28 => (state.voltage.0 / 100) as u16,
        0x29 => (30_000 + state.current.0 / 100) as u16,
        0x2A => (state.soc.0 / 10) as u16,
        0x2B => highest,
        0x2C => lowest,
        0x2F => motion(state),
        0x30 => (state.remaining.0 / 100) as u16,
        0x31 => state.cells.len() as u16,
        0x32 => state.sensors.len() as u16,
        0x33 => state.cycles as u16,
        0x34 => state.balancing.contains(&true).into(),
        0x35 | 0xA5 => state.charging.into(),
        0x36 | 0xA6 => state.discharging.into(),
        0x38 => highest - lowest,
        0x39 => power(state),
        0x3A..=0x3D => {
            bytes(register - 0x3A, |at| FAILURES.get(at).map_or(0, |word| state.word(word) as u8))
        }
        0x3E => state.balancing_word(0),
        0x3F => state.balancing_word(16),
        0x40 => 30_000,
        0x42 => degrees(state.mosfet.0),
        0x80 => (state.design.0 / 100) as u16,
        0x81 => 3200,
        0x8B | 0x8C => 3650,
        0x8D | 0x8E => 2500,
        0x8F | 0x90 => 584,
        0x91 | 0x92 => 400,
        0xA9..=0xB0 => text(b"SIM_1.0", register - 0xA9),
        0xB1..=0xB8 => text(b"SIMULATED-D2", register - 0xB1),
        0xB9..=0xC8 => text(b"SIMDALY0001", register - 0xB9),
        register if register <= 0xA8 => 0,
        _ => return None,
    })
}

fn p81(state: &PackState, register: u16) -> Option<u16> {
    let (highest, lowest) = extremes(state);
    Some(match register {
        0x00..=0x2F => cell(state, register),
        0x30..=0x37 => sensor(state, register - 0x30, 0xFF),
        0x38 => (state.voltage.0 / 100) as u16,
        0x39 => (30_000 + state.current.0 / 100) as u16,
        0x3A => (state.soc.0 / 10) as u16,
        0x3B => 0x2A,
        0x3C => state.cells.len() as u16,
        0x3D => state.sensors.len() as u16,
        0x3E => highest,
        0x40 => lowest,
        0x42 => highest - lowest,
        0x48 => motion(state),
        0x4B => (state.remaining.0 / 100) as u16,
        0x4C => state.cycles as u16,
        // As on a recorded board while no cell is balancing.
        0x4D => 7,
        0x4F..=0x51 => state.balancing_word(usize::from(register - 0x4F) * 16),
        0x52 => state.charging.into(),
        0x53 => state.discharging.into(),
        0x58 => power(state),
        0x5A => degrees(state.mosfet.0),
        0x5B => degrees(state.ambient.0),
        0x5C => 0xFF,
        0x6D..=0x73 => bytes(register - 0x6D, |at| level_byte(state, at)),
        0x178..=0x185 => text(b"SIM_1.0ESS", register - 0x178),
        0x186..=0x18C => text(b"SIMULATED-81", register - 0x186),
        0x18D..=0x198 => text(b"SIMDALY0081", register - 0x18D),
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
    let levels = LEVELS.get(index).map_or(0, |[low, high]| level(*low) | level(*high) << 3);
    levels | FLAGS.get(index).map_or(0, |word| state.word(word) as u8)
}

pub fn corrupt(corruption: Corruption, reply: &[u8]) -> Vec<u8> {
    let Ok(&[address, function, ref data @ ..]) = checked(reply) else { return Vec::new() };
    match corruption {
        Corruption::Refused(code) => with_crc(vec![address, function | 0x80, code]),
        Corruption::Foreign => with_crc([&[address ^ 1, function], data].concat()),
        Corruption::Checksum => {
            let mut reply = reply.to_vec();
            if let Some(last) = reply.last_mut() {
                *last ^= 1;
            }
            reply
        }
    }
}
