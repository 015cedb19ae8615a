//! A JBD board on a wire or on Bluetooth, the counterpart of `protocol::jbd`.

mod ble_module;

use std::ops::Range;

use super::payload::Payload;
use super::state::PackState;
use super::{Corruption, Responder, SimBrand, SimPack};
use crate::model::Alarm;
use crate::protocol::jbd::decode::PROTECTION;
use crate::protocol::jbd::frame::{self, ENVELOPE, READ, WRITE};
use ble_module::{BleModule, Handshake};

pub static BRAND: SimBrand = SimBrand {
    notification: Some(20),
    ..SimBrand::serial("jbd", 1..=1, |pack| Box::new(JbdPack::new(pack)), request_end, corrupt)
};

/// What the Bluetooth module sends on a subscription, before any reply.
pub const GREETING: &[u8] = &[0];

/// Status codes of the vendor's document.
mod code {
    pub const OK: u8 = 0x00;
    pub const UNKNOWN: u8 = 0x80;
    pub const NOT_ALLOWED: u8 = 0x81;
    pub const CHECKSUM: u8 = 0x82;
}

fn request_end(buffer: &[u8]) -> Option<usize> {
    let ends = [find_request(buffer), ble_module::find(buffer)];
    ends.into_iter().flatten().map(|range| range.end).min()
}

/// Where the first request is, valid or not.
fn find_request(buffer: &[u8]) -> Option<Range<usize>> {
    (0..buffer.len()).find_map(|start| match buffer[start..] {
        [0xDD, READ | WRITE, _, length, ..] => {
            let end = start + usize::from(length) + ENVELOPE;
            (buffer.get(end - 1) == Some(&0x77)).then_some(start..end)
        }
        _ => None,
    })
}

/// There are no addresses: the reply to another request is one about another register.
fn corrupt(corruption: Corruption, reply: &[u8]) -> Vec<u8> {
    let mut reply = reply.to_vec();
    match (corruption, reply.as_mut_slice()) {
        (Corruption::Refused(code), [0xDD, register, ..]) => {
            return frame::encode(*register, code, &[]);
        }
        (Corruption::Foreign, [0xDD, register, ..]) => *register ^= 0x08,
        (Corruption::Checksum, [0xDD, .., low, 0x77] | [0xFF, .., low]) => *low ^= 1,
        _ => {}
    }
    reply
}

#[derive(Debug)]
pub struct JbdPack {
    pack: SimPack,
    module: BleModule,
}

impl JbdPack {
    /// The address is for the faults only; the board has none.
    pub fn new(pack: SimPack) -> Self {
        JbdPack { pack, module: BleModule::Nothing }
    }

    /// With a Bluetooth module at this address that requires the handshake.
    pub fn with_handshake(self, mac: [u8; 6], key: &str, password: Option<&str>) -> Self {
        let bytes = |text: &str| text.as_bytes().to_vec();
        let (key, password) = (bytes(key), password.map(bytes));
        let handshake = Handshake { mac, key, password, done: false };
        JbdPack { module: BleModule::Handshake(handshake), ..self }
    }

    /// With a Bluetooth module that requires pairing.
    pub fn with_pairing(self) -> Self {
        JbdPack { module: BleModule::Pairing, ..self }
    }

    /// A new connection needs a new handshake.
    pub fn connected(&mut self) {
        if let BleModule::Handshake(handshake) = &mut self.module {
            handshake.done = false;
        }
    }

    fn state(&mut self, seconds: f64) -> PackState {
        let mut state = self.pack.state(seconds);
        if self.pack.switches != [true; 3] {
            state.alarms.insert(Alarm::MosSoftwareLock);
        }
        state
    }

