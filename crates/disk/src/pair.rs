//! A disk of two files, a descriptor and the data that it names: whenever the program ends, the descriptor that is there
//! names data that are whole and its own.
//!
//! Where both names are in use already, the new data may not take the name of the old ones while the old descriptor is
//! there. They come under another name first:
//!
//! ```text
//! data -> aside | descriptor of aside -> dst | second name of aside -> flat | descriptor of flat -> dst | aside is removed
//! ```

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::copy::{Copied, CopyOptions, copy_to_file};
use crate::error::{Error, Result};
use crate::formats::vmdk::flat_descriptor;
use crate::options::WriteOptions;
use crate::source::Source;
use crate::temporary::{Temporary, exists, link_over};

/// Numbers that are tried for a name that is free.
const NAMES: u32 = 1000;

/// Files that are complete and wait for their names.
pub(crate) struct Pair {
    /// What was written.
    pub(crate) copied: Copied,
    data: Temporary,
    /// Names the data as `flat`.
    descriptor: Temporary,
    /// Where the data lie first, and the descriptor that names them so, if `flat` and `dst` are there.
    aside: Option<(PathBuf, Temporary)>,
    flat: PathBuf,
    dst: PathBuf,
    force: bool,
    sync: bool,
}

type Step = fn(&mut Pair) -> Result<()>;

impl Pair {
    /// Writes the bare disk to a file beside `dst`, and the descriptor that will be `dst`.
    pub(crate) fn write(
        disk: &dyn Source,
        dst: &Path,
        options: &WriteOptions,
        copy: &CopyOptions<'_>,
        force: bool,
    ) -> Result<Self> {
        let stem = dst.file_stem().and_then(|stem| stem.to_str()).ok_or_else(|| {
            Error::unsupported(format!("{} has a name that a VMDK descriptor cannot hold", dst.display()))
        })?;
        let name = format!("{stem}-flat.vmdk");
        let flat = dst.with_file_name(&name);
        let taken = flat.symlink_metadata().is_ok();
        if taken && !force {
            return Err(exists(&flat));
        }
        // All that takes room is written before anything gets its name.
        let describe = |name: &str| describe(&flat_descriptor(disk.len(), name, options)?, dst);
        let descriptor = describe(&name)?;
        let aside = match taken && dst.symlink_metadata().is_ok() {
            true => {
                let name = free_name(dst, stem)?;
                Some((dst.with_file_name(&name), describe(&name)?))
            }
            false => None,
        };
        let data = Temporary::create(&flat)?;
        let copied = copy_to_file(disk, &data.file, copy)?;
        let bytes_total = disk.len().next_multiple_of(512);
        data.file.set_len(bytes_total).map_err(|error| Error::io(format!("write {}", flat.display()), error))?;
        let copied = Copied { bytes_total, ..copied };
        Ok(Self { copied, data, descriptor, aside, flat, dst: dst.to_owned(), force, sync: copy.sync })
    }

    /// Gives the files their names.
    pub(crate) fn publish(mut self) -> Result<()> {
        self.steps().iter().try_for_each(|step| step(&mut self))
    }

    /// What must be done, in this order; after each step the program may end.
    fn steps(&self) -> &'static [Step] {
        match self.aside {
            Some(_) => &[Self::put_data_aside, Self::name_aside, Self::replace],
            None => &[Self::put_data, Self::name],
        }
    }

    fn put_data(&mut self) -> Result<()> {
        self.data.rename(&self.flat, self.force, self.sync)
    }

    fn name(&mut self) -> Result<()> {
        self.descriptor.rename(&self.dst, self.force, self.sync)
    }

    fn put_data_aside(&mut self) -> Result<()> {
        let Some((aside, _)) = &self.aside else { return Ok(()) };
        self.data.rename(aside, false, self.sync)
    }

    fn name_aside(&mut self) -> Result<()> {
        let Some((_, descriptor)) = &mut self.aside else { return Ok(()) };
        descriptor.rename(&self.dst, true, self.sync)
    }

    /// Moves the data from the other name to the usual one. Nothing names the old data any more.
    fn replace(&mut self) -> Result<()> {
        let Some((aside, _)) = &self.aside else { return Ok(()) };
        let removed = if link_over(aside, &self.flat, self.sync)? {
            self.descriptor.rename(&self.dst, true, self.sync)?;
            aside
        } else {
            // Where a file has one name only, the data keep the other one.
            &self.flat
        };
        fs::remove_file(removed).map_err(|error| Error::io(format!("remove {}", removed.display()), error))
    }
}

