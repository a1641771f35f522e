//! Listings: objects (both versions of the operation), uploads in progress and their parts.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use model::buckets::Upload;
use s3s::dto::*;
use s3s::{S3ErrorCode, S3Request, S3Result};
use service::ObjectPage;

use super::asker::Gateway;
use super::buckets;
use super::error::{Asked, refusal, say};
use super::uploads::at;
use super::wire;

/// Most entries of one page, and the default (S3).
const PAGE_MAX: i32 = 1000;

/// What both versions of the operation ask.
struct Query {
    bucket: String,
    prefix: String,
    delimiter: Option<String>,
    after: Option<String>,
    max_keys: i32,
}

pub(super) async fn objects_v1(gateway: &Gateway, request: S3Request<ListObjectsInput>) -> S3Result<ListObjectsOutput> {
    let input = request.input;
    let encoded = is_encoded(input.encoding_type.as_ref())?;
    let max_keys = page_size(input.max_keys, "max-keys")?;
    let query = Query {
        bucket: input.bucket.clone(),
        prefix: input.prefix.clone().unwrap_or_default(),
        delimiter: input.delimiter.clone().filter(|delimiter| !delimiter.is_empty()),
        after: input.marker.clone().filter(|marker| !marker.is_empty()),
        max_keys,
    };
    let page = list(gateway, query).await?;
    let text = |text: String| if encoded { wire::encode_key(&text) } else { text };
    let owner = wire::owner(&gateway.who);
    Ok(ListObjectsOutput {
        name: Some(input.bucket),
        prefix: Some(text(input.prefix.unwrap_or_default())),
        marker: Some(text(input.marker.unwrap_or_default())),
        delimiter: input.delimiter.map(text),
        max_keys: Some(max_keys),
        encoding_type: input.encoding_type,
        is_truncated: Some(page.next.is_some()),
        next_marker: page.next.map(text),
        contents: Some(page.objects.into_iter().map(|object| entry(object, text, Some(&owner))).collect()),
        common_prefixes: Some(common_prefixes(page.prefixes, text)),
        request_charged: None,
    })
}

pub(super) async fn objects_v2(
    gateway: &Gateway,
    request: S3Request<ListObjectsV2Input>,
) -> S3Result<ListObjectsV2Output> {
    let input = request.input;
    let encoded = is_encoded(input.encoding_type.as_ref())?;
    let max_keys = page_size(input.max_keys, "max-keys")?;
    let continued = input.continuation_token.as_deref().map(read_token).transpose()?;
    let query = Query {
        bucket: input.bucket.clone(),
        prefix: input.prefix.clone().unwrap_or_default(),
        delimiter: input.delimiter.clone().filter(|delimiter| !delimiter.is_empty()),
        after: continued.or_else(|| input.start_after.clone().filter(|key| !key.is_empty())),
        max_keys,
    };
    let page = list(gateway, query).await?;
    let text = |text: String| if encoded { wire::encode_key(&text) } else { text };
    let owner = (input.fetch_owner == Some(true)).then(|| wire::owner(&gateway.who));
    let key_count = i32::try_from(page.objects.len() + page.prefixes.len()).unwrap_or(i32::MAX);
    Ok(ListObjectsV2Output {
        name: Some(input.bucket),
        prefix: Some(text(input.prefix.unwrap_or_default())),
        start_after: input.start_after.map(text),
        delimiter: input.delimiter.map(text),
        max_keys: Some(max_keys),
        key_count: Some(key_count),
        encoding_type: input.encoding_type,
        continuation_token: input.continuation_token,
        is_truncated: Some(page.next.is_some()),
        next_continuation_token: page.next.map(|key| write_token(&key)),
        contents: Some(page.objects.into_iter().map(|object| entry(object, text, owner.as_ref())).collect()),
        common_prefixes: Some(common_prefixes(page.prefixes, text)),
        request_charged: None,
    })
}

async fn list(gateway: &Gateway, query: Query) -> S3Result<ObjectPage> {
    let Query { bucket, prefix, delimiter, after, max_keys } = query;
    let limit = usize::try_from(max_keys).unwrap_or_default();
    if limit == 0 {
        buckets::find(gateway, &bucket).await?;
        return Ok(ObjectPage { objects: Vec::new(), prefixes: Vec::new(), next: None });
    }
    let list = service::ListObjects { prefix, delimiter, after, limit };
    match gateway.service.objects().list(&gateway.who, &bucket, list).await {
        Ok(page) => Ok(page),
        Err(error) => Err(refusal(&error, Asked::Other)),
    }
}

