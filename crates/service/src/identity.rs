//! Identity: who somebody is, and for which project they act.
//!
//! Passwords are kept as argon2id, tokens as SHA-256, secret keys sealed by the key service. Signing in fails with
//! one sentence, whatever was wrong, and takes one password check, whether the user exists or not.

use argon2::Argon2;
use argon2::password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash};
use aws_lc_rs::rand;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use catalog::{Tx, access_keys, domains, projects, roles, tokens, users};
use jiff::SignedDuration;
use model::identity::{AccessKey, Domain, Principal, Project, Role, User};
use model::names::check_name;
use model::{DomainId, ProjectId, Timestamp, UserId};
use sha2::{Digest, Sha256};

use crate::error::{Error, ErrorKind, Result};
use crate::service::Service;
use crate::{policy, quotas};

/// Name of the domain that a new data directory has; clients may also say `default`.
const DEFAULT_DOMAIN: &str = "Default";
/// Shortest password, in characters.
const PASSWORD_MIN: usize = 8;
/// Longest password, in bytes; argon2 would hash any length, and the time for that is ours.
const PASSWORD_MAX: usize = 1024;

/// How a request names a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UserName {
    /// By id.
    Id(UserId),
    /// By name in a domain.
    Name {
        /// The user's name.
        name: String,
        /// The domain's id or name.
        domain: String,
    },
}

/// What somebody shows to get a token.
pub enum Credentials {
    /// A name and a password.
    Password {
        /// Who it is.
        user: UserName,
        /// The password.
        password: String,
    },
    /// A token that they have already.
    Token(String),
}

/// What the token shall be good for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Nothing but showing who one is.
    Unscoped,
    /// A project by id.
    ProjectId(ProjectId),
    /// A project by name in a domain.
    ProjectName {
        /// The project's name.
        name: String,
        /// The domain's id or name.
        domain: String,
    },
}

/// What a token stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Whose it is.
    pub user: User,
    /// The user's domain.
    pub user_domain: Domain,
    /// The project it is scoped to, with its domain.
    pub project: Option<(Project, Domain)>,
    /// Roles in that project, implied ones included.
    pub roles: Vec<Role>,
    /// How it was got: `password`, `token`.
    pub methods: Vec<String>,
    /// Names it in logs without giving it away.
    pub audit_id: String,
    /// When it was given.
    pub issued_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// A new token and its secret, which is shown once.
pub struct Issued {
    /// What the client sends as `X-Auth-Token`.
    pub secret: String,
    /// What it stands for.
    pub token: Token,
}

/// Verbs of identity.
pub struct Identity<'s>(pub(crate) &'s Service);

impl Service {
    /// Returns the verbs of identity.
    #[must_use]
    pub fn identity(&self) -> Identity<'_> {
        Identity(self)
    }
}

