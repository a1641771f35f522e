//! Values on their way between records and rows.

use std::collections::BTreeMap;
use std::str::FromStr;

use model::Timestamp;
use sqlx::any::AnyRow;
use sqlx::{Any, Decode, Row as _, Type};

use crate::{Error, ErrorKind, Result};

/// Reads a row's columns as the types of records.
pub(crate) trait Fields {
    /// Returns a column as it is.
    fn field<T>(&self, column: &'static str) -> Result<T>
    where
        T: for<'r> Decode<'r, Any> + Type<Any>;

    /// Returns a text column as what it names.
    fn parsed<T: FromStr>(&self, column: &'static str) -> Result<T> {
        let text: String = self.field(column)?;
        text.parse().map_err(|_| unknown(column, &text))
    }

    /// Returns a text column that may be null as what it names.
    fn parsed_option<T: FromStr>(&self, column: &'static str) -> Result<Option<T>> {
        let text: Option<String> = self.field(column)?;
        text.map(|text| text.parse().map_err(|_| unknown(column, &text))).transpose()
    }

    /// Returns a number in the range that its record has.
    fn number<T: TryFrom<i64>>(&self, column: &'static str) -> Result<T> {
        let number: i64 = self.field(column)?;
        number.try_into().map_err(|_| unknown(column, &number.to_string()))
    }

    /// Returns a number that may be null.
    fn number_option<T: TryFrom<i64>>(&self, column: &'static str) -> Result<Option<T>> {
        let number: Option<i64> = self.field(column)?;
        number.map(|number| number.try_into().map_err(|_| unknown(column, &number.to_string()))).transpose()
    }

    /// Returns a 0 or 1 as a flag.
    fn flag(&self, column: &'static str) -> Result<bool> {
        Ok(self.field::<i64>(column)? != 0)
    }

    /// Returns microseconds as a moment.
    fn time(&self, column: &'static str) -> Result<Timestamp> {
        let micros: i64 = self.field(column)?;
        Timestamp::from_microsecond(micros).map_err(|_| unknown(column, &micros.to_string()))
    }

    /// Returns microseconds that may be null as a moment.
    fn time_option(&self, column: &'static str) -> Result<Option<Timestamp>> {
        let micros: Option<i64> = self.field(column)?;
        let time =
            micros.map(|micros| Timestamp::from_microsecond(micros).map_err(|_| unknown(column, &micros.to_string())));
        time.transpose()
    }

    /// Returns JSON text as the value it stands for.
    fn json<T: serde::de::DeserializeOwned>(&self, column: &'static str) -> Result<T> {
        let text: String = self.field(column)?;
        serde_json::from_str(&text).map_err(|error| unknown(column, &text).because(error))
    }

    /// Returns a blob of a known length.
    fn bytes<const N: usize>(&self, column: &'static str) -> Result<[u8; N]> {
        let bytes: Vec<u8> = self.field(column)?;
        let length = bytes.len();
        bytes.try_into().map_err(|_| unknown(column, &format!("{length} bytes")))
    }
}

impl Fields for AnyRow {
    fn field<T>(&self, column: &'static str) -> Result<T>
    where
        T: for<'r> Decode<'r, Any> + Type<Any>,
    {
        Ok(self.try_get(column)?)
    }
}

fn unknown(column: &str, value: &str) -> Error {
    let value: String = value.chars().take(64).collect();
    Error::new(
        ErrorKind::Other,
        format!("the catalog holds `{value}` in column `{column}`, which this release does not understand"),
    )
}

/// Returns a moment as the catalog keeps it, in microseconds.
pub(crate) fn micros(time: Timestamp) -> i64 {
    time.as_microsecond()
}

/// Returns a moment that may be missing as the catalog keeps it.
pub(crate) fn micros_option(time: Option<Timestamp>) -> Option<i64> {
    time.map(micros)
}

/// Returns a length or a size as the catalog keeps it, or an error beyond 2^63 - 1.
pub(crate) fn size(size: u64) -> Result<i64> {
    i64::try_from(size)
        .map_err(|_| Error::new(ErrorKind::Invalid, format!("the size {size} is beyond what the catalog can keep")))
}

/// Returns a size that may be missing as the catalog keeps it.
pub(crate) fn size_option(length: Option<u64>) -> Result<Option<i64>> {
    length.map(size).transpose()
}

/// Returns an id that may be missing as text.
pub(crate) fn text_option<T: ToString>(value: Option<T>) -> Option<String> {
    value.map(|value| value.to_string())
}

/// Returns a map of texts as JSON.
pub(crate) fn map_json(map: &BTreeMap<String, String>) -> String {
    serde_json::Value::from_iter(map.clone()).to_string()
}
