//! One vocabulary of protections, warnings and faults for all brands, so that an automation that
//! watches `alarm_cell_overvoltage` works for every battery.

use std::collections::BTreeMap;

use serde::Serialize;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The battery still works as usual.
    Warning,
    /// The battery has stopped charging or discharging to protect itself.
    Protection,
    /// A part of the battery is defective.
    Fault,
}

macro_rules! alarms {
    ($($variant:ident $name:literal $severity:ident $text:literal;)*) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Alarm { $($variant,)* }

        impl Alarm {
            pub const ALL: &[Alarm] = &[$(Alarm::$variant,)*];

            /// Name in topics and JSON.
            pub fn name(self) -> &'static str {
                match self { $(Alarm::$variant => $name,)* }
            }

            pub fn severity(self) -> Severity {
                match self { $(Alarm::$variant => Severity::$severity,)* }
            }

            pub fn text(self) -> &'static str {
                match self { $(Alarm::$variant => $text,)* }
            }
        }
    };
}

// The warning that precedes a protection has the name of the protection with `_warning`.
alarms! {
    CellOvervoltage "cell_overvoltage" Protection "Cell overvoltage";
    CellUndervoltage "cell_undervoltage" Protection "Cell undervoltage";
    PackOvervoltage "pack_overvoltage" Protection "Pack overvoltage";
    PackUndervoltage "pack_undervoltage" Protection "Pack undervoltage";
    CellDifference "cell_voltage_difference" Protection "Cell voltage difference";
    OvervoltageLockout "overvoltage_lockout" Protection "Locked after repeated overvoltage";
    UndervoltageLockout "undervoltage_lockout" Protection "Locked after repeated undervoltage";
    ChargeOvercurrent "charge_overcurrent" Protection "Charge overcurrent";
    DischargeOvercurrent "discharge_overcurrent" Protection "Discharge overcurrent";
    DischargeOvercurrent2 "discharge_overcurrent_2" Protection "Discharge overcurrent, second level";
    OvercurrentLockout "overcurrent_lockout" Protection "Locked after repeated overcurrent";
    ShortCircuit "short_circuit" Protection "Short circuit";
    ReverseConnection "reverse_connection" Protection "Reverse connection";
    ChargeOvertemperature "charge_overtemperature" Protection "Charge overtemperature";
    ChargeUndertemperature "charge_undertemperature" Protection "Charge undertemperature";
    DischargeOvertemperature "discharge_overtemperature" Protection "Discharge overtemperature";
    DischargeUndertemperature "discharge_undertemperature" Protection "Discharge undertemperature";
    AmbientOvertemperature "ambient_overtemperature" Protection "Ambient overtemperature";
    AmbientUndertemperature "ambient_undertemperature" Protection "Ambient undertemperature";
    MosOvertemperature "mos_overtemperature" Protection "MOSFET overtemperature";
    ChargeMosOvertemperature "charge_mos_overtemperature" Protection "Charge MOSFET overtemperature";
    DischargeMosOvertemperature "discharge_mos_overtemperature" Protection "Discharge MOSFET overtemperature";
    MosUndertemperature "mos_undertemperature" Protection "MOSFET undertemperature";
    MosSoftwareLock "mos_software_lock" Protection "MOSFETs turned off by command";
    CellOvertemperature "cell_overtemperature" Protection "Cell overtemperature";
    CellUndertemperature "cell_undertemperature" Protection "Cell undertemperature";
    TemperatureDifference "temperature_difference" Protection "Temperature difference";
    ThermalRunaway "thermal_runaway" Protection "Thermal runaway";
    ChargeOvervoltage "charge_overvoltage" Protection "Charge voltage too high";
    ChargeForbidden "charge_forbidden" Protection "Charging forbidden, a cell is too low";
    TransientOvercurrent "transient_overcurrent" Protection "Transient overcurrent";
    ShortCircuitLockout "short_circuit_lockout" Protection "Locked after short circuit";
    LowBattery "low_battery" Protection "Low battery";
    ChargeShortCircuit "charge_short_circuit" Protection "Short circuit while charging";
    DischargeShortCircuit "discharge_short_circuit" Protection "Short circuit while discharging";
    DischargeOvercurrent3 "discharge_overcurrent_3" Protection "Discharge overcurrent, third level";
    ChipProtectionA "chip_protection_a" Protection "Protection by the measuring chip, A";
    ChipProtectionB "chip_protection_b" Protection "Protection by the measuring chip, B";
    GpsLock "gps_lock" Protection "Locked by the GPS module";
    CellOvervoltageWarning "cell_overvoltage_warning" Warning "Cell overvoltage warning";
    CellUndervoltageWarning "cell_undervoltage_warning" Warning "Cell undervoltage warning";
    PackOvervoltageWarning "pack_overvoltage_warning" Warning "Pack overvoltage warning";
    PackUndervoltageWarning "pack_undervoltage_warning" Warning "Pack undervoltage warning";
    CellDifferenceWarning "cell_voltage_difference_warning" Warning "Cell voltage difference warning";
    TemperatureDifferenceWarning "temperature_difference_warning" Warning "Temperature difference warning";
    ChargeOvercurrentWarning "charge_overcurrent_warning" Warning "Charge overcurrent warning";
    DischargeOvercurrentWarning "discharge_overcurrent_warning" Warning "Discharge overcurrent warning";
    ChargeOvertemperatureWarning "charge_overtemperature_warning" Warning "Charge overtemperature warning";
    ChargeUndertemperatureWarning "charge_undertemperature_warning" Warning "Charge undertemperature warning";
    DischargeOvertemperatureWarning "discharge_overtemperature_warning" Warning "Discharge overtemperature warning";
    DischargeUndertemperatureWarning "discharge_undertemperature_warning" Warning "Discharge undertemperature warning";
    AmbientOvertemperatureWarning "ambient_overtemperature_warning" Warning "Ambient overtemperature warning";
    AmbientUndertemperatureWarning "ambient_undertemperature_warning" Warning "Ambient undertemperature warning";
    MosOvertemperatureWarning "mos_overtemperature_warning" Warning "MOSFET overtemperature warning";
    MosUndertemperatureWarning "mos_undertemperature_warning" Warning "MOSFET undertemperature warning";
    CellOvertemperatureWarning "cell_overtemperature_warning" Warning "Cell overtemperature warning";
    CellUndertemperatureWarning "cell_undertemperature_warning" Warning "Cell undertemperature warning";
    LowSocWarning "low_soc_warning" Warning "Low state of charge warning";
    LowSohWarning "low_soh_warning" Warning "Low state of health warning";
    ChargeUndervoltageWarning "charge_undervoltage_warning" Warning "Charge voltage too low warning";
    DischargeOvervoltageWarning "discharge_overvoltage_warning" Warning "Discharge voltage too high warning";
    ChargeMosWarning "charge_mos_warning" Warning "Charge MOSFET warning";
    ExternalStorageWarning "external_storage_warning" Warning "External storage warning";
    InternalBusWarning "internal_bus_warning" Warning "Internal bus warning";
    EepromWarning "eeprom_warning" Warning "EEPROM warning";
    AfeWarning "afe_warning" Warning "Measuring chip warning";
    AerosolWarning "aerosol_warning" Warning "Aerosol detected";
    WireResistanceWarning "wire_resistance_warning" Warning "Resistance of a balance wire too high";
    DefaultPasswordWarning "default_password_warning" Warning "Factory password still in use";
    GpsDisconnectedWarning "gps_disconnected_warning" Warning "GPS module disconnected";
    BatteryUndertemperatureWarning "battery_undertemperature_warning" Warning "Battery undertemperature warning";
    BatteryOvertemperatureWarning "battery_overtemperature_warning" Warning "Battery overtemperature warning";
    CellFailure "cell_failure" Fault "Cell failure";
    FuseBlown "fuse_blown" Fault "Fuse blown";
    HeaterFailure "heater_failure" Fault "Heater failure";
    CurrentLimiterFailure "current_limiter_failure" Fault "Current limiter failure";
    SamplingFailure "sampling_failure" Fault "Measuring failure";
    TemperatureSensorFailure "temperature_sensor_failure" Fault "Temperature sensor failure";
    ChargeMosFailure "charge_mos_failure" Fault "Charge MOSFET failure";
    DischargeMosFailure "discharge_mos_failure" Fault "Discharge MOSFET failure";
    ChargeMosStuck "charge_mos_stuck" Fault "Charge MOSFET stuck on";
    DischargeMosStuck "discharge_mos_stuck" Fault "Discharge MOSFET stuck on";
    ChargeMosOpen "charge_mos_open" Fault "Charge MOSFET does not turn on";
    DischargeMosOpen "discharge_mos_open" Fault "Discharge MOSFET does not turn on";
    ChargeMosSensorFailure "charge_mos_sensor_failure" Fault "Charge MOSFET temperature sensor failure";
    DischargeMosSensorFailure "discharge_mos_sensor_failure" Fault "Discharge MOSFET temperature sensor failure";
    AfeFailure "afe_failure" Fault "Measuring chip failure";
    OscillatorFailure "oscillator_failure" Fault "Crystal oscillator failure";
    EepromFailure "eeprom_failure" Fault "EEPROM failure";
    SystemFailure "system_failure" Fault "System failure";
    VoltageSensorFailure "voltage_sensor_failure" Fault "Voltage sensor failure";
    CurrentSensorFailure "current_sensor_failure" Fault "Current sensor failure";
    KeySwitchFailure "key_switch_failure" Fault "Key switch failure";
    CellDisconnected "cell_disconnected" Fault "Cell wire disconnected";
    OutputConnectionFailure "output_connection_failure" Fault "Output connection failure";
    ClockFailure "clock_failure" Fault "Clock failure";
    FlashFailure "flash_failure" Fault "Flash memory failure";
    PrechargeFailure "precharge_failure" Fault "Precharge failure";
    CommunicationFailure "communication_failure" Fault "Communication failure";
    InternalCommunicationFailure "internal_communication_failure" Fault "Internal communication failure";
    OtherFailure "other_failure" Fault "Failure without a name";
    CellCountMismatch "cell_count_mismatch" Fault "Cell count differs from the setting";
    CoprocessorFailure "coprocessor_failure" Fault "Coprocessor does not answer";
    DischargeOnFailure "discharge_on_failure" Fault "Discharging could not be switched on";
    ParallelModuleFailure "parallel_module_failure" Fault "Parallel module failure";
    ShortCircuitReleaseFailure "short_circuit_release_failure" Fault "Short circuit could not be released";
}

