//! Daly boards, the counterpart of `protocol::daly`: one simulated brand for each dialect.

mod a5;
mod registers;

use super::battery::Battery;
use super::faults::Faults;
use super::state::PackState;
use super::{Responder, SimBrand};

/// A board of the D2 dialect.
pub static BRAND: SimBrand = SimBrand {
    name: "daly",
    addresses: 1..=1,
    new: |address, battery, faults| Box::new(DalyPack::new(Dialect::D2, address, battery, faults)),
    request_end: registers::request_end,
    stream: None,
    notification: None,
    corrupt: registers::corrupt,
};

/// A board of the third dialect.
pub static BRAND_P81: SimBrand = SimBrand {
    name: "daly:p81",
    addresses: 1..=15,
    new: |address, battery, faults| Box::new(DalyPack::new(Dialect::P81, address, battery, faults)),
    request_end: registers::request_end,
    stream: None,
    notification: None,
    corrupt: registers::corrupt,
};

/// An older board.
pub static BRAND_A5: SimBrand = SimBrand {
    name: "daly:a5",
    addresses: 1..=15,
    new: |address, battery, faults| Box::new(DalyPack::new(Dialect::A5, address, battery, faults)),
    request_end: a5::request_end,
    stream: None,
    notification: None,
    corrupt: a5::corrupt,
};

/// What a board speaks; it ignores everything else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dialect {
    A5,
    D2,
    P81,
}

/// One board.
#[derive(Debug)]
struct DalyPack {
    dialect: Dialect,
    address: u8,
    battery: Battery,
    faults: Faults,
    /// Charging and discharging, turned off by an order.
    off: [bool; 2],
}

/// The two switches, as orders name them.
const CHARGING: usize = 0;
const DISCHARGING: usize = 1;

impl DalyPack {
    fn new(dialect: Dialect, address: u8, battery: Battery, faults: Faults) -> Self {
        DalyPack { dialect, address, battery, faults, off: [false; 2] }
    }

    fn state(&mut self, seconds: f64) -> PackState {
        let conditions = self.faults.conditions(self.address);
        let mut state = self.battery.state(seconds).with_conditions(&conditions);
        state.charging &= !self.off[CHARGING];
        state.discharging &= !self.off[DISCHARGING];
        state
    }
}

impl Responder for DalyPack {
    fn respond(&mut self, request: &[u8], seconds: f64) -> Option<Vec<u8>> {
        match self.dialect {
            Dialect::A5 => a5::respond(self, request, seconds),
            Dialect::D2 | Dialect::P81 => registers::respond(self, request, seconds),
        }
    }
}

/// 0 at rest, 1 while charging, 2 while discharging.
fn motion(state: &PackState) -> u16 {
    match state.current.0 {
        0 => 0,
        1.. => 1,
        _ => 2,
    }
}

#[cfg(test)]
mod tests;
