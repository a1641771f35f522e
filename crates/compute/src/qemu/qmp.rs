//! A client of QEMU's control socket (QMP): one JSON document per line, each call with a deadline.
//!
//! ```text
//! QEMU    {"QMP": {...}}                                   greeting
//! Molde   {"execute":"qmp_capabilities","id":0}
//! QEMU    {"return":{},"id":0}
//! Molde   {"execute":"query-status","id":1}
//! QEMU    {"event":...}                                    at any time; passed over
//! QEMU    {"return":{"status":"running",...},"id":1}       or {"error":{"class","desc"},"id":1}
//! ```
//!
//! QEMU talks to one client at a time and lets the next one wait, so a connection is held for one question only.
//! A guest may have taken over its QEMU, so lines are bounded and nothing that is read is believed beyond its type.

use std::fs::File;
use std::future::Future;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::{Error, ErrorKind, Result};

/// Name of the control socket in a server's directory.
pub(super) const SOCKET: &str = "qmp";

/// Longest time until the answer to one call. QEMU answers in milliseconds unless the host is overloaded.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// Longest line; the answers asked for here have a few KiB.
const LINE_MAX: u64 = 1 << 20;

/// A connection to the control socket of one QEMU.
pub(super) struct Qmp<S = UnixStream> {
    stream: BufReader<S>,
    calls: u64,
}

impl Qmp {
    /// Connects to the QEMU of the server in `directory`.
    pub(super) async fn connect(directory: &Path) -> Result<Self> {
        within_limit(async {
            // A socket's address has at most 107 bytes; through the open directory it is short however deep that lies.
            let opened = File::open(directory)?;
            let address = format!("/proc/self/fd/{}/{SOCKET}", opened.as_raw_fd());
            Self::greet(UnixStream::connect(address).await?).await
        })
        .await
    }
}

impl<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin> Qmp<S> {
    async fn greet(stream: S) -> io::Result<Self> {
        let mut qmp = Self { stream: BufReader::new(stream), calls: 0 };
        if qmp.read().await?.get("QMP").is_none() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the first line is no QMP greeting"));
        }
        qmp.call("qmp_capabilities").await?;
        Ok(qmp)
    }

    /// Runs a command without arguments and returns its result.
    pub(super) async fn execute(&mut self, command: &str) -> Result<Value> {
        within_limit(self.call(command)).await
    }

    async fn call(&mut self, command: &str) -> io::Result<Value> {
        let id = self.calls;
        self.calls += 1;
        let mut line = json!({"execute": command, "id": id}).to_string();
        line.push('\n');
        self.stream.get_mut().write_all(line.as_bytes()).await?;
        loop {
            let mut answer = self.read().await?;
            if answer.get("id").and_then(Value::as_u64) != Some(id) {
                continue;
            }
            if let Some(error) = answer.get("error") {
                let text = error.get("desc").and_then(Value::as_str).unwrap_or("no description");
                return Err(io::Error::other(format!("`{command}` was refused: {text}")));
            }
            return Ok(answer.get_mut("return").map(Value::take).unwrap_or_default());
        }
    }

    async fn read(&mut self) -> io::Result<Value> {
        let mut line = Vec::new();
        (&mut self.stream).take(LINE_MAX).read_until(b'\n', &mut line).await?;
        if line.last() != Some(&b'\n') {
            let why = if line.len() as u64 == LINE_MAX { "a line is too long" } else { "the connection ended" };
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, why));
        }
        serde_json::from_slice(&line).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }
}

async fn within_limit<T>(call: impl Future<Output = io::Result<T>>) -> Result<T> {
    match timeout(ANSWER_LIMIT, call).await {
        Ok(result) => result.map_err(|source| Error::io("talk to QEMU over its control socket", source)),
        Err(_) => Err(Error::new(
            ErrorKind::Unresponsive,
            format!("QEMU has not answered on its control socket for {} s", ANSWER_LIMIT.as_secs()),
        )
        .with_hint("the host may be overloaded; a hard stop ends the server in any case")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays QEMU: sends `lines` at once, however it is asked.
    async fn against(lines: &[u8]) -> io::Result<Value> {
        let (ours, mut theirs) = tokio::io::duplex(4 << 20);
        theirs.write_all(lines).await.unwrap();
        theirs.shutdown().await.unwrap();
        let mut qmp = Qmp::greet(ours).await?;
        qmp.call("query-status").await
    }

    #[tokio::test]
    async fn answers_are_told_from_events() {
        let lines = b"{\"QMP\": {}}\r\n{\"event\":\"RESUME\"}\n{\"return\":{},\"id\":0}\n{\"event\":\"STOP\"}\n{\"return\":{},\"id\":7}\n{\"return\":{\"status\":\"running\"},\"id\":1}\n";
        assert_eq!(against(lines).await.unwrap(), json!({"status": "running"}));
    }

    #[tokio::test]
    async fn refusals_and_rubbish_are_errors() {
        let greeting = "{\"QMP\": {}}\n{\"return\":{},\"id\":0}\n";
        for (lines, says) in [
            (
                format!("{greeting}{{\"error\":{{\"class\":\"X\",\"desc\":\"no such thing\"}},\"id\":1}}\n"),
                "no such thing",
            ),
            (greeting.to_owned(), "ended"),
            (format!("{greeting}{{\"return\":"), "ended"),
            (format!("{greeting}rubbish\n"), "expected value"),
            (format!("{greeting}{}\n", "x".repeat(2 << 20)), "too long"),
            (format!("{greeting}{}\n", "[".repeat(100_000)), "recursion"),
            ("{\"return\":{}}\n".to_owned(), "greeting"),
        ] {
            let error = against(lines.as_bytes()).await.unwrap_err();
            assert!(error.to_string().contains(says), "{error}");
        }
    }
}
