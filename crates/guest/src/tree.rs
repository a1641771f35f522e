//! The guest's folders as the guest sees them: its root file system with others mounted on it, links resolved inside.
//!
//! Invariants: an absolute link starts at the guest's root and `..` stops there; one path follows at most
//! [`LINKS_MAX`] links; no reader is asked to follow a link, open a folder or load a file before its kind and length
//! were looked at. What cannot be read is told by a note and then counts as absent.

mod stream;

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

use crate::budget::Budget;
use crate::filesystems::files::{Files, Node, NodeKind};
use crate::text::clean;

const LINKS_MAX: usize = 32;
/// Longest path on the way, in components: longer ones come from links that unfold.
const COMPONENTS_MAX: usize = 256;

/// Most paths whose nodes are remembered, and their most components: each path is walked from the top, and readers walk
/// each part of it from the top again.
const KNOWN_MAX: usize = 4096;
const KNOWN_COMPONENTS_MAX: usize = 16;

/// Largest configuration file that is read.
pub(crate) const CONFIG_MAX: u64 = 1 << 20;

type Components = Vec<Vec<u8>>;

/// Open file systems, joined.
pub(crate) struct Tree {
    root: Rc<dyn Files>,
    /// Device of the root, as in [`crate::Filesystem::device`].
    device: String,
    /// The longest path first: it wins, so that the order of fstab does not matter.
    mounts: Vec<Mount>,
    known: RefCell<HashMap<Components, Option<Node>>>,
    kept: RefCell<HashMap<String, Option<Rc<Vec<u8>>>>>,
    budget: Rc<Budget>,
}

struct Mount {
    at: Components,
    device: String,
    filesystem: Rc<dyn Files>,
}

/// Where a path leads.
struct Place {
    components: Components,
    node: Node,
}

fn split(path: &[u8]) -> impl DoubleEndedIterator<Item = Vec<u8>> {
    path.split(|byte| *byte == b'/').filter(|name| !name.is_empty() && *name != b".").map(<[u8]>::to_vec)
}

impl Tree {
    pub(crate) fn new(root: Rc<dyn Files>, device: &str, budget: Rc<Budget>) -> Self {
        Self {
            root,
            device: device.to_owned(),
            mounts: Vec::new(),
            known: RefCell::default(),
            kept: RefCell::default(),
            budget,
        }
    }

    /// Lays `filesystem`, which is on `device`, over the folder at `path`.
    pub(crate) fn mount(&mut self, path: &str, device: &str, filesystem: Rc<dyn Files>) {
        self.mounts.push(Mount { at: split(path.as_bytes()).collect(), device: device.to_owned(), filesystem });
        self.mounts.sort_by_key(|mount| std::cmp::Reverse(mount.at.len()));
        self.known.borrow_mut().clear();
    }

    /// Returns each file system of the tree: where it is mounted, its device, and the number of its subvolume; the root first,
    /// and what lies on another one after that.
    pub(crate) fn branches(&self) -> Vec<(String, String, Option<u64>)> {
        let root = ("/".to_owned(), self.device.clone(), self.root.subvolume());
        let shown = |mount: &Mount| {
            (
                String::from_utf8([b"/", mount.at.join(&b'/').as_slice()].concat()).ok(),
                mount.device.clone(),
                mount.filesystem.subvolume(),
            )
        };
        let is_plain = |mount: &&Mount| mount.at.iter().all(|name| name != b"..");
        let mounts = self.mounts.iter().rev().filter(is_plain).map(shown);
        let plain = mounts.filter_map(|(at, device, subvolume)| Some((at?, device, subvolume)));
        std::iter::once(root).chain(plain).collect()
    }

    /// Adds a note to the report.
    pub(crate) fn note(&self, note: String) {
        self.budget.note(note);
    }

    /// Returns whether there is time left to look further, for walks that need no reads.
    pub(crate) fn has_time(&self) -> bool {
        self.budget.check_time().is_ok()
    }

    /// Returns whether something stands at `path`, links followed.
    pub(crate) fn exists(&self, path: &str) -> bool {
        self.find(path, true).is_some()
    }

    /// Returns whether a folder stands at `path`, links followed.
    pub(crate) fn is_folder(&self, path: &str) -> bool {
        self.find(path, true).is_some_and(|place| place.node.kind == NodeKind::Folder)
    }

    /// Reads the configuration file at `path`; a note tells of one that is over [`CONFIG_MAX`].
    pub(crate) fn config(&self, path: &str) -> Option<String> {
        self.text(path, true, CONFIG_MAX)
    }

    /// Does the same as [`Tree::config`], unless `path` itself is a link.
    pub(crate) fn config_not_link(&self, path: &str) -> Option<String> {
        self.text(path, false, CONFIG_MAX)
    }

    /// Reads the file at `path` of at most `most` bytes.
    pub(crate) fn text(&self, path: &str, is_followed: bool, most: u64) -> Option<String> {
        let place = self.find(path, is_followed)?;
        if place.node.kind != NodeKind::File {
            self.budget.note(format!("{path} is not a regular file; it was not read."));
            return None;
        }
        if place.node.length > most {
            let length = place.node.length;
            self.budget.note(format!("{path} has {length} bytes, over the limit of {most}; it was not read."));
            return None;
        }
        Some(String::from_utf8_lossy(&self.load(&place, most as usize)?).into_owned())
    }

