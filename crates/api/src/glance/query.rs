//! The query of an image listing: filters, order, page, and the links to the first and the next one.

use std::str::FromStr;

use model::Timestamp;
use service::{Comparison, Direction, Error, ImageFilter, ImageSort};
use url::form_urlencoded;

const LIMIT_DEFAULT: u32 = 25;
const LIMIT_MAX: u32 = 1000;
const PATH: &str = "/v2/images";

/// A listing that a client asks for.
#[derive(Debug)]
pub(super) struct Listing {
    /// What to look for; `limit` is one more than the page, to see whether there is a next one.
    pub(super) filter: ImageFilter,
    /// Most images of the page.
    pub(super) limit: usize,
    /// A filter names a value that no image can have.
    pub(super) nothing: bool,
    /// Every parameter but the marker, as it came.
    kept: Vec<(String, String)>,
}

impl Listing {
    /// Parses the query of a request.
    pub(super) fn parse(query: &str) -> Result<Self, Error> {
        let mut listing = Self { filter: ImageFilter::default(), limit: 0, nothing: false, kept: Vec::new() };
        let mut sort = Sort::default();
        let mut limit = LIMIT_DEFAULT;
        for (name, value) in form_urlencoded::parse(query.as_bytes()).into_owned() {
            match name.as_str() {
                "limit" => limit = number::<u32>(&name, &value)?.min(LIMIT_MAX),
                "marker" => listing.filter.marker = Some(value.parse().map_err(|error| wrong(&name, error))?),
                "sort" => sort.pairs.push(value.clone()),
                "sort_key" => sort.keys.push(value.clone()),
                "sort_dir" => sort.directions.push(value.clone()),
                _ => listing.filter_by(&name, &value)?,
            }
            if name != "marker" {
                listing.kept.push((name, value));
            }
        }
        listing.filter.sort = sort.into_order()?;
        listing.limit = limit as usize;
        listing.filter.limit = limit.saturating_add(1);
        Ok(listing)
    }

    fn filter_by(&mut self, name: &str, value: &str) -> Result<(), Error> {
        let filter = &mut self.filter;
        match name {
            "name" => filter.names = one_of(value)?,
            "id" => self.nothing |= !known(value, &mut filter.ids)?,
            "status" => self.nothing |= !known(value, &mut filter.states)?,
            "disk_format" => self.nothing |= !known(value, &mut filter.disk_formats)?,
            "container_format" => self.nothing |= !known(value, &mut filter.container_formats)?,
            // `all` differs from no filter by the community images of others, which are found by id.
            "visibility" if value == "all" => {}
            "visibility" => filter.visibility = Some(value.parse().map_err(|error| wrong(name, error))?),
            "owner" => match value.parse() {
                Ok(owner) => filter.owner = Some(owner),
                Err(_) => self.nothing = true,
            },
            "protected" => filter.protected = Some(boolean(name, value)?),
            "os_hidden" => filter.hidden = boolean(name, value)?,
            "tag" => filter.tags.push(value.to_owned()),
            "size" => {
                filter.size_min = Some(number(name, value)?);
                filter.size_max = filter.size_min;
            }
            "size_min" => filter.size_min = Some(number(name, value)?),
            "size_max" => filter.size_max = Some(number(name, value)?),
            "created_at" => filter.created.push(time(name, value)?),
            "updated_at" => filter.updated.push(time(name, value)?),
            "member_status" => check_member_status(value)?,
            "checksum" | "os_hash_algo" | "os_hash_value" | "min_disk" | "min_ram" | "virtual_size" => {
                return Err(Error::invalid(format!("images cannot be filtered by `{name}`")));
            }
            _ => filter.properties.push((name.to_owned(), value.to_owned())),
        }
        Ok(())
    }

    /// Returns the link to the first page.
    pub(super) fn first(&self) -> String {
        link(&self.kept, None)
    }

    /// Returns the link to the page after the image `last`.
    pub(super) fn next(&self, last: model::ImageId) -> String {
        link(&self.kept, Some(last.to_string()))
    }
}

fn link(kept: &[(String, String)], marker: Option<String>) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(kept);
    if let Some(marker) = marker {
        query.append_pair("marker", &marker);
    }
    let query = query.finish();
    if query.is_empty() { PATH.to_owned() } else { format!("{PATH}?{query}") }
}

/// The two ways to ask for an order: `sort=name:asc,size`, or `sort_key` and `sort_dir` as often as needed.
#[derive(Default)]
struct Sort {
    pairs: Vec<String>,
    keys: Vec<String>,
    directions: Vec<String>,
}

