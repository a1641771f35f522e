//! `molde image`: make, look at, change, export, serve and remove images.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, Subcommand};
use disk::{FileSource, Format, Source};
use futures::TryStreamExt;
use indicatif::ProgressBar;
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE};
use reqwest::{Body, Method};
use serde_json::{Map, Value, json};
use tokio::fs::File;
use tokio_util::io::ReaderStream;

use crate::client::{Client, send};
use crate::disk_file::options_help;
use crate::error::{Failure, Result};
use crate::guest_file;
use crate::job::{escape, told_job, wait};
use crate::nbd_export::{Life, serve};
use crate::object::{download, split};
use crate::output::{Column, Output, plain};
use crate::transfer::{self, FileOrigin, Origin, Transfer};
use crate::{findings, passphrase, progress, report};

const COLUMNS: &[Column] = &[
    ("ID", "/id"),
    ("NAME", "/name"),
    ("STATUS", "/status"),
    ("VISIBILITY", "/visibility"),
    ("FORMAT", "/disk_format"),
    ("BYTES", "/size"),
    ("DISK", "/virtual_size"),
    ("CREATED", "/created_at"),
];
pub(crate) const PATCH: &str = "application/openstack-images-v2.1-json-patch";
const READ: usize = 256 << 10;

/// What can be done with images.
#[derive(Debug, Subcommand)]
pub enum Image {
    /// Make an image from a bucket object or a local file
    Create(Create),
    /// List images
    List {
        /// Only images of this name
        #[arg(long)]
        name: Option<String>,
    },
    /// Show one image
    Show {
        /// Its id or name
        image: String,
    },
    /// Change an image
    Set(Set),
    /// Remove images
    Delete {
        /// Their ids or names
        #[arg(required = true)]
        images: Vec<String>,
    },
    /// Write an image into a bucket as a file
    #[command(after_long_help = options_help())]
    Export(Export),
    /// Serve an image's disk over NBD, read-only, to whoever gets the URI that is printed
    Serve {
        /// Its id or name
        image: String,
        #[command(flatten)]
        life: Life,
    },
    /// Save an image's bytes, in the format it is kept in, to a local file
    Save {
        /// Its id or name
        image: String,
        /// The file to write
        file: PathBuf,
        /// Replace a file that is there
        #[arg(long)]
        force: bool,
    },
    /// Show the progress of an image's job until it ends
    Watch {
        /// Its id or name
        image: String,
    },
    /// Show what is inside an image: partitions, file systems, operating system
    Inspect {
        /// Its id or name
        image: String,
    },
    /// Tell what keeps an image from starting elsewhere, from being a cloud's server, or from being shared
    Check {
        /// Its id or name
        image: String,
    },
    /// Show what was found inside an image when it was made, what prepare changed, and what is left to do
    Report {
        /// Its id or name
        image: String,
    },
    /// Repair the guest in an image that is there, and show what was changed; its old bytes are kept beside it
    Prepare(Prepare),
    /// Give an image back the bytes that it had before it was prepared; none is copied
    UndoPrepare {
        /// Its id or name
        image: String,
    },
}

/// Where an image goes, and as what kind of file.
#[derive(Debug, Args)]
pub struct Export {
    /// Its id or name
    image: String,
    /// Where to: BUCKET/KEY
    to: String,
    /// The file's format: raw, qcow2, vhd, vhdx, vdi, vmdk, ova or luks
    #[arg(long, default_value = "qcow2")]
    format: String,
    /// What is chosen about the file, such as compression=zstd; may be repeated, or separated by commas
    #[arg(short = 'o', long = "option", value_name = "KEY=VALUE", value_delimiter = ',', value_parser = pair)]
    options: Vec<(String, String)>,
    /// A file that holds the passphrase of the new file, where that is encrypted
    #[arg(long, value_name = "FILE")]
    new_passphrase_file: Option<PathBuf>,
    /// Replace an object that is there
    #[arg(long)]
    overwrite: bool,
    /// Wait until it is written
    #[arg(long)]
    wait: bool,
}

/// What is repaired in an image that is there.
#[derive(Debug, Args)]
pub struct Prepare {
    /// Its id or name
    image: String,
    /// Only show what would be changed, file by file
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Repair these findings alone (see `molde guest findings`)
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    repair_only: Vec<String>,
    /// Leave these findings
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    repair_skip: Vec<String>,
    /// Repair these too, which are repaired on request because something is lost by it
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    repair_with: Vec<String>,
}