impl Identity<'_> {
    /// Makes the default domain, project, administrator and access key if there is no domain yet; returns whether it did.
    ///
    /// The caller writes the secrets down durably first: a crash between the two then repeats with the same secrets
    /// instead of locking everybody out.
    pub async fn bootstrap(&self, secrets: &BootstrapSecrets) -> Result<bool> {
        let mut tx = self.0.parts.catalog.write().await?;
        if domains::by_name(&mut tx, BootstrapSecrets::DOMAIN).await?.is_some() {
            return Ok(false);
        }
        let now = self.0.now();
        let domain = Domain { id: DomainId::new(), name: BootstrapSecrets::DOMAIN.into() };
        let (name, enabled) = (BootstrapSecrets::PROJECT.into(), true);
        let project = Project { id: secrets.project, domain: domain.id, name, enabled, created_at: now };
        let name = BootstrapSecrets::USER.into();
        let user = User { id: UserId::new(), domain: domain.id, name, enabled, created_at: now };
        let key = AccessKey {
            access_key: secrets.access_key.clone(),
            user: user.id,
            project: project.id,
            description: "made at the first start".into(),
            created_at: now,
        };
        let hash = self.hash_password(&secrets.password).await?;
        let sealed = self.seal_secret(&key.access_key, &secrets.secret_key).await?;
        domains::insert(&mut tx, &domain).await?;
        projects::insert(&mut tx, &project).await?;
        quotas::limit_new(self.0, &mut tx, project.id).await?;
        users::insert(&mut tx, &user, &hash).await?;
        roles::grant(&mut tx, user.id, project.id, Role::Admin).await?;
        access_keys::insert(&mut tx, &key, &sealed).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Signs in. Every failure is `Unauthorized` with one and the same sentence.
    pub async fn sign_in(&self, credentials: Credentials, scope: Scope) -> Result<Issued> {
        let now = self.0.now();
        let lives = SignedDuration::from_secs(i64::from(self.0.parts.settings.token_seconds));
        let (user, method, expires_at) = match credentials {
            Credentials::Password { user, password } => {
                (self.check_password(&user, password).await?, "password", now + lives)
            }
            // No longer than the token that was shown: a stolen one must not renew itself for ever.
            Credentials::Token(secret) => {
                let token = self.token(&secret).await?;
                (token.user, "token", token.expires_at.min(now + lives))
            }
        };
        let mut tx = self.0.parts.catalog.write().await?;
        let project = self.resolve_scope(&mut tx, &user, &scope).await?;
        let secret = random_text(32)?;
        let row = tokens::TokenRow {
            hash: hash_token(&secret),
            user: user.id,
            project: project.as_ref().map(|project| project.id),
            methods: method.into(),
            audit_id: random_text(16)?,
            issued_at: now,
            expires_at,
        };
        tokens::delete_expired(&mut tx, now).await?;
        tokens::insert(&mut tx, &row).await?;
        let token = describe_token(&mut tx, row, user, project).await?;
        tx.commit().await?;
        Ok(Issued { secret, token })
    }

    /// Returns what a token stands for; `Unauthorized` if it is unknown or expired, or its user or project disabled.
    pub async fn token(&self, secret: &str) -> Result<Token> {
        let mut tx = self.0.parts.catalog.read().await?;
        let refused =
            || Error::new(ErrorKind::Unauthorized, "the token is unknown or has expired").with_hint("sign in again");
        let row = tokens::get(&mut tx, &hash_token(secret))
            .await?
            .filter(|row| row.expires_at > self.0.now())
            .ok_or_else(refused)?;
        let user = users::get(&mut tx, row.user).await?.filter(|user| user.enabled).ok_or_else(refused)?;
        let project = match row.project {
            Some(id) => Some(projects::get(&mut tx, id).await?.filter(|project| project.enabled).ok_or_else(refused)?),
            None => None,
        };
        let token = describe_token(&mut tx, row, user, project).await?;
        if token.project.is_some() && token.roles.is_empty() {
            return Err(refused());
        }
        Ok(token)
    }

    /// Ends a token; unknown is fine.
    pub async fn revoke(&self, secret: &str) -> Result<()> {
        let mut tx = self.0.parts.catalog.write().await?;
        tokens::delete(&mut tx, &hash_token(secret)).await?;
        Ok(tx.commit().await?)
    }

    /// Returns who a scoped token acts for; `Unauthorized` for an unscoped one.
    pub async fn principal(&self, secret: &str) -> Result<Principal> {
        let token = self.token(secret).await?;
        let Some((project, _)) = token.project else {
            return Err(Error::new(ErrorKind::Unauthorized, "the token is not scoped to a project")
                .with_hint("sign in with a project"));
        };
        Ok(Principal { user: token.user, project, roles: token.roles })
    }

    /// Returns the secret of an access key and who it acts for; `Unauthorized` if it is unknown or disabled.
    pub async fn signer(&self, access_key: &str) -> Result<(String, Principal)> {
        let refused = || Error::new(ErrorKind::Unauthorized, "the access key is unknown or disabled");
        let mut tx = self.0.parts.catalog.read().await?;
        let (key, sealed) = access_keys::get(&mut tx, access_key).await?.ok_or_else(refused)?;
        let user = users::get(&mut tx, key.user).await?.filter(|user| user.enabled).ok_or_else(refused)?;
        let project =
            projects::get(&mut tx, key.project).await?.filter(|project| project.enabled).ok_or_else(refused)?;
        let roles = with_implied(&roles::list(&mut tx, user.id, project.id).await?);
        drop(tx);
        if roles.is_empty() {
            return Err(refused());
        }
        let secret = self.0.parts.kms.unwrap(&key_context(access_key), &sealed).await?;
        let secret = String::from_utf8(secret.expose().to_vec())
            .map_err(|bad| Error::internal("a secret key is no text", bad))?;
        Ok((secret, Principal { user, project, roles }))
    }

    /// Lists projects: all for an administrator, one's own otherwise.
    pub async fn projects(&self, who: &Principal) -> Result<Vec<Project>> {
        let mut tx = self.0.parts.catalog.read().await?;
        Ok(if who.has(Role::Admin) {
            projects::list(&mut tx).await?
        } else {
            roles::projects_of(&mut tx, who.user.id).await?
        })
    }

    /// Lists the projects in which a user has a role.
    pub async fn projects_of_user(&self, user: &User) -> Result<Vec<Project>> {
        let mut tx = self.0.parts.catalog.read().await?;
        Ok(roles::projects_of(&mut tx, user.id).await?)
    }

    /// Returns a project that the principal may know of.
    pub async fn project(&self, who: &Principal, id: ProjectId) -> Result<Project> {
        let known = self.projects(who).await?;
        known
            .into_iter()
            .find(|project| project.id == id)
            .ok_or_else(|| Error::not_found("project", format_args!("{id}")))
    }

    /// Makes a project in the principal's domain.
    pub async fn create_project(&self, who: &Principal, name: &str) -> Result<Project> {
        policy::require(who, Role::Admin, "create projects")?;
        check_name(name)?;
        let now = self.0.now();
        let project = Project {
            id: ProjectId::new(),
            domain: who.user.domain,
            name: name.into(),
            enabled: true,
            created_at: now,
        };
        let mut tx = self.0.parts.catalog.write().await?;
        projects::insert(&mut tx, &project).await.map_err(|error| taken(error, "project", name))?;
        quotas::limit_new(self.0, &mut tx, project.id).await?;
        tx.commit().await?;
        Ok(project)
    }

    /// Removes a project that owns nothing any more.
    pub async fn delete_project(&self, who: &Principal, id: ProjectId) -> Result<()> {
        policy::require(who, Role::Admin, "delete projects")?;
        if id == who.project.id {
            return Err(Error::conflict("a project cannot delete itself").with_hint("sign in to another project first"));
        }
        let mut tx = self.0.parts.catalog.write().await?;
        if !projects::delete(&mut tx, id).await.map_err(|error| in_use(error, "project"))? {
            return Err(Error::not_found("project", format_args!("{id}")));
        }
        Ok(tx.commit().await?)
    }

    /// Lists users, for an administrator.
    pub async fn users(&self, who: &Principal) -> Result<Vec<User>> {
        policy::require(who, Role::Admin, "list users")?;
        let mut tx = self.0.parts.catalog.read().await?;
        Ok(users::list(&mut tx).await?)
    }

    /// Returns a user: oneself, or anybody for an administrator.
    pub async fn user(&self, who: &Principal, id: UserId) -> Result<User> {
        let absent = || Error::not_found("user", format_args!("{id}"));
        if id != who.user.id && !who.has(Role::Admin) {
            return Err(absent());
        }
        let mut tx = self.0.parts.catalog.read().await?;
        users::get(&mut tx, id).await?.ok_or_else(absent)
    }

    /// Makes a user in the principal's domain.
    pub async fn create_user(&self, who: &Principal, name: &str, password: &str) -> Result<User> {
        policy::require(who, Role::Admin, "create users")?;
        check_name(name)?;
        check_new_password(password)?;
        let user = User {
            id: UserId::new(),
            domain: who.user.domain,
            name: name.into(),
            enabled: true,
            created_at: self.0.now(),
        };
        let hash = self.hash_password(password).await?;
        let mut tx = self.0.parts.catalog.write().await?;
        users::insert(&mut tx, &user, &hash).await.map_err(|error| taken(error, "user", name))?;
        tx.commit().await?;
        Ok(user)
    }

    /// Removes a user with its roles, tokens and access keys.
    pub async fn delete_user(&self, who: &Principal, id: UserId) -> Result<()> {
        policy::require(who, Role::Admin, "delete users")?;
        if id == who.user.id {
            return Err(Error::conflict("a user cannot delete itself").with_hint("let another administrator do it"));
        }
        let mut tx = self.0.parts.catalog.write().await?;
        if !users::delete(&mut tx, id).await.map_err(|error| in_use(error, "user"))? {
            return Err(Error::not_found("user", format_args!("{id}")));
        }
        Ok(tx.commit().await?)
    }

    /// Gives a user a role in a project.
    pub async fn grant(&self, who: &Principal, user: UserId, project: ProjectId, role: Role) -> Result<()> {
        policy::require(who, Role::Admin, "grant roles")?;
        let mut tx = self.0.parts.catalog.write().await?;
        users::get(&mut tx, user).await?.ok_or_else(|| Error::not_found("user", format_args!("{user}")))?;
        projects::get(&mut tx, project).await?.ok_or_else(|| Error::not_found("project", format_args!("{project}")))?;
        roles::grant(&mut tx, user, project, role).await?;
        Ok(tx.commit().await?)
    }

    /// Takes a role from a user; tokens and keys lose it at once.
    pub async fn revoke_role(&self, who: &Principal, user: UserId, project: ProjectId, role: Role) -> Result<()> {
        policy::require(who, Role::Admin, "revoke roles")?;
        let mut tx = self.0.parts.catalog.write().await?;
        roles::revoke(&mut tx, user, project, role).await?;
        Ok(tx.commit().await?)
    }

    /// Makes an access key for the principal itself in its project; the secret is shown once.
    pub async fn create_access_key(&self, who: &Principal, description: &str) -> Result<(AccessKey, String)> {
        if description.chars().count() > 255 {
            return Err(Error::invalid("a description has at most 255 characters"));
        }
        let (access_key, secret) = (new_access_key()?, random_text(30)?);
        let key = AccessKey {
            access_key,
            user: who.user.id,
            project: who.project.id,
            description: description.into(),
            created_at: self.0.now(),
        };
        let sealed = self.seal_secret(&key.access_key, &secret).await?;
        let mut tx = self.0.parts.catalog.write().await?;
        access_keys::insert(&mut tx, &key, &sealed).await?;
        tx.commit().await?;
        Ok((key, secret))
    }

    /// Lists the principal's own access keys.
    pub async fn access_keys(&self, who: &Principal) -> Result<Vec<AccessKey>> {
        let mut tx = self.0.parts.catalog.read().await?;
        Ok(access_keys::list(&mut tx, who.user.id).await?)
    }

    /// Removes one of the principal's own access keys, or anybody's for an administrator.
    pub async fn delete_access_key(&self, who: &Principal, access_key: &str) -> Result<()> {
        let absent = || Error::not_found("access key", format_args!("{access_key}"));
        let mut tx = self.0.parts.catalog.write().await?;
        let (key, _) = access_keys::get(&mut tx, access_key).await?.ok_or_else(absent)?;
        if key.user != who.user.id && !who.has(Role::Admin) {
            return Err(absent());
        }
        access_keys::delete(&mut tx, access_key).await?;
        Ok(tx.commit().await?)
    }

    /// Returns a domain.
    pub async fn domain(&self, id: DomainId) -> Result<Domain> {
        let mut tx = self.0.parts.catalog.read().await?;
        domains::get(&mut tx, id).await?.ok_or_else(|| Error::not_found("domain", format_args!("{id}")))
    }

    async fn check_password(&self, name: &UserName, password: String) -> Result<User> {
        let mut tx = self.0.parts.catalog.read().await?;
        let user = match name {
            UserName::Id(id) => users::get(&mut tx, *id).await?,
            UserName::Name { name, domain } => match find_domain(&mut tx, domain).await? {
                Some(domain) => users::by_name(&mut tx, domain.id, name).await?,
                None => None,
            },
        };
        let hash = match &user {
            Some(user) => users::password_hash(&mut tx, user.id).await?,
            None => None,
        };
        drop(tx);
        // An unknown user costs the same check, so that timing does not tell who exists.
        let known = hash.is_some();
        let hash = hash.unwrap_or_else(|| ABSENT_HASH.into());
        let fits = password.len() <= PASSWORD_MAX;
        let right = self.0.permits.run(move || verify_password(&hash, &password)).await?;
        user.filter(|user| known && fits && right && user.enabled).ok_or_else(not_let_in)
    }

    async fn resolve_scope(&self, tx: &mut Tx, user: &User, scope: &Scope) -> Result<Option<Project>> {
        let project = match scope {
            Scope::Unscoped => return Ok(None),
            Scope::ProjectId(id) => projects::get(tx, *id).await?,
            Scope::ProjectName { name, domain } => match find_domain(tx, domain).await? {
                Some(domain) => projects::by_name(tx, domain.id, name).await?,
                None => None,
            },
        };
        let project = project.filter(|project| project.enabled).ok_or_else(not_let_in)?;
        if roles::list(tx, user.id, project.id).await?.is_empty() {
            return Err(not_let_in());
        }
        Ok(Some(project))
    }

    async fn hash_password(&self, password: &str) -> Result<String> {
        let password = password.to_owned();
        let hashed = self
            .0
            .permits
            .run(move || Argon2::default().hash_password(password.as_bytes()).map(|hash| hash.to_string()))
            .await?;
        hashed.map_err(|bad| Error::new(ErrorKind::Internal, format!("cannot hash a password: {bad}")))
    }

    async fn seal_secret(&self, access_key: &str, secret: &str) -> Result<Vec<u8>> {
        Ok(self.0.parts.kms.wrap(&key_context(access_key), secret.as_bytes()).await?)
    }
}

