//! Status words of service 42. Bits 0 to 8 and the temperature word are in the
//! Basen document and in every other source; the rest is from the vendor's tool.

use crate::model::Alarm;
use crate::protocol::status_word::Bit::{ChargeSwitch, DischargeSwitch, Raises, State};
use crate::protocol::status_word::StatusWord;

pub(super) static VOLTAGE: StatusWord = StatusWord {
    name: "voltage_status",
    bits: &[
        (0, Raises(Alarm::CellOvervoltage)),
        (1, Raises(Alarm::CellUndervoltage)),
        (2, Raises(Alarm::PackOvervoltage)),
        (3, Raises(Alarm::PackUndervoltage)),
        (4, Raises(Alarm::CellOvervoltageWarning)),
        (5, Raises(Alarm::CellUndervoltageWarning)),
        (6, Raises(Alarm::PackOvervoltageWarning)),
        (7, Raises(Alarm::PackUndervoltageWarning)),
        (8, Raises(Alarm::CellDifferenceWarning)),
        (9, Raises(Alarm::OvervoltageLockout)),
        (10, Raises(Alarm::UndervoltageLockout)),
        (11, Raises(Alarm::TemperatureDifferenceWarning)),
        (12, Raises(Alarm::CellFailure)),
        (13, Raises(Alarm::FuseBlown)),
        (14, Raises(Alarm::CellDifference)),
        (15, State("system_going_to_sleep")),
    ],
};

/// Bits 12 to 14 are a number in the vendor's tool whose order nothing confirms, and bit 10 is a
/// multiplier that it never uses: both stay unexplained.
pub(super) static CURRENT: StatusWord = StatusWord {
    name: "current_status",
    bits: &[
        (0, State("charging")),
        (1, State("discharging")),
        (2, Raises(Alarm::ChargeOvercurrent)),
        (3, Raises(Alarm::ShortCircuit)),
        (4, Raises(Alarm::DischargeOvercurrent)),
        (5, Raises(Alarm::DischargeOvercurrent2)),
        (6, Raises(Alarm::ChargeOvercurrentWarning)),
        (7, Raises(Alarm::DischargeOvercurrentWarning)),
        (8, Raises(Alarm::OvercurrentLockout)),
        (9, Raises(Alarm::ReverseConnection)),
        (11, State("current_limiting")),
    ],
};

pub(super) static TEMPERATURE: StatusWord = StatusWord {
    name: "temperature_status",
    bits: &[
        (0, Raises(Alarm::ChargeOvertemperature)),
        (1, Raises(Alarm::ChargeUndertemperature)),
        (2, Raises(Alarm::DischargeOvertemperature)),
        (3, Raises(Alarm::DischargeUndertemperature)),
        (4, Raises(Alarm::AmbientOvertemperature)),
        (5, Raises(Alarm::AmbientUndertemperature)),
        (6, Raises(Alarm::MosOvertemperature)),
        (7, Raises(Alarm::MosUndertemperature)),
        (8, Raises(Alarm::ChargeOvertemperatureWarning)),
        (9, Raises(Alarm::ChargeUndertemperatureWarning)),
        (10, Raises(Alarm::DischargeOvertemperatureWarning)),
        (11, Raises(Alarm::DischargeUndertemperatureWarning)),
        (12, Raises(Alarm::AmbientOvertemperatureWarning)),
        (13, Raises(Alarm::AmbientUndertemperatureWarning)),
        (14, Raises(Alarm::MosOvertemperatureWarning)),
        (15, Raises(Alarm::MosUndertemperatureWarning)),
    ],
};

pub(super) static ALARM: StatusWord = StatusWord {
    name: "alarm_status",
    bits: &[
        (0, Raises(Alarm::CellDifferenceWarning)),
        (1, Raises(Alarm::ChargeMosWarning)),
        (2, Raises(Alarm::ExternalStorageWarning)),
        (3, Raises(Alarm::InternalBusWarning)),
        (4, Raises(Alarm::EepromWarning)),
        (5, State("led_alarm_enabled")),
        (6, State("buzzer_alarm_enabled")),
        (7, Raises(Alarm::LowSocWarning)),
        (8, Raises(Alarm::MosOvertemperature)),
        // "MOS over-temperature alarm" in the Basen document.
        (9, Raises(Alarm::HeaterFailure)),
        (10, Raises(Alarm::CurrentLimiterFailure)),
        (11, Raises(Alarm::SamplingFailure)),
        (12, Raises(Alarm::CellFailure)),
        (13, Raises(Alarm::TemperatureSensorFailure)),
        (14, Raises(Alarm::ChargeMosFailure)),
        (15, Raises(Alarm::DischargeMosFailure)),
    ],
};

/// The Basen document has the transistors the other way round; the vendor's own tool, daren2mqtt
/// and dbus-serialbattery agree on this order. Every recorded frame has both on.
pub(super) static FET: StatusWord = StatusWord {
    name: "fet_status",
    bits: &[
        (0, ChargeSwitch),
        (1, DischargeSwitch),
        (2, Raises(Alarm::ChargeMosFailure)),
        (3, Raises(Alarm::DischargeMosFailure)),
        (4, State("current_limit_mode_bit0")),
        (5, State("current_limit_mode_bit1")),
        (6, State("heater_on")),
        (7, State("constant_current_mos_on")),
        (8, State("4g_module_off")),
        (9, State("charge_signal")),
        (10, State("pack_as_power_source")),
        (11, State("led_alarm_enabled")),
        (12, State("buzzer_enabled")),
        (13, Raises(Alarm::AfeFailure)),
        (14, Raises(Alarm::AfeWarning)),
        (15, Raises(Alarm::LowBattery)),
    ],
};

pub(super) static MACHINE: StatusWord = StatusWord {
    name: "machine_status",
    bits: &[
        (0, State("initialising")),
        (1, State("self_check")),
        (2, State("ready")),
        (3, State("discharging")),
        (4, State("charging")),
        (5, Raises(Alarm::SystemFailure)),
        (6, State("power_off")),
        (7, State("factory_mode")),
    ],
};

/// Bit 14 is set in two recorded frames of a healthy pack.
pub(super) static IO: StatusWord = StatusWord {
    name: "io_status",
    bits: &[
        (0, State("charger_online")),
        (1, State("acc_signal")),
        (2, State("on_signal")),
        (3, Raises(Alarm::AerosolWarning)),
        (4, State("discharge_locked")),
        (5, State("antitheft_locked")),
        (6, State("charge_locked")),
        (8, State("predischarge_mos_on")),
        (12, Raises(Alarm::OscillatorFailure)),
        (13, Raises(Alarm::EepromFailure)),
    ],
};
