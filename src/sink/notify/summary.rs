//! The daily summary.

use super::event::{Event, EventKind, Level, clock_time};
use super::watcher::entry;
use crate::model::{
    CentiPercent, DeviceId, DeviceState, EnergyTotals, LinkState, Millis, TimeZone, Value,
};

/// Batteries and banks in one summary.
const MAX_LINES: usize = 20;

/// What happened to the batteries since the last summary.
#[derive(Debug, Default)]
pub struct Day {
    batteries: Vec<(DeviceId, BatteryDay)>,
}

#[derive(Debug, Default)]
struct BatteryDay {
    /// Energy since the start of the program, at the last summary.
    energy: EnergyTotals,
    /// Lowest and highest state of charge.
    soc: Option<(CentiPercent, CentiPercent)>,
}

impl Day {
    pub fn update(&mut self, state: &DeviceState) {
        let Some(snapshot) = state.snapshot.as_deref() else { return };
        let Some(soc) = snapshot.reading.pack.soc else { return };
        if state.link == LinkState::Online {
            let day = entry(&mut self.batteries, &state.profile.id);
            let (low, high) = day.soc.unwrap_or((soc, soc));
            day.soc = Some((low.min(soc), high.max(soc)));
        }
    }

    /// The summary; the next day begins. `None` without batteries.
    pub fn end(
        &mut self,
        states: &[DeviceState],
        now: Millis,
        zone: Option<&TimeZone>,
    ) -> Option<Event> {
        let mut lines: Vec<String> =
            states.iter().take(MAX_LINES).map(|state| self.line(state, zone)).collect();
        if states.len() > MAX_LINES {
            lines.push(format!("and {} more", states.len() - MAX_LINES));
        }
        let is_good = |state: &DeviceState| {
            state.link == LinkState::Online && state.active_alarms().is_empty()
        };
        let level = if states.iter().all(is_good) { Level::Info } else { Level::Warning };
        let text = lines.join("\n");
        (!states.is_empty()).then(|| Event::new(EventKind::DailySummary, level, now, text))
    }

    fn line(&mut self, state: &DeviceState, zone: Option<&TimeZone>) -> String {
        let day = entry(&mut self.batteries, &state.profile.id);
        let mut facts = Vec::new();
        let snapshot = state.snapshot.as_deref();
        match (state.link, snapshot) {
            (LinkState::Offline { since }, _) => {
                facts.push(format!("offline since {}", clock_time(since, zone)));
            }
            (LinkState::Online, Some(snapshot)) => {
                facts.extend(snapshot.reading.pack.soc.map(|soc| format!("{} %", whole(soc))));
            }
            _ => facts.push("no values yet".to_owned()),
        }
        if let Some((low, high)) = day.soc.take().filter(|(low, high)| whole(*low) != whole(*high))
        {
            facts.push(format!("between {} and {} %", whole(low), whole(high)));
        }
        if let Some(snapshot) = snapshot {
            let total = snapshot.derived.energy_since_start;
            let energy = total.saturating_sub(std::mem::replace(&mut day.energy, total));
            let kwh = |energy: crate::model::Energy| energy.kwh().rounded(1);
            facts.push(format!("{} kWh charged", kwh(energy.charged)));
            facts.push(format!("{} kWh discharged", kwh(energy.discharged)));
        }
        if state.link == LinkState::Online {
            let alarms = state.active_alarms().into_iter().map(|alarm| alarm.message);
            facts.extend(alarms.take(3).map(|message| format!("alarm: {message}")));
        }
        format!("{}: {}", state.profile.name, facts.join(", "))
    }
}

/// Without decimals.
fn whole(soc: CentiPercent) -> String {
    Value::from(soc).rounded(0).to_string().trim_end_matches(".0").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Alarm, Derived, Energy, Profile, Reading, Uptime};

    const KWH: u64 = 3_600_000_000_000;

    fn read(state: &mut DeviceState, soc: i32, charged: u64, alarm: bool) {
        let mut reading = Reading::default();
        reading.pack.soc = Some(CentiPercent(soc));
        reading.alarms.note(Alarm::FuseBlown, alarm);
        let energy_since_start =
            EnergyTotals { charged: Energy(charged), ..EnergyTotals::default() };
        let derived = Derived { energy_since_start, ..Derived::default() };
        state.accept((Millis(0), Uptime(0)), 1, reading, derived);
    }

    #[test]
    fn summary_has_charge_energy_and_what_is_wrong() {
        let mut day = Day::default();
        let named =
            |id: &str| DeviceState::new(Profile { name: id.to_uppercase(), ..Profile::sample(id) });
        let (mut a, mut b, c) = (named("a"), named("b"), named("c"));
        for (soc, charged) in [(5000, 0), (9950, 2 * KWH), (7640, 3 * KWH)] {
            read(&mut a, soc, charged, false);
            day.update(&a);
        }
        let text = |day: &mut Day, states: &[DeviceState]| {
            let event = day.end(states, Millis(0), None).unwrap();
            (event.level, event.text.lines().map(str::to_owned).collect::<Vec<_>>())
        };
        let expected = "A: 76 %, between 50 and 100 %, 3.0 kWh charged, 0.0 kWh discharged";
        assert_eq!(text(&mut day, &[a.clone()]), (Level::Info, vec![expected.to_owned()]));
        read(&mut a, 8000, 4 * KWH, true);
        day.update(&a);
        read(&mut b, 1000, 0, false);
        day.update(&b);
        b.mark_offline(Millis(3_600_000));
        let (level, lines) = text(&mut day, &[a, b, c]);
        assert_eq!(level, Level::Warning);
        assert_eq!(
            lines,
            [
                "A: 80 %, 1.0 kWh charged, 0.0 kWh discharged, alarm: A: fuse blown (BMS fault)",
                "B: offline since 01:00 UTC, 0.0 kWh charged, 0.0 kWh discharged",
                "C: no values yet",
            ]
        );
    }

    #[test]
    fn summary_is_bounded_and_absent_without_batteries() {
        let mut day = Day::default();
        assert!(day.end(&[], Millis(0), None).is_none());
        let states = vec![DeviceState::new(Profile::sample("a")); 50];
        let text = day.end(&states, Millis(0), None).unwrap().text;
        assert_eq!(text.lines().last(), Some("and 30 more"));
    }
}
