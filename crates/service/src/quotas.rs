//! Quotas: what a project may have at most, and how much it has. What refuses is the catalog, where a write commits.

use std::collections::BTreeMap;

use catalog::{Tx, objects, projects, quotas};
use model::ProjectId;
use model::buckets::Bucket;
use model::identity::{Principal, Role};
use model::quotas::{Quota, Resource};

use crate::error::{COUNT_HINT, Error, ErrorKind, Result};
use crate::policy;
use crate::service::Service;

/// Verbs of quotas.
pub struct Quotas<'s>(&'s Service);

impl Service {
    /// Returns the verbs of quotas.
    #[must_use]
    pub fn quotas(&self) -> Quotas<'_> {
        Quotas(self)
    }
}

impl Quotas<'_> {
    /// Returns a project's quotas, one for each resource: those of one's own, or anybody's for an administrator.
    pub async fn get(&self, who: &Principal, project: ProjectId) -> Result<Vec<Quota>> {
        let mut tx = self.0.parts.catalog.read().await?;
        known(&mut tx, who, project).await?;
        Ok(quotas::list(&mut tx, project).await?)
    }

    /// Sets the limits that are named, or lifts them; the others stay. One below what a project has takes nothing away.
    pub async fn set(
        &self,
        who: &Principal,
        project: ProjectId,
        limits: &BTreeMap<Resource, Option<u64>>,
    ) -> Result<Vec<Quota>> {
        let mut tx = self.0.parts.catalog.write().await?;
        known(&mut tx, who, project).await?;
        policy::require(who, Role::Admin, "set quotas")?;
        for (resource, limit) in limits {
            quotas::set(&mut tx, project, *resource, *limit).await?;
        }
        let all = quotas::list(&mut tx, project).await?;
        tx.commit().await?;
        Ok(all)
    }
}

/// Gives a new project the limits that new projects have.
pub(crate) async fn limit_new(service: &Service, tx: &mut Tx, project: ProjectId) -> Result<()> {
    for (resource, limit) in &service.parts.settings.quotas {
        quotas::set(tx, project, *resource, Some(*limit)).await?;
    }
    Ok(())
}

/// Fails where an object of this key would be one too many: asked before its bytes flow, and decided with its row.
pub(crate) async fn room_for_object(tx: &mut Tx, bucket: &Bucket, key: &str) -> Result<()> {
    let all = quotas::list(tx, bucket.project).await?;
    let full = all.iter().find(|quota| quota.resource == Resource::Objects && !quota.allows(1));
    match full {
        Some(quota) if objects::get(tx, bucket.id, key).await?.is_none() => {
            Err(Error::new(ErrorKind::QuotaExceeded, quota.refusal(1)).with_hint(COUNT_HINT))
        }
        _ => Ok(()),
    }
}

/// Fails unless the principal may know of the project and it exists.
async fn known(tx: &mut Tx, who: &Principal, project: ProjectId) -> Result<()> {
    if policy::owns(who, project) && projects::get(tx, project).await?.is_some() {
        return Ok(());
    }
    Err(Error::not_found("project", project))
}
