//! Rows of servers.

use model::servers::{RootDisk, Server, ServerState};
use model::{ProjectId, ServerId};
use sqlx::Any;
use sqlx::any::{AnyArguments, AnyRow};
use sqlx::query::Query;

use crate::fields::{Fields as _, micros, size, text_option};
use crate::statement::{Statement, sql, sql_text};
use crate::{Result, Tx};

/// What a record is made of, by name: a newer release may have added columns.
const COLUMNS: &str = "id, project, user_id, name, state, reason, image, content, format, disk_size, uefi, flavor, \
    user_data, ssh_key, forwards, job, created_at, updated_at";

/// Adds a server.
pub async fn insert(tx: &mut Tx, server: &Server) -> Result<()> {
    let query = sql(
        "INSERT INTO servers (id, project, user_id, name, state, reason, image, content, format, disk_size, uefi, \
         flavor, user_data, ssh_key, forwards, job, created_at, updated_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)",
    );
    tx.execute(bind(query, server)?).await?;
    Ok(())
}

/// Returns the server with this id; in a transaction that writes, no other may change it meanwhile.
pub async fn get(tx: &mut Tx, id: ServerId) -> Result<Option<Server>> {
    let text = format!("SELECT {COLUMNS} FROM servers WHERE id = $1{}", tx.lock());
    tx.row(sql_text(text).bind(id.to_string())).await?.as_ref().map(server).transpose()
}

/// Returns the servers of a project, or of all, newest first.
pub async fn list(tx: &mut Tx, project: Option<ProjectId>) -> Result<Vec<Server>> {
    let mut statement = Statement::new(format!("SELECT {COLUMNS} FROM servers"));
    if let Some(project) = project {
        statement.push(" WHERE project = ").bind(project.to_string());
    }
    statement.push(" ORDER BY created_at DESC, id DESC");
    tx.rows(statement.query()).await?.iter().map(server).collect()
}

/// Writes every field of a server if its state still is `from`; returns whether it was.
pub async fn update(tx: &mut Tx, server: &Server, from: ServerState) -> Result<bool> {
    let query = sql(
        "UPDATE servers SET project = $2, user_id = $3, name = $4, state = $5, reason = $6, image = $7, content = $8, \
         format = $9, disk_size = $10, uefi = $11, flavor = $12, user_data = $13, ssh_key = $14, forwards = $15, \
         job = $16, created_at = $17, updated_at = $18 WHERE id = $1 AND state = $19",
    );
    tx.changed(bind(query, server)?.bind(from.as_str())).await
}

/// Removes a server; returns whether it existed.
pub async fn delete(tx: &mut Tx, id: ServerId) -> Result<bool> {
    tx.changed(sql("DELETE FROM servers WHERE id = $1").bind(id.to_string())).await
}

fn bind<'q>(query: Query<'q, Any, AnyArguments>, server: &Server) -> Result<Query<'q, Any, AnyArguments>> {
    let size = size(server.disk.size)?;
    let forwards: serde_json::Value = server.forwards.iter().map(|&(host, guest)| vec![host, guest]).collect();
    Ok(query
        .bind(server.id.to_string())
        .bind(server.project.to_string())
        .bind(server.user.to_string())
        .bind(&*server.name)
        .bind(server.state.as_str())
        .bind(server.reason.as_deref())
        .bind(server.image.to_string())
        .bind(server.disk.content.to_string())
        .bind(server.disk.format.as_str())
        .bind(size)
        .bind(i64::from(server.disk.uefi))
        .bind(&*server.flavor)
        .bind(server.user_data.as_deref())
        .bind(server.ssh_key.as_deref())
        .bind(forwards.to_string())
        .bind(text_option(server.job))
        .bind(micros(server.created_at))
        .bind(micros(server.updated_at)))
}

fn server(row: &AnyRow) -> Result<Server> {
    Ok(Server {
        id: row.parsed("id")?,
        project: row.parsed("project")?,
        user: row.parsed("user_id")?,
        name: row.field("name")?,
        state: row.parsed("state")?,
        reason: row.field("reason")?,
        image: row.parsed("image")?,
        disk: RootDisk {
            content: row.parsed("content")?,
            format: row.parsed("format")?,
            size: row.number("disk_size")?,
            uefi: row.flag("uefi")?,
        },
        flavor: row.field("flavor")?,
        user_data: row.field("user_data")?,
        ssh_key: row.field("ssh_key")?,
        forwards: row.json("forwards")?,
        job: row.parsed_option("job")?,
        created_at: row.time("created_at")?,
        updated_at: row.time("updated_at")?,
    })
}
