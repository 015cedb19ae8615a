//! YAML for profiles: the events of the parser as a tree with places, and values read from it.
//!
//! serde would do the same: `serde-saphyr` in 1.0 MB, `serde_derive` on this tree in 0.1 MB more than
//! the tables of [`block`].

pub(super) mod tree;

use std::fmt;
use std::ops::{Deref, RangeInclusive};
use std::time::Duration;

use super::scalar::{Notation, integer};
use crate::did_you_mean::closest;
use tree::{Content, Node, Reader};

pub type Result<T> = std::result::Result<T, Box<Error>>;

/// A value of a profile.
pub trait Read: Sized {
    fn read(node: &Node) -> Result<Self>;
}

/// Reads a value from a text.
pub fn from_str<T: Read>(text: &str) -> Result<T> {
    T::read(&Reader::new(text).document()?)
}

/// Line and column, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Place {
    pub line: usize,
    pub column: usize,
}

/// What is wrong, where.
#[derive(Debug, PartialEq, Eq)]
pub struct Error {
    message: String,
    place: Place,
    /// Keys and numbers that lead to the value, the innermost first.
    path: Vec<String>,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: ", self.place.line, self.place.column)?;
        for (index, part) in self.path.iter().rev().enumerate() {
            let dot = if index > 0 && !part.starts_with('[') { "." } else { "" };
            write!(f, "{dot}{part}")?;
        }
        let colon = if self.path.is_empty() { "" } else { ": " };
        write!(f, "{colon}{}", self.message)
    }
}

impl Error {
    pub fn at(place: Place, message: impl Into<String>) -> Box<Self> {
        Box::new(Error { message: message.into(), place, path: Vec::new() })
    }

    pub fn below(mut self: Box<Self>, part: impl Into<String>) -> Box<Self> {
        self.path.push(part.into());
        self
    }
}

/// Pairs of a key and a value, in the order of the file.
#[derive(Debug, Clone)]
pub struct Pairs<K, V>(pub Vec<(K, V)>);

impl<K, V> Default for Pairs<K, V> {
    fn default() -> Self {
        Pairs(Vec::new())
    }
}

impl<K, V> Deref for Pairs<K, V> {
    type Target = [(K, V)];

    fn deref(&self) -> &[(K, V)] {
        &self.0
    }
}

/// A key that a block may have.
#[derive(Debug)]
pub struct Rule {
    pub key: &'static str,
    pub required: bool,
    pub range: Option<RangeInclusive<i64>>,
}

impl Node {
    fn unexpected(&self, expected: &str) -> Box<Error> {
        let found = match &self.content {
            _ if self.is_null() => "nothing".to_owned(),
            Content::Scalar { text, .. } => format!("`{text}`"),
            Content::List(_) => "a list".to_owned(),
            Content::Map(_) => "a block of keys".to_owned(),
        };
        Error::at(self.place, format!("found {found}, expected {expected}"))
    }

    /// Calls `put` with the index of the rule of each key.
    pub fn fill(
        &self,
        rules: &[Rule],
        put: &mut dyn FnMut(usize, &Node) -> Result<()>,
    ) -> Result<()> {
        let entries = self.entries()?;
        for (key, value) in entries {
            let name = key.text().unwrap_or_default();
            let index = rules.iter().position(|rule| rule.key == name);
            let index = index.ok_or_else(|| unknown_key(key.place, name, rules))?;
            let range = rules[index].range.as_ref().filter(|_| !value.is_null());
            let result = range.map_or(Ok(()), |range| value.integer(range).map(drop));
            result.and_then(|()| put(index, value)).map_err(|error| error.below(name))?;
        }
        let is_missing = |rule: &&Rule| entries.iter().all(|(key, _)| key.text() != Some(rule.key));
        match rules.iter().filter(|rule| rule.required).find(is_missing) {
            Some(rule) => {
                Err(Error::at(self.place, format!("the key `{}` is missing here", rule.key)))
            }
            None => Ok(()),
        }
    }

    fn entries(&self) -> Result<&[(Node, Node)]> {
        match &self.content {
            Content::Map(entries) => Ok(entries),
            _ => Err(self.unexpected("a block of keys")),
        }
    }

    fn list(&self) -> Result<&[Node]> {
        match &self.content {
            Content::List(list) => Ok(list),
            // A key without anything behind it.
            _ if self.is_null() => Ok(&[]),
            _ => Err(self.unexpected("a list")),
        }
    }

    pub fn string(&self) -> Result<&str> {
        self.text().filter(|_| !self.is_null()).ok_or_else(|| self.unexpected("a text"))
    }

    fn integer(&self, range: &RangeInclusive<i64>) -> Result<i64> {
        let number = self.text().and_then(integer).filter(|number| range.contains(number));
        number.ok_or_else(|| {
            self.unexpected(&format!("a number from {} to {}", range.start(), range.end()))
        })
    }

    /// One of the names of an enum.
    pub fn one_of<T: Copy>(&self, names: &[(&str, T)]) -> Result<T> {
        let found = names.iter().find(|(name, _)| self.text() == Some(name));
        found.map(|(_, value)| *value).ok_or_else(|| {
            let names: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
            self.unexpected(&format!("one of {}", names.join(", ")))
        })
    }
}

