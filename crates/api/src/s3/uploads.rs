//! Uploads in parts: begin, put or copy a part, complete, abort.

use s3s::dto::*;
use s3s::{S3ErrorCode, S3Request, S3Result};
use service::{Incoming, PartTag, UploadAt};

use super::asker::Gateway;
use super::body::{self, Declared};
use super::conditions::Conditions;
use super::error::{Asked, refusal, say};
use super::objects;
use super::wire;

/// Largest part, in bytes (S3).
const PART_BYTES_MAX: u64 = 5 * 1024 * 1024 * 1024;

pub(super) async fn begin(
    gateway: &Gateway,
    request: S3Request<CreateMultipartUploadInput>,
) -> S3Result<CreateMultipartUploadOutput> {
    let input = request.input;
    wire::refuse_asked(&[
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
    ])?;
    let put = wire::put_object(input.content_type, input.metadata);
    let begun = gateway.service.uploads().begin(&gateway.who, &input.bucket, &input.key, put).await;
    let upload = match begun {
        Ok(upload) => upload,
        Err(error) => return Err(refusal(&error, Asked::Other)),
    };
    Ok(CreateMultipartUploadOutput {
        bucket: Some(input.bucket),
        key: Some(upload.key),
        upload_id: Some(upload.id.to_string()),
        ..CreateMultipartUploadOutput::default()
    })
}

pub(super) async fn put_part(gateway: &Gateway, request: S3Request<UploadPartInput>) -> S3Result<UploadPartOutput> {
    let trailers = objects::trailers(&request);
    let input = request.input;
    wire::refuse_asked(&[(input.sse_customer_algorithm.is_some(), "encryption with a key of the client")])?;
    let at = at(&input.bucket, &input.key, &input.upload_id)?;
    let number = part_number(input.part_number)?;
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
    let uploads = gateway.service.uploads();
    match uploads.put_part(&gateway.who, at, number, incoming).await {
        Ok(part) => Ok(UploadPartOutput { e_tag: Some(wire::etag(&part.etag)), ..UploadPartOutput::default() }),
        Err(error) => match verdict.take() {
            Some(verdict) => Err(verdict),
            None => Err(refusal(&error, Asked::Other)),
        },
    }
}

pub(super) async fn copy_part(
    gateway: &Gateway,
    request: S3Request<UploadPartCopyInput>,
) -> S3Result<UploadPartCopyOutput> {
    let input = request.input;
    wire::refuse_asked(&[(
        input.sse_customer_algorithm.is_some() || input.copy_source_sse_customer_algorithm.is_some(),
        "encryption with a key of the client",
    )])?;
    let at = at(&input.bucket, &input.key, &input.upload_id)?;
    let number = part_number(input.part_number)?;
    let (bucket, key) = objects::source(&input.copy_source)?;
    let (object, download) = match gateway.service.objects().get(&gateway.who, bucket, key).await {
        Ok(found) => found,
        Err(error) => return Err(refusal(&error, Asked::Other)),
    };
    let conditions = Conditions {
        if_match: input.copy_source_if_match,
        if_none_match: input.copy_source_if_none_match,
        if_modified_since: input.copy_source_if_modified_since,
        if_unmodified_since: input.copy_source_if_unmodified_since,
    };
    conditions.check_source(&object)?;
    let range = section(input.copy_source_range.as_deref(), object.size)?;
    let incoming = Incoming { stream: download.stream(range), length: Some(range.length), md5: None };
    let uploads = gateway.service.uploads();
    match uploads.put_part(&gateway.who, at, number, incoming).await {
        Ok(part) => Ok(UploadPartCopyOutput {
            copy_part_result: Some(CopyPartResult {
                e_tag: Some(wire::etag(&part.etag)),
                last_modified: Some(wire::timestamp(part.created_at)),
                ..CopyPartResult::default()
            }),
            ..UploadPartCopyOutput::default()
        }),
        Err(error) => Err(refusal(&error, Asked::Other)),
    }
}

/// Parses `x-amz-copy-source-range`, which has to lie inside the source as a whole.
fn section(header: Option<&str>, size: u64) -> S3Result<service::Range> {
    let range = match header {
        None => service::Range { offset: 0, length: size },
        Some(header) => match Range::parse(header) {
            Ok(Range::Int { first, last: Some(last) }) if last < size => {
                service::Range { offset: first, length: last - first + 1 }
            }
            _ => {
                let message = format!("the range to copy is bytes=first-last within the {size} bytes of the source");
                return Err(say(S3ErrorCode::InvalidRange, message));
            }
        },
    };
    if range.length > PART_BYTES_MAX {
        return Err(say(S3ErrorCode::EntityTooLarge, "a part has at most 5 GiB; copy the source in ranges"));
    }
    Ok(range)
}

