//! A statement that is put together at run time: fixed text and bound values, never values as text.

use sqlx::any::AnyArguments;
use sqlx::query::Query;
use sqlx::{Any, AssertSqlSafe};

/// Starts a query whose text is fixed.
pub(crate) fn sql<'q>(text: &'static str) -> Query<'q, Any, AnyArguments> {
    sqlx::query(text)
}

/// Starts a query whose text is put together from fixed pieces, such as a list of columns or an expression of the dialect.
pub(crate) fn sql_text<'q>(text: String) -> Query<'q, Any, AnyArguments> {
    sqlx::query(AssertSqlSafe(text))
}

/// A value that waits to be bound.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Text(String),
    Number(i64),
    Bytes(Vec<u8>),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

/// Text in the making. What is pushed is known when this program is built; what comes from outside is bound.
#[derive(Debug)]
pub(crate) struct Statement {
    text: String,
    values: Vec<Value>,
}

impl Statement {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), values: Vec::new() }
    }

    /// Adds fixed text.
    pub(crate) fn push(&mut self, text: &'static str) -> &mut Self {
        self.text.push_str(text);
        self
    }

    /// Adds a parameter and its value.
    pub(crate) fn bind(&mut self, value: impl Into<Value>) -> &mut Self {
        self.values.push(value.into());
        self.text.push('$');
        self.text.push_str(&self.values.len().to_string());
        self
    }

    /// Adds values as parameters with commas between them.
    pub(crate) fn list<T: Into<Value>>(&mut self, values: impl IntoIterator<Item = T>) -> &mut Self {
        for (number, value) in values.into_iter().enumerate() {
            self.push(if number == 0 { "" } else { ", " }).bind(value);
        }
        self
    }

    /// Adds `before`, then that it is one of the values; adds nothing when there are none.
    pub(crate) fn any_of<T: Into<Value>>(
        &mut self,
        before: &'static str,
        values: impl IntoIterator<Item = T>,
    ) -> &mut Self {
        let mut values = values.into_iter().peekable();
        if values.peek().is_some() {
            self.push(before).push(" IN (").list(values).push(")");
        }
        self
    }

    /// Returns the query. Its text is not kept prepared, as it is seldom the same twice.
    pub(crate) fn query<'q>(self) -> Query<'q, Any, AnyArguments> {
        let query = sqlx::query(AssertSqlSafe(self.text)).persistent(false);
        self.values.into_iter().fold(query, |query, value| match value {
            Value::Text(text) => query.bind(text),
            Value::Number(number) => query.bind(number),
            Value::Bytes(bytes) => query.bind(bytes),
        })
    }
}
