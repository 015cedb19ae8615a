//! A YAML document as a tree whose values know their places.

use std::borrow::Cow;

use saphyr_parser::{Event, Parser, ScalarStyle, Span};

use super::{Error, Place, Result};

/// Deeper nesting than any profile has.
const MAX_DEPTH: usize = 16;
/// More values than any profile has, counting those that an alias repeats.
const MAX_NODES: usize = 20_000;

#[derive(Debug, Clone)]
pub struct Node {
    pub(in super::super) place: Place,
    pub(super) content: Content,
}

#[derive(Debug, Clone)]
pub(super) enum Content {
    /// A text in quotes is never a number.
    Scalar {
        text: String,
        plain: bool,
    },
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
}

/// Builds the tree.
pub(super) struct Reader<'a> {
    parser: Parser<'a, saphyr_parser::StrInput<'a>>,
    /// Number of each anchor, with what it stands for and the number of values in that.
    anchors: Vec<(usize, Node, usize)>,
    nodes: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        Reader { parser: Parser::new_from_str(text), anchors: Vec::new(), nodes: 0 }
    }

    pub(super) fn document(&mut self) -> Result<Node> {
        let (event, span) = self.event()?;
        if matches!(event, Event::StreamEnd) {
            return Err(Error::at(Place { line: 1, column: 1 }, "the file is empty"));
        }
        let root = self.node(event, span, 0)?;
        match self.event()? {
            (Event::StreamEnd, _) => Ok(root),
            (_, span) => Err(Error::at(place(span), "a profile is one document")),
        }
    }

    /// The next event that matters.
    fn event(&mut self) -> Result<(Event<'a>, Span)> {
        loop {
            match self.parser.next() {
                None => return Ok((Event::StreamEnd, Span::default())),
                Some(Err(error)) => {
                    let marker = error.marker();
                    let place = Place { line: marker.line(), column: marker.col() + 1 };
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

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node> {
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
                let known = self.anchors.iter().find(|(number, ..)| *number == anchor);
                let (_, node, size) = known.ok_or_else(|| {
                    Error::at(place, "a text that begins with * must be in quotes")
                })?;
                self.nodes += size;
                return Ok(node.clone());
            }
            _ => return Err(Error::at(place, "unexpected end")),
        };
        let node = Node { place, content };
        if anchor > 0 {
            self.anchors.push((anchor, node.clone(), self.nodes - before));
        }
        Ok(node)
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Node>> {
        let mut list = Vec::new();
        loop {
            match self.event()? {
                (Event::SequenceEnd, _) => return Ok(list),
                (event, span) => list.push(self.node(event, span, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Vec<(Node, Node)>> {
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
                let line = first.place.line;
                let message = format!("`{name}` is written twice (first in line {line})");
                return Err(Error::at(key.place, message));
            }
            let (event, span) = self.event()?;
            let value = self.node(event, span, depth + 1)?;
            map.push((key, value));
        }
    }
}

fn place(span: Span) -> Place {
    Place { line: span.start.line(), column: span.start.col() + 1 }
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
    pub(super) fn text(&self) -> Option<&str> {
        match &self.content {
            Content::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    pub(super) fn is_null(&self) -> bool {
        matches!(&self.content, Content::Scalar { text, plain: true }
            if matches!(text.as_str(), "" | "~" | "null"))
    }
}