impl Sort {
    fn into_order(self) -> Result<Vec<(ImageSort, Direction)>, Error> {
        let separate = !self.keys.is_empty() || !self.directions.is_empty();
        if !self.pairs.is_empty() && separate {
            return Err(Error::invalid("`sort` and `sort_key`/`sort_dir` exclude each other"));
        }
        if separate {
            return self.separate();
        }
        let pairs = self.pairs.iter().flat_map(|text| text.split(','));
        pairs
            .map(|pair| {
                let (key, direction) = pair.split_once(':').unwrap_or((pair, "desc"));
                Ok((sort_key(key)?, sort_direction(direction)?))
            })
            .collect()
    }

    /// One direction counts for all keys; otherwise each key has its own.
    fn separate(&self) -> Result<Vec<(ImageSort, Direction)>, Error> {
        let keys = if self.keys.is_empty() { vec![ImageSort::CreatedAt] } else { parse_all(&self.keys, sort_key)? };
        let directions = parse_all(&self.directions, sort_direction)?;
        match directions.as_slice() {
            [] => Ok(keys.into_iter().map(|key| (key, Direction::Descending)).collect()),
            [one] => Ok(keys.into_iter().map(|key| (key, *one)).collect()),
            many if many.len() == keys.len() => Ok(keys.into_iter().zip(many.iter().copied()).collect()),
            _ => Err(Error::invalid("there must be one `sort_dir`, or as many as there are `sort_key`")),
        }
    }
}

fn parse_all<T>(texts: &[String], parse: fn(&str) -> Result<T, Error>) -> Result<Vec<T>, Error> {
    texts.iter().map(|text| parse(text)).collect()
}

fn sort_key(text: &str) -> Result<ImageSort, Error> {
    Ok(match text.trim() {
        "name" => ImageSort::Name,
        "status" => ImageSort::Status,
        "container_format" => ImageSort::ContainerFormat,
        "disk_format" => ImageSort::DiskFormat,
        "size" => ImageSort::Size,
        "id" => ImageSort::Id,
        "created_at" => ImageSort::CreatedAt,
        "updated_at" => ImageSort::UpdatedAt,
        other => {
            let known = "name, status, container_format, disk_format, size, id, created_at and updated_at";
            return Err(wrong("sort_key", format_args!("`{other}` is none of {known}")));
        }
    })
}

fn sort_direction(text: &str) -> Result<Direction, Error> {
    match text.trim() {
        "asc" => Ok(Direction::Ascending),
        "desc" => Ok(Direction::Descending),
        other => Err(wrong("sort_dir", format_args!("`{other}` is neither asc nor desc"))),
    }
}

/// Splits `in:a,"b,c"`; any other value stands for itself.
fn one_of(value: &str) -> Result<Vec<String>, Error> {
    let Some(list) = value.strip_prefix("in:") else { return Ok(vec![value.to_owned()]) };
    let unbalanced =
        || Error::invalid(format!("the list `{value}` has a quotation mark that opens or closes inside a value"));
    let mut values = Vec::new();
    let mut rest = list;
    loop {
        let (item, after) = if let Some(quoted) = rest.strip_prefix('"') {
            quoted.split_once('"').ok_or_else(unbalanced)?
        } else {
            rest.split_at(rest.find(',').unwrap_or(rest.len()))
        };
        if item.contains('"') {
            return Err(unbalanced());
        }
        values.push(item.to_owned());
        match after.strip_prefix(',') {
            Some(next) => rest = next,
            None if after.is_empty() => return Ok(values),
            None => return Err(unbalanced()),
        }
    }
}

/// Adds those of the values that exist; returns whether there was one.
fn known<T: FromStr>(value: &str, into: &mut Vec<T>) -> Result<bool, Error> {
    *into = one_of(value)?.iter().filter_map(|text| text.parse().ok()).collect();
    Ok(!into.is_empty())
}

fn number<T: FromStr>(name: &str, value: &str) -> Result<T, Error> {
    value.parse().map_err(|_| wrong(name, format_args!("`{value}` is no whole number from 0")))
}

fn boolean(name: &str, value: &str) -> Result<bool, Error> {
    match value.to_ascii_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(wrong(name, format_args!("`{value}` is neither true nor false"))),
    }
}

/// Parses `gte:2026-11-22T19:53:33Z`; without an operator the time must be the same.
fn time(name: &str, value: &str) -> Result<(Comparison, Timestamp), Error> {
    let operators = [
        ("lt:", Comparison::Less),
        ("lte:", Comparison::LessOrEqual),
        ("eq:", Comparison::Equal),
        ("neq:", Comparison::NotEqual),
        ("gte:", Comparison::GreaterOrEqual),
        ("gt:", Comparison::Greater),
    ];
    let found = operators.iter().find_map(|(prefix, comparison)| Some((*comparison, value.strip_prefix(prefix)?)));
    let (comparison, text) = found.unwrap_or((Comparison::Equal, value));
    // Clients also write `2026-11-22T19:53:33` and `2026-11-22`, which Glance takes for UTC.
    let zoned = text.parse().or_else(|_| format!("{text}Z").parse()).or_else(|_| format!("{text}T00:00:00Z").parse());
    let at = zoned.map_err(|_| wrong(name, format_args!("`{text}` is no time such as 2026-11-22T19:53:33Z")))?;
    Ok((comparison, at))
}

