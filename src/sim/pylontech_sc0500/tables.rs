//! Encodes the replies, line by line.

use super::{BARCODE, CELLS, StackState};
use crate::model::units::DeciCelsius;

fn millidegrees(value: DeciCelsius) -> i32 {
    value.0 * 100
}

/// Values end with `#` and are padded with blanks on the left.
pub(super) fn getpwr(state: &StackState) -> Vec<String> {
    let [base, volts, amps, heat] = state.states();
    let (voltage, current) = (state.voltage().0, state.current().0);
    let (degrees, energy) = (millidegrees(state.temperature()), state.energy());
    let mut lines = vec![format!(
        "{voltage:>6}#{current:>7}#{degrees:>7}#{energy:>6}# {base}# {volts}# {amps}# {heat}#"
    )];
    for (voltage, degrees) in state.cells() {
        let degrees = millidegrees(degrees);
        lines.push(format!("{:>4}#{degrees:>7}# Normal# Normal#", voltage.0));
    }
    lines.push(format!("{}#", state.error_code()));
    lines.push(format!("{}#", state.cycles()));
    lines
}

pub(super) fn info(state: &StackState) -> Vec<String> {
    let (modules, cells) = (state.modules.len(), state.modules.len() * CELLS);
    let mut lines: Vec<String> = [
        "Device address      : 0",
        "Manufacturer        : Pylon",
        "Device name         : CMU_A",
        "Board version       : SIM00V10R02_1",
        "Hard  version       : V10R9C2",
        "Main Soft version   : B52.28.0",
        "Soft  version       : V5.2",
        "",
        "Barcode             :                 ",
    ]
    .map(str::to_owned)
    .to_vec();
    lines.push(format!("Module Barcode      : {BARCODE}                "));
    lines.push("Device Test Time    : 2021-07-10 10:27:10".to_owned());
    lines.push(format!("Specification       : {}V/100AH", modules * 48));
    lines.push(format!("Cell Number         : {cells}"));
    lines.push("Max Dischg Curr     : -40000mA".to_owned());
    for index in (0..modules).rev() {
        lines.push(format!("BMU {index} Barcode   "));
        lines.push(format!("Module:   : {}                ", StackState::serial(index)));
        lines.push(format!("PCBA:     : H2SIM{index:011}"));
        lines.push(String::new());
    }
    lines
}

pub(super) fn pwr(state: &StackState) -> Vec<String> {
    let [base, volts, amps, heat] = state.states();
    let cells: Vec<_> = state.cells().collect();
    let degrees = || cells.iter().map(|cell| millidegrees(cell.1));
    let voltages = || cells.iter().map(|cell| cell.0.0);
    let average = degrees().sum::<i32>() / i32::try_from(cells.len()).unwrap_or(1);
    let min = |list: &mut dyn Iterator<Item = i32>| list.min().unwrap_or_default();
    let max = |list: &mut dyn Iterator<Item = i32>| list.max().unwrap_or_default();
    let (min_temperature, max_temperature) = (min(&mut degrees()), max(&mut degrees()));
    let (low, high) = (min(&mut voltages()), max(&mut voltages()));
    let row = [
        format!(
            "{:<7}{:<7}{:<7}",
            state.voltage().0,
            state.current().0,
            millidegrees(state.temperature())
        ),
        format!(
            "{min_temperature:<7}{max_temperature:<7}{low:<7}{high:<7}26000  27000  50323  50390  "
        ),
        format!("{base:<9}{volts:<9}{amps:<9}{heat:<9}"),
        format!("{}%          {} mAH  ", state.percent(), state.charge()),
        format!("{}%           {} WH ", state.percent(), state.energy()),
        format!(
            "2026-01-03 23:52:40  Normal   Normal   Normal   Normal   {:#x}",
            state.error_code()
        ),
    ];
    vec![
        format!("AverageTempr   : {average}       "),
        format!("DC Volt        : {}      ", state.voltage().0),
        format!("Bat Volt       : {}      ", state.voltage().0),
        String::new(),
        "Volt   Curr   Tempr  BTlow  BThigh BVlow  BVhigh UTlow  UThigh UVlow  UVhigh Base.St  Volt.St  Curr.St  Temp.St  CoulombAH                CoulombWH              Time                 B.V.St   B.T.St   U.V.St   U.T.St   Err Code".to_owned(),
        row.concat(),
    ]
}

/// Starts at the far end of the stack.
pub(super) fn unit(state: &StackState) -> Vec<String> {
    let mut lines = vec!["Index  Volt   Curr   Tempr  BTlow  BThigh BVlow  BVhigh Base.St  Volt.St  Temp.St  CoulombAH                CoulombWH               Time".to_owned()];
    for (module, number) in state.modules.iter().rev().zip(1..) {
        let volts = || module.cells.iter().map(|cell| cell.0);
        let (low, high) = (volts().min().unwrap_or_default(), volts().max().unwrap_or_default());
        let sum: i32 = volts().sum();
        let degrees = millidegrees(module.average);
        lines.push(format!(
            "{number:<7}{sum:<7}{:<7}{degrees:<7}{degrees:<7}{degrees:<7}{low:<7}{high:<8}Charge   Normal   Normal    {}%  46477 mAH  {}%   2238 WH 2026-01-03 23:52:40",
            state.current().0, state.percent(), state.percent(),
        ));
    }
    lines
}

/// Starts at the far end of the stack.
pub(super) fn bat(state: &StackState) -> Vec<String> {
    let mut lines = vec!["Battery  Volt     Curr     Tempr    Volt. State  Temp. State  CoulombAH           CoulombWH      BAL".to_owned()];
    let cells: Vec<_> = state.cells().collect();
    let far_first = cells.chunks(CELLS).rev().flatten();
    for ((voltage, degrees), index) in far_first.zip(0..) {
        lines.push(format!(
            "{index:<9}{:<9}{:<9}{:<9}Normal       Normal       {}%  42041 mAH  {}%  132 WH  N",
            voltage.0,
            state.current().0,
            millidegrees(*degrees),
            state.percent(),
            state.percent(),
        ));
    }
    lines
}
