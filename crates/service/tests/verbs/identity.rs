//! Identity: signing in, tokens and keys, and how fast what was taken away is gone.

use jiff::SignedDuration;
use model::identity::Role;
use model::{DomainId, ProjectId, UserId};
use service::{BootstrapSecrets, Credentials, ErrorKind, Issued, Result, Scope, UserName};

use crate::fixture::{Fixture, TOKEN_SECONDS};

const PASSWORD: &str = "correct horse";

fn named(name: &str) -> UserName {
    UserName::Name { name: name.into(), domain: "default".into() }
}

async fn sign_in(f: &Fixture, user: UserName, password: &str, scope: Scope) -> Result<Issued> {
    f.service.identity().sign_in(Credentials::Password { user, password: password.into() }, scope).await
}

/// A fixture with the user `ana`, a member of the first project.
async fn with_ana() -> (Fixture, UserId, ProjectId) {
    let f = Fixture::new().await;
    let root = f.root().await;
    let ana = f.service.identity().create_user(&root, "ana", PASSWORD).await.unwrap();
    f.service.identity().grant(&root, ana.id, root.project.id, Role::Member).await.unwrap();
    (f, ana.id, root.project.id)
}

#[tokio::test]
async fn a_password_gives_a_token_for_a_project() {
    let (f, ana, project) = with_ana().await;
    let domain = f.root().await.user.domain.to_string();
    let by_name = |domain: &str| UserName::Name { name: "ana".into(), domain: domain.into() };
    let names = [UserName::Id(ana), by_name("default"), by_name("Default"), by_name(&domain)];
    let in_domain = |domain: &str| Scope::ProjectName { name: "admin".into(), domain: domain.into() };
    for user in names {
        for scope in [Scope::ProjectId(project), in_domain("default"), in_domain(&domain)] {
            let Issued { secret, token } = sign_in(&f, user.clone(), PASSWORD, scope).await.unwrap();
            assert_eq!(token.roles, [Role::Member, Role::Reader]);
            assert_eq!(token.project.as_ref().unwrap().0.id, project);
            let lives = token.expires_at.duration_since(token.issued_at);
            assert_eq!(lives, SignedDuration::from_secs(TOKEN_SECONDS.into()));
            assert_eq!(f.service.identity().token(&secret).await.unwrap(), token);
            let who = f.service.identity().principal(&secret).await.unwrap();
            assert_eq!((who.user.id, who.project.id, who.roles), (ana, project, token.roles));
        }
    }
    let unscoped = sign_in(&f, named("ana"), PASSWORD, Scope::Unscoped).await.unwrap();
    assert_eq!((unscoped.token.project, unscoped.token.roles), (None, vec![]));
    assert_eq!(f.service.identity().principal(&unscoped.secret).await.unwrap_err().kind(), ErrorKind::Unauthorized);
}

/// Whoever guesses learns nothing: neither that a user exists, nor that a password is right for a user without a role.
#[tokio::test]
async fn every_refusal_says_the_same() {
    let (f, ana, project) = with_ana().await;
    let root = f.root().await;
    let other = f.project("other").await;
    let off = f.service.identity().create_user(&root, "off", PASSWORD).await.unwrap();
    f.service.identity().grant(&root, off.id, project, Role::Member).await.unwrap();
    let mut tx = f.catalog.write().await.unwrap();
    catalog::users::set_enabled(&mut tx, off.id, false).await.unwrap();
    tx.commit().await.unwrap();
    let scope = Scope::ProjectId(project);
    let elsewhere = |domain: &str| UserName::Name { name: "ana".into(), domain: domain.into() };
    let long = "x".repeat(1 << 20);
    let cases = [
        (named("ana"), "wrong", scope.clone()),
        (named("ana"), "", scope.clone()),
        (named("ana"), &*long, scope.clone()),
        (named("nobody"), PASSWORD, scope.clone()),
        (UserName::Id(UserId::new()), PASSWORD, scope.clone()),
        (elsewhere("nowhere"), PASSWORD, scope.clone()),
        (elsewhere(&DomainId::new().to_string()), PASSWORD, scope.clone()),
        (named("off"), PASSWORD, scope.clone()),
        (named("off"), "wrong", scope.clone()),
        (named("ana"), PASSWORD, Scope::ProjectId(other.id)),
        (named("ana"), PASSWORD, Scope::ProjectId(ProjectId::new())),
        (named("ana"), PASSWORD, Scope::ProjectName { name: "admin".into(), domain: "nowhere".into() }),
        (UserName::Id(ana), "wrong", Scope::Unscoped),
    ];
    let mut said = Vec::new();
    for (user, password, scope) in cases {
        let refused = sign_in(&f, user, password, scope).await.err().expect("refused");
        assert_eq!(refused.kind(), ErrorKind::Unauthorized);
        said.push((refused.to_string(), refused.hint().map(str::to_owned), refused.noun()));
    }
    said.dedup();
    assert_eq!(said.len(), 1, "{said:?}");
}