impl Alarm {
    pub fn from_name(name: &str) -> Option<Alarm> {
        Alarm::ALL.iter().copied().find(|alarm| alarm.name() == name)
    }

    fn bit(self) -> u128 {
        1 << self as u32
    }
}

const _: () = assert!(Alarm::ALL.len() <= u128::BITS as usize, "the sets need more bits");

/// The alarms of these bits, in the order of [`Alarm::ALL`].
fn members(mut bits: u128) -> impl Iterator<Item = Alarm> + Clone {
    std::iter::from_fn(move || {
        let alarm = Alarm::ALL.get(bits.trailing_zeros() as usize).copied()?;
        bits &= bits - 1;
        Some(alarm)
    })
}

/// Abnormal states that recorded replies of consoles contain. No document lists all of them.
const DOCUMENTED: [&str; 4] = ["Low", "High", "Over", "SysError"];

/// The alarms of one reading.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AlarmSet {
    /// Every alarm that the battery reports, active or not: a bit for each, in the order of [`Alarm::ALL`].
    known: u128,
    active: u128,
    unknown_bits: BTreeMap<&'static str, u64>,
    /// States of a text console; `None` for a normal one.
    statuses: BTreeMap<String, Option<String>>,
}

impl AlarmSet {
    /// Adds the state of one bit. Several bits may stand for the same alarm: any of them raises it.
    pub fn note(&mut self, alarm: Alarm, active: bool) {
        self.known |= alarm.bit();
        self.active |= if active { alarm.bit() } else { 0 };
    }

