//! Looking into disks in processes of their own, which can do nothing but read the disk and answer.
//!
//! ```text
//!   parent: source (format, store, network) <── read offset, length ── worker: partitions, file systems, system, plan
//!                                           ─── bytes, or a failure ──>        rlimits, Landlock, seccomp
//!                                           <── report or plan ────────
//! ```
//! The worker is the same program, started again. It confines itself before it reads a byte of the disk. Invariants: what a
//! worker asks for and answers is taken for an attacker's: bounded, decoded with care, made safe to show; however it ends,
//! the parent gets an error that says how, and no process and no descriptor is left.
//! Not here: formats of disk files, which the parent reads, and the micro-VM, which it starts.

pub(crate) mod bytes;
mod call;
mod checked;
mod child;
mod confine;
mod frames;
mod process;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use disk::error::{Error, ErrorKind, Result};
use disk::source::Source;
use serde::{Deserialize, Serialize};

use self::call::Unavailable;
use self::checked::Answer;
pub use self::child::{run_worker, run_worker_after};
use crate::check::Choice;
use crate::inspect;
use crate::plan::{self, Plan};
use crate::prepare::{self, PrepareOptions, Prepared};
use crate::report::Report;
use crate::systems::Extras;
use crate::vm::Machine;

/// The argument with which a program starts itself as a worker; whoever is given it calls [`run_worker`] before all else.
pub const WORKER: &str = "look-inside-a-disk";
/// How long a worker is waited for in all, without the time in which its reads are served.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a worker is asked.
#[derive(Debug, Serialize, Deserialize)]
enum Request {
    Inspect(Extras),
    Plan(Choice),
}

/// Where disks are looked into: in confined processes, or in this one.
#[derive(Debug, Clone)]
pub struct Sandbox {
    worker: Option<Program>,
    /// Whether this process does it where no worker can be had.
    or_here: bool,
}

/// What is started as a worker.
#[derive(Debug, Clone)]
struct Program {
    path: PathBuf,
    arguments: Vec<String>,
    patience: Duration,
}

impl Sandbox {
    /// Looks into disks in this process.
    #[must_use]
    pub fn none() -> Self {
        Self { worker: None, or_here: true }
    }

    /// Looks into each disk in a process of `program`, which calls [`run_worker`] when it is started with `arguments`.
    pub fn of(program: impl Into<PathBuf>, arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        Self { worker: Some(Program { path: program.into(), arguments, patience: PATIENCE }), or_here: false }
    }

    /// Looks into each disk in a process of this program, which calls [`run_worker`] when its argument is [`WORKER`].
    #[must_use]
    pub fn of_this_program() -> Self {
        // Still the same program when its file was replaced meanwhile.
        Self::of("/proc/self/exe", &[WORKER])
    }

    /// Looks into disks in this process where the sandbox cannot be had, and notes that in the report.
    #[must_use]
    pub fn or_none(self) -> Self {
        Self { or_here: true, ..self }
    }

    /// Waits for a worker so long in all; half a minute if it is not said.
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        if let Some(program) = &mut self.worker {
            program.patience = patience;
        }
        self
    }

    /// Does what [`crate::inspect()`] does.
    ///
    /// # Errors
    /// As there; besides, when the sandbox cannot be had, and when a worker reached a limit of its process or met a fault.
    pub fn inspect(&self, disk: Arc<dyn Source>) -> Result<Report> {
        self.inspect_with(disk, Extras::default())
    }

    /// Does what [`crate::inspect_with()`] does.
    ///
    /// # Errors
    /// As [`Sandbox::inspect`].
    pub fn inspect_with(&self, disk: Arc<dyn Source>, extras: Extras) -> Result<Report> {
        self.ask(&Request::Inspect(extras), disk, |disk| inspect::inspect_with(disk, extras))
    }

    /// Does what [`crate::plan()`] does.
    ///
    /// # Errors
    /// As [`Sandbox::inspect`].
    pub fn plan(&self, disk: Arc<dyn Source>, choice: &Choice) -> Result<Plan> {
        self.ask(&Request::Plan(choice.clone()), disk, |disk| plan::plan(disk, choice))
    }

    /// Does what [`crate::prepare()`] does, where what is found before and after comes from workers.
    ///
    /// # Errors
    /// As there and as [`Sandbox::inspect`].
    pub fn prepare(&self, disk: Arc<dyn Source>, options: &PrepareOptions) -> Result<Prepared> {
        prepare::prepare_by(&|disk, choice| self.plan(disk, choice), disk, options, &Machine::default())
    }

    fn ask<T: Answer>(
        &self,
        request: &Request,
        disk: Arc<dyn Source>,
        here: impl FnOnce(Arc<dyn Source>) -> Result<T>,
    ) -> Result<T> {
        let Some(program) = &self.worker else { return here(disk) };
        match call::call::<T>(program, request, &*disk) {
            Ok(answered) => answered,
            Err(Unavailable(why)) if self.or_here => {
                let mut answer = here(disk)?;
                answer.note(format!("This disk was looked into without a sandbox: {why}."));
                Ok(answer)
            }
            Err(Unavailable(why)) => {
                let told = format!("disks are looked into in a sandbox, which cannot be had here: {why}");
                Err(Error::new(ErrorKind::Io, told).with_hint("see docs/guests/sandbox.md for what it needs"))
            }
        }
    }
}
