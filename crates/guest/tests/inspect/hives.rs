//! Makes registry hives: an empty one by hand, what is in it by hivexregedit.

use std::fs;

use crate::disks::tool;

/// An empty hive of 8 KiB as Windows Vista and later make it: a root key and its security descriptor.
pub(crate) fn empty(minor: u8) -> Vec<u8> {
    let mut hive = vec![0; 8192];
    let mut put = |at: usize, bytes: &[u8]| hive[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"regf\x01\0\0\0\x01\0\0\0");
    put(20, &[1, 0, 0, 0, minor, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0x20, 0, 0, 0, 0, 0x10, 0, 0, 1]);
    put(4096, b"hbin\0\0\0\0\0\x10\0\0");
    // The root key at 0x20: a root that cannot be deleted, with a name of one byte for each letter.
    put(4096 + 0x20, &(-88_i32).to_le_bytes());
    put(4096 + 0x24, b"nk\x2c\0");
    for list in [28, 32, 40, 48] {
        put(4096 + 0x24 + list, &[0xff; 4]);
    }
    put(4096 + 0x24 + 16, &[0xff; 4]);
    put(4096 + 0x24 + 44, &[0x78]);
    put(4096 + 0x24 + 72, b"\x04\0\0\0ROOT");
    // Its security descriptor at 0x78: self-relative, without owner, group and lists.
    put(4096 + 0x78, &(-48_i32).to_le_bytes());
    put(4096 + 0x7c, b"sk\0\0\x78\0\0\0\x78\0\0\0\x01\0\0\0\x14\0\0\0\x01\0\x04\x80");
    put(4096 + 0xa8, &(4096_u32 - 0xa8).to_le_bytes());
    stamp(&mut hive);
    hive
}

/// Puts the checksum of the base block right.
pub(crate) fn stamp(hive: &mut [u8]) {
    let sum = hive[..508].chunks_exact(4).fold(0, |sum, word| sum ^ u32::from_le_bytes(word.try_into().unwrap()));
    hive[508..512].copy_from_slice(&sum.to_le_bytes());
}

/// Merges `text`, keys and values as regedit writes them without its first line, into `hive`.
pub(crate) fn merge(hive: &[u8], text: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let (hive_path, text_path) = (folder.path().join("hive"), folder.path().join("text.reg"));
    fs::write(&hive_path, hive).unwrap();
    fs::write(&text_path, format!("Windows Registry Editor Version 5.00\n\n{text}")).unwrap();
    let paths = [hive_path.to_str().unwrap(), text_path.to_str().unwrap()];
    tool("libwin-hivex-perl", "hivexregedit", &["--merge", "--prefix", "K", paths[0], paths[1]], "");
    fs::read(&hive_path).unwrap()
}

/// Returns all of `hive` as hivexregedit tells it.
pub(crate) fn export(hive: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hive");
    fs::write(&path, hive).unwrap();
    let arguments = ["--export", "--prefix", "K", path.to_str().unwrap(), "\\"];
    tool("libwin-hivex-perl", "hivexregedit", &arguments, "")
}

/// Writes `text` as regedit does: every key above a key stands before it.
///
/// One line for each key (`[a\b]`) or value (`"name"=dword:1`, `"name"=text`).
pub(crate) fn regedit(text: &str) -> String {
    let mut told = String::new();
    let mut known = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if let Some(path) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            let names: Vec<&str> = path.split('\\').collect();
            for depth in 1..=names.len() {
                let key = format!("\n[K\\{}]\n", names[..depth].join("\\"));
                if depth == names.len() || !known.contains(&key) {
                    told.push_str(&key);
                    known.push(key);
                }
            }
        } else {
            told.push_str(line);
            told.push('\n');
        }
    }
    told
}
