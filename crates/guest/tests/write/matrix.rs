//! Every operation on file systems of every kind: what was named is right, and nothing else is touched.

use std::collections::BTreeSet;

use guest::Attributes;

use crate::images::{Image, Node, Tree, noise};

const ROOT: Attributes = Attributes { mode: 0o644, uid: 0, gid: 0 };
const LABEL: &str = "system_u:object_r:etc_t:s0";

/// A small system with a folder of `names` names.
fn system(names: usize) -> Tree {
    let mut tree = Tree::new();
    for folder in ["/boot", "/etc", "/etc/network", "/many", "/var"] {
        tree.insert(folder.to_owned(), Node::Folder);
    }
    for (path, length) in [
        ("/boot/initrd", 500_001),
        ("/boot/vmlinuz", 400_000),
        ("/etc/hostname", 7),
        ("/etc/fstab", 700),
        ("/etc/empty", 0),
        ("/etc/large", 300_000),
        ("/etc/network/interfaces", 4096),
        ("/var/log", 10_000),
    ] {
        tree.insert(path.to_owned(), Node::File(noise(length as u64, length)));
    }
    tree.insert("/etc/short".to_owned(), Node::Link("hostname".to_owned()));
    tree.insert("/etc/long".to_owned(), Node::Link("../etc/".repeat(20) + "hostname"));
    for number in 0..names {
        tree.insert(
            format!("/many/a name with some length {number:05}"),
            Node::File(format!("{number}\n").into_bytes()),
        );
    }
    tree
}

/// An image whose changes are told to a model as well.
struct Both {
    image: Image,
    tree: Tree,
    /// Paths that were named, and folders whose names changed.
    named: BTreeSet<String>,
}

impl Both {
    fn name(&mut self, path: &str, node: Option<Node>) {
        self.named.insert(path.to_owned());
        match node {
            Some(node) => self.tree.insert(path.to_owned(), node),
            None => self.tree.remove(path),
        };
    }

    /// Asserts that `tree` is what the model has.
    fn judge_tree(&self, tree: &Tree, what: &str) {
        let paths: BTreeSet<&String> = tree.keys().chain(self.tree.keys()).collect();
        for path in paths {
            assert!(tree.get(path) == self.tree.get(path), "{what}: {path} is not as it should be");
        }
    }

    fn replace(&mut self, path: &str, content: &[u8]) {
        self.image.writer().replace(path.as_bytes(), content).unwrap();
        self.name(path, Some(Node::File(content.to_vec())));
    }

    fn append(&mut self, path: &str, content: &[u8]) {
        self.image.writer().append(path.as_bytes(), content).unwrap();
        let Some(Node::File(old)) = self.tree.get(path) else { panic!("{path} is no file") };
        let new = [old, content].concat();
        self.name(path, Some(Node::File(new)));
    }

    fn create(&mut self, path: &str, content: &[u8], attributes: Attributes, like: Option<&str>) {
        let like = like.map(str::as_bytes);
        self.image.writer().create(path.as_bytes(), content, attributes, like).unwrap();
        self.name(path, Some(Node::File(content.to_vec())));
    }

    fn symlink(&mut self, path: &str, target: &str) {
        self.image.writer().symlink(path.as_bytes(), target.as_bytes()).unwrap();
        self.name(path, Some(Node::Link(target.to_owned())));
    }

    fn make_folder(&mut self, path: &str) {
        self.image.writer().make_folder(path.as_bytes(), Attributes { mode: 0o755, ..ROOT }, None).unwrap();
        self.name(path, Some(Node::Folder));
    }

    fn remove(&mut self, path: &str) {
        self.image.writer().remove(path.as_bytes()).unwrap();
        self.name(path, None);
    }

    fn rename(&mut self, from: &str, to: &str) {
        self.image.writer().rename(from.as_bytes(), to.as_bytes()).unwrap();
        let node = self.tree.get(from).cloned();
        self.name(from, None);
        self.name(to, node);
    }
}

/// Whether ext4-view reads such file systems; it knows fewer kinds than are written.
fn is_viewed(what: &str) -> bool {
    let unread = ["^filetype", "meta_bg", "large_dir", "hash=legacy", "ext4 -b 1024 -I 128"];
    !unread.iter().any(|word| what.contains(word))
}

