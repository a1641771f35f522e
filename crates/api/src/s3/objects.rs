//! Objects: put, get, look at, copy, remove.

use http::{HeaderMap, HeaderValue, header};
use s3s::dto::*;
use s3s::{S3ErrorCode, S3Request, S3Result};

use super::asker::Gateway;
use super::body::{self, Declared};
use super::conditions::Conditions;
use super::error::{Asked, refusal, say};
use super::{buckets, wire};

/// What an object is when its client did not tell (S3).
const CONTENT_TYPE: &str = "binary/octet-stream";
/// Most keys that one request removes (S3).
const DELETE_MAX: usize = 1000;

pub(super) async fn put(gateway: &Gateway, request: S3Request<PutObjectInput>) -> S3Result<PutObjectOutput> {
    let trailers = trailers(&request);
    let input = request.input;
    wire::refuse_asked(&[
        (input.if_match.is_some() || input.if_none_match.is_some(), "a conditional write"),
        (wire::is_foreign_acl(input.acl.as_ref().map(ObjectCannedACL::as_str)), "an access control list"),
        (input.sse_customer_algorithm.is_some(), "encryption with a key of the client"),
        (
            wire::is_foreign_encryption(input.server_side_encryption.as_ref().map(ServerSideEncryption::as_str)),
            "encryption with a named key",
        ),
        (wire::is_foreign_class(input.storage_class.as_ref().map(StorageClass::as_str)), "that storage class"),
        (input.tagging.is_some(), "a tag"),
        (input.object_lock_mode.is_some() || input.object_lock_legal_hold_status.is_some(), "an object lock"),
        (input.website_redirect_location.is_some(), "a website redirect"),
        (input.write_offset_bytes.is_some(), "appending to an object"),
    ])?;
    let put = wire::put_object(input.content_type, input.metadata);
    let checksum = Checksum {
        checksum_crc32: input.checksum_crc32,
        checksum_crc32c: input.checksum_crc32c,
        checksum_crc64nvme: input.checksum_crc64nvme,
        checksum_sha1: input.checksum_sha1,
        checksum_sha256: input.checksum_sha256,
        checksum_type: None,
    };
    let declared = Declared { length: input.content_length, md5: input.content_md5, checksum, trailers };
    let (incoming, verdict) = body::receive(input.body, declared)?;
    let kept = gateway.service.objects().put(&gateway.who, &input.bucket, &input.key, put, incoming).await;
    match kept {
        Ok(object) => Ok(PutObjectOutput { e_tag: Some(wire::etag(&object.etag)), ..PutObjectOutput::default() }),
        Err(error) => match verdict.take() {
            Some(verdict) => Err(verdict),
            None => Err(refusal(&error, Asked::Other)),
        },
    }
}

/// Returns what `x-amz-trailer` announces behind a body, and where it will be.
pub(super) fn trailers<T>(request: &S3Request<T>) -> Option<(String, s3s::TrailingHeaders)> {
    let names = request.headers.get("x-amz-trailer")?.to_str().ok()?;
    Some((names.to_owned(), request.trailing_headers.clone()?))
}

pub(super) async fn get(gateway: &Gateway, request: S3Request<GetObjectInput>) -> S3Result<GetObjectOutput> {
    let input = request.input;
    wire::check_version(input.version_id.as_deref())?;
    wire::refuse_asked(&[(input.part_number.is_some(), "reading one part of an object")])?;
    let found = gateway.service.objects().get(&gateway.who, &input.bucket, &input.key).await;
    let (object, download) = match found {
        Ok(found) => found,
        Err(error) => return Err(refusal(&error, Asked::Other)),
    };
    let conditions = Conditions {
        if_match: input.if_match,
        if_none_match: input.if_none_match,
        if_modified_since: input.if_modified_since,
        if_unmodified_since: input.if_unmodified_since,
    };
    conditions.check_read(&object)?;
    let (range, content_range) = section(input.range, object.size)?;
    let bytes = axum::body::Body::from_stream(download.stream(range));
    Ok(GetObjectOutput {
        body: Some(StreamingBlob::from(s3s::Body::http_body_unsync(bytes))),
        accept_ranges: Some("bytes".into()),
        content_length: Some(wire::length(range.length)),
        content_range,
        content_type: Some(object.content_type.unwrap_or_else(|| CONTENT_TYPE.into())),
        e_tag: Some(wire::etag(&object.etag)),
        last_modified: Some(wire::timestamp(object.created_at)),
        metadata: Some(object.metadata.into_iter().collect()),
        ..GetObjectOutput::default()
    })
}

