//! What is computed from a reading and from those before it. Plain data.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Serialize, Serializer};

use super::alarm::Severity;
use super::energy::EnergyTotals;
use super::profile::DeviceId;
use super::reading::Activity;
use super::thresholds::{Threshold, ThresholdStatus};
use super::units::{CentiPercent, DeciCelsius, Millivolts, Milliwatts};
use super::value::Value;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Derived {
    /// Signed like the current.
    pub power: Option<Milliwatts>,
    /// Number (from 1) and voltage of the cell.
    pub lowest_cell: Option<(usize, Millivolts)>,
    /// Number (from 1) and voltage of the cell.
    pub highest_cell: Option<(usize, Millivolts)>,
    /// Of the cell sensors.
    pub min_temp: Option<DeciCelsius>,
    /// Of the cell sensors.
    pub max_temp: Option<DeciCelsius>,
    /// As reported, or the mean of the cell sensors.
    pub avg_temp: Option<DeciCelsius>,
    /// As reported, or by the sign of the current.
    pub activity: Option<Activity>,
    /// Any alarm is active; `None` when the battery reports no alarms and no threshold is set.
    pub problem: Option<bool>,
    /// Lowest and highest cell voltage of each module of a stack.
    pub modules: Vec<Option<(Millivolts, Millivolts)>>,
    pub thresholds: BTreeMap<Threshold, ThresholdStatus>,
    pub energy_since_start: EnergyTotals,
    /// Including earlier runs; `None` until their totals are known.
    pub energy: Option<EnergyTotals>,
    pub times: TimeEstimates,
    /// `None` for a single battery.
    pub bank: Option<Box<BankSummary>>,
}

impl Derived {
    /// Difference between the highest and the lowest cell.
    pub fn cell_voltage_diff(&self) -> Option<Millivolts> {
        let (highest, lowest) = (self.highest_cell?.1, self.lowest_cell?.1);
        Some(Millivolts(highest.0.saturating_sub(lowest.0)))
    }
}

/// Seconds until the battery is full or empty.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TimeEstimates {
    pub to_full: Option<u32>,
    pub to_empty: Option<u32>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BankSummary {
    /// In the order of the configuration.
    pub members: Vec<DeviceId>,
    /// Members without a current reading, in the order of the configuration.
    pub missing: Vec<DeviceId>,
    /// Name of the battery with the lowest cell.
    pub lowest_in: Option<String>,
    /// Name of the battery with the highest cell.
    pub highest_in: Option<String>,
    /// Between the highest and the lowest pack voltage.
    pub voltage_spread: Option<Millivolts>,
    pub soc_spread: Option<CentiPercent>,
    /// Active alarms of the members that are not missing.
    pub alarms: Vec<ActiveAlarm>,
}

/// An element of the topic `alarms` and of `alarms` in the `raw` JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ActiveAlarm {
    /// As in `alarm_<name>`, or the subject of an abnormal state on a text console.
    pub name: Cow<'static, str>,
    /// In the alarms of a bank, the member.
    pub battery: DeviceId,
    #[serde(rename = "words")]
    pub message: String,
    /// From 1; `None` unless the battery or a threshold of the configuration names the cell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cell: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_number")]
    pub value: Option<Value>,
    /// The threshold of the configuration.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_number")]
    pub limit: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<&'static str>,
    pub source: AlarmSource,
    pub severity: Severity,
}

fn as_number<S: Serializer>(value: &Option<Value>, serializer: S) -> Result<S::Ok, S::Error> {
    value.as_ref().map(Value::to_json).serialize(serializer)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum AlarmSource {
    #[serde(rename = "bms")]
    Bms,
    /// A threshold of the configuration.
    #[serde(rename = "limit")]
    Threshold,
}

/// Battery id and alarm name. In a bank, two members may have the same alarm.
pub type AlarmKey = (String, String);

impl ActiveAlarm {
    pub fn key(&self) -> AlarmKey {
        (self.battery.to_string(), self.name.to_string())
    }
}
