//! What is wrong with the configuration, in lines that tell how to mend it.

use crate::model::secret::MASK;
use std::fmt;

/// Longer values are cut in messages.
const SHOWN: usize = 80;

/// One thing that is wrong with the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The variable (or the place in `DEVICES`).
    pub variable: String,
    /// What was given; never a secret.
    pub value: Option<String>,
    /// What is allowed.
    pub allowed: String,
    /// A good value.
    pub example: String,
}

impl ConfigError {
    /// A fault that does not say what was given: nothing, or a secret.
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
        }
    }

    /// The same fault with the value that caused it.
    pub(super) fn showing(self, value: &str) -> Self {
        ConfigError { value: Some(printable(value)), ..self }
    }
}

impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.variable)?;
        if let Some(value) = &self.value {
            write!(f, " is {value:?}, but it")?;
        }
        write!(f, " must be {}; for example: {}", self.allowed, self.example)
    }
}

/// The value without what may be a login (`user:password@host`), cut to a sensible length.
fn printable(value: &str) -> String {
    let shown = match value.rsplit_once('@') {
        Some((login, host)) => {
            let scheme = login.find("://").map_or("", |at| &login[..at + 3]);
            format!("{scheme}{MASK}@{host}")
        }
        None => value.to_owned(),
    };
    match shown.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}...", &shown[..end]),
        None => shown,
    }
}

/// Names come from outside, too: none of them may begin a line of its own in the log.
fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() { line.extend(c.escape_default()) } else { line.push(c) }
    }
    line
}

/// What was found while reading; all of it is told at once.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// Reasons not to start.
    pub faults: Vec<ConfigError>,
    /// Worth a word, but no reason to stop.
    pub warnings: Vec<String>,
}

impl Findings {
    /// Notes a reason not to start.
    pub fn fault(&mut self, fault: ConfigError) {
        self.faults.push(fault);
    }

    /// Notes something worth a word.
    pub fn warn(&mut self, warning: impl Into<String>) {
        self.warnings.push(one_line(&warning.into()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_one_line() {
        let fault = ConfigError::new("MQTT_PORT", "a whole number", "1883").showing("a\nb");
        assert_eq!(
            fault.to_string(),
            r#"MQTT_PORT is "a\nb", but it must be a whole number; for example: 1883"#
        );
        let missing = ConfigError::new("BMS_PORT", "set", "/dev/ttyUSB0");
        assert_eq!(missing.to_string(), "BMS_PORT must be set; for example: /dev/ttyUSB0");
    }

    #[test]
    fn a_login_in_a_url_is_not_shown() {
        assert_eq!(printable("mqtt://me:p@ss@broker:1"), "mqtt://***@broker:1");
        assert_eq!(printable("me:hunter2@broker"), "***@broker");
        assert_eq!(printable("hunter2@y://z"), "***@y://z");
    }

    #[test]
    fn a_long_value_is_cut() {
        assert_eq!(printable(&"ä".repeat(1000)).chars().count(), SHOWN + 3);
    }
}
