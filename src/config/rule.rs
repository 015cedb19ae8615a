//! Rules for values: each one checks a text and describes what is allowed.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;

use crate::model::DeviceId;
use crate::protocol::{detection, drivers};
use crate::sink::mqtt::{BackfillMode, VictronFormat};

/// The type that needs no hardware.
pub const SIMULATED: &str = "simulated";

/// What a value may look like.
#[derive(Debug, Clone, Copy)]
pub enum Rule {
    /// `true` or `false` in all usual spellings.
    Bool,
    /// One of these words, in any case.
    Choice(&'static [&'static str]),
    /// A number with at most `decimals` digits after the point. `min` and `max` count units of its
    /// last digit.
    Number {
        min: i64,
        max: i64,
        decimals: u8,
        unit: &'static str,
        /// Whether `off` is allowed, too.
        off: bool,
    },
    /// A type of battery.
    Brand,
    Text {
        /// What is allowed; follows "must be".
        description: &'static str,
        accepts: fn(&str) -> bool,
    },
}

impl Rule {
    pub const fn text(description: &'static str, accepts: fn(&str) -> bool) -> Self {
        Rule::Text { description, accepts }
    }

    pub const fn whole(min: i64, max: i64, unit: &'static str) -> Self {
        Rule::Number { min, max, decimals: 0, unit, off: false }
    }

    /// Seconds; the bounds are milliseconds.
    pub const fn seconds(bounds: RangeInclusive<i64>) -> Self {
        let (min, max) = (*bounds.start(), *bounds.end());
        Rule::Number { min, max, decimals: 3, unit: " seconds", off: false }
    }

    /// The threshold of an alarm, or `off`.
    pub const fn threshold(min: i64, max: i64, decimals: u8, unit: &'static str) -> Self {
        Rule::Number { min, max, decimals, unit, off: true }
    }

    /// Whether the rule allows this text. A brand is looked up later, where the error can suggest
    /// the nearest one.
    pub fn accepts(&self, text: &str) -> bool {
        match self {
            Rule::Bool => boolean(text).is_some(),
            Rule::Choice(_) => self.choice(text).is_some(),
            Rule::Number { off, .. } => self.number(text).is_some() || (*off && is_off(text)),
            Rule::Brand => true,
            Rule::Text { accepts, .. } => accepts(text),
        }
    }

    /// The number in units of its last digit; `None` for every other rule and for `off`.
    pub fn number(&self, text: &str) -> Option<i64> {
        let Rule::Number { min, max, decimals, .. } = self else { return None };
        decimal(text, *decimals).filter(|number| (min..=max).contains(&number))
    }

    /// The word as the rule spells it. YAML turns `off` into `false`, so where `off` is a choice
    /// every spelling of false means it.
    pub fn choice(&self, text: &str) -> Option<&'static str> {
        let Rule::Choice(words) = self else { return None };
        let matches =
            |word: &&&str| word.eq_ignore_ascii_case(text) || (**word == "off" && is_off(text));
        words.iter().find(matches).copied()
    }
}

/// What is allowed; follows "must be".
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rule::Bool => f.write_str("true or false (also yes/no, on/off, 1/0)"),
            Rule::Choice(words) => write!(f, "one of {}", words.join(", ")),
            Rule::Number { min, max, decimals, unit, off } => {
                let kind = if *decimals == 0 { "whole number" } else { "number" };
                let [min, max] = [min, max].map(|bound| *bound as f64 / scale(*decimals));
                let or_off = if *off { ", or off" } else { "" };
                write!(f, "a {kind} from {min} to {max}{unit}{or_off}")
            }
            Rule::Brand => write!(f, "one of {}", brands().collect::<Vec<_>>().join(", ")),
            Rule::Text { description, .. } => f.write_str(description),
        }
    }
}

/// Every type that can be configured.
pub fn brands() -> impl Iterator<Item = &'static str> {
    drivers().iter().map(|info| info.name).chain([detection::AUTO, SIMULATED])
}

fn scale(decimals: u8) -> f64 {
    10_f64.powi(decimals.into())
}

pub fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Some(true),
        "false" | "no" | "off" | "0" => Some(false),
        _ => None,
    }
}

fn is_off(text: &str) -> bool {
    boolean(text) == Some(false)
}

/// A decimal number in units of its last allowed digit; one with further digits is rejected.
fn decimal(text: &str, decimals: u8) -> Option<i64> {
    // Neither exponents nor `NaN` and `inf`.
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.".contains(&byte));
    let scaled = text.parse::<f64>().ok().filter(|_| is_plain)? * scale(decimals);
    let count = scaled.round();
    ((scaled - count).abs() < 1e-6).then_some(count as i64)
}

/// An address on a bus: decimal, or hexadecimal with `0x`.
pub fn bus_address(text: &str) -> Option<u8> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        // `from_str_radix` accepts a sign.
        Some(hex) if !hex.starts_with('+') => u8::from_str_radix(hex, 16).ok(),
        Some(_) => None,
        None => text.parse().ok(),
    }
}

