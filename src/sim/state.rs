//! The state of a simulated pack, in whole numbers of the units that Daren packs use, so that no
//! precision is lost on the way to the reader.

use std::collections::BTreeSet;

use super::faults::Fault;
use crate::model::{Alarm, CentiPercent, DeciCelsius, MilliampHours, Milliamps, Millivolts};
use crate::protocol::status_word::{Bit, StatusWord};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackState {
    /// In steps of 10 mV.
    pub voltage: Millivolts,
    /// Positive while charging, in steps of 10 mA.
    pub current: Milliamps,
    pub soc: CentiPercent,
    /// In whole per cent.
    pub soh: CentiPercent,
    /// `full`, `remaining` and `design` are in steps of 10 mAh.
    pub full: MilliampHours,
    pub remaining: MilliampHours,
    pub design: MilliampHours,
    /// Total charge and discharge, in whole ampere-hours.
    pub charged: MilliampHours,
    pub discharged: MilliampHours,
    pub cycles: u32,
    pub cells: Vec<Millivolts>,
    /// Has the length of `cells`.
    pub balancing: Vec<bool>,
    pub ambient: DeciCelsius,
    pub average: DeciCelsius,
    pub mosfet: DeciCelsius,
    /// Sensors between the cells.
    pub sensors: Vec<DeciCelsius>,
    pub charging: bool,
    pub discharging: bool,
    pub alarms: BTreeSet<Alarm>,
}

impl PackState {
    /// 64 % and sixteen cells with a spread of 17 mV.
    pub fn at_rest() -> Self {
        let cells = [
            3309, 3312, 3314, 3313, 3311, 3315, 3313, 3314, 3326, 3312, 3313, 3315, 3314, 3312,
            3313, 3314,
        ];
        PackState {
            voltage: Millivolts(53_020),
            current: Milliamps(0),
            soc: CentiPercent(6400),
            soh: CentiPercent(10_000),
            full: MilliampHours(100_000),
            remaining: MilliampHours(64_000),
            design: MilliampHours(100_000),
            charged: MilliampHours(6_400_000),
            discharged: MilliampHours(6_300_000),
            cycles: 63,
            cells: cells.map(Millivolts).to_vec(),
            balancing: vec![false; cells.len()],
            ambient: DeciCelsius(220),
            average: DeciCelsius(215),
            mosfet: DeciCelsius(210),
            sensors: [220, 215, 215, 210].map(DeciCelsius).to_vec(),
            charging: true,
            discharging: true,
            alarms: BTreeSet::new(),
        }
    }

    /// Changes the number of cells; the last cell is repeated.
    pub fn with_cells(mut self, count: usize) -> Self {
        let last = self.cells.last().copied().unwrap_or_default();
        self.cells.resize(count, last);
        self.balancing.resize(count, false);
        self.voltage = terminal_voltage(&self.cells);
        self
    }

    /// One cell in the middle differs as far as a worn-out cell does, and the alarms follow from it.
    /// Readers regard a jump of more than 500 mV as implausible.
    fn with_weak_cell(mut self) -> Self {
        let middle = self.cells.len() / 2;
        if let Some(cell) = self.cells.get_mut(middle) {
            cell.0 = match self.current.0 {
                1.. => (cell.0 + 370).min(3700),
                0 => cell.0 - 40,
                _ => cell.0 - 470,
            };
        }
        self.voltage = terminal_voltage(&self.cells);
        self.apply_protections()
    }

    pub(super) fn with_conditions(mut self, conditions: &[Fault]) -> Self {
        for condition in conditions {
            match *condition {
                Fault::Alarm(alarm) => {
                    self.alarms.insert(alarm);
                }
                Fault::Cells(count) => self = self.with_cells(count),
                Fault::WeakCell => self = self.with_weak_cell(),
                _ => {}
            }
        }
        self
    }

    /// A status word with the alarms, the switches and the direction of the current.
    pub(super) fn word(&self, word: &StatusWord) -> u64 {
        word.encode(|bit| match bit {
            Bit::Raises(alarm) => self.alarms.contains(&alarm),
            Bit::ChargeSwitch => self.charging,
            Bit::DischargeSwitch => self.discharging,
            Bit::State("charging") => self.current.0 > 0,
            Bit::State("discharging") => self.current.0 < 0,
            Bit::State(_) => false,
        })
    }

