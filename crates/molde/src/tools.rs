//! Shell completions and manual pages, made from the one definition of the command line.

use std::io;
use std::path::Path;

use clap::CommandFactory;
use cli::{Failure, Result};

/// Prints the completions of a shell to stdout.
pub(crate) fn completions<C: CommandFactory>(shell: clap_complete::Shell) -> Result<()> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut C::command(), "molde", &mut text);
    io::Write::write_all(&mut io::stdout().lock(), &text)?;
    Ok(())
}

/// Writes a manual page for each command into `folder`.
pub(crate) fn manual<C: CommandFactory>(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    clap_mangen::generate_to(C::command(), folder).map_err(|error| {
        Failure::new(format!("cannot write the manual pages into `{}`", folder.display())).caused_by(&error)
    })
}
