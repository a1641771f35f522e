//! Which user has which role in which project.

use model::identity::{Project, Role, User};
use model::{ProjectId, UserId};

use crate::fields::Fields as _;
use crate::projects::{COLUMNS, project};
use crate::statement::{sql, sql_text};
use crate::users::user;
use crate::{Result, Tx};

/// Gives a user a role in a project; giving it twice changes nothing.
pub async fn grant(tx: &mut Tx, user: UserId, project: ProjectId, role: Role) -> Result<()> {
    let query = sql("INSERT INTO roles (user_id, project, role) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING");
    tx.execute(query.bind(user.to_string()).bind(project.to_string()).bind(role.as_str())).await?;
    Ok(())
}

/// Takes a role back; returns whether the user had it.
pub async fn revoke(tx: &mut Tx, user: UserId, project: ProjectId, role: Role) -> Result<bool> {
    let query = sql("DELETE FROM roles WHERE user_id = $1 AND project = $2 AND role = $3");
    tx.changed(query.bind(user.to_string()).bind(project.to_string()).bind(role.as_str())).await
}

/// Returns the roles that were given to a user in a project, the mightiest first; implied ones are not added.
pub async fn list(tx: &mut Tx, user: UserId, project: ProjectId) -> Result<Vec<Role>> {
    let query = sql("SELECT role FROM roles WHERE user_id = $1 AND project = $2");
    let rows = tx.rows(query.bind(user.to_string()).bind(project.to_string())).await?;
    let mut roles = rows.iter().map(|row| row.parsed("role")).collect::<Result<Vec<Role>>>()?;
    roles.sort_unstable();
    Ok(roles)
}

/// Returns the projects in which a user has a role, by name.
pub async fn projects_of(tx: &mut Tx, user: UserId) -> Result<Vec<Project>> {
    let query = sql_text(format!(
        "SELECT {COLUMNS} FROM projects WHERE id IN (SELECT project FROM roles WHERE user_id = $1) ORDER BY name, id"
    ));
    tx.rows(query.bind(user.to_string())).await?.iter().map(project).collect()
}

/// Returns who has which role in a project, by name of the user, then the mightiest role first.
pub async fn members_of(tx: &mut Tx, project: ProjectId) -> Result<Vec<(User, Role)>> {
    let query = sql("SELECT users.id, users.domain, users.name, users.enabled, users.created_at, roles.role \
         FROM roles JOIN users ON users.id = roles.user_id WHERE roles.project = $1");
    let rows = tx.rows(query.bind(project.to_string())).await?;
    let members = rows.iter().map(|row| Ok((user(row)?, row.parsed("role")?)));
    let mut members = members.collect::<Result<Vec<(User, Role)>>>()?;
    members.sort_by(|(a, role_a), (b, role_b)| (&a.name, a.id, role_a).cmp(&(&b.name, b.id, role_b)));
    Ok(members)
}
