//! Status words: what each bit says, in a table for each word. One table shows at a glance which
//! bits have a meaning and where it is from.

use crate::model::{Alarm, Reading};

/// What one bit says.
#[derive(Debug, Clone, Copy)]
pub(super) enum Bit {
    /// Something is wrong.
    Raises(Alarm),
    /// Something is on.
    State(&'static str),
    /// The charging transistor is on.
    ChargeSwitch,
    /// The discharging transistor is on.
    DischargeSwitch,
}

/// A status word: its name and the bits that have a documented meaning.
#[derive(Debug)]
pub(super) struct Word {
    pub(super) name: &'static str,
    pub(super) bits: &'static [(u8, Bit)],
}

impl Word {
    /// Puts what the word says into the reading. Bits of other meaning are kept apart.
    pub(super) fn note(&self, value: u16, into: &mut Reading) {
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
        into.alarms.note_unknown_bits(self.name, unknown.into());
    }
}
