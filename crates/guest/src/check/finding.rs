//! What is found on a guest that keeps it from being a good image.

use std::fmt;

use serde::de::{Deserializer, Error as _};
use serde::{Deserialize, Serialize, Serializer};

use super::kinds::KINDS;

/// How much a finding matters; the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The guest does not start on other hardware, or stops while it starts.
    BlocksBoot,
    /// It starts, but has no network, or never becomes the server that was asked for.
    BlocksCloud,
    /// It hands secrets of its past to everyone who gets the image.
    Leak,
    /// It works, but carries something from its past that it should not.
    Hygiene,
    /// Good to know.
    Info,
}

impl Severity {
    /// Returns `blocks-boot`, `blocks-cloud`, `leak`, `hygiene` or `info`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BlocksBoot => "blocks-boot",
            Self::BlocksCloud => "blocks-cloud",
            Self::Leak => "leak",
            Self::Hygiene => "hygiene",
            Self::Info => "info",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What prepare does about a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Action {
    /// It is repaired unless one asks not to.
    Automatic,
    /// It is repaired when one asks for it, because something is lost by that.
    OnRequest,
    /// A person has to decide or act.
    Manual,
}

impl Action {
    /// Returns `automatic`, `on-request` or `manual`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Automatic => "automatic",
            Self::OnRequest => "on-request",
            Self::Manual => "manual",
        }
    }
}

/// A kind of finding. Its page is the section of this id in `docs/guests/findings.md`.
#[derive(Debug, PartialEq, Eq)]
pub struct Kind {
    /// Stable name, as options and programs use it.
    pub id: &'static str,
    /// How much it matters.
    pub severity: Severity,
    /// What prepare does about it.
    pub action: Action,
    /// What prepare would do, or what a person can: one sentence.
    pub remedy: &'static str,
}

/// Where a finding shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// Path in the guest, made safe to print.
    pub path: String,
    /// Line, from 1.
    pub line: Option<usize>,
    /// What stands there, cut to a length and made safe to print.
    pub value: Option<String>,
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Its kind.
    #[serde(serialize_with = "to_id", deserialize_with = "of_id")]
    pub kind: &'static Kind,
    /// What prepare does about it here: more than usual where it is given what it takes.
    pub action: Action,
    /// What is the matter here: one sentence.
    pub text: String,
    /// Where it shows, at most 16 places.
    pub evidence: Vec<Evidence>,
}

/// A kind goes by its id where findings pass between processes.
fn to_id<S: Serializer>(kind: &Kind, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(kind.id)
}

fn of_id<'d, D: Deserializer<'d>>(deserializer: D) -> Result<&'static Kind, D::Error> {
    let id = String::deserialize(deserializer)?;
    KINDS.iter().copied().find(|kind| kind.id == id).ok_or_else(|| D::Error::custom("there is no such kind of finding"))
}