fn unknown_key(place: Place, key: &str, rules: &[Rule]) -> Box<Error> {
    let known: Vec<&str> = rules.iter().map(|rule| rule.key).collect();
    let near = closest(key, known.iter().copied()).map(|(near, _)| near);
    let near = near.map_or(String::new(), |near| format!("; did you mean `{near}`?"));
    let known = known.join(", ");
    Error::at(place, format!("there is no key `{key}` here{near} (allowed: {known})"))
}

pub fn put<T: Read>(to: &mut T, node: &Node) -> Result<()> {
    *to = T::read(node)?;
    Ok(())
}

/// Defines structs together with the keys of a profile that they are read from.
///
/// Behind the type follows the range of a number, and `= required` or what a missing key means, if
/// it is not the default of the type. A key that is no identifier is written before the type.
/// `at place` adds where the block begins.
macro_rules! block {
    ($(#[$meta:meta])* $name:ident $(at $place:ident)? {
        $($(#[$doc:meta])* $field:ident $($key:literal)? : $type:ty $([$range:expr])?
            $(= $default:tt)?,)*
    }) => {
        $(#[$meta])*
        #[derive(Debug, Clone)]
        pub struct $name {
            $(pub $place: Place,)?
            $($(#[$doc])* pub $field: $type,)*
        }

        impl Read for $name {
            fn read(node: &Node) -> Result<Self> {
                static RULES: &[Rule] = &[$(Rule {
                    key: block!(@key $field $($key)?),
                    required: block!(@required $($default)?),
                    range: block!(@range $($range)?),
                }),*];
                type Put = fn(&mut $name, &Node) -> Result<()>;
                static PUT: &[Put] = &[$(|value, node| put(&mut value.$field, node)),*];
                let mut value = $name {
                    $($place: node.place,)?
                    $($field: block!(@default $($default)?),)*
                };
                node.fill(RULES, &mut |index, node| PUT[index](&mut value, node))?;
                Ok(value)
            }
        }
    };
    (@key $field:ident) => { stringify!($field) };
    (@key $field:ident $key:literal) => { $key };
    (@required required) => { true };
    (@required $($default:tt)?) => { false };
    (@range) => { None };
    (@range $range:expr) => { Some($range) };
    (@default $(required)?) => { Default::default() };
    (@default $default:tt) => { $default };
}
pub(super) use block;

impl<T: Notation> Read for T {
    fn read(node: &Node) -> Result<Self> {
        T::parse(node.string()?).map_err(|message| Error::at(node.place, message))
    }
}

macro_rules! integers {
    ($($type:ty)*) => {$(
        impl Read for $type {
            fn read(node: &Node) -> Result<Self> {
                let (min, max) = (<$type>::MIN as i64, <$type>::MAX.min(i64::MAX as $type) as i64);
                node.integer(&(min..=max)).map(|number| number as $type)
            }
        }
    )*};
}
integers! { u8 u16 u32 u64 usize i64 }

impl Read for String {
    fn read(node: &Node) -> Result<Self> {
        node.string().map(str::to_owned)
    }
}

impl Read for bool {
    fn read(node: &Node) -> Result<Self> {
        match node.text() {
            Some("true" | "yes" | "on") => Ok(true),
            Some("false" | "no" | "off") => Ok(false),
            _ => Err(node.unexpected("true or false")),
        }
    }
}

impl Read for Duration {
    fn read(node: &Node) -> Result<Self> {
        let number = node.text().and_then(|text| text.parse().ok());
        let number = number.filter(|number| (0.0..=3600.0).contains(number));
        let seconds = number.map(Duration::from_secs_f32);
        seconds.ok_or_else(|| node.unexpected("a number of seconds from 0 to 3600"))
    }
}

impl<T: Read> Read for Option<T> {
    fn read(node: &Node) -> Result<Self> {
        if node.is_null() { Ok(None) } else { T::read(node).map(Some) }
    }
}

impl<T: Read> Read for Vec<T> {
    fn read(node: &Node) -> Result<Self> {
        let mut values = Vec::new();
        for (index, node) in node.list()?.iter().enumerate() {
            values.push(T::read(node).map_err(|error| error.below(format!("[{}]", index + 1)))?);
        }
        Ok(values)
    }
}

/// Two numbers.
impl Read for (u16, u16) {
    fn read(node: &Node) -> Result<Self> {
        match <Vec<u16>>::read(node)?[..] {
            [first, second] => Ok((first, second)),
            _ => Err(Error::at(node.place, "expected a list of two numbers")),
        }
    }
}

/// A block whose keys are values too, in the order of the file.
impl<K: Read, V: Read> Read for Pairs<K, V> {
    fn read(node: &Node) -> Result<Self> {
        let mut pairs = Vec::new();
        for (key, value) in node.entries()? {
            let name = || key.text().unwrap_or_default();
            let value = V::read(value).map_err(|error| error.below(name()))?;
            pairs.push((K::read(key)?, value));
        }
        Ok(Pairs(pairs))
    }
}
