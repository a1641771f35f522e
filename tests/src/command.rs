//! Programs that tests run, and what they answered.

use std::ffi::OsStr;
use std::fmt;
use std::process::{Command, Output, Stdio};

/// A program that has ended.
pub struct Done {
    /// Its exit code; `None` where a signal ended it.
    pub code: Option<i32>,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
    line: String,
}

impl Done {
    /// Returns stdout; panics unless the program ended with 0.
    #[track_caller]
    pub fn ok(self) -> String {
        assert!(self.code == Some(0), "{self}");
        self.stdout
    }

    /// Returns stdout as JSON; panics unless the program ended with 0 and printed JSON.
    #[track_caller]
    pub fn json(self) -> serde_json::Value {
        let text = self.to_string();
        serde_json::from_str(&self.ok()).unwrap_or_else(|error| panic!("no JSON ({error}): {text}"))
    }

    /// Returns the text after `error: `; panics unless the program ended with 1 and nothing on stdout, with a sentence
    /// and perhaps, after a blank line, a hint.
    #[track_caller]
    pub fn refused(self) -> String {
        assert!(self.code == Some(1) && self.stdout.is_empty(), "{self}");
        // What the command told while it worked stands before.
        let told = self.stderr.strip_prefix("error: ").or_else(|| Some(self.stderr.split_once("\nerror: ")?.1));
        let Some(told) = told else { panic!("no `error: `: {self}") };
        let (sentence, hint) = told.split_once("\n\n").unwrap_or((told, "hint: "));
        assert!(!sentence.trim().is_empty() && !sentence.contains("hint: "), "no sentence: {self}");
        assert!(hint.starts_with("hint: "), "no hint after the blank line: {self}");
        told.to_owned()
    }
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { code, stdout, stderr, line } = self;
        write!(f, "`{line}` ended with {code:?}\n--- stdout\n{stdout}\n--- stderr\n{stderr}")
    }
}

/// Makes a command of a program and its arguments, without input.
pub fn command<A: AsRef<OsStr>>(program: impl AsRef<OsStr>, arguments: impl IntoIterator<Item = A>) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Runs a command to its end.
#[track_caller]
pub fn run(command: &mut Command) -> Done {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let line = words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ");
    match command.output() {
        Err(error) => panic!("cannot run `{line}`: {error}; `cargo xtask test` installs what the tests need"),
        Ok(Output { status, stdout, stderr }) => {
            let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
            Done { code: status.code(), stdout: text(stdout), stderr: text(stderr), line }
        }
    }
}

/// Runs a tool that has to succeed, and returns its stdout.
#[track_caller]
pub fn tool<A: AsRef<OsStr>>(program: &str, arguments: impl IntoIterator<Item = A>) -> String {
    run(&mut command(program, arguments)).ok()
}