/// What the first start of a new data directory makes up: an administrator's secrets and its project's id.
#[derive(Clone)]
pub struct BootstrapSecrets {
    /// Id of the first project.
    pub project: ProjectId,
    /// The administrator's password.
    pub password: String,
    /// Public half of its access key.
    pub access_key: String,
    /// Secret half of its access key.
    pub secret_key: String,
}

impl BootstrapSecrets {
    /// Name of the first domain.
    pub const DOMAIN: &'static str = DEFAULT_DOMAIN;
    /// Name of the first project.
    pub const PROJECT: &'static str = "admin";
    /// Name of the first user.
    pub const USER: &'static str = "admin";

    /// Makes up new ones.
    pub fn generate() -> Result<Self> {
        let (password, access_key, secret_key) = (random_text(18)?, new_access_key()?, random_text(30)?);
        Ok(Self { project: ProjectId::new(), password, access_key, secret_key })
    }

    /// Takes those that an earlier start wrote down.
    pub fn of(project: &str, password: String, access_key: String, secret_key: String) -> Result<Self> {
        let project = project.parse().map_err(|bad: model::IdError| Error::invalid(bad.to_string()))?;
        Ok(Self { project, password, access_key, secret_key })
    }
}

/// A real argon2id hash of a password that nobody has, checked in place of an unknown user's.
const ABSENT_HASH: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$bW9sZGUtYWJzZW50LTAwMQ$ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA";

