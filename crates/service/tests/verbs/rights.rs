//! Rights: one table of every verb and everybody who may ask for it.
//!
//! How: each cell makes what its verb needs, asks, and compares. Where another project's thing is refused, the same is
//! asked of something that does not exist, and both answers must be one, names apart.

use std::collections::BTreeMap;

use compute::Power;
use futures::stream;
use model::exports::Exported;
use model::identity::{Principal, Role};
use model::images::Visibility;
use model::servers::ServerState;
use model::{DiskFormat, ExportId, ImageId, JobId, ProjectId, ServerId, UploadId, UserId};
use service::{
    Choice, Error, ErrorKind, Export, ImageChange, ImageFilter, JobQuery, ListObjects, NewExport, NewImage, NewServer,
    PartTag, Piece, Pieces, PutObject, Result, UploadAt,
};

use crate::fixture::{Fixture, from_object, new_image};
use crate::payload::{CHUNK, body, disk};

/// The verbs, and in the order of [`Askers`] what they answer about a private thing of the first project:
/// `o` done, `f` forbidden, `n` not found, `-` not in the list.
const PRIVATE: &[(&str, &str)] = &[
    ("image create", "ooof oo"),
    ("image create public", "offf fo"),
    ("image get", "oooo no"),
    ("image list", "oooo -o"),
    ("image update", "ooof no"),
    ("image publish", "offf no"),
    ("image upload", "ooof no"),
    ("image upload pieces", "ooof no"),
    ("image download", "oooo no"),
    ("image chunks", "oooo no"),
    ("image copy chunks", "ooof no"),
    ("image inspect", "oooo no"),
    ("image export", "ooof no"),
    ("image prepare", "ooof no"),
    ("image delete", "ooof no"),
    ("image create_from_object", "ooof nn"),
    ("bucket create", "ooof oo"),
    ("bucket get", "oooo nn"),
    ("bucket list", "oooo --"),
    ("bucket delete", "ooof nn"),
    ("object put", "ooof nn"),
    ("object head", "oooo nn"),
    ("object get", "oooo nn"),
    ("object list", "oooo nn"),
    ("object copy", "ooof nn"),
    ("object copy here", "ooof nn"),
    ("object delete", "ooof nn"),
    ("upload begin", "ooof nn"),
    ("upload put_part", "ooof nn"),
    ("upload put_pieces", "ooof nn"),
    ("upload parts", "oooo nn"),
    ("upload list", "oooo nn"),
    ("upload complete", "ooof nn"),
    ("upload abort", "ooof nn"),
    ("transfer terms", "ooof oo"),
    ("transfer offer", "ooof oo"),
    ("server create", "ooof no"),
    ("server get", "oooo no"),
    ("server list", "oooo --"),
    ("server start", "ooof no"),
    ("server stop", "ooof no"),
    ("server console", "oooo no"),
    ("server delete", "ooof no"),
    ("export open", "oooo no"),
    ("export open object", "oooo nn"),
    ("export list", "oooo --"),
    ("export close", "ooof no"),
    ("job get", "oooo no"),
    ("job lines", "oooo no"),
    ("job list", "oooo --"),
    ("job list of all", "offf fo"),
    ("job cancel", "ooof no"),
    ("project list", "oooo -o"),
    ("project get", "oooo no"),
    ("project create", "offf fo"),
    ("project delete", "offf fo"),
    ("quota get", "oooo no"),
    ("quota set", "offf no"),
    ("user list", "offf fo"),
    ("user get", "onnn no"),
    ("user create", "offf fo"),
    ("user delete", "offf fo"),
    ("role grant", "offf fo"),
    ("role revoke", "offf fo"),
    ("store state", "offf fo"),
    ("store stats", "offf fo"),
    ("store verify", "offf fo"),
    ("store rebuild", "offf fo"),
    ("store collect", "offf fo"),
    ("store clear_alarm", "offf fo"),
    ("key create", "oooo oo"),
    ("key list", "---- --"),
    ("key delete", "onnn no"),
];

/// What they answer about an image that was shown to everybody: it may be used and not changed.
const SHOWN: &[(&str, &str)] = &[
    ("image get", "oooo oo"),
    ("image update", "ooof fo"),
    ("image publish", "offf fo"),
    ("image upload", "ooof fo"),
    ("image upload pieces", "ooof fo"),
    ("image download", "oooo oo"),
    ("image chunks", "oooo oo"),
    ("image copy chunks", "ooof oo"),
    ("image inspect", "oooo oo"),
    ("image export", "ooof oo"),
    ("image prepare", "ooof fo"),
    ("image delete", "ooof fo"),
    ("server create", "ooof oo"),
    ("export open", "oooo oo"),
];

