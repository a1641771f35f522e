//! A small file system in memory, to be filled up.

use std::path::{Path, PathBuf};

use crate::{command, run, tool};

/// A file system in memory, for as long as the value lives.
pub struct Tmpfs(pub PathBuf);

impl Tmpfs {
    /// Mounts a file system of `mib` MiB at `path`, which is made for it.
    #[must_use]
    pub fn mount(path: &Path, mib: u64) -> Self {
        let id = tool("id", ["-u"]);
        assert_eq!(id.trim(), "0", "this test mounts a small file system, which only root may: run it as root");
        std::fs::create_dir(path).unwrap();
        let size = format!("size={mib}m");
        tool("mount", ["-t", "tmpfs", "-o", &size, "molde-tests", path.to_str().unwrap()]);
        Self(path.to_owned())
    }

    /// Gives it room for `mib` MiB.
    pub fn enlarge(&self, mib: u64) {
        tool("mount", ["-o", &format!("remount,size={mib}m"), self.0.to_str().unwrap()]);
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        run(&mut command("umount", [&self.0]));
    }
}
