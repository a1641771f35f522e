//! Starting other programs: shown to the person, checked for their exit code.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::interrupt;

/// No command of a task is waited for longer than this.
const LONGEST: Duration = Duration::from_secs(3600);

/// Runs `command` with this terminal and fails unless it exits with 0.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    run_within(command, LONGEST)
}

/// Runs `command` as [`run`] does, and ends it when `limit` has passed or the task was interrupted.
pub(crate) fn run_within(command: &mut Command, limit: Duration) -> Result<()> {
    println!("$ {}", shown(command));
    let mut child = command.spawn().with_context(|| format!("cannot start `{}`", program(command)))?;
    let deadline = Instant::now() + limit;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        let late = Instant::now() >= deadline;
        if late || interrupt::heard() {
            end(&mut child)?;
            interrupt::check()?;
            bail!("`{}` was ended after {} s", shown(command), limit.as_secs());
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    // A program that a Ctrl-C ended as well must not be blamed for it.
    interrupt::check()?;
    if !status.success() {
        bail!("`{}` ended with {status}", shown(command));
    }
    Ok(())
}

/// Asks `child` to end, and makes it end when it has not after some seconds.
pub(crate) fn end(child: &mut Child) -> Result<()> {
    kill_process(Pid::from_child(child), Signal::TERM).context("cannot end a program that was started")?;
    if wait(child, Duration::from_secs(10))?.is_none() {
        child.kill()?;
        child.wait()?;
    }
    Ok(())
}

/// Waits for `child` at most for `limit`; `None` when it still runs.
pub(crate) fn wait(child: &mut Child, limit: Duration) -> Result<Option<ExitStatus>> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Runs `command` without a word and returns its standard output; its standard error becomes the error's text.
pub(crate) fn capture(command: &mut Command) -> Result<String> {
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("cannot start `{}`", program(command)))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`{}` ended with {}: {}", shown(command), output.status, said.trim());
    }
    String::from_utf8(output.stdout)
        .with_context(|| format!("`{}` printed something that is not text", program(command)))
}

/// Where `name` is installed: on the PATH, or in the folders of an administrator, which a user's PATH lacks in Debian.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from));
    folders.map(|folder| folder.join(name)).find(|file| is_executable(file))
}

/// `command` as a person would type it, cut where it gets long.
pub(crate) fn shown(command: &Command) -> String {
    let mut line = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    match line.char_indices().nth(160) {
        Some((cut, _)) => format!("{} ...", &line[..cut]),
        None => line,
    }
}

/// Says why a task failed, on standard error.
#[expect(clippy::print_stderr, reason = "the one place where a task's error is told")]
pub(crate) fn report(error: &anyhow::Error) {
    eprintln!("error: {error:#}");
}

fn program(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}

fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    file.metadata().is_ok_and(|about| about.is_file() && about.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_command_is_an_error_with_its_words() {
        let error = capture(Command::new("sh").args(["-c", "echo no such luck >&2; exit 3"])).unwrap_err();
        let text = format!("{error:#}");
        assert!(text.contains("no such luck") && text.contains('3'), "{text}");
    }

    #[test]
    fn a_command_that_takes_too_long_is_ended() {
        let start = Instant::now();
        let error = run_within(Command::new("sleep").arg("600"), Duration::from_millis(50)).unwrap_err();
        assert!(error.to_string().contains("was ended") && start.elapsed() < Duration::from_secs(60), "{error}");
    }

    #[test]
    fn waiting_for_a_process_has_an_end() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        assert_eq!(wait(&mut child, Duration::from_millis(30)).unwrap(), None);
        end(&mut child).unwrap();
        assert!(wait(&mut child, Duration::from_secs(10)).unwrap().is_some());
    }

    #[test]
    fn what_is_not_installed_is_not_found() {
        assert!(find("sh").is_some());
        assert_eq!(find("no-such-program-in-any-folder"), None);
    }

    #[test]
    fn a_long_command_is_cut() {
        let line = shown(Command::new("echo").arg("é".repeat(300)));
        assert!(line.ends_with(" ...") && line.chars().count() == 164);
    }
}
