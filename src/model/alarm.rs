//! One vocabulary of protections, warnings and faults for all brands, so that an automation that
//! watches `alarm_cell_overvoltage` works for every battery.

use std::collections::BTreeMap;

use serde::Serialize;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The battery warns and goes on.
    Warning,
    /// The battery has cut something off to save itself.
    Protection,
    /// Something in the battery is broken.
    Fault,
}

/// Declares the vocabulary: variant, name for topics and JSON, severity, words for people.
macro_rules! alarms {
    ($($variant:ident $name:literal $severity:ident $words:literal;)*) => {
        /// A protection, warning or fault that some brand documents.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[allow(missing_docs)]
        pub enum Alarm { $($variant,)* }

        impl Alarm {
            /// The whole vocabulary.
            pub const ALL: &[Alarm] = &[$(Alarm::$variant,)*];

            /// Name in topics and JSON.
            pub fn name(self) -> &'static str {
                match self { $(Alarm::$variant => $name,)* }
            }

            /// How bad it is.
            pub fn severity(self) -> Severity {
                match self { $(Alarm::$variant => Severity::$severity,)* }
            }

            /// What people read.
            pub fn text(self) -> &'static str {
                match self { $(Alarm::$variant => $words,)* }
            }
        }
    };
}

// A protection has the plain name; a mere warning of the same kind ends in `_warning`.
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
    /// The alarm of that name.
    pub fn from_name(name: &str) -> Option<Alarm> {
        Alarm::ALL.iter().copied().find(|alarm| alarm.name() == name)
    }
}

/// Which alarms a brand knows, which of them are active, and the bits that nobody has explained.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AlarmSet {
    known: BTreeMap<Alarm, bool>,
    unknown: BTreeMap<&'static str, u64>,
    /// What a console says about a subject, where it is a worry.
    words: BTreeMap<String, Option<String>>,
}

impl AlarmSet {
    /// Records what one bit says. Several bits may stand for one alarm: any of them raises it.
    pub fn note(&mut self, alarm: Alarm, active: bool) {
        *self.known.entry(alarm).or_default() |= active;
    }

    /// Keeps the set bits of a status word that have no documented meaning. They are no problem.
    pub fn note_unknown_bits(&mut self, word: &'static str, bits: impl Into<u64>) {
        let bits = bits.into();
        if bits != 0 {
            *self.unknown.entry(word).or_default() |= bits;
        }
    }

    /// Records what a console says about a subject (`voltage_status`): a worry in its own word, or
    /// nothing to worry about. Such a word raises a problem although nobody documented it.
    pub fn note_status(&mut self, subject: impl Into<String>, worry: Option<&str>) {
        self.words.insert(subject.into(), worry.map(str::to_owned));
    }

    /// Every subject that a console speaks of, with its word where that is a worry.
    pub fn statuses(&self) -> impl Iterator<Item = (&str, Option<&str>)> + '_ {
        self.words.iter().map(|(subject, word)| (subject.as_str(), word.as_deref()))
    }

    /// What is wrong, for lists: names of active alarms, then subjects with their words
    /// (`voltage status: Low`).
    pub fn raised(&self) -> impl Iterator<Item = String> + '_ {
        let words = self.statuses().filter_map(|(subject, word)| {
            Some(format!("{}: {}", subject.replace('_', " "), word?))
        });
        self.active().map(|alarm| alarm.name().to_owned()).chain(words)
    }

    /// Whether anything is wrong.
    pub fn any_active(&self) -> bool {
        self.active().next().is_some() || self.words.values().any(Option::is_some)
    }

    /// Every alarm that the brand documents, and whether it is active.
    pub fn iter(&self) -> impl Iterator<Item = (Alarm, bool)> + '_ {
        self.known.iter().map(|(alarm, active)| (*alarm, *active))
    }

    /// The active ones.
    pub fn active(&self) -> impl Iterator<Item = Alarm> + '_ {
        self.iter().filter(|(_, active)| *active).map(|(alarm, _)| alarm)
    }

    /// Whether this alarm is active; `None` when the brand does not know it.
    pub fn get(&self, alarm: Alarm) -> Option<bool> {
        self.known.get(&alarm).copied()
    }

    /// True when the brand reported no alarm word at all.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty() && self.words.is_empty()
    }

    /// Set bits without a documented meaning, by status word.
    pub fn unknown_bits(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.unknown.iter().map(|(word, bits)| (*word, *bits))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_fit_a_topic() {
        let mut names: Vec<_> = Alarm::ALL.iter().map(|alarm| alarm.name()).collect();
        for name in &names {
            assert!(
                name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
            );
            assert!(!name.starts_with("limit_"), "{name} belongs to the limits of ours");
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Alarm::ALL.len());
    }

    #[test]
    fn any_bit_raises_a_shared_alarm_and_none_clears_it() {
        let mut set = AlarmSet::default();
        set.note(Alarm::CellFailure, true);
        set.note(Alarm::CellFailure, false);
        assert_eq!(set.get(Alarm::CellFailure), Some(true));
        assert_eq!(set.get(Alarm::FuseBlown), None);
    }

    #[test]
    fn a_worried_word_is_raised_with_its_subject() {
        let mut set = AlarmSet::default();
        assert!(set.is_empty());
        set.note_status("current_status", None);
        assert!(!set.is_empty() && !set.any_active());
        set.note_status("voltage_status", Some("Low"));
        set.note(Alarm::CellFailure, true);
        let raised: Vec<_> = set.raised().collect();
        assert_eq!(raised, ["cell_failure", "voltage status: Low"]);
    }

    #[test]
    fn unexplained_bits_are_kept_apart() {
        let mut set = AlarmSet::default();
        set.note_unknown_bits("io_status", 0x4000_u16);
        set.note_unknown_bits("voltage_status", 0_u16);
        assert_eq!(set.unknown_bits().collect::<Vec<_>>(), [("io_status", 0x4000)]);
        assert_eq!(set.active().count(), 0);
    }
}
