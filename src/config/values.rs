//! The values of one source or one battery, by variable.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use serde_json::Value;

use super::correction::correction;
use super::error::{ConfigError, Reporter};
use super::rule;
use super::variables::Variable;
use crate::model::{Installation, Secret};

/// How a source spells the names of variables.
#[derive(Debug, Clone)]
pub(super) enum Spelling {
    Environment,
    Options,
    /// `port`, in an element of `DEVICES`; contains its [`label`].
    Element(Rc<str>),
}

/// How messages name the element of a list: `battery 2 of DEVICES (rack1)`. People count from 1.
pub(super) fn label(kind: &str, index: usize, list: &str, id: Option<&str>) -> String {
    let id = id.map(|id| format!(" ({id})")).unwrap_or_default();
    format!("{kind} {} of {list}{id}", index + 1)
}

impl Spelling {
    /// Accepted names in lower case, the documented one first; none for a variable that does not
    /// belong to a single battery in an element of `DEVICES`.
    pub fn names(&self, variable: &Variable) -> Vec<String> {
        match self {
            Spelling::Element(_) => variable.key().into_iter().collect(),
            _ => [variable.name].iter().chain(variable.aliases).map(|n| n.to_lowercase()).collect(),
        }
    }

    /// The name under which a source may contain the path of a file with the value.
    pub fn file_name(&self, variable: &Variable) -> Option<String> {
        let name = self.names(variable).into_iter().next().filter(|_| variable.secret)?;
        Some(format!("{name}_file"))
    }

    /// The name as messages show it.
    pub fn display(&self, name: &str) -> String {
        match self {
            Spelling::Environment => name.to_uppercase(),
            Spelling::Options => format!("option {name}"),
            Spelling::Element(label) => format!("{label}: {name}"),
        }
    }
}

/// A value that a source contains.
#[derive(Debug, Clone)]
pub(super) struct Assignment {
    /// The name under which it was found, as messages show it.
    pub name: String,
    /// `None` if it was rejected; the error has been reported.
    pub text: Option<Secret>,
}

impl Assignment {
    /// An error that shows this value, unless it is secret.
    pub fn invalid(&self, variable: &Variable, allowed: impl Into<String>) -> ConfigError {
        let text = self.text.as_ref().map_or("", Secret::expose);
        let allowed = allowed.into() + shell_leftover(text);
        let mut error = ConfigError::new(&self.name, allowed, variable.example_for(text));
        if !variable.secret
            && !variable.rule.accepts(text)
            && let Some(correction) = correction(variable, text)
        {
            error = error.with_correction(correction);
        }
        match self.text {
            Some(_) if !variable.secret => error.with_value(text),
            _ => error,
        }
    }
}

/// Names what a shell would have removed and Docker's `--env-file` keeps; appended to what is
/// allowed.
fn shell_leftover(text: &str) -> &'static str {
    let quoted = |quote| text.len() > 1 && text.starts_with(quote) && text.ends_with(quote);
    if quoted('"') || quoted('\'') {
        return ", without quotes around it";
    }
    // In JSON this may be part of a name.
    match text.contains(" #") && !text.starts_with('[') {
        true => ", without a comment after it",
        false => "",
    }
}

/// Assigned values, each checked against its rule, with the defaults behind them.
#[derive(Debug, Clone)]
pub(super) struct Values {
    pub reporter: Reporter,
    pub spelling: Spelling,
    pub installation: Installation,
    assigned: BTreeMap<&'static str, Assignment>,
}

impl Values {
    pub fn new(spelling: Spelling, reporter: Reporter) -> Self {
        let installation = Installation::Host;
        Values { reporter, spelling, installation, assigned: BTreeMap::new() }
    }

    pub fn insert(&mut self, variable: &'static Variable, assignment: Assignment) {
        self.assigned.insert(variable.name, assignment);
    }

    /// Replaces values by those of a source with priority, and adopts its spelling.
    pub fn overlay(&mut self, stronger: Values) {
        self.spelling = stronger.spelling;
        self.assigned.extend(stronger.assigned);
    }

    /// Takes the value of the whole program, unless this battery has its own.
    pub fn inherit(&mut self, variable: &'static Variable, from: &Values) {
        if let Some(assignment) = from.assigned.get(variable.name) {
            self.assigned.entry(variable.name).or_insert_with(|| assignment.clone());
        }
    }