/// The one answer to whoever cannot sign in: a right password without a role looks like a wrong one.
fn not_let_in() -> Error {
    Error::new(ErrorKind::Unauthorized, "the user, the password or the project is wrong")
        .with_hint("check the user and its domain, the password, and that the user has a role in the project")
}

fn verify_password(hash: &str, password: &str) -> bool {
    PasswordHash::new(hash).is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
}

fn check_new_password(password: &str) -> Result<()> {
    let fits = password.chars().count() >= PASSWORD_MIN && password.len() <= PASSWORD_MAX;
    if fits {
        Ok(())
    } else {
        Err(Error::invalid(format!("a password has {PASSWORD_MIN} to {PASSWORD_MAX} characters")))
    }
}

async fn find_domain(tx: &mut Tx, text: &str) -> Result<Option<Domain>> {
    if let Ok(id) = text.parse::<DomainId>() {
        return Ok(domains::get(tx, id).await?);
    }
    // Every OpenStack client knows the first domain by the id `default`.
    let name = if text == "default" { DEFAULT_DOMAIN } else { text };
    Ok(domains::by_name(tx, name).await?)
}

async fn describe_token(tx: &mut Tx, row: tokens::TokenRow, user: User, project: Option<Project>) -> Result<Token> {
    let gone = |id: DomainId| Error::new(ErrorKind::Internal, format!("domain {id} has no record"));
    let user_domain = domains::get(tx, user.domain).await?.ok_or_else(|| gone(user.domain))?;
    let (project, roles) = match project {
        Some(project) => {
            let domain = domains::get(tx, project.domain).await?.ok_or_else(|| gone(project.domain))?;
            let roles = with_implied(&roles::list(tx, user.id, project.id).await?);
            (Some((project, domain)), roles)
        }
        None => (None, Vec::new()),
    };
    let tokens::TokenRow { methods, audit_id, issued_at, expires_at, .. } = row;
    let methods = methods.split(',').map(str::to_owned).collect();
    Ok(Token { user, user_domain, project, roles, methods, audit_id, issued_at, expires_at })
}

