//! Finds out from the states of the batteries what is to be reported. Has no clock.

use std::collections::BTreeMap;

use serde_json::json;

use super::event::{Event, EventKind, Level};
use super::throttle::Throttle;
use crate::model::{AlarmDiff, AlarmKey, DeviceId, DeviceState, LinkState, Millis, Uptime};

/// Far more than batteries and alarms that can change within an hour.
const MAX_THROTTLES: usize = 1000;

/// The key of what is not an alarm.
const LINK: &str = "link";

/// What was found out about the batteries so far. The lists are short, and a map for each type of value would
/// add several kB to the program.
#[derive(Debug, Default)]
pub struct Watcher {
    batteries: Vec<(DeviceId, WatchedBattery)>,
    throttles: Vec<(AlarmKey, Throttle)>,
}

#[derive(Debug, Default)]
struct WatchedBattery {
    /// The messages of the active alarms.
    active: BTreeMap<AlarmKey, String>,
    offline_since: Option<Millis>,
}

impl Watcher {
    /// The events of this state that are to be sent now. A bank has none, because its alarms are those
    /// of its members.
    pub fn update(&mut self, state: &DeviceState, time: Millis, now: Uptime) -> Vec<Event> {
        let events = match state.profile.is_bank() {
            true => Vec::new(),
            false => self.battery(state, time),
        };
        let throttled = events.into_iter().filter_map(|(key, event)| {
            if self.throttles.len() >= MAX_THROTTLES {
                self.throttles.retain(|(_, throttle)| !throttle.is_calm(now));
            }
            entry(&mut self.throttles, &key).change(event, now)
        });
        throttled.collect()
    }

    fn battery(&mut self, state: &DeviceState, time: Millis) -> Vec<(AlarmKey, Event)> {
        let profile = &state.profile;
        let battery = entry(&mut self.batteries, &profile.id);
        let event = |kind, level, text: String| Event::new(kind, level, time, text).about(profile);
        let link = (profile.id.to_string(), LINK.to_owned());
        let mut events = Vec::new();
        match (state.link, battery.offline_since) {
            // A battery that is paused is not read on request.
            (LinkState::Offline { since }, None) if !state.paused => {
                battery.offline_since = Some(since);
                let fault = state.attempt.as_ref().and_then(|attempt| attempt.fault.as_ref());
                let reason = fault.map_or("no current values", |fault| &fault.message);
                let text = format!("{}: {reason}", profile.name);
                let offline = event(EventKind::BatteryOffline, Level::Warning, text);
                events.push((
                    link,
                    match fault {
                        Some(fault) => offline.with_fault(fault),
                        None => offline,
                    },
                ));
            }
            (LinkState::Online, Some(since)) => {
                battery.offline_since = None;
                let text = format!(
                    "{}: answers again after {}",
                    profile.name,
                    duration(time.since(since))
                );
                events.push((link, event(EventKind::BatteryOnline, Level::Success, text)));
            }
            _ => {}
        }
        if state.link != LinkState::Online {
            return events;
        }
        let diff = AlarmDiff::new(&battery.active, state);
        for key in diff.ended {
            if let Some(message) = battery.active.remove(&key) {
                let alarm = json!({"name": key.1, "battery": key.0, "words": message});
                let ended = event(EventKind::AlarmEnded, Level::Success, message);
                events.push((key, ended.with_alarm(alarm)));
            }
        }
        for (key, alarm) in diff.started {
            let started =
                event(EventKind::AlarmStarted, alarm.severity.into(), alarm.message.clone());
            events.push((key.clone(), started.with_alarm(json!(alarm))));
            battery.active.insert(key, alarm.message);
        }
        events
    }

    /// Events that were held back for long enough.
    pub fn due(&mut self, now: Uptime) -> Vec<Event> {
        let events =
            self.throttles.iter_mut().filter_map(|(_, throttle)| throttle.due(now)).collect();
        self.throttles.retain(|(_, throttle)| !throttle.is_calm(now));
        events
    }
}

/// The value of this key, which is added if it is missing.
pub fn entry<'a, K: Clone + PartialEq, V: Default>(
    list: &'a mut Vec<(K, V)>,
    key: &K,
) -> &'a mut V {
    let at = list.iter().position(|(known, _)| known == key).unwrap_or_else(|| {
        list.push((key.clone(), V::default()));
        list.len() - 1
    });
    &mut list[at].1
}