/// What a new image is made from and called.
#[derive(Debug, Args)]
pub struct Create {
    /// What to call it
    name: String,
    /// Make it from this object: BUCKET/KEY
    #[arg(long, value_name = "BUCKET/KEY", required_unless_present = "file", conflicts_with = "file")]
    from: Option<String>,
    /// Upload this local file and keep it as it is; what your project has already is not sent
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// The file's format, or that of the file in it where it is compressed; found out where it is not told
    #[arg(long)]
    format: Option<String>,
    /// Which disk of an appliance (OVA) of several
    #[arg(long, value_name = "NAME", conflicts_with = "file")]
    member: Option<String>,
    /// A file that holds the passphrase of an encrypted disk; a line break at its end is left out
    #[arg(long, value_name = "FILE", conflicts_with = "file")]
    passphrase_file: Option<PathBuf>,
    /// Leave the guest inside as it is; what keeps it from starting in a cloud is repaired otherwise
    #[arg(long, conflicts_with_all = ["file", "repair_only", "repair_skip", "repair_with"])]
    no_prepare: bool,
    /// Repair these findings alone (see `molde guest findings`)
    #[arg(long, value_name = "ID", value_delimiter = ',', conflicts_with = "file")]
    repair_only: Vec<String>,
    /// Leave these findings
    #[arg(long, value_name = "ID", value_delimiter = ',', conflicts_with = "file")]
    repair_skip: Vec<String>,
    /// Repair these too, which are repaired on request because something is lost by it
    #[arg(long, value_name = "ID", value_delimiter = ',', conflicts_with = "file")]
    repair_with: Vec<String>,
    /// Who sees it: private, shared, community or public
    #[arg(long, default_value = "private")]
    visibility: String,
    /// Tag; may be repeated
    #[arg(long = "tag")]
    tags: Vec<String>,
    /// Property; may be repeated
    #[arg(long = "property", value_name = "NAME=VALUE", value_parser = pair)]
    properties: Vec<(String, String)>,
    /// Smallest root disk of its servers, in GiB
    #[arg(long, default_value_t = 0)]
    min_disk: u32,
    /// Smallest memory of its servers, in MiB
    #[arg(long, default_value_t = 0)]
    min_ram: u32,
    /// Refuse deletion
    #[arg(long)]
    protected: bool,
    /// Wait until it is Normal
    #[arg(long)]
    wait: bool,
}

