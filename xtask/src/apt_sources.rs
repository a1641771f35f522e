//! The machine's own Debian package source, read so that another suite of the same mirror can be named.
//!
//! Two formats, sources.list(5): one line an entry (`*.list`), or a stanza of fields (`*.sources`, deb822).
//! An entry is copied with everything it says (mirror, keys, options) and only its suites are replaced.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

/// One entry for binary packages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Source {
    text: String,
    form: Form,
    suites: Vec<String>,
}

/// How an entry is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// `deb [options] URI suite component...`
    OneLine,
    /// `Types:`, `URIs:`, `Suites:`, ...
    Deb822,
}

impl Form {
    /// The ending by which apt knows the format.
    pub(crate) fn extension(self) -> &'static str {
        match self {
            Form::OneLine => "list",
            Form::Deb822 => "sources",
        }
    }
}

impl Source {
    /// Whether the entry offers `suite`.
    pub(crate) fn has_suite(&self, suite: &str) -> bool {
        self.suites.iter().any(|own| own == suite)
    }

    /// How the entry is written.
    pub(crate) fn form(&self) -> Form {
        self.form
    }

    /// The same entry for `suite` alone.
    pub(crate) fn with_suite(&self, suite: &str) -> String {
        match self.form {
            Form::OneLine => one_line_with_suite(&self.text, suite),
            Form::Deb822 => deb822_with_suite(&self.text, suite),
        }
    }
}

/// Every enabled entry for binary packages of this machine.
pub(crate) fn of_this_machine() -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    let main = Path::new("/etc/apt/sources.list");
    if main.exists() {
        sources.extend(parse(Form::OneLine, &read(main)?));
    }
    let folder = Path::new("/etc/apt/sources.list.d");
    let mut files: Vec<_> = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    files.sort();
    for file in files {
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("list") => sources.extend(parse(Form::OneLine, &read(&file)?)),
            Some("sources") => sources.extend(parse(Form::Deb822, &read(&file)?)),
            _ => {}
        }
    }
    Ok(sources)
}

/// The entries in the text of one file.
pub(crate) fn parse(form: Form, text: &str) -> Vec<Source> {
    match form {
        Form::OneLine => text.lines().filter_map(parse_line).collect(),
        Form::Deb822 => stanzas(text).iter().filter_map(|stanza| parse_stanza(stanza)).collect(),
    }
}

fn read(file: &Path) -> Result<String> {
    fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}

/// The fields of a one-line entry from the URI on; the options in brackets may hold blanks.
fn fields_after_options(line: &str) -> Option<(usize, Vec<&str>)> {
    let rest = line.strip_prefix("deb")?;
    let rest = rest.strip_prefix([' ', '\t'])?.trim_start();
    let rest = if rest.starts_with('[') { rest.split_once(']')?.1 } else { rest };
    let start = line.len() - rest.len();
    Some((start, rest.split_whitespace().collect()))
}

fn parse_line(line: &str) -> Option<Source> {
    let line = line.split('#').next().unwrap_or_default().trim();
    let (_, fields) = fields_after_options(line)?;
    let suite = fields.get(1)?;
    Some(Source { text: line.to_owned(), form: Form::OneLine, suites: vec![(*suite).to_owned()] })
}

fn one_line_with_suite(line: &str, suite: &str) -> String {
    let Some((start, mut fields)) = fields_after_options(line) else { return line.to_owned() };
    if let Some(own) = fields.get_mut(1) {
        *own = suite;
    }
    format!("{}{}{}\n", line[..start].trim_end(), " ", fields.join(" "))
}

/// Stanzas stand apart by empty lines; comment lines are dropped.
fn stanzas(text: &str) -> Vec<String> {
    let mut found = vec![String::new()];
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        if line.trim().is_empty() {
            found.push(String::new());
        } else if let Some(stanza) = found.last_mut() {
            stanza.push_str(line);
            stanza.push('\n');
        }
    }
    found.retain(|stanza| !stanza.is_empty());
    found
}

/// The value of a field, with the lines that continue it (they begin with a blank).
fn field(stanza: &str, name: &str) -> Option<String> {
    let mut lines = stanza.lines();
    let first = lines.by_ref().find_map(|line| {
        let (own, value) = line.split_once(':')?;
        own.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
    })?;
    let more = lines.take_while(|line| line.starts_with([' ', '\t']));
    Some(more.fold(first, |value, line| value + " " + line.trim()))
}

fn parse_stanza(stanza: &str) -> Option<Source> {
    let binary = field(stanza, "Types")?.split_whitespace().any(|kind| kind == "deb");
    let disabled = field(stanza, "Enabled").is_some_and(|value| value.eq_ignore_ascii_case("no"));
    if !binary || disabled {
        return None;
    }
    let suites = field(stanza, "Suites")?.split_whitespace().map(str::to_owned).collect();
    Some(Source { text: stanza.to_owned(), form: Form::Deb822, suites })
}

fn deb822_with_suite(stanza: &str, suite: &str) -> String {
    let mut text = String::new();
    let mut inside_suites = false;
    for line in stanza.lines() {
        let continues = line.starts_with([' ', '\t']);
        inside_suites = if continues { inside_suites } else { is_field(line, "Suites") };
        match (inside_suites, continues) {
            (true, false) => text.push_str(&format!("Suites: {suite}\n")),
            (true, true) => {}
            (false, _) => text.push_str(&format!("{line}\n")),
        }
    }
    text
}

fn is_field(line: &str, name: &str) -> bool {
    line.split_once(':').is_some_and(|(own, _)| own.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stanza_keeps_its_keys_and_changes_its_suites() {
        let text = "# mirror\nTypes: deb\nURIs: http://mirror.example/debian\nSuites: bookworm\n bookworm-updates\n\
                    Components: main\nSigned-By:\n -----BEGIN PGP\n .\n abc\n\nTypes: deb-src\nURIs: x\nSuites: bookworm\n";
        let sources = parse(Form::Deb822, text);
        assert_eq!(sources.len(), 1);
        assert!(sources[0].has_suite("bookworm-updates") && !sources[0].has_suite("bookworm-backports"));
        assert_eq!(
            sources[0].with_suite("bookworm-backports"),
            "Types: deb\nURIs: http://mirror.example/debian\nSuites: bookworm-backports\nComponents: main\n\
             Signed-By:\n -----BEGIN PGP\n .\n abc\n"
        );
    }

    #[test]
    fn a_disabled_stanza_is_not_used() {
        assert_eq!(parse(Form::Deb822, "Enabled: no\nTypes: deb\nURIs: x\nSuites: bookworm\n"), vec![]);
    }

    #[test]
    fn a_line_keeps_its_options_and_changes_its_suite() {
        let text = "# deb http://old bookworm main\n\
                    deb [arch=amd64 signed-by=/k.gpg]  http://mirror.example/debian bookworm main contrib # here\n\
                    deb-src http://mirror.example/debian bookworm main\n";
        let sources = parse(Form::OneLine, text);
        assert_eq!(sources.len(), 1);
        assert!(sources[0].has_suite("bookworm"));
        assert_eq!(
            sources[0].with_suite("bookworm-backports"),
            "deb [arch=amd64 signed-by=/k.gpg] http://mirror.example/debian bookworm-backports main contrib\n"
        );
    }

    #[test]
    fn broken_lines_are_passed_over() {
        assert_eq!(parse(Form::OneLine, "deb\ndeb [open http://x y\ndebs http://x y main\ndeb http://x\n"), vec![]);
    }
}
