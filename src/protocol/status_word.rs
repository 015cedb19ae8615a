//! Status words as tables, which show at a glance which bits have a meaning. Drivers decode with
//! them and simulators encode.

use crate::model::{Alarm, Reading};

/// Meaning of one bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bit {
    Raises(Alarm),
    /// A state that is no alarm.
    State(&'static str),
    /// The charging transistor is on.
    ChargeSwitch,
    /// The discharging transistor is on.
    DischargeSwitch,
}

impl Bit {
    #[cfg(test)]
    pub(super) fn alarm(self) -> Option<Alarm> {
        if let Bit::Raises(alarm) = self { Some(alarm) } else { None }
    }
}

/// The bits of a status word that have a documented meaning. Several bits may raise one alarm.
#[derive(Debug)]
pub struct StatusWord {
    /// Name of the word, for the bits without a meaning.
    pub name: &'static str,
    /// Number and meaning of each bit.
    pub bits: &'static [(u8, Bit)],
}

impl StatusWord {
    /// Puts the meaning of each bit into the reading. Set bits without a meaning are kept apart.
    pub(super) fn decode(&self, value: impl Into<u64>, into: &mut Reading) {
        let value = value.into();
        let mut unknown = value;
        for &(number, bit) in self.bits {
            let on = value & 1 << number != 0;
            unknown &= !(1 << number);
            match bit {
                Bit::Raises(alarm) => into.alarms.note(alarm, on),
                Bit::State(name) => *into.states.entry(name).or_default() |= on,
                Bit::ChargeSwitch => into.switches.charging = Some(on),
                Bit::DischargeSwitch => into.switches.discharging = Some(on),
            }
        }
        into.alarms.note_unknown_bits(self.name, unknown);
    }

    /// The word in which those bits are set whose meaning is true.
    pub fn encode(&self, is_true: impl Fn(Bit) -> bool) -> u64 {
        let set = self.bits.iter().filter(|(_, bit)| is_true(*bit));
        set.fold(0, |word, (number, _)| word | 1 << number)
    }
}

/// A [`StatusWord`]: `status_word!("name"; 0 CellOvervoltage, 1 "state", 2 ChargeSwitch)`.
macro_rules! status_word {
    ($name:literal; $($number:literal $meaning:tt),* $(,)?) => {
        $crate::protocol::status_word::StatusWord {
            name: $name,
            bits: &[$(($number, $crate::protocol::status_word::status_word!(@bit $meaning))),*],
        }
    };
    (@bit ChargeSwitch) => { $crate::protocol::status_word::Bit::ChargeSwitch };
    (@bit DischargeSwitch) => { $crate::protocol::status_word::Bit::DischargeSwitch };
    (@bit $alarm:ident) => {
        $crate::protocol::status_word::Bit::Raises($crate::model::Alarm::$alarm)
    };
    (@bit $state:literal) => { $crate::protocol::status_word::Bit::State($state) };
}
pub(super) use status_word;

#[cfg(test)]
mod tests {
    use super::*;

    static WORD: StatusWord =
        status_word!("word"; 0 FuseBlown, 2 FuseBlown, 3 "idle", 63 ChargeSwitch);

    #[test]
    fn bits_without_a_meaning_are_kept_apart() {
        let mut reading = Reading::default();
        WORD.decode(0x8000_0000_0000_0016_u64, &mut reading);
        assert_eq!(reading.alarms.active().collect::<Vec<_>>(), [Alarm::FuseBlown]);
        assert_eq!(reading.alarms.unknown_bits().collect::<Vec<_>>(), [("word", 0x12)]);
        assert_eq!((reading.states["idle"], reading.switches.charging), (false, Some(true)));
    }

    #[test]
    fn every_bit_of_a_true_meaning_is_set() {
        assert_eq!(WORD.encode(|bit| bit == Bit::Raises(Alarm::FuseBlown)), 0b101);
    }
}
