//! What Daly boards say is wrong. Seven bytes are the same in A5 (command 98) and D2 (registers 3A
//! to 3D); the third dialect has a table with levels instead. Level 1 warns, level 2 has acted.

use crate::model::{Alarm, Reading};
use crate::protocol::status_word::Bit::{Raises, State};
use crate::protocol::status_word::{Bit, StatusWord};

/// Bytes of the common table.
pub(super) const FAILURES: usize = 7;

/// Puts what the common table says into the reading.
pub(super) fn note_failures(bytes: [u8; FAILURES], into: &mut Reading) {
    for (word, byte) in COMMON.iter().zip(bytes) {
        word.decode(byte, into);
    }
}

static COMMON: [StatusWord; FAILURES] = [
    StatusWord {
        name: "failure_0",
        bits: &[
            (0, Raises(Alarm::CellOvervoltageWarning)),
            (1, Raises(Alarm::CellOvervoltage)),
            (2, Raises(Alarm::CellUndervoltageWarning)),
            (3, Raises(Alarm::CellUndervoltage)),
            (4, Raises(Alarm::PackOvervoltageWarning)),
            (5, Raises(Alarm::PackOvervoltage)),
            (6, Raises(Alarm::PackUndervoltageWarning)),
            (7, Raises(Alarm::PackUndervoltage)),
        ],
    },
    StatusWord {
        name: "failure_1",
        bits: &[
            (0, Raises(Alarm::ChargeOvertemperatureWarning)),
            (1, Raises(Alarm::ChargeOvertemperature)),
            (2, Raises(Alarm::ChargeUndertemperatureWarning)),
            (3, Raises(Alarm::ChargeUndertemperature)),
            (4, Raises(Alarm::DischargeOvertemperatureWarning)),
            (5, Raises(Alarm::DischargeOvertemperature)),
            (6, Raises(Alarm::DischargeUndertemperatureWarning)),
            (7, Raises(Alarm::DischargeUndertemperature)),
        ],
    },
    // A full battery is nothing wrong.
    StatusWord {
        name: "failure_2",
        bits: &[
            (0, Raises(Alarm::ChargeOvercurrentWarning)),
            (1, Raises(Alarm::ChargeOvercurrent)),
            (2, Raises(Alarm::DischargeOvercurrentWarning)),
            (3, Raises(Alarm::DischargeOvercurrent)),
            (4, State("soc_high")),
            (5, State("soc_very_high")),
            (6, Raises(Alarm::LowSocWarning)),
            (7, Raises(Alarm::LowBattery)),
        ],
    },
    StatusWord {
        name: "failure_3",
        bits: &[
            (0, Raises(Alarm::CellDifferenceWarning)),
            (1, Raises(Alarm::CellDifference)),
            (2, Raises(Alarm::TemperatureDifferenceWarning)),
            (3, Raises(Alarm::TemperatureDifference)),
        ],
    },
    StatusWord {
        name: "failure_4",
        bits: &[
            (0, Raises(Alarm::MosOvertemperature)),
            (1, Raises(Alarm::MosOvertemperature)),
            (2, Raises(Alarm::TemperatureSensorFailure)),
            (3, Raises(Alarm::TemperatureSensorFailure)),
            // Stuck, then open.
            (4, Raises(Alarm::ChargeMosFailure)),
            (5, Raises(Alarm::DischargeMosFailure)),
            (6, Raises(Alarm::ChargeMosFailure)),
            (7, Raises(Alarm::DischargeMosFailure)),
        ],
    },
    StatusWord {
        name: "failure_5",
        bits: &[
            (0, Raises(Alarm::AfeFailure)),
            (1, Raises(Alarm::SamplingFailure)),
            (2, Raises(Alarm::TemperatureSensorFailure)),
            (3, Raises(Alarm::EepromFailure)),
            (4, Raises(Alarm::ClockFailure)),
            (5, Raises(Alarm::PrechargeFailure)),
            (6, Raises(Alarm::CommunicationFailure)),
            (7, Raises(Alarm::InternalCommunicationFailure)),
        ],
    },
    // Bits 4 and 5 are in the paper of D2 only, but a recorded A5 board had bit 4 set while its
    // discharging transistor was off for no other reason.
    StatusWord {
        name: "failure_6",
        bits: &[
            (0, Raises(Alarm::CurrentSensorFailure)),
            (1, Raises(Alarm::VoltageSensorFailure)),
            (2, Raises(Alarm::ShortCircuit)),
            (3, Raises(Alarm::ChargeForbidden)),
            (4, State("mos_switched_off_externally")),
            (5, State("charging_cabinet_offline")),
        ],
    },
];

/// Bytes of the table with levels.
pub(super) const LEVELS: usize = 14;

/// One byte of that table: what its bits 0 to 2 and 3 to 5 count, as warning and protection.
struct Level {
    low: Option<[Alarm; 2]>,
    high: Option<[Alarm; 2]>,
}

