//! Errors and warnings about the configuration, each one line with its remedy.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

use super::esphome::without_key;
use crate::model::secret::MASK;

/// Longer values are truncated in messages.
const SHOWN: usize = 80;

/// A value that is missing or invalid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// As the user spelled it: `BMS_PORT`, `option bms_port`, `battery 1 of DEVICES (rack1): port`.
    pub variable: String,
    /// `None` if nothing was set, or the value is secret.
    pub value: Option<String>,
    /// What is allowed; follows "must be".
    pub allowed: String,
    pub example: String,
    /// The example is what the user probably means.
    pub is_correction: bool,
}

impl ConfigError {
    /// An error that does not show the value.
    pub(super) fn new(
        variable: impl Into<String>,
        allowed: impl Into<String>,
        example: &str,
    ) -> Self {
        ConfigError {
            variable: one_line(&variable.into()),
            value: None,
            allowed: one_line(&allowed.into()),
            example: example.to_owned(),
            is_correction: false,
        }
    }

    pub(super) fn with_value(self, value: &str) -> Self {
        ConfigError { value: Some(printable(value)), ..self }
    }

    pub(super) fn with_correction(self, correction: String) -> Self {
        ConfigError { example: one_line(&without_key(&correction)), is_correction: true, ..self }
    }

    pub(super) fn with_example(self, example: impl Into<String>) -> Self {
        ConfigError { example: example.into(), is_correction: false, ..self }
    }
}

impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.variable)?;
        if let Some(value) = &self.value {
            write!(f, " is {value:?}, but")?;
        }
        let introduction = if self.is_correction { "write" } else { "for example:" };
        write!(f, " must be {}; {introduction} {}", self.allowed, self.example)
    }
}

/// The value without what may be a login (`user:password@host`) or a key, truncated.
fn printable(value: &str) -> String {
    let value = without_key(value);
    let shown = match value.rsplit_once('@') {
        Some((login, host)) => {
            let scheme = login.find("://").map_or("", |at| &login[..at + 3]);
            format!("{scheme}{MASK}@{host}")
        }
        None => value,
    };
    match shown.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}...", &shown[..end]),
        None => shown,
    }
}

/// Escapes control characters: names come from outside, too, and must not forge log lines.
fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() { line.extend(c.escape_default()) } else { line.push(c) }
    }
    line
}

/// Everything that is wrong with a configuration, so that all of it is reported at once.
#[derive(Debug, Default)]
pub struct Diagnostics {
    /// Each one prevents the start.
    pub errors: Vec<ConfigError>,
    /// A misspelled name, which is only a warning, is often the cause of an error.
    pub warnings: Vec<String>,
}

/// Collects the diagnostics of one configuration; clones share one list.
#[derive(Debug, Clone, Default)]
pub(super) struct Reporter(Rc<RefCell<Diagnostics>>);

impl Reporter {
    pub fn error(&self, error: ConfigError) {
        self.0.borrow_mut().errors.push(error);
    }

    pub fn warn(&self, warning: impl Into<String>) {
        self.0.borrow_mut().warnings.push(one_line(&warning.into()));
    }

    pub fn take(&self) -> Diagnostics {
        self.0.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_is_one_line() {
        let invalid = ConfigError::new("MQTT_PORT", "a whole number", "1883").with_value("a\nb");
        assert_eq!(
            invalid.to_string(),
            r#"MQTT_PORT is "a\nb", but must be a whole number; for example: 1883"#
        );
        let missing = ConfigError::new("BMS_PORT", "set", "/dev/ttyUSB0");
        assert_eq!(missing.to_string(), "BMS_PORT must be set; for example: /dev/ttyUSB0");
    }

    #[test]
    fn login_in_a_url_is_masked() {
        assert_eq!(printable("mqtt://me:p@ss@broker:1"), "mqtt://***@broker:1");
        assert_eq!(printable("me:hunter2@broker"), "***@broker");
        assert_eq!(printable("esphome://a?key=b@c"), "esphome://a?***");
        assert_eq!(printable("hunter2@y://z"), "***@y://z");
    }

    #[test]
    fn long_value_is_truncated() {
        assert_eq!(printable(&"ä".repeat(1000)).chars().count(), SHOWN + 3);
    }
}
