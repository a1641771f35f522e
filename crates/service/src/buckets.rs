//! Buckets: make, list, find, remove.

use catalog::{Tx, buckets};
use model::BucketId;
use model::buckets::Bucket;
use model::identity::{Principal, Role};
use model::names::check_bucket;

use crate::error::{Error, Result};
use crate::policy;
use crate::service::Service;

/// Verbs of buckets.
pub struct Buckets<'s>(pub(crate) &'s Service);

impl Service {
    /// Returns the verbs of buckets.
    #[must_use]
    pub fn buckets(&self) -> Buckets<'_> {
        Buckets(self)
    }
}

impl Buckets<'_> {
    /// Makes a bucket in the principal's project; `Conflict` if it has one of that name.
    pub async fn create(&self, who: &Principal, name: &str) -> Result<Bucket> {
        policy::require(who, Role::Member, "create buckets")?;
        check_bucket(name)?;
        let bucket =
            Bucket { id: BucketId::new(), project: who.project.id, name: name.into(), created_at: self.0.now() };
        let mut tx = self.0.parts.catalog.write().await?;
        buckets::insert(&mut tx, &bucket).await.map_err(|error| match error.kind() {
            catalog::ErrorKind::Conflict => Error::conflict(format!("there is a bucket named `{name}` already")),
            _ => error.into(),
        })?;
        tx.commit().await?;
        Ok(bucket)
    }

    /// Lists the project's buckets by name.
    pub async fn list(&self, who: &Principal) -> Result<Vec<Bucket>> {
        let mut tx = self.0.parts.catalog.read().await?;
        Ok(buckets::list(&mut tx, who.project.id).await?)
    }

    /// Returns a bucket of the project.
    pub async fn get(&self, who: &Principal, name: &str) -> Result<Bucket> {
        let mut tx = self.0.parts.catalog.read().await?;
        find(&mut tx, who, name).await
    }

    /// Removes an empty bucket; `Conflict` where objects or unfinished uploads are in it.
    pub async fn delete(&self, who: &Principal, name: &str) -> Result<()> {
        policy::require(who, Role::Member, "delete buckets")?;
        let mut tx = self.0.parts.catalog.write().await?;
        let bucket = find(&mut tx, who, name).await?;
        if !buckets::is_empty(&mut tx, bucket.id).await? {
            return Err(Error::conflict(format!("bucket `{name}` is not empty"))
                .with_hint("delete its objects and abort its unfinished uploads first"));
        }
        buckets::delete(&mut tx, bucket.id).await?;
        Ok(tx.commit().await?)
    }
}

/// Returns the project's bucket of that name; another project's does not exist.
pub(crate) async fn find(tx: &mut Tx, who: &Principal, name: &str) -> Result<Bucket> {
    buckets::get(tx, who.project.id, name).await?.ok_or_else(|| Error::not_found("bucket", format_args!("`{name}`")))
}
