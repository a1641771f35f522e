//! Jobs: look at them, cancel them; and beside, the work that each kind does and the runner that carries it out.
//!
//! ```text
//!   verb: image row + job row in one transaction
//!   runner: claim -> for each step not yet recorded: run, record -> end
//!   end:   what the job made becomes visible and the job is Done, in one transaction that holds the lease
//! ```
//! A step may run any number of times: a crash between its effect and its record repeats it. Effects outside the
//! catalog therefore use names that were recorded by an earlier step.

pub(crate) mod create_image;
pub(crate) mod create_server;
pub(crate) mod export_image;
pub(crate) mod lease;
pub(crate) mod made;
pub(crate) mod prepare_image;
pub(crate) mod preparing;
pub(crate) mod rebuild_store;
pub(crate) mod record;
pub(crate) mod run;
pub mod runner;
pub(crate) mod sealed;
pub(crate) mod stop;
pub(crate) mod unpack;
pub(crate) mod uploading;
pub mod verbs;
pub(crate) mod verify_store;
