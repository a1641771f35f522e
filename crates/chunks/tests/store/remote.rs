//! A bucket of moto: the contract, what the probe refuses, and what errors say.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chunks::{Backend, ErrorKind, MemoryIndex, Protocol, RemoteBackend, RemoteConfig, RemoteLimits, Store};
use keys::Secret;
use tests::peers::Moto;

use crate::contract::contract;
use crate::support::{DOMAIN, SEGMENT, kms, noise, read_all, small, write};

fn config(address: String, bucket: &str, prefix: &str) -> RemoteConfig {
    RemoteConfig {
        protocol: Protocol::S3,
        bucket: bucket.into(),
        prefix: prefix.into(),
        endpoint: Some(address),
        region: None,
        access_key: Some("testkey".into()),
        secret: Some(Secret::new(b"testsecret\n".to_vec())),
        allow_http: true,
        limits: RemoteLimits { retry: Duration::from_millis(500), ..RemoteLimits::default() },
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_keeps_the_contract_with_a_prefix_and_without() {
    let moto = Moto::start();
    moto.make_bucket("plain");
    moto.make_bucket("shared");
    // What others keep beside the store is not seen.
    for key in ["a/b/other/Upper", "a/bc/packs/aa11", "a/store"] {
        assert_eq!(moto.s3().put("shared", key, b"foreign").status, 200);
    }
    for (bucket, prefix) in [("plain", ""), ("shared", "a/b"), ("shared", "/x/")] {
        let backend = RemoteBackend::new(&config(moto.address(), bucket, prefix)).unwrap();
        backend.probe().await.unwrap();
        assert_eq!(backend.list("").await.unwrap(), [""; 0], "the probe left something");
        contract(Arc::new(backend)).await;
    }
    assert_eq!(moto.s3().get("shared", "a/b/packs/bb11"), b"");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_probe_refuses_what_cannot_hold_a_store() {
    let moto = Moto::start();
    let probe = async |config: &RemoteConfig| {
        let error = RemoteBackend::new(config).unwrap().probe().await.unwrap_err();
        (error.to_string(), error.hint().unwrap_or_default().to_owned())
    };
    let (error, hint) = probe(&config(moto.address(), "absent", "")).await;
    assert!(error.contains("s3 bucket `absent` at http://") && error.ends_with("it does not exist"), "{error}");
    assert!(hint.contains("make the bucket"), "{hint}");

    moto.make_bucket("versioned");
    moto.make_versioned("versioned");
    let (error, hint) = probe(&config(moto.address(), "versioned", "")).await;
    assert!(error.ends_with("it keeps old versions of objects"), "{error}");
    assert!(hint.contains("without versioning"), "{hint}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_in_a_bucket_is_read_by_who_opens_it_later() {
    let moto = Moto::start();
    moto.make_bucket("store");
    let (kms, index) = (kms(), Arc::new(MemoryIndex::new()));
    let open = async |index: Arc<MemoryIndex>| {
        let backend = Arc::new(RemoteBackend::new(&config(moto.address(), "store", "molde")).unwrap());
        Store::open(backend, index, Arc::clone(&kms), small()).await.unwrap()
    };
    let (first, bytes) = (open(Arc::clone(&index)).await, noise(1, 10 * SEGMENT + 77));
    let head = write(&first, DOMAIN, &bytes).await;
    let rebuilt = Arc::new(MemoryIndex::new());
    let second = open(rebuilt).await;
    second.reindex().await.unwrap();
    assert!(read_all(&second, &head.bytes).await.unwrap() == bytes);
    second.verify(&head.bytes).await.unwrap();
    first.forget(head.content).await.unwrap();
    assert_eq!(second.head(head.content).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_silent_or_gone_is_named_within_the_time_of_a_call() {
    let mut moto = Moto::start();
    moto.make_bucket("store");
    let mut config = config(moto.address(), "store", "");
    (config.limits.request, config.limits.retry) = (Duration::from_secs(1), Duration::from_secs(2));
    let backend = RemoteBackend::new(&config).unwrap();
    backend.put("packs/aa", vec![Bytes::from_static(b"here")]).await.unwrap();

    moto.freeze();
    let error = backend.get("packs/aa").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.to_string().contains("`packs/aa` of s3 bucket `store` at http://127.0.0.1:"), "{error}");
    assert!(error.hint().is_some_and(|hint| hint.contains("endpoint")), "{:?}", error.hint());
    moto.thaw();
    assert_eq!(backend.get("packs/aa").await.unwrap(), "here");
    assert!(backend.stats().retries > 0 && backend.stats().failures == 1, "{:?}", backend.stats());

    moto.kill9();
    let error = backend.put("packs/bb", vec![Bytes::from_static(b"new")]).await.unwrap_err();
    assert_eq!((error.kind(), backend.stats().failures), (ErrorKind::Io, 2));
    assert!(error.to_string().contains("cannot write `packs/bb` to s3 bucket"), "{error}");
}

#[test]
fn a_configuration_that_contradicts_itself_is_refused() {
    let refused = |change: fn(&mut RemoteConfig)| {
        let mut config = config("http://127.0.0.1:1".into(), "b", "");
        change(&mut config);
        let Err(error) = RemoteBackend::new(&config) else { panic!("{config:?} was taken") };
        (error.kind(), format!("{config:?}").contains("testsecret"))
    };
    assert_eq!(refused(|config| config.access_key = None), (ErrorKind::Invalid, false));
    assert_eq!(refused(|config| config.prefix = "a//b".into()), (ErrorKind::Invalid, false));
}