/// Everybody: the four roles of the first project, then another project's member and its administrator.
struct Askers {
    f: Fixture,
    all: Vec<Principal>,
}

impl Askers {
    async fn new() -> Self {
        let f = Fixture::new().await;
        let (ours, theirs) = (f.project("ours").await, f.project("theirs").await);
        let mut all = Vec::new();
        for (project, role) in
            Role::ALL.iter().map(|role| (&ours, *role)).chain([(&theirs, Role::Member), (&theirs, Role::Admin)])
        {
            all.push(f.principal(project, role).await);
        }
        for who in [&all[2], &all[4]] {
            f.service.buckets().create(who, "shelf").await.unwrap();
            f.put(who, "shelf", "disk", &disk(1)).await;
        }
        Self { f, all }
    }

    fn owner(&self) -> &Principal {
        &self.all[2]
    }
}

/// The things a verb is asked about.
#[derive(Clone)]
struct Things {
    image: ImageId,
    queued: ImageId,
    bucket: String,
    empty_bucket: String,
    upload: UploadId,
    part: PartTag,
    server: ServerId,
    export: ExportId,
    job: JobId,
    project: ProjectId,
    empty_project: ProjectId,
    user: UserId,
    key: String,
}

impl Things {
    /// Makes what `verb` needs in the first project; the rest does not exist.
    async fn of(askers: &Askers, verb: &str, visibility: Visibility) -> Self {
        let (f, owner) = (&askers.f, askers.owner());
        let mut things = Self::absent();
        let root = f.root().await;
        things.project = owner.project.id;
        let noun = verb.split(' ').next().unwrap();
        if matches!(noun, "image" | "server" | "export") {
            things.image = f.image(owner, new_image(DiskFormat::Raw), &disk(1)).await.id;
            things.queued = f.service.images().create(owner, new_image(DiskFormat::Raw)).await.unwrap().id;
            for id in [things.image, things.queued] {
                let change = ImageChange { visibility: Some(visibility), ..ImageChange::default() };
                f.service.images().update(&root, id, change).await.unwrap();
            }
        }
        if noun == "server" {
            things.server = running_server(f, owner, things.image).await;
        }
        if matches!(noun, "bucket" | "object" | "upload" | "job" | "export") || verb == "image create_from_object" {
            for bucket in [&things.bucket, &things.empty_bucket] {
                f.service.buckets().create(owner, bucket).await.unwrap();
            }
            f.put(owner, &things.bucket, "disk", &disk(1)).await;
        }
        if noun == "export" {
            let of = Exported::Image(things.image);
            let opened = f.service.exports().open(owner, new_export(of)).await.unwrap();
            things.export = opened.export.id;
        }
        if noun == "upload" {
            let uploads = f.service.uploads();
            things.upload = uploads.begin(owner, &things.bucket, "new", PutObject::default()).await.unwrap().id;
            things.part.etag = uploads.put_part(owner, things.at(), 1, body(b"part")).await.unwrap().etag;
        }
        if noun == "job" {
            let from = from_object(&things.bucket, "disk", None);
            things.job = f.service.images().create_from_object(owner, from).await.unwrap().1.id;
        }
        if matches!(noun, "user" | "role" | "key" | "project") {
            let somebody = f.principal(&owner.project, Role::Reader).await;
            things.user = somebody.user.id;
            things.key = f.service.identity().create_access_key(&somebody, "").await.unwrap().0.access_key;
            things.empty_project = f.project(&UserId::new().to_string()).await.id;
        }
        things
    }

    fn absent() -> Self {
        Self {
            image: ImageId::new(),
            queued: ImageId::new(),
            bucket: format!("b-{}", ImageId::new()),
            empty_bucket: format!("e-{}", ImageId::new()),
            upload: UploadId::new(),
            part: PartTag { number: 1, etag: "0".repeat(32) },
            server: ServerId::new(),
            export: ExportId::new(),
            job: JobId::new(),
            project: ProjectId::new(),
            empty_project: ProjectId::new(),
            user: UserId::new(),
            key: UserId::new().to_string(),
        }
    }

