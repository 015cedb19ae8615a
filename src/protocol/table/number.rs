//! Numbers of a frame: their signs, masks and scales.

use super::scalar::Scale;
use super::schema::Kind;

/// The number of a frame in this many parts of one.
#[derive(Debug, Clone, Copy)]
pub struct Number {
    pub value: i64,
    pub parts: i64,
}

impl Number {
    pub fn scaled(self, scale: Scale, factor: i64) -> i64 {
        let numerator = i128::from(self.value) * i128::from(scale.numerator) * i128::from(factor);
        let denominator = i128::from(scale.denominator) * i128::from(self.parts);
        let half = if numerator < 0 { -denominator / 2 } else { denominator / 2 };
        i64::try_from((numerator + half) / denominator).unwrap_or(i64::MAX)
    }
}

/// The bits of a mask side by side.
pub fn gather(bits: u64, mask: u64) -> u64 {
    let chosen = (0..64).filter(|bit| mask >> bit & 1 != 0).enumerate();
    chosen.fold(0, |number, (to, from)| number | (bits >> from & 1) << to)
}

/// The reverse of [`gather`].
pub fn scatter(number: u64, mask: u64) -> u64 {
    let chosen = (0..64).filter(|bit| mask >> bit & 1 != 0).enumerate();
    chosen.fold(0, |bits, (from, to)| bits | (number >> from & 1) << to)
}

pub(super) fn signed(bits: u64, kind: Kind) -> i64 {
    let unused = 64 - 8 * kind.width() as u32;
    match kind {
        Kind::I8 | Kind::I16 | Kind::I24 | Kind::I32 => (bits << unused).cast_signed() >> unused,
        Kind::Sm16 | Kind::Sm32 => {
            let sign = 1 << (63 - unused);
            let magnitude = (bits & (sign - 1)).cast_signed();
            if bits & sign == 0 { magnitude } else { -magnitude }
        }
        _ => bits.cast_signed(),
    }
}