/// No image has members yet, so that every status names the same: none of them.
fn check_member_status(value: &str) -> Result<(), Error> {
    match value {
        "accepted" | "pending" | "rejected" | "all" => Ok(()),
        _ => Err(wrong("member_status", format_args!("`{value}` is none of accepted, pending, rejected and all"))),
    }
}

fn wrong(name: &str, why: impl std::fmt::Display) -> Error {
    Error::invalid(format!("query parameter `{name}`: {why}"))
}

#[cfg(test)]
mod tests {
    use model::images::{ImageState, Visibility};
    use model::{DiskFormat, ImageId};
    use service::ErrorKind;

    use super::*;

    fn parse(query: &str) -> Listing {
        Listing::parse(query).unwrap()
    }

    #[test]
    fn filters() {
        let filter = parse(
            "name=in:a,%22b,c%22&status=active&disk_format=in:raw,nonsense,qcow2&visibility=public&protected=True&tag=x&tag=y\
             &size_min=5&os_hidden=true&created_at=gte:2026-11-22T19:53:33&__os_type=Linux",
        )
        .filter;
        assert_eq!(filter.names, ["a", "b,c"]);
        assert_eq!(filter.states, [ImageState::Active]);
        assert_eq!(filter.disk_formats, [DiskFormat::Raw, DiskFormat::Qcow2]);
        assert_eq!((filter.visibility, filter.protected, filter.hidden), (Some(Visibility::Public), Some(true), true));
        assert_eq!(filter.tags, ["x", "y"]);
        assert_eq!((filter.size_min, filter.size_max), (Some(5), None));
        assert_eq!(filter.created, [(Comparison::GreaterOrEqual, "2026-11-22T19:53:33Z".parse().unwrap())]);
        assert_eq!(filter.properties, [("__os_type".into(), "Linux".into())]);
    }

    #[test]
    fn values_that_no_image_has_match_nothing() {
        for query in ["id=debian", "status=importing", "disk_format=floppy", "owner=me", "id=in:a,b"] {
            assert!(parse(query).nothing, "{query}");
        }
        assert!(!parse("name=debian").nothing);
    }

    #[test]
    fn orders() {
        use Direction::{Ascending, Descending};
        let check =
            |query: &str, expect: &[(ImageSort, Direction)]| assert_eq!(parse(query).filter.sort, expect, "{query}");
        check("", &[]);
        check("sort=name:asc,size", &[(ImageSort::Name, Ascending), (ImageSort::Size, Descending)]);
        check("sort_key=name&sort_key=id&sort_dir=asc", &[(ImageSort::Name, Ascending), (ImageSort::Id, Ascending)]);
        check(
            "sort_key=name&sort_key=id&sort_dir=asc&sort_dir=desc",
            &[(ImageSort::Name, Ascending), (ImageSort::Id, Descending)],
        );
        check("sort_dir=asc", &[(ImageSort::CreatedAt, Ascending)]);
    }

    #[test]
    fn pages() {
        let first = parse("tag=a%20b&limit=2");
        assert_eq!((first.limit, first.filter.limit), (2, 3));
        assert_eq!(first.first(), "/v2/images?tag=a+b&limit=2");
        let last: ImageId = "0b2b0b2a-7f3c-4e1d-9d9e-6a0f7d1f2c3b".parse().unwrap();
        assert_eq!(first.next(last), format!("/v2/images?tag=a+b&limit=2&marker={last}"));
        let second = parse(first.next(last).strip_prefix("/v2/images?").unwrap());
        assert_eq!(second.filter.marker, Some(last));
        assert_eq!(second.first(), "/v2/images?tag=a+b&limit=2");
        assert_eq!(parse("").first(), "/v2/images");
        assert_eq!((parse("").limit, parse("limit=9999").limit, parse("limit=0").limit), (25, 1000, 0));
    }

    #[test]
    fn refusals() {
        for query in [
            "limit=-1",
            "limit=x",
            "marker=debian",
            "sort_key=owner",
            "sort_dir=up",
            "sort=name:asc&sort_key=id",
            "sort_key=name&sort_key=id&sort_key=size&sort_dir=asc&sort_dir=asc",
            "visibility=secret",
            "protected=maybe",
            "size_min=-1",
            "created_at=gt:yesterday",
            "member_status=maybe",
            "checksum=x",
            "name=in:%22a",
            "name=in:a%22b",
            "name=in:%22a%22b",
        ] {
            assert_eq!(Listing::parse(query).unwrap_err().kind(), ErrorKind::Invalid, "{query}");
        }
    }
}
