//! The file system of a root tree, made without being mounted.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use super::raw::{Layout, PARTITION_START};
use crate::command::{capture, run};
use crate::packages;

/// Bytes that are copied at once, or left out where they are zeros.
const PIECE: usize = 64 << 10;

/// What holds the root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Root {
    Ext4,
    Xfs,
    Btrfs,
}

impl Root {
    /// What Linux calls it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
        }
    }

    /// What of GRUB reads it.
    pub(super) fn grub_module(self) -> &'static str {
        match self {
            Self::Ext4 => "ext2",
            Self::Xfs | Self::Btrfs => self.as_str(),
        }
    }
}

/// Makes the root of `tree` in its place on `disk`; `folder` is for what it takes on the way.
pub(super) fn make(layout: &Layout, folder: &Path, tree: &Path, disk: &Path) -> Result<()> {
    if layout.root == Root::Ext4 {
        return make_ext4(layout, tree, disk);
    }
    // The others are made in a file of their own, which is made first, so that it belongs to the user.
    let image = folder.join("root.img");
    let _ = fs::remove_file(&image);
    File::create(&image)?.set_len(layout.root_bytes())?;
    if layout.root == Root::Xfs {
        make_xfs(layout, folder, tree, &image)?;
    } else {
        let mut mkfs = packages::as_root("mkfs.btrfs")?;
        mkfs.args(["-q", "-L", "root", "-U", layout.root_uuid, "--rootdir"]).arg(tree);
        run(mkfs.arg(&image))?;
    }
    copy(&image, disk)?;
    fs::remove_file(&image).with_context(|| format!("cannot remove {}", image.display()))
}

fn make_ext4(layout: &Layout, tree: &Path, disk: &Path) -> Result<()> {
    let mut mke2fs = packages::as_root("mke2fs")?;
    mke2fs.args(["-q", "-F", "-t", "ext4", "-L", "root", "-U", layout.root_uuid, "-N", "65536", "-m", "1"]);
    // Newer defaults are switched off that GRUB cannot read.
    mke2fs.args(["-J", "size=16", "-O", "^metadata_csum_seed,^orphan_file"]);
    mke2fs.args(["-E", &format!("offset={PARTITION_START},lazy_itable_init=0,lazy_journal_init=0")]);
    run(mke2fs.arg("-d").arg(tree).arg(disk).arg(format!("{}K", layout.root_bytes() >> 10)))
}

fn make_xfs(layout: &Layout, folder: &Path, tree: &Path, image: &Path) -> Result<()> {
    ensure!(!tree.display().to_string().contains(' '), "mkfs.xfs knows no paths with blanks: {}", tree.display());
    let list = folder.join("root.prototype");
    let mut find = packages::as_root("find")?;
    find.arg(tree).args(["-mindepth", "1", "-printf", "%d\\t%y\\t%m\\t%U\\t%G\\t%f\\t%l\\t%p\\n"]);
    fs::write(&list, prototype(&capture(&mut find)?)?).with_context(|| format!("cannot write {}", list.display()))?;
    let mut mkfs = packages::as_root("mkfs.xfs")?;
    // Newer defaults are switched off that GRUB cannot read.
    mkfs.args([
        "-q",
        "-f",
        "-L",
        "root",
        "-m",
        &format!("uuid={},bigtime=0", layout.root_uuid),
        "-i",
        "nrext64=0",
        "-p",
    ]);
    run(mkfs.arg(&list).arg(image))
}

/// Writes what find(1) tells of a tree in the form of mkfs.xfs(8), which knows no names with blanks: those are left out, and
/// no system needs them.
fn prototype(found: &str) -> Result<String> {
    let mut list = "/\n0 0\nd--755 0 0\n".to_owned();
    let mut depth = 1;
    for line in found.lines() {
        let words: Vec<&str> = line.split('\t').collect();
        let [level, kind, mode, user, group, name, target, path] = words[..] else { continue };
        if path.contains(' ') {
            continue;
        }
        let (level, mode): (usize, _) = (level.parse()?, u32::from_str_radix(mode, 8)?);
        // `$` ends a folder.
        (level..depth).for_each(|_| list.push_str("$\n"));
        depth = level + usize::from(kind == "d");
        let (letter, content) = match kind {
            "d" => ('d', ""),
            "l" => ('l', target),
            "f" => ('-', path),
            _ => continue,
        };
        let set = |bit, letter| if mode & bit != 0 { letter } else { '-' };
        let flags = format!("{letter}{}{}{:03o}", set(0o4000, 'u'), set(0o2000, 'g'), mode & 0o777);
        writeln!(list, "{name} {flags} {user} {group} {content}")?;
    }
    (0..depth).for_each(|_| list.push_str("$\n"));
    Ok(list)
}

/// Copies what is not zero of `image` to its place on `disk`, which is empty there.
fn copy(image: &Path, disk: &Path) -> Result<()> {
    let mut from = File::open(image).with_context(|| format!("cannot open {}", image.display()))?;
    let to = File::options().write(true).open(disk)?;
    let mut piece = vec![0; PIECE];
    let mut at = PARTITION_START;
    loop {
        let length = from.read(&mut piece)?;
        if length == 0 {
            return Ok(());
        }
        if piece[..length].iter().any(|byte| *byte != 0) {
            to.write_all_at(&piece[..length], at)?;
        }
        at += length as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_end_where_what_is_in_them_does() {
        let found = "1\td\t755\t0\t0\ta\t\t/t/a\n2\td\t2750\t0\t5\tb\t\t/t/a/b\n3\tf\t4755\t0\t0\tsu\t\t/t/a/b/su\n\
                     2\tf\t644\t0\t0\ttwo words\t\t/t/a/two words\n1\td\t755\t0\t0\tempty\t\t/t/empty\n\
                     1\tl\t777\t0\t0\tlink\ta/b\t/t/link\n1\tc\t600\t0\t0\tnull\t\t/t/null\n";
        let expected = "/\n0 0\nd--755 0 0\na d--755 0 0 \nb d-g750 0 5 \nsu -u-755 0 0 /t/a/b/su\n$\n$\n\
                        empty d--755 0 0 \n$\nlink l--777 0 0 a/b\n$\n";
        assert_eq!(prototype(found).unwrap(), expected);
    }
}
