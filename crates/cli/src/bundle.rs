//! `molde store bundle` and `unbundle`: an image as one file, for places that no network reaches.

mod fetch;
mod file;

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use model::ImageId;
use reqwest::Method;
use serde_json::{Map, Value, json};

use self::fetch::Counted;
use self::file::{BundleFile, BundleWriter};
use crate::client::Client;
use crate::error::{Failure, Result};
use crate::image::{find, get, id};
use crate::output::{Output, plain};
use crate::progress;
use crate::transfer::{self, Origin, Transfer};

pub(crate) const BUNDLE_HELP: &str = "\
A BUNDLE IS NOT ENCRYPTED: whoever gets the file can read the whole disk, as with any copy of it. Carry it accordingly,
and encrypt it with another tool where that is not enough. The file is made so that only its owner can read it.

With `--since BASE` the file holds only what BASE does not have, and where that has the rest; `molde store unbundle --base`
needs the same bytes there. Make the next bundle since the last image that was carried over.";
pub(crate) const UNBUNDLE_HELP: &str = "\
The file is checked as a whole before anything is sent. What the project has already is not sent, and what arrived before an
interruption is not sent twice: run the same command again.";

/// What the bundle says that is not about bytes, and what its image is made with.
const FIELDS: [&str; 6] = ["name", "disk_format", "container_format", "min_disk", "min_ram", "tags"];
/// Fields of an image that belong to its record on one server; all others are properties.
const OWN: [&str; 17] = [
    "id",
    "status",
    "visibility",
    "protected",
    "os_hidden",
    "owner",
    "size",
    "virtual_size",
    "checksum",
    "os_hash_algo",
    "os_hash_value",
    "created_at",
    "updated_at",
    "self",
    "file",
    "schema",
    "stores",
];

/// What goes into a bundle, and where that goes.
#[derive(Debug, Args)]
pub struct Bundle {
    /// The image, by its id or name
    image: String,
    /// An image that is there already where the bundle goes: only what it does not have is written
    #[arg(long, value_name = "BASE")]
    since: Option<String>,
    /// The file to write; `-` writes to standard output
    #[arg(short = 'o', long = "out", value_name = "FILE")]
    file: PathBuf,
    /// Replace a file that is there
    #[arg(long)]
    force: bool,
}

/// Which bundle, and what its image is to be.
#[derive(Debug, Args)]
pub struct Unbundle {
    /// The bundle
    file: PathBuf,
    /// The image here that has the bytes of the one named by `bundle --since`
    #[arg(long, value_name = "IMAGE")]
    base: Option<String>,
    /// What to call the new image, where that is not to be its old name
    #[arg(long)]
    name: Option<String>,
    /// Who sees it: private, shared, community or public
    #[arg(long, default_value = "private")]
    visibility: String,
}

impl Bundle {
    pub(crate) async fn run(self, client: &Client, output: Output) -> Result<()> {
        let image = find(client, &self.image).await?;
        let base = match &self.since {
            Some(base) => Some(find(client, base).await?),
            None => None,
        };
        let waiting = |image: &&Value| image["status"] != "active";
        if let Some(waiting) = std::iter::once(&image).chain(&base).find(waiting) {
            let name = plain(waiting["name"].as_str().unwrap_or(&id(waiting)));
            return Err(Failure::new(format!("image `{name}` has no bytes yet")).with_hint("wait until it is active"));
        }
        if self.file == Path::new("-") {
            return write(client, &image, base.as_ref(), io::stdout().lock()).await.map(drop);
        }
        let (size, counted) = self.to_file(client, &image, base.as_ref()).await?;
        let (file, Counted { data, base }) = (self.file.display(), counted);
        let text = format!("`{file}` has {size} bytes: {data} chunks of data, {base} that the base has; NOT encrypted");
        output.done(&text, &json!({"file": self.file, "size": size, "data_chunks": data, "base_chunks": base}))
    }

    /// Writes a file beside its place first, so that a broken one never looks whole.
    async fn to_file(&self, client: &Client, image: &Value, base: Option<&Value>) -> Result<(u64, Counted)> {
        let path = &self.file;
        let cannot = |error: io::Error| Failure::new(format!("cannot write `{}`", path.display())).caused_by(&error);
        if !self.force && path.exists() {
            return Err(Failure::new(format!("`{}` is there already", path.display()))
                .with_hint("pass `--force` to replace it"));
        }
        let name = path.file_name().ok_or_else(|| Failure::new(format!("`{}` is no file name", path.display())))?;
        let part = path.with_file_name(format!(".{}.part", name.to_string_lossy()));
        let file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&part).map_err(cannot)?;
        let written = match write(client, image, base, &file).await {
            Ok(counted) => {
                let made = file.sync_all().and_then(|()| fs::rename(&part, path)).and_then(|()| file.metadata());
                made.map(|metadata| (metadata.len(), counted)).map_err(cannot)
            }
            Err(failure) => Err(failure),
        };
        if written.is_err() {
            // The failure that is told is the first one.
            let _ = fs::remove_file(&part);
        }
        written
    }
}

