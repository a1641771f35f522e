//! The text that LVM keeps its metadata in: `name = value` and `name { ... }`, nested.
//!
//! Grammar: lvm.conf(5). Memory stays in proportion to the text, whose length is bounded, and has a limit of its own.

/// Deepest nesting: group, volumes, volume, segment.
const DEPTH_MAX: usize = 8;
/// Most values; a logical volume has some 25.
const VALUES_MAX: usize = 100_000;

/// The names and values between two braces.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Section<'a>(Vec<(&'a str, Value<'a>)>);

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Section(Section<'a>),
    List(Vec<Value<'a>>),
    /// Between its quotes, as it is written.
    Text(&'a str),
    Number(u64),
}

impl<'a> Section<'a> {
    fn get(&self, name: &str) -> Option<&Value<'a>> {
        self.0.iter().find(|(own, _)| *own == name).map(|(_, value)| value)
    }

    pub(super) fn number(&self, name: &str) -> Result<u64, String> {
        match self.get(name) {
            Some(Value::Number(number)) => Ok(*number),
            _ => Err(format!("it has no number for {name}")),
        }
    }

    pub(super) fn text(&self, name: &str) -> Result<&'a str, String> {
        match self.get(name) {
            Some(Value::Text(text)) => Ok(text),
            _ => Err(format!("it has no text for {name}")),
        }
    }

    pub(super) fn list(&self, name: &str) -> &[Value<'a>] {
        match self.get(name) {
            Some(Value::List(values)) => values,
            _ => &[],
        }
    }

    /// Returns the sections inside of this one.
    pub(super) fn sections(&self) -> impl Iterator<Item = (&'a str, &Section<'a>)> {
        self.0.iter().filter_map(|(name, value)| match value {
            Value::Section(section) => Some((*name, section)),
            _ => None,
        })
    }

    /// Returns the sections inside of the one called `name`; none where there is no such section.
    pub(super) fn sections_of(&self, name: &str) -> impl Iterator<Item = (&'a str, &Section<'a>)> {
        let found = match self.get(name) {
            Some(Value::Section(section)) => Some(section),
            _ => None,
        };
        found.into_iter().flat_map(Section::sections)
    }
}

/// Reads a whole text.
pub(super) fn parse(text: &str) -> Result<Section<'_>, String> {
    let mut reader = Reader { rest: text, values: 0 };
    let section = reader.section(0)?;
    if reader.rest.is_empty() { Ok(section) } else { Err("its text has a brace too many".to_owned()) }
}

struct Reader<'a> {
    rest: &'a str,
    values: usize,
}

impl<'a> Reader<'a> {
    /// Skips spaces and comments, and returns the next character.
    fn peek(&mut self) -> Option<char> {
        loop {
            self.rest = self.rest.trim_start();
            if !self.rest.starts_with('#') {
                return self.rest.chars().next();
            }
            self.rest = self.rest.find('\n').map_or("", |end| &self.rest[end..]);
        }
    }

    /// Takes the next character if it is `expected`, which is ASCII.
    fn takes(&mut self, expected: char) -> bool {
        let is_there = self.peek() == Some(expected);
        if is_there {
            self.rest = &self.rest[1..];
        }
        is_there
    }

    fn word(&mut self) -> Result<&'a str, String> {
        let is_end = |letter: char| letter.is_whitespace() || "={}[],\"#".contains(letter);
        let (word, rest) = self.rest.split_at(self.rest.find(is_end).unwrap_or(self.rest.len()));
        self.rest = rest;
        if word.is_empty() { Err("its text breaks the grammar".to_owned()) } else { Ok(word) }
    }

    fn section(&mut self, depth: usize) -> Result<Section<'a>, String> {
        let mut section = Section::default();
        while self.peek().is_some_and(|next| next != '}') {
            let name = self.word()?;
            let value = if self.takes('{') {
                self.count(depth)?;
                let inner = Value::Section(self.section(depth + 1)?);
                if !self.takes('}') {
                    return Err("its text lacks a brace".to_owned());
                }
                inner
            } else if self.takes('=') {
                self.value(depth)?
            } else {
                return Err("its text breaks the grammar".to_owned());
            };
            section.0.push((name, value));
        }
        Ok(section)
    }

    fn value(&mut self, depth: usize) -> Result<Value<'a>, String> {
        self.count(depth)?;
        if self.takes('[') {
            let mut values = Vec::new();
            while !self.takes(']') {
                values.push(self.value(depth + 1)?);
                if !self.takes(',') && self.peek() != Some(']') {
                    return Err("its text breaks the grammar".to_owned());
                }
            }
            return Ok(Value::List(values));
        }
        if self.takes('"') {
            return self.quoted();
        }
        let word = self.word()?;
        // Fractions and negative numbers are legal, and never of interest.
        Ok(word.parse().map_or(Value::Text(word), Value::Number))
    }

    fn quoted(&mut self) -> Result<Value<'a>, String> {
        let mut is_escaped = false;
        let end = self.rest.find(|letter| {
            let is_end = letter == '"' && !is_escaped;
            is_escaped = letter == '\\' && !is_escaped;
            is_end
        });
        let end = end.ok_or("its text lacks a quote")?;
        let text = &self.rest[..end];
        self.rest = &self.rest[end + 1..];
        Ok(Value::Text(text))
    }

    fn count(&mut self, depth: usize) -> Result<(), String> {
        self.values += 1;
        if depth >= DEPTH_MAX || self.values > VALUES_MAX {
            return Err("its text has too many values".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read() {
        let text = "# by LVM\nvg {\n\tseqno = 3\t# comment { \"\n\tstatus = [\"READ\", \"WRITE\"]\n\tflags = []\n\t\
                    pv0 {\n\t\tid = \"a\\\"b\"\n\t\tx = -1\n\t}\n}\nversion=1";
        let root = parse(text).unwrap();
        let (name, group) = root.sections().next().unwrap();
        assert_eq!((name, group.number("seqno").unwrap()), ("vg", 3));
        assert_eq!(group.list("status"), [Value::Text("READ"), Value::Text("WRITE")]);
        assert_eq!(group.list("flags"), []);
        assert_eq!(group.sections().next().unwrap().1.text("id").unwrap(), "a\\\"b");
        assert_eq!(root.number("version").unwrap(), 1);
        assert!(root.number("vg").is_err() && root.text("version").is_err());
    }

    #[test]
    fn bad_texts_are_refused() {
        let deep = "a {".repeat(100_000);
        let lists = format!("a = {}", "[".repeat(100_000));
        let many = "a = 1\n".repeat(VALUES_MAX + 1);
        for text in
            ["}", "a {", "a", "a =", "a = [1", "a = [1 2]", "a = \"x", "= 1", "\"", "a = {", &deep, &lists, &many]
        {
            assert!(parse(text).is_err(), "{}", &text[..text.len().min(20)]);
        }
    }
}
