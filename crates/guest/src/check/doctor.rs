//! What every check works with: the guest, the draft, and the list of findings.

use super::choice::Choice;
use super::draft::Draft;
use super::finding::{Action, Evidence, Finding, Kind};
use crate::programs::{Program, Programs};
use crate::report::Report;
use crate::text::{clean, visible};
use crate::tree::Tree;
use crate::virtio_win::Drivers;

/// Most places that are shown of one finding.
const EVIDENCE_MAX: usize = 16;
/// Most names that are looked at in one folder.
pub(super) const NAMES_MAX: usize = 1024;

/// Where a guest has its programs.
const FOLDERS: [&str; 4] = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// The guest under examination.
pub(super) struct Doctor<'g> {
    pub(super) tree: &'g Tree,
    pub(super) report: &'g Report,
    pub(super) draft: Draft<'g>,
    choice: &'g Choice,
    findings: Vec<Finding>,
    programs: Vec<Program>,
}

/// What an examination comes to.
pub(super) struct Examined<'g> {
    /// What was found, the worst first.
    pub(super) findings: Vec<Finding>,
    /// What is changed in files.
    pub(super) draft: Draft<'g>,
    /// What the guest's own programs do before.
    pub(super) programs: Vec<Program>,
}

impl<'g> Doctor<'g> {
    pub(super) fn new(tree: &'g Tree, report: &'g Report, choice: &'g Choice) -> Self {
        Self { tree, report, draft: Draft::new(tree), choice, findings: Vec::new(), programs: Vec::new() }
    }

    /// Adds a finding, and returns whether it is to be repaired in the draft.
    #[must_use]
    pub(super) fn found(&mut self, kind: &'static Kind, text: impl Into<String>, evidence: Vec<Evidence>) -> bool {
        let mut evidence = evidence;
        evidence.truncate(EVIDENCE_MAX);
        // A sentence may have a name of the guest's in it.
        let action = self.choice.action(kind);
        self.findings.push(Finding { kind, action, text: visible(&text.into()), evidence });
        self.choice.takes(kind)
    }

    /// Adds a finding that nothing is done about.
    pub(super) fn tell(&mut self, kind: &'static Kind, text: impl Into<String>, evidence: Vec<Evidence>) {
        let _ = self.found(kind, text, evidence);
    }

    /// Returns the drivers that were supplied for this guest.
    pub(super) fn drivers(&self) -> Option<&'g Drivers> {
        self.choice.drivers.as_ref()
    }

    /// Returns the programs that may be run, and what they may be given.
    pub(super) fn programs(&self) -> Option<&'g Programs> {
        self.choice.programs.as_ref()
    }

    /// Lets a program of the guest run, which repairs a finding of `kind`, if it is there.
    pub(super) fn run(&mut self, program: Program) {
        let name = program.arguments.first().map_or("", String::as_str);
        if FOLDERS.iter().any(|folder| self.tree.exists(&format!("{folder}/{name}"))) {
            self.programs.push(program);
        } else {
            self.leave_because(format!(
                "`{name}`, with which {} would be repaired, is not in the guest.",
                program.finding
            ));
        }
    }

    /// Leaves what was found last to a person.
    pub(super) fn leave(&mut self) {
        if let Some(finding) = self.findings.last_mut() {
            finding.action = Action::Manual;
        }
    }

    /// Does the same, and notes why.
    pub(super) fn leave_because(&mut self, why: String) {
        self.leave();
        self.tree.note(why);
    }

    /// Ends the examination.
    pub(super) fn finish(mut self) -> Examined<'g> {
        self.findings.sort_by_key(|finding| finding.kind.severity);
        Examined { findings: self.findings, draft: self.draft, programs: self.programs }
    }

    /// Returns the names in the folder at `path` that end with `end`, as paths; pipes and devices hold nothing and are left out.
    pub(super) fn files(&self, path: &str, end: &str) -> Vec<String> {
        let names = self.tree.names(path, NAMES_MAX).into_iter().filter(|name| name.ends_with(end));
        names
            .map(|name| format!("{}/{name}", path.trim_end_matches('/')))
            .filter(|path| self.draft.exists(path) && !self.tree.is_special(path))
            .collect()
    }
}

/// Evidence for a file as a whole.
pub(super) fn at(path: &str) -> Evidence {
    Evidence { path: clean(path.as_bytes()), line: None, value: None }
}

/// Evidence for a line, counted from 0.
pub(super) fn at_line(path: &str, index: usize, value: &str) -> Evidence {
    Evidence { line: Some(index + 1), value: Some(clean(value.trim().as_bytes())), ..at(path) }
}
