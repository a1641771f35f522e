//! Tasks of the project, run as `cargo xtask <task>`.

#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "a task talks to the person who started it")]

mod apt_sources;
mod bench;
mod check;
mod clients;
mod command;
mod demo;
mod fuzz;
mod guests;
mod interrupt;
mod packages;
mod peers;
mod tests;
mod tidy;
mod workspace;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Tasks of the project")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Take a real disk through the main job: upload, image, server, export, comparison
    Demo {
        /// Stop the server and remove its data when the last step is done
        #[arg(long)]
        exit: bool,
        /// Use this binary instead of building one
        #[arg(long, value_name = "FILE")]
        binary: Option<PathBuf>,
    },
    /// Install what the tests need, build the binary and run the tests
    Test {
        /// Run the slow tests, and only those
        #[arg(long)]
        slow: bool,
    },
    /// Check format, lints, documentation, house rules, the lock file and licences
    Check,
    /// Time `molde` beside a tool that does the same work; nothing is asserted
    Bench {
        /// What to time
        #[arg(value_enum, default_value = "disk")]
        what: bench::What,
        #[command(flatten)]
        options: bench::Options,
    },
    /// Give damaged disk files to every parser
    Fuzz {
        #[command(flatten)]
        options: fuzz::Options,
    },
    /// Make the demo's disk and print where it lies
    Disk,
    /// Make the broken guests that the slow tests repair, and print their folder
    Guests,
    /// Install the clients that the tests drive, unmodified, under `target/clients`
    Clients,
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().task {
        Task::Demo { exit, binary } => demo::walk_through(binary, exit),
        Task::Test { slow: false } => tests::run(),
        Task::Test { slow: true } => tests::run_slow(),
        Task::Check => check::run(),
        Task::Bench { what, options } => bench::run_one(what, options),
        Task::Fuzz { options } => fuzz::run(&options),
        Task::Disk => demo::ensure_disk().map(|(disk, _)| println!("{}\n{}", disk.raw.display(), disk.vmdk.display())),
        Task::Guests => guests::ensure_broken().map(|folder| println!("{}", folder.display())),
        Task::Clients => clients::install().map(|folder| println!("{}", folder.display())),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            command::report(&error);
            ExitCode::FAILURE
        }
    }
}
