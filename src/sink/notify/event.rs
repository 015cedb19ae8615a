//! What is reported: an event of a battery, and the message about one or several of them.

use serde_json::{Value, json};

use crate::model::units::Millis;
use crate::model::{Fault, Profile, Severity, TimeZone};

/// A message about several events has at most this many lines.
pub const MAX_EVENTS: usize = 20;
/// In bytes; ntfy accepts 4096, Telegram 4096 characters.
const MAX_TEXT: usize = 3500;
/// In bytes, for one event. Texts of batteries and of the operating system are shorter.
const MAX_EVENT_TEXT: usize = 600;
/// An older event is reported with its time.
const LATE_MS: u64 = 120_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    AlarmStarted,
    AlarmEnded,
    BatteryOffline,
    BatteryOnline,
    DailySummary,
    Test,
}

impl EventKind {
    /// In the JSON of a webhook.
    pub fn name(self) -> &'static str {
        match self {
            EventKind::AlarmStarted => "alarm_started",
            EventKind::AlarmEnded => "alarm_ended",
            EventKind::BatteryOffline => "battery_offline",
            EventKind::BatteryOnline => "battery_online",
            EventKind::DailySummary => "daily_summary",
            EventKind::Test => "test",
        }
    }

    fn title(self) -> &'static str {
        match self {
            EventKind::AlarmStarted => "Alarm",
            EventKind::AlarmEnded => "Alarm ended",
            EventKind::BatteryOffline => "Battery offline",
            EventKind::BatteryOnline => "Battery back",
            EventKind::DailySummary => "Daily summary",
            EventKind::Test => "Test",
        }
    }
}

/// How much an event matters. The names are those of Apprise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Info,
    Success,
    Warning,
    Failure,
}

impl Level {
    pub fn name(self) -> &'static str {
        match self {
            Level::Info => "info",
            Level::Success => "success",
            Level::Warning => "warning",
            Level::Failure => "failure",
        }
    }
}

impl From<Severity> for Level {
    fn from(severity: Severity) -> Self {
        match severity {
            Severity::Warning => Level::Warning,
            Severity::Protection | Severity::Fault => Level::Failure,
        }
    }
}

#[derive(Debug, Clone)]
pub struct Event {
    pub kind: EventKind,
    pub level: Level,
    pub time: Millis,
    /// With the name of the battery.
    pub text: String,
    /// What the user can do about it.
    pub hint: Option<String>,
    /// Further fields for a webhook.
    details: Vec<(&'static str, Value)>,
    /// Changes before this one that were left out, because they were too many.
    pub left_out: u32,
}

impl Event {
    pub fn new(kind: EventKind, level: Level, time: Millis, text: impl Into<String>) -> Self {
        let text = cut(
            text.into(),
            if kind == EventKind::DailySummary { MAX_TEXT } else { MAX_EVENT_TEXT },
        );
        Event { kind, level, time, text, hint: None, details: Vec::new(), left_out: 0 }
    }

    pub fn with_hint(self, hint: impl Into<String>) -> Self {
        Event { hint: Some(cut(hint.into(), MAX_EVENT_TEXT)), ..self }
    }

    pub fn about(mut self, battery: &Profile) -> Self {
        self.details.push(("battery", json!(battery.id)));
        self.details.push(("name", json!(battery.name)));
        self
    }

    pub fn with_alarm(mut self, alarm: Value) -> Self {
        self.details.push(("alarm", alarm));
        self
    }

    pub fn with_fault(mut self, fault: &Fault) -> Self {
        self.details.push(("error", json!(fault.kind.name())));
        self.with_hint(&fault.hint)
    }
}

/// One notification.
#[derive(Debug)]
pub struct Message<'a> {
    pub title: String,
    pub text: String,
    pub level: Level,
    pub events: &'a [Event],
    /// Events that were left out before these.
    pub left_out: u64,
}

impl<'a> Message<'a> {
    /// `events`: at most [`MAX_EVENTS`], not empty. `zone`: `None` for UTC.
    pub fn new(events: &'a [Event], left_out: u64, now: Millis, zone: Option<&TimeZone>) -> Self {
        let level = events.iter().map(|event| event.level).max().unwrap_or(Level::Info);
        let (title, mut text) = match events {
            [event] => {
                let hint = event.hint.as_ref().map(|hint| format!("\n{}", sentence(hint)));
                let text = line(event, now, zone) + &hint.unwrap_or_default();
                (event.kind.title().to_owned(), text)
            }
            several => {
                let lines = several
                    .iter()
                    .map(|event| format!("{}: {}", event.kind.title(), line(event, now, zone)));
                let text = cut(lines.collect::<Vec<_>>().join("\n"), MAX_TEXT);
                (format!("Batteries: {} changes", several.len()), text)
            }
        };
        if left_out > 0 {
            text.push_str(&format!("\n{left_out} earlier messages were left out."));
        }
        Message { title, text, level, events, left_out }
    }

