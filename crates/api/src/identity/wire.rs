//! Keystone's bodies: the sign-in request read, tokens, projects, users and domains written.

use model::identity::{Domain, Project, Role, User};
use serde::Deserialize;
use serde_json::{Value, json};
use service::{Credentials, Error, ErrorKind, Scope, Token, UserName};
use sha2::{Digest, Sha256};

use crate::Endpoints;

/// Body of `POST /v3/auth/tokens`.
#[derive(Deserialize)]
pub(super) struct SignIn {
    auth: Auth,
}

#[derive(Deserialize)]
struct Auth {
    identity: Identity,
    scope: Option<ScopeWire>,
}

#[derive(Deserialize)]
struct Identity {
    methods: Vec<String>,
    password: Option<Password>,
    token: Option<TokenId>,
}

#[derive(Deserialize)]
struct Password {
    user: UserWire,
}

#[derive(Deserialize)]
struct TokenId {
    id: String,
}

#[derive(Deserialize)]
struct UserWire {
    id: Option<String>,
    name: Option<String>,
    domain: Option<DomainWire>,
    password: String,
}

#[derive(Deserialize)]
struct DomainWire {
    id: Option<String>,
    name: Option<String>,
}

/// `"unscoped"`, or an object with one of these.
#[derive(Deserialize)]
#[serde(untagged)]
enum ScopeWire {
    Word(String),
    Object { project: Option<ProjectWire>, domain: Option<Value>, system: Option<Value> },
}

#[derive(Deserialize)]
struct ProjectWire {
    id: Option<String>,
    name: Option<String>,
    domain: Option<DomainWire>,
}

impl SignIn {
    /// Returns what the client shows and what it wants.
    pub(super) fn into_parts(self) -> Result<(Credentials, Scope), Error> {
        let Auth { identity, scope } = self.auth;
        let credentials = match (identity.methods.as_slice(), identity.password, identity.token) {
            ([method], Some(password), _) if method == "password" => {
                let UserWire { id, name, domain, password } = password.user;
                Credentials::Password { user: user_name(id, name, domain)?, password }
            }
            ([method], _, Some(token)) if method == "token" => Credentials::Token(token.id),
            _ => {
                let message = "auth.identity.methods must be [\"password\"] or [\"token\"], with an object of that name beside it";
                return Err(Error::invalid(message));
            }
        };
        Ok((credentials, scope.map_or(Ok(Scope::Unscoped), ScopeWire::into_scope)?))
    }
}

impl ScopeWire {
    fn into_scope(self) -> Result<Scope, Error> {
        match self {
            Self::Word(word) if word == "unscoped" => Ok(Scope::Unscoped),
            Self::Object { project: Some(project), domain: None, system: None } => project.into_scope(),
            Self::Object { project: None, domain: None, system: None } => Ok(Scope::Unscoped),
            Self::Word(_) | Self::Object { .. } => Err(Error::invalid("auth.scope is not understood")
                .with_hint("only a project, or `unscoped`, can be asked for")),
        }
    }
}

impl ProjectWire {
    fn into_scope(self) -> Result<Scope, Error> {
        match (self.id, self.name, self.domain.and_then(DomainWire::into_text)) {
            (Some(id), ..) => Ok(Scope::ProjectId(id.parse().map_err(|_| unknown())?)),
            (None, Some(name), Some(domain)) => Ok(Scope::ProjectName { name, domain }),
            _ => Err(Error::invalid("auth.scope.project needs an id, or a name and a domain with an id or a name")),
        }
    }
}

impl DomainWire {
    fn into_text(self) -> Option<String> {
        self.id.or(self.name)
    }
}

