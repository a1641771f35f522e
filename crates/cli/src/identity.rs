//! `molde project`, `molde user`, `molde key`: who may do what.

use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};
use reqwest::Method;
use serde_json::json;

use crate::client::Client;
use crate::error::{Failure, Result};
use crate::job::escape;
use crate::output::{Output, plain};

/// What can be done with projects.
#[derive(Debug, Subcommand)]
pub enum Project {
    /// List projects
    List,
    /// Make a project
    Create {
        /// Its name
        name: String,
    },
    /// Remove a project that owns nothing
    Delete {
        /// Its id or name
        project: String,
    },
}

/// What can be done with users.
#[derive(Debug, Subcommand)]
pub enum User {
    /// List users
    List,
    /// Make a user
    Create {
        /// Its name
        name: String,
        /// File whose first line is the password
        #[arg(long, value_name = "FILE")]
        password_file: PathBuf,
    },
    /// Remove a user with its tokens and keys
    Delete {
        /// Its id or name
        user: String,
    },
    /// Give a user a role in a project
    Grant {
        /// Its id or name
        user: String,
        /// The project's id or name
        project: String,
        /// The role
        role: Role,
    },
    /// Take a role from a user
    Revoke {
        /// Its id or name
        user: String,
        /// The project's id or name
        project: String,
        /// The role
        role: Role,
    },
}

/// What a user may do in a project.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Role {
    /// Everything, everywhere
    Admin,
    /// Everything in the project
    Manager,
    /// Make, change and delete
    Member,
    /// Look
    Reader,
}

/// What can be done with access keys.
#[derive(Debug, Subcommand)]
pub enum Key {
    /// List your access keys
    List,
    /// Make an access key; its secret is shown once
    Create {
        /// What it is for
        #[arg(long, default_value = "")]
        description: String,
    },
    /// Remove an access key
    Delete {
        /// The access key
        access_key: String,
    },
}

impl Project {
    pub(crate) async fn run(self, client: &Client, output: Output) -> Result<()> {
        match self {
            Self::List => output.list(
                &client.get("/molde/v1/projects").await?["projects"],
                &[("ID", "/id"), ("NAME", "/name"), ("ENABLED", "/enabled")],
            ),
            Self::Create { name } => {
                output.show(&client.send(Method::POST, "/molde/v1/projects", &json!({"name": name})).await?["project"])
            }
            Self::Delete { project } => {
                let id = find(client, "project", &project).await?;
                client.delete(&format!("/molde/v1/projects/{id}")).await?;
                output.done(&format!("project {id} is gone"), &json!({"id": id}))
            }
        }
    }
}

impl User {
    pub(crate) async fn run(self, client: &Client, output: Output) -> Result<()> {
        match self {
            Self::List => output.list(
                &client.get("/molde/v1/users").await?["users"],
                &[("ID", "/id"), ("NAME", "/name"), ("ENABLED", "/enabled")],
            ),
            Self::Create { name, password_file } => {
                let text = std::fs::read_to_string(&password_file).map_err(|error| {
                    Failure::new(format!("cannot read `{}`", password_file.display())).caused_by(&error)
                })?;
                let password = text.lines().next().unwrap_or_default();
                output.show(
                    &client.send(Method::POST, "/molde/v1/users", &json!({"name": name, "password": password})).await?
                        ["user"],
                )
            }
            Self::Delete { user } => {
                let id = find(client, "user", &user).await?;
                client.delete(&format!("/molde/v1/users/{id}")).await?;
                output.done(&format!("user {id} is gone"), &json!({"id": id}))
            }
            Self::Grant { user, project, role } => {
                role_change(client, output, Method::PUT, (&user, &project, role)).await
            }
            Self::Revoke { user, project, role } => {
                role_change(client, output, Method::DELETE, (&user, &project, role)).await
            }
        }
    }
}

async fn role_change(
    client: &Client,
    output: Output,
    method: Method,
    (user, project, role): (&str, &str, Role),
) -> Result<()> {
    let (user, project) = (find(client, "user", user).await?, find(client, "project", project).await?);
    let role = role.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
    let gives = method == Method::PUT;
    client.send(method, &format!("/molde/v1/projects/{project}/users/{user}/roles/{role}"), &json!({})).await?;
    let verb = if gives { "has" } else { "no longer has" };
    output.done(
        &format!("user {user} {verb} the role {role} in project {project}"),
        &json!({"user": user, "project": project, "role": role}),
    )
}

impl Key {
    pub(crate) async fn run(self, client: &Client, output: Output) -> Result<()> {
        match self {
            Self::List => {
                let answer = client.get("/molde/v1/access-keys").await?;
                output.list(&answer["access_keys"], &[("ACCESS KEY", "/access_key"), ("PROJECT", "/project"), ("DESCRIPTION", "/description"), ("CREATED", "/created_at")])
            }
            Self::Create { description } => output.show(&client.send(Method::POST, "/molde/v1/access-keys", &json!({"description": description})).await?["access_key"]),
            Self::Delete { access_key } => {
                client.delete(&format!("/molde/v1/access-keys/{}", escape(&access_key))).await?;
                output.done(&format!("access key {} is gone", plain(&access_key)), &json!({"access_key": access_key}))
            }
        }
    }
}

/// Finds a project's or user's id by id or name.
pub(crate) async fn find(client: &Client, what: &str, text: &str) -> Result<String> {
    let answer = client.get(&format!("/molde/v1/{what}s")).await?;
    let all = answer[format!("{what}s")].as_array().map(Vec::as_slice).unwrap_or_default();
    let found = all.iter().find(|known| known["id"] == text || known["name"] == text);
    let id = found.and_then(|known| known["id"].as_str()).map(str::to_owned);
    id.ok_or_else(|| {
        Failure::new(format!("no {what} `{}`", plain(text)))
            .with_hint(format!("`molde {what} list` shows what there is"))
    })
}
