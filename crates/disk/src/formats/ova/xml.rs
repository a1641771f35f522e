//! The XML of a descriptor as a small tree: bounded in size and depth, without DTD and entities of its own.

use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesDecl, BytesRef, BytesStart, Event};
use quick_xml::{Reader, XmlVersion};

use crate::error::{Error, ErrorKind, Result};

const MAX_DEPTH: usize = 64;
const MAX_ELEMENTS: usize = 50_000;
/// Checking that no attribute is there twice takes the square of their number.
const MAX_ATTRIBUTES: usize = 256;
/// Longer names and descriptions are cut.
const MAX_SHOWN: usize = 200;

/// An element; names are without their prefix.
#[derive(Debug, Default)]
pub(super) struct Element {
    pub(super) name: String,
    attributes: Vec<(String, String)>,
    text: String,
    pub(super) children: Vec<Element>,
}

impl Element {
    /// Returns the first child called `name`.
    pub(super) fn child(&self, name: &str) -> Option<&Element> {
        self.children.iter().find(|child| child.name == name)
    }

    /// Returns every child called `name`.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Element> {
        self.children.iter().filter(move |child| child.name == name)
    }

    /// Returns the first section of a kind, as OVF 1 and 2 name it or as OVF 0.9 types it.
    pub(super) fn section(&self, name: &str) -> Result<Option<&Element>> {
        for child in &self.children {
            let kind = if child.name == "Section" { child.attribute("type")? } else { None };
            // The prefix of a type is that of a namespace.
            let typed = kind.and_then(|kind| kind.strip_suffix("_Type")?.rsplit(':').next());
            if child.name == name || typed == Some(name) {
                return Ok(Some(child));
            }
        }
        Ok(None)
    }

    /// Returns the text of the first child called `name`, without the spaces around it; empty if there is none.
    pub(super) fn text_of(&self, name: &str) -> &str {
        self.child(name).map_or("", |child| child.text.trim())
    }

    /// Returns the value of the attribute `name`, whatever its prefix; two of them would be read in two ways.
    pub(super) fn attribute(&self, name: &str) -> Result<Option<&str>> {
        let mut values = self.attributes.iter().filter(|(known, _)| known == name).map(|(_, value)| value.trim());
        let value = values.next();
        if values.next().is_some() {
            return Err(Error::corrupt(format!("the descriptor has two attributes {name:?} in one {:?}", self.name)));
        }
        Ok(value)
    }
}

/// Parses a document, the root of which is returned.
pub(super) fn parse(bytes: &[u8]) -> Result<Element> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let text = std::str::from_utf8(bytes)
        .map_err(|error| Error::corrupt(format!("the descriptor is not UTF-8 at byte {}", error.valid_up_to())))?;
    let mut reader = Reader::from_str(text);
    let mut tree = Tree::default();
    loop {
        let event = reader.read_event();
        let at = reader.buffer_position();
        match event.map_err(|error| not_xml(reader.error_position(), error))? {
            Event::Eof => return tree.finish(),
            Event::DocType(_) => return Err(refused("a document type", at)),
            Event::Decl(declaration) => check_encoding(&declaration)?,
            Event::Start(tag) => tree.open(&tag, at)?,
            Event::Empty(tag) => {
                tree.open(&tag, at)?;
                tree.close();
            }
            Event::End(_) => tree.close(),
            Event::Text(text) => tree.add(&text.xml10_content().map_err(|error| not_xml(at, error))?, at)?,
            Event::CData(text) => tree.add(&text.decode().map_err(|error| not_xml(at, error))?, at)?,
            Event::GeneralRef(reference) => tree.add(&resolve(&reference, at)?, at)?,
            Event::Comment(_) | Event::PI(_) => {}
        }
    }
}

/// Returns `text` for people: without control characters, on one line, and not endless.
pub(super) fn shown(text: &str) -> String {
    let words = text.split(|letter: char| letter.is_whitespace() || letter.is_control());
    let line = words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    line.chars().take(MAX_SHOWN).collect()
}

