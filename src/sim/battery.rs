//! A realistic LiFePO4 battery of a house with solar panels: full in the afternoon, discharging in the
//! evening, at rest at night.
//!
//! All values are whole numbers of the units that Daren packs use. They depend only on the seed and
//! the time, so a test can compute the expected reading.

use super::load_profile;
use super::rng::hash_below;
use super::state::{PackState, terminal_voltage};
use crate::model::{CentiPercent, DeciCelsius, MilliampHours, Milliamps, Millivolts};

#[derive(Debug, Clone)]
pub struct Battery(Source);

#[derive(Debug, Clone)]
enum Source {
    Fixed(Box<PackState>),
    Active(ActiveBattery),
    Computed(u64, fn(u64, f64) -> PackState),
}

impl Battery {
    pub fn fixed(state: PackState) -> Self {
        Battery(Source::Fixed(Box::new(state)))
    }

    /// A battery that follows the load profile, which starts at ten in the morning.
    pub fn active(seed: u64) -> Self {
        Battery(Source::Active(ActiveBattery::new(seed)))
    }

    /// A battery whose state is a function of this seed and the time.
    pub fn computed(seed: u64, state: fn(u64, f64) -> PackState) -> Self {
        Battery(Source::Computed(seed, state))
    }

    /// The battery whose seed differs by `seeds`; a fixed battery returns itself.
    pub fn neighbour(&self, seeds: i64) -> Battery {
        match &self.0 {
            Source::Fixed(_) => self.clone(),
            Source::Active(active) => Battery::active(active.seed.wrapping_add_signed(seeds)),
            Source::Computed(seed, state) => {
                Battery::computed(seed.wrapping_add_signed(seeds), *state)
            }
        }
    }

    /// The state at this time, independent of earlier calls. Moving forward is cheap; moving back
    /// starts the simulation again.
    pub fn state(&mut self, seconds: f64) -> PackState {
        match &mut self.0 {
            Source::Fixed(state) => (**state).clone().apply_protections(),
            Source::Active(active) => {
                // The cast rounds down and maps NaN to 0.
                active.go_to((seconds.clamp(0.0, HORIZON) / STEP as f64) as i64);
                active.state().apply_protections()
            }
            Source::Computed(seed, state) => state(*seed, seconds).apply_protections(),
        }
    }
}

/// Simulated seconds per step.
const STEP: i64 = 10;

/// The simulation stops after ten years, which bounds the cost of a jump.
const HORIZON: f64 = 3650.0 * 86_400.0;

const FULL: i64 = 100_000 * 3600;
const CELLS: u64 = 16;
const SENSORS: u64 = 4;

/// The inverter does not discharge the battery below 15 %.
const FLOOR: i64 = FULL * 15 / 100;

#[derive(Debug, Clone, Default)]
struct ActiveBattery {
    seed: u64,
    step: i64,
    /// `charge`, `charged` and `discharged` are in mA·s.
    charge: i64,
    charged: i64,
    discharged: i64,
    current: i64,
    /// Temperature of the cells above ambient, in 0.001 °C.
    warmth: i64,
}

impl ActiveBattery {
    fn new(seed: u64) -> Self {
        let charge = FULL * (55 + hash_below(seed, 0, 20)) / 100;
        let mut active = ActiveBattery { seed, charge, ..ActiveBattery::default() };
        active.current = active.accepted(load_profile::current(seed, 0));
        active
    }

    fn go_to(&mut self, step: i64) {
        if step < self.step {
            *self = ActiveBattery::new(self.seed);
        }
        while self.step < step {
            let moved = (self.current * STEP).clamp(-self.charge, FULL - self.charge);
            self.charge += moved;
            self.charged += moved.max(0);
            self.discharged -= moved.min(0);
            self.warmth += (self.current.abs() / 4 - self.warmth) * STEP / 1800;
            self.step += 1;
            self.current = self.accepted(load_profile::current(self.seed, self.step * STEP));
        }
    }

    /// The part of an offered current that flows: decreasing above 95 %, none when full, no discharge
    /// below the floor. Real packs report small currents as 0.
    fn accepted(&self, offered: i64) -> i64 {
        let room = FULL - self.charge;
        let current = match offered {
            1.. if room == 0 => 0,
            1.. => offered.min(500 + 25_000 * room / (FULL / 20)),
            _ if self.charge <= FLOOR => 0,
            _ => offered,
        };
        if current.abs() < 150 { 0 } else { current / 10 * 10 }
    }

    fn state(&self) -> PackState {
        let soc = self.charge * 10_000 / FULL;
        let cells: Vec<_> = (0..CELLS).map(|cell| self.cell(cell, soc)).collect();
        let lowest = cells.iter().min().map_or(0, |cell| cell.0);
        let ambient = load_profile::ambient(self.step * STEP);
        let sensors: Vec<_> = (0..SENSORS)
            .map(|sensor| ambient + self.warmth / 100 + hash_below(self.seed, 200 + sensor, 8))
            .collect();
        let average = sensors.iter().sum::<i64>() / SENSORS as i64;
        PackState {
            voltage: terminal_voltage(&cells),
            current: Milliamps(small(self.current)),
            soc: CentiPercent(small(soc)),
            soh: CentiPercent(9800),
            remaining: MilliampHours(self.charge / 36_000 * 10),
            charged: MilliampHours(6_400_000 + self.charged / 3_600_000 * 1000),
            discharged: MilliampHours(6_300_000 + self.discharged / 3_600_000 * 1000),
            cycles: 63 + u32::try_from(self.discharged / FULL).unwrap_or(u32::MAX - 63),
            balancing: cells
                .iter()
                .map(|cell| self.current >= 0 && cell.0 > 3400 && cell.0 > lowest + 15)
                .collect(),
            cells,
            ambient: DeciCelsius(small(ambient)),
            average: DeciCelsius(small(average)),
            mosfet: DeciCelsius(small(ambient + self.warmth / 50)),
            sensors: sensors.into_iter().map(|sensor| DeciCelsius(small(sensor))).collect(),
            ..PackState::at_rest()
        }
    }

