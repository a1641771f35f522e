//! A disk that loses power: it knows what is durable, and makes of the rest what may be found afterwards.
//!
//! Folders and files are real, and beside them stands what was synced of them. After a cut each name that was made or
//! taken away since its folder was synced is there or not, by itself; a file has any length between what was synced and
//! what was written, and each sector of it is new, old (zero), or what lay there before.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use chunks::Files;
use tempfile::TempDir;

use crate::support::{Dice, noise};
use crate::watched_index::Watch;

/// What a disk writes in one step.
const SECTOR: usize = 512;

/// Which syncs of a folder a disk ignores, by the path below its top; every one is needed.
pub(crate) type Ignores = fn(&Path) -> bool;

/// The disk as one process sees it, which dies after a number of calls; the next one shares what lies there.
pub(crate) struct Disk {
    left: AtomicU64,
    platter: Arc<Platter>,
}

struct Platter {
    top: TempDir,
    state: Mutex<State>,
    ignores_folders: Ignores,
    ignores_files: bool,
}

#[derive(Default)]
struct State {
    bodies: Vec<Body>,
    /// The body behind each inode number that is in use.
    inodes: HashMap<u64, usize>,
    /// Names that survive a cut, below the top.
    durable: BTreeMap<PathBuf, Entry>,
    /// What happened to names since their folder was synced, in order; none for a name that is gone.
    unsynced: Vec<(PathBuf, Option<Entry>)>,
}

#[derive(Clone, Copy)]
enum Entry {
    Folder,
    File(usize),
}

/// What a file holds; it is only ever appended to.
struct Body {
    bytes: Vec<u8>,
    /// So many of them survive a cut for sure.
    synced: usize,
}

/// A folder for a disk, in memory where that can be: what survives is decided here, and thousands of files are made.
fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap()
}

impl Disk {
    /// Makes an empty disk.
    pub(crate) fn new(ignores_folders: Ignores, ignores_files: bool) -> Arc<Self> {
        Self::with(folder(), ignores_folders, ignores_files)
    }

    /// Everything that lies in `top` is durable.
    fn with(top: TempDir, ignores_folders: Ignores, ignores_files: bool) -> Arc<Self> {
        let mut state = State::default();
        state.take_up(top.path(), Path::new(""));
        let platter = Platter { top, state: Mutex::new(state), ignores_folders, ignores_files };
        Arc::new(Self { left: u64::MAX.into(), platter: Arc::new(platter) })
    }

    /// Returns the folder in which everything lies.
    pub(crate) fn top(&self) -> &Path {
        self.platter.top.path()
    }

    /// Returns the disk as another process sees it, which dies after so many calls; the ones before it are dead.
    pub(crate) fn next_process(&self, calls: u64) -> Arc<Self> {
        let _nothing_is_under_way = self.state();
        self.left.store(0, Ordering::SeqCst);
        Arc::new(Self { left: calls.into(), platter: Arc::clone(&self.platter) })
    }

    /// Returns the disk as it may be found when the power is cut now.
    pub(crate) fn cut(&self, seed: u64) -> Arc<Self> {
        let (state, mut dice, top) = (self.state(), Dice::new(seed), folder());
        self.left.store(0, Ordering::SeqCst);
        let luck = Luck::of(seed);
        let mut names = state.durable.clone();
        // A name that was made and taken away and of which only the second survives is gone either way, so any subset in
        // the order of the calls is any subset in any order.
        for (path, entry) in &state.unsynced {
            match entry {
                _ if !luck.keeps_name(&mut dice) => {}
                Some(entry) => drop(names.insert(path.clone(), *entry)),
                None => drop(names.remove(path)),
            }
        }
        let found: Vec<Vec<u8>> = state.bodies.iter().map(|body| body.found(luck, &mut dice)).collect();
        for (path, entry) in names {
            let path = top.path().join(path);
            match entry {
                _ if !path.parent().is_some_and(Path::is_dir) => {}
                Entry::Folder => fs::create_dir(path).unwrap(),
                Entry::File(body) => fs::write(path, &found[body]).unwrap(),
            }
        }
        Self::with(top, self.platter.ignores_folders, self.platter.ignores_files)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.platter.state.lock().unwrap()
    }

    /// Takes one call from those that are left. While the state is held nobody else's takes effect.
    fn begin(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.state();
        let left = self.left.load(Ordering::SeqCst).checked_sub(1);
        self.left.store(left.ok_or_else(|| io::Error::other("the power is off"))?, Ordering::SeqCst);
        Ok(state)
    }

    fn below_top(&self, path: &Path) -> PathBuf {
        path.strip_prefix(self.top()).expect("nothing is changed anywhere else").to_owned()
    }
}