    fn at(&self) -> UploadAt<'_> {
        UploadAt { bucket: &self.bucket, key: "new", upload: self.upload }
    }

    /// Returns an error as its reader sees it, with the names of things instead of their ids.
    fn told(&self, error: &Error) -> (ErrorKind, Option<&'static str>, String) {
        let names = [
            (self.image.to_string(), "IMAGE"),
            (self.queued.to_string(), "IMAGE"),
            (self.bucket.clone(), "BUCKET"),
            (self.empty_bucket.clone(), "BUCKET"),
            (self.upload.to_string(), "UPLOAD"),
            (self.server.to_string(), "SERVER"),
            (self.export.to_string(), "EXPORT"),
            (self.job.to_string(), "JOB"),
            (self.project.to_string(), "PROJECT"),
            (self.empty_project.to_string(), "PROJECT"),
            (self.user.to_string(), "USER"),
            (self.key.clone(), "KEY"),
        ];
        let text = format!("{error} ({:?})", error.hint());
        let text = names.iter().fold(text, |text, (id, name)| text.replace(id, name));
        (error.kind(), error.noun(), text)
    }
}

/// Makes a server and lets it run, without a runner.
async fn running_server(f: &Fixture, owner: &Principal, image: ImageId) -> ServerId {
    let (mut server, _) = f.service.servers().create(owner, new_server(image)).await.unwrap();
    server.state = ServerState::Active;
    let mut tx = f.catalog.write().await.unwrap();
    assert!(catalog::servers::update(&mut tx, &server, ServerState::Build).await.unwrap());
    tx.commit().await.unwrap();
    f.driver.set(server.id, Power::Running);
    server.id
}

fn new_server(image: ImageId) -> NewServer {
    let (name, flavor) = ("web".into(), "m1.nano".into());
    NewServer { name, image, flavor, user_data: None, ssh_key: None, guest_ports: vec![] }
}

/// Asks for a verb; `Ok(false)` says that a list does not show the thing.
async fn ask(f: &Fixture, who: &Principal, verb: &str, things: &Things) -> Result<bool> {
    match verb.split_once(' ').unwrap() {
        ("image", verb) => ask_images(f, who, verb, things).await,
        ("bucket" | "object", _) => ask_buckets(f, who, verb, things).await,
        ("upload", verb) => ask_uploads(f, who, verb, things).await,
        ("transfer", "terms") => f.service.transfer().terms(who).await.map(|_| true),
        ("transfer", "offer") => f.service.transfer().offer(who, &[[1; 32]]).await.map(|_| true),
        ("server", verb) => ask_servers(f, who, verb, things).await,
        ("export", verb) => ask_exports(f, who, verb, things).await,
        ("job", verb) => ask_jobs(f, who, verb, things).await,
        ("store", verb) => ask_store(f, who, verb).await,
        _ => ask_identity(f, who, verb, things).await,
    }
}

async fn ask_store(f: &Fixture, who: &Principal, verb: &str) -> Result<bool> {
    let store = f.service.store();
    match verb {
        "state" => store.state(who).await.map(drop),
        "stats" => store.stats(who, 1).await.map(drop),
        "verify" => store.verify(who, false).await.map(drop),
        "rebuild" => store.rebuild(who).await.map(drop),
        "collect" => store.collect(who, true).await.map(drop),
        "clear_alarm" => store.clear_alarm(who).await,
        other => panic!("no verb `{other}`"),
    }?;
    Ok(true)
}

async fn ask_images(f: &Fixture, who: &Principal, verb: &str, things: &Things) -> Result<bool> {
    let (images, id) = (f.service.images(), things.image);
    match verb {
        "create" => images.create(who, new_image(DiskFormat::Raw)).await.map(drop),
        "create public" => {
            let public = NewImage { visibility: Visibility::Public, ..new_image(DiskFormat::Raw) };
            images.create(who, public).await.map(drop)
        }
        "get" => images.get(who, id).await.map(drop),
        "list" => {
            let listed = images.list(who, ImageFilter { limit: 1000, ..ImageFilter::default() }).await?;
            return Ok(listed.iter().any(|image| image.id == id));
        }
        "update" => {
            let change = ImageChange { name: Some(Some("new".into())), ..ImageChange::default() };
            images.update(who, id, change).await.map(drop)
        }
        "publish" => {
            // From what it is to public, or from public to community and back.
            let set = |visibility| ImageChange { visibility: Some(visibility), ..ImageChange::default() };
            images.update(who, id, set(Visibility::Community)).await?;
            images.update(who, id, set(Visibility::Public)).await.map(drop)
        }
        "upload" => images.upload(who, things.queued, body(&disk(1))).await.map(drop),
        "upload pieces" => f.service.transfer().put_image(who, things.queued, data(&disk(1))).await.map(drop),
        "chunks" => f.service.transfer().image_chunks(who, id, 0, 1).await.map(drop),
        "copy chunks" => {
            let (bytes, new) = (disk(1), images.create(who, new_image(DiskFormat::Raw)).await?);
            let hash = *blake3::hash(&bytes[..CHUNK]).as_bytes();
            let copy = Piece::Copy { image: id, offset: 0, length: CHUNK as u32, hash };
            let pieces = Box::pin(stream::iter([Ok(copy)]));
            f.service.transfer().put_image(who, new.id, pieces).await.map(drop)
        }
        "download" => images.download(who, id).await.map(drop),
        "inspect" => images.inspect(who, id).await.map(drop),
        "export" => {
            let (bucket, key, format) = ("shelf".into(), "new".into(), "raw".into());
            let export = Export { bucket, key, format, overwrite: true, ..Export::default() };
            images.export(who, id, export).await.map(drop)
        }
        "prepare" => images.prepare(who, id, Choice::default()).await.map(drop),
        "delete" => images.delete(who, id).await,
        "create_from_object" => {
            images.create_from_object(who, from_object(&things.bucket, "disk", None)).await.map(drop)
        }
        other => panic!("no verb `{other}`"),
    }?;
    Ok(true)
}