/// What to change.
#[derive(Debug, Args)]
pub struct Set {
    /// Its id or name
    image: String,
    /// What to call it
    #[arg(long)]
    name: Option<String>,
    /// Who sees it: private, shared, community or public
    #[arg(long)]
    visibility: Option<String>,
    /// Property to set; may be repeated
    #[arg(long = "property", value_name = "NAME=VALUE", value_parser = pair)]
    properties: Vec<(String, String)>,
    /// Property to remove; may be repeated
    #[arg(long = "remove-property", value_name = "NAME")]
    remove_properties: Vec<String>,
    /// Tag to add; may be repeated
    #[arg(long = "tag")]
    tags: Vec<String>,
    /// Smallest root disk of its servers, in GiB
    #[arg(long)]
    min_disk: Option<u32>,
    /// Smallest memory of its servers, in MiB
    #[arg(long)]
    min_ram: Option<u32>,
    /// Refuse deletion
    #[arg(long, conflicts_with = "unprotected")]
    protected: bool,
    /// Allow deletion
    #[arg(long)]
    unprotected: bool,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

impl Image {
    pub(crate) async fn run(self, client: &Client, output: Output) -> Result<()> {
        match self {
            Self::Create(create) => match (create.from.clone(), create.file.clone()) {
                (Some(from), _) => create_from_object(client, output, create, &from).await,
                (None, Some(file)) => create_from_file(client, output, create, &file).await,
                (None, None) => {
                    Err(Failure::new("an image is made from something").with_hint("pass `--from` or `--file`"))
                }
            },
            Self::List { name } => output.list(&list(client, name.as_deref()).await?.into(), COLUMNS),
            Self::Show { image } => output.show(&find(client, &image).await?),
            Self::Set(set) => change(client, output, set).await,
            Self::Delete { images } => {
                for image in images {
                    let id = id(&find(client, &image).await?);
                    client.delete(&format!("/v2/images/{id}")).await?;
                    output.done(&format!("image {id} is gone"), &json!({"id": id}))?;
                }
                Ok(())
            }
            Self::Export(asked) => export(client, output, asked).await,
            Self::Serve { image, life } => {
                let id = id(&find(client, &image).await?);
                serve(client, output, json!({"image": id}), &life).await
            }
            Self::Save { image, file, force } => {
                let id = id(&find(client, &image).await?);
                let answer = send(client.request(Method::GET, &format!("/v2/images/{id}/file")).await?).await?;
                let length = download(answer, &file, force, &image).await?;
                output.done(&format!("`{}` has {length} bytes", file.display()), &json!({"file": file, "size": length}))
            }
            Self::Watch { image } => {
                let found = find(client, &image).await?;
                watch(client, &id(&found)).await?;
                output.show(&get(client, &id(&found)).await?)
            }
            Self::Inspect { image } => {
                let id = id(&find(client, &image).await?);
                let found = client.get(&format!("/molde/v1/images/{id}/inspect")).await?;
                report::print(output, &found)
            }
            Self::Check { image } => {
                let id = id(&find(client, &image).await?);
                findings::print_checked(output, &client.get(&format!("/molde/v1/images/{id}/check")).await?)
            }
            Self::Report { image } => {
                let id = id(&find(client, &image).await?);
                findings::print_kept(output, &client.get(&format!("/molde/v1/images/{id}/report")).await?)
            }
            Self::Prepare(asked) => prepare(client, output, asked).await,
            Self::UndoPrepare { image } => {
                let id = id(&find(client, &image).await?);
                let undone =
                    client.send(Method::POST, &format!("/molde/v1/images/{id}/undo-prepare"), &json!({})).await?;
                output.done(&format!("image {id} is as it was before it was prepared"), &undone)
            }
        }
    }
}

async fn export(client: &Client, output: Output, asked: Export) -> Result<()> {
    let passphrase = passphrase::read_text(asked.new_passphrase_file.as_deref())?;
    let id = id(&find(client, &asked.image).await?);
    let (bucket, key) = split(&asked.to)?;
    let body = json!({
        "bucket": bucket, "key": key, "format": asked.format, "options": map(asked.options),
        "passphrase": passphrase.as_deref(), "overwrite": asked.overwrite,
    });
    let answer = client.send(Method::POST, &format!("/molde/v1/images/{id}/export"), &body).await?;
    let (job, to) = (answer["job"]["id"].as_str().unwrap_or_default(), &asked.to);
    if asked.wait {
        wait(client, job, "export").await?;
        return output.done(&format!("`{to}` is written"), &json!({"bucket": bucket, "key": key}));
    }
    told_job(output, &format!("job {job} writes `{to}`; `molde job watch {job}` tells how far it is"), &answer)
}

async fn prepare(client: &Client, output: Output, asked: Prepare) -> Result<()> {
    let path = format!("/molde/v1/images/{}", id(&find(client, &asked.image).await?));
    let choice = [("only", asked.repair_only), ("skip", asked.repair_skip), ("with", asked.repair_with)];
    if asked.dry_run {
        let query: Vec<String> =
            choice.iter().map(|(name, findings)| format!("{name}={}", escape(&findings.join(",")))).collect();
        let found = client.get(&format!("{path}/check?{}", query.join("&"))).await?;
        return findings::print_planned(output, &found);
    }
    let answer = client.send(Method::POST, &format!("{path}/prepare"), &json!(BTreeMap::from(choice))).await?;
    wait(client, answer["job"]["id"].as_str().unwrap_or_default(), "prepare").await?;
    findings::print_kept(output, &client.get(&format!("{path}/report")).await?)
}

async fn create_from_object(client: &Client, output: Output, create: Create, from: &str) -> Result<()> {
    let passphrase = passphrase::read_text(create.passphrase_file.as_deref())?;
    let (bucket, key) = split(from)?;
    let prepare = if create.no_prepare {
        json!(false)
    } else {
        json!({"only": create.repair_only, "skip": create.repair_skip, "with": create.repair_with})
    };
    let body = json!({
        "name": create.name, "from": {"bucket": bucket, "key": key}, "format": create.format, "visibility": create.visibility,
        "tags": create.tags, "properties": map(create.properties), "min_disk": create.min_disk, "min_ram": create.min_ram,
        "protected": create.protected, "member": create.member, "passphrase": passphrase.as_deref(), "prepare": prepare,
    });
    let answer = client.send(Method::POST, "/molde/v1/images", &body).await?;
    let id = id(&answer["image"]);
    if create.wait {
        wait(client, answer["job"]["id"].as_str().unwrap_or_default(), "image").await?;
        return output.show(&get(client, &id).await?);
    }
    told_job(output, &format!("image {id} is Creating; `molde image watch {id}` tells how far it is"), &answer)
}

async fn create_from_file(client: &Client, output: Output, create: Create, file: &Path) -> Result<()> {
    let format = match create.format {
        Some(format) => format,
        None => detect(file)?.to_string(),
    };
    let mut body = map(create.properties);
    for (name, value) in [
        ("name", json!(create.name)),
        ("disk_format", json!(format)),
        ("container_format", json!("bare")),
        ("visibility", json!(create.visibility)),
        ("tags", json!(create.tags)),
        ("min_disk", json!(create.min_disk)),
        ("min_ram", json!(create.min_ram)),
        ("protected", json!(create.protected)),
    ] {
        body.insert(name.into(), value);
    }
    output.show(&publish(client, body, file).await?)
}

/// Makes an image of the attributes in `body` and sends it a file as its bytes; where these are refused, no image is left.
pub(crate) async fn publish(client: &Client, body: Map<String, Value>, file: &Path) -> Result<Value> {
    let length = std::fs::metadata(file)
        .map_err(|error| Failure::new(format!("cannot read `{}`", file.display())).caused_by(&error))?
        .len();
    let bar = progress::bytes(body.get("name").and_then(Value::as_str).unwrap_or_default(), length);
    let id = id(&client.send(Method::POST, "/v2/images", &Value::Object(body)).await?);
    let sent = send_file(client, &id, file, length, &bar).await;
    bar.finish_and_clear();
    if let Err(failure) = sent {
        // An image whose bytes were refused is of no use to the person who typed one command.
        let _ = client.delete(&format!("/v2/images/{id}")).await;
        return Err(failure);
    }
    get(client, &id).await
}

/// Sends a file as the bytes of an image; as chunks where that may save anything and the server takes them.
async fn send_file(client: &Client, id: &str, file: &Path, length: u64, bar: &ProgressBar) -> Result<()> {
    if length > transfer::WHOLE_MAX
        && let Some(transfer) = Transfer::open(client).await?
    {
        let origin = FileOrigin::open(file)?;
        let (planned, origin): (_, Arc<dyn Origin>) = (origin.clone(), Arc::new(origin));
        let groups = || planned.groups(transfer.chunk_size(), transfer::GROUP);
        return transfer.put_image(id, &origin, groups, |done| bar.set_position(done)).await.map(drop);
    }
    let opened = File::open(file).await?;
    let told = bar.clone();
    let bytes = ReaderStream::with_capacity(opened, READ).inspect_ok(move |piece| told.inc(piece.len() as u64));
    let request = client.request(Method::PUT, &format!("/v2/images/{id}/file")).await?;
    let request = request.header(CONTENT_TYPE, "application/octet-stream").header(CONTENT_LENGTH, length);
    send(request.body(Body::wrap_stream(bytes))).await.map(drop)
}

/// Finds out the format of a local file. One in no known format must at least look like a disk, so that a text file
/// does not become an image.
pub(crate) fn detect(file: &Path) -> Result<Format> {
    let source: Arc<dyn Source> = Arc::new(FileSource::open(file)?);
    let format = disk::probe(&source)?;
    if format == Format::Raw {
        let found = guest_file::sandbox()
            .inspect(source)
            .map_err(|error| Failure::new(format!("cannot look inside `{}`", file.display())).caused_by(&error))?;
        if found.partition_table.is_none() && found.filesystems.is_empty() {
            let message =
                format!("`{}` is in no known disk format, and has no partition table or file system", file.display());
            return Err(Failure::new(message).with_hint("if it really is the bytes of a disk, pass `--format raw`"));
        }
    }
    Ok(format)
}

async fn change(client: &Client, output: Output, set: Set) -> Result<()> {
    let image = find(client, &set.image).await?;
    let mut operations = Vec::new();
    let mut put = |name: &str, value: Value| {
        let verb = if image.get(name).is_some() { "replace" } else { "add" };
        operations.push(json!({"op": verb, "path": pointer(name), "value": value}));
    };
    if let Some(name) = set.name {
        put("name", json!(name));
    }
    if let Some(visibility) = set.visibility {
        put("visibility", json!(visibility));
    }
    if let Some(gib) = set.min_disk {
        put("min_disk", json!(gib));
    }
    if let Some(mib) = set.min_ram {
        put("min_ram", json!(mib));
    }
    if set.protected || set.unprotected {
        put("protected", json!(set.protected));
    }
    if !set.tags.is_empty() {
        let mut tags: Vec<_> = image["tags"].as_array().cloned().unwrap_or_default();
        tags.extend(
            set.tags
                .into_iter()
                .map(Value::from)
                .filter(|tag| !image["tags"].as_array().is_some_and(|tags| tags.contains(tag))),
        );
        put("tags", json!(tags));
    }
    for (name, value) in set.properties {
        put(&name, json!(value));
    }
    for name in set.remove_properties {
        operations.push(json!({"op": "remove", "path": pointer(&name)}));
    }
    if operations.is_empty() {
        return Err(Failure::new("nothing to change was named").with_hint("see `molde image set --help`"));
    }
    let id = id(&image);
    let changed = client.send_as(Method::PATCH, &format!("/v2/images/{id}"), PATCH, &json!(operations)).await?;
    output.show(&changed)
}

/// Follows the job of an image that is Creating or prepared; an image that is made already is fine.
async fn watch(client: &Client, id: &str) -> Result<()> {
    let jobs = client.get("/molde/v1/jobs?limit=1000").await?;
    let kinds = ["create_image", "upload_image", "prepare_image"];
    let making = |job: &&Value| job["image"] == id && job["kind"].as_str().is_some_and(|kind| kinds.contains(&kind));
    match jobs["jobs"].as_array().into_iter().flatten().find(making) {
        Some(job) => wait(client, job["id"].as_str().unwrap_or_default(), "image").await.map(drop),
        None => Ok(()),
    }
}

async fn list(client: &Client, name: Option<&str>) -> Result<Vec<Value>> {
    list_by(client, &name.map(|name| format!("&name={}", escape(name))).unwrap_or_default()).await
}

/// Lists the images that match the filters in `query`, each after an `&`.
pub(crate) async fn list_by(client: &Client, query: &str) -> Result<Vec<Value>> {
    let mut next = format!("/v2/images?limit=1000{query}");
    let mut images = Vec::new();
    loop {
        let mut page = client.get(&next).await?;
        if let Value::Array(more) = page["images"].take() {
            images.extend(more);
        }
        match page["next"].as_str() {
            Some(more) => next = more.to_owned(),
            None => return Ok(images),
        }
    }
}

pub(crate) async fn get(client: &Client, id: &str) -> Result<Value> {
    client.get(&format!("/v2/images/{}", escape(id))).await
}

/// Finds an image by id, or by a name that only one has.
pub(crate) async fn find(client: &Client, image: &str) -> Result<Value> {
    let looks_like_id = image.len() == 36 && image.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    if looks_like_id {
        return get(client, image).await;
    }
    let mut found = list(client, Some(image)).await?;
    match found.len() {
        1 => Ok(found.swap_remove(0)),
        0 => {
            Err(Failure::new(format!("no image `{}`", plain(image)))
                .with_hint("`molde image list` shows what there is"))
        }
        _ => Err(Failure::new(format!("several images are named `{}`", plain(image))).with_hint("name it by its id")),
    }
}

pub(crate) fn id(image: &Value) -> String {
    image["id"].as_str().unwrap_or_default().to_owned()
}

fn map(pairs: Vec<(String, String)>) -> Map<String, Value> {
    pairs.into_iter().map(|(name, value)| (name, Value::from(value))).collect()
}

/// A JSON pointer to a top-level field (RFC 6901).
fn pointer(name: &str) -> String {
    format!("/{}", name.replace('~', "~0").replace('/', "~1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_and_pointers() {
        assert_eq!(pair("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert!(pair("a").is_err());
        assert_eq!(pointer("a/b~c"), "/a~1b~0c");
    }
}