fn entry(object: model::buckets::Object, text: impl Fn(String) -> String, owner: Option<&Owner>) -> Object {
    Object {
        e_tag: Some(wire::etag(&object.etag)),
        key: Some(text(object.key)),
        last_modified: Some(wire::timestamp(object.created_at)),
        owner: owner.cloned(),
        size: Some(wire::length(object.size)),
        storage_class: Some(ObjectStorageClass::from_static(ObjectStorageClass::STANDARD)),
        ..Object::default()
    }
}

fn common_prefixes(prefixes: Vec<String>, text: impl Fn(String) -> String) -> Vec<CommonPrefix> {
    prefixes.into_iter().map(|prefix| CommonPrefix { prefix: Some(text(prefix)) }).collect()
}

pub(super) async fn uploads(
    gateway: &Gateway,
    request: S3Request<ListMultipartUploadsInput>,
) -> S3Result<ListMultipartUploadsOutput> {
    let input = request.input;
    let encoded = is_encoded(input.encoding_type.as_ref())?;
    let max_uploads = page_size(input.max_uploads, "max-uploads")?;
    wire::refuse_asked(&[(
        input.delimiter.as_deref().is_some_and(|delimiter| !delimiter.is_empty()),
        "folding uploads by a delimiter",
    )])?;
    let found = match gateway.service.uploads().list(&gateway.who, &input.bucket).await {
        Ok(found) => found,
        Err(error) => return Err(refusal(&error, Asked::Other)),
    };
    let after = (input.key_marker.as_deref(), input.upload_id_marker.as_deref());
    let (page, more) = page_of_uploads(found, input.prefix.as_deref().unwrap_or_default(), after, max_uploads);
    let text = |text: String| if encoded { wire::encode_key(&text) } else { text };
    let last = page.last().filter(|_| more).map(|upload| (upload.key.clone(), upload.id.to_string())).unzip();
    let entry = |upload: Upload| MultipartUpload {
        initiated: Some(wire::timestamp(upload.created_at)),
        initiator: Some(wire::initiator(&gateway.who)),
        key: Some(text(upload.key)),
        owner: Some(wire::owner(&gateway.who)),
        storage_class: Some(StorageClass::from_static(StorageClass::STANDARD)),
        upload_id: Some(upload.id.to_string()),
        ..MultipartUpload::default()
    };
    Ok(ListMultipartUploadsOutput {
        bucket: Some(input.bucket),
        encoding_type: input.encoding_type,
        is_truncated: Some(more),
        key_marker: input.key_marker.map(text),
        upload_id_marker: input.upload_id_marker,
        max_uploads: Some(max_uploads),
        next_key_marker: last.0.map(text),
        next_upload_id_marker: last.1,
        prefix: input.prefix.map(text),
        uploads: Some(page.into_iter().map(entry).collect()),
        ..ListMultipartUploadsOutput::default()
    })
}

/// Cuts a page out of a bucket's uploads, in the order of key and then id; also returns whether more follow.
fn page_of_uploads(
    mut uploads: Vec<Upload>,
    prefix: &str,
    (key, id): (Option<&str>, Option<&str>),
    max: i32,
) -> (Vec<Upload>, bool) {
    // An id marker means something only beside a key marker (S3).
    let after = |upload: &Upload| match (key, id) {
        (None | Some(""), _) => true,
        (Some(key), None | Some("")) => upload.key.as_str() > key,
        (Some(key), Some(id)) => (upload.key.as_str(), upload.id.to_string().as_str()) > (key, id),
    };
    uploads.retain(|upload| upload.key.starts_with(prefix) && after(upload));
    uploads.sort_by(|one, other| (&one.key, one.id).cmp(&(&other.key, other.id)));
    let max = usize::try_from(max).unwrap_or_default();
    let more = max > 0 && uploads.len() > max;
    uploads.truncate(max);
    (uploads, more)
}

