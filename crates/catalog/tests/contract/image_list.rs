//! Promises of listing images.

use std::cmp::Ordering;

use catalog::images::{self, Comparison, Direction, ImageFilter, ImageSort};
use catalog::{Catalog, ErrorKind};
use model::images::{Image, ImageState, Visibility};
use model::{ContainerFormat, DiskFormat, ImageId, ProjectId};

use crate::fixture::{at, committed_project, project};
use crate::records::{bare_image, image};

/// Names whose order differs between bytes and every dictionary, with ties and absences.
const NAMES: &[Option<&str>] = &[
    Some("b"),
    Some("A"),
    None,
    Some(""),
    Some("a"),
    Some("É"),
    Some("e"),
    Some("Z"),
    Some("_"),
    Some("b"),
    Some("😀"),
    Some("\u{FFFD}"),
    Some("a b"),
];

fn many(project: ProjectId) -> Vec<Image> {
    let formats = [Some(DiskFormat::Raw), None, Some(DiskFormat::Vmdk)];
    (0..60_usize)
        .map(|n| Image {
            name: NAMES[n % NAMES.len()].map(str::to_owned),
            state: ImageState::ALL[n % 5],
            disk_format: formats[n % 3],
            container_format: [Some(ContainerFormat::Bare), None][n % 2],
            size: [None, Some(0), Some(10), Some(9)][n % 4],
            created_at: at(1000 - i64::try_from(n / 4).unwrap()),
            updated_at: at(i64::try_from(n % 7).unwrap()),
            tags: (0..n % 3).map(|tag| format!("t{tag}")).collect(),
            ..bare_image(project)
        })
        .collect()
}

async fn inserted(catalog: &Catalog, images: &[Image]) {
    let mut tx = catalog.write().await.unwrap();
    for image in images {
        images::insert(&mut tx, image).await.unwrap();
    }
    tx.commit().await.unwrap();
}

/// The order that both databases must have, said in Rust: bytes, absent first, id last.
fn compare(key: ImageSort, a: &Image, b: &Image) -> Ordering {
    match key {
        ImageSort::Name => a.name.as_deref().unwrap_or("").cmp(b.name.as_deref().unwrap_or("")),
        ImageSort::Status => a.state.as_str().cmp(b.state.as_str()),
        ImageSort::ContainerFormat => {
            a.container_format.map(ContainerFormat::as_str).cmp(&b.container_format.map(ContainerFormat::as_str))
        }
        ImageSort::DiskFormat => a.disk_format.map(DiskFormat::as_str).cmp(&b.disk_format.map(DiskFormat::as_str)),
        ImageSort::Size => a.size.cmp(&b.size),
        ImageSort::Id => a.id.to_string().cmp(&b.id.to_string()),
        ImageSort::CreatedAt => a.created_at.cmp(&b.created_at),
        ImageSort::UpdatedAt => a.updated_at.cmp(&b.updated_at),
    }
}

fn sorted(mut images: Vec<Image>, sort: &[(ImageSort, Direction)]) -> Vec<Image> {
    let last = sort.last().unwrap().1;
    images.sort_by(|a, b| {
        sort.iter().chain([&(ImageSort::Id, last)]).fold(Ordering::Equal, |order, &(key, direction)| {
            let by_key = compare(key, a, b);
            order.then(if direction == Direction::Ascending { by_key } else { by_key.reverse() })
        })
    });
    images
}

async fn visit(catalog: &Catalog, sort: Vec<(ImageSort, Direction)>, limit: u32) -> Vec<Image> {
    let mut filter = ImageFilter { sort, limit, ..ImageFilter::default() };
    let mut visited = Vec::new();
    loop {
        let mut tx = catalog.read().await.unwrap();
        let page = images::list(&mut tx, &filter).await.unwrap();
        let Some(last) = page.last() else { return visited };
        filter.marker = Some(last.id);
        visited.extend(page);
    }
}

pub(crate) async fn every_image_is_visited_once_in_every_order(catalog: Catalog) {
    let project = committed_project(&catalog).await.id;
    let all = many(project);
    inserted(&catalog, &all).await;
    for &key in ImageSort::ALL {
        for direction in [Direction::Ascending, Direction::Descending] {
            let sort = vec![(key, direction)];
            assert_eq!(visit(&catalog, sort.clone(), 7).await, sorted(all.clone(), &sort), "{sort:?}");
        }
    }
    for sort in [
        vec![(ImageSort::Name, Direction::Ascending), (ImageSort::Size, Direction::Descending)],
        vec![
            (ImageSort::Status, Direction::Descending),
            (ImageSort::DiskFormat, Direction::Ascending),
            (ImageSort::UpdatedAt, Direction::Descending),
        ],
    ] {
        for limit in [1, 13, 60, 1000] {
            assert_eq!(visit(&catalog, sort.clone(), limit).await, sorted(all.clone(), &sort), "{sort:?}");
        }
    }
    let newest = vec![(ImageSort::CreatedAt, Direction::Descending)];
    assert_eq!(visit(&catalog, Vec::new(), 9).await, sorted(all, &newest), "the default order");
}