    /// Reads the regular file at `path`, links followed, of at most `most` bytes; a note tells of one that is longer.
    pub(crate) fn bytes(&self, path: &str, most: u64) -> Option<Vec<u8>> {
        let place = self.find(path, true).filter(|place| place.node.kind == NodeKind::File)?;
        if place.node.length > most {
            let length = place.node.length;
            self.budget.note(format!("{path} has {length} bytes, over the limit of {most}; it was not read."));
            return None;
        }
        self.load(&place, most as usize)
    }

    /// Reads a part of the regular file at `path`, to which no link leads; an error says why it cannot be read.
    pub(crate) fn read_range(&self, path: &str, offset: u64, most: usize) -> Result<Vec<u8>, String> {
        let (filesystem, inner) = self.locate(&split(path.as_bytes()).collect());
        filesystem.read(&inner, offset, most)
    }

    /// Returns what stands at `path`, a link as itself.
    pub(crate) fn node(&self, path: &str) -> Option<Node> {
        self.find(path, false).map(|place| place.node)
    }

    /// Returns the device that holds `path`, to which no link leads, and the path inside its file system.
    pub(crate) fn place(&self, path: &str) -> (String, String) {
        let components: Components = split(path.as_bytes()).collect();
        let mount = self.mounts.iter().find(|mount| components.starts_with(&mount.at));
        let device = mount.map_or(&self.device, |mount| &mount.device);
        (device.clone(), String::from_utf8_lossy(&self.locate(&components).1).into_owned())
    }

    /// Returns the number of the subvolume that holds `path`, to which no link leads.
    pub(crate) fn subvolume(&self, path: &str) -> Option<u64> {
        self.locate(&split(path.as_bytes()).collect()).0.subvolume()
    }

    /// Returns whether a regular file, and not a link to one, stands at `path`.
    pub(crate) fn is_file(&self, path: &str) -> bool {
        self.node(path).is_some_and(|node| node.kind == NodeKind::File)
    }

    /// Returns whether a folder, and not a link to one, stands at `path`.
    pub(crate) fn is_folder_itself(&self, path: &str) -> bool {
        self.node(path).is_some_and(|node| node.kind == NodeKind::Folder)
    }

    /// Returns whether a pipe, a socket or a device, and not a link to one, stands at `path`.
    pub(crate) fn is_special(&self, path: &str) -> bool {
        self.node(path).is_some_and(|node| node.kind == NodeKind::Special)
    }

    /// Returns where the link at `path` points, as it is written; none where there is no link.
    pub(crate) fn link_target(&self, path: &str) -> Option<String> {
        let place = self.find(path, false).filter(|place| place.node.kind == NodeKind::Link)?;
        let (filesystem, inner) = self.locate(&place.components);
        String::from_utf8(self.told(filesystem.link(&inner, place.node.length), &place.components)?).ok()
    }

    /// Returns the path that `path` leads to over all links, if something stands there.
    pub(crate) fn resolve(&self, path: &str) -> Option<String> {
        let place = self.find(path, true)?;
        String::from_utf8([b"/", place.components.join(&b'/').as_slice()].concat()).ok()
    }

    /// Returns `path` with the links to its folder resolved, as far as its folders are there.
    pub(crate) fn resolve_parent(&self, path: &str) -> String {
        let place = |(at, _): (usize, &str)| {
            let folder = self.resolve(&path[..at])?;
            Some(format!("{}{}", folder.trim_end_matches('/'), &path[at..]))
        };
        path.rmatch_indices('/').find_map(place).unwrap_or_else(|| path.to_owned())
    }

    /// Returns whether something can be put at `path`, to which no link leads but one that is broken: folders or nothing on
    /// the way, and no pipe or device at its end.
    pub(crate) fn is_writable(&self, path: &str) -> bool {
        let mut above = path.match_indices('/').map(|(at, _)| &path[..at]);
        above.all(|folder| self.node(folder).is_none_or(|node| node.kind == NodeKind::Folder)) && !self.is_special(path)
    }

    /// Reads the first `most` bytes of the regular file at `path`.
    pub(crate) fn head(&self, path: &str, most: usize) -> Option<Vec<u8>> {
        let place = self.find(path, true).filter(|place| place.node.kind == NodeKind::File)?;
        self.load(&place, most)
    }

    /// Does the same, and keeps the bytes for whoever asks again: for the few large files that several parts read.
    pub(crate) fn head_kept(&self, path: &str, most: usize) -> Option<Rc<Vec<u8>>> {
        if let Some(kept) = self.kept.borrow().get(path) {
            return kept.clone();
        }
        let head = self.head(path, most).map(Rc::new);
        self.kept.borrow_mut().insert(path.to_owned(), head.clone());
        head
    }