pub(super) async fn head(gateway: &Gateway, request: S3Request<HeadObjectInput>) -> S3Result<HeadObjectOutput> {
    let input = request.input;
    wire::check_version(input.version_id.as_deref())?;
    wire::refuse_asked(&[(input.part_number.is_some(), "reading one part of an object")])?;
    let found = gateway.service.objects().head(&gateway.who, &input.bucket, &input.key).await;
    let object = match found {
        Ok(object) => object,
        Err(error) => return Err(refusal(&error, Asked::Other)),
    };
    let conditions = Conditions {
        if_match: input.if_match,
        if_none_match: input.if_none_match,
        if_modified_since: input.if_modified_since,
        if_unmodified_since: input.if_unmodified_since,
    };
    conditions.check_read(&object)?;
    let (range, content_range) = section(input.range, object.size)?;
    Ok(HeadObjectOutput {
        accept_ranges: Some("bytes".into()),
        content_length: Some(wire::length(range.length)),
        content_range,
        content_type: Some(object.content_type.unwrap_or_else(|| CONTENT_TYPE.into())),
        e_tag: Some(wire::etag(&object.etag)),
        last_modified: Some(wire::timestamp(object.created_at)),
        metadata: Some(object.metadata.into_iter().collect()),
        ..HeadObjectOutput::default()
    })
}

/// Returns the bytes to send and, for a part of the object, its `Content-Range`.
fn section(wanted: Option<Range>, size: u64) -> S3Result<(service::Range, Option<String>)> {
    let Some(wanted) = wanted else { return Ok((service::Range { offset: 0, length: size }, None)) };
    match wanted.check(size) {
        Ok(found) => {
            let range = service::Range { offset: found.start, length: found.end - found.start };
            Ok((range, Some(format!("bytes {}-{}/{size}", found.start, found.end - 1))))
        }
        Err(_) => {
            let mut error =
                say(S3ErrorCode::InvalidRange, format!("no byte of the range lies in the {size} bytes there are"));
            if let Ok(value) = HeaderValue::from_str(&format!("bytes */{size}")) {
                error.set_headers(HeaderMap::from_iter([(header::CONTENT_RANGE, value)]));
            }
            Err(error)
        }
    }
}

pub(super) async fn delete(gateway: &Gateway, request: S3Request<DeleteObjectInput>) -> S3Result<DeleteObjectOutput> {
    let input = request.input;
    wire::check_version(input.version_id.as_deref())?;
    let conditional =
        input.if_match.is_some() || input.if_match_size.is_some() || input.if_match_last_modified_time.is_some();
    wire::refuse_asked(&[(conditional, "a conditional delete")])?;
    match gateway.service.objects().delete(&gateway.who, &input.bucket, &input.key).await {
        Ok(()) => Ok(DeleteObjectOutput::default()),
        Err(error) => Err(refusal(&error, Asked::Other)),
    }
}

pub(super) async fn delete_many(
    gateway: &Gateway,
    request: S3Request<DeleteObjectsInput>,
) -> S3Result<DeleteObjectsOutput> {
    let DeleteObjectsInput { bucket, delete, .. } = request.input;
    let count = delete.objects.len();
    if count == 0 || count > DELETE_MAX {
        let message = format!("one request removes 1 to {DELETE_MAX} objects, this one names {count}");
        return Err(say(S3ErrorCode::MalformedXML, message));
    }
    buckets::find(gateway, &bucket).await?;
    let mut deleted = Vec::new();
    let mut errors = Vec::new();
    for object in delete.objects {
        match delete_one(gateway, &bucket, &object).await {
            Ok(()) if delete.quiet == Some(true) => {}
            Ok(()) => deleted.push(DeletedObject { key: Some(object.key), ..DeletedObject::default() }),
            Err(error) => errors.push(Error {
                code: Some(error.code().as_str().to_owned()),
                message: error.message().map(str::to_owned),
                key: Some(object.key),
                version_id: None,
            }),
        }
    }
    Ok(DeleteObjectsOutput { deleted: Some(deleted), errors: Some(errors), request_charged: None })
}

async fn delete_one(gateway: &Gateway, bucket: &str, object: &ObjectIdentifier) -> S3Result<()> {
    wire::check_version(object.version_id.as_deref())?;
    let conditional = object.e_tag.is_some() || object.size.is_some() || object.last_modified_time.is_some();
    wire::refuse_asked(&[(conditional, "a conditional delete")])?;
    match gateway.service.objects().delete(&gateway.who, bucket, &object.key).await {
        Ok(()) => Ok(()),
        Err(error) => Err(refusal(&error, Asked::Other)),
    }
}

