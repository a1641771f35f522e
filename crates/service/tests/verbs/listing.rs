//! Listing of objects, against a model that sorts all keys in memory.

use std::cell::RefCell;
use std::collections::BTreeSet;

use model::buckets::Object;
use model::identity::Principal;
use proptest::prelude::{Just, ProptestConfig, Strategy, prop, prop_oneof};
use proptest::test_runner::TestRunner;
use service::{ErrorKind, ListObjects, ObjectPage, PutObject};

use crate::fixture::Fixture;
use crate::payload::body;

/// What keys are made of: delimiters and their halves, neighbours of them, letters of every length in UTF-8, and the
/// greatest character. What matters most stands twice.
const PARTS: [&str; 14] =
    ["/", "/", "a", "a", "\u{10FFFF}", "\u{10FFFF}", "-", "--", "b", "A", "é", "日", "\u{FFFF}", " %_*"];

#[derive(Debug, Clone)]
struct Case {
    keys: BTreeSet<String>,
    prefix: String,
    delimiter: Option<String>,
    after: Option<String>,
    limit: usize,
}

/// What a listing shows, in its order: a key, or a common prefix.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Entry {
    Key(String),
    Prefix(String),
}

fn text(parts: std::ops::Range<usize>) -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(&PARTS[..]), parts).prop_map(|parts| parts.concat())
}

fn cases() -> impl Strategy<Value = Case> {
    let delimiter = prop_oneof![
        Just(None),
        Just(Some("/".to_owned())),
        Just(Some("--".to_owned())),
        Just(Some("a/".to_owned())),
        Just(Some("\u{10FFFF}".to_owned())),
    ];
    (prop::collection::btree_set(text(1..6), 0..14), text(0..3), delimiter, prop::option::of(text(1..4)), 1..6_usize)
        .prop_map(|(keys, prefix, delimiter, after, limit)| Case { keys, prefix, delimiter, after, limit })
}

/// Returns the whole listing as its words say: keys after `after`, folded, each entry once. A common prefix given as
/// `after` stands for all that is below it.
fn expected(case: &Case) -> Vec<Entry> {
    let fold = |key: &str| {
        let rest = key.strip_prefix(&*case.prefix)?;
        let delimiter = case.delimiter.as_deref()?;
        rest.find(delimiter).map(|at| key[..case.prefix.len() + at + delimiter.len()].to_owned())
    };
    let stepped_over = case.after.as_deref().and_then(|after| fold(after).filter(|folded| folded == after));
    let mut entries = Vec::new();
    for key in &case.keys {
        let before = case.after.as_ref().is_some_and(|after| key <= after);
        let below = stepped_over.as_ref().is_some_and(|prefix| key.starts_with(prefix));
        if before || below || !key.starts_with(&case.prefix) {
            continue;
        }
        let entry = fold(key).map_or_else(|| Entry::Key(key.clone()), Entry::Prefix);
        if entries.last() != Some(&entry) {
            entries.push(entry);
        }
    }
    entries
}

/// Puts a page's keys and prefixes into one order.
fn entries(page: &ObjectPage) -> Vec<Entry> {
    let keys: Vec<_> = page.objects.iter().map(|object: &Object| object.key.clone()).collect();
    assert!(keys.is_sorted() && page.prefixes.is_sorted(), "{page:?}");
    let mut all: Vec<_> =
        keys.into_iter().map(Entry::Key).chain(page.prefixes.iter().cloned().map(Entry::Prefix)).collect();
    all.sort_by(|left, right| name(left).cmp(name(right)));
    all
}

fn name(entry: &Entry) -> &str {
    match entry {
        Entry::Key(name) | Entry::Prefix(name) => name,
    }
}

/// Makes the bucket that is listed, and one with the object that all others are copies of.
async fn buckets() -> (Fixture, Principal) {
    let f = Fixture::new().await;
    let who = f.member().await;
    for bucket in ["bucket", "source"] {
        f.service.buckets().create(&who, bucket).await.unwrap();
    }
    f.put(&who, "source", "one", b"x").await;
    (f, who)
}

/// Makes the bucket hold exactly these keys.
async fn fill(f: &Fixture, who: &Principal, held: &mut BTreeSet<String>, keys: &BTreeSet<String>) {
    let objects = f.service.objects();
    for gone in held.difference(keys) {
        objects.delete(who, "bucket", gone).await.unwrap();
    }
    for new in keys.difference(held) {
        // Copies share one content, so that a case costs rows only.
        objects.copy(who, ("source", "one"), ("bucket", new), None).await.unwrap();
    }
    *held = keys.clone();
}

