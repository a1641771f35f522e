//! What every check works with: the guest, the draft, and the list of findings.

use super::choice::Choice;
use super::draft::Draft;
use super::finding::{Evidence, Finding, Kind};
use crate::report::Report;
use crate::text::{clean, visible};
use crate::tree::Tree;
use crate::virtio_win::Drivers;

/// Most places that are shown of one finding.
const EVIDENCE_MAX: usize = 16;
/// Most names that are looked at in one folder.
pub(super) const NAMES_MAX: usize = 1024;

/// The guest under examination.
pub(super) struct Doctor<'g> {
    pub(super) tree: &'g Tree,
    pub(super) report: &'g Report,
    pub(super) draft: Draft<'g>,
    choice: &'g Choice,
    findings: Vec<Finding>,
}

impl<'g> Doctor<'g> {
    pub(super) fn new(tree: &'g Tree, report: &'g Report, choice: &'g Choice) -> Self {
        Self { tree, report, draft: Draft::new(tree), choice, findings: Vec::new() }
    }

    /// Adds a finding, and returns whether it is to be repaired in the draft.
    #[must_use]
    pub(super) fn found(&mut self, kind: &'static Kind, text: impl Into<String>, evidence: Vec<Evidence>) -> bool {
        let mut evidence = evidence;
        evidence.truncate(EVIDENCE_MAX);
        // A sentence may have a name of the guest's in it.
        self.findings.push(Finding { kind, text: visible(&text.into()), evidence });
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

    /// Ends the examination: findings with the worst first, and the draft.
    pub(super) fn finish(mut self) -> (Vec<Finding>, Draft<'g>) {
        self.findings.sort_by_key(|finding| finding.kind.severity);
        (self.findings, self.draft)
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