fn user_name(id: Option<String>, name: Option<String>, domain: Option<DomainWire>) -> Result<UserName, Error> {
    match (id, name, domain.and_then(DomainWire::into_text)) {
        (Some(id), ..) => Ok(UserName::Id(id.parse().map_err(|_| unknown())?)),
        (None, Some(name), Some(domain)) => Ok(UserName::Name { name, domain }),
        _ => {
            Err(Error::invalid("auth.identity.password.user needs an id, or a name and a domain with an id or a name"))
        }
    }
}

/// An id that cannot exist is answered like one that does not.
fn unknown() -> Error {
    Error::new(ErrorKind::Unauthorized, "the user, the password or the project is not right")
}

/// Returns the body that describes a token; `with_catalog` adds the endpoints to a scoped one.
pub(super) fn token(token: &Token, endpoints: &Endpoints, region: &str, with_catalog: bool) -> Value {
    let mut body = json!({
        "methods": token.methods,
        "user": {
            "id": token.user.id.to_string(),
            "name": token.user.name,
            "domain": named_domain(&token.user_domain),
            "password_expires_at": null,
        },
        "audit_ids": [token.audit_id],
        "issued_at": token.issued_at.strftime(TIME).to_string(),
        "expires_at": token.expires_at.strftime(TIME).to_string(),
    });
    if let Some((project, domain)) = &token.project {
        body["project"] = json!({"id": project.id.to_string(), "name": project.name, "domain": named_domain(domain)});
        body["is_domain"] = json!(false);
        body["roles"] = token.roles.iter().map(|role| json!({"id": role_id(*role), "name": role.as_str()})).collect();
        if with_catalog {
            body["catalog"] = catalog(endpoints, region);
        }
    }
    json!({ "token": body })
}

/// Keystone writes microseconds, other than Glance.
const TIME: &str = "%Y-%m-%dT%H:%M:%S.%6fZ";

/// Returns the services and where they are.
pub(super) fn catalog(endpoints: &Endpoints, region: &str) -> Value {
    let services = [
        ("identity", "keystone", format!("{}/v3", endpoints.api)),
        ("image", "glance", endpoints.api.clone()),
        ("s3", "s3", endpoints.s3.clone()),
    ];
    let entry = |(kind, name, url): &(&str, &str, String)| {
        let endpoints: Vec<_> = ["public", "internal", "admin"]
            .iter()
            .map(|interface| {
                let id = stable_id(&[region, kind, interface]);
                json!({"id": id, "interface": interface, "region": region, "region_id": region, "url": url})
            })
            .collect();
        json!({"id": stable_id(&[region, kind]), "type": kind, "name": name, "endpoints": endpoints})
    };
    services.iter().map(entry).collect()
}

/// Returns an id that is the same at every start, for things that have no record.
fn stable_id(words: &[&str]) -> String {
    let digest = Sha256::digest(words.join("/"));
    hex::encode(&digest[..16])
}

fn role_id(role: Role) -> String {
    stable_id(&["role", role.as_str()])
}

fn named_domain(domain: &Domain) -> Value {
    json!({"id": domain.id.to_string(), "name": domain.name})
}

/// Returns a project as the resource API shows it.
pub(super) fn project(project: &Project, api: &str) -> Value {
    json!({
        "id": project.id.to_string(),
        "name": project.name,
        "domain_id": project.domain.to_string(),
        "parent_id": project.domain.to_string(),
        "description": "",
        "enabled": project.enabled,
        "is_domain": false,
        "tags": [],
        "options": {},
        "links": {"self": format!("{api}/v3/projects/{}", project.id)},
    })
}

/// Returns a user as the resource API shows it.
pub(super) fn user(user: &User, api: &str) -> Value {
    json!({
        "id": user.id.to_string(),
        "name": user.name,
        "domain_id": user.domain.to_string(),
        "enabled": user.enabled,
        "password_expires_at": null,
        "options": {},
        "links": {"self": format!("{api}/v3/users/{}", user.id)},
    })
}

