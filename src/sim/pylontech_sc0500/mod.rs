//! The simulated console of an SC0500 with a stack of H48050 modules.
//!
//! The output has the format of the logs and captures that the driver names. The real effect of `tbar` is
//! unknown; here it enables `getpwr`, as described by the older program.

mod tables;

use super::battery::Battery;
use super::console::{Shell, base_state, command, corrupt, level, request_end};
use super::faults::Fault;
use super::rng::hash_below;
use super::state::PackState;
use super::{Responder, SimBrand, SimPack};
use crate::model::{Alarm, DeciCelsius, Millivolts, Severity};

pub static BRAND: SimBrand = SimBrand::serial(
    "pylontech-sc0500",
    1..=1,
    |pack| Box::new(Sc0500 { pack, shell: Shell::default(), authorised: false }),
    request_end,
    corrupt,
);

/// Serial number of the simulated controller.
pub const BARCODE: &str = "PPTAP02218C10427";

/// Modules without a `modules` fault.
pub const MODULES: usize = 5;

/// Limit of the controller.
pub const MAX_MODULES: usize = 8;

const CELLS: usize = 15;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StackState {
    /// The module next to the controller first. The modules are in series, so all have the same current
    /// and charge; only the first one has alarms.
    pub modules: Vec<PackState>,
}

impl StackState {
    /// `battery` is the first module.
    pub fn of(battery: &mut Battery, modules: usize, seconds: f64) -> Self {
        let first = battery.state(seconds).with_cells(CELLS);
        let modules = (0..modules.clamp(1, MAX_MODULES)).map(|number| module(&first, number));
        StackState { modules: modules.collect() }
    }

    pub fn first(&self) -> &PackState {
        &self.modules[0]
    }

    /// Cells with their temperatures, starting with the first module.
    pub fn cells(&self) -> impl DoubleEndedIterator<Item = (Millivolts, DeciCelsius)> + '_ {
        self.modules.iter().flat_map(|module| {
            let sensors = module.sensors.len();
            let cells = module.cells.iter().enumerate();
            cells.map(move |(index, cell)| (*cell, module.sensors[index * sensors / CELLS]))
        })
    }

    pub fn voltage(&self) -> Millivolts {
        Millivolts(self.cells().map(|(cell, _)| cell.0).sum())
    }

    /// State of charge in whole per cent.
    pub fn percent(&self) -> i32 {
        self.first().soc.0 / 100
    }

    /// Remaining energy in Wh.
    pub fn energy(&self) -> i64 {
        self.first().remaining.0 * i64::from(self.voltage().0) / 1_000_000
    }

    /// The states of base, voltage, current and temperature.
    pub fn states(&self) -> [&'static str; 4] {
        let first = self.first();
        [
            if self.error_code() == 0 { base_state(first) } else { "SysError" },
            level(first, "overvoltage", "undervoltage"),
            level(first, "overcurrent", "short_circuit"),
            level(first, "overtemperature", "undertemperature"),
        ]
    }

    /// 0 without a fault.
    pub fn error_code(&self) -> u32 {
        let is_fault = |alarm: &Alarm| alarm.severity() == Severity::Fault;
        u32::from(self.first().alarms.iter().any(is_fault)) * 12
    }

    /// Serial number of a module; module 0 is next to the controller.
    pub fn serial(index: usize) -> String {
        format!("HPSIM{:011}", 1000 + index)
    }
}

/// A module further from the controller: its cells differ by some millivolts and it is warmer.
fn module(first: &PackState, number: usize) -> PackState {
    let mut module = first.clone();
    for (cell, index) in module.cells.iter_mut().zip(0..) {
        let seed = number as u64;
        cell.0 += if number == 0 { 0 } else { hash_below(seed, index, 9) as i32 - 4 };
    }
    for sensor in &mut module.sensors {
        sensor.0 += 3 * number as i32;
    }
    module
}

#[derive(Debug)]
struct Sc0500 {
    pack: SimPack,
    shell: Shell,
    authorised: bool,
}

impl Sc0500 {
    fn state(&mut self, seconds: f64) -> StackState {
        let mut modules = MODULES;
        let mut alarms = Vec::new();
        for condition in self.pack.conditions() {
            match condition {
                Fault::Modules(count) => modules = count,
                Fault::Alarm(alarm) => alarms.push(alarm),
                _ => {}
            }
        }
        let mut state = StackState::of(&mut self.pack.battery, modules, seconds);
        state.modules[0].alarms.extend(alarms);
        state
    }

