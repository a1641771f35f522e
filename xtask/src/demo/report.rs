//! What happened in the demo and how long each step took.

use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result};

use crate::interrupt;

/// The steps that are done.
#[derive(Default)]
pub(crate) struct Report {
    steps: Vec<Step>,
}

struct Step {
    name: &'static str,
    seconds: f64,
    told: String,
}

impl Report {
    /// Runs one step, which returns its value and what the table tells of it; an error says which step failed.
    pub(crate) fn step<T>(&mut self, name: &'static str, work: impl FnOnce() -> Result<(T, String)>) -> Result<T> {
        println!("\n== {name}");
        let start = Instant::now();
        let outcome = interrupt::check().and_then(|()| work());
        let (value, told) = outcome.with_context(|| format!("the step `{name}` failed"))?;
        self.steps.push(Step { name, seconds: start.elapsed().as_secs_f64(), told });
        Ok(value)
    }

    /// Prints the table.
    pub(crate) fn print(&self) {
        println!("\n{}", self.table());
    }

    fn table(&self) -> String {
        let total: f64 = self.steps.iter().map(|step| step.seconds).sum();
        let mut text = format!("{:<28} {:>9}  what\n", "step", "seconds");
        for step in &self.steps {
            text.push_str(format!("{:<28} {:>9.1}  {}", step.name, step.seconds, step.told).trim_end());
            text.push('\n');
        }
        text + &format!("{:<28} {total:>9.1}", "in all")
    }
}

/// How large a file is, for people.
pub(crate) fn size(file: &Path) -> Result<String> {
    let bytes = fs::metadata(file).with_context(|| format!("cannot read {}", file.display()))?.len();
    Ok(format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_a_line_for_each_step_and_a_sum() {
        let mut report = Report::default();
        report.step("boil", || Ok(((), "1 litre".into()))).unwrap();
        report.step("pour", || Ok(((), String::new()))).unwrap();
        let table = report.table();
        assert_eq!(table.lines().count(), 4, "{table}");
        assert!(table.contains("1 litre") && table.contains("in all"), "{table}");
    }

    #[test]
    fn a_failure_names_its_step() {
        let error = Report::default().step::<()>("boil", || anyhow::bail!("no water")).unwrap_err();
        assert_eq!(format!("{error:#}"), "the step `boil` failed: no water");
    }
}
