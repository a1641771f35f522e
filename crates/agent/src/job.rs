//! The job: which file systems are mounted, which programs of a guest run in them, and what is changed in each.

use crate::bytes::{Reader, Writer};

/// First bytes of a job; the last one is its version.
const MAGIC: u64 = u64::from_le_bytes(*b"MOLDEJB2");

/// All that the agent does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// The time that changed files get, in seconds since 1970.
    pub now: u64,
    /// How many modules are loaded, in their order.
    pub modules: u64,
    /// Programs of the guest that run before all else; usually none.
    pub visit: Option<Visit>,
    /// What is mounted, one after the other.
    pub mounts: Vec<Mount>,
}

/// A guest's own tree, and its programs that run in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Visit {
    /// The file systems of the tree: its root, and each after the one that it lies on.
    pub tree: Vec<Branch>,
    /// Files that the programs find in [`GIVEN`](crate::GIVEN), by name.
    pub files: Vec<(String, Vec<u8>)>,
    /// The programs, one after the other, each with its arguments; all have to end well.
    pub programs: Vec<Vec<String>>,
}

/// A file system, or a subvolume of one, at its place in a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Branch {
    /// Path in the tree; no link leads to it.
    pub at: String,
    /// Number of the drive.
    pub drive: u64,
    /// What the kernel calls the kind of file system.
    pub kind: String,
    /// Options of that kind, parted by commas.
    pub options: String,
}

/// A file system, or a subvolume of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Number of the drive.
    pub drive: u64,
    /// What the kernel calls the kind of file system.
    pub kind: String,
    /// Options of that kind, parted by commas.
    pub options: String,
    /// What is changed, in this order; nothing where the journal alone is to be replayed.
    pub operations: Vec<Operation>,
}

/// A change of one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// Path from the top of what is mounted; no link leads to it.
    pub path: Vec<u8>,
    /// What must stand there.
    pub before: Before,
    /// What stands there afterwards.
    pub after: After,
}

/// What must stand at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Before {
    /// Nothing.
    Absent,
    /// A regular file.
    File {
        /// Its length in bytes.
        length: u64,
        /// What it holds, where that is known.
        sha256: Option<[u8; 32]>,
    },
    /// A symbolic link.
    Link(Vec<u8>),
    /// A folder.
    Folder,
    /// Nothing, or a regular file.
    Log,
}

/// What stands at a path afterwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum After {
    /// A file with this content.
    Content {
        /// The content.
        bytes: Vec<u8>,
        /// A file whose rights, owner and label a new one takes.
        like: Option<Vec<u8>>,
    },
    /// The file that was there with these bytes behind it; a new one is for its owner alone.
    Appended(Vec<u8>),
    /// The file that was there with these bytes at these places, the last of which may make it longer.
    Patched(Vec<(u64, Vec<u8>)>),
    /// A symbolic link.
    Link(Vec<u8>),
    /// Nothing; a folder has all of this in it, deepest first, and whether each is a folder.
    Absent(Vec<(Vec<u8>, bool)>),
}

impl Job {
    /// Writes the job.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Writer::default();
        out.number(MAGIC);
        out.number(self.now);
        out.number(self.modules);
        out.byte(u8::from(self.visit.is_some()));
        self.visit.iter().for_each(|visit| visit.write(&mut out));
        out.count(self.mounts.len());
        for mount in &self.mounts {
            out.number(mount.drive);
            out.text(&mount.kind);
            out.text(&mount.options);
            out.count(mount.operations.len());
            mount.operations.iter().for_each(|operation| operation.write(&mut out));
        }
        out.0
    }

    /// Reads a job; none where the bytes are no job of this version.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let mut from = Reader(bytes);
        if from.number()? != MAGIC {
            return None;
        }
        let (now, modules) = (from.number()?, from.number()?);
        let visit = if from.byte()? == 0 { None } else { Some(Visit::read(&mut from)?) };
        let mounts = from.list(|from| {
            Some(Mount {
                drive: from.number()?,
                kind: from.text()?,
                options: from.text()?,
                operations: from.list(Operation::read)?,
            })
        })?;
        from.0.is_empty().then_some(Self { now, modules, visit, mounts })
    }
}

impl Visit {
    fn write(&self, out: &mut Writer) {
        out.count(self.tree.len());
        for branch in &self.tree {
            out.text(&branch.at);
            out.number(branch.drive);
            out.text(&branch.kind);
            out.text(&branch.options);
        }
        out.count(self.files.len());
        for (name, bytes) in &self.files {
            out.text(name);
            out.bytes(bytes);
        }
        out.count(self.programs.len());
        for arguments in &self.programs {
            out.count(arguments.len());
            arguments.iter().for_each(|argument| out.text(argument));
        }
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        let tree = from.list(|from| {
            Some(Branch { at: from.text()?, drive: from.number()?, kind: from.text()?, options: from.text()? })
        })?;
        let files = from.list(|from| Some((from.text()?, from.bytes()?)))?;
        let programs = from.list(|from| from.list(Reader::text))?;
        Some(Self { tree, files, programs })
    }
}

