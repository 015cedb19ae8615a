//! Status words. Drivers decode them and simulators encode them.

use crate::model::Reading;
use crate::protocol::{StatusWord, status_word};

/// The error word of record 02. Bits 0 to 15 exist in every layout, the others in that with 32 cells.
/// From the vendor's Modbus papers V1.0 and V1.1 and, from bit 24 on, syssi/esphome-jk-bms.
///
/// Bits 0 and 19 are set on healthy packs (long wires, factory password), so they are warnings. Bit 4
/// is also set at the end of a charge; esphome-jk-bms calls it "fully charged".
pub static ERRORS: StatusWord = status_word!("errors";
    0 WireResistanceWarning, 1 MosOvertemperature, 2 CellCountMismatch, 3 CurrentSensorFailure,
    4 CellOvervoltage, 5 PackOvervoltage, 6 ChargeOvercurrent, 7 ChargeShortCircuit,
    8 ChargeOvertemperature, 9 ChargeUndertemperature, 10 CoprocessorFailure, 11 CellUndervoltage,
    12 PackUndervoltage, 13 DischargeOvercurrent, 14 DischargeShortCircuit,
    15 DischargeOvertemperature, 16 ChargeMosFailure, 17 DischargeMosFailure,
    18 GpsDisconnectedWarning, 19 DefaultPasswordWarning, 20 DischargeOnFailure,
    21 BatteryOvertemperatureWarning, 22 TemperatureSensorFailure, 23 ParallelModuleFailure,
    24 ShortCircuitReleaseFailure, 25 DischargeOvercurrent2, 26 DischargeOvercurrent3,
    27 DischargeUndertemperature, 28 GpsLock);

/// Tag 8B of "4E 57" replies. The order differs from that of [`ERRORS`].
pub static WARNINGS: StatusWord = status_word!("warnings";
    0 LowSocWarning, 1 MosOvertemperature, 2 PackOvervoltage, 3 PackUndervoltage,
    4 BatteryOvertemperatureWarning, 5 ChargeOvercurrent, 6 DischargeOvercurrent,
    7 CellDifference, 8 AmbientOvertemperature, 9 BatteryUndertemperatureWarning,
    10 CellOvervoltage, 11 CellUndervoltage, 12 ChipProtectionA, 13 ChipProtectionB);

/// Decodes an error word with this number of bits.
pub(super) fn decode_errors(word: u32, bits: usize, into: &mut Reading) {
    let bits = ERRORS.bits.get(..bits).unwrap_or(ERRORS.bits);
    StatusWord { bits, ..ERRORS }.decode(word, into);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Alarm;

    #[test]
    fn short_error_word_leaves_other_alarms_unknown() {
        let mut reading = Reading::default();
        decode_errors(0x8000, 16, &mut reading);
        assert_eq!(reading.alarms.iter().count(), 16);
        assert_eq!(reading.alarms.get(Alarm::ChargeMosFailure), None);
        decode_errors(0xE000_0000, 32, &mut reading);
        assert_eq!(reading.alarms.unknown_bits().collect::<Vec<_>>(), [("errors", 0xE000_0000)]);
    }
}
