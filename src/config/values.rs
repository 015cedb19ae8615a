//! The values of one source or one battery, by variable.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::fault::{ConfigError, Findings};
use super::rule;
use super::source::Spelling;
use super::variables::{Fallback, Variable};
use crate::model::Secret;

/// A value as somebody gave it.
#[derive(Debug, Clone)]
pub(super) struct Given {
    /// What they called it.
    pub name: String,
    /// What they said; `None` when it was refused, which has been reported.
    pub text: Option<Secret>,
}

impl Given {
    /// A fault that shows this value, unless it is secret.
    pub fn fault(&self, variable: &Variable, allowed: impl Into<String>) -> ConfigError {
        let text = self.text.as_ref().map_or("", Secret::expose);
        let allowed = allowed.into() + leftover(text);
        let fault = ConfigError::new(&self.name, allowed, variable.example_for(text));
        match self.text {
            Some(_) if !variable.secret => fault.showing(text),
            _ => fault,
        }
    }
}

/// What a shell would have taken away and Docker's `--env-file` keeps, to be read at the end of
/// what is allowed.
fn leftover(text: &str) -> &'static str {
    let quoted = |quote| text.len() > 1 && text.starts_with(quote) && text.ends_with(quote);
    if quoted('"') || quoted('\'') {
        return ", without the quotes around it";
    }
    // JSON may well have this in a name.
    match text.contains(" #") && !text.starts_with('[') {
        true => ", without the comment after it",
        false => "",
    }
}

/// What was given, with the defaults behind it. Every value has passed its rule.
#[derive(Debug, Clone)]
pub(super) struct Values {
    spelling: Spelling,
    given: BTreeMap<&'static str, Given>,
}

impl Values {
    pub fn new(spelling: Spelling) -> Self {
        Values { spelling, given: BTreeMap::new() }
    }

    pub fn insert(&mut self, variable: &'static Variable, given: Given) {
        self.given.insert(variable.name, given);
    }

    /// Lays the values of a stronger source over these; names are now spelled as there.
    pub fn overlay(&mut self, stronger: Values) {
        self.spelling = stronger.spelling;
        self.given.extend(stronger.given);
    }

    /// Lets this battery have what the program as a whole says, where it says nothing itself.
    pub fn inherit(&mut self, variable: &'static Variable, from: &Values) {
        if let (false, Some(given)) = (self.mentions(variable), from.given.get(variable.name)) {
            self.insert(variable, given.clone());
        }
    }

    /// Whether somebody said something about it, be it wrong.
    pub fn mentions(&self, variable: &Variable) -> bool {
        self.given.contains_key(variable.name)
    }

    /// What somebody said about it.
    pub fn given(&self, variable: &Variable) -> Option<&str> {
        self.given.get(variable.name)?.text.as_ref().map(Secret::expose)
    }

    /// What counts: the given value, or the default.
    pub fn text(&self, variable: &Variable) -> Option<&str> {
        self.given(variable).or(match variable.default {
            Fallback::Text(text) => Some(text),
            Fallback::Unset | Fallback::Depends(_) => None,
        })
    }

    /// The value of a switch.
    pub fn switch(&self, variable: &Variable) -> bool {
        self.text(variable).and_then(rule::switch).unwrap_or_default()
    }

    /// The word that was chosen.
    pub fn choice(&self, variable: &Variable) -> Option<&'static str> {
        self.text(variable).and_then(|text| variable.rule.choice(text))
    }

    /// A number in units of its last place; `None` when it is not set, or off.
    pub fn number<T: TryFrom<i64>>(&self, variable: &Variable) -> Option<T> {
        let number = self.text(variable).and_then(|text| variable.rule.number(text))?;
        T::try_from(number).ok()
    }

    /// A time whose rule counts milliseconds.
    pub fn millis(&self, variable: &Variable) -> Option<Duration> {
        self.number(variable).map(Duration::from_millis)
    }

    /// A time whose rule counts seconds.
    pub fn seconds(&self, variable: &Variable) -> Option<Duration> {
        self.number(variable).map(Duration::from_secs)
    }

    /// The elements of a JSON array; `None` when it is not set, or is none, which is then a fault.
    pub fn list(&self, variable: &Variable, findings: &mut Findings) -> Option<Vec<Value>> {
        let allowed = match serde_json::from_str(self.given(variable)?) {
            Ok(Value::Array(list)) => return Some(list),
            Ok(_) => variable.rule.to_string(),
            // Errors of syntax name the place and never the text.
            Err(error) => format!("{} ({error})", variable.rule),
        };
        findings.fault(self.fault(variable, allowed));
        None
    }

    /// What people called it, or should call it.
    pub fn name(&self, variable: &Variable) -> String {
        match (self.given.get(variable.name), self.spelling, variable.key) {
            (Some(given), _, _) => given.name.clone(),
            (None, Spelling::Element(_), Some(key)) => self.spelling.shown(key),
            (None, ..) => variable.name.to_owned(),
        }
    }

    /// A fault of this variable that shows its value, unless it is secret.
    pub fn fault(&self, variable: &Variable, allowed: impl Into<String>) -> ConfigError {
        match self.given.get(variable.name) {
            Some(given) => given.fault(variable, allowed),
            None => ConfigError::new(self.name(variable), allowed, variable.example),
        }
    }

    /// The fault that this variable is not set; `None` when it was set wrongly, which is a fault
    /// of its own.
    pub fn missing(&self, variable: &Variable, why: &str) -> Option<ConfigError> {
        if self.mentions(variable) {
            return None;
        }
        Some(ConfigError::new(self.name(variable), format!("set: {why}"), variable.example))
    }

    /// Those of these variables that somebody set, as they called them.
    pub fn set_among<'a>(
        &self,
        variables: impl IntoIterator<Item = &'a &'static Variable>,
    ) -> Vec<String> {
        let set = variables.into_iter().filter_map(|variable| self.given.get(variable.name));
        set.map(|given| given.name.clone()).collect()
    }
}