    /// Which of the sixteen cells after `first` are balancing.
    pub(super) fn balancing_word(&self, first: usize) -> u16 {
        let cells = self.balancing.iter().skip(first).take(16).enumerate();
        cells.fold(0, |word, (bit, on)| word | u16::from(*on) << bit)
    }

    /// Raises the alarms of the pack and opens its switches. A recorded pack warned, and kept charging,
    /// with a cell at 3.694 V and a spread of 325 mV; the other thresholds are usual for LiFePO4.
    pub(super) fn apply_protections(mut self) -> Self {
        let lowest = self.cells.iter().min().map_or(3300, |cell| cell.0);
        let highest = self.cells.iter().max().map_or(3300, |cell| cell.0);
        let coldest = self.sensors.iter().min().map_or(200, |sensor| sensor.0);
        let hottest = self.sensors.iter().max().map_or(200, |sensor| sensor.0);
        let current = self.current.0;
        let thresholds = [
            (Alarm::CellOvervoltageWarning, highest >= 3650),
            (Alarm::CellOvervoltage, highest >= 3750),
            (Alarm::CellUndervoltageWarning, lowest <= 2800),
            (Alarm::CellUndervoltage, lowest <= 2500),
            (Alarm::CellDifferenceWarning, highest - lowest >= 300),
            (Alarm::LowSocWarning, self.soc.0 < 1000),
            (Alarm::ChargeOvercurrentWarning, current >= 105_000),
            (Alarm::ChargeOvercurrent, current >= 120_000),
            (Alarm::DischargeOvercurrentWarning, current <= -105_000),
            (Alarm::DischargeOvercurrent, current <= -120_000),
            (Alarm::ChargeOvertemperatureWarning, hottest >= 500),
            (Alarm::ChargeOvertemperature, hottest >= 550),
            (Alarm::ChargeUndertemperatureWarning, coldest <= 50),
            (Alarm::ChargeUndertemperature, coldest <= 0),
        ];
        self.alarms
            .extend(thresholds.into_iter().filter(|(_, over)| *over).map(|(alarm, _)| alarm));
        let any_active = |alarms: &[Alarm]| alarms.iter().any(|alarm| self.alarms.contains(alarm));
        self.charging &= !any_active(&[
            Alarm::CellOvervoltage,
            Alarm::ChargeOvercurrent,
            Alarm::ChargeOvertemperature,
            Alarm::ChargeUndertemperature,
        ]);
        self.discharging &= !any_active(&[Alarm::CellUndervoltage, Alarm::DischargeOvercurrent]);
        self
    }
}

/// Packs report the sum of the cells in steps of 10 mV.
pub(super) fn terminal_voltage(cells: &[Millivolts]) -> Millivolts {
    Millivolts((cells.iter().map(|cell| cell.0).sum::<i32>() + 5) / 10 * 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_raise_alarms_and_open_switches() {
        let mut state = PackState::at_rest();
        state.cells[15] = Millivolts(3694);
        let seen = state.clone().apply_protections();
        assert_eq!(
            seen.alarms,
            BTreeSet::from([Alarm::CellOvervoltageWarning, Alarm::CellDifferenceWarning])
        );
        assert!(seen.charging);
        state.cells[15] = Millivolts(3750);
        let seen = state.apply_protections();
        assert!(seen.alarms.contains(&Alarm::CellOvervoltage));
        assert_eq!((seen.charging, seen.discharging), (false, true));
    }

    #[test]
    fn alarms_of_a_weak_cell_fit_the_direction_of_the_current() {
        let alarms = |current| {
            let state = PackState { current: Milliamps(current), ..PackState::at_rest() };
            state.with_conditions(&[Fault::WeakCell]).alarms
        };
        let charging = [Alarm::CellOvervoltageWarning, Alarm::CellDifferenceWarning];
        assert_eq!(alarms(20_000), BTreeSet::from(charging));
        assert_eq!(alarms(-20_000), BTreeSet::from([Alarm::CellDifferenceWarning]));
        assert_eq!(alarms(0), BTreeSet::new());
    }

    #[test]
    fn pack_at_rest_is_consistent() {
        let state = PackState::at_rest();
        assert_eq!(state.clone().apply_protections(), state);
        assert_eq!(terminal_voltage(&state.cells), state.voltage);
        assert_eq!(state.cells.iter().max(), Some(&Millivolts(3326)));
        assert_eq!(state.cells.iter().min(), Some(&Millivolts(3309)));
        let shorter = state.with_cells(15);
        assert_eq!((shorter.cells.len(), shorter.voltage), (15, Millivolts(49_710)));
    }
}
