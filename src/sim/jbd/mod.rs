//! A JBD board as the reader meets it on a wire or on Bluetooth: the other side of
//! `protocol::jbd`.
//!
//! It has an encoder of its own on purpose: a mistake in a shared one would hide itself. Layouts:
//! the vendor's "General Protocol" and recorded frames, which the tests below compare with.

mod data;
mod frame;
mod gate;

use super::battery::Battery;
use super::faults::{Fault, Faults};
use super::state::PackState;
use super::{Responder, SimBrand};
use frame::{Request, code};
use gate::Gate;

/// JBD, for the registry.
pub static BRAND: SimBrand = SimBrand {
    name: "jbd",
    addresses: 1..=1,
    new: |address, battery, faults| Box::new(JbdPack::new(address, battery).with_faults(faults)),
    request_end: |buffer| {
        let plain = frame::find(buffer).map(|it| it.end);
        plain.into_iter().chain(gate::find(buffer).map(|it| it.end)).min()
    },
    stream: None,
    notification: Some(20),
    corrupt: frame::corrupt,
};

/// What the Bluetooth module says when somebody subscribes, before any answer.
pub const GREETING: &[u8] = &[0];

/// What a board says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nameplate {
    /// Model, as the factory or the owner named it; at most 31 characters.
    pub name: String,
    /// Firmware version, each part below 16.
    pub software: [u8; 2],
    /// Year since 2000, month, day.
    pub born: [u8; 3],
}

/// One board.
#[derive(Debug)]
pub struct JbdPack {
    address: u8,
    battery: Battery,
    nameplate: Nameplate,
    faults: Faults,
    /// Charging and discharging, turned off by register E1.
    off: [bool; 2],
    gate: Gate,
}

impl JbdPack {
    /// A board with this battery around it. The address is never on the line; faults know it.
    pub fn new(address: u8, battery: Battery) -> Self {
        let nameplate =
            Nameplate { name: "JBD-SIM16S100A".into(), software: [2, 1], born: [25, 6, 13] };
        let (faults, off, gate) = (Faults::default(), [false; 2], Gate::Open);
        JbdPack { address, battery, nameplate, faults, off, gate }
    }

    /// A board that never changes: [`PackState::at_rest`].
    pub fn fixed(address: u8) -> Self {
        JbdPack::new(address, Battery::fixed(PackState::at_rest()))
    }

    /// Lets the alarms and cell counts among these faults come true.
    pub fn with_faults(self, faults: Faults) -> Self {
        JbdPack { faults, ..self }
    }

    /// A Bluetooth module that answers nothing before the handshake with this key and, where one is
    /// set, this password; all of six characters. `mac` is its address.
    pub fn guarded(self, mac: [u8; 6], key: &str, password: Option<&str>) -> Self {
        JbdPack { gate: Gate::guarded(mac, key, password), ..self }
    }

    /// A Bluetooth module that repeats whatever it is told until the link is paired.
    pub fn unpaired(self) -> Self {
        JbdPack { gate: Gate::Unpaired, ..self }
    }

    /// Somebody connected anew: the handshake has to be done again.
    pub fn connected(&mut self) {
        self.gate.connected();
    }

    /// What the board says about itself.
    pub fn nameplate(&self) -> &Nameplate {
        &self.nameplate
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
        if self.off != [false; 2] {
            state.alarms.insert(crate::model::Alarm::MosSoftwareLock);
        }
        state.charging &= !self.off[0];
        state.discharging &= !self.off[1];
        state
    }

    fn answer(&mut self, request: &Request, seconds: f64) -> Result<Vec<u8>, u8> {
        match (request.writes, request.register, &request.data[..]) {
            (false, 0x03, []) => Ok(data::basic(&self.state(seconds), &self.nameplate)),
            (false, 0x04, []) => Ok(data::cells(&self.state(seconds))),
            (false, 0x05, []) => Ok(self.nameplate.name.clone().into_bytes()),
            (false, 0xAA, []) => Ok(data::COUNTERS.iter().flat_map(|n| n.to_be_bytes()).collect()),
            (true, 0xE1, [0, bits @ 0..=3]) => {
                self.off = [bits & 1 != 0, bits & 2 != 0];
                Ok(Vec::new())
            }
            // Limits and calibration are open in factory mode only, which nobody enters here.
            (_, 0x10..=0xA2, _) => Err(code::NOT_ALLOWED),
            _ => Err(code::UNKNOWN),
        }
    }
}

