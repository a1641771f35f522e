//! What a process cost, and the middle of several runs.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};

use crate::command::{capture, shown};

/// One measured run of a whole process.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    pub(super) wall_seconds: f64,
    pub(super) cpu_seconds: f64,
    pub(super) peak_mebibytes: f64,
}

/// Runs `command` once under GNU time, which knows what the finished process cost; `figures` is a file for its answer.
pub(super) fn measure(command: &Command, figures: &Path) -> Result<Run> {
    let mut timed = Command::new("/usr/bin/time");
    timed.args(["-q", "-f", "%U %S %M", "-o"]).arg(figures).arg(command.get_program()).args(command.get_args());
    let start = Instant::now();
    capture(&mut timed).with_context(|| format!("`{}` failed", shown(command)))?;
    let wall_seconds = start.elapsed().as_secs_f64();
    let text = fs::read_to_string(figures).context("GNU time left no figures")?;
    parse_figures(&text, wall_seconds)
}

fn parse_figures(text: &str, wall_seconds: f64) -> Result<Run> {
    let figures: Result<Vec<f64>, _> = text.split_whitespace().map(str::parse).collect();
    let Ok([user, system, peak_kibibytes]) = figures.as_deref() else { bail!("GNU time wrote `{}`", text.trim()) };
    ensure!(*peak_kibibytes > 0.0, "GNU time measured no memory");
    Ok(Run { wall_seconds, cpu_seconds: user + system, peak_mebibytes: peak_kibibytes / 1024.0 })
}

/// The middle one of `figure` over `runs`; of an even number, the mean of the two in the middle.
pub(super) fn median(runs: &[Run], figure: impl Fn(&Run) -> f64) -> f64 {
    let mut figures: Vec<f64> = runs.iter().map(figure).collect();
    figures.sort_by(f64::total_cmp);
    let middle = figures.len() / 2;
    if figures.len() % 2 == 1 { figures[middle] } else { f64::midpoint(figures[middle - 1], figures[middle]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        let runs = |walls: &[f64]| -> Vec<Run> {
            let run = |wall_seconds| Run { wall_seconds, cpu_seconds: 0.0, peak_mebibytes: 1.0 };
            walls.iter().copied().map(run).collect()
        };
        assert_eq!(median(&runs(&[9.0, 1.0, 2.0]), |run| run.wall_seconds), 2.0);
        assert_eq!(median(&runs(&[4.0, 1.0, 2.0, 9.0]), |run| run.wall_seconds), 3.0);
    }

    #[test]
    fn figures_are_read_or_refused() {
        let run = parse_figures("0.50 0.25 20480\n", 1.0).unwrap();
        assert_eq!((run.cpu_seconds, run.peak_mebibytes), (0.75, 20.0));
        assert!(parse_figures("Command exited with non-zero status 1\n0.5 0.2\n", 1.0).is_err());
    }
}
