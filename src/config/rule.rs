//! What a value may look like: the same rule checks it and says in words what is allowed.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;

use crate::protocol::{DRIVERS, advertisement, auto};

/// The type that needs no hardware.
pub const SIMULATED: &str = "simulated";

/// What a value may look like.
#[derive(Debug, Clone, Copy)]
pub enum Rule {
    /// True or false in all usual spellings.
    Switch,
    /// One of these words, in any case.
    Choice(&'static [&'static str]),
    /// A number; the limits count in units of the last place.
    Number {
        /// Smallest.
        min: i64,
        /// Largest.
        max: i64,
        /// Digits behind the point.
        places: u32,
        /// What it counts.
        unit: &'static str,
        /// `off` is allowed, too.
        off: bool,
    },
    /// A brand of battery.
    Brand,
    /// Anything that this function takes.
    Shape {
        /// What it takes, in words.
        words: &'static str,
        /// Whether it takes this text.
        fits: fn(&str) -> bool,
    },
}

impl Rule {
    /// A whole number.
    pub const fn whole(min: i64, max: i64, unit: &'static str) -> Self {
        Rule::Number { min, max, places: 0, unit, off: false }
    }

    /// Seconds; the limits are milliseconds.
    pub const fn seconds(limits: RangeInclusive<i64>) -> Self {
        let (min, max) = (*limits.start(), *limits.end());
        Rule::Number { min, max, places: 3, unit: " seconds", off: false }
    }

    /// The limit of an alarm, or `off`.
    pub const fn limit(min: i64, max: i64, places: u32, unit: &'static str) -> Self {
        Rule::Number { min, max, places, unit, off: true }
    }

    /// Whether the rule allows this text. A brand is looked up later, where the fault can name the
    /// nearest one.
    pub fn admits(&self, text: &str) -> bool {
        match self {
            Rule::Switch => switch(text).is_some(),
            Rule::Choice(_) => self.choice(text).is_some(),
            Rule::Number { off, .. } => self.number(text).is_some() || (*off && is_off(text)),
            Rule::Brand => true,
            Rule::Shape { fits, .. } => fits(text),
        }
    }

    /// The number, in units of the last place; `None` for every other rule and for `off`.
    pub fn number(&self, text: &str) -> Option<i64> {
        let Rule::Number { min, max, places, .. } = self else { return None };
        decimal(text, *places).filter(|number| (min..=max).contains(&number))
    }

    /// The word as the table spells it. YAML turns `off` into `false`, so where `off` is a word
    /// every spelling of false means it.
    pub fn choice(&self, text: &str) -> Option<&'static str> {
        let Rule::Choice(words) = self else { return None };
        let said =
            |word: &&&str| word.eq_ignore_ascii_case(text) || (**word == "off" && is_off(text));
        words.iter().find(said).copied()
    }
}

/// What is allowed, to be read after "it must be".
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rule::Switch => f.write_str("true or false (also yes/no, on/off, 1/0)"),
            Rule::Choice(words) => write!(f, "one of {}", words.join(", ")),
            Rule::Number { min, max, places, unit, off } => {
                let kind = if *places == 0 { "whole number" } else { "number" };
                let (min, max) = (Scaled(*min, *places), Scaled(*max, *places));
                let or_off = if *off { ", or off" } else { "" };
                write!(f, "a {kind} from {min} to {max}{unit}{or_off}")
            }
            Rule::Brand => write!(f, "one of {}", brands().collect::<Vec<_>>().join(", ")),
            Rule::Shape { words, .. } => f.write_str(words),
        }
    }
}

/// Every type that can be configured.
pub fn brands() -> impl Iterator<Item = &'static str> {
    DRIVERS.iter().map(|info| info.name).chain([auto::AUTO, SIMULATED])
}

/// A number of units of the last place, written with a point and no superfluous zeros.
struct Scaled(i64, u32);

impl fmt::Display for Scaled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = 10_u64.pow(self.1);
        let sign = if self.0 < 0 { "-" } else { "" };
        write!(f, "{sign}{}", self.0.unsigned_abs() / unit)?;
        match self.0.unsigned_abs() % unit {
            0 => Ok(()),
            rest => {
                let digits = format!("{rest:0width$}", width = self.1 as usize);
                write!(f, ".{}", digits.trim_end_matches('0'))
            }
        }
    }
}

/// True or false.
pub fn switch(text: &str) -> Option<bool> {
    let is = |words: [&str; 4]| words.iter().any(|word| word.eq_ignore_ascii_case(text));
    if is(["true", "yes", "on", "1"]) {
        Some(true)
    } else if is(["false", "no", "off", "0"]) {
        Some(false)
    } else {
        None
    }
}

/// Whether a thing is switched off that would otherwise have a value.
fn is_off(text: &str) -> bool {
    switch(text) == Some(false)
}

/// A decimal number as an exact count of units of its last allowed place; more digits than that
/// are refused, unless they are zeros.
fn decimal(text: &str, places: u32) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let fraction_kept = fraction.trim_end_matches('0');
    let is_number = !(whole.is_empty() && fraction.is_empty())
        && whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit());
    if !is_number || fraction_kept.len() > places as usize {
        return None;
    }
    let padded = format!("{whole}{fraction_kept:0<width$}", width = places as usize);
    let count: i64 = if padded.is_empty() { 0 } else { padded.parse().ok()? };
    Some(if negative { -count } else { count })
}

