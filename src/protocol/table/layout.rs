//! Where the fields of a reply are, and the variables on which that depends.

use super::scalar::{Count, MAX_ENTRIES};
use super::schema::{Conditions, Field, Registers};

/// What the fields that begin with `$` have kept.
#[derive(Debug, Clone, Default)]
pub struct Variables(Vec<(&'static str, Variable)>);

#[derive(Debug, Clone)]
pub enum Variable {
    Number(i64),
    Text(String),
}

impl Variables {
    pub fn set(&mut self, name: &'static str, value: Variable) {
        self.0.retain(|(known, _)| *known != name);
        self.0.push((name, value));
    }

    pub fn number(&self, name: &str) -> Option<i64> {
        self.0.iter().find_map(|(known, value)| match value {
            Variable::Number(number) if *known == name => Some(*number),
            _ => None,
        })
    }

    pub fn sum(&self, names: &[String]) -> i64 {
        names.iter().filter_map(|name| self.number(name)).fold(0, i64::saturating_add)
    }

    /// `none` stands for a variable without a value.
    pub fn meet(&self, conditions: &Conditions) -> bool {
        conditions.iter().all(|(name, values)| {
            match self.0.iter().find(|(known, _)| known == name) {
                Some((_, Variable::Number(number))) => values.contain(*number),
                Some((_, Variable::Text(text))) => values.match_text(text),
                None => values.0 == "none",
            }
        })
    }
}

/// Follows the fields of a reply in their order.
#[derive(Debug)]
pub struct Layout {
    registers: Option<Registers>,
    /// Key of each array, and the place behind it.
    ends: Vec<(&'static str, usize)>,
}

impl Layout {
    pub fn new(registers: Option<Registers>) -> Self {
        Layout { registers, ends: Vec::new() }
    }

    /// The first byte of a field; `None` where it is before the frame.
    pub fn place(&self, field: &Field) -> Option<usize> {
        let at = match (&field.after, self.registers) {
            (Some(array), _) => {
                let end = self.ends.iter().rev().find(|(key, _)| key == array);
                end.map_or(0, |(_, end)| *end as i64) + field.at
            }
            (None, Some(registers)) => registers.at + 2 * (field.at - registers.first),
            (None, None) => field.at,
        };
        usize::try_from(at).ok()
    }

    /// Number of entries of an array, or the impossible number; `rest` fit where it is open.
    pub fn entries(
        &mut self,
        field: &Field,
        (count, at, rest): (&Count, usize, usize),
        variables: &Variables,
    ) -> Result<usize, i64> {
        let count = match count {
            Count::Fixed(count) => *count as i64,
            Count::Variable(name) => variables.number(name).unwrap_or_default(),
            Count::Rest => rest as i64,
        };
        let count = count.saturating_sub(variables.sum(&field.less));
        let entries = usize::try_from(count).ok().filter(|count| *count <= MAX_ENTRIES);
        let entries = entries.ok_or(count)?;
        self.ends.push((field.key.name(), at + entries * field.step()));
        Ok(entries)
    }
}