/// Does all operations on a file system made with `options`, of which `hash=` is the hash of indexes.
fn check(options: &[&str]) {
    let what = options.join(" ");
    let (hashes, options): (Vec<&str>, Vec<&str>) = options.iter().partition(|option| option.starts_with("hash="));
    let folder = tempfile::tempdir().unwrap();
    let value = folder.path().join("label");
    std::fs::write(&value, format!("{LABEL}\0")).unwrap();
    let commands = format!(
        "ea_set -f {0} /etc/hostname security.selinux\nea_set -f {0} /etc security.selinux\nln /var/log /etc/other\n\
         set_inode_field /var/log links_count 2\nset_inode_field /etc/hostname uid 1000\n\
         set_inode_field /etc/hostname gid 70000\nset_inode_field /etc/hostname mode 0100640\n",
        value.display()
    );
    let tree = system(200);
    let image = Image::with_hash(&options, "40M", &tree, &commands, hashes.first().map(|hash| &hash[5..]));
    image.check(&what);
    let mut both = Both { image, tree, named: BTreeSet::new() };
    both.tree.insert("/etc/other".to_owned(), Node::File(noise(10_000, 10_000)));
    assert_eq!(both.image.tree(), both.tree, "{what}");
    let told_before = both.image.told(both.tree.keys());

    change(&mut both);
    both.image.check(&what);
    both.judge_tree(&both.image.tree(), &what);
    if is_viewed(&what) {
        both.judge_tree(&both.image.tree_by_view(), &what);
    }
    judge(&both, &what, &told_before);
}

fn change(both: &mut Both) {
    both.replace("/etc/hostname", b"a new name\n");
    both.replace("/etc/large", b"small now");
    both.replace("/etc/fstab", &noise(1, 200_000));
    both.replace("/etc/network/interfaces", b"");
    both.create("/etc/new.conf", b"x=1\n", Attributes { mode: 0o600, uid: 70_001, gid: 12 }, Some("/etc/hostname"));
    both.create("/etc/by itself", &noise(2, 5000), ROOT, None);
    both.create(&format!("/etc/{}", "n".repeat(255)), b"long", ROOT, Some("/etc/hostname"));
    both.symlink("/etc/link", "../etc/hostname");
    both.symlink("/etc/long link", &"long/".repeat(40));
    both.make_folder("/etc/made");
    both.create("/etc/made/in it", b"in it", ROOT, None);
    both.remove("/etc/other");
    both.remove("/etc/short");
    both.remove("/etc/long");
    both.remove("/boot/vmlinuz");
    both.rename("/etc/network", "/etc/network.saved");
    let inside = "/etc/network.saved/interfaces";
    both.name("/etc/network/interfaces", None);
    both.name(inside, Some(Node::File(Vec::new())));
    both.append("/boot/initrd", &noise(3, 3 << 20));
    both.append("/etc/empty", b"not any more");
    both.append("/etc/empty", &noise(4, 9000));
    for number in (0..200).step_by(3) {
        both.remove(&format!("/many/a name with some length {number:05}"));
    }
    for number in 0..300 {
        both.create(&format!("/many/other {number:04} im selben Ordner für alle"), b"", ROOT, None);
    }
    both.rename("/many/a name with some length 00001", "/many/a name with some length 00000");
    both.image.writer().chmod(b"/etc/fstab", 0o4600).unwrap();
    for folder in ["/etc", "/many", "/var", "/var/log", "/boot"] {
        both.named.insert(folder.to_owned());
    }
}

/// Compares what debugfs says with what was before, and with what was asked for.
fn judge(both: &Both, what: &str, before: &std::collections::BTreeMap<String, String>) {
    let after = both.image.told(both.tree.keys());
    for (path, told) in before {
        assert!(both.named.contains(path) || after.get(path) == Some(told), "{what}: {path} changed: {told}");
    }
    let kept = |path: &str, part: &str| {
        let field = |told: &str| told.split(part).nth(1).map(|rest| rest.split_whitespace().next().map(str::to_owned));
        assert_eq!(field(&after[path]), field(&before[path]), "{what}: {part} of {path}");
        assert!(field(&after[path]).is_some(), "{what}: {}", after[path]);
    };
    for part in ["Inode: ", "Mode: ", "User: ", "Group: ", "Generation: ", "Links: ", "security.selinux "] {
        kept("/etc/hostname", part);
    }
    let has = |path: &str, part: &str| {
        let squeezed = after[path].split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(squeezed.contains(part), "{what}: {path} has no {part}: {squeezed}");
    };
    has("/etc/new.conf", "Mode: 0600");
    has("/etc/new.conf", "User: 70001 Group: 12");
    has("/etc/fstab", "Mode: 04600");
    has("/etc/made", "Mode: 0755");
    has("/etc/made", "Links: 2");
    has("/var/log", "Links: 1");
    for labelled in ["/etc/hostname", "/etc/new.conf", "/etc/by itself", "/etc/link", "/etc/made", "/etc/made/in it"] {
        has(labelled, &format!("security.selinux (27) = \"{LABEL}\\000\""));
        let listed = both.image.ask(&format!("ea_list \"{labelled}\""));
        assert!(String::from_utf8_lossy(&listed).contains(LABEL), "{what}: {labelled}");
    }
    assert!(!after["/many/other 0001 im selben Ordner für alle"].contains("selinux"), "{what}: a label from nowhere");
    let Some(Node::File(content)) = both.tree.get("/boot/initrd") else { panic!("no initrd") };
    assert!(both.image.ask("cat /boot/initrd") == *content, "{what}: debugfs reads another initrd");
}