/// An address on a bus: decimal, or hexadecimal with `0x`.
pub fn bus_address(text: &str) -> Option<u8> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        // `from_str_radix` would take a sign here.
        Some(hex) if hex.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            u8::from_str_radix(hex, 16).ok()
        }
        Some(_) => None,
        None => text.parse().ok(),
    }
}

/// A Bluetooth address: six pairs of hexadecimal digits between colons or dashes.
pub fn is_bluetooth_address(text: &str) -> bool {
    advertisement::address_bytes(text).is_some()
}

/// A host name or an IP address alone; an IPv6 address may stand in brackets, which are removed.
pub fn host(text: &str) -> Option<String> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    if let Some(Ok(IpAddr::V6(address))) = bare.map(str::parse) {
        return Some(address.to_string());
    }
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let is_name = (1..=253).contains(&text.len())
        && text.bytes().all(fits)
        && !text.starts_with(['-', '.'])
        && text.bytes().any(|byte| byte.is_ascii_alphanumeric());
    (is_name || text.parse::<IpAddr>().is_ok()).then(|| text.to_owned())
}

/// Where the HTTP server listens; the inner `None` means nowhere.
pub fn listen(text: &str) -> Option<Option<SocketAddr>> {
    if is_off(text) {
        return Some(None);
    }
    // A port alone, as in `:8099`, means every interface, as other services read it.
    if let Ok(port) = text.strip_prefix(':').unwrap_or(text).parse::<u16>() {
        return Some(Some((Ipv4Addr::UNSPECIFIED, port).into()));
    }
    match text.strip_prefix("localhost:") {
        Some(port) => Some(Some((Ipv4Addr::LOCALHOST, port.parse().ok()?).into())),
        None => text.parse().ok().map(Some),
    }
}

/// A topic that we publish under: no wildcards, no empty levels, not in the broker's own tree.
pub fn is_topic(text: &str) -> bool {
    (1..=256).contains(&text.len())
        && !text.starts_with('$')
        && !text.chars().any(|c| matches!(c, '+' | '#') || c.is_control())
        && text.split('/').all(|level| !level.is_empty())
}

/// A topic with `{id}` and `{type}` in it.
pub fn is_topic_template(text: &str) -> bool {
    let filled = text.replace("{id}", "x").replace("{type}", "x");
    is_topic(&filled) && !filled.contains(['{', '}'])
}

/// One level of a topic.
pub fn is_topic_level(text: &str) -> bool {
    is_topic(text) && !text.contains('/') && text.len() <= 128
}

/// A name for people: one line of sensible length.
pub fn is_title(text: &str) -> bool {
    text.chars().count() <= 100 && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_exact() {
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
        assert_eq!(decimal("99999999999999999999", 3), None);
    }

    #[test]
    fn switches_in_every_spelling() {
        for yes in ["true", "TRUE", "Yes", "on", "1"] {
            assert_eq!(switch(yes), Some(true), "{yes}");
        }
        for no in ["false", "No", "OFF", "0"] {
            assert_eq!(switch(no), Some(false), "{no}");
        }
        assert_eq!(switch("2"), None);
    }

    #[test]
    fn a_zero_limit_is_a_number_and_false_is_off() {
        let rule = Rule::limit(-400, 1000, 1, " °C");
        assert_eq!(rule.number("0"), Some(0));
        assert!(rule.admits("off") && rule.admits("False"));
        assert_eq!(rule.number("off"), None);
        assert!(!rule.admits("100.1"));
        assert_eq!(rule.to_string(), "a number from -40 to 100 °C, or off");
        assert_eq!(Rule::seconds(500..=3_600_000).to_string(), "a number from 0.5 to 3600 seconds");
    }

    #[test]
    fn an_unquoted_off_in_yaml_still_means_off() {
        let rule = Rule::Choice(&["entity", "device", "off"]);
        assert_eq!(rule.choice("false"), Some("off"));
        assert_eq!(rule.choice("Device"), Some("device"));
        assert_eq!(rule.choice("true"), None);
    }

    #[test]
    fn bus_addresses_in_both_notations() {
        assert_eq!(bus_address("1"), Some(1));
        assert_eq!(bus_address("0x0A"), Some(10));
        assert_eq!(bus_address("0XfF"), Some(255));
        for wrong in ["", "0x", "0x+1", "256", "-1", "A", "1.0"] {
            assert_eq!(bus_address(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn hosts_stand_alone() {
        assert_eq!(host("core-mosquitto").as_deref(), Some("core-mosquitto"));
        assert_eq!(host("[fe80::1]").as_deref(), Some("fe80::1"));
        assert_eq!(host("::1").as_deref(), Some("::1"));
        for wrong in ["", "mqtt://x", "x:1883", "x/y", "a b", "u@h", "[x]", "[10.0.0.1]", "..."] {
            assert_eq!(host(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn listening_places() {
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
    fn topics_and_templates() {
        assert!(is_topic_template("bms/{type}/{id}"));
        for wrong in
            ["", "/bms/{id}", "bms/", "a//b", "bms/#", "+/x", "{name}", "{id", "$SYS/x", "a\0b"]
        {
            assert!(!is_topic_template(wrong), "{wrong}");
        }
        assert!(is_topic_level("bms-reader") && !is_topic_level("a/b"));
    }

    #[test]
    fn bluetooth_addresses() {
        assert!(is_bluetooth_address("C8:47:80:37:02:E8"));
        assert!(is_bluetooth_address("c8-47-80-37-02-e8"));
        assert!(!is_bluetooth_address("C8:47:80:37:02"));
        assert!(!is_bluetooth_address("C8:47:80:37:02:+8"));
    }
}
