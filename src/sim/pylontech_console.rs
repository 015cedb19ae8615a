//! The simulated console of low-voltage packs.
//!
//! One console reports all four packs of the stack, so the first pack on the bus answers for all of
//! them. The output has the format of a US2000C (see the driver).

use super::battery::Battery;
use super::console::{Shell, base_state, command, corrupt, level, range, request_end};
use super::faults::Faults;
use super::state::PackState;
use super::{Responder, SimBrand, SimPack};

pub static BRAND: SimBrand = SimBrand::serial(
    "pylontech-console",
    1..=PACKS,
    |pack| Box::new(Console::new(pack)),
    request_end,
    corrupt,
);

const PACKS: u8 = 4;
const CELLS: usize = 15;
/// Rows of the table, including empty slots.
const ROWS: u8 = 16;

#[derive(Debug)]
struct Console {
    packs: Vec<Battery>,
    faults: Faults,
    shell: Shell,
}

impl Console {
    /// The console in the pack with this number; the other packs have neighbouring seeds.
    fn new(SimPack { address, battery, faults, .. }: SimPack) -> Self {
        let other = |pack| battery.neighbour(i64::from(pack) - i64::from(address));
        Console { packs: (1..=PACKS).map(other).collect(), faults, shell: Shell::default() }
    }

    /// The state of a pack from 1 to 4.
    fn state(&mut self, pack: u8, seconds: f64) -> PackState {
        let state = self.packs[usize::from(pack - 1)].state(seconds);
        state.with_conditions(&self.faults.conditions(pack)).with_cells(CELLS)
    }

    fn lines(&mut self, command: &str, seconds: f64) -> Option<Vec<String>> {
        if command == "pwr" {
            let rows = (1..=ROWS).map(|pack| match pack {
                ..=PACKS => row(pack, &self.state(pack, seconds)),
                _ => absent(pack),
            });
            return Some([vec![HEAD.to_owned()], rows.collect()].concat());
        }
        let (name, pack) = command.split_once(' ')?;
        let pack = pack.parse().ok().filter(|pack| (1..=PACKS).contains(pack))?;
        let state = self.state(pack, seconds);
        match name {
            "bat" => Some(bat(&state)),
            "stat" => Some(stat(pack, &state)),
            "info" => Some(info(pack)),
            _ => None,
        }
    }
}

impl Responder for Console {
    fn respond(&mut self, request: &[u8], seconds: f64) -> Option<Vec<u8>> {
        let command = command(request)?;
        let lines = self.lines(command, seconds);
        Some(self.shell.reply(command, lines))
    }
}

const HEAD: &str = "Power Volt   Curr   Tempr  Tlow   Thigh  Vlow   Vhigh  Base.St  Volt.St  Curr.St  Temp.St  Coulomb  Time                 B.V.St   B.T.St   MosTempr M.T.St";

fn absent(pack: u8) -> String {
    format!(
        "{pack:<6}-      -      -      -      -      -      -      Absent   -        -        -        -        -                    -        -"
    )
}

fn row(pack: u8, state: &PackState) -> String {
    let (volts, amps, degrees) = (state.voltage.0, state.current.0, state.ambient.0 * 100);
    // Alarms of the simulated pack change only this state.
    let level = level(state, "overvoltage", "undervoltage");
    [
        format!("{pack:<6}{volts:<7}{amps:<7}{degrees:<7}"),
        range(state.sensors.iter().map(|sensor| sensor.0 * 100)),
        range(state.cells.iter().map(|cell| cell.0)),
        format!("{:<9}{level:<9}Normal   Normal   ", base_state(state)),
        format!("{:<9}2026-07-17 01:20:56  ", format!("{}%", state.soc.0 / 100)),
        format!("Normal   Normal   {:<9}Normal", state.mosfet.0 * 100),
    ]
    .concat()
}

fn bat(state: &PackState) -> Vec<String> {
    let head = "Battery  Volt     Curr     Tempr    Base State   Volt. State  Curr. State  Temp. State  SOC          Coulomb      BAL";
    let mut lines = vec![head.to_owned()];
    for (index, cell) in state.cells.iter().enumerate() {
        let degrees = state.sensors[index * state.sensors.len() / CELLS].0 * 100;
        let balancing = if state.balancing[index] { 'Y' } else { 'N' };
        lines.push(format!(
            "{index:<9}{:<9}{:<9}{degrees:<9}{:<13}Normal       Normal       Normal       {}%         {} mAH      {balancing}",
            cell.0, state.current.0, base_state(state), state.soc.0 / 100, state.remaining.0,
        ));
    }
    lines
}

fn stat(pack: u8, state: &PackState) -> Vec<String> {
    vec![
        format!("Device address           {pack}"),
        "Charge Times    :    26076".to_owned(),
        format!("CYCLE Times     : {:>8}", state.cycles),
        format!("SOH             : {:>8}", state.soh.0 / 100),
        format!("Pwr Percent     : {:>8}", state.soc.0 / 100),
    ]
}

fn info(pack: u8) -> Vec<String> {
    vec![
        format!("Device address      : {pack}"),
        "Manufacturer        : Pylon".to_owned(),
        "Device name         : US2000C".to_owned(),
        "Main Soft version   : B67.5".to_owned(),
        format!("Barcode             : {}", serial(pack)),
        "Specification       : 48V/100AH".to_owned(),
        format!("Cell Number         : {CELLS}"),
    ]
}

fn serial(pack: u8) -> String {
    format!("PPSIM{pack:011}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::faults::parse;

    fn send(console: &mut Console, command: &str) -> String {
        let answer = console.respond(format!("{command}\n").as_bytes(), 0.0).unwrap();
        String::from_utf8(answer).unwrap()
    }

    #[test]
    fn one_console_reports_every_pack() {
        let faults = Faults::new(parse("alarm=cell_undervoltage@3").unwrap());
        let mut console = Console::new(SimPack::new(1, Battery::active(5), faults));
        let table = send(&mut console, "pwr");
        assert_eq!(table.matches("Absent").count(), usize::from(ROWS - PACKS));
        assert_eq!(table.matches("Low  ").count(), 1);
        assert_eq!(send(&mut console, "bat 4").matches(" mAH ").count(), CELLS);
        assert!(send(&mut console, "info 2").contains(&serial(2)));
        for unknown in ["bat 5", "bat 0", "bat", "getpwr", "shut"] {
            assert!(send(&mut console, unknown).contains("Unknown command"), "{unknown}");
        }
    }

    #[test]
    fn pack_has_the_battery_of_its_address() {
        let mut console = Console::new(SimPack::new(2, Battery::active(12), Faults::default()));
        assert_eq!(console.state(4, 700.0), Battery::active(14).state(700.0).with_cells(CELLS));
    }
}