/// Lists page by page and compares each page and the whole.
async fn check(f: &Fixture, who: &Principal, case: &Case) {
    let expected = expected(case);
    let mut after = case.after.clone();
    let mut visited = Vec::new();
    loop {
        let (prefix, delimiter, limit) = (case.prefix.clone(), case.delimiter.clone(), case.limit);
        let list = ListObjects { prefix, delimiter, after: after.clone(), limit };
        let page = f.service.objects().list(who, "bucket", list).await.unwrap();
        let shown = entries(&page);
        assert!(shown.len() <= limit, "{case:?}: {page:?}");
        visited.extend(shown);
        let Some(next) = page.next else { break };
        assert!(visited.len() <= expected.len(), "{case:?}: {visited:?} instead of {expected:?}");
        assert_eq!(page.objects.len() + page.prefixes.len(), limit, "only a full page has a next one");
        after = Some(next);
    }
    assert_eq!(visited, expected, "{case:?}");
}

#[test]
fn pages_visit_everything_once_in_order() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (f, who) = runtime.block_on(buckets());
    let held = RefCell::new(BTreeSet::new());
    // The case is told by `assert!`; a file of regressions would need the source's folder at run time.
    let config = ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() };
    let outcome = TestRunner::new(config).run(&cases(), |case| {
        runtime.block_on(async {
            let mut keys = held.take();
            fill(&f, &who, &mut keys, &case.keys).await;
            held.replace(keys);
            check(&f, &who, &case).await;
        });
        Ok(())
    });
    outcome.unwrap_or_else(|failed| panic!("{failed}"));
}

/// The marker object of a folder has the folder's name, and is not the folder.
#[tokio::test]
async fn a_folder_marker_does_not_hide_its_folder() {
    let (f, who) = buckets().await;
    let keys: BTreeSet<_> = ["a/", "a/1", "a/2", "a/b/", "a/b/c"].map(String::from).into();
    fill(&f, &who, &mut BTreeSet::new(), &keys).await;
    for limit in 1..6 {
        let case = Case { keys: keys.clone(), prefix: "a/".into(), delimiter: Some("/".into()), after: None, limit };
        check(&f, &who, &case).await;
    }
}

/// No character sorts after this one, so a key can go on with it behind whatever stands for "all of the prefix".
#[tokio::test]
async fn the_greatest_character_shows_no_prefix_twice() {
    let (f, who) = buckets().await;
    let keys: BTreeSet<_> = ["a/1", "a/\u{10FFFF}\u{10FFFF}b", "b"].map(String::from).into();
    fill(&f, &who, &mut BTreeSet::new(), &keys).await;
    for limit in 1..4 {
        let keys = keys.clone();
        check(&f, &who, &Case { keys, prefix: String::new(), delimiter: Some("/".into()), after: None, limit }).await;
    }
}

#[tokio::test]
async fn keys_and_metadata_have_limits() {
    let f = Fixture::new().await;
    let who = f.member().await;
    f.service.buckets().create(&who, "bucket").await.unwrap();
    let objects = f.service.objects();
    let longest = "é".repeat(512);
    f.put(&who, "bucket", &longest, b"x").await;
    assert_eq!(f.object(&who, "bucket", &longest).await, b"x");
    for key in ["", "a\0b", &"k".repeat(1025)] {
        let put = objects.put(&who, "bucket", key, PutObject::default(), body(b"x")).await;
        assert_eq!(put.unwrap_err().kind(), ErrorKind::Invalid, "{key:?}");
        let copied = objects.copy(&who, ("bucket", &longest), ("bucket", key), None).await;
        assert_eq!(copied.unwrap_err().kind(), ErrorKind::Invalid, "{key:?}");
        let begun = f.service.uploads().begin(&who, "bucket", key, PutObject::default()).await;
        assert_eq!(begun.unwrap_err().kind(), ErrorKind::Invalid, "{key:?}");
    }
    let with = |bytes: usize| PutObject { metadata: [("k".into(), "v".repeat(bytes - 1))].into(), content_type: None };
    objects.put(&who, "bucket", "fits", with(2048), body(b"x")).await.unwrap();
    assert_eq!(objects.head(&who, "bucket", "fits").await.unwrap().metadata, with(2048).metadata);
    let exceeds = objects.put(&who, "bucket", "exceeds", with(2049), body(b"x")).await;
    assert_eq!(exceeds.unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(f.contents().await, 2);
}