/// What was read until now: the open elements, outermost first.
#[derive(Default)]
struct Tree {
    open: Vec<Element>,
    root: Option<Element>,
    elements: usize,
}

impl Tree {
    fn open(&mut self, tag: &BytesStart<'_>, at: u64) -> Result<()> {
        self.elements += 1;
        if self.open.len() == MAX_DEPTH || self.elements > MAX_ELEMENTS {
            return Err(Error::new(
                ErrorKind::TooLarge,
                format!(
                    "the descriptor has more than {MAX_DEPTH} levels or {MAX_ELEMENTS} elements, seen before byte {at}"
                ),
            ));
        }
        if self.root.is_some() {
            return Err(Error::corrupt(format!("the descriptor has a second root before byte {at}")));
        }
        let mut element = Element { name: local(tag.local_name().as_ref()), ..Element::default() };
        for attribute in tag.attributes() {
            let attribute = attribute.map_err(|error| not_xml(at, error))?;
            if element.attributes.len() == MAX_ATTRIBUTES {
                return Err(Error::new(
                    ErrorKind::TooLarge,
                    format!("an element of the descriptor has more than {MAX_ATTRIBUTES} attributes, before byte {at}"),
                ));
            }
            let value = attribute.normalized_value(XmlVersion::Implicit1_0).map_err(|error| not_xml(at, error))?;
            element.attributes.push((local(attribute.key.local_name().as_ref()), value.into_owned()));
        }
        self.open.push(element);
        Ok(())
    }

    /// Ends the innermost element; that the names agree is checked by the parser.
    fn close(&mut self) {
        let Some(element) = self.open.pop() else { return };
        match self.open.last_mut() {
            Some(parent) => parent.children.push(element),
            None => self.root = Some(element),
        }
    }

    fn add(&mut self, text: &str, at: u64) -> Result<()> {
        match self.open.last_mut() {
            Some(element) => element.text.push_str(text),
            None if text.trim().is_empty() => {}
            None => return Err(Error::corrupt(format!("the descriptor has text outside its root before byte {at}"))),
        }
        Ok(())
    }

    fn finish(self) -> Result<Element> {
        match (self.root, self.open.last()) {
            (Some(root), None) => Ok(root),
            (_, Some(element)) => Err(Error::corrupt(format!("the descriptor ends inside of {:?}", element.name))),
            (None, None) => Err(Error::corrupt("the descriptor is empty")),
        }
    }
}

fn local(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

/// Returns what `&...;` stands for: one of the five entities of XML, or a character by its number.
fn resolve(reference: &BytesRef<'_>, at: u64) -> Result<String> {
    if let Some(letter) = reference.resolve_char_ref().map_err(|error| not_xml(at, error))? {
        return Ok(letter.to_string());
    }
    let name = reference.decode().map_err(|error| not_xml(at, error))?;
    resolve_predefined_entity(&name).map(str::to_owned).ok_or_else(|| refused("an entity of its own", at))
}

fn check_encoding(declaration: &BytesDecl<'_>) -> Result<()> {
    match declaration.encoding() {
        Some(Ok(name)) if !name.eq_ignore_ascii_case(b"utf-8") && !name.eq_ignore_ascii_case(b"us-ascii") => {
            Err(Error::unsupported(format!("the descriptor is encoded in {:?}", String::from_utf8_lossy(&name)))
                .with_hint("save it as UTF-8"))
        }
        _ => Ok(()),
    }
}

fn refused(what: &str, at: u64) -> Error {
    Error::refused(format!("the descriptor brings {what}, before its byte {at}"))
        .with_hint("a descriptor needs neither DTD nor entities: take them out")
}

fn not_xml(at: u64, error: impl std::fmt::Display) -> Error {
    Error::corrupt(format!("the descriptor is not sound XML near its byte {at}: {error}"))
}
