//! The error word of record 02. Bits 0 to 15 are in every layout, the others in the 32 cell one;
//! from the vendor's Modbus papers V1.0 and V1.1 and, from bit 24 on, syssi/esphome-jk-bms.

use crate::model::{Alarm, Reading};

/// Bit 0 and bit 19 are set on healthy packs (long wires, factory password), so they warn.
///
/// Bit 4 is set at the end of a charge, too; esphome-jk-bms calls it "fully charged".
const BITS: [Alarm; 29] = [
    Alarm::WireResistanceWarning,
    Alarm::MosOvertemperature,
    Alarm::CellCountMismatch,
    Alarm::CurrentSensorFailure,
    Alarm::CellOvervoltage,
    Alarm::PackOvervoltage,
    Alarm::ChargeOvercurrent,
    Alarm::ChargeShortCircuit,
    Alarm::ChargeOvertemperature,
    Alarm::ChargeUndertemperature,
    Alarm::CoprocessorFailure,
    Alarm::CellUndervoltage,
    Alarm::PackUndervoltage,
    Alarm::DischargeOvercurrent,
    Alarm::DischargeShortCircuit,
    Alarm::DischargeOvertemperature,
    Alarm::ChargeMosFailure,
    Alarm::DischargeMosFailure,
    Alarm::GpsDisconnectedWarning,
    Alarm::DefaultPasswordWarning,
    Alarm::DischargeOnFailure,
    Alarm::BatteryOvertemperatureWarning,
    Alarm::TemperatureSensorFailure,
    Alarm::ParallelModuleFailure,
    Alarm::ShortCircuitReleaseFailure,
    Alarm::DischargeOvercurrent2,
    Alarm::DischargeOvercurrent3,
    Alarm::DischargeUndertemperature,
    Alarm::GpsLock,
];

/// Puts what the word of so many bits says into the reading.
pub(super) fn note(word: u32, bits: usize, into: &mut Reading) {
    let mut unknown = word;
    for (bit, &alarm) in BITS.iter().enumerate().take(bits) {
        into.alarms.note(alarm, word & 1 << bit != 0);
        unknown &= !(1 << bit);
    }
    into.alarms.note_unknown_bits("errors", unknown);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bit_has_a_name_of_its_own() {
        for (bit, alarm) in BITS.into_iter().enumerate() {
            let mut reading = Reading::default();
            note(1 << bit, 32, &mut reading);
            assert_eq!(reading.alarms.active().collect::<Vec<_>>(), [alarm]);
            assert_eq!(reading.alarms.iter().count(), BITS.len());
        }
    }

    #[test]
    fn a_short_word_knows_less_and_the_last_bits_are_unknown() {
        let mut reading = Reading::default();
        note(0x8000, 16, &mut reading);
        assert_eq!(reading.alarms.iter().count(), 16);
        assert_eq!(reading.alarms.get(Alarm::ChargeMosFailure), None);
        note(0xE000_0000, 32, &mut reading);
        assert_eq!(reading.alarms.unknown_bits().collect::<Vec<_>>(), [("errors", 0xE000_0000)]);
    }
}
