//! The chunk store's index over the catalog: where each chunk lies.

use async_trait::async_trait;
use catalog::{Catalog, chunks as rows};
use chunks::{BlobId, Index, IndexError, Location};
use uuid::Uuid;

/// Answers the chunk store from the catalog.
pub struct CatalogIndex {
    catalog: Catalog,
}

impl CatalogIndex {
    /// Makes an index over `catalog`.
    #[must_use]
    pub fn new(catalog: Catalog) -> Self {
        Self { catalog }
    }
}

#[async_trait]
impl Index for CatalogIndex {
    async fn find(&self, domain: Uuid, ids: &[BlobId]) -> Result<Vec<Option<Location>>, IndexError> {
        let mut tx = self.catalog.read().await?;
        let found = rows::find(&mut tx, domain, ids).await?;
        Ok(found.into_iter().map(|location| location.map(from_row)).collect())
    }

    async fn add_pack(&self, pack: Uuid, size: u64, blobs: &[(Uuid, BlobId, Location)]) -> Result<(), IndexError> {
        let blobs: Vec<_> = blobs.iter().map(|(domain, id, location)| (*domain, *id, to_row(*location))).collect();
        let mut tx = self.catalog.write().await?;
        rows::add_pack(&mut tx, pack, size, &blobs).await?;
        Ok(tx.commit().await?)
    }
}

fn from_row(rows::Location { pack, offset, stored, plain, generation }: rows::Location) -> Location {
    Location { pack, offset, stored, plain, generation }
}

fn to_row(Location { pack, offset, stored, plain, generation }: Location) -> rows::Location {
    rows::Location { pack, offset, stored, plain, generation }
}