/// Returns a domain as the resource API shows it.
pub(super) fn domain(domain: &Domain, api: &str) -> Value {
    json!({
        "id": domain.id.to_string(),
        "name": domain.name,
        "description": "",
        "enabled": true,
        "tags": [],
        "options": {},
        "links": {"self": format!("{api}/v3/domains/{}", domain.id)},
    })
}

/// Returns a listing under its plural name.
pub(super) fn listing(plural: &str, items: &[Value], url: &str) -> Value {
    json!({plural: items, "links": {"self": url, "next": null, "previous": null}})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<(Credentials, Scope), Error> {
        serde_json::from_str::<SignIn>(text).map_err(|error| Error::invalid(error.to_string()))?.into_parts()
    }

    #[test]
    fn sign_in_with_a_password() {
        // As keystoneauth1 sends it.
        let body = r#"{"auth": {"identity": {"methods": ["password"], "password": {"user": {"password": "secret",
            "name": "demo", "domain": {"name": "Default"}}}},
            "scope": {"project": {"name": "demo", "domain": {"id": "default"}}}}}"#;
        let (credentials, scope) = parse(body).unwrap();
        let Credentials::Password { user, password } = credentials else { panic!("not a password") };
        assert_eq!(user, UserName::Name { name: "demo".into(), domain: "Default".into() });
        assert_eq!(password, "secret");
        assert_eq!(scope, Scope::ProjectName { name: "demo".into(), domain: "default".into() });
    }

    #[test]
    fn sign_in_with_a_token() {
        for scope in ["", r#", "scope": "unscoped""#, r#", "scope": {"unscoped": {}}"#] {
            let body =
                format!(r#"{{"auth": {{"identity": {{"methods": ["token"], "token": {{"id": "t"}}}}{scope}}}}}"#);
            let (credentials, scope) = parse(&body).unwrap();
            assert!(matches!(credentials, Credentials::Token(secret) if secret == "t"));
            assert_eq!(scope, Scope::Unscoped);
        }
    }

    #[test]
    fn sign_ins_that_cannot_be() {
        let identity = r#""identity": {"methods": ["token"], "token": {"id": "t"}}"#;
        let check =
            |text: &str, expect| assert_eq!(parse(text).err().map(|error| error.kind()), Some(expect), "{text}");
        check(r#"{"auth": {}}"#, ErrorKind::Invalid);
        check(r#"{"auth": {"identity": {"methods": ["totp"]}}}"#, ErrorKind::Invalid);
        check(r#"{"auth": {"identity": {"methods": ["password"], "token": {"id": "t"}}}}"#, ErrorKind::Invalid);
        check(
            r#"{"auth": {"identity": {"methods": ["password"], "password": {"user": {"name": "a", "password": "b"}}}}}"#,
            ErrorKind::Invalid,
        );
        check(&format!(r#"{{"auth": {{{identity}, "scope": {{"system": {{"all": true}}}}}}}}"#), ErrorKind::Invalid);
        check(&format!(r#"{{"auth": {{{identity}, "scope": {{"project": {{"name": "p"}}}}}}}}"#), ErrorKind::Invalid);
        check(
            &format!(r#"{{"auth": {{{identity}, "scope": {{"project": {{"id": "x"}}}}}}}}"#),
            ErrorKind::Unauthorized,
        );
    }

    #[test]
    fn catalog_names_every_service_in_every_interface() {
        let endpoints = Endpoints { api: "http://a:1".into(), s3: "http://a:2".into(), nbd: "nbd://a:3/".into() };
        let catalog = catalog(&endpoints, "local-1");
        let urls: Vec<_> =
            catalog.as_array().unwrap().iter().map(|entry| entry["endpoints"][0]["url"].clone()).collect();
        assert_eq!(urls, ["http://a:1/v3", "http://a:1", "http://a:2"]);
        assert_eq!(catalog[1]["endpoints"][2]["interface"], "admin");
        assert_eq!(catalog[1]["endpoints"][2]["region_id"], "local-1");
    }
}