/// Writes the descriptor `text`, which will be `dst`.
fn describe(text: &str, dst: &Path) -> Result<Temporary> {
    let descriptor = Temporary::create(dst)?;
    let failed = |error| Error::io(format!("write {}", dst.display()), error);
    descriptor.file.write_all_at(text.as_bytes(), 0).map_err(failed)?;
    Ok(descriptor)
}

/// Returns a name for data beside `dst` that no file has.
fn free_name(dst: &Path, stem: &str) -> Result<String> {
    (1..NAMES)
        .map(|number| format!("{stem}-{number}-flat.vmdk"))
        .find(|name| dst.with_file_name(name).symlink_metadata().is_err())
        .ok_or_else(|| Error::refused(format!("no name beside {} is free for its data", dst.display())))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Returns what the data hold that the descriptor at `dst` names; all of it is the same byte.
    fn named(dst: &Path) -> Option<u8> {
        let text = fs::read_to_string(dst).ok()?;
        let name = text.split('"').find(|part| part.ends_with("-flat.vmdk")).unwrap();
        let data = fs::read(dst.with_file_name(name)).expect(name);
        let sectors = format!("RW {} FLAT", data.len() / 512);
        assert!(text.contains(&sectors), "{text} is not of {} bytes", data.len());
        assert!(data.iter().all(|byte| *byte == data[0]), "data of two disks");
        Some(data[0])
    }

    fn names(folder: &Path) -> BTreeSet<String> {
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    fn pair(dst: &Path, byte: u8, size: usize, force: bool) -> Result<Pair> {
        let (options, copy) = (WriteOptions::default(), CopyOptions { sync: true, ..CopyOptions::default() });
        Pair::write(&vec![byte; size], dst, &options, &copy, force)
    }

    /// Ended after any step, what is there is the old disk or the new one, and the next run gives the usual names again.
    #[test]
    fn a_pair_that_is_replaced_is_whole_after_every_step() {
        for steps in 0..=3 {
            let folder = tempfile::tempdir().unwrap();
            let dst = folder.path().join("disk.vmdk");
            pair(&dst, b'o', 4096, false).unwrap().publish().unwrap();
            assert_eq!(named(&dst), Some(b'o'));
            let mut new = pair(&dst, b'n', 8192, true).unwrap();
            assert_eq!(new.steps().len(), 3);
            for step in &new.steps()[..steps] {
                step(&mut new).unwrap();
            }
            drop(new);
            assert_eq!(named(&dst), Some(if steps < 2 { b'o' } else { b'n' }), "after {steps} steps");
            pair(&dst, b'l', 512, true).unwrap().publish().unwrap();
            assert_eq!(named(&dst), Some(b'l'));
            assert!(fs::read_to_string(&dst).unwrap().contains("\"disk-flat.vmdk\""));
            let left = BTreeSet::from(["disk.vmdk".to_owned(), "disk-flat.vmdk".to_owned()]);
            if steps == 0 || steps == 3 {
                assert_eq!(names(folder.path()), left);
            }
        }
    }

    /// In the middle of the last step, with two names for the data, too.
    #[test]
    fn data_with_two_names_are_whole() {
        let folder = tempfile::tempdir().unwrap();
        let dst = folder.path().join("disk.vmdk");
        pair(&dst, b'o', 4096, false).unwrap().publish().unwrap();
        let mut new = pair(&dst, b'n', 8192, true).unwrap();
        new.put_data_aside().unwrap();
        new.name_aside().unwrap();
        let (aside, _) = new.aside.as_ref().unwrap();
        assert!(link_over(aside, &new.flat, true).unwrap());
        assert_eq!(named(&dst), Some(b'n'));
        new.descriptor.rename(&dst, true, true).unwrap();
        assert_eq!(named(&dst), Some(b'n'));
    }

    #[test]
    fn what_is_there_stays_unless_forced() {
        let folder = tempfile::tempdir().unwrap();
        let dst = folder.path().join("disk.vmdk");
        fs::write(folder.path().join("disk-flat.vmdk"), "precious").unwrap();
        assert_eq!(pair(&dst, b'n', 512, false).err().unwrap().kind(), crate::ErrorKind::Refused);
        assert_eq!(names(folder.path()).len(), 1, "nothing is left behind");
        pair(&dst, b'n', 512, true).unwrap().publish().unwrap();
        assert_eq!((named(&dst), names(folder.path()).len()), (Some(b'n'), 2));
    }
}