async fn ask_buckets(f: &Fixture, who: &Principal, verb: &str, things: &Things) -> Result<bool> {
    let (buckets, objects, bucket) = (f.service.buckets(), f.service.objects(), things.bucket.as_str());
    match verb {
        "bucket create" => buckets.create(who, &format!("n-{}", ImageId::new())).await.map(drop),
        "bucket get" => buckets.get(who, bucket).await.map(drop),
        "bucket list" => return Ok(buckets.list(who).await?.iter().any(|known| known.name == bucket)),
        "bucket delete" => buckets.delete(who, &things.empty_bucket).await,
        "object put" => objects.put(who, bucket, "new", PutObject::default(), body(b"x")).await.map(drop),
        "object head" => objects.head(who, bucket, "disk").await.map(drop),
        "object get" => objects.get(who, bucket, "disk").await.map(drop),
        "object list" => {
            let list = ListObjects { prefix: String::new(), delimiter: None, after: None, limit: 10 };
            objects.list(who, bucket, list).await.map(drop)
        }
        "object copy" => objects.copy(who, ("shelf", "disk"), (bucket, "new"), None).await.map(drop),
        "object copy here" => objects.copy(who, (bucket, "disk"), ("shelf", "new"), None).await.map(drop),
        "object delete" => objects.delete(who, bucket, "disk").await,
        other => panic!("no verb `{other}`"),
    }?;
    Ok(true)
}

async fn ask_uploads(f: &Fixture, who: &Principal, verb: &str, things: &Things) -> Result<bool> {
    let (uploads, at) = (f.service.uploads(), things.at());
    match verb {
        "begin" => uploads.begin(who, at.bucket, "new", PutObject::default()).await.map(drop),
        "put_part" => uploads.put_part(who, at, 2, body(b"x")).await.map(drop),
        "put_pieces" => f.service.transfer().put_part(who, at, 2, data(b"x")).await.map(drop),
        "parts" => uploads.parts(who, at).await.map(drop),
        "list" => uploads.list(who, at.bucket).await.map(drop),
        "complete" => uploads.complete(who, at, vec![things.part.clone()]).await.map(drop),
        "abort" => uploads.abort(who, at).await,
        other => panic!("no verb `{other}`"),
    }?;
    Ok(true)
}

async fn ask_servers(f: &Fixture, who: &Principal, verb: &str, things: &Things) -> Result<bool> {
    let (servers, id) = (f.service.servers(), things.server);
    match verb {
        "create" => servers.create(who, new_server(things.image)).await.map(drop),
        "get" => servers.get(who, id).await.map(drop),
        "list" => return Ok(servers.list(who).await?.iter().any(|server| server.id == id)),
        "start" => {
            f.driver.set(id, Power::Off);
            servers.start(who, id).await.map(drop)
        }
        "stop" => servers.stop(who, id, true).await.map(drop),
        "console" => servers.console(who, id, 10).await.map(drop),
        "delete" => servers.delete(who, id).await,
        other => panic!("no verb `{other}`"),
    }?;
    Ok(true)
}

async fn ask_exports(f: &Fixture, who: &Principal, verb: &str, things: &Things) -> Result<bool> {
    let exports = f.service.exports();
    match verb {
        "open" => exports.open(who, new_export(Exported::Image(things.image))).await.map(drop),
        "open object" => {
            let of = Exported::Object { bucket: things.bucket.clone(), key: "disk".into() };
            exports.open(who, new_export(of)).await.map(drop)
        }
        "list" => return Ok(exports.list(who).await?.iter().any(|export| export.id == things.export)),
        "close" => exports.close(who, things.export).await,
        other => panic!("no verb `{other}`"),
    }?;
    Ok(true)
}

