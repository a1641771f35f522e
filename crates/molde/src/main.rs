//! Molde: the binary. One command line over the server and its clients.
//!
//! Not here: what any command does (`cli`), how the server is put together (`assemble`).
#![forbid(unsafe_code)]

mod assemble;
mod clock;
mod config;
mod data;
mod disks;
mod serve;
mod tools;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Image management service for virtual machines
#[derive(Debug, Parser)]
#[command(name = "molde", version, propagate_version = true, arg_required_else_help = true)]
struct Molde {
    #[command(flatten)]
    global: cli::Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server
    Serve(serve::Serve),
    #[command(flatten)]
    Client(cli::Command),
    /// Print the completions of a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write the manual pages into a folder
    Man {
        /// The folder
        folder: std::path::PathBuf,
    },
}

fn main() -> ExitCode {
    // Before anything else is set up: this process is to be confined.
    if std::env::args_os().nth(1).is_some_and(|first| first == guest::WORKER) {
        return guest::run_worker();
    }
    let Molde { global, command } = Molde::parse();
    let done = match command {
        Command::Serve(serve) => serve.run(),
        Command::Client(command) => cli::run(command, &global),
        Command::Completions { shell } => tools::completions::<Molde>(shell),
        Command::Man { folder } => tools::manual::<Molde>(&folder),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => ExitCode::from(failure.report()),
    }
}