    fn content(&mut self, request: (u8, u8, &[u8]), seconds: f64) -> Result<Vec<u8>, u8> {
        let mut payload = Payload::default();
        match request {
            (READ, 0x03, []) => basic(&mut payload, &self.state(seconds)),
            (READ, 0x04, []) => payload.words(self.state(seconds).cells.iter().map(|cell| cell.0)),
            (READ, 0x05, []) => payload.extend(*b"JBD-SIM16S100A"),
            // As recorded: 122 times cell overvoltage, twice cell undervoltage, one restart.
            (READ, 0xAA, []) => payload.words([0, 0, 0, 122, 2, 0, 0, 0, 0, 0, 0, 1]),
            (WRITE, 0xE1, [0, bits @ 0..=3]) => {
                self.pack.switches = [bits & 1 == 0, bits & 2 == 0, true];
                &mut payload
            }
            // Limits and calibration are accessible in factory mode only.
            (_, 0x10..=0xA2, _) => return Err(code::NOT_ALLOWED),
            _ => return Err(code::UNKNOWN),
        };
        Ok(payload.into_bytes())
    }
}

/// Register 03, with the part that newer firmware appends.
fn basic<'a>(payload: &'a mut Payload, state: &PackState) -> &'a mut Payload {
    // 13 June 2025.
    let produced = 25 << 9 | 6 << 5 | 13;
    payload.word(state.voltage.0 / 10).word(state.current.0 / 10).centi_ah(state.remaining);
    payload.centi_ah(state.design).word(state.cycles).word(produced);
    payload.word(state.balancing_word(0)).word(state.balancing_word(16));
    payload.word(state.word(&PROTECTION) as u16);
    let fets = u8::from(state.charging) | u8::from(state.discharging) << 1;
    payload.byte(0x21).byte((state.soc.0 / 100) as u8).byte(fets);
    payload.byte(state.cells.len() as u8).sensors(&state.sensors);
    // Humidity, alarms, full charge, remaining charge, balance current.
    payload.byte(0).word(0).centi_ah(state.full).centi_ah(state.remaining).word(0)
}