#[tokio::test]
async fn a_token_ends_in_time_or_when_it_is_revoked() {
    let (f, _, project) = with_ana().await;
    let identity = f.service.identity();
    let first = sign_in(&f, named("ana"), PASSWORD, Scope::ProjectId(project)).await.unwrap();
    let second = sign_in(&f, named("ana"), PASSWORD, Scope::ProjectId(project)).await.unwrap();
    assert_ne!(first.secret, second.secret);
    assert!(!first.token.audit_id.contains(&first.secret));
    identity.revoke(&first.secret).await.unwrap();
    identity.revoke("unknown").await.expect("unknown is fine");
    let revoked = identity.token(&first.secret).await.unwrap_err();
    f.clock.pass(TOKEN_SECONDS - 1);
    identity.token(&second.secret).await.unwrap();
    f.clock.pass(1);
    let expired = identity.token(&second.secret).await.unwrap_err();
    let unknown = identity.token("unknown").await.unwrap_err();
    for refused in [&revoked, &expired, &unknown] {
        assert_eq!((refused.kind(), refused.to_string()), (ErrorKind::Unauthorized, unknown.to_string()));
    }
    let with_expired = identity.sign_in(Credentials::Token(second.secret), Scope::Unscoped).await;
    assert_eq!(with_expired.err().unwrap().kind(), ErrorKind::Unauthorized);
}

/// A stolen token must not become one that lives for ever.
#[tokio::test]
async fn a_token_for_a_token_lives_no_longer() {
    let (f, _, project) = with_ana().await;
    let unscoped = sign_in(&f, named("ana"), PASSWORD, Scope::Unscoped).await.unwrap();
    f.clock.pass(100);
    let credentials = Credentials::Token(unscoped.secret.clone());
    let scoped = f.service.identity().sign_in(credentials, Scope::ProjectId(project)).await.unwrap();
    assert_eq!(scoped.token.roles, [Role::Member, Role::Reader]);
    assert_eq!(scoped.token.expires_at, unscoped.token.expires_at);
    assert!(scoped.token.methods.contains(&"token".to_owned()), "{:?}", scoped.token.methods);
    f.clock.pass(TOKEN_SECONDS - 100);
    assert_eq!(f.service.identity().token(&scoped.secret).await.unwrap_err().kind(), ErrorKind::Unauthorized);
}

#[tokio::test]
async fn a_role_that_was_taken_is_gone_at_once() {
    let (f, ana, project) = with_ana().await;
    let (root, identity) = (f.root().await, f.service.identity());
    identity.grant(&root, ana, project, Role::Manager).await.unwrap();
    let token = sign_in(&f, named("ana"), PASSWORD, Scope::ProjectId(project)).await.unwrap().secret;
    let who = identity.principal(&token).await.unwrap();
    assert_eq!(who.roles, [Role::Manager, Role::Member, Role::Reader]);
    let (key, _) = identity.create_access_key(&who, "laptop").await.unwrap();

    identity.revoke_role(&root, ana, project, Role::Manager).await.unwrap();
    assert_eq!(identity.principal(&token).await.unwrap().roles, [Role::Member, Role::Reader]);
    assert_eq!(identity.signer(&key.access_key).await.unwrap().1.roles, [Role::Member, Role::Reader]);

    identity.revoke_role(&root, ana, project, Role::Member).await.unwrap();
    assert_eq!(identity.principal(&token).await.unwrap_err().kind(), ErrorKind::Unauthorized);
    assert_eq!(identity.signer(&key.access_key).await.unwrap_err().kind(), ErrorKind::Unauthorized);
}

#[tokio::test]
async fn a_disabled_or_deleted_user_is_out_at_once() {
    let (f, ana, project) = with_ana().await;
    let (root, identity) = (f.root().await, f.service.identity());
    let token = sign_in(&f, named("ana"), PASSWORD, Scope::ProjectId(project)).await.unwrap().secret;
    let who = identity.principal(&token).await.unwrap();
    let (key, _) = identity.create_access_key(&who, "").await.unwrap();
    let enable = async |on| {
        let mut tx = f.catalog.write().await.unwrap();
        catalog::users::set_enabled(&mut tx, ana, on).await.unwrap();
        tx.commit().await.unwrap();
    };
    let out = async || {
        let kinds = [identity.token(&token).await.err(), identity.signer(&key.access_key).await.err()];
        kinds.into_iter().all(|error| error.is_some_and(|error| error.kind() == ErrorKind::Unauthorized))
    };
    enable(false).await;
    assert!(out().await);
    enable(true).await;
    assert!(identity.token(&token).await.is_ok() && identity.signer(&key.access_key).await.is_ok());
    identity.delete_user(&root, ana).await.unwrap();
    assert!(out().await);
    assert!(sign_in(&f, named("ana"), PASSWORD, Scope::ProjectId(project)).await.is_err());
}

