//! Files in memory, as if they were in a file system.

use std::collections::BTreeMap;

use crate::filesystems::files::{Files, Node, NodeKind};

#[derive(Debug, Clone)]
enum Entry {
    File(Vec<u8>),
    Link(Vec<u8>),
}

/// Files and links by path; the folders that lead to them are there too.
#[derive(Debug, Clone, Default)]
pub struct MemoryFiles {
    entries: BTreeMap<Vec<u8>, Entry>,
}

/// Returns `path` as readers are asked for it: absolute, without empty names.
fn absolute(path: &str) -> Vec<u8> {
    let is_name = |name: &&str| !matches!(*name, "" | "." | "..");
    path.split('/').filter(is_name).flat_map(|name| ["/".as_bytes(), name.as_bytes()]).flatten().copied().collect()
}

impl MemoryFiles {
    /// Puts a file at `path`.
    pub fn put(&mut self, path: &str, content: &[u8]) {
        self.insert(path, Entry::File(content.to_vec()));
    }

    /// Puts a link at `path`.
    pub fn link(&mut self, path: &str, target: &str) {
        self.insert(path, Entry::Link(target.as_bytes().to_vec()));
    }

    /// Takes away what stands at `path`, and all below.
    pub fn remove(&mut self, path: &str) {
        let path = absolute(path);
        self.entries.retain(|at, _| at.strip_prefix(&*path).is_none_or(|rest| !matches!(rest, [] | [b'/', ..])));
    }

    /// Returns the content of the file at `path`.
    #[must_use]
    pub fn content(&self, path: &str) -> Option<&[u8]> {
        match self.entries.get(&absolute(path))? {
            Entry::File(content) => Some(content),
            Entry::Link(_) => None,
        }
    }

    /// A file cannot be a folder too.
    fn insert(&mut self, path: &str, entry: Entry) {
        let path = absolute(path);
        let ends = path.iter().enumerate().skip(1).filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        let is_below = |parent: usize| self.entries.contains_key(&path[..parent]);
        if path.is_empty() || ends.into_iter().any(is_below) || self.is_folder(&path) {
            return;
        }
        self.entries.insert(path, entry);
    }

    fn below(&self, folder: &[u8]) -> impl Iterator<Item = (&[u8], &Entry)> {
        let start = if folder == b"/" { b"/".to_vec() } else { [folder, b"/"].concat() };
        let skip = start.len();
        let all = self.entries.range(start.clone()..).take_while(move |(path, _)| path.starts_with(&start));
        all.map(move |(path, entry)| (&path[skip..], entry))
    }

    fn is_folder(&self, path: &[u8]) -> bool {
        path == b"/" || self.below(path).next().is_some()
    }
}

impl Files for MemoryFiles {
    fn stat(&self, path: &[u8]) -> Result<Option<Node>, String> {
        let node = |kind, length| Node { kind, length, mode: 0o755, uid: 0, gid: 0 };
        Ok(match self.entries.get(path) {
            Some(Entry::File(content)) => Some(node(NodeKind::File, content.len() as u64)),
            Some(Entry::Link(target)) => Some(node(NodeKind::Link, target.len() as u64)),
            None => self.is_folder(path).then(|| node(NodeKind::Folder, 4096)),
        })
    }

    fn link(&self, path: &[u8], _: u64) -> Result<Vec<u8>, String> {
        match self.entries.get(path) {
            Some(Entry::Link(target)) => Ok(target.clone()),
            _ => Err("it is no link".to_owned()),
        }
    }

    fn is_folder_small(&self, _: u64) -> bool {
        true
    }

    fn names(&self, path: &[u8], most: usize) -> Result<Vec<Vec<u8>>, String> {
        let first = |rest: &[u8]| rest.split(|byte| *byte == b'/').next().map(<[u8]>::to_vec);
        let mut names: Vec<_> = self.below(path).filter_map(|(rest, _)| first(rest)).collect();
        names.dedup();
        names.truncate(most);
        Ok(names)
    }

    fn read(&self, path: &[u8], offset: u64, most: usize) -> Result<Vec<u8>, String> {
        let Some(Entry::File(content)) = self.entries.get(path) else { return Err("it is no file".to_owned()) };
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(content.len());
        Ok(content[start..content.len().min(start.saturating_add(most))].to_vec())
    }
}
