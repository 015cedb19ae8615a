//! Values in the encodings of all dialects.

use crate::model::{CentiPercent, DeciCelsius, Milliamps};
use crate::protocol::DecodeError;

/// Tenths of a per cent.
pub(super) fn soc(raw: u16) -> Result<CentiPercent, DecodeError> {
    match i32::from(raw) {
        raw @ 0..=1000 => Ok(CentiPercent(raw * 10)),
        raw => Err(DecodeError::OutOfRange { field: "soc", value: raw.into() }),
    }
}

/// Tenths of an ampere; no board carries a thousand amperes.
pub(super) fn current(tenths: i32) -> Result<Milliamps, DecodeError> {
    match tenths {
        -9_999..=9_999 => Ok(Milliamps(tenths * 100)),
        _ => Err(DecodeError::OutOfRange { field: "current", value: tenths.into() }),
    }
}

/// Whole degrees from -40 on. Boards mark a missing sensor in different ways.
pub(super) fn degrees(raw: u16) -> Option<DeciCelsius> {
    (raw < 0xFF).then(|| DeciCelsius((i32::from(raw) - 40) * 10))
}
