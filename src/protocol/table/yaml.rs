//! YAML for profiles: the events of the parser as a tree with places, and serde on top of it.
//!
//! `serde-saphyr` would do the same in 1.0 MB instead of 0.2 MB, and its errors do not name the key.

mod tree;

use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::scalar::integer;
use crate::did_you_mean::closest;
use tree::{Content, Node, Reader};

/// Field of a struct that receives the number of its line.
const LINE: &str = "line";

/// Reads a value from a text.
pub fn from_str<T: for<'de> Deserialize<'de>>(text: &str) -> Result<T, Error> {
    let root = Reader::new(text).document()?;
    T::deserialize(&root)
}

/// What is wrong, where.
#[derive(Debug, PartialEq, Eq)]
pub struct Error {
    message: String,
    /// Line and column, from 1.
    place: Option<(usize, usize)>,
    /// Keys and numbers that lead to the value, the innermost first.
    path: Vec<String>,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((line, column)) = self.place {
            write!(f, "line {line}, column {column}: ")?;
        }
        for (index, part) in self.path.iter().rev().enumerate() {
            let dot = if index > 0 && !part.starts_with('[') { "." } else { "" };
            write!(f, "{dot}{part}")?;
        }
        let colon = if self.path.is_empty() { "" } else { ": " };
        write!(f, "{colon}{}", self.message)
    }
}

impl std::error::Error for Error {}

impl de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Error { message: message.to_string(), place: None, path: Vec::new() }
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        let known: Vec<_> = expected.iter().copied().filter(|known| *known != LINE).collect();
        let near = closest(field, known.iter().copied()).map(|(near, _)| near);
        let near = near.map_or(String::new(), |near| format!("; did you mean `{near}`?"));
        let known = known.join(", ");
        de::Error::custom(format!("there is no key `{field}` here{near} (allowed: {known})"))
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let known = expected.join(", ");
        de::Error::custom(format!("found `{variant}`, expected one of {known}"))
    }

    fn missing_field(field: &'static str) -> Self {
        de::Error::custom(format!("the key `{field}` is missing here"))
    }

    fn duplicate_field(field: &'static str) -> Self {
        de::Error::custom(format!("there is no key `{field}` here"))
    }
}

impl Error {
    fn at(place: (usize, usize), message: impl Into<String>) -> Self {
        Error { message: message.into(), place: Some(place), path: Vec::new() }
    }

    fn within(mut self, node: &Node) -> Self {
        self.place.get_or_insert(node.place);
        self
    }

    fn below(mut self, part: String) -> Self {
        self.path.push(part);
        self
    }
}

impl Node {
    fn unexpected(&self, expected: &dyn de::Expected) -> Error {
        let found = match &self.content {
            _ if self.is_null() => "nothing".to_owned(),
            Content::Scalar { text, .. } => format!("`{text}`"),
            Content::List(_) => "a list".to_owned(),
            Content::Map(_) => "a block of keys".to_owned(),
        };
        Error::at(self.place, format!("found {found}, expected {}", Expected(expected)))
    }
}

/// What a visitor expects, in words for people who do not write Rust.
struct Expected<'a>(&'a dyn de::Expected);

impl fmt::Display for Expected<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0.to_string().as_str() {
            "u8" => "a number from 0 to 255",
            "u16" => "a number from 0 to 65535",
            "u32" | "u64" | "usize" => "a number without a sign",
            "i64" => "a whole number",
            "f32" => "a number of seconds from 0 to 3600",
            other if other.starts_with("struct") => "a block of keys",
            other => return f.write_str(other),
        })
    }
}

macro_rules! integers {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            let error = self.unexpected(&visitor);
            let result: Result<_, Error> = match self.text().and_then(integer) {
                Some(number) if number < 0 => visitor.visit_i64(number),
                Some(number) => visitor.visit_u64(number.unsigned_abs()),
                None => return Err(error),
            };
            result.map_err(|_| error)
        }
    )*};
}

macro_rules! strings {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            match self.text() {
                Some(text) if !self.is_null() => {
                    visitor.visit_str(text).map_err(|error: Error| error.within(self))
                }
                _ => Err(self.unexpected(&visitor)),
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for &'de Node {
    type Error = Error;

    integers! {
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64
    }
    strings! { deserialize_str deserialize_string deserialize_identifier deserialize_any }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        // All fractions are times. Other numbers, and NaN, are none.
        match self.text().and_then(|text| text.parse().ok()) {
            Some(number) if (0.0..=3600.0).contains(&number) => visitor.visit_f64(number),
            _ => Err(self.unexpected(&visitor)),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.text() {
            Some("true" | "yes" | "on") => visitor.visit_bool(true),
            Some("false" | "no" | "off") => visitor.visit_bool(false),
            _ => Err(self.unexpected(&"true or false")),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let list = match &self.content {
            Content::List(list) => list.as_slice(),
            // A key without anything behind it.
            _ if self.is_null() => &[],
            _ => return Err(self.unexpected(&"a list")),
        };
        visitor.visit_seq(List(list.iter().enumerate())).map_err(|error| error.within(self))
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.entries(false, visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.entries(fields.contains(&LINE), visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.text() {
            Some(text) => visitor
                .visit_enum(StrDeserializer::new(text))
                .map_err(|error: Error| error.within(self)),
            None => Err(self.unexpected(&visitor)),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        _length: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    serde::forward_to_deserialize_any! {
        i128 u128 f64 char bytes byte_buf unit unit_struct tuple_struct ignored_any
    }
}

impl Node {
    fn entries<'de, V: Visitor<'de>>(
        &'de self,
        with_line: bool,
        visitor: V,
    ) -> Result<V::Value, Error> {
        let Content::Map(map) = &self.content else { return Err(self.unexpected(&visitor)) };
        let line = with_line.then_some(self.place.0);
        let entries = Entries { line, value: None, rest: map.iter() };
        visitor.visit_map(entries).map_err(|error| error.within(self))
    }
}

struct List<'de>(std::iter::Enumerate<std::slice::Iter<'de, Node>>);

impl<'de> SeqAccess<'de> for List<'de> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        let Some((index, node)) = self.0.next() else { return Ok(None) };
        let value = seed.deserialize(node).map(Some);
        value.map_err(|error| error.within(node).below(format!("[{}]", index + 1)))
    }
}

struct Entries<'de> {
    /// Number of the line, which is delivered before the entries.
    line: Option<usize>,
    value: Option<&'de (Node, Node)>,
    rest: std::slice::Iter<'de, (Node, Node)>,
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = Error;

    fn next_key_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        if self.line.is_some() {
            return seed.deserialize(StrDeserializer::<Error>::new(LINE)).map(Some);
        }
        self.value = self.rest.next();
        let Some((key, _)) = self.value else { return Ok(None) };
        seed.deserialize(key).map(Some).map_err(|error| error.within(key))
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Error> {
        if let Some(line) = self.line.take() {
            return seed.deserialize(de::value::U64Deserializer::<Error>::new(line as u64));
        }
        let Some((key, value)) = self.value else { return Err(de::Error::custom("no value")) };
        let name = key.text().unwrap_or_default().to_owned();
        seed.deserialize(value).map_err(|error| error.within(value).below(name))
    }
}
