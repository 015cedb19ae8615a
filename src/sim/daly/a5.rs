//! The A5 dialect: 13 bytes each way.

use super::{CHARGING, DISCHARGING, DalyPack, failures};
use crate::sim::Corruption;
use crate::sim::state::PackState;

const START: u8 = 0xA5;
const FRAME: usize = 13;
/// Who asks: a wire, an app.
const HOSTS: [u8; 2] = [0x40, 0x80];

pub fn request_end(buffer: &[u8]) -> Option<usize> {
    let starts = (0..buffer.len()).filter(|&at| buffer[at] == START);
    starts.map(|at| at + FRAME).find(|&end| buffer.get(end - FRAME..end).is_some_and(is_sound))
}

fn is_sound(frame: &[u8]) -> bool {
    frame.len() == FRAME && frame[3] == 8 && sum(&frame[..FRAME - 1]) == frame[FRAME - 1]
}

fn sum(bytes: &[u8]) -> u8 {
    (bytes.iter().map(|byte| u32::from(*byte)).sum::<u32>() & 0xFF) as u8
}

pub fn frame(address: u8, command: u8, data: [u8; 8]) -> Vec<u8> {
    let mut frame = vec![START, address, command, 8];
    frame.extend(data);
    frame.push(sum(&frame));
    frame
}

pub fn respond(pack: &mut DalyPack, request: &[u8], seconds: f64) -> Option<Vec<u8>> {
    let request = request.last_chunk::<FRAME>().filter(|request| is_sound(*request))?;
    let [_, host, command, _, first, ..] = *request;
    let board = pack.address;
    if !HOSTS.iter().any(|base| base + board - 1 == host) {
        return None;
    }
    let switch = match command {
        0xDA => Some(CHARGING),
        0xD9 => Some(DISCHARGING),
        _ => None,
    };
    if let Some(switch) = switch {
        pack.off[switch] = first == 0;
        return Some(frame(board, command, [first, 0, 0, 0, 0, 0, 0, 0]));
    }
    let state = pack.state(seconds);
    let data = answers(&state, command)?;
    Some(data.into_iter().flat_map(|data| frame(board, command, data)).collect())
}

/// One frame for most commands, several for cells and temperatures.
fn answers(state: &PackState, command: u8) -> Option<Vec<[u8; 8]>> {
    let one = |data| Some(vec![data]);
    match command {
        0x50 => one(joined([be32(state.design.0), be32(3200)])),
        0x90 => {
            let current = 30_000 - state.current.0 / 100;
            one(words([state.voltage.0 / 100, 0, current, state.soc.0 / 10]))
        }
        0x93 => {
            let motion = match state.current.0 {
                0 => 0,
                1.. => 1,
                _ => 2,
            };
            let switches = [motion, state.charging.into(), state.discharging.into(), 0x2A];
            one(joined([switches, be32(state.remaining.0)]))
        }
        0x94 => {
            let cycles = (state.cycles as u16).to_be_bytes();
            let (cells, sensors) = (state.cells.len() as u8, state.sensors.len() as u8);
            // The last byte is what is left of the answer before.
            one([cells, sensors, 0, 0, 0, cycles[0], cycles[1], 0x2A])
        }
        0x95 => Some(cells(state)),
        0x96 => {
            let mut data = [0; 8];
            data[0] = 1;
            for (byte, sensor) in data[1..].iter_mut().zip(&state.sensors) {
                *byte = (sensor.0 / 10 + 40) as u8;
            }
            one(data)
        }
        0x97 => {
            let mut data = [0; 8];
            for (index, _) in state.balancing.iter().enumerate().filter(|(_, on)| **on) {
                data[index / 8] |= 1 << (index % 8);
            }
            one(data)
        }
        0x98 => {
            let mut data = [0; 8];
            data[..7].copy_from_slice(&failures(state));
            one(data)
        }
        _ => None,
    }
}

/// As many frames as cells need and one more, as some boards do; the rest of the last ones is old.
fn cells(state: &PackState) -> Vec<[u8; 8]> {
    const OLD: [u8; 2] = [0x0E, 0xC4];
    let groups = state.cells.chunks(3).map(Some).chain([None]);
    let frames = (1..).zip(groups).map(|(number, group)| {
        let mut data = [number, OLD[0], OLD[1], OLD[0], OLD[1], OLD[0], OLD[1], 0x2A];
        for (index, cell) in group.unwrap_or_default().iter().enumerate() {
            data[1 + 2 * index..3 + 2 * index].copy_from_slice(&(cell.0 as u16).to_be_bytes());
        }
        data
    });
    frames.collect()
}

fn be32(value: i64) -> [u8; 4] {
    (value as u32).to_be_bytes()
}

fn joined(halves: [[u8; 4]; 2]) -> [u8; 8] {
    let [a, b] = halves;
    [a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3]]
}

fn words(words: [i32; 4]) -> [u8; 8] {
    let mut data = [0; 8];
    for (pair, word) in data.chunks_exact_mut(2).zip(words) {
        pair.copy_from_slice(&(word as u16).to_be_bytes());
    }
    data
}

/// A board never refuses: it is silent instead.
pub fn corrupt(corrupt: Corruption, answer: &[u8]) -> Vec<u8> {
    let frames = answer.chunks_exact(FRAME);
    match corrupt {
        Corruption::Refused(_) => Vec::new(),
        Corruption::Checksum => frames
            .flat_map(|frame| {
                let mut frame = frame.to_vec();
                frame[FRAME - 1] ^= 1;
                frame
            })
            .collect(),
        Corruption::Foreign => frames
            .flat_map(|it| {
                let mut data = [0; 8];
                data.copy_from_slice(&it[4..12]);
                frame(it[1] % 15 + 1, it[2], data)
            })
            .collect(),
    }
}