/// The name of a Bluetooth adapter, or that of an ESPHome device.
pub fn is_adapter(text: &str) -> bool {
    let is_allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    !text.is_empty() && text.len() <= 64 && text.bytes().all(is_allowed)
}

/// A host name or an IP address. An IPv6 address may have brackets, which are removed.
pub fn host(text: &str) -> Option<String> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    if let Some(Ok(IpAddr::V6(address))) = bare.map(str::parse) {
        return Some(address.to_string());
    }
    let is_name = (1..=253).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        && !text.starts_with(['-', '.'])
        && text.bytes().any(|byte| byte.is_ascii_alphanumeric());
    (is_name || text.parse::<IpAddr>().is_ok()).then(|| text.to_owned())
}

/// The driver of Venus OS that reads a battery; `Some(None)` for none.
pub fn victron(text: &str) -> Option<Option<VictronFormat>> {
    match boolean(text) {
        Some(on) => Some(on.then_some(VictronFormat::MqttBattery)),
        None => VictronFormat::parse(text).map(Some),
    }
}

/// Which readings follow on a topic of their own; `Some(None)` for none.
pub fn backfill(text: &str) -> Option<Option<BackfillMode>> {
    match (boolean(text), text.to_ascii_lowercase().as_str()) {
        (Some(on), _) => Some(on.then_some(BackfillMode::Missed)),
        (None, "all") => Some(Some(BackfillMode::All)),
        (None, "thingsboard") => Some(Some(BackfillMode::ThingsBoard)),
        _ => None,
    }
}

/// Host names without ports, separated by commas, in lower case.
pub fn hosts(text: &str) -> Option<Vec<String>> {
    let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
    names.map(|name| host(name).map(|name| name.to_lowercase())).collect()
}

/// The host of a URL, in lower case.
pub fn url_host(url: &str) -> Option<String> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let is_port = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let name = authority.rsplit_once(':').filter(|(_, port)| is_port(port));
    host(name.map_or(authority, |(name, _)| name)).map(|name| name.to_lowercase())
}

/// A password that needs no quotes in a header, a cookie or an environment file.
pub fn is_token(text: &str) -> bool {
    (8..=128).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_graphic() && !br#""\,;'$#"#.contains(&byte))
}

/// Address of the HTTP server; `Some(None)` for `off`.
pub fn listen(text: &str) -> Option<Option<SocketAddr>> {
    if is_off(text) {
        return Some(None);
    }
    // A port alone, as in `:8099`, means all interfaces, as in other services.
    if let Ok(port) = text.strip_prefix(':').unwrap_or(text).parse::<u16>() {
        return Some(Some((Ipv4Addr::UNSPECIFIED, port).into()));
    }
    match text.strip_prefix("localhost:") {
        Some(port) => Some(Some((Ipv4Addr::LOCALHOST, port.parse().ok()?).into())),
        None => text.parse().ok().map(Some),
    }
}

/// Minute of the day from `7:00` or `07:00`; `Some(None)` for `off`.
pub fn time_of_day(text: &str) -> Option<Option<u16>> {
    if is_off(text) {
        return Some(None);
    }
    let (hour, minute) = text.split_once(':').filter(|(_, minute)| minute.len() == 2)?;
    let number = |text: &str, limit: u16| {
        let is_plain = (1..=2).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        text.parse().ok().filter(|number: &u16| is_plain && *number < limit)
    };
    Some(Some(number(hour, 24)? * 60 + number(minute, 60)?))
}

/// A topic to publish on: no wildcards, no empty levels, outside of the broker's own `$` tree.
pub fn is_topic(text: &str) -> bool {
    (1..=256).contains(&text.len())
        && !text.starts_with('$')
        && !text.chars().any(|c| matches!(c, '+' | '#') || c.is_control())
        && text.split('/').all(|level| !level.is_empty())
}

/// A topic that may contain `{id}` and `{type}`.
pub fn is_topic_template(text: &str) -> bool {
    let filled = text.replace("{id}", "x").replace("{type}", "x");
    is_topic(&filled) && !filled.contains(['{', '}'])
}

pub fn is_topic_level(text: &str) -> bool {
    is_topic(text) && !text.contains('/') && text.len() <= 128
}

