//! JK boards as the reader meets them: the other side of `protocol::jk`, over Bluetooth here and on
//! wires in `wires`.
//!
//! It has encoders of its own on purpose: a mistake in a shared one would hide itself.

mod record;
mod wires;

use super::battery::Battery;
use super::faults::{Fault, Faults};
use super::state::PackState;
use super::{Corruption, Responder, SimBrand};
use record::{NOISE, Wanted};

pub use wires::{PB, PB_WITH_MASTER, PbPack, TTL};

/// JK over Bluetooth, for the registry.
pub static BRAND: SimBrand = SimBrand {
    name: "jk",
    addresses: 1..=1,
    new: |address, battery, faults| Box::new(JkBoard::new(battery).with_faults(address, faults)),
    request_end: record::command_end,
    stream: Some(0.5),
    notification: Some(128),
    corrupt: |corrupt, answer| match corrupt {
        Corruption::Checksum => record::damaged(answer),
        // There is no address on Bluetooth.
        Corruption::Foreign => Vec::new(),
        // A board that does not obey says that it has heard.
        Corruption::Refused(_) => record::acknowledgement(),
    },
};

/// Which records the board speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Firmware up to 10.
    Cells24,
    /// Firmware from 11 on.
    Cells32,
}

/// One board.
#[derive(Debug)]
pub struct JkBoard {
    address: u8,
    battery: Battery,
    faults: Faults,
    layout: Layout,
    wanted: Wanted,
    /// Somebody asked 96 since the connection.
    streaming: bool,
    counter: u8,
}

impl JkBoard {
    /// A board of the newer kind with this battery behind it.
    pub fn new(battery: Battery) -> Self {
        JkBoard {
            address: 1,
            battery,
            faults: Faults::default(),
            layout: Layout::Cells32,
            wanted: Wanted { charging: true, discharging: true, balancing: true },
            streaming: false,
            counter: 0,
        }
    }

    /// Speaks these records.
    pub fn speaking(self, layout: Layout) -> Self {
        JkBoard { layout, ..self }
    }

    /// Lets the alarms and cell counts among these faults come true.
    pub fn with_faults(self, address: u8, faults: Faults) -> Self {
        JkBoard { address, faults, ..self }
    }

    /// What the board reports at this time.
    pub fn state(&mut self, seconds: f64) -> PackState {
        let mut state = self.battery.state(seconds);
        for condition in self.faults.conditions(self.address) {
            match condition {
                Fault::Alarm(alarm) => {
                    state.alarms.insert(alarm);
                }
                Fault::Cells(count) => state = state.with_cells(count),
                _ => {}
            }
        }
        state.charging &= self.wanted.charging;
        state.discharging &= self.wanted.discharging;
        if !self.wanted.balancing {
            state.balancing.fill(false);
        }
        state
    }

    fn turn(&mut self, register: u8, on: bool) {
        match register {
            0x1D => self.wanted.charging = on,
            0x1E => self.wanted.discharging = on,
            0x1F => self.wanted.balancing = on,
            _ => {}
        }
    }
}

impl Responder for JkBoard {
    fn respond(&mut self, request: &[u8], seconds: f64) -> Option<Vec<u8>> {
        let (code, value) = record::command(request)?;
        let mut answer = match code {
            0x97 => record::device(self.layout),
            0x96 => {
                self.streaming = true;
                record::settings(&self.state(seconds), self.wanted)
            }
            _ => Vec::new(),
        };
        if let &[on, 0, 0, 0] = value {
            self.turn(code, on != 0);
        }
        answer.extend(record::acknowledgement());
        answer.extend(NOISE);
        Some(answer)
    }

    /// Record 02 once the stream was asked for; before, what is meant for the Bluetooth module.
    fn unsolicited(&mut self, seconds: f64) -> Option<Vec<u8>> {
        if !self.streaming {
            return Some(NOISE.to_vec());
        }
        self.counter = self.counter.wrapping_add(1);
        let mut said = record::cells(self.layout, &self.state(seconds), self.counter);
        if self.counter.is_multiple_of(3) {
            said.extend(NOISE);
        }
        Some(said)
    }

    fn connected(&mut self) {
        self.streaming = false;
    }
}
