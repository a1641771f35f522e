//! Images that were added: what their properties say of where they came from, and which of several is the newest.
//!
//! Only images of the own project count: anybody may give an image of theirs any property.

use std::collections::BTreeMap;

use distributions::{Known, Proof, Release, Wanted};
use jiff::Timestamp;
use reqwest::Method;
use serde_json::{Map, Value, json};

use crate::client::Client;
use crate::error::Result;
use crate::identity;
use crate::image::{self, PATCH};
use crate::job::escape;

/// By this tag the images are found.
const TAG: &str = "catalog";

/// Which images replace each other.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Line {
    pub(super) family: String,
    pub(super) version: String,
    pub(super) arch: String,
}

/// An image that was added.
#[derive(Debug, Clone)]
pub(super) struct Published(pub(super) Value);

impl Line {
    pub(super) fn of(wanted: Wanted<'_>) -> Self {
        let Wanted { distribution, version, arch } = wanted;
        Self { family: distribution.name.clone(), version: version.version.clone(), arch: arch.to_owned() }
    }

    /// What its images are called where nobody says otherwise.
    pub(super) fn name(&self) -> String {
        format!("{}-{}-{}", self.family, self.version, self.arch)
    }
}

impl Published {
    fn text(&self, name: &str) -> Option<&str> {
        self.0[name].as_str()
    }

    pub(super) fn id(&self) -> String {
        image::id(&self.0)
    }

    pub(super) fn name(&self) -> &str {
        self.text("name").unwrap_or_default()
    }

    pub(super) fn visibility(&self) -> &str {
        self.text("visibility").unwrap_or("private")
    }

    pub(super) fn is_hidden(&self) -> bool {
        self.0["os_hidden"] == true
    }

    pub(super) fn is_protected(&self) -> bool {
        self.0["protected"] == true
    }

    /// What a person knows a build by.
    pub(super) fn build(&self) -> &str {
        self.text("catalog_serial")
            .or_else(|| self.text("catalog_dated"))
            .or_else(|| self.text("created_at"))
            .unwrap_or("")
    }

    /// What newer images are compared with.
    pub(super) fn known(&self) -> Known {
        Known {
            serial: self.text("catalog_serial").map(str::to_owned),
            dated: self.text("catalog_dated").and_then(|at| at.parse().ok()),
            checksum: self.text("catalog_checksum").and_then(|sum| sum.parse().ok()),
        }
    }

    fn line(&self) -> Option<Line> {
        let text = |name| self.text(name).map(str::to_owned);
        Some(Line { family: text("catalog_family")?, version: text("catalog_version")?, arch: text("architecture")? })
    }
}

/// Returns every image of the project that was added and has its bytes, the newest of each line first.
pub(super) async fn all(client: &Client) -> Result<BTreeMap<Line, Vec<Published>>> {
    let project = match &client.project {
        Some(name) => identity::find(client, "project", name).await?,
        None => client.credentials.project_id.clone(),
    };
    let query = format!("&tag={TAG}&status=active&owner={}", escape(&project));
    let mut images = image::list_by(client, &query).await?;
    images.extend(image::list_by(client, &format!("{query}&os_hidden=true")).await?);
    let mut lines: BTreeMap<Line, Vec<Published>> = BTreeMap::new();
    for image in images.into_iter().map(Published) {
        if let Some(line) = image.line() {
            lines.entry(line).or_default().push(image);
        }
    }
    for images in lines.values_mut() {
        // Those that are shown come before those that were hidden, which something newer took the place of.
        let order = |image: &Published| {
            let made = image.text("created_at").unwrap_or_default().to_owned();
            (!image.is_hidden(), image.known().dated, made)
        };
        images.sort_by_key(|image| std::cmp::Reverse(order(image)));
    }
    Ok(lines)
}

/// The attributes of a new image.
pub(super) fn attributes(wanted: Wanted<'_>, release: &Release, name: &str, visibility: &str) -> Map<String, Value> {
    let Wanted { distribution, version, arch } = wanted;
    let verified = match &release.proof {
        Proof::OpenPgp(fingerprint) => format!("OpenPGP {fingerprint}"),
        Proof::Tls => "TLS".to_owned(),
    };
    let optional = [
        ("catalog_serial", release.serial.clone()),
        ("catalog_dated", release.dated.map(|at| at.to_string())),
        ("catalog_end_of_life", release.end_of_life.map(|day| day.to_string())),
    ];
    let mut body = Map::new();
    for (name, value) in [
        ("name", json!(name)),
        ("container_format", json!("bare")),
        ("visibility", json!(visibility)),
        ("tags", json!([TAG])),
        ("os_distro", json!(distribution.os_distro)),
        ("os_version", json!(version.version)),
        ("architecture", json!(arch)),
        ("catalog_family", json!(distribution.name)),
        ("catalog_version", json!(version.version)),
        ("catalog_source", json!(release.source)),
        ("catalog_checksum", json!(release.checksum.to_string())),
        ("catalog_verified", json!(verified)),
    ] {
        body.insert(name.to_owned(), value);
    }
    body.extend(optional.into_iter().filter_map(|(name, value)| Some((name.to_owned(), json!(value?)))));
    body
}

/// Hides the images that a newer one took the place of, and tells in each which that is; returns their ids.
pub(super) async fn hide(client: &Client, newest: &str, older: &[Published]) -> Result<Vec<String>> {
    let mut hidden = Vec::new();
    for image in older.iter().filter(|image| !image.is_hidden() && image.id() != newest) {
        let operations = json!([
            {"op": "replace", "path": "/os_hidden", "value": true},
            {"op": "add", "path": "/catalog_deprecated", "value": Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()},
            {"op": "add", "path": "/catalog_successor", "value": newest},
        ]);
        client.send_as(Method::PATCH, &format!("/v2/images/{}", image.id()), PATCH, &operations).await?;
        hidden.push(image.id());
    }
    Ok(hidden)
}
