//! The failure tables. Seven bytes are the same in A5 (command 98) and D2 (registers 3A to 3D); the
//! third dialect has a table with levels instead. Level 1 warns, level 2 has acted.

use crate::model::{Alarm, Reading};
use crate::protocol::{StatusWord, status_word};

pub(super) fn note_failures(bytes: [u8; FAILURES.len()], into: &mut Reading) {
    for (word, byte) in FAILURES.iter().zip(bytes) {
        word.decode(byte, into);
    }
}

/// A full battery is no alarm. Bits 4 and 5 of byte 6
/// are in the paper of D2 only, but a recorded A5 board had bit 4 set while its discharging
/// transistor was off for no other reason.
pub(crate) static FAILURES: [StatusWord; 7] = [
    status_word!("failure_0";
        0 CellOvervoltageWarning, 1 CellOvervoltage, 2 CellUndervoltageWarning, 3 CellUndervoltage,
        4 PackOvervoltageWarning, 5 PackOvervoltage, 6 PackUndervoltageWarning, 7 PackUndervoltage),
    status_word!("failure_1";
        0 ChargeOvertemperatureWarning, 1 ChargeOvertemperature,
        2 ChargeUndertemperatureWarning, 3 ChargeUndertemperature,
        4 DischargeOvertemperatureWarning, 5 DischargeOvertemperature,
        6 DischargeUndertemperatureWarning, 7 DischargeUndertemperature),
    status_word!("failure_2";
        0 ChargeOvercurrentWarning, 1 ChargeOvercurrent,
        2 DischargeOvercurrentWarning, 3 DischargeOvercurrent,
        4 "soc_high", 5 "soc_very_high", 6 LowSocWarning, 7 LowBattery),
    status_word!("failure_3";
        0 CellDifferenceWarning, 1 CellDifference,
        2 TemperatureDifferenceWarning, 3 TemperatureDifference),
    status_word!("failure_4";
        0 ChargeMosOvertemperature, 1 DischargeMosOvertemperature,
        2 ChargeMosSensorFailure, 3 DischargeMosSensorFailure,
        4 ChargeMosStuck, 5 DischargeMosStuck, 6 ChargeMosOpen, 7 DischargeMosOpen),
    status_word!("failure_5";
        0 AfeFailure, 1 SamplingFailure, 2 TemperatureSensorFailure, 3 EepromFailure,
        4 ClockFailure, 5 PrechargeFailure, 6 CommunicationFailure, 7 InternalCommunicationFailure),
    status_word!("failure_6";
        0 CurrentSensorFailure, 1 VoltageSensorFailure, 2 ShortCircuit, 3 ChargeForbidden,
        4 "mos_switched_off_externally", 5 "charging_cabinet_offline"),
];

pub(super) fn note_levels(bytes: [u8; FLAGS.len()], into: &mut Reading) {
    for (levels, byte) in LEVELS.iter().zip(bytes) {
        for ([warning, protection], level) in levels.iter().zip([byte & 7, byte >> 3 & 7]) {
            into.alarms.note(*warning, level == 1);
            into.alarms.note(*protection, level > 1);
        }
    }
    for (index, (word, byte)) in FLAGS.iter().zip(bytes).enumerate() {
        let levels = if index < LEVELS.len() { 0x3F } else { 0 };
        word.decode(byte & !levels, into);
    }
}

/// Warning and protection of bits 0 to 2 and of bits 3 to 5 of the first bytes.
pub(crate) const LEVELS: [[[Alarm; 2]; 2]; 8] = {
    use Alarm::*;
    [
        [[CellOvervoltageWarning, CellOvervoltage], [CellUndervoltageWarning, CellUndervoltage]],
        [
            [CellDifferenceWarning, CellDifference],
            [ChargeOvertemperatureWarning, ChargeOvertemperature],
        ],
        [
            [ChargeUndertemperatureWarning, ChargeUndertemperature],
            [DischargeOvertemperatureWarning, DischargeOvertemperature],
        ],
        [
            [DischargeUndertemperatureWarning, DischargeUndertemperature],
            [TemperatureDifferenceWarning, TemperatureDifference],
        ],
        [[PackOvervoltageWarning, PackOvervoltage], [PackUndervoltageWarning, PackUndervoltage]],
        [
            [ChargeOvercurrentWarning, ChargeOvercurrent],
            [DischargeOvercurrentWarning, DischargeOvercurrent],
        ],
        [[LowSocWarning, LowBattery], [LowSohWarning, LowSohWarning]],
        [[MosOvertemperatureWarning, MosOvertemperature], [ThermalRunaway, ThermalRunaway]],
    ]
};

/// The single bits of the same bytes. The fault of the parallel link is permanently on in a recorded
/// pack that works, so it is a state and no alarm.
pub(crate) static FLAGS: [StatusWord; 14] = [
    status_word!("failure_0"; 6 "charger_connected", 7 CommunicationFailure),
    status_word!("failure_1"; 6 "discharger_connected", 7 CommunicationFailure),
    status_word!("failure_2"; 6 ChargeMosOvertemperature, 7 ChargeMosSensorFailure),
    status_word!("failure_3"; 6 DischargeMosOvertemperature, 7 DischargeMosSensorFailure),
    status_word!("failure_4"; 6 ShortCircuit, 7 "upgrading"),
    status_word!("failure_5"; 6 ChargeUndervoltageWarning, 7 DischargeOvervoltageWarning),
    status_word!("failure_6"; 6 "parallel_communication", 7 "parallel_communication_fault"),
    status_word!("failure_7";),
    status_word!("failure_8";),
    status_word!("failure_9";),
    status_word!("failure_10";),
    status_word!("failure_11";
        0 AfeFailure, 1 AfeFailure, 2 SamplingFailure, 3 VoltageSensorFailure, 4 CellDisconnected,
        5 VoltageSensorFailure, 6 CurrentSensorFailure, 7 TemperatureSensorFailure),
    status_word!("failure_12";
        0 TemperatureSensorFailure, 1 EepromFailure, 2 FlashFailure, 3 ClockFailure,
        4 ChargeMosFailure, 5 DischargeMosFailure, 6 PrechargeFailure, 7 PrechargeFailure),
    status_word!("failure_13";
        0 "charging_off_by_bus", 1 "discharging_off_by_bus", 2 "charging_off_by_switch",
        3 "discharging_off_by_switch", 4 "fan_on", 5 "heater_on", 6 "current_limiting",
        7 HeaterFailure),
];
