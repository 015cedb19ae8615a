//! Simulated packs whose values name the time at which they were valid, and a record of what each
//! pack has sent.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bms_reader::model::{CentiPercent, DeciCelsius, MilliampHours, Milliamps, Millivolts};
use bms_reader::sim::pylontech_sc0500::{self, StackState};
use bms_reader::sim::{Battery, PackState, SimBrand};

/// A pack has other values after each step.
pub const STEP: Duration = Duration::from_millis(500);

/// Values of the cells: a value recurs after as many steps, which is longer than any value may live.
const CELL_VALUES: u64 = 200;

/// How long a record is kept.
const KEPT: Duration = Duration::from_secs(95);

/// The state at this step. Between two steps every cell moves by another amount, so that values of
/// two steps or packs never fit together.
pub fn state(seed: u64, step: f64) -> PackState {
    let step = step as u64;
    let cell = |number: u64| {
        // Coprime to `CELL_VALUES`.
        let factor = [3, 7, 9, 11, 13, 17, 19, 21][(number % 8) as usize];
        3200 + (step * factor + seed * 37 + number * 23) % CELL_VALUES
    };
    let cells: Vec<_> = (0..16).map(|number| Millivolts(small(cell(number)))).collect();
    let sum: i32 = cells.iter().map(|cell| cell.0).sum();
    let soc = 50 + (step + seed) % 19;
    let degrees = |number: u64| DeciCelsius(small(150 + (step + number * 3 + seed) % 15 * 10));
    PackState {
        voltage: Millivolts(sum / 100 * 100),
        current: Milliamps((small((step * 7 + seed) % 80) - 40) * 1000),
        soc: CentiPercent(small(soc * 100)),
        remaining: MilliampHours(i64::from(small(soc)) * 1000),
        full: MilliampHours(100_000),
        ambient: degrees(9),
        average: degrees(8),
        mosfet: degrees(7),
        sensors: (0..4).map(degrees).collect(),
        cells,
        ..PackState::at_rest()
    }
}

fn small(value: u64) -> i32 {
    i32::try_from(value).expect("a small number")
}

/// The values by the keys of the contract, as far as every brand reports them alike.
fn values(brand: &SimBrand, seed: u64, step: u64) -> BTreeMap<String, f64> {
    let step = step as f64;
    let mut pack = state(seed, step);
    match brand.name {
        "pylontech-sc0500" => {
            let mut first = Battery::computed(seed, state);
            let stack = StackState::of(&mut first, pylontech_sc0500::MODULES, step);
            let modules = stack.modules.iter().rev();
            pack.cells = modules.flat_map(|module| module.cells.clone()).collect();
            pack.voltage = stack.voltage();
        }
        "pylontech-console" => pack = pack.with_cells(15),
        _ => {}
    }
    let volts = |millivolts: i32| f64::from(millivolts) / 1000.0;
    let cells: Vec<_> = pack.cells.iter().map(|cell| cell.0).collect();
    let (low, high) = (cells.iter().min().expect("cells"), cells.iter().max().expect("cells"));
    let mut values = BTreeMap::from([
        ("pack_voltage".to_owned(), volts(pack.voltage.0)),
        ("pack_current".to_owned(), f64::from(pack.current.0) / 1000.0),
        ("soc".to_owned(), f64::from(pack.soc.0) / 100.0),
        ("remaining_capacity".to_owned(), pack.remaining.0 as f64 / 1000.0),
        ("full_capacity".to_owned(), pack.full.0 as f64 / 1000.0),
        ("min_cell_voltage".to_owned(), volts(*low)),
        ("max_cell_voltage".to_owned(), volts(*high)),
        ("cell_voltage_diff".to_owned(), volts(high - low)),
    ]);
    values.extend((1..).zip(&cells).map(|(n, cell)| (format!("cell_{n}_voltage"), volts(*cell))));
    values
}

/// The time of all packs of a schedule, in steps.
#[derive(Debug, Clone, Copy)]
pub struct Clock(Instant);

impl Clock {
    pub fn start() -> Self {
        Clock(Instant::now())
    }

    pub fn step(self) -> u64 {
        (self.0.elapsed().as_millis() / STEP.as_millis()) as u64
    }
}

/// What a pack has sent lately. Clones share it.
#[derive(Debug, Clone)]
pub struct Record {
    brand: &'static SimBrand,
    sent: Arc<Mutex<VecDeque<Sent>>>,
}

#[derive(Debug)]
struct Sent {
    step: u64,
    /// When values of this step were sent last.
    at: Instant,
    values: BTreeMap<String, f64>,
}

impl Record {
    pub fn of(brand: &'static SimBrand) -> Self {
        Record { brand, sent: Arc::default() }
    }

    /// The pack replies with its state at this step.
    pub fn add(&self, seed: u64, step: u64) {
        self.add_values(step, || values(self.brand, seed, step));
    }

    /// The same with the values that a reader must publish.
    pub fn add_values(&self, step: u64, values: impl FnOnce() -> BTreeMap<String, f64>) {
        let mut sent = self.sent.lock().expect("no panic");
        let now = Instant::now();
        match sent.iter_mut().rev().take(2).find(|sent| sent.step == step) {
            Some(known) => known.at = now,
            None => sent.push_back(Sent { step, at: now, values: values() }),
        }
        while sent.front().is_some_and(|sent| now - sent.at > KEPT) {
            sent.pop_front();
        }
    }

    /// When the pack last sent this value. `Err` if it did not in the time that is recorded; `None`
    /// for keys that are not judged.
    pub fn last_sent(&self, key: &str, value: f64) -> Option<Result<Instant, ()>> {
        let sent = self.sent.lock().expect("no panic");
        sent.back()?.values.get(key)?;
        let is_same = |sent: &&Sent| (sent.values[key] - value).abs() < 1e-6;
        Some(sent.iter().rev().find(is_same).map(|sent| sent.at).ok_or(()))
    }
}
