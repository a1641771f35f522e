//! The packages that were found so far, and whether more are wanted.

use std::ops::ControlFlow;

use crate::report::Package;
use crate::text::word;

/// Most packages; a desktop has some 4,000.
pub(super) const PACKAGES_MAX: usize = 50_000;

/// All packages, or the one that is looked for.
pub(super) struct Found<'a> {
    wanted: Option<&'a str>,
    packages: Vec<Package>,
    is_over: bool,
}

impl<'a> Found<'a> {
    pub(super) fn all() -> Self {
        Self { wanted: None, packages: Vec::new(), is_over: false }
    }

    pub(super) fn one(name: &'a str) -> Self {
        Self { wanted: Some(name), ..Self::all() }
    }

    /// Returns whether there were more packages than are told.
    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    /// Returns whether a package of this name is of use.
    pub(super) fn wants(&self, name: &str) -> bool {
        self.wanted.is_none_or(|wanted| wanted == name)
    }

    /// Adds a package if it is wanted and its texts are words; breaks when no more is wanted.
    pub(super) fn add(&mut self, name: &str, version: &str, arch: Option<&str>) -> ControlFlow<()> {
        let Some((name, version)) = word(name).zip(word(version)).filter(|(name, _)| self.wants(name)) else {
            return self.state();
        };
        if self.packages.len() == PACKAGES_MAX {
            self.is_over = true;
            return ControlFlow::Break(());
        }
        let arch = arch.and_then(word).map(str::to_owned);
        self.packages.push(Package { name: name.to_owned(), version: version.to_owned(), arch });
        self.state()
    }

    /// Breaks when no more is wanted.
    pub(super) fn state(&self) -> ControlFlow<()> {
        let is_done = self.is_over || (self.wanted.is_some() && !self.packages.is_empty());
        if is_done { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// Returns the packages in the order of their names.
    pub(super) fn into_packages(mut self) -> Vec<Package> {
        self.packages.sort();
        self.packages.dedup();
        self.packages
    }
}
