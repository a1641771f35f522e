//! Waiting for a guest to say something on its serial console.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::interrupt;

/// Prints what `console` shows until a line holds `words`, and returns that line.
///
/// `console` makes a command that prints the console's text so far; it may end there, and is then run again, or follow.
pub(crate) fn wait_for(console: impl Fn() -> Command, words: &str, limit: Duration) -> Result<String> {
    let deadline = Instant::now() + limit;
    let mut printed = 0;
    while Instant::now() < deadline {
        let mut child =
            console().stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("cannot read the console")?;
        let lines = lines_of(child.stdout.take().context("the console has no output")?);
        let found = read_until(&lines, words, deadline, &mut printed);
        // Harmless where it has ended by itself.
        let _ = child.kill();
        let status = child.wait()?;
        if let Some(line) = found? {
            return Ok(line);
        }
        if status.code().is_some_and(|code| code != 0) {
            bail!("the console cannot be read: {status}");
        }
        std::thread::sleep(Duration::from_millis(500));
    }
    bail!("the guest did not say `{words}` on its console within {} s", limit.as_secs());
}

/// Reads lines until one holds `words` or there are no more; a line that an earlier run printed is not printed again.
fn read_until(lines: &Receiver<String>, words: &str, deadline: Instant, printed: &mut usize) -> Result<Option<String>> {
    let mut number = 0;
    while Instant::now() < deadline {
        interrupt::check()?;
        let line = match lines.recv_timeout(Duration::from_millis(100)) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => return Ok(None),
        };
        number += 1;
        if number > *printed {
            *printed = number;
            println!("  | {line}");
        }
        if line.contains(words) {
            return Ok(Some(line));
        }
    }
    Ok(None)
}

fn lines_of(output: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut reader = BufReader::new(output);
        let mut bytes = Vec::new();
        while reader.read_until(b'\n', &mut bytes).is_ok_and(|count| count > 0) {
            if sender.send(printable(&bytes)).is_err() {
                return;
            }
            bytes.clear();
        }
    });
    receiver
}

/// A console's line without what would move this terminal's cursor: ECMA-48 control sequences and other controls.
fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut shown = String::new();
    for (number, part) in text.split("\x1b[").enumerate() {
        // A sequence ends with its first letter or sign from `@` to `~`.
        let end =
            if number == 0 { 0 } else { part.find(|letter| ('@'..='~').contains(&letter)).map_or(0, |at| at + 1) };
        shown.extend(part[end..].chars().filter(|letter| !letter.is_control()));
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_console_that_ends_is_read_again() {
        let folder = std::env::temp_dir().join(format!("molde-console-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let log = folder.join("log");
        let script = format!("echo one >> {0}; cat {0}", log.display());
        let console = || {
            let mut command = Command::new("sh");
            command.args(["-c", &format!("{script}; [ $(wc -l < {}) -lt 2 ] || echo proof 42", log.display())]);
            command
        };
        let line = wait_for(console, "proof", Duration::from_secs(30)).unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(line, "proof 42");
    }

    #[test]
    fn a_console_that_follows_is_left_when_the_words_came() {
        let console = || {
            let mut command = Command::new("sh");
            command.args(["-c", "echo proof; exec sleep 600"]);
            command
        };
        assert_eq!(wait_for(console, "proof", Duration::from_secs(30)).unwrap(), "proof");
    }

    #[test]
    fn silence_has_an_end_and_so_has_an_error() {
        let silent = || Command::new("true");
        assert!(wait_for(silent, "proof", Duration::from_millis(700)).is_err());
        let broken = || Command::new("false");
        assert!(wait_for(broken, "proof", Duration::from_secs(60)).unwrap_err().to_string().contains("cannot be read"));
    }

    #[test]
    fn escape_sequences_do_not_reach_the_terminal() {
        assert_eq!(printable(b"\x1b[2Jhello \x1b[0;1;31mred\x1b[0m\x07\r\n"), "hello red");
        assert_eq!(printable(b"\x1b[\x1b[1"), "1");
        assert_eq!(printable(b"[2J \xff\n"), "[2J \u{fffd}");
    }
}
