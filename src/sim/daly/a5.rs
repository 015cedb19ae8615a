//! The A5 dialect: 13 bytes each way.

use super::SimPack;
use crate::protocol::daly::a5::{FRAME, decode, encode};
use crate::protocol::daly::status::FAILURES;
use crate::sim::Corruption;
use crate::sim::pack::{CHARGING, DISCHARGING};
use crate::sim::payload::Payload;
use crate::sim::state::PackState;

/// Address bytes of a wire and of an app.
const SENDERS: [u8; 2] = [0x40, 0x80];

pub fn request_end(buffer: &[u8]) -> Option<usize> {
    let starts = (0..buffer.len()).filter(|&at| buffer[at] == 0xA5);
    starts.map(|at| at + FRAME).find(|&end| buffer.get(end - FRAME..end).is_some_and(is_valid))
}

fn is_valid(frame: &[u8]) -> bool {
    frame[3] == 8 && decode(frame).is_ok()
}

pub fn respond(pack: &mut SimPack, request: &[u8], seconds: f64) -> Option<Vec<u8>> {
    let request = request.last_chunk::<FRAME>().filter(|request| is_valid(*request))?;
    let (sender, command, [first, ..]) = decode(request).ok()?;
    let board = pack.address;
    if !SENDERS.iter().any(|base| base + board - 1 == sender) {
        return None;
    }
    let switch = match command {
        0xDA => Some(CHARGING),
        0xD9 => Some(DISCHARGING),
        _ => None,
    };
    if let Some(switch) = switch {
        pack.switches[switch] = first != 0;
        return Some(encode(board, command, [first, 0, 0, 0, 0, 0, 0, 0]));
    }
    let state = pack.state(seconds);
    if command == 0x95 {
        return Some(cells(&state).flat_map(|data| encode(board, command, data)).collect());
    }
    Some(encode(board, command, data(&state, command)?))
}

/// The data of a reply of one frame.
fn data(state: &PackState, command: u8) -> Option<[u8; 8]> {
    let mut payload = Payload::default();
    match command {
        0x50 => payload.four_bytes(state.design.0).four_bytes(3200),
        0x90 => {
            let current = 30_000 - state.current.0 / 100;
            payload.words([state.voltage.0 / 100, 0, current, state.soc.0 / 10])
        }
        0x93 => payload
            .byte(super::motion(state) as u8)
            .byte(state.charging.into())
            .byte(state.discharging.into())
            .byte(0x2A)
            .four_bytes(state.remaining.0),
        // The last byte is what is left of the reply before.
        0x94 => payload
            .byte(state.cells.len() as u8)
            .byte(state.sensors.len() as u8)
            .extend([0; 3])
            .word(state.cycles)
            .byte(0x2A),
        0x96 => {
            payload.byte(1).extend(state.sensors.iter().map(|sensor| (sensor.0 / 10 + 40) as u8))
        }
        0x97 => {
            payload.extend((0..4).flat_map(|word| state.balancing_word(16 * word).to_le_bytes()))
        }
        0x98 => payload.extend(FAILURES.iter().map(|word| state.word(word) as u8)),
        _ => return None,
    };
    let mut data = payload.into_bytes();
    data.resize(8, 0);
    data.try_into().ok()
}

/// As many frames as cells need and one more, as some boards do; the rest of the last ones is old.
fn cells(state: &PackState) -> impl Iterator<Item = [u8; 8]> {
    const OLD: [u8; 2] = [0x0E, 0xC4];
    let groups = state.cells.chunks(3).map(Some).chain([None]);
    (1..).zip(groups).map(|(number, group)| {
        let mut data = [number, OLD[0], OLD[1], OLD[0], OLD[1], OLD[0], OLD[1], 0x2A];
        for (index, cell) in group.unwrap_or_default().iter().enumerate() {
            data[1 + 2 * index..3 + 2 * index].copy_from_slice(&(cell.0 as u16).to_be_bytes());
        }
        data
    })
}

/// A board never refuses a request: it ignores it.
pub fn corrupt(corruption: Corruption, reply: &[u8]) -> Vec<u8> {
    let corrupt_frame = |frame: &[u8]| match (corruption, decode(frame)) {
        (Corruption::Checksum, _) => {
            let mut frame = frame.to_vec();
            frame[FRAME - 1] ^= 1;
            frame
        }
        (Corruption::Foreign, Ok((board, command, data))) => encode(board % 15 + 1, command, data),
        _ => Vec::new(),
    };
    reply.chunks_exact(FRAME).flat_map(corrupt_frame).collect()
}
