//! What is the matter with a guest, for people: of a local check and of the server's answer, which have the same shape.

use serde_json::Value;

use crate::error::{Failure, Result};
use crate::output::{Output, line, plain, print_json};

/// Prints findings, and fails when any of them blocks the start or the cloud.
pub(crate) fn print_checked(output: Output, found: &Value) -> Result<()> {
    let findings: Vec<&Value> = found["findings"].as_array().into_iter().flatten().collect();
    let blocking = found["blocking"].as_u64().unwrap_or(0);
    if output == Output::Json {
        print_json(found)?;
    } else {
        findings.iter().try_for_each(|finding| print_finding(finding))?;
        print_notes(found)?;
        line(&match findings.len() {
            0 => "nothing was found: this guest is fit to be an image".to_owned(),
            count => {
                format!("{count} findings, {blocking} of which keep it from starting or from being a cloud's server")
            }
        })?;
    }
    if blocking == 0 {
        return Ok(());
    }
    Err(Failure::new(format!("the guest is not fit to be an image: {blocking} findings block it"))
        .with_hint("`molde guest prepare --dry-run FILE` shows what prepare would change in a file"))
}

/// Most paths that are shown of those that programs of the guest changed.
const TOUCHED_MAX: usize = 40;

/// Prints what prepare would change.
pub(crate) fn print_planned(output: Output, found: &Value) -> Result<()> {
    if output == Output::Json {
        return print_json(found);
    }
    print_changes(found)?;
    print_notes(found)?;
    if ["programs", "changes"].iter().all(|list| found[list].as_array().is_none_or(Vec::is_empty)) {
        line("there is nothing to change")?;
    }
    Ok(())
}

/// Prints each program that is run and each change, and then their diffs.
fn print_changes(of: &Value) -> Result<()> {
    let list = |name: &str| of[name].as_array().into_iter().flatten();
    let changes = || list("changes");
    list("programs").chain(changes()).try_for_each(|change| line(&format!("  {}", text(&change["summary"]))))?;
    for diff in changes().filter_map(|change| change["diff"].as_str()) {
        // Made for terminals by the server, and not trusted to be.
        line("")?;
        diff.lines().try_for_each(|text| line(&text.split('\t').map(plain).collect::<Vec<_>>().join("\t")))?;
    }
    print_touched(&of["changed_by_programs"])
}

/// Names what programs of the guest changed, as `molde guest diff` does.
pub(crate) fn print_touched(touched: &Value) -> Result<()> {
    let paths: Vec<&Value> = touched["paths"].as_array().into_iter().flatten().collect();
    if !paths.is_empty() {
        line("\nchanged by programs of the guest:")?;
    }
    for path in paths.iter().take(TOUCHED_MAX) {
        let sign = match path["what"].as_str() {
            Some("created") => '+',
            Some("deleted") => '-',
            _ => '*',
        };
        line(&format!("{sign} {}", text(&path["path"])))?;
    }
    match paths.len().saturating_sub(TOUCHED_MAX) as u64 + touched["more"].as_u64().unwrap_or(0) {
        0 => Ok(()),
        more => line(&format!("and {more} more")),
    }
}

/// Prints the report that is kept with an image.
pub(crate) fn print_kept(output: Output, kept: &Value) -> Result<()> {
    if output == Output::Json {
        return print_json(kept);
    }
    let list = |name: &str| kept[name].as_array().into_iter().flatten();
    let (state, at) = (text(&kept["state"]), text(&kept["at"]));
    line(&match kept["state"].as_str() {
        Some("prepared") => {
            let (count, bytes) = (list("changes").count(), kept["changed_bytes"].as_u64().unwrap_or(0));
            format!("prepared at {at}: {count} changes, {bytes} bytes of the disk")
        }
        Some("nothing-to-do") => format!("examined at {at}: there was nothing to change"),
        Some("undone") => format!("prepared at {at}, and undone since"),
        _ => format!("examined at {at}, and not changed ({state}): {}", text(&kept["reason"])),
    })?;
    print_changes(kept)?;
    for earlier in list("earlier") {
        line(&format!("\nbefore that, prepared at {}:", text(&earlier["at"])))?;
        print_changes(earlier)?;
    }
    let is_prepared = kept["findings_after"].is_array() && state != "undone";
    let left = if is_prepared { "findings_after" } else { "findings" };
    if list(left).next().is_some() {
        line("\nwhat is left:")?;
        list(left).try_for_each(print_finding)?;
    }
    print_notes(kept)
}

/// Prints the notes of an answer.
pub(crate) fn print_notes(found: &Value) -> Result<()> {
    found["notes"].as_array().into_iter().flatten().try_for_each(|note| line(&format!("note: {}", text(note))))
}

/// Prints one finding: what it is, where it shows, and who does what about it.
pub(crate) fn print_finding(finding: &Value) -> Result<()> {
    line(&format!("{}: {} ({})", text(&finding["severity"]), text(&finding["text"]), text(&finding["id"])))?;
    for at in finding["evidence"].as_array().into_iter().flatten() {
        let place = match at["line"].as_u64() {
            Some(line) => format!("{}:{line}", text(&at["path"])),
            None => text(&at["path"]),
        };
        line(&match at["value"].as_str() {
            Some(value) => format!("    {place}: {}", plain(value)),
            None => format!("    {place}"),
        })?;
    }
    let who = match finding["action"].as_str() {
        Some("automatic") => "prepare",
        Some("on-request") => "prepare, on request",
        _ => "you",
    };
    line(&format!("    {who}: {}", text(&finding["remedy"])))
}

fn text(value: &Value) -> String {
    plain(value.as_str().unwrap_or_default())
}