pub(super) async fn complete(
    gateway: &Gateway,
    request: S3Request<CompleteMultipartUploadInput>,
) -> S3Result<CompleteMultipartUploadOutput> {
    let input = request.input;
    wire::refuse_asked(&[(input.if_match.is_some() || input.if_none_match.is_some(), "a conditional write")])?;
    let at = at(&input.bucket, &input.key, &input.upload_id)?;
    let parts = part_tags(input.multipart_upload.and_then(|upload| upload.parts).unwrap_or_default())?;
    let uploads = gateway.service.uploads();
    match uploads.complete(&gateway.who, at, parts).await {
        Ok(object) => Ok(CompleteMultipartUploadOutput {
            location: Some(format!("/{}/{}", input.bucket, wire::encode_key(&object.key))),
            bucket: Some(input.bucket),
            e_tag: Some(wire::etag(&object.etag)),
            key: Some(object.key),
            ..CompleteMultipartUploadOutput::default()
        }),
        Err(error) => Err(refusal(&error, Asked::Complete)),
    }
}

pub(super) async fn abort(
    gateway: &Gateway,
    request: S3Request<AbortMultipartUploadInput>,
) -> S3Result<AbortMultipartUploadOutput> {
    let input = request.input;
    wire::refuse_asked(&[(input.if_match_initiated_time.is_some(), "a conditional abort")])?;
    let at = at(&input.bucket, &input.key, &input.upload_id)?;
    match gateway.service.uploads().abort(&gateway.who, at).await {
        Ok(()) => Ok(AbortMultipartUploadOutput::default()),
        Err(error) => Err(refusal(&error, Asked::Other)),
    }
}

/// Names an upload; an id of another form was never given out.
pub(super) fn at<'a>(bucket: &'a str, key: &'a str, id: &str) -> S3Result<UploadAt<'a>> {
    let upload = id.parse().map_err(|_| say(S3ErrorCode::NoSuchUpload, "no upload of that id"))?;
    Ok(UploadAt { bucket, key, upload })
}

/// Reads a part's number; which numbers there are is for the service to say.
fn part_number(number: i32) -> S3Result<u32> {
    u32::try_from(number).map_err(|_| say(S3ErrorCode::InvalidArgument, "a part number is not negative"))
}

/// Reads the list of parts that completes an upload.
fn part_tags(parts: Vec<CompletedPart>) -> S3Result<Vec<PartTag>> {
    if parts.is_empty() {
        return Err(say(S3ErrorCode::MalformedXML, "an upload is completed with one part or more"));
    }
    let tag = |part: CompletedPart| match (part.part_number, part.e_tag) {
        (Some(number), Some(etag)) => Ok(PartTag { number: part_number(number)?, etag: etag.into_value() }),
        _ => Err(say(S3ErrorCode::MalformedXML, "each part is named by its PartNumber and its ETag")),
    };
    parts.into_iter().map(tag).collect()
}

#[cfg(test)]
mod tests {
    use model::UploadId;

    use super::*;

    fn tags(parts: &[(i32, &str)]) -> Result<Vec<u32>, String> {
        let part = |&(number, etag): &(i32, &str)| CompletedPart {
            part_number: Some(number),
            e_tag: Some(wire::etag(etag)),
            ..CompletedPart::default()
        };
        part_tags(parts.iter().map(part).collect())
            .map(|tags| tags.iter().map(|tag| tag.number).collect())
            .map_err(|error| error.code().as_str().to_owned())
    }

    #[test]
    fn parts_are_named_by_number_and_tag() {
        assert_eq!(tags(&[(1, "a"), (3, "b")]), Ok(vec![1, 3]));
        assert_eq!(tags(&[]), Err("MalformedXML".into()));
        assert_eq!(tags(&[(-1, "a")]), Err("InvalidArgument".into()));
        let nameless = part_tags(vec![CompletedPart::default()]).unwrap_err();
        assert_eq!(*nameless.code(), S3ErrorCode::MalformedXML);
    }

    #[test]
    fn a_range_to_copy_lies_inside_the_source() {
        let range = |header, size| section(header, size).map_err(|error| error.code().as_str().to_owned());
        assert_eq!(range(None, 9), Ok(service::Range { offset: 0, length: 9 }));
        assert_eq!(range(Some("bytes=2-8"), 9), Ok(service::Range { offset: 2, length: 7 }));
        for bad in ["bytes=2-9", "bytes=2-", "bytes=-2", "2-3"] {
            assert_eq!(range(Some(bad), 9), Err("InvalidRange".into()), "{bad}");
        }
        assert_eq!(range(None, 6 << 30), Err("EntityTooLarge".into()));
    }

    #[test]
    fn an_upload_is_named_by_its_id() {
        let id = UploadId::new();
        assert_eq!(at("b", "k", &id.to_string()).unwrap().upload, id);
        assert_eq!(*at("b", "k", "../../etc").unwrap_err().code(), S3ErrorCode::NoSuchUpload);
    }
}