    /// Returns at most `most` names in the folder at `path`, sorted; none where there is no folder.
    pub(crate) fn names(&self, path: &str, most: usize) -> Vec<String> {
        let Some(place) = self.find(path, true).filter(|place| place.node.kind == NodeKind::Folder) else {
            return Vec::new();
        };
        if !self.is_small(&place) {
            return Vec::new();
        }
        let (filesystem, inner) = self.locate(&place.components);
        let names = self.told(filesystem.names(&inner, most), &place.components).unwrap_or_default();
        let mut names: Vec<_> = names.into_iter().filter_map(|name| String::from_utf8(name).ok()).collect();
        names.sort();
        names
    }

    /// Returns at most `most` names in the folder at `path`, to which no link leads, with what each stands for, sorted.
    pub(crate) fn entries(&self, path: &str, most: usize) -> Vec<(String, Node)> {
        let Some(place) = self.find(path, false).filter(|place| place.node.kind == NodeKind::Folder) else {
            return Vec::new();
        };
        if !self.is_small(&place) {
            return Vec::new();
        }
        let (filesystem, inner) = self.locate(&place.components);
        let found = self.told(filesystem.entries(&inner, most), &place.components).unwrap_or_default();
        let base = path.trim_end_matches('/');
        let mut entries: Vec<_> =
            found.into_iter().filter_map(|(name, node)| Some((String::from_utf8(name).ok()?, node))).collect();
        // On a folder that something is mounted on stands the top of that.
        if self.mounts.iter().any(|mount| mount.at.len() == place.components.len() + 1) {
            for (name, node) in &mut entries {
                *node = self.node(&format!("{base}/{name}")).unwrap_or(*node);
            }
        }
        entries.sort_by(|one, other| one.0.cmp(&other.0));
        entries
    }

    fn load(&self, place: &Place, most: usize) -> Option<Vec<u8>> {
        let (filesystem, inner) = self.locate(&place.components);
        let bytes = self.told(filesystem.read(&inner, 0, most), &place.components)?;
        // Counted once more as what is held: a hole takes no reading, and memory all the same.
        self.budget.count_bytes(bytes.len()).ok()?;
        Some(bytes)
    }

    /// Walks `path` name by name; a link at its end is followed if `is_followed`.
    fn find(&self, path: &str, is_followed: bool) -> Option<Place> {
        let mut pending: VecDeque<_> = split(path.as_bytes()).collect();
        let mut here = self.look(Vec::new())?;
        let mut links = 0;
        while let Some(name) = pending.pop_front() {
            if here.node.kind != NodeKind::Folder || !self.is_small(&here) {
                return None;
            }
            let mut components = here.components.clone();
            if name == b".." {
                components.pop();
                here = self.look(components)?;
                continue;
            }
            components.push(name);
            let next = self.look(components)?;
            if next.node.kind != NodeKind::Link || (pending.is_empty() && !is_followed) {
                here = next;
                continue;
            }
            links += 1;
            let (filesystem, inner) = self.locate(&next.components);
            let target = self.told(filesystem.link(&inner, next.node.length), &next.components)?;
            split(&target).rev().for_each(|name| pending.push_front(name));
            if links > LINKS_MAX || pending.len() > COMPONENTS_MAX {
                self.budget.note(format!("{path} leads over too many links; it was not read."));
                return None;
            }
            if target.starts_with(b"/") {
                here = self.look(Vec::new())?;
            }
        }
        Some(here)
    }

    fn look(&self, components: Components) -> Option<Place> {
        self.budget.check_time().ok()?;
        let known = self.known.borrow().get(&components).copied();
        let node = known.unwrap_or_else(|| {
            let (filesystem, inner) = self.locate(&components);
            let node = self.told(filesystem.stat(&inner), &components).flatten();
            let mut known = self.known.borrow_mut();
            if known.len() < KNOWN_MAX && components.len() <= KNOWN_COMPONENTS_MAX {
                known.insert(components.clone(), node);
            }
            node
        });
        Some(Place { components, node: node? })
    }

    /// Returns the file system that holds `components`, and the path inside it.
    fn locate(&self, components: &Components) -> (&dyn Files, Vec<u8>) {
        let mount = self.mounts.iter().find(|mount| components.starts_with(&mount.at));
        let (filesystem, depth) = mount.map_or((&self.root, 0), |mount| (&mount.filesystem, mount.at.len()));
        (&**filesystem, [b"/", components[depth..].join(&b'/').as_slice()].concat())
    }

    fn is_small(&self, place: &Place) -> bool {
        let is_small = self.locate(&place.components).0.is_folder_small(place.node.length);
        if !is_small {
            self.budget.note(format!("The folder {} is too large to look into.", shown(&place.components)));
        }
        is_small
    }

    fn told<T>(&self, answer: Result<T, String>, components: &Components) -> Option<T> {
        let tell = |fault: &String| {
            self.budget.note(format!("{} cannot be read: {}.", shown(components), clean(fault.as_bytes())));
        };
        answer.inspect_err(tell).ok()
    }
}

fn shown(components: &Components) -> String {
    clean(&[b"/", components.join(&b'/').as_slice()].concat())
}
