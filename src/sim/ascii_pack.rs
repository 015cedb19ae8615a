//! A Daren, Pylontech, PACE or Seplos pack: they differ in the content of their replies.

use std::ops::RangeInclusive;

use super::payload::Payload;
use super::state::PackState;
use super::{Corruption, Responder, SimBrand, SimPack};
use crate::model::Alarm;
use crate::protocol::DecodeError;
use crate::protocol::ascii_frame::Frame;

/// What distinguishes the frames of one brand.
#[derive(Debug, Clone, Copy)]
pub struct Marks {
    pub version: u8,
    pub cid1: u8,
}

/// Characters of a frame without INFO. Packs ignore anything shorter.
const MIN_FRAME: usize = 18;

/// Return codes of the documents.
pub mod code {
    pub const OK: u8 = 0x00;
    pub const VERSION: u8 = 0x01;
    pub const CHECKSUM: u8 = 0x02;
    pub const SERVICE: u8 = 0x04;
    pub const FORMAT: u8 = 0x05;
    pub const DATA: u8 = 0x06;
}

impl Marks {
    /// The address of a request to this brand, and its frame or the code of its refusal.
    fn parse(self, request: &[u8]) -> Option<(u8, Result<Frame, u8>)> {
        let request = &request[request.iter().rposition(|byte| *byte == b'~')?..];
        let head = str::from_utf8(request.get(1..7)?).ok()?;
        let [_, _version, address, cid1] = u32::from_str_radix(head, 16).ok()?.to_be_bytes();
        if cid1 != self.cid1 || request.len() < MIN_FRAME || !request.ends_with(b"\r") {
            return None;
        }
        let frame = match Frame::parse(request) {
            Ok(frame) if frame.version == self.version => Ok(frame),
            Ok(_) => Err(code::VERSION),
            Err(DecodeError::Checksum { .. }) => Err(code::CHECKSUM),
            Err(_) => Err(code::FORMAT),
        };
        Some((address, frame))
    }

    fn frame(self, address: u8, code: u8, info: Vec<u8>) -> Vec<u8> {
        let Marks { version, cid1 } = self;
        Frame { version, address, cid1, cid2: code, info }.encode()
    }
}

/// A brand for the registry.
pub const fn brand(
    name: &'static str,
    addresses: RangeInclusive<u8>,
    new: fn(SimPack) -> Box<dyn Responder>,
) -> SimBrand {
    SimBrand::serial(name, addresses, new, request_end, corrupt)
}

fn request_end(buffer: &[u8]) -> Option<usize> {
    buffer.iter().position(|byte| *byte == b'\r').map(|cr| cr + 1)
}

fn corrupt(corruption: Corruption, reply: &[u8]) -> Vec<u8> {
    let Ok(frame) = Frame::parse(reply) else { return reply.to_vec() };
    match corruption {
        Corruption::Refused(code) => Frame { cid2: code, info: Vec::new(), ..frame }.encode(),
        Corruption::Foreign => Frame { address: (frame.address + 1) % 16, ..frame }.encode(),
        Corruption::Checksum => {
            let mut reply = reply.to_vec();
            if let [.., last, _cr] = reply.as_mut_slice() {
                *last = if *last == b'0' { b'1' } else { b'0' };
            }
            reply
        }
    }
}

/// The data of the reply of one brand to a service, or the code of a refusal.
pub type Content = fn(service: u8, info: &[u8], address: u8, &PackState) -> Result<Vec<u8>, u8>;

#[derive(Debug)]
pub struct AsciiPack {
    pub marks: Marks,
    pub content: Content,
    pub pack: SimPack,
}

impl Responder for AsciiPack {
    fn respond(&mut self, request: &[u8], seconds: f64) -> Option<Vec<u8>> {
        let (address, frame) = self.marks.parse(request)?;
        if address != self.pack.address {
            return None;
        }
        let state = self.pack.state(seconds);
        let content =
            frame.and_then(|frame| (self.content)(frame.cid2, &frame.info, address, &state));
        Some(match content {
            Ok(info) => self.marks.frame(address, code::OK, info),
            Err(code) => self.marks.frame(address, code, Vec::new()),
        })
    }
}

/// The state byte of a value: 01 below its lower limit, 02 above its upper one.
pub fn limit_state(state: &PackState, below: Alarm, above: Alarm) -> u8 {
    match (state.alarms.contains(&below), state.alarms.contains(&above)) {
        (_, true) => 2,
        (true, false) => 1,
        (false, false) => 0,
    }
}

/// State bytes of the cells, with their number in front: the lowest or the highest one has the alarm.
pub fn cell_states(state: &PackState, below: Alarm, above: Alarm) -> Vec<u8> {
    let indices = 0..state.cells.len();
    let lowest = indices.clone().min_by_key(|&index| state.cells[index]);
    let highest = indices.max_by_key(|&index| state.cells[index]);
    let mut states = vec![0; state.cells.len()];
    for (alarm, index, value) in
        [(below, lowest, 1), (above, highest, 2), (Alarm::OtherFailure, Some(0), 0xF0)]
    {
        if let Some(index) = index.filter(|_| state.alarms.contains(&alarm)) {
            states[index] = value;
        }
    }
    states.insert(0, state.cells.len() as u8);
    states
}

/// The state bytes of PACE and Seplos, with their numbers in front; the last two sensors have these
/// alarms.
pub fn warnings(payload: &mut Payload, state: &PackState, last_sensors: [[Alarm; 2]; 2]) {
    let [below, above] = [Alarm::CellUndervoltageWarning, Alarm::CellOvervoltageWarning];
    payload.extend(cell_states(state, below, above)).byte(2 + state.sensors.len() as u8);
    let cells = [Alarm::CellUndertemperatureWarning, Alarm::CellOvertemperatureWarning];
    for [below, above] in std::iter::repeat_n(cells, state.sensors.len()).chain(last_sensors) {
        payload.byte(limit_state(state, below, above));
    }
}
