//! The alarm thresholds of the configuration (`ALARM_*`).

use super::named_enum::named_enum;
use super::units::{CentiPercent, DeciCelsius, Millivolts, Unit};
use super::value::Value;

/// `None` disables an alarm.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AlarmThresholds {
    pub cell_low: Option<Millivolts>,
    pub cell_high: Option<Millivolts>,
    /// Difference between the highest and the lowest cell.
    pub cell_delta: Option<Millivolts>,
    /// Of the cells, not of the power transistors.
    pub temp_high: Option<DeciCelsius>,
    pub temp_low: Option<DeciCelsius>,
    pub soc_low: Option<CentiPercent>,
}

named_enum! {
    /// The names share the topics `alarm_<name>` with the alarms of the batteries, so each begins
    /// with `limit_`, which is reserved for them.
    Threshold {
        CellLow = "limit_cell_low",
        CellHigh = "limit_cell_high",
        CellDelta = "limit_cell_delta",
        TempHigh = "limit_temp_high",
        TempLow = "limit_temp_low",
        SocLow = "limit_soc_low",
    }
}

impl Threshold {
    pub const fn text(self) -> &'static str {
        match self {
            Threshold::CellLow => "Cell voltage below limit",
            Threshold::CellHigh => "Cell voltage above limit",
            Threshold::CellDelta => "Cell voltage difference above limit",
            Threshold::TempHigh => "Temperature above limit",
            Threshold::TempLow => "Temperature below limit",
            Threshold::SocLow => "State of charge below limit",
        }
    }

    pub fn is_upper(self) -> bool {
        matches!(self, Threshold::CellHigh | Threshold::CellDelta | Threshold::TempHigh)
    }

    /// Unit that people read, and decimal places of the integer values.
    pub fn unit_and_scale(self) -> (&'static str, u32) {
        match self {
            Threshold::CellLow | Threshold::CellHigh | Threshold::CellDelta => {
                ("V", Millivolts::SCALE)
            }
            Threshold::TempHigh | Threshold::TempLow => ("°C", DeciCelsius::SCALE),
            Threshold::SocLow => ("%", CentiPercent::SCALE),
        }
    }
}

/// A measured value compared with its threshold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThresholdStatus {
    pub active: bool,
    pub limit: Value,
    pub value: Value,
    /// Number (from 1) of the cell that was measured.
    pub cell: Option<usize>,
}