    fn has(&self, fault: Fault) -> bool {
        self.pack.conditions().contains(&fault)
    }

    fn login(&mut self, command: &str) -> Vec<u8> {
        if self.has(Fault::Login) || command != "login debug" {
            return self.shell.fail(command, "Password error");
        }
        self.shell.debug = true;
        self.authorised = false;
        self.shell.succeed(command, &["Login as debug".to_owned()])
    }

    fn authorise(&mut self, command: &str, number: &str) -> Vec<u8> {
        self.authorised = number == BARCODE && !self.has(Fault::Tbar);
        let barcode = format!("Barcode:{number}");
        match self.authorised {
            true => self.shell.succeed(command, &["Test result:pass".to_owned(), barcode]),
            false => self.shell.fail(command, "Test result:fail"),
        }
    }
}

impl Responder for Sc0500 {
    fn respond(&mut self, request: &[u8], seconds: f64) -> Option<Vec<u8>> {
        let command = command(request)?;
        if self.has(Fault::Logout) && !command.is_empty() && !command.starts_with("login") {
            self.shell.debug = false;
        }
        let debug = self.shell.debug;
        let state = self.state(seconds);
        let lines = match command.split_once(' ') {
            Some(("login", _)) => return Some(self.login(command)),
            Some(("tbar", number)) if debug => return Some(self.authorise(command, number)),
            None if command == "logout" => {
                self.shell.debug = false;
                Vec::new()
            }
            None if command == "info" => tables::info(&state),
            None if command == "pwr" => tables::pwr(&state),
            None if command == "unit" => tables::unit(&state),
            None if command == "bat" => tables::bat(&state),
            None if command == "getpwr" && debug && self.authorised => tables::getpwr(&state),
            _ => return Some(self.shell.reply(command, None)),
        };
        Some(self.shell.reply(command, Some(lines)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::faults::{Faults, parse};

    fn stack(faults: &Faults) -> Sc0500 {
        let pack = SimPack { faults: faults.clone(), ..SimPack::fixed(1) };
        Sc0500 { pack, shell: Shell::default(), authorised: false }
    }

    fn send(stack: &mut Sc0500, command: &str) -> String {
        String::from_utf8(stack.respond(format!("{command}\n").as_bytes(), 0.0).unwrap()).unwrap()
    }

    #[test]
    fn getpwr_requires_login_and_tbar() {
        let mut stack = stack(&Faults::default());
        assert!(send(&mut stack, "getpwr").contains("Unknown command 'getpwr'"));
        assert!(send(&mut stack, "login wrong").ends_with("pylon>"));
        assert!(send(&mut stack, "login debug").ends_with("pylon_debug>"));
        assert!(send(&mut stack, "getpwr").contains("Unknown command 'getpwr'"));
        assert!(send(&mut stack, "tbar PPTAP00000000000").contains("Test result:fail"));
        assert!(send(&mut stack, &format!("tbar {BARCODE}")).contains("Test result:pass"));
        let values = send(&mut stack, "getpwr").matches('#').count();
        assert_eq!(values, 8 + 4 * CELLS * MODULES + 2);
        assert!(send(&mut stack, "logout").ends_with("pylon>"));
        assert!(send(&mut stack, "getpwr").contains("Unknown command"));
    }

    #[test]
    fn conditions_apply_while_set() {
        let faults = Faults::new(parse("modules=2,login,alarm=cell_undervoltage").unwrap());
        let mut stack = stack(&faults);
        assert!(send(&mut stack, "login debug").contains("Password error"));
        assert_eq!(stack.state(0.0).cells().count(), 30);
        assert_eq!(stack.state(0.0).states(), ["Idle", "Low", "Normal", "Normal"]);
        faults.set(parse("tbar").unwrap());
        send(&mut stack, "login debug");
        assert!(send(&mut stack, &format!("tbar {BARCODE}")).contains("Test result:fail"));
        faults.set(parse("logout").unwrap());
        assert!(send(&mut stack, "info").ends_with("pylon>"));
        assert_eq!(stack.state(0.0).cells().count(), 75);
    }

    #[test]
    fn modules_share_current_but_not_cells() {
        let mut battery = Battery::active(3);
        let state = StackState::of(&mut battery, 8, 5000.0);
        assert_eq!(state.modules.len(), MAX_MODULES);
        assert_eq!(state.modules[7].current, state.first().current);
        assert_ne!(state.modules[0].cells, state.modules[1].cells);
        assert_eq!(StackState::of(&mut battery, 8, 5000.0), state);
    }
}
