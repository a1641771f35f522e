//! Commands of the binary: what a person asks of a server or of a local file.
//!
//! stdout is data, all else goes to stderr. The commands use no door that other clients do not have: Keystone for
//! the token, Glance and S3 where they say it all, and Molde's own API (`/molde/v1`) for the rest.
#![forbid(unsafe_code)]
#![expect(clippy::print_stderr, reason = "this crate is the one that talks to a person")]

mod blocking;
mod bucket;
mod bundle;
mod client;
pub mod credentials;
mod disk_file;
pub mod error;
mod findings;
mod guest_file;
mod identity;
mod image;
mod job;
mod nbd_export;
mod object;
mod output;
mod passphrase;
mod progress;
mod public_images;
mod quota;
mod report;
mod s3;
mod server;
mod store;
mod transfer;

use clap::{Args, Subcommand};

use crate::client::Client;
use crate::credentials::Credentials;
pub use crate::error::{Failure, Result};
use crate::output::Output;

/// Options of every command that talks to a server or prints data.
#[derive(Debug, Args)]
pub struct Global {
    /// File with the server's address and your keys, as `molde serve` writes it
    #[arg(long, global = true, env = "MOLDE_CREDENTIALS", value_name = "FILE")]
    credentials: Option<std::path::PathBuf>,
    /// Project to act in, where it is not that of the credentials; you need a role there
    // With an id of its own: commands about projects have an argument `project`.
    #[arg(id = "act_in_project", long = "project", global = true, env = "MOLDE_PROJECT", value_name = "NAME")]
    project: Option<String>,
    /// How results are printed
    // Without a short form: `-o` names the options of a format, as in `qemu-img`.
    #[arg(long, global = true, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// What can be asked.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make, list and remove buckets
    #[command(subcommand)]
    Bucket(bucket::Bucket),
    /// Put, get, list, serve and remove files in buckets
    #[command(subcommand)]
    Object(object::Object),
    /// Make, look at, change, export, serve and remove images
    #[command(subcommand)]
    Image(image::Image),
    /// Find, add and renew the distributions' public images
    #[command(subcommand)]
    Catalog(public_images::Catalog),
    /// Look at and cancel jobs
    #[command(subcommand)]
    Job(job::Job),
    /// Make and run servers from images
    #[command(subcommand)]
    Server(server::Server),
    /// Look at and close what is served over NBD
    #[command(subcommand)]
    Nbd(nbd_export::Nbd),
    /// Look after the chunk store
    #[command(subcommand)]
    Store(store::Store),
    /// Manage projects
    #[command(subcommand)]
    Project(identity::Project),
    /// Look at and set what projects may have at most
    #[command(subcommand)]
    Quota(quota::Quota),
    /// Manage users and their roles
    #[command(subcommand)]
    User(identity::User),
    /// Manage your own access keys
    #[command(subcommand)]
    Key(identity::Key),
    /// Work on a local disk file, without a server
    #[command(subcommand)]
    Disk(disk_file::Disk),
    /// Look inside a local disk file, without a server
    #[command(subcommand)]
    Guest(guest_file::Guest),
}

/// Carries out a command.
pub fn run(command: Command, global: &Global) -> Result<()> {
    match command {
        Command::Disk(command) => command.run(global.output),
        Command::Guest(command) => command.run(global.output),
        Command::Catalog(command) => {
            let client = match Credentials::find(global.credentials.as_deref()) {
                // What is known can be told without a server; a file that was named has to be there.
                Err(_) if command.goes_without_server() && global.credentials.is_none() => None,
                found => Some(Client::new(found?, global.project.clone())?),
            };
            runtime()?.block_on(command.run(client.as_ref(), global.output))
        }
        command => {
            let credentials = Credentials::find(global.credentials.as_deref())?;
            runtime()?.block_on(ask(command, &Client::new(credentials, global.project.clone())?, global.output))
        }
    }
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}

async fn ask(command: Command, client: &Client, output: Output) -> Result<()> {
    match command {
        Command::Bucket(command) => command.run(client, output).await,
        Command::Object(command) => command.run(client, output).await,
        Command::Image(command) => command.run(client, output).await,
        Command::Job(command) => command.run(client, output).await,
        Command::Server(command) => command.run(client, output).await,
        Command::Nbd(command) => command.run(client, output).await,
        Command::Store(command) => command.run(client, output).await,
        Command::Project(command) => command.run(client, output).await,
        Command::Quota(command) => command.run(client, output).await,
        Command::User(command) => command.run(client, output).await,
        Command::Key(command) => command.run(client, output).await,
        Command::Disk(_) | Command::Guest(_) | Command::Catalog(_) => {
            Err(Failure::new("this command does not begin with a server"))
        }
    }
}
