//! The contract of `Backend` on object stores of others that take long to start: Ceph, and Azurite. The model on Ceph.

#[path = "../store/contract.rs"]
mod contract;
#[path = "../store/making.rs"]
mod making;
#[path = "../store/reference.rs"]
#[expect(dead_code, reason = "here no power is cut")]
mod reference;
#[path = "../store/support.rs"]
#[expect(dead_code, reason = "the tests of the store use more of it")]
mod support;
#[path = "../store/watched_index.rs"]
mod watched_index;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chunks::{Backend, ErrorKind, Protocol, RemoteBackend, RemoteConfig, RemoteLimits, Result};
use keys::Secret;
use proptest::test_runner::TestRunner;
use tests::peers::{Azurite, Ceph};

use contract::contract;
use reference::{Death, Ground, Model, cases, mortal, steps};
use watched_index::Watch;

fn config(protocol: Protocol, address: String, bucket: &str) -> RemoteConfig {
    let (access_key, secret) = match protocol {
        Protocol::Azure => (Azurite::ACCOUNT, Azurite::KEY),
        _ => (Ceph::ACCESS_KEY, Ceph::SECRET_KEY),
    };
    RemoteConfig {
        protocol,
        bucket: bucket.into(),
        prefix: "the/prefix".into(),
        endpoint: Some(address),
        region: None,
        access_key: Some(access_key.into()),
        secret: Some(Secret::new(secret.into())),
        allow_http: true,
        limits: RemoteLimits::default(),
    }
}

async fn probe_and_contract(backend: RemoteBackend) {
    backend.probe().await.unwrap();
    assert_eq!(backend.list("").await.unwrap(), [""; 0], "the probe left something");
    contract(Arc::new(backend)).await;
}

/// Returns what the probe says of a bucket that it refuses.
async fn refusal(config: &RemoteConfig) -> String {
    RemoteBackend::new(config).unwrap().probe().await.unwrap_err().to_string()
}

/// One cluster for all: it takes 20 seconds to start.
#[tokio::test(flavor = "multi_thread")]
async fn ceph_keeps_the_contract_and_what_it_does_not_keep_is_found() {
    let mut ceph = Ceph::start();
    let of = |bucket: &str| config(Protocol::S3, ceph.address(), bucket);
    ceph.make_bucket("store");
    let config = of("store");
    probe_and_contract(RemoteBackend::new(&config).unwrap()).await;

    assert!(refusal(&of("absent")).await.ends_with("it does not exist"));
    ceph.make_bucket("versioned");
    ceph.make_versioned("versioned");
    let refused = refusal(&of("versioned")).await;
    assert!(refused.ends_with("it keeps old versions of objects"), "{refused}");
    let mut wrong = of("store");
    wrong.secret = Some(Secret::new(b"wrong".to_vec()));
    assert!(refusal(&wrong).await.ends_with("the keys were refused"));

    // The gateway dies in the middle: who waits goes on when it is back.
    let backend = Arc::new(RemoteBackend::new(&config).unwrap());
    let bytes = Bytes::from(vec![7; 8 << 20]);
    backend.put("packs/before", vec![bytes.clone()]).await.unwrap();
    let writing = (0..24).map(|number| {
        let (backend, bytes) = (Arc::clone(&backend), bytes.clone());
        tokio::spawn(async move { backend.put(&format!("packs/during-{number}"), vec![bytes]).await })
    });
    let writing: Vec<_> = writing.collect();
    ceph.kill9();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let reading = tokio::spawn({
        let backend = Arc::clone(&backend);
        async move { backend.get("packs/before").await }
    });
    ceph.restart();
    for task in writing {
        task.await.unwrap().unwrap();
    }
    assert!(reading.await.unwrap().unwrap() == bytes);
    assert_eq!(backend.list("packs/").await.unwrap().len(), 24 + 3, "with those of the contract");
    assert!(backend.stats().retries > 0, "{:?}", backend.stats());
    for number in 0..24 {
        assert!(backend.get(&format!("packs/during-{number}")).await.unwrap() == bytes);
    }

    ceph.set_quota(1 << 20);
    let error = backend.put("packs/too-much", vec![bytes]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}: {:?}", std::error::Error::source(&error));
}

struct Bucket(RemoteConfig);

#[async_trait]
impl Ground for Bucket {
    async fn open(&self, death: Option<Death>) -> Result<(Arc<dyn Backend>, Arc<dyn Watch>)> {
        Ok(mortal(Arc::new(RemoteBackend::new(&self.0)?), death))
    }
}

#[test]
fn on_ceph_the_store_and_the_model_agree() {
    let ceph = Ceph::start();
    ceph.make_bucket("store");
    let (runtime, cases_so_far) = (tokio::runtime::Runtime::new().unwrap(), AtomicU64::new(0));
    let agrees = TestRunner::new(cases(10)).run(&steps(16), |steps| {
        let mut config = config(Protocol::S3, ceph.address(), "store");
        config.prefix = format!("case/{}", cases_so_far.fetch_add(1, Ordering::SeqCst));
        runtime.block_on(Model::run(Arc::new(Bucket(config)), &steps));
        Ok(())
    });
    agrees.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn azure_blob_storage_keeps_the_contract() {
    let azurite = Azurite::start();
    tokio::task::block_in_place(|| azurite.make_container("store"));
    let of = |bucket: &str| config(Protocol::Azure, azurite.address(), bucket);
    probe_and_contract(RemoteBackend::new(&of("store")).unwrap()).await;
    assert!(refusal(&of("absent")).await.ends_with("it does not exist"));
}