    /// Rest voltage, plus current times resistance, plus the deviation of the cell (larger at both
    /// ends of the curve), plus noise of 1 mV.
    fn cell(&self, cell: u64, soc: i64) -> Millivolts {
        let resistance = 900 + hash_below(self.seed, 100 + cell, 200);
        let difference = hash_below(self.seed, 150 + cell, 13) - 6;
        let spread = match soc {
            9700.. => 100 + (soc - 9700) * 5 / 3,
            2000.. => 100,
            _ => 100 + (2000 - soc) / 8,
        };
        let noise = hash_below(self.seed, 1_000_000 + self.step as u64 * CELLS + cell, 3) - 1;
        let voltage = rest_voltage(soc)
            + self.current * resistance / 1_000_000
            + difference * spread / 100
            + noise;
        Millivolts(small(voltage))
    }
}

/// Open-circuit voltage of a LiFePO4 cell over the state of charge (0.01 %), in mV.
fn rest_voltage(soc: i64) -> i64 {
    const CURVE: [(i64, i64); 12] = [
        (0, 2800),
        (500, 3120),
        (1000, 3205),
        (2000, 3255),
        (3000, 3285),
        (4000, 3298),
        (6400, 3314),
        (7000, 3325),
        (9000, 3335),
        (9700, 3345),
        (9900, 3400),
        (10_000, 3480),
    ];
    let mut below = CURVE[0];
    for above in CURVE {
        if soc <= above.0 {
            let width = (above.0 - below.0).max(1);
            return below.1 + (above.1 - below.1) * (soc - below.0) / width;
        }
        below = above;
    }
    below.1
}

/// All quantities of one pack are far below the limit.
fn small(value: i64) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: f64 = 3600.0;

    /// Every ten minutes of three days.
    fn three_days(seed: u64) -> Vec<PackState> {
        let mut battery = Battery::active(seed);
        (0..432).map(|n| battery.state(f64::from(n) * 600.0)).collect()
    }

    #[test]
    fn state_depends_on_seed_and_time_only() {
        let mut polled = Battery::active(7);
        for minute in 0..600 {
            polled.state(f64::from(minute) * 60.0);
        }
        let state = polled.state(10.0 * HOUR);
        assert_eq!(Battery::active(7).state(10.0 * HOUR), state);
        polled.state(30.0 * HOUR);
        assert_eq!(polled.state(10.0 * HOUR), state);
        assert_ne!(Battery::active(8).state(10.0 * HOUR), state);
    }

    #[test]
    fn remaining_charge_follows_the_current() {
        let mut battery = Battery::active(3);
        let mut counted = 0;
        let before = battery.state(0.0).remaining.0;
        for step in 0..360 {
            counted += i64::from(battery.state(f64::from(step) * 10.0).current.0) * 10;
        }
        let after = battery.state(HOUR).remaining.0;
        // `remaining` moves in steps of 10 mAh.
        assert!((after - before - counted / 3600).abs() <= 10, "{before} {after} {counted}");
    }

    #[test]
    fn a_day_has_charge_discharge_and_rest() {
        for seed in 0..8 {
            let states = three_days(seed);
            let share = |test: fn(&PackState) -> bool| {
                states.iter().filter(|state| test(state)).count() * 100 / states.len()
            };
            assert!(share(|state| state.current.0 > 0) >= 10, "seed {seed} never charges");
            assert!(share(|state| state.current.0 < 0) >= 20, "seed {seed} never discharges");
            assert!(share(|state| state.current.0 == 0) >= 10, "seed {seed} never rests");
            assert!(states.iter().any(|state| state.soc.0 == 10_000), "seed {seed} is never full");
            assert!(states.iter().any(|state| state.balancing.contains(&true)), "seed {seed}");
            assert!(states.iter().any(|state| state.soc.0 < 6000), "seed {seed} hardly works");
        }
    }

    #[test]
    fn healthy_battery_stays_within_its_limits() {
        for state in (0..8).flat_map(three_days) {
            assert!(state.alarms.is_empty(), "{state:?}");
            assert!((1480..=10_000).contains(&state.soc.0), "{state:?}");
            assert!(state.cells.iter().all(|cell| (3100..=3600).contains(&cell.0)), "{state:?}");
            assert!(state.sensors.iter().all(|sensor| (150..=400).contains(&sensor.0)));
            assert_eq!((state.voltage.0 % 10, state.current.0 % 10), (0, 0));
            assert_eq!((state.remaining.0 % 10, state.charged.0 % 1000), (0, 0));
            let sum: i32 = state.cells.iter().map(|cell| cell.0).sum();
            assert!((state.voltage.0 - sum).abs() <= 5);
        }
    }

    #[test]
    fn cycles_and_throughput_increase() {
        let states = three_days(1);
        let (first, last) = (&states[0], &states[states.len() - 1]);
        assert!(last.cycles > first.cycles, "{} cycles", last.cycles);
        assert!(last.charged > first.charged && last.discharged > first.discharged);
    }

    #[test]
    fn invalid_times_give_the_initial_state() {
        let mut battery = Battery::active(1);
        let start = battery.state(0.0);
        assert_eq!(battery.state(f64::NAN), start);
        assert_eq!(battery.state(-1.0), start);
        assert_eq!(battery.state(f64::NEG_INFINITY), start);
    }
}
