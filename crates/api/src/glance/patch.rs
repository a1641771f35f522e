//! Changes as Glance clients send them: JSON patches whose paths name one attribute.
//!
//! v2.1 is RFC 6902 (`{"op": "replace", "path": "/name", "value": "x"}`), v2.0 its fourth draft
//! (`{"replace": "/name", "value": "x"}`). Only add, replace and remove of whole attributes exist.

use std::collections::BTreeSet;

use model::images::Image;
use serde_json::{Map, Value};
use service::{Error, ErrorKind, ImageChange};

use super::wire;

/// Which of the two patch formats a body is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    /// `application/openstack-images-v2.0-json-patch`.
    V20,
    /// `application/openstack-images-v2.1-json-patch`.
    V21,
}

impl Version {
    /// Returns the version that a media type names.
    pub(super) fn of(media_type: &str) -> Option<Self> {
        match media_type {
            "application/openstack-images-v2.0-json-patch" => Some(Self::V20),
            "application/openstack-images-v2.1-json-patch" => Some(Self::V21),
            _ => None,
        }
    }
}

/// One step of a patch.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Step {
    action: Action,
    attribute: String,
}

#[derive(Debug, Clone, PartialEq)]
enum Action {
    /// Sets, whether it is there or not.
    Add(Value),
    /// Sets what is not there yet.
    AddNew(Value),
    /// Sets what is there.
    Replace(Value),
    Remove,
}

/// Parses a patch.
pub(super) fn parse(version: Version, steps: Vec<Map<String, Value>>) -> Result<Vec<Step>, Error> {
    steps.into_iter().map(|step| parse_step(version, step)).collect()
}

fn parse_step(version: Version, mut step: Map<String, Value>) -> Result<Step, Error> {
    let (op, path) = match version {
        Version::V21 => (take_text(&mut step, "op")?, take_text(&mut step, "path")?),
        Version::V20 => {
            let ops: Vec<_> = ["add", "replace", "remove"].into_iter().filter(|op| step.contains_key(*op)).collect();
            let [op] = ops.as_slice() else {
                return Err(Error::invalid(
                    "each step of the patch needs exactly one of `add`, `replace` and `remove`",
                ));
            };
            ((*op).to_owned(), take_text(&mut step, op)?)
        }
    };
    let attribute = attribute(&path)?;
    let mut value =
        || step.remove("value").ok_or_else(|| Error::invalid(format!("the step `{op}` of `{path}` needs a `value`")));
    let action = match op.as_str() {
        "add" if version == Version::V20 => Action::AddNew(value()?),
        "add" => Action::Add(value()?),
        "replace" => Action::Replace(value()?),
        "remove" => Action::Remove,
        _ => return Err(Error::invalid(format!("the patch operation `{op}` is none of add, replace and remove"))),
    };
    Ok(Step { action, attribute })
}

fn take_text(step: &mut Map<String, Value>, key: &str) -> Result<String, Error> {
    match step.remove(key) {
        Some(Value::String(text)) => Ok(text),
        _ => Err(Error::invalid(format!("each step of the patch needs a text `{key}`"))),
    }
}

/// Decodes a JSON pointer (RFC 6901) of one segment.
fn attribute(path: &str) -> Result<String, Error> {
    let wrong = || Error::invalid(format!("`{path}` is no path of one attribute, such as `/name`"));
    let segment =
        path.strip_prefix('/').filter(|segment| !segment.is_empty() && !segment.contains('/')).ok_or_else(wrong)?;
    let mut parts = segment.split('~');
    let mut name = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (escaped, rest) = match (part.strip_prefix('0'), part.strip_prefix('1')) {
            (Some(rest), _) => ('~', rest),
            (_, Some(rest)) => ('/', rest),
            _ => return Err(wrong()),
        };
        name.push(escaped);
        name.push_str(rest);
    }
    Ok(name)
}