    /// Adds the set bits of a status word that have no documented meaning. They raise no problem.
    pub fn note_unknown_bits(&mut self, word: &'static str, bits: impl Into<u64>) {
        let bits = bits.into();
        if bits != 0 {
            *self.unknown_bits.entry(word).or_default() |= bits;
        }
    }

    /// Adds a state that a text console prints (`voltage_status`: `Low`); `None` for a normal one.
    /// An abnormal state raises a problem even when it is not documented.
    pub fn note_status(&mut self, subject: impl Into<String>, abnormal: Option<&str>) {
        self.statuses.insert(subject.into(), abnormal.map(str::to_owned));
    }

    /// The states of a text console; `None` for a normal one.
    pub fn statuses(&self) -> impl Iterator<Item = (&str, Option<&str>)> + Clone + '_ {
        self.statuses.iter().map(|(subject, status)| (subject.as_str(), status.as_deref()))
    }

    /// The abnormal states of a text console that no source describes. A word may be line noise.
    pub fn undocumented_statuses(&self) -> impl Iterator<Item = (&str, &str)> + '_ {
        let abnormal = self.statuses().filter_map(|(subject, status)| Some((subject, status?)));
        abnormal.filter(|(_, status)| !DOCUMENTED.contains(status))
    }

    /// Includes abnormal states of a text console.
    pub fn any_active(&self) -> bool {
        self.active != 0 || self.statuses.values().any(Option::is_some)
    }

    /// Every alarm that the battery reports, and whether it is active.
    pub fn iter(&self) -> impl Iterator<Item = (Alarm, bool)> + Clone + '_ {
        members(self.known).map(|alarm| (alarm, self.active & alarm.bit() != 0))
    }

    pub fn active(&self) -> impl Iterator<Item = Alarm> + '_ {
        members(self.active)
    }

    /// `None` when the battery does not report this alarm.
    pub fn get(&self, alarm: Alarm) -> Option<bool> {
        (self.known & alarm.bit() != 0).then_some(self.active & alarm.bit() != 0)
    }

    /// The battery reports no alarm at all, active or not.
    pub fn is_empty(&self) -> bool {
        self.known == 0 && self.statuses.is_empty()
    }

    /// By name of the status word.
    pub fn unknown_bits(&self) -> impl Iterator<Item = (&'static str, u64)> + Clone + '_ {
        self.unknown_bits.iter().map(|(word, bits)| (*word, *bits))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_valid_topic_levels() {
        let mut names: Vec<_> = Alarm::ALL.iter().map(|alarm| alarm.name()).collect();
        for name in &names {
            assert!(
                name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
            );
            assert!(!name.starts_with("limit_"), "{name}: reserved for thresholds");
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Alarm::ALL.len());
    }

    #[test]
    fn any_of_several_bits_raises_an_alarm() {
        let mut set = AlarmSet::default();
        set.note(Alarm::CellFailure, true);
        set.note(Alarm::CellFailure, false);
        assert_eq!(set.get(Alarm::CellFailure), Some(true));
        assert_eq!(set.get(Alarm::FuseBlown), None);
    }

    #[test]
    fn abnormal_status_counts_as_active() {
        let mut set = AlarmSet::default();
        assert!(set.is_empty());
        set.note_status("current_status", None);
        assert!(!set.is_empty() && !set.any_active());
        set.note_status("voltage_status", Some("Low"));
        assert!(set.any_active());
        let statuses: Vec<_> = set.statuses().collect();
        assert_eq!(statuses, [("current_status", None), ("voltage_status", Some("Low"))]);
    }

    #[test]
    fn unknown_bits_raise_no_alarm() {
        let mut set = AlarmSet::default();
        set.note_unknown_bits("io_status", 0x4000_u16);
        set.note_unknown_bits("voltage_status", 0_u16);
        assert_eq!(set.unknown_bits().collect::<Vec<_>>(), [("io_status", 0x4000)]);
        assert_eq!(set.active().count(), 0);
    }
}
