//! Simulated JK boards, over Bluetooth here and on serial lines in `serial`.
//!
//! The record encoder is independent of the driver on purpose; status words and checksums are shared.

mod record;
mod serial;

use super::battery::Battery;
use super::faults::Faults;
use super::state::PackState;
use super::{Corruption, Responder, SimBrand};
use record::{NOISE, SwitchSettings};

pub use serial::{PB, PB_WITH_MASTER, PbPack, TTL};

/// JK over Bluetooth.
pub static BRAND: SimBrand = SimBrand {
    name: "jk",
    addresses: 1..=1,
    new: |address, battery, faults| Box::new(JkBoard::new(battery).with_faults(address, faults)),
    request_end: record::command_end,
    stream: Some(0.5),
    notification: Some(128),
    corrupt: |corrupt, answer| match corrupt {
        Corruption::Checksum => record::damaged(answer),
        // Bluetooth frames have no address.
        Corruption::Foreign => Vec::new(),
        // A board that ignores a command still acknowledges it.
        Corruption::Refused(_) => record::acknowledgement(),
    },
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Firmware up to 10.
    Cells24,
    /// Firmware from 11 on.
    Cells32,
}

#[derive(Debug)]
pub struct JkBoard {
    address: u8,
    battery: Battery,
    faults: Faults,
    layout: Layout,
    switches: SwitchSettings,
    /// 96 was received on this connection.
    streaming: bool,
    counter: u8,
}

impl JkBoard {
    /// A board with [`Layout::Cells32`].
    pub fn new(battery: Battery) -> Self {
        JkBoard {
            address: 1,
            battery,
            faults: Faults::default(),
            layout: Layout::Cells32,
            switches: SwitchSettings { charging: true, discharging: true, balancing: true },
            streaming: false,
            counter: 0,
        }
    }

    pub fn with_layout(self, layout: Layout) -> Self {
        JkBoard { layout, ..self }
    }

    pub fn with_faults(self, address: u8, faults: Faults) -> Self {
        JkBoard { address, faults, ..self }
    }

    pub fn state(&mut self, seconds: f64) -> PackState {
        let conditions = self.faults.conditions(self.address);
        let mut state = self.battery.state(seconds).with_conditions(&conditions);
        state.charging &= self.switches.charging;
        state.discharging &= self.switches.discharging;
        if !self.switches.balancing {
            state.balancing.fill(false);
        }
        state
    }

    fn set_switch(&mut self, register: u8, on: bool) {
        match register {
            0x1D => self.switches.charging = on,
            0x1E => self.switches.discharging = on,
            0x1F => self.switches.balancing = on,
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
                record::settings(&self.state(seconds), self.switches)
            }
            _ => Vec::new(),
        };
        if let &[on, 0, 0, 0] = value {
            self.set_switch(code, on != 0);
        }
        answer.extend(record::acknowledgement());
        answer.extend(NOISE);
        Some(answer)
    }

    /// Record 02 once the stream was requested; before that, commands to the Bluetooth module.
    fn unsolicited(&mut self, seconds: f64) -> Option<Vec<u8>> {
        if !self.streaming {
            return Some(NOISE.to_vec());
        }
        self.counter = self.counter.wrapping_add(1);
        let mut bytes = record::cells(self.layout, &self.state(seconds), self.counter);
        if self.counter.is_multiple_of(3) {
            bytes.extend(NOISE);
        }
        Some(bytes)
    }

    fn connected(&mut self) {
        self.streaming = false;
    }
}
