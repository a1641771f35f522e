//! Records with every field filled, for promises to change.

use std::collections::{BTreeMap, BTreeSet};

use catalog::Tx;
use model::buckets::{Bucket, Object, Part, Upload};
use model::exports::{Export, Exported};
use model::images::{Checksums, Image, ImageState, Visibility};
use model::jobs::{Job, JobKind, JobState};
use model::servers::{RootDisk, Server, ServerState};
use model::{
    BucketId, ContainerFormat, ContentId, DiskFormat, ExportId, ImageId, JobId, ProjectId, ServerId, UploadId, UserId,
};

use crate::fixture::at;

/// An image with every field but its content, which has to exist.
pub(crate) fn image(project: ProjectId) -> Image {
    Image {
        id: ImageId::new(),
        project,
        name: Some("Debian 12".into()),
        state: ImageState::Queued,
        reason: Some("none yet".into()),
        visibility: Visibility::Private,
        protected: true,
        hidden: false,
        disk_format: Some(DiskFormat::Qcow2),
        container_format: Some(ContainerFormat::Bare),
        content: None,
        size: Some(1 << 40),
        size_virtual: Some(1 << 41),
        checksums: Some(Checksums { md5: "m".into(), sha256: "s".into(), sha512: "t".into() }),
        min_disk_gib: u32::MAX,
        min_ram_mib: 512,
        properties: BTreeMap::from([("__os_type".into(), "Linux".into()), ("empty".into(), String::new())]),
        tags: BTreeSet::from(["a=b".into(), "línguas".into()]),
        job: Some(JobId::new()),
        created_at: at(100),
        updated_at: at(200),
    }
}

/// An image with no field but those that have no choice.
pub(crate) fn bare_image(project: ProjectId) -> Image {
    Image {
        name: None,
        reason: None,
        protected: false,
        disk_format: None,
        container_format: None,
        size: None,
        size_virtual: None,
        checksums: None,
        properties: BTreeMap::new(),
        tags: BTreeSet::new(),
        job: None,
        ..image(project)
    }
}

pub(crate) fn job(project: ProjectId) -> Job {
    Job {
        id: JobId::new(),
        project,
        user: UserId::new(),
        kind: JobKind::CreateImage,
        state: JobState::Queued,
        step: None,
        percent: 0,
        attempt: 0,
        cancel_requested: false,
        error: None,
        params: "{\"bucket\":\"b\"}".into(),
        image: Some(ImageId::new()),
        server: Some(ServerId::new()),
        created_at: at(100),
        started_at: None,
        ended_at: None,
    }
}

pub(crate) fn server(project: ProjectId, content: ContentId) -> Server {
    Server {
        id: ServerId::new(),
        project,
        user: UserId::new(),
        name: "web".into(),
        state: ServerState::Build,
        reason: Some("because".into()),
        image: ImageId::new(),
        disk: RootDisk { content, format: DiskFormat::Qcow2, size: 1 << 33, uefi: true },
        flavor: "m1.tiny".into(),
        user_data: Some(vec![0, 159, 146, 150]),
        ssh_key: Some("ssh-ed25519 AAAA".into()),
        forwards: vec![(2222, 22), (65535, 1)],
        job: Some(JobId::new()),
        created_at: at(100),
        updated_at: at(200),
    }
}

pub(crate) async fn bucket(tx: &mut Tx, project: ProjectId, name: &str) -> Bucket {
    let bucket = Bucket { id: BucketId::new(), project, name: name.into(), created_at: at(50) };
    catalog::buckets::insert(tx, &bucket).await.unwrap();
    bucket
}

pub(crate) fn object(bucket: BucketId, key: &str, content: ContentId) -> Object {
    Object {
        bucket,
        key: key.into(),
        content,
        size: 5,
        etag: "0123-2".into(),
        content_type: Some("application/x-qcow2".into()),
        metadata: BTreeMap::from([("origin".into(), "\"Olinda\"\n".into())]),
        created_at: at(60),
    }
}

pub(crate) fn upload(bucket: BucketId, key: &str) -> Upload {
    Upload {
        id: UploadId::new(),
        bucket,
        key: key.into(),
        content_type: None,
        metadata: BTreeMap::from([("a".into(), "b".into())]),
        created_at: at(70),
    }
}

pub(crate) fn part(number: u32, content: ContentId) -> Part {
    Part { number, content, size: 5 << 20, etag: "abc".into(), created_at: at(80) }
}

pub(crate) fn export(project: ProjectId, content: ContentId) -> Export {
    Export {
        id: ExportId::new(),
        project,
        user: UserId::new(),
        of: Exported::Image(ImageId::new()),
        content,
        format: "qcow2".into(),
        created_at: at(1),
        expires_at: at(100),
    }
}