impl State {
    fn take_up(&mut self, top: &Path, folder: &Path) {
        for entry in fs::read_dir(top.join(folder)).unwrap() {
            let entry = entry.unwrap();
            let (path, metadata) = (folder.join(entry.file_name()), entry.metadata().unwrap());
            if metadata.is_dir() {
                self.durable.insert(path.clone(), Entry::Folder);
                self.take_up(top, &path);
            } else {
                let body = self.body(metadata.ino(), fs::read(entry.path()).unwrap());
                self.durable.insert(path, body);
            }
        }
    }

    fn body(&mut self, inode: u64, bytes: Vec<u8>) -> Entry {
        self.inodes.insert(inode, self.bodies.len());
        self.bodies.push(Body { synced: bytes.len(), bytes });
        Entry::File(self.bodies.len() - 1)
    }

    fn body_of(&mut self, file: &File) -> &mut Body {
        let body = self.inodes[&file.metadata().unwrap().ino()];
        &mut self.bodies[body]
    }
}

/// How much of what was not synced survives. The extremes are as likely as all between them, for most faults show there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Luck {
    Nothing,
    NamesAndLengths,
    Names,
    Some,
}

impl Luck {
    fn of(seed: u64) -> Self {
        [Self::Nothing, Self::NamesAndLengths, Self::Names, Self::Some][(seed % 4) as usize]
    }

    fn keeps_name(self, dice: &mut Dice) -> bool {
        match self {
            Self::Nothing => false,
            Self::NamesAndLengths | Self::Names => true,
            Self::Some => dice.roll(2) == 0,
        }
    }
}

impl Body {
    fn found(&self, luck: Luck, dice: &mut Dice) -> Vec<u8> {
        let mut found = self.bytes.clone();
        match luck {
            Luck::Nothing | Luck::Names => found.truncate(self.synced),
            Luck::NamesAndLengths => found[self.synced..].fill(0),
            Luck::Some => {
                found.truncate(self.synced + dice.roll((found.len() - self.synced) as u64 + 1) as usize);
                for sector in found[self.synced..].chunks_mut(SECTOR) {
                    match dice.roll(4) {
                        0 => sector.fill(0),
                        1 => sector.copy_from_slice(&noise(dice.roll(u64::MAX), sector.len())),
                        _ => {}
                    }
                }
            }
        }
        found
    }
}

impl Files for Disk {
    fn make_folder(&self, path: &Path) -> io::Result<()> {
        let mut state = self.begin()?;
        fs::create_dir(path)?;
        state.unsynced.push((self.below_top(path), Some(Entry::Folder)));
        Ok(())
    }

    fn create(&self, path: &Path) -> io::Result<File> {
        let mut state = self.begin()?;
        let file = OpenOptions::new().write(true).create_new(true).open(path)?;
        let body = state.body(file.metadata()?.ino(), Vec::new());
        state.unsynced.push((self.below_top(path), Some(body)));
        Ok(file)
    }

    fn write(&self, file: &mut File, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut state = self.begin()?;
        let count = file.write_vectored(parts)?;
        let bytes = parts.iter().flat_map(|part| part.iter().copied()).take(count);
        state.body_of(file).bytes.extend(bytes);
        Ok(count)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        let mut state = self.begin()?;
        if !self.platter.ignores_files {
            let body = state.body_of(file);
            body.synced = body.bytes.len();
        }
        Ok(())
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        let Ok(folder) = path.strip_prefix(self.top()) else { return Ok(()) };
        let mut state = self.begin()?;
        if !(self.platter.ignores_folders)(folder) {
            let (synced, unsynced) =
                std::mem::take(&mut state.unsynced).into_iter().partition(|(path, _)| path.parent() == Some(folder));
            state.unsynced = unsynced;
            let synced: Vec<(PathBuf, Option<Entry>)> = synced;
            for (path, entry) in synced {
                match entry {
                    Some(entry) => drop(state.durable.insert(path, entry)),
                    None => drop(state.durable.remove(&path)),
                }
            }
        }
        Ok(())
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.begin()?;
        fs::hard_link(from, to)?;
        let body = state.inodes[&fs::metadata(to)?.ino()];
        state.unsynced.push((self.below_top(to), Some(Entry::File(body))));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.begin()?;
        fs::remove_file(path)?;
        state.unsynced.push((self.below_top(path), None));
        Ok(())
    }
}

impl Watch for Disk {
    /// The catalog lies elsewhere and is durable at once, but the process that calls it dies with the disk.
    fn call(&self) -> (bool, bool) {
        let lives = self.begin().is_ok();
        (lives, lives)
    }
}