    /// Whether a source contains the variable, even with an invalid value.
    pub fn is_set(&self, variable: &Variable) -> bool {
        self.assigned.contains_key(variable.name)
    }

    /// The assigned value; never the default.
    pub fn explicit(&self, variable: &Variable) -> Option<&str> {
        self.assigned.get(variable.name)?.text.as_ref().map(Secret::expose)
    }

    /// The assigned value, or the default.
    pub fn value(&self, variable: &Variable) -> Option<&str> {
        self.explicit(variable).or(variable.default)
    }

    pub fn is_on(&self, variable: &Variable) -> bool {
        self.value(variable).and_then(rule::boolean).unwrap_or_default()
    }

    /// The chosen word, spelled as in the rule.
    pub fn choice(&self, variable: &Variable) -> Option<&'static str> {
        self.value(variable).and_then(|text| variable.rule.choice(text))
    }

    /// A number in units of its last place; `None` if it is unset or off.
    pub fn number<T: TryFrom<i64>>(&self, variable: &Variable) -> Option<T> {
        let number = self.value(variable).and_then(|text| variable.rule.number(text))?;
        T::try_from(number).ok()
    }

    /// A duration whose rule counts milliseconds.
    pub fn millis(&self, variable: &Variable) -> Option<Duration> {
        self.number(variable).map(Duration::from_millis)
    }

    /// A duration whose rule counts seconds.
    pub fn seconds(&self, variable: &Variable) -> Option<Duration> {
        self.number(variable).map(Duration::from_secs)
    }

    /// The elements of a JSON array; `None` if it is unset, or no array, which is reported.
    pub fn json_array(&self, variable: &Variable) -> Option<Vec<Value>> {
        let text = self.explicit(variable)?;
        let allowed = match serde_json::from_str(text) {
            Ok(Value::Array(list)) => return Some(list),
            Ok(_) => variable.rule.to_string(),
            Err(_) if text.contains('\'') && !text.contains('"') => format!(
                "{}, with double quotes (\") around names and texts instead of single ones (')",
                variable.rule
            ),
            // Syntax errors contain the position and never the text.
            Err(error) => format!("{} ({error})", variable.rule),
        };
        self.reject(variable, allowed);
        None
    }

    /// The name that the user wrote, or should write.
    pub fn name_of(&self, variable: &Variable) -> String {
        match (self.assigned.get(variable.name), &self.spelling, variable.key()) {
            (Some(assignment), _, _) => assignment.name.clone(),
            (None, Spelling::Element(_), Some(key)) => self.spelling.display(&key),
            (None, Spelling::Options, _) => self.spelling.display(&variable.name.to_lowercase()),
            (None, ..) => variable.name.to_owned(),
        }
    }

    /// An error that shows the assigned value, unless it is secret.
    pub fn invalid(&self, variable: &Variable, allowed: impl Into<String>) -> ConfigError {
        match self.assigned.get(variable.name) {
            Some(assignment) => assignment.invalid(variable, allowed),
            None => ConfigError::new(self.name_of(variable), allowed, variable.example),
        }
    }

    pub fn error(&self, error: ConfigError) {
        self.reporter.error(error);
    }

    pub fn warn(&self, warning: impl Into<String>) {
        self.reporter.warn(warning);
    }

    /// Reports that the assigned value is invalid.
    pub fn reject(&self, variable: &Variable, allowed: impl Into<String>) {
        self.error(self.invalid(variable, allowed));
    }

    /// Reports that the variable is unset.
    pub fn require(&self, variable: &Variable, reason: &str) {
        if let Some(error) = self.missing(variable, reason) {
            self.error(error);
        }
    }

    /// An error that the variable is unset; `None` if it is set to an invalid value, which has
    /// been reported.
    pub fn missing(&self, variable: &Variable, reason: &str) -> Option<ConfigError> {
        let error = || self.invalid(variable, format!("set: {reason}"));
        (!self.is_set(variable)).then(error)
    }

    /// Those of these variables that are set, joined for a message; `None` if there are none.
    pub fn set_among<'a>(
        &self,
        variables: impl IntoIterator<Item = &'a &'static Variable>,
    ) -> Option<String> {
        let set = variables.into_iter().filter_map(|variable| self.assigned.get(variable.name));
        let names: Vec<_> = set.map(|assignment| assignment.name.as_str()).collect();
        (!names.is_empty()).then(|| names.join(", "))
    }
}