/// Adds the roles that the given ones imply: each implies all lesser ones.
fn with_implied(own: &[Role]) -> Vec<Role> {
    own.iter().min().map_or_else(Vec::new, |highest| Role::ALL.iter().copied().filter(|role| role >= highest).collect())
}

fn hash_token(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

fn key_context(access_key: &str) -> Vec<u8> {
    format!("access-key:{access_key}").into_bytes()
}

fn random_bytes<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    rand::fill(&mut bytes)
        .map_err(|failed| Error::new(ErrorKind::Internal, format!("the system gives no random bytes: {failed}")))?;
    Ok(bytes)
}

/// Returns `bytes` (at most 32) random bytes as text that fits a URL and a header.
fn random_text(bytes: usize) -> Result<String> {
    Ok(URL_SAFE_NO_PAD.encode(&random_bytes::<32>()?[..bytes]))
}

/// Returns a public key half: 20 upper-case letters and digits.
fn new_access_key() -> Result<String> {
    const LETTERS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let letters =
        random_bytes::<18>()?.iter().map(|byte| char::from(LETTERS[usize::from(byte & 31)])).collect::<String>();
    Ok(format!("MK{letters}"))
}

fn taken(error: catalog::Error, what: &str, name: &str) -> Error {
    if error.kind() == catalog::ErrorKind::Conflict {
        return Error::conflict(format!("there is a {what} named `{name}` already"));
    }
    error.into()
}

fn in_use(error: catalog::Error, what: &str) -> Error {
    if error.kind() == catalog::ErrorKind::Conflict {
        return Error::conflict(format!("the {what} still owns something"))
            .with_hint("delete its images, buckets and servers first");
    }
    error.into()
}
