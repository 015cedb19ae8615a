//! What the simulated packs of all brands share.

use super::battery::Battery;
use super::faults::{Fault, Faults};
use super::state::PackState;

/// A battery with its address, faults and switches.
#[derive(Debug)]
pub struct SimPack {
    pub address: u8,
    pub battery: Battery,
    pub faults: Faults,
    /// By [`CHARGING`], [`DISCHARGING`] and [`BALANCING`], as set by the reader.
    pub switches: [bool; 3],
}

pub const CHARGING: usize = 0;
pub const DISCHARGING: usize = 1;
pub const BALANCING: usize = 2;

impl SimPack {
    pub fn new(address: u8, battery: Battery, faults: Faults) -> Self {
        SimPack { address, battery, faults, switches: [true; 3] }
    }

    /// A pack without faults that never changes: [`PackState::at_rest`].
    pub fn fixed(address: u8) -> Self {
        SimPack::new(address, Battery::fixed(PackState::at_rest()), Faults::default())
    }

    pub fn conditions(&self) -> Vec<Fault> {
        self.faults.conditions(self.address)
    }

    pub fn state(&mut self, seconds: f64) -> PackState {
        let conditions = self.conditions();
        let mut state = self.battery.state(seconds).with_conditions(&conditions);
        if conditions.contains(&Fault::Stuck) {
            self.switches = [true; 3];
        }
        state.charging &= self.switches[CHARGING];
        state.discharging &= self.switches[DISCHARGING];
        if !self.switches[BALANCING] {
            state.balancing.fill(false);
        }
        state
    }
}