/// Returns the change that the steps make of an image, each seeing what those before it did.
pub(super) fn apply(image: &Image, steps: Vec<Step>) -> Result<ImageChange, Error> {
    let mut change = ImageChange::default();
    let mut properties: BTreeSet<String> = image.properties.keys().cloned().collect();
    for Step { action, attribute } in steps {
        wire::check_writable(&attribute)?;
        let base = wire::WRITABLE.contains(&attribute.as_str());
        let exists = base || properties.contains(&attribute);
        match action {
            Action::Remove if base => {
                return Err(Error::new(ErrorKind::Forbidden, format!("attribute `{attribute}` may not be removed")));
            }
            Action::Remove | Action::Replace(_) if !exists => {
                return Err(Error::conflict(format!("property `{attribute}` does not exist")));
            }
            Action::AddNew(_) if exists => {
                return Err(Error::conflict(format!("property `{attribute}` is there already")));
            }
            Action::Remove => {
                properties.remove(&attribute);
                change.set_properties.remove(&attribute);
                change.remove_properties.insert(attribute);
            }
            Action::Add(value) | Action::AddNew(value) | Action::Replace(value) => {
                wire::assign(&mut change, image.project, &attribute, value)?;
                if !base {
                    properties.insert(attribute);
                }
            }
        }
    }
    Ok(change)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::wire::tests::sample;
    use super::*;

    fn run(version: Version, text: &str) -> Result<ImageChange, Error> {
        apply(&sample(), parse(version, serde_json::from_str(text).unwrap())?)
    }

    #[test]
    fn both_versions() {
        let new = r#"[{"op": "replace", "path": "/name", "value": "n"}, {"op": "add", "path": "/a~1b~0", "value": "v"},
            {"op": "remove", "path": "/os_distro"}]"#;
        let old = r#"[{"replace": "/name", "value": "n"}, {"add": "/a~1b~0", "value": "v"}, {"remove": "/os_distro"}]"#;
        for (version, text) in [(Version::V21, new), (Version::V20, old)] {
            let change = run(version, text).unwrap();
            assert_eq!(change.name, Some(Some("n".into())));
            assert_eq!(change.set_properties, BTreeMap::from([("a/b~".into(), "v".into())]));
            assert_eq!(change.remove_properties, BTreeSet::from(["os_distro".into()]));
        }
    }

    #[test]
    fn later_steps_see_earlier_ones() {
        let back =
            r#"[{"op": "remove", "path": "/os_distro"}, {"op": "add", "path": "/os_distro", "value": "alpine"}]"#;
        let change = run(Version::V21, back).unwrap();
        assert_eq!(change.set_properties, BTreeMap::from([("os_distro".into(), "alpine".into())]));
        assert!(change.remove_properties.is_empty());
        let twice = r#"[{"op": "remove", "path": "/os_distro"}, {"op": "remove", "path": "/os_distro"}]"#;
        assert_eq!(run(Version::V21, twice).unwrap_err().kind(), ErrorKind::Conflict);
        let gone = r#"[{"op": "add", "path": "/new", "value": "v"}, {"op": "remove", "path": "/new"}]"#;
        assert!(run(Version::V21, gone).unwrap().set_properties.is_empty());
    }

    #[track_caller]
    fn refused(version: Version, step: &str, kind: ErrorKind) {
        let error = run(version, &format!("[{step}]")).unwrap_err();
        assert_eq!(error.kind(), kind, "{step}: {error}");
    }

    #[test]
    fn refusals() {
        let check = |step: &str, kind| refused(Version::V21, step, kind);
        check(r#"{"op": "replace", "path": "/absent", "value": "v"}"#, ErrorKind::Conflict);
        check(r#"{"op": "remove", "path": "/absent"}"#, ErrorKind::Conflict);
        check(r#"{"op": "remove", "path": "/name"}"#, ErrorKind::Forbidden);
        check(r#"{"op": "replace", "path": "/status", "value": "active"}"#, ErrorKind::Forbidden);
        check(r#"{"op": "add", "path": "/os_glance_x", "value": "v"}"#, ErrorKind::Forbidden);
        check(r#"{"op": "move", "path": "/name", "value": "v"}"#, ErrorKind::Invalid);
        check(r#"{"op": "add", "path": "/tags/0", "value": "v"}"#, ErrorKind::Invalid);
        check(r#"{"op": "add", "path": "name", "value": "v"}"#, ErrorKind::Invalid);
        check(r#"{"op": "add", "path": "/", "value": "v"}"#, ErrorKind::Invalid);
        check(r#"{"op": "add", "path": "/a~2", "value": "v"}"#, ErrorKind::Invalid);
        check(r#"{"op": "add", "path": "/name"}"#, ErrorKind::Invalid);
        check(r#"{"path": "/name", "value": "v"}"#, ErrorKind::Invalid);
        refused(Version::V20, r#"{"add": "/os_distro", "value": "v"}"#, ErrorKind::Conflict);
        refused(Version::V20, r#"{"add": "/a", "remove": "/a", "value": "v"}"#, ErrorKind::Invalid);
    }
}
