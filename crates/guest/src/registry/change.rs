//! A value that is to change: what it holds and what it will hold, as people read it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::value::{Value, ValueKind, number_of, text_of, texts_of};
use crate::text::clean;

/// The type and the bytes of a value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ValueData {
    /// Its type.
    pub kind: ValueKind,
    /// What it holds.
    #[serde(with = "crate::worker::bytes")]
    pub bytes: Vec<u8>,
}

impl ValueData {
    /// Makes a number of 32 bits.
    #[must_use]
    pub fn dword(number: u32) -> Self {
        Self { kind: ValueKind::Dword, bytes: number.to_le_bytes().to_vec() }
    }

    /// Makes a text, of the type `kind`.
    pub(crate) fn text(kind: ValueKind, text: &str) -> Self {
        Self { kind, bytes: text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect() }
    }

    /// Makes a list of texts.
    #[must_use]
    pub fn texts(texts: &[String]) -> Self {
        let units = texts.iter().flat_map(|text| text.encode_utf16().chain([0])).chain([0]);
        Self { kind: ValueKind::Texts, bytes: units.flat_map(u16::to_le_bytes).collect() }
    }

    /// Makes an empty text, or list of texts, of the type `kind`.
    pub(crate) fn empty(kind: ValueKind) -> Self {
        Self { kind, bytes: vec![0, 0] }
    }

    /// Copies what `value` holds; none where it cannot be read.
    pub(crate) fn of(value: &Value<'_>) -> Option<Self> {
        Some(Self { kind: value.kind(), bytes: value.data().ok()? })
    }
}

/// Most bytes of other types that are shown, each by two digits.
const SHOWN_MAX: usize = 64;

/// Shows a number, texts, a few bytes, or how many bytes there are, safe to print.
impl fmt::Display for ValueData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(number) = number_of(self.kind, &self.bytes) {
            write!(f, "{number}")
        } else if let Some(text) = text_of(self.kind, &self.bytes) {
            write!(f, "\"{}\"", clean(text.as_bytes()))
        } else if let Some(texts) = texts_of(self.kind, &self.bytes) {
            let shown: Vec<String> = texts.iter().map(|text| format!("\"{}\"", clean(text.as_bytes()))).collect();
            write!(f, "[{}]", shown.join(", "))
        } else if self.bytes.len() <= SHOWN_MAX {
            let shown: Vec<String> = self.bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            write!(f, "{}", shown.join(" "))
        } else {
            write!(f, "{} bytes", self.bytes.len())
        }
    }
}

/// A change of one value of a hive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ValueChange {
    /// Path of its key inside the hive, with `\` between names.
    pub key: String,
    /// Its name.
    pub name: String,
    /// What it holds; none where it is not there.
    pub before: Option<ValueData>,
    /// What it will hold.
    pub after: ValueData,
}

/// Returns what Windows calls the hive in the file at `path`.
pub(crate) fn hive_name(path: &str) -> String {
    let name = path.rsplit('/').next().unwrap_or(path);
    format!("HKLM\\{}", clean(name.to_ascii_uppercase().as_bytes()))
}