pub(super) async fn parts(gateway: &Gateway, request: S3Request<ListPartsInput>) -> S3Result<ListPartsOutput> {
    let input = request.input;
    let at = at(&input.bucket, &input.key, &input.upload_id)?;
    let max_parts = page_size(input.max_parts, "max-parts")?;
    let marker = input.part_number_marker.unwrap_or_default();
    let found = gateway.service.uploads().parts(&gateway.who, at).await;
    let mut parts = match found {
        Ok(parts) => parts,
        Err(error) => return Err(refusal(&error, Asked::Other)),
    };
    parts.retain(|part| i64::from(part.number) > i64::from(marker));
    parts.sort_by_key(|part| part.number);
    let max = usize::try_from(max_parts).unwrap_or_default();
    let more = max > 0 && parts.len() > max;
    parts.truncate(max);
    let number = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
    Ok(ListPartsOutput {
        bucket: Some(input.bucket),
        key: Some(input.key),
        upload_id: Some(input.upload_id),
        initiator: Some(wire::initiator(&gateway.who)),
        owner: Some(wire::owner(&gateway.who)),
        is_truncated: Some(more),
        max_parts: Some(max_parts),
        next_part_number_marker: parts.last().filter(|_| more).map(|part| number(part.number)),
        part_number_marker: Some(marker),
        storage_class: Some(StorageClass::from_static(StorageClass::STANDARD)),
        parts: Some(
            parts
                .into_iter()
                .map(|part| Part {
                    e_tag: Some(wire::etag(&part.etag)),
                    last_modified: Some(wire::timestamp(part.created_at)),
                    part_number: Some(number(part.number)),
                    size: Some(wire::length(part.size)),
                    ..Part::default()
                })
                .collect(),
        ),
        ..ListPartsOutput::default()
    })
}

/// Checks how many entries a page may have; more than 1000 are asked for in vain (S3).
fn page_size(asked: Option<i32>, name: &str) -> S3Result<i32> {
    match asked {
        None => Ok(PAGE_MAX),
        Some(asked @ 0..) => Ok(asked.min(PAGE_MAX)),
        Some(asked) => Err(say(S3ErrorCode::InvalidArgument, format!("{name} is not negative, this one is {asked}"))),
    }
}

fn is_encoded(encoding: Option<&EncodingType>) -> S3Result<bool> {
    match encoding.map(EncodingType::as_str) {
        None => Ok(false),
        Some("url") => Ok(true),
        Some(_) => Err(say(S3ErrorCode::InvalidArgument, "encoding-type is `url` or absent")),
    }
}

/// A continuation token is the key behind which the next page begins, wrapped so that no client reads meaning into it.
fn write_token(key: &str) -> String {
    URL_SAFE_NO_PAD.encode(key)
}

fn read_token(token: &str) -> S3Result<String> {
    let key = URL_SAFE_NO_PAD.decode(token).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    key.ok_or_else(|| say(S3ErrorCode::InvalidArgument, "the continuation-token was not given out here"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use model::{BucketId, UploadId};

    use super::*;

    #[test]
    fn page_sizes() {
        assert_eq!(page_size(None, "n").unwrap(), 1000);
        assert_eq!(page_size(Some(0), "n").unwrap(), 0);
        assert_eq!(page_size(Some(5000), "n").unwrap(), 1000);
        assert_eq!(*page_size(Some(-1), "n").unwrap_err().code(), S3ErrorCode::InvalidArgument);
    }

    #[test]
    fn tokens_come_back() {
        assert_eq!(read_token(&write_token("dir/ü +")).unwrap(), "dir/ü +");
        assert_eq!(*read_token("%%%").unwrap_err().code(), S3ErrorCode::InvalidArgument);
    }

    #[test]
    fn uploads_are_paged_by_key_and_id() {
        let upload = |key: &str| Upload {
            id: UploadId::new(),
            bucket: BucketId::new(),
            key: key.into(),
            content_type: None,
            metadata: BTreeMap::new(),
            created_at: model::Timestamp::UNIX_EPOCH,
        };
        let all = vec![upload("b"), upload("a/2"), upload("a/1"), upload("a/1")];
        let keys = |page: &[Upload]| page.iter().map(|upload| upload.key.clone()).collect::<Vec<_>>();

        let (first, more) = page_of_uploads(all.clone(), "", (None, None), 2);
        assert_eq!((keys(&first), more), (vec!["a/1".to_owned(), "a/1".to_owned()], true));
        let id = first[0].id.to_string();
        let (rest, more) = page_of_uploads(all.clone(), "", (Some("a/1"), Some(&id)), 10);
        assert_eq!((keys(&rest), more), (vec!["a/1".to_owned(), "a/2".to_owned(), "b".to_owned()], false));
        let (folder, _) = page_of_uploads(all, "a/", (Some("a/1"), None), 10);
        assert_eq!(keys(&folder), ["a/2"]);
    }
}
