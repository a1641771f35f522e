//! Which of our crates may lean on which: arrows point down, and a new one is an architecture change.

use serde_json::Value;

/// Each package and the packages of ours that it may use.
const ALLOWED: [(&str, &[&str]); 16] = [
    (
        "molde",
        &[
            "molde-api",
            "molde-catalog",
            "molde-chunks",
            "molde-cli",
            "molde-compute",
            "molde-disk",
            "molde-guest",
            "molde-keys",
            "molde-model",
            "molde-nbd",
            "molde-service",
        ],
    ),
    ("molde-cli", &["molde-disk", "molde-distributions", "molde-guest", "molde-model", "molde-nbd"]),
    ("molde-api", &["molde-model", "molde-service"]),
    (
        "molde-service",
        &["molde-catalog", "molde-chunks", "molde-compute", "molde-disk", "molde-guest", "molde-keys", "molde-model"],
    ),
    ("molde-catalog", &["molde-model"]),
    ("molde-chunks", &["molde-keys", "molde-model"]),
    ("molde-guest", &["molde-agent", "molde-disk", "molde-nbd"]),
    ("molde-nbd", &["molde-disk"]),
    ("molde-compute", &["molde-model"]),
    ("molde-agent", &[]),
    ("molde-disk", &[]),
    ("molde-distributions", &[]),
    ("molde-keys", &[]),
    ("molde-model", &[]),
    ("molde-tests", &[]),
    ("xtask", &[]),
];

/// Breaches in what `cargo metadata` says. What only tests use is no arrow.
pub(super) fn check(metadata: &Value) -> Vec<String> {
    let empty = Vec::new();
    let packages = metadata["packages"].as_array().unwrap_or(&empty);
    let names: Vec<&str> = packages.iter().filter_map(|package| package["name"].as_str()).collect();
    let mut found = Vec::new();
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        let Some((_, allowed)) = ALLOWED.iter().find(|(own, _)| *own == name) else {
            found.push(format!("{name}: the table of arrows between crates does not know this package"));
            continue;
        };
        let dependencies = package["dependencies"].as_array().unwrap_or(&empty);
        for dependency in dependencies.iter().filter(|dependency| dependency["kind"] != "dev") {
            let used = dependency["name"].as_str().unwrap_or_default();
            if names.contains(&used) && !allowed.contains(&used) {
                found.push(format!("{name}: may not use {used}: arrows between crates point down"));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn package(name: &str, dependencies: &[(&str, Option<&str>)]) -> Value {
        let dependencies: Vec<Value> =
            dependencies.iter().map(|(name, kind)| json!({"name": name, "kind": kind})).collect();
        json!({"name": name, "dependencies": dependencies})
    }

    fn breaches(packages: &[Value]) -> Vec<String> {
        check(&json!({ "packages": packages }))
    }

    #[test]
    fn an_arrow_that_points_up_is_found() {
        let found = breaches(&[
            package("molde-service", &[("molde-catalog", None), ("serde", None)]),
            package("molde-catalog", &[("molde-service", None)]),
        ]);
        assert_eq!(found, ["molde-catalog: may not use molde-service: arrows between crates point down"]);
    }

    #[test]
    fn what_builds_counts_and_what_tests_does_not() {
        let catalog = package("molde-catalog", &[]);
        assert_eq!(breaches(&[package("molde-keys", &[("molde-catalog", Some("build"))]), catalog.clone()]).len(), 1);
        assert_eq!(breaches(&[package("molde-keys", &[("molde-catalog", Some("dev"))]), catalog]).len(), 0);
    }

    #[test]
    fn a_new_package_has_to_be_placed() {
        assert_eq!(breaches(&[package("molde-new", &[])]).len(), 1);
    }

    #[test]
    fn the_table_holds_no_circle() {
        fn reaches(from: &str, to: &str) -> bool {
            let down = ALLOWED.iter().find(|(own, _)| *own == from).map_or(&[][..], |(_, down)| down);
            down.iter().any(|next| *next == to || reaches(next, to))
        }
        for (name, _) in ALLOWED {
            assert!(!reaches(name, name), "{name} leans on itself");
        }
    }
}