/// An identity of at most `length` bytes.
pub fn is_id(text: &str, length: usize) -> bool {
    text.len() <= length && DeviceId::new(text).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimal_is_exact() {
        assert_eq!(decimal("3.65", 3), Some(3650));
        assert_eq!(decimal("30", 3), Some(30_000));
        assert_eq!(decimal("30.000000", 0), Some(30));
        assert_eq!(decimal(".5", 3), Some(500));
        assert_eq!(decimal("-7.5", 1), Some(-75));
        assert_eq!(decimal("+1", 0), Some(1));
        for wrong in
            ["", ".", "-", "--1", "+-1", "1e3", "3,65", "0x10", "1.2345", "NaN", "1.-5", "１"]
        {
            assert_eq!(decimal(wrong, 3), None, "{wrong}");
        }
        assert!(!Rule::seconds(0..=1000).accepts("99999999999999999999"));
    }

    #[test]
    fn boolean_accepts_every_spelling() {
        for yes in ["true", "TRUE", "Yes", "on", "1"] {
            assert_eq!(boolean(yes), Some(true), "{yes}");
        }
        for no in ["false", "No", "OFF", "0"] {
            assert_eq!(boolean(no), Some(false), "{no}");
        }
        assert_eq!(boolean("2"), None);
    }

    #[test]
    fn zero_threshold_is_a_number_and_false_is_off() {
        let rule = Rule::threshold(-400, 1000, 1, " °C");
        assert_eq!(rule.number("0"), Some(0));
        assert!(rule.accepts("off") && rule.accepts("False"));
        assert_eq!(rule.number("off"), None);
        assert!(!rule.accepts("100.1"));
        assert_eq!(rule.to_string(), "a number from -40 to 100 °C, or off");
        assert_eq!(Rule::seconds(500..=3_600_000).to_string(), "a number from 0.5 to 3600 seconds");
    }

    #[test]
    fn unquoted_off_in_yaml_means_off() {
        let rule = Rule::Choice(&["entity", "device", "off"]);
        assert_eq!(rule.choice("false"), Some("off"));
        assert_eq!(rule.choice("Device"), Some("device"));
        assert_eq!(rule.choice("true"), None);
    }

    #[test]
    fn bus_address_is_decimal_or_hexadecimal() {
        assert_eq!(bus_address("1"), Some(1));
        assert_eq!(bus_address("0x0A"), Some(10));
        assert_eq!(bus_address("0XfF"), Some(255));
        for wrong in ["", "0x", "0x+1", "256", "-1", "A", "1.0"] {
            assert_eq!(bus_address(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn host_has_no_scheme_port_or_path() {
        assert_eq!(host("core-mosquitto").as_deref(), Some("core-mosquitto"));
        assert_eq!(host("[fe80::1]").as_deref(), Some("fe80::1"));
        assert_eq!(host("::1").as_deref(), Some("::1"));
        for wrong in ["", "mqtt://x", "x:1883", "x/y", "a b", "u@h", "[x]", "[10.0.0.1]", "..."] {
            assert_eq!(host(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn listen_accepts_address_port_and_off() {
        let address = |text: &str| listen(text).flatten().map(|address| address.to_string());
        assert_eq!(address("127.0.0.1:8099").as_deref(), Some("127.0.0.1:8099"));
        assert_eq!(address("localhost:80").as_deref(), Some("127.0.0.1:80"));
        assert_eq!(address(":8099").as_deref(), Some("0.0.0.0:8099"));
        assert_eq!(address("8099").as_deref(), Some("0.0.0.0:8099"));
        assert_eq!(address("[::1]:80").as_deref(), Some("[::1]:80"));
        assert_eq!(listen("OFF"), Some(None));
        assert_eq!(listen("example.org"), None);
        assert_eq!(listen("127.0.0.1"), None);
    }

    #[test]
    fn time_of_day_has_hours_and_minutes() {
        for (text, minute) in [("07:00", 420), ("7:05", 425), ("0:00", 0), ("23:59", 1439)] {
            assert_eq!(time_of_day(text), Some(Some(minute)), "{text}");
        }
        assert_eq!(time_of_day("Off"), Some(None));
        for wrong in ["", "7", "24:00", "7:60", "7:5", "+7:00", "007:00", "7:00:00", "7.00", "true"]
        {
            assert_eq!(time_of_day(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn hosts_are_names_without_ports() {
        assert_eq!(hosts("A.example, b"), Some(vec!["a.example".to_owned(), "b".to_owned()]));
        assert_eq!(hosts("a.example:8099"), None);
        for (url, name) in [
            ("http://Bms.example:8099/", Some("bms.example")),
            ("https://bms.example/page", Some("bms.example")),
            ("http://[fe80::1]:8099", Some("fe80::1")),
            ("http://", None),
        ] {
            assert_eq!(url_host(url).as_deref(), name, "{url}");
        }
    }

    #[test]
    fn token_needs_no_quotes() {
        assert!(is_token("correct-horse") && is_token("!%&/()=?"));
        for wrong in ["short", "with blank", "semi;colon", "dollar$x", "quote'123", "umlaut-ü-x"] {
            assert!(!is_token(wrong), "{wrong}");
        }
    }

    #[test]
    fn topic_template_has_no_wildcards_or_empty_levels() {
        assert!(is_topic_template("bms/{type}/{id}"));
        for wrong in
            ["", "/bms/{id}", "bms/", "a//b", "bms/#", "+/x", "{name}", "{id", "$SYS/x", "a\0b"]
        {
            assert!(!is_topic_template(wrong), "{wrong}");
        }
        assert!(is_topic_level("bms-reader") && !is_topic_level("a/b"));
    }
}