macro_rules! matrix {
    ($($name:ident: $($option:literal)+;)+) => { $(
        #[test]
        fn $name() {
            check(&[$($option),+]);
        }
    )+ };
}

matrix! {
    ext2_1k: "-t" "ext2" "-b" "1024";
    ext2_4k_small_inodes: "-t" "ext2" "-b" "4096" "-I" "128";
    ext2_without_types_in_folders: "-t" "ext2" "-b" "1024" "-O" "^filetype";
    ext3_2k: "-t" "ext3" "-b" "2048";
    ext3_without_index: "-t" "ext3" "-b" "1024" "-O" "^dir_index";
    ext4_1k: "-t" "ext4" "-b" "1024";
    ext4_2k: "-t" "ext4" "-b" "2048";
    ext4_4k: "-t" "ext4" "-b" "4096";
    ext4_64k: "-t" "ext4" "-b" "65536" "-N" "4096" "-O" "^has_journal";
    ext4_many_small_groups: "-t" "ext4" "-b" "1024" "-g" "512" "-G" "4";
    ext4_4k_small_groups: "-t" "ext4" "-b" "4096" "-g" "1024" "-O" "^resize_inode";
    ext4_small_inodes: "-t" "ext4" "-b" "1024" "-I" "128";
    ext4_large_inodes: "-t" "ext4" "-b" "4096" "-I" "1024";
    ext4_without_checksums: "-t" "ext4" "-b" "1024" "-O" "^metadata_csum";
    ext4_group_checksums: "-t" "ext4" "-b" "1024" "-O" "^metadata_csum,uninit_bg";
    ext4_group_checksums_32_bit: "-t" "ext4" "-b" "1024" "-O" "^metadata_csum,uninit_bg,^64bit,^flex_bg";
    ext4_without_extents: "-t" "ext4" "-b" "1024" "-O" "^extents,^64bit";
    ext4_32_bit: "-t" "ext4" "-b" "1024" "-O" "^64bit";
    ext4_without_flexible_groups: "-t" "ext4" "-b" "1024" "-O" "^flex_bg";
    ext4_without_index: "-t" "ext4" "-b" "1024" "-O" "^dir_index";
    ext4_tea: "-t" "ext4" "-b" "1024" "hash=tea";
    ext4_legacy_hash: "-t" "ext4" "-b" "1024" "hash=legacy";
    ext4_orphan_file: "-t" "ext4" "-b" "1024" "-O" "orphan_file";
    ext4_checksum_seed: "-t" "ext4" "-b" "1024" "-O" "metadata_csum_seed";
    ext4_meta_groups: "-t" "ext4" "-b" "1024" "-g" "512" "-O" "meta_bg,^resize_inode";
    ext4_sparse_super2: "-t" "ext4" "-b" "1024" "-O" "sparse_super2,^resize_inode";
    ext4_projects_and_large_folders: "-t" "ext4" "-b" "4096" "-O" "project,large_dir,ea_inode,stable_inodes";
}

/// An index of hundreds of blocks: its root is moved into a node, and nodes are split.
#[test]
fn indexes_grow() {
    for options in [&["-t", "ext4", "-b", "1024", "-N", "8192"][..], &["-t", "ext3", "-b", "1024", "-N", "8192"]] {
        let mut image = Image::new(options, "40M", &system(100), "");
        assert!(String::from_utf8_lossy(&image.ask("htree_dump /many")).contains("Indirect levels: 0"));
        let mut writer = image.writer();
        let name = |number: usize| format!("/many/{number:06} {}", "long ".repeat(15));
        for number in 0..4000 {
            writer.create(name(number).as_bytes(), b"", ROOT, None).unwrap();
        }
        image.check("grown");
        assert!(String::from_utf8_lossy(&image.ask("htree_dump /many")).contains("Indirect levels: 1"));
        assert_eq!(image.tree().len(), system(100).len() + 4000);
        let found = image.tree_by_view();
        assert!((0..4000).all(|number| found.contains_key(&name(number))));
        let mut writer = image.writer();
        for number in 0..4000 {
            writer.remove(name(number).as_bytes()).unwrap();
        }
        image.check("emptied");
        assert_eq!(image.tree(), system(100));
    }
}
