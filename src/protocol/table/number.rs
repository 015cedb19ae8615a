//! Numbers of a frame: the order of their bytes, signs, masks and scales.

use super::scalar::Scale;
use super::schema::{Kind, Order};

/// Where the bytes of a number are, the highest first.
fn places(width: usize, order: Order) -> impl Iterator<Item = usize> {
    (0..width).map(move |index| match order {
        Order::Big => index,
        Order::Little => width - 1 - index,
        // A number of odd width ends with half a word.
        Order::Swapped => ((width - 1 - index) ^ 1).min(width - 1),
    })
}

pub fn unsigned(field: &[u8], order: Order) -> u64 {
    places(field.len(), order).fold(0, |number, at| number << 8 | u64::from(field[at]))
}

/// Writes the low bytes of a number; the buffer grows as needed.
pub fn put(bytes: &mut Vec<u8>, at: usize, width: usize, order: Order, number: u64) {
    bytes.resize(bytes.len().max(at + width), 0);
    for (place, byte) in places(width, order).zip(&number.to_be_bytes()[8 - width..]) {
        bytes[at + place] = *byte;
    }
}

/// `number / parts * scale * factor`, rounded.
pub fn scaled(number: i64, parts: i64, scale: Scale, factor: i64) -> i64 {
    let numerator = i128::from(number) * i128::from(scale.numerator) * i128::from(factor);
    let denominator = i128::from(scale.denominator) * i128::from(parts);
    let half = if numerator < 0 { -denominator / 2 } else { denominator / 2 };
    i64::try_from((numerator + half) / denominator).unwrap_or(i64::MAX)
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
    let unused = if kind.is_signed() { 64 - 8 * kind.width() } else { 0 };
    (bits << unused).cast_signed() >> unused
}