pub(super) async fn copy(gateway: &Gateway, request: S3Request<CopyObjectInput>) -> S3Result<CopyObjectOutput> {
    let input = request.input;
    let replaced = input.metadata_directive.as_ref().map(MetadataDirective::as_str) == Some("REPLACE");
    wire::refuse_asked(&[
        (wire::is_foreign_acl(input.acl.as_ref().map(ObjectCannedACL::as_str)), "an access control list"),
        (
            input.sse_customer_algorithm.is_some() || input.copy_source_sse_customer_algorithm.is_some(),
            "encryption with a key of the client",
        ),
        (
            wire::is_foreign_encryption(input.server_side_encryption.as_ref().map(ServerSideEncryption::as_str)),
            "encryption with a named key",
        ),
        (wire::is_foreign_class(input.storage_class.as_ref().map(StorageClass::as_str)), "that storage class"),
        (input.tagging.is_some(), "a tag"),
        (input.object_lock_mode.is_some() || input.object_lock_legal_hold_status.is_some(), "an object lock"),
    ])?;
    let (from_bucket, from_key) = source(&input.copy_source)?;
    if !replaced && (from_bucket, from_key) == (input.bucket.as_str(), input.key.as_str()) {
        let message = "copying an object to itself changes nothing, unless x-amz-metadata-directive is REPLACE";
        return Err(say(S3ErrorCode::InvalidRequest, message));
    }
    let conditions = Conditions {
        if_match: input.copy_source_if_match,
        if_none_match: input.copy_source_if_none_match,
        if_modified_since: input.copy_source_if_modified_since,
        if_unmodified_since: input.copy_source_if_unmodified_since,
    };
    let objects = gateway.service.objects();
    // The source is looked at first, so that a missing source and a missing target bucket are told apart.
    match objects.head(&gateway.who, from_bucket, from_key).await {
        Ok(object) => conditions.check_source(&object)?,
        Err(error) => return Err(refusal(&error, Asked::Other)),
    }
    let put = replaced.then(|| wire::put_object(input.content_type, input.metadata));
    let copied = objects.copy(&gateway.who, (from_bucket, from_key), (&input.bucket, &input.key), put).await;
    let object = match copied {
        Ok(object) => object,
        Err(error) => return Err(refusal(&error, Asked::Other)),
    };
    Ok(CopyObjectOutput {
        copy_object_result: Some(CopyObjectResult {
            e_tag: Some(wire::etag(&object.etag)),
            last_modified: Some(wire::timestamp(object.created_at)),
            ..CopyObjectResult::default()
        }),
        ..CopyObjectOutput::default()
    })
}

/// Returns the bucket and the key that a copy reads.
pub(super) fn source(source: &CopySource) -> S3Result<(&str, &str)> {
    match source {
        CopySource::Bucket { bucket, key, version_id } => {
            wire::check_version(version_id.as_deref())?;
            Ok((bucket, key))
        }
        CopySource::AccessPoint { .. } | CopySource::Outpost { .. } => {
            Err(say(S3ErrorCode::NotImplemented, "a source is named as bucket/key, not by an ARN"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(range: &str, size: u64) -> Result<(u64, u64, String), String> {
        section(Some(Range::parse(range).unwrap()), size)
            .map(|(range, header)| (range.offset, range.length, header.unwrap()))
            .map_err(|error| error.code().as_str().to_owned())
    }

    #[test]
    fn ranges_are_cut_to_the_object() {
        assert_eq!(told("bytes=0-3", 10), Ok((0, 4, "bytes 0-3/10".into())));
        assert_eq!(told("bytes=5-", 10), Ok((5, 5, "bytes 5-9/10".into())));
        assert_eq!(told("bytes=8-99", 10), Ok((8, 2, "bytes 8-9/10".into())));
        assert_eq!(told("bytes=-4", 10), Ok((6, 4, "bytes 6-9/10".into())));
        assert_eq!(told("bytes=10-", 10), Err("InvalidRange".into()));
        assert_eq!(told("bytes=0-0", 0), Err("InvalidRange".into()));
        assert_eq!(section(None, 7).unwrap(), (service::Range { offset: 0, length: 7 }, None));
    }

    #[test]
    fn a_source_is_a_bucket_and_a_key() {
        let parsed = CopySource::parse("bucket/dir/key%20x").unwrap();
        assert_eq!(source(&parsed).unwrap(), ("bucket", "dir/key x"));
        let version = CopySource::parse("bucket/key?versionId=7").unwrap();
        assert_eq!(*source(&version).unwrap_err().code(), S3ErrorCode::NoSuchVersion);
    }
}