/// Returns bytes as pieces of one chunk each.
fn data(bytes: &[u8]) -> Pieces {
    let pieces: Vec<_> = bytes.chunks(CHUNK).map(|chunk| Ok(Piece::Data(chunk.to_vec().into()))).collect();
    Box::pin(stream::iter(pieces))
}

fn new_export(of: Exported) -> NewExport {
    NewExport { of, format: None, seconds: None }
}

async fn ask_jobs(f: &Fixture, who: &Principal, verb: &str, things: &Things) -> Result<bool> {
    let (jobs, id) = (f.service.jobs(), things.job);
    let list = async |all_projects| {
        let listed = jobs.list(who, JobQuery { all_projects, limit: 1000, ..JobQuery::default() }).await?;
        Ok(listed.iter().any(|job| job.id == id))
    };
    match verb {
        "get" => jobs.get(who, id).await.map(drop),
        "lines" => jobs.lines(who, id, 0).await.map(drop),
        "list" => return list(false).await,
        "list of all" => return list(true).await,
        "cancel" => jobs.cancel(who, id).await.map(drop),
        other => panic!("no verb `{other}`"),
    }?;
    Ok(true)
}

async fn ask_identity(f: &Fixture, who: &Principal, verb: &str, things: &Things) -> Result<bool> {
    let (identity, name) = (f.service.identity(), format!("n-{}", UserId::new()));
    let (user, project) = (things.user, things.project);
    match verb {
        "project list" => return Ok(identity.projects(who).await?.iter().any(|known| known.id == project)),
        "project get" => identity.project(who, project).await.map(drop),
        "project create" => identity.create_project(who, &name).await.map(drop),
        "project delete" => identity.delete_project(who, things.empty_project).await,
        "quota get" => f.service.quotas().get(who, project).await.map(drop),
        "quota set" => f.service.quotas().set(who, project, &BTreeMap::new()).await.map(drop),
        "user list" => return Ok(identity.users(who).await?.iter().any(|known| known.id == user)),
        "user get" => identity.user(who, user).await.map(drop),
        "user create" => identity.create_user(who, &name, "long enough").await.map(drop),
        "user delete" => identity.delete_user(who, user).await,
        "role grant" => identity.grant(who, user, project, Role::Member).await,
        "role revoke" => identity.revoke_role(who, user, project, Role::Reader).await,
        "key create" => identity.create_access_key(who, "").await.map(drop),
        "key list" => return Ok(identity.access_keys(who).await?.iter().any(|key| key.access_key == things.key)),
        "key delete" => identity.delete_access_key(who, &things.key).await,
        other => panic!("no verb `{other}`"),
    }?;
    Ok(true)
}

/// Compares a table with what happens, and tells every cell that differs.
async fn check(table: &[(&str, &str)], visibility: Visibility) {
    let askers = Askers::new().await;
    let mut wrong = BTreeMap::new();
    for (verb, answers) in table {
        let mut happened = String::new();
        for (at, who) in askers.all.iter().enumerate() {
            if at == 4 {
                happened.push(' ');
            }
            let things = Things::of(&askers, verb, visibility).await;
            let answer = ask(&askers.f, who, verb, &things).await;
            happened.push(match &answer {
                Ok(true) => 'o',
                Ok(false) => '-',
                Err(error) if error.kind() == ErrorKind::Forbidden => 'f',
                Err(error) if error.kind() == ErrorKind::NotFound => 'n',
                Err(error) => panic!("{verb}, asker {at}: {error} ({:?})", error.kind()),
            });
            if let Some(error) = answer.as_ref().err().filter(|error| error.kind() == ErrorKind::NotFound) {
                let absent = Things::absent();
                let none = ask(&askers.f, who, verb, &absent).await.unwrap_err();
                assert_eq!(things.told(error), absent.told(&none), "{verb}, asker {at}");
            }
        }
        if happened != *answers {
            wrong.insert(*verb, format!("{happened} instead of {answers}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test]
async fn what_is_private_is_absent_for_others() {
    check(PRIVATE, Visibility::Private).await;
}

#[tokio::test]
async fn what_was_shared_with_nobody_is_private() {
    let images: Vec<_> = PRIVATE.iter().copied().filter(|(verb, _)| verb.starts_with("image")).collect();
    check(&images, Visibility::Shared).await;
}

#[tokio::test]
async fn what_is_public_may_be_used_and_not_changed() {
    check(SHOWN, Visibility::Public).await;
}

#[tokio::test]
async fn what_is_for_the_community_may_be_used_and_not_changed() {
    check(SHOWN, Visibility::Community).await;
}
