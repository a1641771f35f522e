//! Renewing what was added: the newer one is published first, then the older ones are hidden, and nothing else is fetched.

use serde_json::{Value, json};
use tests::Molde;

use crate::site::{CLEAR, Site};

fn shown(molde: &Molde) -> Vec<String> {
    molde.images().iter().map(|image| image["id"].as_str().unwrap().to_owned()).collect()
}

fn id(image: &Value) -> String {
    image["id"].as_str().unwrap().to_owned()
}

#[test]
fn a_newer_image_takes_the_place_of_the_older() {
    let site = Site::new();
    let [first, second] = [30, 31].map(|seed| site.disk(seed));
    site.put_clear("1.1", &first, &[]);
    site.put_stream(&[("20240501", &first)], |_| {});
    let old = site.json(&["add", "clear", "--arch", "x86_64", "--name", "our clear", "--visibility", "private"]);
    let stream = site.add("stream");

    // Nothing is newer, so nothing but lists is fetched.
    drop(site.mirror.asked());
    for _ in 0..2 {
        let told = site.json(&["sync"]);
        let states: Vec<&Value> = told.as_array().unwrap().iter().map(|row| &row["state"]).collect();
        assert_eq!(states, ["newest", "newest"]);
        let asked = site.mirror.asked();
        assert!(asked.iter().all(|path| !path.ends_with(".qcow2") && !path.ends_with(".img")), "{asked:?}");
    }

    site.put_clear("1.2", &second, &[]);
    let list = site.json(&["list"]);
    let row = list.as_array().unwrap().iter().find(|row| row["name"] == "clear:44").unwrap();
    assert_eq!((&row["published"][0]["build"], &row["published"][0]["newer"]), (&json!("1.1"), &json!(true)));
    let told = site.json(&["sync"]);
    assert_eq!((&told[0]["state"], &told[0]["hidden"]), (&json!("published"), &json!([id(&old)])));
    let new = site.molde.cli_json(["image", "show", "our clear"]);
    assert_eq!((site.saved(&new), &new["visibility"]), (second, &json!("private")), "the name finds the newest");
    let old = site.molde.cli_json(["image", "show", &id(&old)]);
    assert_eq!((&old["os_hidden"], &old["catalog_successor"]), (&json!(true), &json!(id(&new))));
    assert!(old["catalog_deprecated"].as_str().is_some(), "{old}");
    let mut expected = vec![id(&new), id(&stream)];
    expected.sort();
    let mut there = shown(&site.molde);
    there.sort();
    assert_eq!(there, expected);
    drop(site.mirror.asked());
    assert_eq!(site.json(&["sync"])[0]["state"], "newest");
    assert!(site.mirror.asked().iter().all(|path| !path.ends_with(".qcow2")));
}

#[test]
fn so_many_older_ones_are_kept_as_was_said() {
    let site = Site::new();
    for build in 1..=4 {
        site.put_clear(&format!("1.{build}"), &site.disk(39 + build), &[]);
        site.add("clear");
    }
    let hidden = || match site.molde.get("/v2/images?os_hidden=true")["images"].take() {
        Value::Array(images) => {
            images.iter().map(|image| image["catalog_serial"].as_str().unwrap().to_owned()).collect()
        }
        _ => Vec::new(),
    };
    assert_eq!(hidden(), ["1.3", "1.2", "1.1"]);
    let protected = site.molde.get("/v2/images?os_hidden=true&catalog_serial=1.1");
    site.molde.cli(["image", "set", protected["images"][0]["id"].as_str().unwrap(), "--protected"]).ok();
    let told = site.json(&["sync", "--keep", "1"]);
    assert_eq!(told[0]["deleted"].as_array().unwrap().len(), 1);
    assert_eq!(hidden(), ["1.3", "1.1"], "a protected one stays");
}

#[test]
fn one_mirror_that_fails_keeps_no_other_from_being_renewed() {
    let site = Site::new();
    let [first, second] = [50, 51].map(|seed| site.disk(seed));
    site.put_clear("1.1", &first, &[]);
    site.put_stream(&[("20240501", &first)], |_| {});
    site.add("clear");
    site.add("stream");
    site.put_stream(&[("20240501", &first), ("20240601", &second)], |_| {});
    site.mirror.put(&format!("{CLEAR}/Clear-44-1.1-x86_64-CHECKSUM"), "not signed");
    let done = site.run(&["sync", "--output", "json"]);
    assert_eq!(done.code, Some(1), "{done}");
    assert!(done.stderr.contains("clear-44-x86_64: cannot use Clear 44 for x86_64"), "{done}");
    assert!(done.stderr.contains("error: 1 of 2 could not be renewed"), "{done}");
    let told: Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!((&told[0]["state"], &told[1]["state"]), (&json!("failed"), &json!("published")));
    assert_eq!(site.molde.images().len(), 2, "what was published stays");
}

#[test]
fn images_of_others_are_no_part_of_it() {
    let site = Site::new();
    site.put_clear("1.1", &site.disk(52), &[]);
    let image = site.add("clear");
    // The same words on an image in another project, which everybody sees.
    site.molde.cli(["project", "create", "other"]).ok();
    let user = site.molde.credentials()["username"].as_str().unwrap().to_owned();
    site.molde.cli(["user", "grant", &user, "other", "admin"]).ok();
    let raw = site.molde.file("disk-52.raw");
    let property = |name: &str, value: &str| format!("--property={name}={value}");
    let words = [
        "--project",
        "other",
        "image",
        "create",
        "clear-44-x86_64",
        "--file",
        raw.to_str().unwrap(),
        "--format",
        "raw",
        "--visibility",
        "public",
        "--tag",
        "catalog",
        &property("catalog_family", "clear"),
        &property("catalog_version", "44"),
        &property("architecture", "x86_64"),
        &property("catalog_serial", "99"),
    ];
    site.molde.cli(words).ok();
    let told = site.json(&["sync"]);
    assert_eq!(told.as_array().unwrap().len(), 1);
    assert_eq!((&told[0]["state"], &told[0]["image"]), (&json!("newest"), &image["id"]));
}