#[tokio::test]
async fn an_access_key_signs_with_the_secret_that_was_shown() {
    let f = Fixture::new().await;
    let (who, identity) = (f.member().await, f.service.identity());
    let (key, secret) = identity.create_access_key(&who, "backup").await.unwrap();
    assert!(key.access_key.len() == 20 && key.access_key.bytes().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit()));
    let (kept, signer) = identity.signer(&key.access_key).await.unwrap();
    assert_eq!((kept, signer), (secret, who.clone()));
    assert_eq!(identity.access_keys(&who).await.unwrap(), std::slice::from_ref(&key));
    assert_eq!(identity.access_keys(&f.root().await).await.unwrap().len(), 1, "one's own only");
    assert_eq!(identity.create_access_key(&who, &"x".repeat(256)).await.unwrap_err().kind(), ErrorKind::Invalid);
    identity.delete_access_key(&who, &key.access_key).await.unwrap();
    let (gone, never) = (identity.signer(&key.access_key).await, identity.signer("MKNEVER").await);
    let (gone, never) = (gone.unwrap_err(), never.unwrap_err());
    assert_eq!((gone.kind(), gone.to_string()), (ErrorKind::Unauthorized, never.to_string()));
}

#[tokio::test]
async fn bootstrap_happens_once() {
    let f = Fixture::new().await;
    assert!(!f.service.identity().bootstrap(&f.secrets).await.unwrap());
    let others = BootstrapSecrets::generate().unwrap();
    assert!(!f.service.identity().bootstrap(&others).await.unwrap());
    let root = f.root().await;
    assert_eq!((root.project.id, root.user.name.as_str()), (f.secrets.project, BootstrapSecrets::USER));
    assert_eq!(f.service.identity().users(&root).await.unwrap().len(), 1);
    let scope = Scope::ProjectId(f.secrets.project);
    let admin = sign_in(&f, named("admin"), &f.secrets.password, scope.clone()).await.unwrap();
    assert_eq!(admin.token.roles, Role::ALL);
    assert!(sign_in(&f, named("admin"), &others.password, scope).await.is_err());
    assert_eq!(f.service.identity().signer(&others.access_key).await.unwrap_err().kind(), ErrorKind::Unauthorized);
}

#[tokio::test]
async fn rules_for_names_and_passwords() {
    let f = Fixture::new().await;
    let (root, identity) = (f.root().await, f.service.identity());
    for (name, password) in [("short", "1234567"), ("long", &*"x".repeat(1025)), ("", PASSWORD), ("a\nb", PASSWORD)] {
        let refused = identity.create_user(&root, name, password).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid, "{name}: {refused}");
    }
    for (name, password) in [("eight", "éééééééé"), ("longest", &*"x".repeat(1024))] {
        let user = identity.create_user(&root, name, password).await.unwrap();
        sign_in(&f, UserName::Id(user.id), password, Scope::Unscoped).await.unwrap();
    }
    assert_eq!(identity.create_user(&root, "eight", PASSWORD).await.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(identity.create_project(&root, "admin").await.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(identity.create_project(&root, &"x".repeat(256)).await.unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(identity.delete_user(&root, root.user.id).await.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(identity.delete_project(&root, root.project.id).await.unwrap_err().kind(), ErrorKind::Conflict);
}

#[tokio::test]
async fn a_project_goes_only_when_it_owns_nothing() {
    let f = Fixture::new().await;
    let (root, project) = (f.root().await, f.project("demo").await);
    let who = f.principal(&project, Role::Member).await;
    f.service.buckets().create(&who, "bucket").await.unwrap();
    let held = f.service.identity().delete_project(&root, project.id).await.unwrap_err();
    assert_eq!(held.kind(), ErrorKind::Conflict, "{held}");
    f.service.buckets().delete(&who, "bucket").await.unwrap();
    f.service.identity().delete_project(&root, project.id).await.unwrap();
    assert_eq!(f.service.identity().project(&root, project.id).await.unwrap_err().kind(), ErrorKind::NotFound);
}
