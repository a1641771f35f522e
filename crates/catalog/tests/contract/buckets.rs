//! Promises of buckets, objects, uploads and parts.

use catalog::{Catalog, ErrorKind, buckets, contents, objects, parts, uploads};
use model::buckets::{Bucket, Object, Part};
use model::{BucketId, ContentId, UploadId};

use crate::fixture::{committed_project, content, project};
use crate::records::{bucket, object, part, upload};

pub(crate) async fn belong_to_their_project(catalog: Catalog) {
    let mine = committed_project(&catalog).await;
    let mut tx = catalog.write().await.unwrap();
    let theirs = project(&mut tx, mine.domain, "theirs").await.id;
    let (b, a) = (bucket(&mut tx, mine.id, "b").await, bucket(&mut tx, mine.id, "a").await);
    let same = bucket(&mut tx, theirs, "a").await;
    assert_eq!(buckets::get(&mut tx, mine.id, "a").await.unwrap(), Some(a.clone()));
    assert_eq!(buckets::get(&mut tx, theirs, "a").await.unwrap(), Some(same.clone()));
    assert_eq!(buckets::get(&mut tx, theirs, "b").await.unwrap(), None);
    assert_eq!(buckets::by_id(&mut tx, b.id).await.unwrap(), Some(b.clone()));
    assert_eq!(buckets::list(&mut tx, mine.id).await.unwrap(), [a, b.clone()]);
    assert!(buckets::is_empty(&mut tx, b.id).await.unwrap());
    let content = content(&mut tx, mine.id).await.id;
    objects::put(&mut tx, &object(b.id, "k", content)).await.unwrap();
    assert!(!buckets::is_empty(&mut tx, b.id).await.unwrap());
    uploads::insert(&mut tx, &upload(same.id, "k")).await.unwrap();
    assert!(!buckets::is_empty(&mut tx, same.id).await.unwrap());
    tx.commit().await.unwrap();

    for full in [b.id, same.id] {
        let mut tx = catalog.write().await.unwrap();
        assert_eq!(buckets::delete(&mut tx, full).await.unwrap_err().kind(), ErrorKind::Conflict);
    }
    let mut tx = catalog.write().await.unwrap();
    objects::delete(&mut tx, b.id, "k").await.unwrap();
    assert!(buckets::delete(&mut tx, b.id).await.unwrap());
    assert!(!buckets::delete(&mut tx, b.id).await.unwrap());
    let taken = Bucket { id: BucketId::new(), project: mine.id, ..same };
    let error = buckets::insert(&mut tx, &taken).await.unwrap_err();
    assert_eq!((error.kind(), error.table()), (ErrorKind::Conflict, Some("buckets")));
}

pub(crate) async fn objects_replace_each_other(catalog: Catalog) {
    let project = committed_project(&catalog).await.id;
    let mut tx = catalog.write().await.unwrap();
    let bucket = bucket(&mut tx, project, "bucket").await.id;
    let (one, two) = (content(&mut tx, project).await.id, content(&mut tx, project).await.id);
    let first = object(bucket, "dir/key", one);
    assert_eq!(objects::put(&mut tx, &first).await.unwrap(), None);
    assert_eq!(objects::get(&mut tx, bucket, "dir/key").await.unwrap().as_ref(), Some(&first));
    assert_eq!(objects::get(&mut tx, bucket, "DIR/key").await.unwrap(), None);
    let second = Object { content: two, size: 9, content_type: None, metadata: [].into(), ..first.clone() };
    assert_eq!(objects::put(&mut tx, &second).await.unwrap(), Some(one));
    assert_eq!(objects::put(&mut tx, &second).await.unwrap(), None, "its own content is still in use");
    assert_eq!(objects::get(&mut tx, bucket, "dir/key").await.unwrap().as_ref(), Some(&second));
    assert_eq!(objects::delete(&mut tx, bucket, "dir/key").await.unwrap(), Some(second));
    assert_eq!(objects::delete(&mut tx, bucket, "dir/key").await.unwrap(), None);
    let dangling = Object { content: ContentId::new(), ..first };
    assert_eq!(objects::put(&mut tx, &dangling).await.unwrap_err().kind(), ErrorKind::Conflict);
}

const KEYS: &[&str] = &[
    "a",
    "A",
    "a/",
    "a/b",
    "a/B",
    "a0",
    "a b",
    "á",
    "z",
    "Z",
    "%",
    "%a",
    "_",
    "_a",
    "'",
    "\"",
    "\\",
    "a%b",
    "a_b",
    "日本",
    "😀",
    "\u{D7FF}x",
    "\u{E000}",
    "\u{FFFF}",
    "\u{10FFFF}",
    "\u{10FFFF}a",
    "$1",
    "a\nb",
    "a'; DROP TABLE objects; --",
];

async fn filled(catalog: &Catalog) -> BucketId {
    let project = committed_project(catalog).await.id;
    let mut tx = catalog.write().await.unwrap();
    let content = content(&mut tx, project).await.id;
    let other = bucket(&mut tx, project, "other").await.id;
    let bucket = bucket(&mut tx, project, "bucket").await.id;
    for key in KEYS {
        objects::put(&mut tx, &object(bucket, key, content)).await.unwrap();
        objects::put(&mut tx, &object(other, &format!("{key}-other"), content)).await.unwrap();
    }
    tx.commit().await.unwrap();
    bucket
}