async fn ids(catalog: &Catalog, filter: ImageFilter) -> Vec<ImageId> {
    let mut tx = catalog.read().await.unwrap();
    let mut ids: Vec<_> = images::list(&mut tx, &filter).await.unwrap().into_iter().map(|image| image.id).collect();
    ids.sort();
    ids
}

fn set(images: &[&Image]) -> Vec<ImageId> {
    let mut ids: Vec<_> = images.iter().map(|image| image.id).collect();
    ids.sort();
    ids
}

pub(crate) async fn who_sees_what(catalog: Catalog) {
    let mine = committed_project(&catalog).await;
    let mut tx = catalog.write().await.unwrap();
    let theirs = project(&mut tx, mine.domain, "theirs").await.id;
    tx.commit().await.unwrap();
    let made = |project, visibility| Image { visibility, ..bare_image(project) };
    let own: Vec<_> = Visibility::ALL.iter().map(|visibility| made(mine.id, *visibility)).collect();
    let other: Vec<_> = Visibility::ALL.iter().map(|visibility| made(theirs, *visibility)).collect();
    inserted(&catalog, &own).await;
    inserted(&catalog, &other).await;
    let [public, community, _, _] = &other[..] else { panic!() };
    let viewer = ImageFilter { viewer: Some(mine.id), ..ImageFilter::default() };

    let own: Vec<&Image> = own.iter().collect();
    assert_eq!(ids(&catalog, viewer.clone()).await, set(&[&own[..], &[public]].concat()));
    let asked = ImageFilter { visibility: Some(Visibility::Community), ..viewer.clone() };
    assert_eq!(ids(&catalog, asked).await, set(&[community, own[1]]));
    let private = ImageFilter { visibility: Some(Visibility::Private), ..viewer.clone() };
    assert_eq!(ids(&catalog, private).await, set(&[own[3]]));
    let owned_by_them = ImageFilter { owner: Some(theirs), ..viewer };
    assert_eq!(ids(&catalog, owned_by_them).await, set(&[public]));
    assert_eq!(ids(&catalog, ImageFilter::default()).await.len(), 8, "an administrator sees all");
}

pub(crate) async fn filters(catalog: Catalog) {
    let project = committed_project(&catalog).await.id;
    let full = image(project);
    let bare = Image { created_at: at(500), updated_at: at(500), ..bare_image(project) };
    let hidden =
        Image { hidden: true, size: Some(7), tags: ["a=b".to_owned(), "x".to_owned()].into(), ..bare_image(project) };
    inserted(&catalog, &[full.clone(), bare.clone(), hidden.clone()]).await;
    let none = ImageFilter::default;
    let text = |text: &str| vec![text.to_owned()];
    let pair = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
    let (only_full, only_bare) = (set(&[&full]), set(&[&bare]));
    let cases = [
        (none(), set(&[&full, &bare])),
        (ImageFilter { hidden: true, ..none() }, set(&[&hidden])),
        (ImageFilter { ids: vec![bare.id, hidden.id], ..none() }, only_bare.clone()),
        (ImageFilter { names: vec!["other".into(), "Debian 12".into()], ..none() }, only_full.clone()),
        (ImageFilter { names: text("debian 12"), ..none() }, vec![]),
        (ImageFilter { states: vec![ImageState::Active], ..none() }, vec![]),
        (ImageFilter { states: vec![ImageState::Active, ImageState::Queued], ..none() }, set(&[&full, &bare])),
        (ImageFilter { disk_formats: vec![DiskFormat::Qcow2, DiskFormat::Raw], ..none() }, only_full.clone()),
        (ImageFilter { container_formats: vec![ContainerFormat::Bare], ..none() }, only_full.clone()),
        (ImageFilter { protected: Some(true), ..none() }, only_full.clone()),
        (ImageFilter { protected: Some(false), ..none() }, only_bare.clone()),
        (ImageFilter { tags: text("a=b"), ..none() }, only_full.clone()),
        (ImageFilter { tags: vec!["a=b".into(), "línguas".into()], ..none() }, only_full.clone()),
        (ImageFilter { tags: vec!["a=b".into(), "x".into()], ..none() }, vec![]),
        (ImageFilter { tags: vec!["a=b".into(), "x".into()], hidden: true, ..none() }, set(&[&hidden])),
        (ImageFilter { properties: pair("__os_type", "Linux"), ..none() }, only_full.clone()),
        (ImageFilter { properties: pair("__os_type", "linux"), ..none() }, vec![]),
        (ImageFilter { properties: pair("empty", ""), ..none() }, only_full.clone()),
        (
            ImageFilter { properties: [pair("empty", ""), pair("__os_type", "Linux")].concat(), ..none() },
            only_full.clone(),
        ),
        (ImageFilter { properties: [pair("empty", ""), pair("empty", "x")].concat(), ..none() }, vec![]),
        (ImageFilter { size_min: Some(1 << 40), ..none() }, only_full.clone()),
        (ImageFilter { size_min: Some((1 << 40) + 1), ..none() }, vec![]),
        (ImageFilter { size_max: Some(u64::MAX), ..none() }, only_full.clone()),
        (ImageFilter { size_min: Some(u64::MAX), ..none() }, vec![]),
        (ImageFilter { size_max: Some(1), ..none() }, vec![]),
        (ImageFilter { created: vec![(Comparison::Less, at(500))], ..none() }, only_full.clone()),
        (ImageFilter { created: vec![(Comparison::LessOrEqual, at(100))], ..none() }, only_full.clone()),
        (ImageFilter { created: vec![(Comparison::Equal, at(500))], ..none() }, only_bare.clone()),
        (ImageFilter { updated: vec![(Comparison::NotEqual, at(500))], ..none() }, only_full.clone()),
        (ImageFilter { updated: vec![(Comparison::GreaterOrEqual, at(500))], ..none() }, only_bare.clone()),
        (
            ImageFilter { updated: vec![(Comparison::Greater, at(200)), (Comparison::Less, at(501))], ..none() },
            only_bare,
        ),
    ];
    for (filter, wanted) in cases {
        assert_eq!(ids(&catalog, filter.clone()).await, wanted, "{filter:?}");
    }
}

