//! Daly boards, the counterpart of `protocol::daly`: one simulated brand for each dialect.

mod a5;
mod registers;

use super::state::PackState;
use super::{Responder, SimBrand, SimPack};

pub static BRAND: SimBrand = SimBrand::serial(
    "daly",
    1..=1,
    |pack| Box::new(DalyPack { dialect: Dialect::D2, pack }),
    registers::request_end,
    registers::corrupt,
);

pub static BRAND_P81: SimBrand = SimBrand::serial(
    "daly:p81",
    1..=15,
    |pack| Box::new(DalyPack { dialect: Dialect::P81, pack }),
    registers::request_end,
    registers::corrupt,
);

pub static BRAND_A5: SimBrand = SimBrand::serial(
    "daly:a5",
    1..=15,
    |pack| Box::new(DalyPack { dialect: Dialect::A5, pack }),
    a5::request_end,
    a5::corrupt,
);

/// The only dialect that a board replies to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dialect {
    A5,
    D2,
    P81,
}

#[derive(Debug)]
struct DalyPack {
    dialect: Dialect,
    pack: SimPack,
}

impl Responder for DalyPack {
    fn respond(&mut self, request: &[u8], seconds: f64) -> Option<Vec<u8>> {
        match self.dialect {
            Dialect::A5 => a5::respond(&mut self.pack, request, seconds),
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
