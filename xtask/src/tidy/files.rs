//! Rules for one Rust file: how it opens, how long it is, and what must go through another door.

use super::source::Source;

/// Beyond this a file is to be split at a seam; its tests do not count.
const LONGEST: usize = 600;

/// Protocols stand side by side in the crate `api`: none may lean on another.
const DIALECTS: [&str; 9] = ["console", "ecs", "glance", "identity", "ims", "kms", "native", "nova", "s3"];

/// What stands in no file, tests among them.
const NOWHERE: [(&str, &str); 3] = [
    (concat!("to", "do!("), "what is not done does not get in"),
    (concat!("unimple", "mented!("), "what is not done does not get in"),
    (concat!("#[ig", "nore"), "assert what is so today, and say why"),
];

/// What an example in a comment may be written in.
const FORMS: [&str; 3] = ["text", "toml", "console"];

/// A call that has one door, and the folders or files behind it.
struct Door {
    calls: &'static [&'static str],
    folders: &'static [&'static str],
    reason: &'static str,
}

const DOORS: [Door; 4] = [
    Door {
        calls: &["SystemTime::now(", "Timestamp::now(", "Zoned::now("],
        folders: &["crates/molde", "crates/cli", "xtask"],
        reason: "time is passed in: take a `Clock`",
    },
    Door {
        calls: &["Command::new("],
        folders: &["crates/agent", "crates/compute", "crates/guest", "crates/molde", "xtask"],
        reason: "only `compute` and `guest` start processes, `molde` itself again, and `agent` what its job names",
    },
    Door {
        calls: &["env::var(", "env::var_os(", "env::vars("],
        folders: &["crates/molde", "crates/cli", "crates/guest/build.rs", "xtask"],
        reason: "a library does not read the environment",
    },
    Door {
        calls: &[concat!("spawn_", "blocking(")],
        folders: &[
            "crates/chunks",
            "crates/cli/src/blocking.rs",
            "crates/compute",
            "crates/service/src/blocking.rs",
            "crates/service/src/digest.rs",
        ],
        reason: "what blocks goes over the bridge, `service::blocking`, which has the permits",
    },
];

/// Every breach in one file.
pub(super) fn check(source: &Source<'_>) -> Vec<String> {
    [opening(source), length(source), doors(source), nowhere(source), examples(source), dialects(source)].concat()
}

fn opening(source: &Source<'_>) -> Vec<String> {
    let told = source.text.strip_prefix("//! ").is_some_and(|rest| !rest.starts_with('\n'));
    if told {
        vec![]
    } else {
        vec![format!("{}:1: the file does not open with `//!` and what lives here", source.path)]
    }
}

fn length(source: &Source<'_>) -> Vec<String> {
    let length = source.length_without_tests();
    if source.is_test() || length <= LONGEST {
        return vec![];
    }
    vec![format!("{}: {length} lines without its tests, more than {LONGEST}: split it at a seam", source.path)]
}

fn doors(source: &Source<'_>) -> Vec<String> {
    let closed = DOORS.iter().filter(|door| !source.is_in(door.folders));
    let breaches = closed.flat_map(|door| {
        source.code().filter_map(move |(number, line)| {
            let call = door.calls.iter().find(|call| line.replace("clap::Command", "").contains(**call))?;
            Some(format!("{}:{number}: `{call}` here: {}", source.path, door.reason))
        })
    });
    breaches.collect()
}

fn nowhere(source: &Source<'_>) -> Vec<String> {
    let breaches = source.all_code().flat_map(|(number, line)| {
        NOWHERE.iter().filter(move |(word, _)| line.contains(word)).map(move |(word, reason)| (number, word, reason))
    });
    breaches.map(|(number, word, reason)| format!("{}:{number}: `{word}`: {reason}", source.path)).collect()
}

/// Nothing runs Rust that stands in a comment, so what rustdoc would take for Rust is refused.
fn examples(source: &Source<'_>) -> Vec<String> {
    let mut is_open = false;
    let mut breaches = Vec::new();
    for (at, line) in source.text.lines().enumerate() {
        let line = line.trim_start();
        let comment = line.strip_prefix("//!").or_else(|| line.strip_prefix("///"));
        let Some(language) = comment.and_then(|comment| comment.trim_start().strip_prefix("```")) else { continue };
        if !is_open && !FORMS.contains(&language) {
            let path = source.path;
            let known = FORMS.join(", ");
            breaches.push(format!("{path}:{}: an example that nothing runs: make it a test, or of {known}", at + 1));
        }
        is_open = !is_open;
    }
    breaches
}

fn dialects(source: &Source<'_>) -> Vec<String> {
    let Some(own) = source.path.strip_prefix("crates/api/src/").and_then(|rest| rest.split(['/', '.']).next()) else {
        return vec![];
    };
    if !DIALECTS.contains(&own) {
        return vec![];
    }
    let breaches = modules_of_the_crate(source.text).into_iter().filter_map(|(number, module)| {
        let other = DIALECTS.iter().find(|dialect| **dialect == module && **dialect != own)?;
        Some(format!("{}:{number}: the dialect `{own}` uses `{other}`: share through a module of neither", source.path))
    });
    breaches.collect()
}

