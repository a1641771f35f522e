//! The cage: what a program of the guest may do is taken from this process, which then becomes that program.
//!
//! It is root in the guest's tree and nothing outside: it cannot leave the tree, make or open a device, mount, load a module,
//! look into the agent, or set the clock. The machine has no network and no drives but the guest's own.
//!
//! Why it holds: devices exist on no file system but the one of [`FOLDER`]`/dev`, which cannot be written; `/proc` and `/sys`
//! cannot be written either; and without the capabilities that are taken, none of this can be changed or gone round.

use std::env;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::fs::Mode;
use rustix::thread::{CapabilitySet, CapabilitySets};

use crate::Outcome;
use crate::machine::FOLDER;

/// The argument with which the agent is started as a cage, before the program and its arguments.
pub(crate) const CAGE: &str = "cage";
/// What package managers and initramfs tools need to give files their owners, modes and capabilities.
const KEPT: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::MKNOD)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID);

/// Becomes the program that the arguments name; returns if they name none, or it cannot be started.
pub(crate) fn enter() {
    let mut arguments = env::args_os().skip(1);
    if arguments.next().is_none_or(|first| first != CAGE) {
        return;
    }
    let Some(program) = arguments.next() else { return };
    let why = match close() {
        Ok(()) => Command::new(&program).args(arguments).exec().to_string(),
        Err(why) => why,
    };
    // Who does not hear it sees how it ended.
    let _ = writeln!(std::io::stderr(), "{} cannot be started: {why}", program.display());
    std::process::exit(127);
}

fn close() -> Outcome<()> {
    let cannot = |what: &str, error: &dyn std::fmt::Display| format!("{what}: {error}");
    // It has no terminal to speak to.
    let _ = rustix::process::setsid();
    rustix::process::umask(Mode::from_raw_mode(0o022));
    std::os::unix::fs::chroot(FOLDER).map_err(|error| cannot("its root cannot be changed", &error))?;
    env::set_current_dir("/").map_err(|error| cannot("its root cannot be entered", &error))?;
    for taken in CapabilitySet::all().difference(KEPT).iter() {
        // Which there are is the kernel's to say.
        if rustix::thread::capability_is_in_bounding_set(taken) == Ok(true) {
            rustix::thread::remove_capability_from_bounding_set(taken)
                .map_err(|error| cannot("a capability cannot be taken", &error))?;
        }
    }
    let sets = CapabilitySets { effective: KEPT, permitted: KEPT, inheritable: CapabilitySet::empty() };
    rustix::thread::set_capabilities(None, sets).map_err(|error| cannot("capabilities cannot be taken", &error))?;
    rustix::thread::set_no_new_privs(true).map_err(|error| cannot("more rights cannot be ruled out", &error))
}
