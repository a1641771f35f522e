//! One Rust file as the rules see it: its lines, and which of them are test code or comment.

/// A file of the tree.
pub(crate) struct Source<'a> {
    /// Relative to the workspace, with `/`.
    pub(crate) path: &'a str,
    pub(crate) text: &'a str,
}

impl<'a> Source<'a> {
    pub(crate) fn new(path: &'a str, text: &'a str) -> Source<'a> {
        Source { path, text }
    }

    /// Whether the whole file is test code.
    pub(crate) fn is_test(&self) -> bool {
        self.path.starts_with("tests/") || self.path.contains("/tests/") || self.path.ends_with("/tests.rs")
    }

    /// Whether the file lies in one of `folders`, or is one of them.
    pub(crate) fn is_in(&self, folders: &[&str]) -> bool {
        folders
            .iter()
            .any(|folder| self.path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
    }

    /// How many lines stand before the file's own tests.
    pub(crate) fn length_without_tests(&self) -> usize {
        let lines: Vec<&str> = self.text.lines().collect();
        (0..lines.len()).find(|&at| opens_tests(&lines[at..])).unwrap_or(lines.len())
    }

    /// Lines of the product with their numbers from 1: no tests, no comments.
    pub(crate) fn code(&self) -> impl Iterator<Item = (usize, &'a str)> {
        let length = if self.is_test() { 0 } else { self.length_without_tests() };
        self.all_code().take_while(move |(number, _)| *number <= length)
    }

    /// Lines that are no comments, tests among them.
    pub(crate) fn all_code(&self) -> impl Iterator<Item = (usize, &'a str)> {
        let numbered = self.text.lines().enumerate().map(|(at, line)| (at + 1, line));
        numbered.filter(|(_, line)| !line.trim_start().starts_with("//"))
    }
}

/// `#[cfg(test)]` before `mod name {`; before `mod name;` the tests are in another file.
fn opens_tests(lines: &[&str]) -> bool {
    lines[0] == "#[cfg(test)]"
        && lines[1..]
            .iter()
            .find(|line| !line.starts_with("#["))
            .is_some_and(|line| line.contains("mod ") && line.ends_with('{'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "//! A file.\n#[cfg(test)]\nmod other;\nfn a() {} // b\n// c\n\n#[cfg(test)]\nmod tests {\n    d();\n}\n";

    #[test]
    fn tests_and_comments_are_no_code() {
        let source = Source::new("crates/x/src/lib.rs", TEXT);
        assert_eq!(source.length_without_tests(), 6);
        let code: Vec<_> = source.code().collect();
        assert_eq!(code, [(2, "#[cfg(test)]"), (3, "mod other;"), (4, "fn a() {} // b"), (6, "")]);
    }

    #[test]
    fn a_file_of_tests_has_no_code() {
        assert_eq!(Source::new("crates/x/tests/all.rs", TEXT).code().count(), 0);
        assert!(Source::new("tests/src/lib.rs", TEXT).is_test());
        assert!(!Source::new("crates/latests/src/lib.rs", TEXT).is_test());
    }

    #[test]
    fn a_folder_is_more_than_a_prefix() {
        assert!(Source::new("crates/api/src/lib.rs", "").is_in(&["crates/api"]));
        assert!(!Source::new("crates/apiary/src/lib.rs", "").is_in(&["crates/api"]));
    }
}
