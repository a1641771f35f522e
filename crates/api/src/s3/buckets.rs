//! Buckets: list, make, find, remove, and the few facts that clients ask about them.

use s3s::dto::*;
use s3s::{S3ErrorCode, S3Request, S3Result};

use super::asker::Gateway;
use super::error::{Asked, refusal, say};
use super::wire;

pub(super) async fn list(gateway: &Gateway, request: S3Request<ListBucketsInput>) -> S3Result<ListBucketsOutput> {
    let prefix = request.input.prefix.unwrap_or_default();
    let found = gateway.service.buckets().list(&gateway.who).await.map_err(|error| refusal(&error, Asked::Other))?;
    let buckets = found
        .into_iter()
        .filter(|bucket| bucket.name.starts_with(&prefix))
        .map(|bucket| Bucket {
            name: Some(bucket.name),
            creation_date: Some(wire::timestamp(bucket.created_at)),
            bucket_region: None,
        })
        .collect();
    Ok(ListBucketsOutput {
        buckets: Some(buckets),
        owner: Some(wire::owner(&gateway.who)),
        ..ListBucketsOutput::default()
    })
}

pub(super) async fn head(gateway: &Gateway, request: S3Request<HeadBucketInput>) -> S3Result<HeadBucketOutput> {
    find(gateway, &request.input.bucket).await?;
    Ok(HeadBucketOutput {
        bucket_region: Some(gateway.service.settings().region.clone()),
        ..HeadBucketOutput::default()
    })
}

pub(super) async fn create(gateway: &Gateway, request: S3Request<CreateBucketInput>) -> S3Result<CreateBucketOutput> {
    let input = request.input;
    wire::refuse_asked(&[
        (wire::is_foreign_acl(input.acl.as_ref().map(BucketCannedACL::as_str)), "an access control list"),
        (input.object_lock_enabled_for_bucket == Some(true), "an object lock"),
    ])?;
    let ours = &gateway.service.settings().region;
    let wanted = input.create_bucket_configuration.and_then(|configuration| configuration.location_constraint);
    if let Some(wanted) = wanted
        && !wanted.as_str().is_empty()
        && wanted.as_str() != ours
    {
        let message = format!("this is region `{ours}`; a bucket cannot be made in `{}`", wanted.as_str());
        return Err(say(S3ErrorCode::IllegalLocationConstraintException, message));
    }
    let made = gateway.service.buckets().create(&gateway.who, &input.bucket).await;
    let bucket = made.map_err(|error| refusal(&error, Asked::NewBucket))?;
    Ok(CreateBucketOutput { location: Some(format!("/{}", bucket.name)) })
}

pub(super) async fn delete(gateway: &Gateway, request: S3Request<DeleteBucketInput>) -> S3Result<DeleteBucketOutput> {
    let removed = gateway.service.buckets().delete(&gateway.who, &request.input.bucket).await;
    removed.map_err(|error| refusal(&error, Asked::DeleteBucket))?;
    Ok(DeleteBucketOutput::default())
}

pub(super) async fn location(
    gateway: &Gateway,
    request: S3Request<GetBucketLocationInput>,
) -> S3Result<GetBucketLocationOutput> {
    find(gateway, &request.input.bucket).await?;
    let region = &gateway.service.settings().region;
    // S3's first region is told by saying nothing.
    let location_constraint = (region != "us-east-1").then(|| BucketLocationConstraint::from(region.clone()));
    Ok(GetBucketLocationOutput { location_constraint })
}

/// Buckets were never versioned, which is told by an empty answer.
pub(super) async fn versioning(
    gateway: &Gateway,
    request: S3Request<GetBucketVersioningInput>,
) -> S3Result<GetBucketVersioningOutput> {
    find(gateway, &request.input.bucket).await?;
    Ok(GetBucketVersioningOutput::default())
}

/// Checks that a bucket is there for the one who asks.
pub(super) async fn find(gateway: &Gateway, bucket: &str) -> S3Result<()> {
    let found = gateway.service.buckets().get(&gateway.who, bucket).await;
    found.map(drop).map_err(|error| refusal(&error, Asked::Other))
}
