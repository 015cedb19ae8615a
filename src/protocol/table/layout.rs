//! Where the fields of a reply are, and the variables on which that depends.

use std::collections::BTreeMap;

use super::scalar::{Count, MAX_ENTRIES};
use super::schema::{Conditions, Field};
use crate::protocol::driver::Medium;

/// Value of the variable `$medium`.
pub fn medium_name(medium: Medium) -> &'static str {
    if medium == Medium::Ble { "ble" } else { "serial" }
}

/// What the fields that begin with `$` have kept: texts, and numbers in decimal.
#[derive(Debug, Clone, Default)]
pub struct Variables(BTreeMap<&'static str, String>);

impl Variables {
    pub fn new(medium: Medium) -> Self {
        Variables(BTreeMap::from([("$medium", medium_name(medium).to_owned())]))
    }

    pub fn set(&mut self, name: &'static str, value: impl ToString) {
        self.0.insert(name, value.to_string());
    }

    pub fn number(&self, name: &str) -> Option<i64> {
        self.0.get(name)?.parse().ok()
    }

    /// `none` stands for a variable without a value.
    pub fn meet(&self, conditions: &Conditions) -> bool {
        conditions.iter().all(|(name, values)| match self.0.get(name.as_str()) {
            Some(value) => values.match_text(value),
            None => values.0 == "none",
        })
    }
}

/// Follows the fields of a reply in their order.
#[derive(Debug, Default)]
pub struct Layout {
    /// Key of each field, and the place behind it.
    ends: BTreeMap<&'static str, usize>,
}

impl Layout {
    /// The first byte of a field; `None` where it is before the frame.
    pub fn place(&self, field: &Field) -> Option<usize> {
        let end = field.after.as_deref().and_then(|key| self.ends.get(key)).copied();
        usize::try_from(end.unwrap_or_default() as i64 + field.at).ok()
    }

    /// Number of entries of a field, or the impossible number; `rest` fit where it is open.
    pub fn entries(
        &mut self,
        field: &Field,
        (at, rest): (usize, usize),
        variables: &Variables,
    ) -> Result<usize, i64> {
        let count = match &field.count {
            None => 1,
            Some(Count::Fixed(count)) => *count as i64,
            Some(Count::Variable(name)) => variables.number(name).unwrap_or_default(),
            Some(Count::Rest) => rest as i64,
        };
        let entries = usize::try_from(count).ok().filter(|count| *count <= MAX_ENTRIES);
        let entries = entries.ok_or(count)?;
        self.ends.insert(field.key.name(), at + entries * field.step());
        Ok(entries)
    }
}