impl Responder for JbdPack {
    fn respond(&mut self, request: &[u8], seconds: f64) -> Option<Vec<u8>> {
        match &mut self.gate {
            Gate::Unpaired => return Some(request.to_vec()),
            Gate::Open => {}
            Gate::Guarded(guard) => {
                if let Some(found) = gate::find(request) {
                    return guard.answer(&request[found]);
                }
                if !guard.is_open() {
                    return None;
                }
            }
        }
        let request = frame::parse(&request[frame::find(request)?]);
        let answered =
            if request.sound { self.answer(&request, seconds) } else { Err(code::CHECKSUM) };
        Some(match answered {
            Ok(data) => frame::answer(request.register, code::OK, &data),
            Err(code) => frame::answer(request.register, code, &[]),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Alarm;
    use crate::sim::faults::parse;

    const BASIC: &[u8] = &[0xDD, 0xA5, 3, 0, 0xFF, 0xFD, 0x77];
    const CELLS: &[u8] = &[0xDD, 0xA5, 4, 0, 0xFF, 0xFC, 0x77];
    const CHARGE_OFF: &[u8] = &[0xDD, 0x5A, 0xE1, 2, 0, 1, 0xFF, 0x1C, 0x77];
    const KEY: &[u8] = &[0xFF, 0xAA, 0x15, 6, 0x30, 0x30, 0x30, 0x30, 0x30, 0x30, 0x3B];

    fn ask(pack: &mut JbdPack, request: &[u8]) -> Vec<u8> {
        pack.respond(request, 0.0).unwrap()
    }

    #[test]
    fn the_board_at_rest_answers_with_what_it_is() {
        let mut pack = JbdPack::fixed(1);
        let basic = ask(&mut pack, BASIC);
        // 23 bytes, four sensors, nine bytes of newer firmware.
        assert_eq!(basic.len(), 7 + 23 + 8 + 9);
        let front = [0xDD, 3, 0, 40, 0x14, 0xB6, 0, 0, 0x19, 0x00, 0x27, 0x10, 0, 63, 0x32, 0xCD];
        assert_eq!(basic[..16], front);
        assert_eq!(basic[16..27], [0, 0, 0, 0, 0, 0, 0x21, 64, 3, 16, 4]);
        let cells = ask(&mut pack, CELLS);
        assert_eq!(cells[..6], [0xDD, 4, 0, 32, 0x0C, 0xED]);
        assert_eq!(ask(&mut pack, &[0xDD, 0xA5, 5, 0, 0xFF, 0xFB, 0x77])[4..7], *b"JBD");
        assert_eq!(ask(&mut pack, &[0xDD, 0xA5, 0xAA, 0, 0xFF, 0x56, 0x77])[3], 24);
    }

    #[test]
    fn bad_requests_are_refused_as_recorded() {
        let mut pack = JbdPack::fixed(1);
        let limit = [0xDD, 0xA5, 0x24, 0, 0xFF, 0xDC, 0x77];
        assert_eq!(ask(&mut pack, &limit), [0xDD, 0x24, 0x81, 0, 0xFF, 0x7F, 0x77]);
        let damaged = [0xDD, 0xA5, 3, 0, 0xFF, 0xFC, 0x77];
        assert_eq!(ask(&mut pack, &damaged)[2], 0x82);
        assert_eq!(ask(&mut pack, &[0xDD, 0xA5, 0xFA, 0, 0xFF, 0x06, 0x77])[2], 0x80);
        assert_eq!(pack.respond(b"~22014A42E00201FD28\r", 0.0), None);
    }

    #[test]
    fn switches_stay_as_they_were_turned() {
        let mut pack = JbdPack::fixed(1);
        assert_eq!(ask(&mut pack, CHARGE_OFF), [0xDD, 0xE1, 0, 0, 0, 0, 0x77]);
        let basic = ask(&mut pack, BASIC);
        assert_eq!((basic[20], basic[24]), (0x10, 2), "bit 12 says why");
        let state = pack.state(0.0);
        assert!(!state.charging && state.discharging);
        ask(&mut pack, &[0xDD, 0x5A, 0xE1, 2, 0, 0, 0xFF, 0x1D, 0x77]);
        assert_eq!(pack.state(0.0), PackState::at_rest());
    }

    #[test]
    fn conditions_come_true_while_they_last() {
        let faults = Faults::new(parse("alarm=short_circuit@1,cells=20").unwrap());
        let mut pack = JbdPack::fixed(1).with_faults(faults.clone());
        assert!(pack.state(0.0).alarms.contains(&Alarm::ShortCircuit));
        assert_eq!((ask(&mut pack, BASIC)[20], ask(&mut pack, CELLS)[3]), (4, 40));
        faults.clear();
        assert_eq!(pack.state(0.0), PackState::at_rest());
    }

    #[test]
    fn a_guarded_module_is_silent_until_the_handshake() {
        let mac = [0xA4, 0xC1, 0x37, 0x04, 0x2D, 0xBE];
        let mut pack = JbdPack::fixed(1).guarded(mac, "000000", None);
        assert_eq!(pack.respond(BASIC, 0.0), None);
        assert_eq!(ask(&mut pack, KEY), [0xFF, 0xAA, 0x15, 1, 2, 0x18]);
        assert_eq!(ask(&mut pack, BASIC)[1], 3);
        pack.connected();
        assert_eq!(pack.respond(BASIC, 0.0), None);
    }

    #[test]
    fn an_unpaired_module_repeats() {
        let mut pack = JbdPack::fixed(1).unpaired();
        assert_eq!(ask(&mut pack, BASIC), BASIC);
        assert_eq!(ask(&mut pack, KEY), KEY);
    }

    #[test]
    fn requests_end_where_they_end() {
        let end = BRAND.request_end;
        assert_eq!(end(BASIC), Some(7));
        assert_eq!(end(&BASIC[..6]), None);
        assert_eq!(end(&[b"AT\r\n", CHARGE_OFF, BASIC].concat()), Some(4 + 9));
        assert_eq!(end(&[KEY, BASIC].concat()), Some(11));
        assert_eq!(end(&[0xDD, 0xDD, 0xA5, 3, 0, 0xFF, 0xFD, 0x77]), Some(8));
    }
}