/// Puts what the table with levels says into the reading.
pub(super) fn note_levels(bytes: [u8; LEVELS], into: &mut Reading) {
    for ((level, flags), byte) in BY_LEVEL.iter().zip(&FLAGS).zip(bytes) {
        for (alarms, count) in [(level.low, byte & 7), (level.high, byte >> 3 & 7)] {
            if let Some([warning, protection]) = alarms {
                into.alarms.note(warning, count == 1);
                into.alarms.note(protection, count > 1);
            }
        }
        let counted = |said: bool, bits: u8| if said { bits } else { 0 };
        let counted = counted(level.low.is_some(), 0x07) | counted(level.high.is_some(), 0x38);
        flags.decode(byte & !counted, into);
    }
}

const fn both(low: [Alarm; 2], high: [Alarm; 2]) -> Level {
    Level { low: Some(low), high: Some(high) }
}

const NONE: Level = Level { low: None, high: None };

static BY_LEVEL: [Level; LEVELS] = [
    both(
        [Alarm::CellOvervoltageWarning, Alarm::CellOvervoltage],
        [Alarm::CellUndervoltageWarning, Alarm::CellUndervoltage],
    ),
    both(
        [Alarm::CellDifferenceWarning, Alarm::CellDifference],
        [Alarm::ChargeOvertemperatureWarning, Alarm::ChargeOvertemperature],
    ),
    both(
        [Alarm::ChargeUndertemperatureWarning, Alarm::ChargeUndertemperature],
        [Alarm::DischargeOvertemperatureWarning, Alarm::DischargeOvertemperature],
    ),
    both(
        [Alarm::DischargeUndertemperatureWarning, Alarm::DischargeUndertemperature],
        [Alarm::TemperatureDifferenceWarning, Alarm::TemperatureDifference],
    ),
    both(
        [Alarm::PackOvervoltageWarning, Alarm::PackOvervoltage],
        [Alarm::PackUndervoltageWarning, Alarm::PackUndervoltage],
    ),
    both(
        [Alarm::ChargeOvercurrentWarning, Alarm::ChargeOvercurrent],
        [Alarm::DischargeOvercurrentWarning, Alarm::DischargeOvercurrent],
    ),
    both([Alarm::LowSocWarning, Alarm::LowBattery], [Alarm::LowSohWarning, Alarm::LowSohWarning]),
    both(
        [Alarm::MosOvertemperatureWarning, Alarm::MosOvertemperature],
        [Alarm::ThermalRunaway, Alarm::ThermalRunaway],
    ),
    NONE,
    NONE,
    NONE,
    NONE,
    NONE,
    NONE,
];

const fn flags(name: &'static str, bits: &'static [(u8, Bit)]) -> StatusWord {
    StatusWord { name, bits }
}

/// The single bits of the same bytes. The fault of the parallel link is on for good in a recorded
/// pack that works, so it is a state and no problem.
static FLAGS: [StatusWord; LEVELS] = [
    flags(
        "failure_0",
        &[(6, State("charger_connected")), (7, Raises(Alarm::CommunicationFailure))],
    ),
    flags(
        "failure_1",
        &[(6, State("discharger_connected")), (7, Raises(Alarm::CommunicationFailure))],
    ),
    flags("failure_2", MOS),
    flags("failure_3", MOS),
    flags("failure_4", &[(6, Raises(Alarm::ShortCircuit)), (7, State("upgrading"))]),
    flags(
        "failure_5",
        &[
            (6, Raises(Alarm::ChargeUndervoltageWarning)),
            (7, Raises(Alarm::DischargeOvervoltageWarning)),
        ],
    ),
    flags(
        "failure_6",
        &[(6, State("parallel_communication")), (7, State("parallel_communication_fault"))],
    ),
    flags("failure_7", &[]),
    flags("failure_8", &[]),
    flags("failure_9", &[]),
    flags("failure_10", &[]),
    flags(
        "failure_11",
        &[
            (0, Raises(Alarm::AfeFailure)),
            (1, Raises(Alarm::AfeFailure)),
            (2, Raises(Alarm::SamplingFailure)),
            (3, Raises(Alarm::VoltageSensorFailure)),
            (4, Raises(Alarm::CellDisconnected)),
            (5, Raises(Alarm::VoltageSensorFailure)),
            (6, Raises(Alarm::CurrentSensorFailure)),
            (7, Raises(Alarm::TemperatureSensorFailure)),
        ],
    ),
    flags(
        "failure_12",
        &[
            (0, Raises(Alarm::TemperatureSensorFailure)),
            (1, Raises(Alarm::EepromFailure)),
            (2, Raises(Alarm::FlashFailure)),
            (3, Raises(Alarm::ClockFailure)),
            (4, Raises(Alarm::ChargeMosFailure)),
            (5, Raises(Alarm::DischargeMosFailure)),
            (6, Raises(Alarm::PrechargeFailure)),
            (7, Raises(Alarm::PrechargeFailure)),
        ],
    ),
    flags(
        "failure_13",
        &[
            (0, State("charging_off_by_bus")),
            (1, State("discharging_off_by_bus")),
            (2, State("charging_off_by_switch")),
            (3, State("discharging_off_by_switch")),
            (4, State("fan_on")),
            (5, State("heater_on")),
            (6, State("current_limiting")),
            (7, Raises(Alarm::HeaterFailure)),
        ],
    ),
];

const MOS: &[(u8, Bit)] =
    &[(6, Raises(Alarm::MosOvertemperature)), (7, Raises(Alarm::TemperatureSensorFailure))];
