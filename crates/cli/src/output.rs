//! Results on stdout: a table for people, JSON for programs.

use std::io::{self, Write};

use clap::ValueEnum;
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use serde_json::Value;

use crate::error::Result;

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// Aligned columns
    Table,
    /// JSON, as the server gave it
    Json,
}

/// A column: its heading and where its value stands in a row, as a JSON pointer.
pub(crate) type Column = (&'static str, &'static str);

impl Output {
    /// Prints a list.
    pub(crate) fn list(self, rows: &Value, columns: &[Column]) -> Result<()> {
        if self == Self::Json {
            return print_json(rows);
        }
        let mut table = new_table();
        table.set_header(columns.iter().map(|(heading, _)| *heading));
        for row in rows.as_array().into_iter().flatten() {
            table.add_row(columns.iter().map(|(_, pointer)| cell(row.pointer(pointer))));
        }
        line(&trimmed(&table))
    }

    /// Prints one thing: a line for each of its fields.
    pub(crate) fn show(self, thing: &Value) -> Result<()> {
        if self == Self::Json {
            return print_json(thing);
        }
        let mut table = new_table();
        for (name, value) in thing.as_object().into_iter().flatten() {
            table.add_row([name.clone(), cell(Some(value))]);
        }
        line(&trimmed(&table))
    }

    /// Prints a sentence that says what was done; programs get the thing itself.
    pub(crate) fn done(self, sentence: &str, thing: &Value) -> Result<()> {
        if self == Self::Json { print_json(thing) } else { line(sentence) }
    }
}

fn new_table() -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table
}

/// Without the blanks that the table ends its lines with.
fn trimmed(table: &Table) -> String {
    table.lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>().join("\n")
}

pub(crate) fn line(text: &str) -> Result<()> {
    writeln!(io::stdout().lock(), "{text}")?;
    Ok(())
}

pub(crate) fn print_json(value: &Value) -> Result<()> {
    let mut stdout = io::stdout().lock();
    serde_json::to_writer_pretty(&mut stdout, value).map_err(io::Error::from)?;
    writeln!(stdout)?;
    Ok(())
}

/// A value as a cell; texts from outside are printed without control characters.
fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => plain(text),
        Some(Value::Array(values)) => values.iter().map(|value| cell(Some(value))).collect::<Vec<_>>().join(", "),
        Some(Value::Object(fields)) => fields
            .iter()
            .map(|(name, value)| format!("{}={}", plain(name), cell(Some(value))))
            .collect::<Vec<_>>()
            .join(", "),
        Some(other) => other.to_string(),
    }
}

/// Replaces control characters, so that a name cannot drive the terminal.
pub(crate) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn cells() {
        let check = |value: Value, expect: &str| assert_eq!(cell(Some(&value)), expect);
        check(json!("a\u{1b}[31m"), "a\u{fffd}[31m");
        check(json!(["x", 1]), "x, 1");
        check(json!({"a": 1, "b": "c"}), "a=1, b=c");
        check(json!(null), "");
        check(json!(true), "true");
    }
}
