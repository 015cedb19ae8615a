//! What the drivers of Venus OS get.

use std::time::Duration;

use super::rule;
use super::values::Values;
use super::variables::*;
use crate::model::{Milliamps, Millivolts};
use crate::sink::mqtt::{Victron, VictronFormat, VictronLimits};

/// dbus-serialbattery takes a reading for lost after 6 s.
const LONGEST_INTERVAL: Duration = Duration::from_secs(5);

/// `None`: no driver reads this battery or bank, which is read at this interval.
pub(super) fn settings(values: &Values, interval: Duration) -> Option<Victron> {
    let limits = VictronLimits {
        charge_voltage: values.number(&VICTRON_CHARGE_VOLTAGE).map(Millivolts),
        charge_current: values.number(&VICTRON_CHARGE_CURRENT).map(Milliamps),
        discharge_current: values.number(&VICTRON_DISCHARGE_CURRENT).map(Milliamps),
    };
    let format = values.value(&VICTRON).and_then(rule::victron).flatten();
    if format.is_none() && limits != VictronLimits::default() {
        let limits = [&VICTRON_CHARGE_VOLTAGE, &VICTRON_CHARGE_CURRENT, &VICTRON_DISCHARGE_CURRENT];
        if let Some(names) = values.set_among(&limits) {
            values.warn(format!(
                "{names} without effect, because {} is off",
                values.name_of(&VICTRON)
            ));
        }
    }
    if format == Some(VictronFormat::SerialBattery) && interval > LONGEST_INTERVAL {
        let allowed = format!(
            "mqtt-battery: dbus-serialbattery gives a battery up that is read less often than every {} seconds",
            LONGEST_INTERVAL.as_secs()
        );
        values.error(values.invalid(&VICTRON, allowed).with_example("mqtt-battery"));
    }
    Some(Victron { format: format?, limits })
}
