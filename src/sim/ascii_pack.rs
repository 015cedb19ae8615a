//! A pack of Pylontech, PACE or Seplos on a bus: they differ in what they put into their answers.

use super::Responder;
use super::ascii_frame::{self, Marks, code};
use super::battery::Battery;
use super::faults::Faults;
use super::state::PackState;
use crate::model::Alarm;

/// What a pack of one brand says to a service, or the code with which it refuses.
pub type Answer = fn(service: u8, info: &[u8], address: u8, &PackState) -> Result<Vec<u8>, u8>;

/// One pack.
#[derive(Debug)]
pub struct AsciiPack {
    pub marks: Marks,
    pub answer: Answer,
    pub address: u8,
    pub battery: Battery,
    pub faults: Faults,
}

impl Responder for AsciiPack {
    fn respond(&mut self, request: &[u8], seconds: f64) -> Option<Vec<u8>> {
        let body = self.marks.body(request)?;
        if ascii_frame::address(body)? != self.address {
            return None;
        }
        let state =
            self.battery.state(seconds).with_conditions(&self.faults.conditions(self.address));
        let answered = self
            .marks
            .checked(body)
            .and_then(|(service, info)| (self.answer)(service, &info, self.address, &state));
        Some(match answered {
            Ok(info) => self.marks.frame(self.address, code::OK, &info),
            Err(code) => self.marks.frame(self.address, code, &[]),
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

/// State bytes of cells: the lowest or the highest of them has it.
pub fn cell_states(state: &PackState, below: Alarm, above: Alarm) -> Vec<u8> {
    let place = |extreme: Option<usize>| extreme.unwrap_or_default();
    let indices = 0..state.cells.len();
    let lowest = place(indices.clone().min_by_key(|&index| state.cells[index]));
    let highest = place(indices.clone().max_by_key(|&index| state.cells[index]));
    let mut states = vec![0; state.cells.len()];
    if state.alarms.contains(&below) {
        states[lowest] = 1;
    }
    if state.alarms.contains(&above) {
        states[highest] = 2;
    }
    if state.alarms.contains(&Alarm::OtherFailure) {
        states[0] = 0xF0;
    }
    states
}
