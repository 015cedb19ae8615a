//! Encodes the replies, line by line.

use super::{BARCODE, CELLS, StackState};
use crate::model::DeciCelsius;
use crate::sim::console::range;

fn millidegrees(value: DeciCelsius) -> i32 {
    value.0 * 100
}

/// Values end with `#` and are padded with blanks on the left.
pub(super) fn getpwr(state: &StackState) -> Vec<String> {
    let [base, volts, amps, heat] = state.states();
    let (voltage, current) = (state.voltage().0, state.first().current.0);
    let (degrees, energy) = (millidegrees(state.first().mosfet), state.energy());
    let mut lines = vec![format!(
        "{voltage:>6}#{current:>7}#{degrees:>7}#{energy:>6}# {base}# {volts}# {amps}# {heat}#"
    )];
    lines.extend(state.cells().map(|(voltage, degrees)| {
        format!("{:>4}#{:>7}# Normal# Normal#", voltage.0, millidegrees(degrees))
    }));
    lines.extend([state.error_code(), state.first().cycles].map(|number| format!("{number}#")));
    lines
}

pub(super) fn info(state: &StackState) -> Vec<String> {
    let (modules, cells) = (state.modules.len(), state.modules.len() * CELLS);
    let mut lines: Vec<String> = vec![
        "Device address      : 0".into(),
        "Manufacturer        : Pylon".into(),
        "Device name         : CMU_A".into(),
        "Board version       : SIM00V10R02_1".into(),
        "Hard  version       : V10R9C2".into(),
        "Main Soft version   : B52.28.0".into(),
        "Soft  version       : V5.2".into(),
        String::new(),
        "Barcode             :                 ".into(),
        format!("Module Barcode      : {BARCODE}                "),
        "Device Test Time    : 2021-07-10 10:27:10".into(),
        format!("Specification       : {}V/100AH", modules * 48),
        format!("Cell Number         : {cells}"),
        "Max Dischg Curr     : -40000mA".into(),
    ];
    for index in (0..modules).rev() {
        lines.extend([
            format!("BMU {index} Barcode   "),
            format!("Module:   : {}                ", StackState::serial(index)),
            format!("PCBA:     : H2SIM{index:011}"),
            String::new(),
        ]);
    }
    lines
}

pub(super) fn pwr(state: &StackState) -> Vec<String> {
    let [base, volts, amps, heat] = state.states();
    let cells: Vec<_> = state.cells().collect();
    let degrees = cells.iter().map(|cell| millidegrees(cell.1));
    let average = degrees.clone().sum::<i32>() / i32::try_from(cells.len()).unwrap_or(1);
    let (voltage, first, percent) = (state.voltage().0, state.first(), state.percent());
    let row = [
        format!("{voltage:<7}{:<7}{:<7}", first.current.0, millidegrees(first.mosfet)),
        range(degrees),
        range(cells.iter().map(|cell| cell.0.0)),
        format!("26000  27000  50323  50390  {base:<9}{volts:<9}{amps:<9}{heat:<9}"),
        format!("{percent}%          {} mAH  ", first.remaining.0),
        format!("{percent}%           {} WH ", state.energy()),
        "2026-01-03 23:52:40  Normal   Normal   Normal   Normal   ".to_owned(),
        format!("{:#x}", state.error_code()),
    ];
    vec![
        format!("AverageTempr   : {average}       "),
        format!("DC Volt        : {voltage}      "),
        format!("Bat Volt       : {voltage}      "),
        String::new(),
        "Volt   Curr   Tempr  BTlow  BThigh BVlow  BVhigh UTlow  UThigh UVlow  UVhigh Base.St  Volt.St  Curr.St  Temp.St  CoulombAH                CoulombWH              Time                 B.V.St   B.T.St   U.V.St   U.T.St   Err Code".to_owned(),
        row.concat(),
    ]
}

/// Starts at the far end of the stack.
pub(super) fn unit(state: &StackState) -> Vec<String> {
    let mut lines = vec!["Index  Volt   Curr   Tempr  BTlow  BThigh BVlow  BVhigh Base.St  Volt.St  Temp.St  CoulombAH                CoulombWH               Time".to_owned()];
    let (amps, percent) = (state.first().current.0, state.percent());
    for (module, number) in state.modules.iter().rev().zip(1..) {
        let volts = module.cells.iter().map(|cell| cell.0);
        let (sum, range) = (volts.clone().sum::<i32>(), range(volts));
        let degrees = millidegrees(module.average);
        lines.push(format!(
            "{number:<7}{sum:<7}{amps:<7}{degrees:<7}{degrees:<7}{degrees:<7}{range} Charge   Normal   Normal    {percent}%  46477 mAH  {percent}%   2238 WH 2026-01-03 23:52:40",
        ));
    }
    lines
}

/// Starts at the far end of the stack.
pub(super) fn bat(state: &StackState) -> Vec<String> {
    let mut lines = vec!["Battery  Volt     Curr     Tempr    Volt. State  Temp. State  CoulombAH           CoulombWH      BAL".to_owned()];
    let cells: Vec<_> = state.cells().collect();
    let far_first = cells.chunks(CELLS).rev().flatten();
    let (amps, percent) = (state.first().current.0, state.percent());
    for ((voltage, degrees), index) in far_first.zip(0..) {
        lines.push(format!(
            "{index:<9}{:<9}{amps:<9}{:<9}Normal       Normal       {percent}%  42041 mAH  {percent}%  132 WH  N",
            voltage.0, millidegrees(*degrees),
        ));
    }
    lines
}