impl Responder for JbdPack {
    fn respond(&mut self, request: &[u8], seconds: f64) -> Option<Vec<u8>> {
        match &mut self.module {
            BleModule::Pairing => return Some(request.to_vec()),
            BleModule::Nothing => {}
            BleModule::Handshake(handshake) => {
                if let Some(found) = ble_module::find(request) {
                    return handshake.reply(&request[found]);
                }
                if !handshake.done {
                    return None;
                }
            }
        }
        let request = &request[find_request(request)?];
        let content = match frame::decode(request) {
            Ok(request) => self.content(request, seconds),
            Err(_) => Err(code::CHECKSUM),
        };
        Some(match content {
            Ok(data) => frame::encode(request[2], code::OK, &data),
            Err(code) => frame::encode(request[2], code, &[]),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Alarm;
    use crate::sim::faults::{Faults, parse};

    const BASIC: &[u8] = &[0xDD, 0xA5, 3, 0, 0xFF, 0xFD, 0x77];
    const CELLS: &[u8] = &[0xDD, 0xA5, 4, 0, 0xFF, 0xFC, 0x77];
    const CHARGE_OFF: &[u8] = &[0xDD, 0x5A, 0xE1, 2, 0, 1, 0xFF, 0x1C, 0x77];
    const KEY: &[u8] = &[0xFF, 0xAA, 0x15, 6, 0x30, 0x30, 0x30, 0x30, 0x30, 0x30, 0x3B];

    fn reply_to(pack: &mut JbdPack, request: &[u8]) -> Vec<u8> {
        pack.respond(request, 0.0).unwrap()
    }

    #[test]
    fn registers_have_the_content_of_the_battery() {
        let mut pack = JbdPack::new(SimPack::fixed(1));
        let basic = reply_to(&mut pack, BASIC);
        // 23 bytes, four sensors, nine bytes of newer firmware.
        assert_eq!(basic.len(), 7 + 23 + 8 + 9);
        let front = [0xDD, 3, 0, 40, 0x14, 0xB6, 0, 0, 0x19, 0x00, 0x27, 0x10, 0, 63, 0x32, 0xCD];
        assert_eq!(basic[..16], front);
        assert_eq!(basic[16..27], [0, 0, 0, 0, 0, 0, 0x21, 64, 3, 16, 4]);
        let cells = reply_to(&mut pack, CELLS);
        assert_eq!(cells[..6], [0xDD, 4, 0, 32, 0x0C, 0xED]);
        assert_eq!(reply_to(&mut pack, &[0xDD, 0xA5, 5, 0, 0xFF, 0xFB, 0x77])[4..7], *b"JBD");
        assert_eq!(reply_to(&mut pack, &[0xDD, 0xA5, 0xAA, 0, 0xFF, 0x56, 0x77])[3], 24);
    }

    #[test]
    fn invalid_requests_are_refused_as_recorded() {
        let mut pack = JbdPack::new(SimPack::fixed(1));
        let limit = [0xDD, 0xA5, 0x24, 0, 0xFF, 0xDC, 0x77];
        assert_eq!(reply_to(&mut pack, &limit), [0xDD, 0x24, 0x81, 0, 0xFF, 0x7F, 0x77]);
        let damaged = [0xDD, 0xA5, 3, 0, 0xFF, 0xFC, 0x77];
        assert_eq!(reply_to(&mut pack, &damaged)[2], 0x82);
        assert_eq!(reply_to(&mut pack, &[0xDD, 0xA5, 0xFA, 0, 0xFF, 0x06, 0x77])[2], 0x80);
        assert_eq!(pack.respond(b"~22014A42E00201FD28\r", 0.0), None);
    }

    #[test]
    fn switches_keep_their_setting() {
        let mut pack = JbdPack::new(SimPack::fixed(1));
        assert_eq!(reply_to(&mut pack, CHARGE_OFF), [0xDD, 0xE1, 0, 0, 0, 0, 0x77]);
        let basic = reply_to(&mut pack, BASIC);
        assert_eq!((basic[20], basic[24]), (0x10, 2), "bit 12 is the lock");
        let state = pack.state(0.0);
        assert!(!state.charging && state.discharging);
        reply_to(&mut pack, &[0xDD, 0x5A, 0xE1, 2, 0, 0, 0xFF, 0x1D, 0x77]);
        assert_eq!(pack.state(0.0), PackState::at_rest());
    }

    #[test]
    fn conditions_are_reported_while_they_last() {
        let faults = Faults::new(parse("alarm=short_circuit@1,cells=20").unwrap());
        let mut pack = JbdPack::new(SimPack { faults: faults.clone(), ..SimPack::fixed(1) });
        assert!(pack.state(0.0).alarms.contains(&Alarm::ShortCircuit));
        assert_eq!((reply_to(&mut pack, BASIC)[20], reply_to(&mut pack, CELLS)[3]), (4, 40));
        faults.clear();
        assert_eq!(pack.state(0.0), PackState::at_rest());
    }

    #[test]
    fn module_ignores_requests_before_the_handshake() {
        let mac = [0xA4, 0xC1, 0x37, 0x04, 0x2D, 0xBE];
        let mut pack = JbdPack::new(SimPack::fixed(1)).with_handshake(mac, "000000", None);
        assert_eq!(pack.respond(BASIC, 0.0), None);
        assert_eq!(reply_to(&mut pack, KEY), [0xFF, 0xAA, 0x15, 1, 2, 0x18]);
        assert_eq!(reply_to(&mut pack, BASIC)[1], 3);
        pack.connected();
        assert_eq!(pack.respond(BASIC, 0.0), None);
    }

    #[test]
    fn unpaired_module_repeats_requests() {
        let mut pack = JbdPack::new(SimPack::fixed(1)).with_pairing();
        assert_eq!(reply_to(&mut pack, BASIC), BASIC);
        assert_eq!(reply_to(&mut pack, KEY), KEY);
    }

    #[test]
    fn end_of_a_request_is_found() {
        let end = |buffer: &[u8]| BRAND.request_end(buffer);
        assert_eq!(end(BASIC), Some(7));
        assert_eq!(end(&BASIC[..6]), None);
        assert_eq!(end(&[b"AT\r\n", CHARGE_OFF, BASIC].concat()), Some(4 + 9));
        assert_eq!(end(&[KEY, BASIC].concat()), Some(11));
        assert_eq!(end(&[0xDD, 0xDD, 0xA5, 3, 0, 0xFF, 0xFD, 0x77]), Some(8));
    }
}
