//! `molde server`: make and run servers from images.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Subcommand;
use reqwest::Method;
use serde_json::{Value, json};

use crate::client::{Client, send, unreachable};
use crate::error::{Failure, Result};
use crate::image;
use crate::job::{escape, told_job, wait};
use crate::output::{Column, Output, plain};

const COLUMNS: &[Column] = &[
    ("ID", "/id"),
    ("NAME", "/name"),
    ("STATE", "/state"),
    ("IMAGE", "/image"),
    ("FLAVOR", "/flavor"),
    ("CREATED", "/created_at"),
];
const FOLLOW: Duration = Duration::from_millis(500);
/// Most of the console that one request returns, in bytes.
const CONSOLE_MAX: usize = 4 << 20;

/// What can be done with servers.
#[derive(Debug, Subcommand)]
pub enum Server {
    /// Make a server from an image and start it
    Create {
        /// What to call it; also its host name
        name: String,
        /// The image, by id or name
        #[arg(long)]
        image: String,
        /// Its size; `molde server flavors` lists them
        #[arg(long, default_value = "m1.small")]
        flavor: String,
        /// File that cloud-init gets
        #[arg(long, value_name = "FILE")]
        user_data: Option<PathBuf>,
        /// File with a public key for the image's default user
        #[arg(long, value_name = "FILE")]
        ssh_key: Option<PathBuf>,
        /// Guest port to reach from the host; a free host port is chosen. May be repeated
        #[arg(long = "port", value_name = "PORT")]
        ports: Vec<u16>,
        /// Wait until it runs
        #[arg(long)]
        wait: bool,
    },
    /// List servers
    List,
    /// List the sizes of servers
    Flavors,
    /// Show one server
    Show {
        /// Its id or name
        server: String,
    },
    /// Print what a server wrote to its serial console
    Console {
        /// Its id or name
        server: String,
        /// Go on printing until interrupted
        #[arg(long, short)]
        follow: bool,
        /// Only the last so many bytes
        #[arg(long, default_value_t = 65536)]
        bytes: usize,
    },
    /// Power a server on
    Start {
        /// Its id or name
        server: String,
    },
    /// Power a server off
    Stop {
        /// Its id or name
        server: String,
        /// Pull the plug instead of pressing the button
        #[arg(long)]
        hard: bool,
    },
    /// Remove servers and their disks
    Delete {
        /// Their ids or names
        #[arg(required = true)]
        servers: Vec<String>,
    },
}

impl Server {
    pub(crate) async fn run(self, client: &Client, output: Output) -> Result<()> {
        match self {
            Self::Create { name, image, flavor, user_data, ssh_key, ports, wait: waits } => {
                let image = image::find(client, &image).await?;
                let user_data = user_data.map(|path| read(&path)).transpose()?.map(|bytes| STANDARD.encode(bytes));
                let ssh_key = ssh_key
                    .map(|path| read(&path))
                    .transpose()?
                    .map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned());
                let body = json!({"name": name, "image": image["id"], "flavor": flavor, "user_data": user_data, "ssh_key": ssh_key, "guest_ports": ports});
                let mut answer = client.send(Method::POST, "/molde/v1/servers", &body).await?;
                let id = answer["server"]["id"].as_str().unwrap_or_default().to_owned();
                if waits {
                    wait(client, answer["job"]["id"].as_str().unwrap_or_default(), "server").await?;
                    answer["server"] = get(client, &id).await?;
                    return output.show(&answer["server"]);
                }
                told_job(
                    output,
                    &format!("server {id} is being made; `molde server show {id}` tells how far it is"),
                    &answer,
                )
            }
            Self::List => output.list(&client.get("/molde/v1/servers").await?["servers"], COLUMNS),
            Self::Flavors => {
                let answer = client.get("/molde/v1/flavors").await?;
                output.list(
                    &answer["flavors"],
                    &[("NAME", "/name"), ("VCPUS", "/vcpus"), ("RAM MIB", "/ram_mib"), ("DISK GIB", "/disk_gib")],
                )
            }
            Self::Show { server } => output.show(&find(client, &server).await?),
            Self::Console { server, follow, bytes } => {
                console(client, &id(client, &server).await?, follow, bytes).await
            }
            Self::Start { server } => act(client, output, &server, "start", &json!({})).await,
            Self::Stop { server, hard } => act(client, output, &server, "stop", &json!({"hard": hard})).await,
            Self::Delete { servers } => {
                for server in servers {
                    let id = id(client, &server).await?;
                    client.delete(&format!("/molde/v1/servers/{id}")).await?;
                    output.done(&format!("server {id} is gone"), &json!({"id": id}))?;
                }
                Ok(())
            }
        }
    }
}

fn read(path: &std::path::Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| Failure::new(format!("cannot read `{}`", path.display())).caused_by(&error))
}

async fn act(client: &Client, output: Output, server: &str, verb: &str, body: &Value) -> Result<()> {
    let id = id(client, server).await?;
    let answer = client.send(Method::POST, &format!("/molde/v1/servers/{id}/{verb}"), body).await?;
    let state = answer["server"]["state"].as_str().unwrap_or_default();
    output.done(&format!("server {id} is {state}"), &answer["server"])
}

async fn get(client: &Client, id: &str) -> Result<Value> {
    Ok(client.get(&format!("/molde/v1/servers/{}", escape(id))).await?["server"].take())
}

async fn id(client: &Client, server: &str) -> Result<String> {
    Ok(find(client, server).await?["id"].as_str().unwrap_or_default().to_owned())
}

/// Finds a server by id, or by a name that only one has.
async fn find(client: &Client, server: &str) -> Result<Value> {
    let answer = client.get("/molde/v1/servers").await?;
    let all = answer["servers"].as_array().map(Vec::as_slice).unwrap_or_default();
    let found: Vec<_> = all.iter().filter(|known| known["id"] == server || known["name"] == server).collect();
    match found.as_slice() {
        [one] => Ok((*one).clone()),
        [] => {
            Err(Failure::new(format!("no server `{}`", plain(server)))
                .with_hint("`molde server list` shows what there is"))
        }
        _ => Err(Failure::new(format!("several servers are named `{}`", plain(server))).with_hint("name it by its id")),
    }
}

async fn console(client: &Client, id: &str, follow: bool, bytes: usize) -> Result<()> {
    let mut printed = tail(client, id, bytes).await?;
    print_bytes(&printed)?;
    if !follow {
        return Ok(());
    }
    loop {
        tokio::time::sleep(FOLLOW).await;
        let now = tail(client, id, CONSOLE_MAX).await?;
        // What was printed last stands somewhere in the tail; what follows it is new.
        let mark = &printed[printed.len().saturating_sub(4096)..];
        let last = now.windows(mark.len().max(1)).rposition(|window| window == mark);
        let new = if mark.is_empty() { 0 } else { last.map_or(0, |at| at + mark.len()) };
        print_bytes(&now[new..])?;
        printed = now;
    }
}

async fn tail(client: &Client, id: &str, bytes: usize) -> Result<Vec<u8>> {
    let request = client.request(Method::GET, &format!("/molde/v1/servers/{id}/console?bytes={bytes}")).await?;
    let answer = send(request).await?.bytes().await.map_err(|error| unreachable(&error))?;
    Ok(answer.to_vec())
}

fn print_bytes(bytes: &[u8]) -> Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes)?;
    stdout.flush()?;
    Ok(())
}