impl Operation {
    fn write(&self, out: &mut Writer) {
        out.bytes(&self.path);
        match &self.before {
            Before::Absent => out.byte(0),
            Before::File { length, sha256 } => {
                out.byte(if sha256.is_some() { 2 } else { 1 });
                out.number(*length);
                out.0.extend(sha256.iter().flatten());
            }
            Before::Link(target) => {
                out.byte(3);
                out.bytes(target);
            }
            Before::Folder => out.byte(4),
            Before::Log => out.byte(5),
        }
        match &self.after {
            After::Content { bytes, like } => {
                out.byte(if like.is_some() { 1 } else { 0 });
                out.bytes(bytes);
                like.iter().for_each(|like| out.bytes(like));
            }
            After::Appended(bytes) => {
                out.byte(2);
                out.bytes(bytes);
            }
            After::Link(target) => {
                out.byte(3);
                out.bytes(target);
            }
            After::Absent(below) => {
                out.byte(4);
                out.count(below.len());
                for (path, is_folder) in below {
                    out.bytes(path);
                    out.byte(u8::from(*is_folder));
                }
            }
            After::Patched(pieces) => {
                out.byte(5);
                out.count(pieces.len());
                for (at, bytes) in pieces {
                    out.number(*at);
                    out.bytes(bytes);
                }
            }
        }
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        let path = from.bytes()?;
        let before = match from.byte()? {
            0 => Before::Absent,
            1 => Before::File { length: from.number()?, sha256: None },
            2 => Before::File { length: from.number()?, sha256: Some(from.hash()?) },
            3 => Before::Link(from.bytes()?),
            4 => Before::Folder,
            5 => Before::Log,
            _ => return None,
        };
        let after = match from.byte()? {
            0 => After::Content { bytes: from.bytes()?, like: None },
            1 => After::Content { bytes: from.bytes()?, like: Some(from.bytes()?) },
            2 => After::Appended(from.bytes()?),
            3 => After::Link(from.bytes()?),
            4 => After::Absent(from.list(|from| Some((from.bytes()?, from.byte()? != 0)))?),
            5 => After::Patched(from.list(|from| Some((from.number()?, from.bytes()?)))?),
            _ => return None,
        };
        Some(Self { path, before, after })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job() -> Job {
        let operation = |before, after| Operation { path: b"/etc/x".to_vec(), before, after };
        let file = |sha256| Before::File { length: 7, sha256 };
        let operations = vec![
            operation(Before::Absent, After::Content { bytes: b"new".to_vec(), like: Some(b"/etc/y".to_vec()) }),
            operation(file(Some([9; 32])), After::Content { bytes: Vec::new(), like: None }),
            operation(file(None), After::Appended(b"more".to_vec())),
            operation(file(Some([7; 32])), After::Patched(vec![(0, b"a".to_vec()), (1 << 33, b"b".to_vec())])),
            operation(Before::Link(b"to".to_vec()), After::Link(b"elsewhere".to_vec())),
            operation(Before::Folder, After::Absent(vec![(b"/etc/x/a".to_vec(), true), (b"/etc/x/b".to_vec(), false)])),
            operation(Before::Log, After::Appended(b"line\n".to_vec())),
        ];
        let mount = |kind: &str, operations| Mount {
            drive: 3,
            kind: kind.to_owned(),
            options: "subvolid=256".to_owned(),
            operations,
        };
        let branch = |at: &str| Branch { at: at.to_owned(), drive: 1, kind: "ext4".to_owned(), options: String::new() };
        let visit = Visit {
            tree: vec![branch("/"), branch("/boot")],
            files: vec![("a.deb".to_owned(), b"!<arch>".to_vec())],
            programs: vec![vec!["true".to_owned()], vec!["dpkg".to_owned(), "--install".to_owned()]],
        };
        let visit = Some(visit);
        Job {
            now: 1_790_000_000,
            modules: 4,
            visit,
            mounts: vec![mount("btrfs", operations), mount("xfs", Vec::new())],
        }
    }

    #[test]
    fn a_job_is_read_as_it_was_written() {
        let bytes = job().to_bytes();
        assert_eq!(Job::parse(&bytes), Some(job()));
        for end in 0..bytes.len() {
            assert_eq!(Job::parse(&bytes[..end]), None, "the first {end} bytes");
        }
        assert_eq!(Job::parse(&[&bytes[..], b"x"].concat()), None);
        assert_eq!(Job::parse(&[b"X", &bytes[1..]].concat()), None);
    }
}