async fn keys(catalog: &Catalog, bucket: BucketId, prefix: &str, after: Option<&str>, limit: u32) -> Vec<String> {
    let mut tx = catalog.read().await.unwrap();
    let page = objects::list(&mut tx, bucket, prefix, after, limit).await.unwrap();
    page.into_iter().map(|object| object.key).collect()
}

pub(crate) async fn objects_are_listed_bytewise(catalog: Catalog) {
    let bucket = filled(&catalog).await;
    let mut sorted = KEYS.to_vec();
    sorted.sort_unstable();
    assert_eq!(keys(&catalog, bucket, "", None, 1000).await, sorted);
    for limit in [1, 4] {
        let mut visited: Vec<String> = Vec::new();
        loop {
            let page = keys(&catalog, bucket, "", visited.last().map(String::as_str), limit).await;
            if page.is_empty() {
                break;
            }
            visited.extend(page);
        }
        assert_eq!(visited, sorted);
    }
    assert_eq!(keys(&catalog, bucket, "", None, 0).await, Vec::<String>::new());
}

pub(crate) async fn prefixes_are_not_patterns(catalog: Catalog) {
    let bucket = filled(&catalog).await;
    let prefixes = KEYS.iter().copied().chain(["a/b/c", "a'", "%%", "\u{10FFFF}\u{10FFFF}", "' OR 1=1 --"]);
    for prefix in prefixes {
        let mut wanted: Vec<_> = KEYS.iter().filter(|key| key.starts_with(prefix)).collect();
        wanted.sort_unstable();
        assert_eq!(
            keys(&catalog, bucket, prefix, None, 1000).await,
            wanted.iter().map(|key| **key).collect::<Vec<_>>()
        );
        for after in KEYS {
            let wanted: Vec<_> = wanted.iter().filter(|key| ***key > *after).map(|key| **key).collect();
            assert_eq!(keys(&catalog, bucket, prefix, Some(after), 1000).await, wanted, "{prefix:?} after {after:?}");
        }
    }
}

/// Of twelve contents put under one key at once, eleven come back as replaced, each once.
pub(crate) async fn concurrent_puts_free_every_loser(catalog: Catalog) {
    let project = committed_project(&catalog).await.id;
    let mut tx = catalog.write().await.unwrap();
    let bucket = bucket(&mut tx, project, "bucket").await.id;
    let mut all = Vec::new();
    for _ in 0..12 {
        all.push(content(&mut tx, project).await.id);
    }
    tx.commit().await.unwrap();
    let tasks = all.iter().copied().map(|content| {
        let catalog = catalog.clone();
        tokio::spawn(async move {
            let mut tx = catalog.write().await.unwrap();
            let replaced = objects::put(&mut tx, &object(bucket, "key", content)).await.unwrap();
            tx.commit().await.unwrap();
            replaced
        })
    });
    let mut seen = Vec::new();
    for task in tasks.collect::<Vec<_>>() {
        seen.extend(task.await.unwrap());
    }
    let mut tx = catalog.read().await.unwrap();
    seen.push(objects::get(&mut tx, bucket, "key").await.unwrap().unwrap().content);
    seen.sort_unstable();
    all.sort_unstable();
    assert_eq!(seen, all);
}

pub(crate) async fn uploads_and_parts(catalog: Catalog) {
    let project = committed_project(&catalog).await.id;
    let mut tx = catalog.write().await.unwrap();
    let bucket = bucket(&mut tx, project, "bucket").await.id;
    let (b, a) = (upload(bucket, "b"), upload(bucket, "a"));
    uploads::insert(&mut tx, &b).await.unwrap();
    uploads::insert(&mut tx, &a).await.unwrap();
    assert_eq!(uploads::get(&mut tx, a.id).await.unwrap().as_ref(), Some(&a));
    assert_eq!(uploads::list(&mut tx, bucket).await.unwrap(), [a.clone(), b.clone()]);
    let (one, two) = (content(&mut tx, project).await.id, content(&mut tx, project).await.id);
    let (tenth, second) = (part(10, one), part(2, one));
    for part in [&tenth, &second] {
        assert_eq!(parts::put(&mut tx, a.id, part).await.unwrap(), None);
    }
    assert_eq!(parts::list(&mut tx, a.id).await.unwrap(), [second.clone(), tenth.clone()]);
    let again = Part { content: two, size: 1, etag: "new".into(), ..second };
    assert_eq!(parts::put(&mut tx, a.id, &again).await.unwrap(), Some(one));
    assert_eq!(parts::put(&mut tx, a.id, &again).await.unwrap(), None);
    assert_eq!(parts::get(&mut tx, a.id, 2).await.unwrap(), Some(again));
    assert_eq!(parts::get(&mut tx, b.id, 2).await.unwrap(), None);
    assert!(uploads::delete(&mut tx, a.id).await.unwrap());
    assert!(!uploads::delete(&mut tx, a.id).await.unwrap());
    assert_eq!(parts::list(&mut tx, a.id).await.unwrap(), []);
    assert!(!contents::is_referenced(&mut tx, one).await.unwrap());
    let error = parts::put(&mut tx, UploadId::new(), &tenth).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
}