/// Each `module` of `crate::module` and of `crate::{module, ...}`, with its line; a group may span lines.
fn modules_of_the_crate(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices("crate::") {
        let number = text[..at].lines().count().max(1);
        let rest = &text[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            Some(group) => found.extend(names_of_group(group).into_iter().map(|name| (number, name))),
            None => found.push((number, name_at(rest))),
        }
    }
    found
}

/// The first name of each member of a `use` group, which begins after its brace.
fn names_of_group(group: &str) -> Vec<&str> {
    let mut names = vec![name_at(group)];
    let mut depth = 0usize;
    for (at, letter) in group.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => names.push(name_at(&group[at + 1..])),
            _ => {}
        }
    }
    names
}

fn name_at(text: &str) -> &str {
    let text = text.trim_start();
    text.split(|letter: char| !letter.is_alphanumeric() && letter != '_').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks one file and expects exactly `breaches`, each named by some of its words.
    #[track_caller]
    fn expect(path: &str, text: &str, breaches: &[&str]) {
        let found = check(&Source::new(path, text));
        assert_eq!(found.len(), breaches.len(), "{found:#?}");
        for (found, words) in found.iter().zip(breaches) {
            assert!(found.contains(words), "`{found}` does not say `{words}`");
        }
    }

    #[test]
    fn a_file_says_what_lives_in_it() {
        expect("crates/x/src/a.rs", "//! Images.\n", &[]);
        expect("crates/x/src/a.rs", "use std::io;\n", &["does not open"]);
        expect("crates/x/src/a.rs", "//! \nuse std::io;\n", &["does not open"]);
        expect("tests/tests/a.rs", "", &["does not open"]);
    }

    #[test]
    fn a_file_is_not_too_long_and_its_tests_do_not_count() {
        let body = "fn a() {}\n".repeat(LONGEST);
        expect("crates/x/src/a.rs", &format!("//! A.\n{body}"), &["601 lines"]);
        let with_tests = format!("//! A.\n#[cfg(test)]\nmod tests {{\n{body}}}\n");
        expect("crates/x/src/a.rs", &with_tests, &[]);
    }

    #[test]
    fn time_processes_and_environment_have_their_doors() {
        let text =
            "//! A.\nlet a = jiff::Timestamp::now();\nlet b = Command::new(\"ls\");\nlet c = std::env::var(\"A\");\n";
        expect("crates/service/src/a.rs", text, &[":2: ", ":3: ", ":4: "]);
        expect("crates/compute/src/a.rs", text, &["Timestamp::now", "env::var"]);
        expect("crates/cli/src/a.rs", text, &["Command::new"]);
        let blocking = "//! A.\ntokio::task::spawn_blocking(|| ());\n";
        expect("crates/api/src/a.rs", blocking, &["the bridge"]);
        expect("crates/service/src/images.rs", blocking, &["the bridge"]);
        expect("crates/service/src/blocking.rs", blocking, &[]);
        expect("xtask/src/a.rs", text, &[]);
        expect("tests/tests/a.rs", text, &[]);
        let tested = "//! A.\n#[cfg(test)]\nmod tests {\n    fn a() { Command::new(\"ls\"); }\n}\n";
        expect("crates/service/src/a.rs", tested, &[]);
        expect("crates/cli/src/a.rs", "//! A.\n// Command::new(x)\nclap::Command::new(\"molde\");\n", &[]);
    }

    #[test]
    fn what_is_not_done_does_not_get_in() {
        for word in ["todo", "unimplemented"] {
            expect("crates/x/src/a.rs", &format!("//! A.\nfn a() {{ {word}!() }}\n"), &["not done"]);
        }
        let ignored = format!("//! A.\n#[cfg(test)]\nmod tests {{\n    #[{}]\n}}\n", "ignore = \"slow\"");
        expect("crates/x/src/a.rs", &ignored, &["assert what is so"]);
    }

    #[test]
    fn an_example_is_a_test_or_no_rust() {
        let words = &["an example that nothing runs"];
        expect("crates/x/src/a.rs", "//! A.\n//! ```text\n//! a -> b\n//! ```\n", &[]);
        expect("crates/x/src/a.rs", "//! A.\n    /// ```\n    /// a();\n    /// ```\n", words);
        expect("crates/x/src/a.rs", "//! A.\n///```rust,no_run\n/// a();\n/// ```\n", words);
    }

    #[test]
    fn a_dialect_does_not_use_another() {
        let ims = "crates/api/src/ims/images.rs";
        expect(ims, "//! A.\nuse crate::glance::images;\n", &["`ims` uses `glance`"]);
        expect(ims, "//! A.\nuse crate::{\n    auth::Token,\n    s3::{sign, identity},\n};\n", &["`ims` uses `s3`"]);
        expect(ims, "//! A.\npub(in crate::ims) fn a() { crate::identity::b() }\n", &["`ims` uses `identity`"]);
        expect(ims, "//! A.\nuse crate::{auth, ims::error};\nuse crate::glance_words;\n", &[]);
        expect("crates/api/src/router.rs", "//! A.\nuse crate::{glance, ims};\n", &[]);
        expect("crates/api/src/s3.rs", "//! A.\nuse crate::native;\n", &["`s3` uses `native`"]);
    }
}