pub(crate) async fn hostile_values_are_only_values(catalog: Catalog) {
    let project = committed_project(&catalog).await.id;
    let hostile = "x'; DROP TABLE images; -- \" \\ % _ $1 ? :a";
    let named = Image {
        name: Some(hostile.into()),
        tags: [hostile.to_owned(), "'".to_owned()].into(),
        properties: [(hostile.to_owned(), hostile.to_owned())].into(),
        ..image(project)
    };
    inserted(&catalog, &[named.clone(), image(project)]).await;
    let own = hostile.to_owned();
    for filter in [
        ImageFilter { names: vec![own.clone()], ..ImageFilter::default() },
        ImageFilter { tags: vec![own.clone(), "'".into()], ..ImageFilter::default() },
        ImageFilter { properties: vec![(own.clone(), own)], ..ImageFilter::default() },
    ] {
        let mut tx = catalog.read().await.unwrap();
        assert_eq!(images::list(&mut tx, &filter).await.unwrap(), std::slice::from_ref(&named));
    }
    for pattern in ["%", "_%", "' OR '1'='1", "*"] {
        let filter = ImageFilter { names: vec![pattern.into()], ..ImageFilter::default() };
        assert_eq!(ids(&catalog, filter).await, []);
        let filter = ImageFilter { tags: vec![pattern.into()], ..ImageFilter::default() };
        assert_eq!(ids(&catalog, filter).await, []);
    }
}

pub(crate) async fn bounds(catalog: Catalog) {
    let project = committed_project(&catalog).await.id;
    let image = bare_image(project);
    inserted(&catalog, std::slice::from_ref(&image)).await;
    let mut tx = catalog.read().await.unwrap();
    let names = |count| (0..count).map(|n: u32| n.to_string()).collect::<Vec<_>>();
    let pairs = |count| names(count).into_iter().map(|n| (n.clone(), n)).collect::<Vec<_>>();
    let kind = |result: catalog::Result<Vec<Image>>| result.map_err(|error| error.kind());
    let most = ImageFilter { names: names(1000), tags: names(1000), properties: pairs(1000), ..ImageFilter::default() };
    assert_eq!(kind(images::list(&mut tx, &most).await), Ok(vec![]));
    let more = ImageFilter { names: names(1001), ..ImageFilter::default() };
    assert_eq!(kind(images::list(&mut tx, &more).await), Err(ErrorKind::Invalid));
    for length in [8, 9] {
        let deep = ImageFilter {
            sort: vec![(ImageSort::Name, Direction::Ascending); length],
            created: vec![(Comparison::NotEqual, at(1)); length],
            marker: Some(image.id),
            ..ImageFilter::default()
        };
        let wanted = if length == 8 { Ok(vec![]) } else { Err(ErrorKind::Invalid) };
        assert_eq!(kind(images::list(&mut tx, &deep).await), wanted);
    }
    let lost = ImageFilter { marker: Some(ImageId::new()), ..ImageFilter::default() };
    assert_eq!(kind(images::list(&mut tx, &lost).await), Err(ErrorKind::Missing));
    let nothing = ImageFilter { limit: 0, ..ImageFilter::default() };
    assert_eq!(kind(images::list(&mut tx, &nothing).await), Ok(vec![]));
    let everything = ImageFilter { limit: u32::MAX, ..ImageFilter::default() };
    assert_eq!(kind(images::list(&mut tx, &everything).await), Ok(vec![image]));
}
