//! Status words of service 42. Bits 0 to 8 and the temperature word are in the Basen document and
//! in every other source; the rest is from the vendor's tool.

use crate::protocol::{StatusWord, status_word};

pub(crate) static VOLTAGE: StatusWord = status_word!("voltage_status";
    0 CellOvervoltage, 1 CellUndervoltage, 2 PackOvervoltage, 3 PackUndervoltage,
    4 CellOvervoltageWarning, 5 CellUndervoltageWarning,
    6 PackOvervoltageWarning, 7 PackUndervoltageWarning, 8 CellDifferenceWarning,
    9 OvervoltageLockout, 10 UndervoltageLockout, 11 TemperatureDifferenceWarning,
    12 CellFailure, 13 FuseBlown, 14 CellDifference, 15 "system_going_to_sleep");

/// Bits 12 to 14 are a number in the vendor's tool whose order nothing confirms, and bit 10 is a
/// multiplier that it never uses: both stay unknown.
pub(crate) static CURRENT: StatusWord = status_word!("current_status";
    0 "charging", 1 "discharging", 2 ChargeOvercurrent, 3 ShortCircuit, 4 DischargeOvercurrent,
    5 DischargeOvercurrent2, 6 ChargeOvercurrentWarning, 7 DischargeOvercurrentWarning,
    8 OvercurrentLockout, 9 ReverseConnection, 11 "current_limiting");

pub(crate) static TEMPERATURE: StatusWord = status_word!("temperature_status";
    0 ChargeOvertemperature, 1 ChargeUndertemperature,
    2 DischargeOvertemperature, 3 DischargeUndertemperature,
    4 AmbientOvertemperature, 5 AmbientUndertemperature,
    6 MosOvertemperature, 7 MosUndertemperature,
    8 ChargeOvertemperatureWarning, 9 ChargeUndertemperatureWarning,
    10 DischargeOvertemperatureWarning, 11 DischargeUndertemperatureWarning,
    12 AmbientOvertemperatureWarning, 13 AmbientUndertemperatureWarning,
    14 MosOvertemperatureWarning, 15 MosUndertemperatureWarning);

/// Bit 9 is "MOS over-temperature alarm" in the Basen document.
pub(crate) static ALARM: StatusWord = status_word!("alarm_status";
    0 CellDifferenceWarning, 1 ChargeMosWarning, 2 ExternalStorageWarning, 3 InternalBusWarning,
    4 EepromWarning, 5 "led_alarm_enabled", 6 "buzzer_alarm_enabled", 7 LowSocWarning,
    8 MosOvertemperature, 9 HeaterFailure, 10 CurrentLimiterFailure, 11 SamplingFailure,
    12 CellFailure, 13 TemperatureSensorFailure, 14 ChargeMosFailure, 15 DischargeMosFailure);

/// The Basen document has the transistors the other way round; the vendor's own tool, daren2mqtt
/// and dbus-serialbattery agree on this order. Every recorded frame has both on.
pub(crate) static FET: StatusWord = status_word!("fet_status";
    0 ChargeSwitch, 1 DischargeSwitch, 2 ChargeMosFailure, 3 DischargeMosFailure,
    4 "current_limit_mode_bit0", 5 "current_limit_mode_bit1", 6 "heater_on",
    7 "constant_current_mos_on", 8 "4g_module_off", 9 "charge_signal", 10 "pack_as_power_source",
    11 "led_alarm_enabled", 12 "buzzer_enabled", 13 AfeFailure, 14 AfeWarning, 15 LowBattery);

pub(crate) static MACHINE: StatusWord = status_word!("machine_status";
    0 "initialising", 1 "self_check", 2 "ready", 3 "discharging", 4 "charging", 5 SystemFailure,
    6 "power_off", 7 "factory_mode");

/// Bit 14 is set in two recorded frames of a healthy pack.
pub(crate) static IO: StatusWord = status_word!("io_status";
    0 "charger_online", 1 "acc_signal", 2 "on_signal", 3 AerosolWarning, 4 "discharge_locked",
    5 "antitheft_locked", 6 "charge_locked", 8 "predischarge_mos_on", 12 OscillatorFailure,
    13 EepromFailure);
