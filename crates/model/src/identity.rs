//! Identity: domains, projects, users, roles, and who a request acts for.

use crate::formats::names;
use crate::{DomainId, ProjectId, Timestamp, UserId};

names! {
    /// What a user may do in a project. Each implies those after it.
    Role {
        /// Everything, in every project.
        Admin = "admin",
        /// Everything in the project; today the same as a member.
        Manager = "manager",
        /// Makes, changes and deletes what the project owns.
        Member = "member",
        /// Looks.
        Reader = "reader",
    }
}

/// A set of users and projects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Domain {
    /// Its id.
    pub id: DomainId,
    /// Its name, unique.
    pub name: String,
}

/// What owns images, buckets and servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Project {
    /// Its id.
    pub id: ProjectId,
    /// The domain it is in.
    pub domain: DomainId,
    /// Its name, unique in the domain.
    pub name: String,
    /// A disabled project lets nobody in.
    pub enabled: bool,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A person or a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Its id.
    pub id: UserId,
    /// The domain it is in.
    pub domain: DomainId,
    /// Its name, unique in the domain.
    pub name: String,
    /// A disabled user cannot sign in, and its tokens and keys are refused.
    pub enabled: bool,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A pair that signs requests for one user in one project; the secret is kept sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessKey {
    /// The public half, 20 upper-case letters and digits.
    pub access_key: String,
    /// The user it acts for.
    pub user: UserId,
    /// The project it acts in.
    pub project: ProjectId,
    /// What it is for, in the owner's words.
    pub description: String,
    /// When it was made.
    pub created_at: Timestamp,
}

/// Who a request acts for: every verb of the service takes it first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// The user.
    pub user: User,
    /// The project it acts in.
    pub project: Project,
    /// The roles it has there, implied ones included.
    pub roles: Vec<Role>,
}

impl Principal {
    /// Returns whether the principal has `role`, directly or implied.
    #[must_use]
    pub fn has(&self, role: Role) -> bool {
        self.roles.iter().any(|own| *own <= role)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_imply_the_lesser() {
        assert!(Role::Admin < Role::Manager && Role::Manager < Role::Member && Role::Member < Role::Reader);
    }
}