/// `45 s`, `12 min`, `3 h 5 min`.
fn duration(milliseconds: u64) -> String {
    let minutes = milliseconds / 60_000;
    match minutes {
        0 => format!("{} s", milliseconds / 1000),
        1..60 => format!("{minutes} min"),
        _ => format!("{} h {} min", minutes / 60, minutes % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::derive::derive;
    use crate::model::derived::BankSummary;
    use crate::model::{Alarm, Derived, Fault, FaultKind, Profile, Reading};

    fn state() -> DeviceState {
        DeviceState::new(Profile { name: "Rack 1".into(), ..Profile::sample("rack1") })
    }

    fn read(state: &mut DeviceState, alarms: &[(Alarm, bool)]) {
        let mut reading = Reading::default();
        for (alarm, active) in alarms {
            reading.alarms.note(*alarm, *active);
        }
        let derived = derive(&reading);
        state.record_attempt(Millis(0), 1, true, None);
        state.accept((Millis(0), Uptime(0)), 1, reading, derived);
    }

    fn fail(state: &mut DeviceState, at: Millis) {
        let fault = Fault::new(FaultKind::Timeout, "no answer in 2 s", "check the wiring");
        state.record_attempt(at, 1, false, Some(fault));
        state.mark_offline(at);
    }

    fn update(watcher: &mut Watcher, state: &DeviceState, second: u64) -> Vec<String> {
        let events = watcher.update(state, Millis(second * 1000), Uptime(second * 1000));
        events.iter().map(|event| format!("{} {}", event.kind.name(), event.text)).collect()
    }

    #[test]
    fn alarm_is_reported_when_it_starts_and_ends() {
        let (mut watcher, mut state) = (Watcher::default(), state());
        assert_eq!(update(&mut watcher, &state, 0), [""; 0]);
        read(&mut state, &[(Alarm::FuseBlown, false)]);
        assert_eq!(update(&mut watcher, &state, 1), [""; 0]);
        read(&mut state, &[(Alarm::FuseBlown, true)]);
        assert_eq!(
            update(&mut watcher, &state, 2),
            ["alarm_started Rack 1: fuse blown (BMS fault)"]
        );
        assert_eq!(update(&mut watcher, &state, 3), [""; 0]);
        read(&mut state, &[]);
        assert_eq!(
            update(&mut watcher, &state, 4),
            [""; 0],
            "the battery did not report it this time"
        );
        read(&mut state, &[(Alarm::FuseBlown, false)]);
        assert_eq!(update(&mut watcher, &state, 5), ["alarm_ended Rack 1: fuse blown (BMS fault)"]);
    }

    #[test]
    fn battery_is_reported_offline_and_back_once() {
        let (mut watcher, mut state) = (Watcher::default(), state());
        read(&mut state, &[(Alarm::FuseBlown, true)]);
        update(&mut watcher, &state, 0);
        fail(&mut state, Millis(10_000));
        assert_eq!(update(&mut watcher, &state, 10), ["battery_offline Rack 1: no answer in 2 s"]);
        fail(&mut state, Millis(20_000));
        assert_eq!(update(&mut watcher, &state, 20), [""; 0]);
        read(&mut state, &[(Alarm::FuseBlown, true)]);
        let back = ["battery_online Rack 1: answers again after 12 min"];
        assert_eq!(update(&mut watcher, &state, 730), back, "the alarm has not started again");
    }

    #[test]
    fn paused_battery_is_not_reported() {
        let (mut watcher, mut state) = (Watcher::default(), state());
        read(&mut state, &[]);
        update(&mut watcher, &state, 0);
        state.paused = true;
        state.mark_offline(Millis(1));
        assert_eq!(update(&mut watcher, &state, 1), [""; 0]);
        state.paused = false;
        read(&mut state, &[]);
        assert_eq!(update(&mut watcher, &state, 2), [""; 0]);
    }

    #[test]
    fn bank_reports_nothing() {
        let mut bank =
            DeviceState::new(Profile { brand: "bank".into(), ..Profile::sample("house") });
        let mut member = state();
        read(&mut member, &[(Alarm::FuseBlown, true)]);
        let summary = BankSummary { alarms: member.active_alarms(), ..BankSummary::default() };
        let derived = Derived { bank: Some(Box::new(summary)), ..Derived::default() };
        bank.accept((Millis(0), Uptime(0)), 1, Reading::default(), derived);
        let mut watcher = Watcher::default();
        assert_eq!(update(&mut watcher, &bank, 1), [""; 0]);
        assert_eq!(update(&mut watcher, &member, 1).len(), 1);
        fail(&mut bank, Millis(2));
        assert_eq!(update(&mut watcher, &bank, 2), [""; 0]);
    }

    #[test]
    fn flapping_alarms_are_limited_and_forgotten() {
        let (mut watcher, mut state) = (Watcher::default(), state());
        let mut count = 0;
        for second in 0..3600 {
            read(&mut state, &[(Alarm::FuseBlown, second % 2 == 0)]);
            count += update(&mut watcher, &state, second).len();
            count += watcher.due(Uptime(second * 1000)).len();
        }
        assert_eq!(count, 4);
        let last = watcher.due(Uptime(4_000_000));
        assert_eq!(last.iter().map(|event| event.left_out).collect::<Vec<_>>(), [3595]);
        assert!(watcher.due(Uptime(9_000_000)).is_empty());
        assert!(watcher.throttles.is_empty());
    }
}
