//! VMDK: sets of files, old kinds, and the writers, against qemu-img.

mod esx;
mod hostile;
mod sets;
mod written;

use std::sync::Arc;

use disk::{FileSource, Format, Given, Opened, Output, Source, WriteOptions};

use crate::common::Folder;

/// Returns options of the writer, such as `["subformat=streamOptimized"]`.
fn options(pairs: &[&str]) -> WriteOptions {
    let mut options = WriteOptions::default();
    for pair in pairs {
        let (key, value) = pair.split_once('=').unwrap();
        options.set(key, value);
    }
    options
}

/// Writes the compressed file as a whole.
fn stream(disk: Arc<dyn Source>, pairs: &[&str], threads: usize) -> disk::Result<Vec<u8>> {
    let pairs = [&["subformat=streamOptimized"], pairs].concat();
    let Output::Stream(stream) = disk::write(disk, Format::Vmdk, &options(&pairs))? else {
        panic!("streamOptimized is a stream");
    };
    let mut bytes = Vec::new();
    assert_eq!(stream.head_length(), 0);
    assert!(stream.write(threads, &|_, _| (), &mut bytes)?.is_empty());
    Ok(bytes)
}

/// Opens a descriptor with the files of `folder` that it may name.
fn open_set(descriptor: &[u8], folder: &Folder, names: &[&str]) -> disk::Result<Opened> {
    let mut gate = Given::new();
    for name in names {
        gate = gate.with_file(*name, Arc::new(FileSource::open(&folder.path(name))?));
    }
    disk::open(Arc::new(descriptor.to_vec()), Format::Vmdk, &gate)
}
