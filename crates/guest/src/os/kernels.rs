//! Which kernels are installed.

use std::cmp::Ordering;

use crate::text::word;
use crate::tree::Tree;

/// Most names looked at in each folder, and most kernels reported.
const NAMES_MAX: usize = 4096;
const KERNELS_MAX: usize = 64;

const IMAGES: [&str; 4] = ["vmlinuz-", "vmlinux-", "kernel-", "Image-"];

/// Returns the versions of the kernels in `/boot` and of the folders of modules, sorted, newest last.
pub(super) fn read(tree: &Tree) -> Vec<String> {
    let images = tree.names("/boot", NAMES_MAX);
    let versions = images.iter().filter_map(|name| IMAGES.iter().find_map(|prefix| name.strip_prefix(prefix)));
    let modules = tree.names("/lib/modules", NAMES_MAX);
    let mut kernels: Vec<String> = versions
        .map(|version| version.trim_end_matches(".gz"))
        .chain(modules.iter().map(String::as_str))
        .filter(|version| is_version(version))
        .map(str::to_owned)
        .collect();
    kernels.sort_by(|left, right| by_version(left, right));
    kernels.dedup();
    kernels.split_off(kernels.len().saturating_sub(KERNELS_MAX))
}

/// A version begins with a digit and has a dot, unlike `lts` and `0-rescue-...`.
fn is_version(text: &str) -> bool {
    let starts = text.split('.').next().is_some_and(|first| first.bytes().all(|byte| byte.is_ascii_digit()));
    starts && text.contains('.') && !text.starts_with('.') && word(text).is_some()
}

/// Compares runs of digits as numbers, so that 6.9 comes before 6.10.
pub(super) fn by_version(left: &str, right: &str) -> Ordering {
    fn key(text: &str) -> Vec<(u128, &str)> {
        let parts = text.split(|letter: char| !letter.is_ascii_alphanumeric());
        parts
            .map(|part| {
                let digits = part.len() - part.trim_start_matches(|letter: char| letter.is_ascii_digit()).len();
                (part[..digits].parse().unwrap_or(0), &part[digits..])
            })
            .collect()
    }
    key(left).cmp(&key(right)).then_with(|| left.cmp(right))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_sort_by_number_and_others_are_left_out() {
        let mut versions = vec!["6.10.1-1-amd64", "6.9.12-amd64", "6.10.0-rc1"];
        versions.sort_by(|left, right| by_version(left, right));
        assert_eq!(versions, ["6.9.12-amd64", "6.10.0-rc1", "6.10.1-1-amd64"]);
        for bad in ["lts", "0-rescue-0123456789abcdef", "6", ".6", "6.1 x", "6.1\u{1b}"] {
            assert!(!is_version(bad), "{bad}");
        }
    }
}