/// Writes a bundle of an image, whose bytes never change.
async fn write(client: &Client, image: &Value, base: Option<&Value>, out: impl Write) -> Result<Counted> {
    let known = match base {
        Some(base) if base["owner"] != image["owner"] => {
            return Err(Failure::new("the image and its base belong to different projects, which share no chunks")
                .with_hint("make the bundle without `--since`"));
        }
        Some(base) => fetch::numbers(client, &id(base)).await?,
        None => fetch::Numbers::new(),
    };
    let fields = image.as_object().into_iter().flatten();
    let properties: Map<String, Value> = fields
        .filter(|(name, value)| value.is_string() && !OWN.contains(&name.as_str()) && !FIELDS.contains(&name.as_str()))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let mut about: Map<String, Value> = FIELDS.iter().map(|name| ((*name).to_owned(), image[*name].clone())).collect();
    about.insert("size".into(), image["size"].clone());
    about.insert("sha512".into(), sha512(image).into());
    about.insert("properties".into(), properties.into());
    about.insert(
        "base".into(),
        base.map_or(Value::Null, |base| json!({"id": base["id"], "name": base["name"], "size": base["size"]})),
    );
    let chunk_size = fetch::page(client, &id(image), 0, 1).await?.chunk_size;
    let mut writer = BundleWriter::begin(out, chunk_size, &Value::Object(about))?;
    let bar = progress::bytes(image["name"].as_str().unwrap_or_default(), image["size"].as_u64().unwrap_or(0));
    let counted = fetch::copy(client, &id(image), &known, &mut writer, &bar).await?;
    writer.finish()?;
    bar.finish_and_clear();
    Ok(counted)
}

/// Returns the SHA-512 that the server made of an image's bytes, if it did.
fn sha512(image: &Value) -> Option<&str> {
    image["os_hash_value"].as_str().filter(|_| image["os_hash_algo"] == "sha512")
}

impl Unbundle {
    pub(crate) async fn run(self, client: &Client, output: Output) -> Result<()> {
        let bundle = Arc::new(BundleFile::open(&self.file)?);
        let transfer = Transfer::open(client).await?.ok_or_else(|| {
            Failure::new("the server is too old to take chunks").with_hint("install the release of this command there")
        })?;
        if transfer.chunk_size() != bundle.chunk_size {
            let (here, there) = (transfer.chunk_size(), bundle.chunk_size);
            return Err(Failure::new(format!(
                "the bundle is cut into chunks of {there} bytes, the server's have {here}"
            ))
            .with_hint("save the image to a file instead, and upload that"));
        }
        let base = self.base_of(client, &bundle.about["base"]).await?;
        let id = id(&client.send(Method::POST, "/v2/images", &self.body(&bundle.about)).await?);
        let made = fill(client, &transfer, &id, &bundle, base).await;
        if made.is_err() {
            // An image without its bytes is of no use to the person who typed one command.
            let _ = client.delete(&format!("/v2/images/{id}")).await;
        }
        output.show(&made?)
    }

    /// Returns the id of the image that chunks are to be copied from.
    async fn base_of(&self, client: &Client, needed: &Value) -> Result<Option<[u8; 16]>> {
        let described = |base: &Value| {
            let text = |name: &str| plain(base[name].as_str().unwrap_or("?"));
            format!("`{}` (there {}, {} bytes)", text("name"), text("id"), base["size"])
        };
        match (&self.base, needed) {
            (None, Value::Null) => Ok(None),
            (Some(_), Value::Null) => {
                Err(Failure::new("the bundle is whole and needs no base").with_hint("leave `--base` out"))
            }
            (None, base) => Err(Failure::new(format!("the bundle holds only what {} does not have", described(base)))
                .with_hint("name the image here that has the same bytes with `--base`")),
            (Some(name), base) => {
                let found = find(client, name).await?;
                if found["size"] != base["size"] {
                    let message = format!(
                        "image `{}` has {} bytes, so it is not the base of the bundle, {}",
                        plain(name),
                        found["size"],
                        described(base)
                    );
                    return Err(Failure::new(message).with_hint("name the image here that has the same bytes"));
                }
                let id: ImageId =
                    id(&found).parse().map_err(|error| Failure::new("the server gave no id").caused_by(&error))?;
                Ok(Some(id.uuid().into_bytes()))
            }
        }
    }

    /// Returns what the record of the image is made with.
    fn body(&self, about: &Value) -> Value {
        let mut body = about["properties"].as_object().cloned().unwrap_or_default();
        for name in FIELDS {
            body.insert(name.to_owned(), about[name].clone());
        }
        if let Some(name) = &self.name {
            body.insert("name".into(), json!(name));
        }
        body.insert("visibility".into(), json!(self.visibility));
        Value::Object(body)
    }
}

/// Sends the bytes of a new image, and returns its record.
async fn fill(
    client: &Client,
    transfer: &Transfer<'_>,
    id: &str,
    bundle: &Arc<BundleFile>,
    base: Option<[u8; 16]>,
) -> Result<Value> {
    let origin: Arc<dyn Origin> = Arc::<BundleFile>::clone(bundle);
    let bar = progress::bytes(bundle.about["name"].as_str().unwrap_or_default(), bundle.size);
    let groups = || BundleFile::groups(bundle, base, transfer::GROUP);
    let sent = transfer.put_image(id, &origin, groups, |done| bar.set_position(done)).await;
    bar.finish_and_clear();
    sent?;
    let image = get(client, id).await?;
    let (made, told) = (sha512(&image), bundle.about["sha512"].as_str());
    if image["size"] != bundle.size || made.zip(told).is_some_and(|(made, told)| made != told) {
        return Err(Failure::new("the image that was made is not the one that went into the bundle")
            .with_hint("make the bundle again"));
    }
    Ok(image)
}