    /// For a webhook, which gets one event at a time.
    pub fn to_json(&self) -> Value {
        let mut object = json!({
            "title": self.title, "message": self.text, "type": self.level.name(),
        });
        if let Some(event) = self.events.first() {
            object["event"] = event.kind.name().into();
            object["time"] = event.time.iso8601().into();
            for (name, value) in &event.details {
                object[*name] = value.clone();
            }
            if let Some(hint) = &event.hint {
                object["hint"] = hint.as_str().into();
            }
        }
        let left_out =
            self.left_out + self.events.iter().map(|it| u64::from(it.left_out)).sum::<u64>();
        if left_out > 0 {
            object["left_out"] = left_out.into();
        }
        object
    }
}

/// The text with the time of a late event, and the number of changes before it.
fn line(event: &Event, now: Millis, zone: Option<&TimeZone>) -> String {
    let mut text = event.text.clone();
    if now.since(event.time) > LATE_MS {
        text.push_str(&format!(" ({})", clock_time(event.time, zone)));
    }
    match event.left_out {
        0 => {}
        1 => text.push_str("; one change before was left out"),
        count => text.push_str(&format!("; {count} changes before were left out")),
    }
    text
}

/// `14:05`.
pub fn clock_time(time: Millis, zone: Option<&TimeZone>) -> String {
    let minute = zone.copied().unwrap_or_default().local(time).minute;
    let suffix = if zone.is_some() { "" } else { " UTC" };
    format!("{:02}:{:02}{suffix}", minute / 60, minute % 60)
}

/// Hints begin in lower case, because they follow an error.
fn sentence(hint: &str) -> String {
    let mut letters = hint.chars();
    let first = letters.next().map(|letter| letter.to_uppercase().collect::<String>());
    format!("{}{}", first.unwrap_or_default(), letters.as_str())
}

fn cut(mut text: String, limit: usize) -> String {
    if text.len() > limit {
        let end = (0..=limit).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default();
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: EventKind, level: Level, text: &str) -> Event {
        Event::new(kind, level, Millis(0), text)
    }

    #[test]
    fn message_about_one_event_has_its_hint_and_time() {
        let offline = event(EventKind::BatteryOffline, Level::Warning, "Rack 1: no answer");
        let mut events = [offline.with_hint("check the wiring")];
        let message = Message::new(&events, 0, Millis(LATE_MS), None);
        assert_eq!((message.title.as_str(), message.level), ("Battery offline", Level::Warning));
        assert_eq!(message.text, "Rack 1: no answer\nCheck the wiring");
        events[0].left_out = 3;
        let berlin = TimeZone::find("Europe/Berlin");
        let message = Message::new(&events, 2, Millis(3_600_000), berlin.as_ref());
        let expected = "Rack 1: no answer (01:00); 3 changes before were left out\nCheck the wiring\n\
            2 earlier messages were left out.";
        assert_eq!(message.text, expected);
        assert_eq!(message.to_json()["left_out"], 5);
    }

    #[test]
    fn message_about_several_events_has_a_line_for_each() {
        let events = [
            event(EventKind::AlarmEnded, Level::Success, "Rack 1: charge low, 9 % (limit 10 %)"),
            event(EventKind::BatteryOffline, Level::Warning, "Rack 2: no answer"),
        ];
        let message = Message::new(&events, 0, Millis(0), None);
        assert_eq!(
            (message.title.as_str(), message.level),
            ("Batteries: 2 changes", Level::Warning)
        );
        let lines: Vec<&str> = message.text.lines().collect();
        let expected = [
            "Alarm ended: Rack 1: charge low, 9 % (limit 10 %)",
            "Battery offline: Rack 2: no answer",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn text_is_bounded() {
        let long = "ä".repeat(5000);
        let events = vec![
            event(EventKind::AlarmStarted, Level::Failure, &long).with_hint(&long);
            MAX_EVENTS
        ];
        let message = Message::new(&events, u64::MAX, Millis(u64::MAX), None);
        assert!(message.text.len() < MAX_TEXT + 100, "{}", message.text.len());
        assert!(Message::new(&events[..1], 0, Millis(0), None).text.len() < 3 * MAX_EVENT_TEXT);
    }
}
