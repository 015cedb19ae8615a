//! YAML for profiles: the events of the parser as a tree with places, and serde on top of it.
//!
//! `serde-saphyr` would do the same in 1.0 MB instead of 0.2 MB, and its errors do not name the key.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use saphyr_parser::{Event, Parser, ScalarStyle, Span};
use serde::de::value::StrDeserializer;
use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::scalar::integer;
use crate::did_you_mean::closest;

/// Deeper nesting than any profile has.
const MAX_DEPTH: usize = 16;
/// More values than any profile has, counting those that an alias repeats.
const MAX_NODES: usize = 20_000;

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

#[derive(Debug, Clone)]
struct Node {
    place: (usize, usize),
    content: Content,
}

#[derive(Debug, Clone)]
enum Content {
    /// A text in quotes is never a number.
    Scalar {
        text: String,
        plain: bool,
    },
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
}

/// Builds the tree.
struct Reader<'a> {
    parser: Parser<'a, saphyr_parser::StrInput<'a>>,
    anchors: BTreeMap<usize, (Node, usize)>,
    nodes: usize,
}

impl<'a> Reader<'a> {
    fn new(text: &'a str) -> Self {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        Reader { parser: Parser::new_from_str(text), anchors: BTreeMap::new(), nodes: 0 }
    }

    fn document(&mut self) -> Result<Node, Error> {
        let (event, span) = self.event()?;
        if matches!(event, Event::StreamEnd) {
            return Err(Error::at((1, 1), "the file is empty"));
        }
        let root = self.node(event, span, 0)?;
        match self.event()? {
            (Event::StreamEnd, _) => Ok(root),
            (_, span) => Err(Error::at(place(span), "a profile is one document")),
        }
    }

    /// The next event that matters.
    fn event(&mut self) -> Result<(Event<'a>, Span), Error> {
        loop {
            match self.parser.next() {
                None => return Ok((Event::StreamEnd, Span::default())),
                Some(Err(error)) => {
                    let marker = error.marker();
                    let place = (marker.line(), marker.col() + 1);
                    return Err(Error::at(place, explain(error.info())));
                }
                Some(Ok((
                    Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd,
                    _,
                ))) => {}
                Some(Ok((Event::Nothing, _))) => {}
                Some(Ok(event)) => return Ok(event),
            }
        }
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node, Error> {
        let place = place(span);
        self.nodes += 1;
        if depth > MAX_DEPTH || self.nodes > MAX_NODES {
            return Err(Error::at(place, "the profile is nested too deeply, or too long"));
        }
        let before = self.nodes;
        let (content, anchor) = match event {
            Event::Scalar(_, _, _, Some(_))
            | Event::SequenceStart(_, Some(_))
            | Event::MappingStart(_, Some(_)) => {
                return Err(Error::at(place, "tags such as !secret are not supported here"));
            }
            Event::Scalar(text, style, anchor, None) => {
                let plain = style == ScalarStyle::Plain;
                (Content::Scalar { text: text.into_owned(), plain }, anchor)
            }
            Event::SequenceStart(anchor, None) => (Content::List(self.list(depth)?), anchor),
            Event::MappingStart(anchor, None) => (Content::Map(self.map(depth)?), anchor),
            Event::Alias(anchor) => {
                let (node, size) = self.anchors.get(&anchor).cloned().ok_or_else(|| {
                    Error::at(place, "a text that begins with * must be in quotes")
                })?;
                self.nodes += size;
                return Ok(node);
            }
            _ => return Err(Error::at(place, "unexpected end")),
        };
        let node = Node { place, content };
        if anchor > 0 {
            self.anchors.insert(anchor, (node.clone(), self.nodes - before));
        }
        Ok(node)
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Node>, Error> {
        let mut list = Vec::new();
        loop {
            match self.event()? {
                (Event::SequenceEnd, _) => return Ok(list),
                (event, span) => list.push(self.node(event, span, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Vec<(Node, Node)>, Error> {
        let mut map: Vec<(Node, Node)> = Vec::new();
        loop {
            let (event, span) = self.event()?;
            if matches!(event, Event::MappingEnd) {
                return Ok(map);
            }
            let key = self.node(event, span, depth + 1)?;
            let Some(name) = key.text() else {
                return Err(Error::at(key.place, "a key must be plain text"));
            };
            if let Some((first, _)) = map.iter().find(|(known, _)| known.text() == Some(name)) {
                let line = first.place.0;
                let message = format!("`{name}` is written twice (first in line {line})");
                return Err(Error::at(key.place, message));
            }
            let (event, span) = self.event()?;
            let value = self.node(event, span, depth + 1)?;
            map.push((key, value));
        }
    }
}

fn place(span: Span) -> (usize, usize) {
    (span.start.line(), span.start.col() + 1)
}

/// The messages of the parser that people meet most often, with a remedy.
fn explain(message: &str) -> Cow<'_, str> {
    if message.contains("tab") {
        "there is a tab; use blanks".into()
    } else if message.contains("did not find expected key") {
        format!("{message}; check the indentation of this line and the one above").into()
    } else {
        message.into()
    }
}

impl Node {
    fn text(&self) -> Option<&str> {
        match &self.content {
            Content::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    fn is_null(&self) -> bool {
        matches!(&self.content, Content::Scalar { text, plain: true }
            if matches!(text.as_str(), "" | "~" | "null"))
    }

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
