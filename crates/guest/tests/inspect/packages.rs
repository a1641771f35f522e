//! Installed packages: what the databases of dpkg, apk, pacman and rpm tell, beside what their own programs say.

use std::fs;
use std::path::Path;

use guest::{Package, Report};

use crate::disks::{Node, ext, full_report, report, text, tool};

fn lines(packages: &[Package]) -> Vec<String> {
    let line = |package: &Package| {
        format!("{} {} {}", package.name, package.version, package.arch.as_deref().unwrap_or("(none)"))
    };
    packages.iter().map(line).collect()
}

fn packages(report: &Report) -> Vec<String> {
    lines(&report.os.as_ref().unwrap().packages)
}

/// The list of the Debian that runs the test, as its own program tells it.
#[test]
fn packages_of_dpkg_are_those_of_dpkg_query() {
    let status = fs::read("/var/lib/dpkg/status").unwrap();
    let nodes = [("etc/os-release", text("ID=debian\n")), ("var/lib/dpkg/status", Node::File(&status))];
    let report = full_report(ext(48, &["-t", "ext4"], &nodes));
    let format = "${db:Status-Status} ${Package} ${Version} ${Architecture}\n";
    let listed = tool("dpkg", "dpkg-query", &["-W", "-f", format], "");
    let mut expected: Vec<_> =
        listed.lines().filter_map(|line| line.strip_prefix("installed ")).map(str::to_owned).collect();
    let mut found = packages(&report);
    expected.sort();
    found.sort();
    assert!(expected.len() > 100, "{}", expected.len());
    assert_eq!(found, expected);
}

#[test]
fn packages_of_other_managers_are_told() {
    let check = |nodes: &[(&str, Node<'_>)], expected: &[&str]| {
        let mut all = vec![("etc/os-release", text("ID=x\n"))];
        all.extend(nodes.iter().map(|(path, node)| {
            let Node::File(content) = node else { panic!("a file") };
            (*path, Node::File(content))
        }));
        let disk = ext(8, &["-t", "ext4"], &all);
        assert_eq!(report(disk.clone()).os.unwrap().packages, []);
        assert_eq!(packages(&full_report(disk)), expected);
    };
    check(
        &[
            ("var/lib/dpkg/status.d/base", text("Package: base-files\nVersion: 12.4\nArchitecture: amd64\n")),
            ("var/lib/dpkg/status.d/base.md5sums", text("Package: no\nVersion: 1\n")),
        ],
        &["base-files 12.4 amd64"],
    );
    check(
        &[(
            "lib/apk/db/installed",
            text("C:Q1x\nP:musl\nV:1.2.4-r2\nA:aarch64\n\nP:busybox\nV:1.36-r9\nA:aarch64\n\n"),
        )],
        &["busybox 1.36-r9 aarch64", "musl 1.2.4-r2 aarch64"],
    );
    check(
        &[
            ("var/lib/pacman/local/ALPM_DB_VERSION", text("9\n")),
            ("var/lib/pacman/local/linux-lts-6.6.14-1/desc", text("%NAME%\nlinux-lts\n\n%ARCH%\nx86_64\n\n")),
            ("var/lib/pacman/local/dbus-1:2.3-4/files", text("")),
        ],
        &["dbus 1:2.3-4 (none)", "linux-lts 6.6.14-1 x86_64"],
    );
}

/// Packages with long texts and many files, so that headers have from one to twenty pages.
fn spec() -> String {
    let mut spec =
        "Name: cloud-init\nEpoch: 3\nVersion: 1.2^git1\nRelease: 4.el9\nSummary: x\nLicense: MIT\n%description\nx\n"
            .to_owned();
    let mut files =
        "%install\nmkdir -p %{buildroot}/d\nfor i in $(seq 300); do echo > %{buildroot}/d/$i; done\n%files\n/d\n"
            .to_owned();
    for number in 0..24 {
        let arch = if number % 2 == 0 { "" } else { "BuildArch: noarch\n" };
        let epoch = if number % 3 == 0 { "Epoch: 0\n" } else { "" };
        let long = "long text\n".repeat(number * 300);
        spec.push_str(&format!(
            "%package -n sub{number}\nSummary: s\n{arch}{epoch}%description -n sub{number}\n{long}\n"
        ));
        files.push_str(&format!("%files -n sub{number}\n"));
    }
    spec + &files
}

/// Makes packages and a database of them in `folder/db`.
fn install(folder: &Path) {
    let top = format!("_topdir {}", folder.join("top").display());
    let path = folder.join("packages.spec");
    fs::write(&path, spec()).unwrap();
    tool("rpm", "rpmbuild", &["--quiet", "-bb", "--define", &top, path.to_str().unwrap()], "");
    let mut made = Vec::new();
    for arch in fs::read_dir(folder.join("top/RPMS")).unwrap() {
        made.extend(fs::read_dir(arch.unwrap().path()).unwrap().map(|file| file.unwrap().path()));
    }
    assert_eq!(made.len(), 25);
    let database = folder.join("db");
    let mut arguments =
        vec!["--dbpath", database.to_str().unwrap(), "-i", "--justdb", "--nodeps", "--force-debian", "--ignorearch"];
    arguments.extend(made.iter().map(|path| path.to_str().unwrap()));
    tool("rpm", "rpm", &arguments, "");
}

/// Returns what rpm itself lists.
fn listed(database: &Path) -> Vec<String> {
    let format = "%{NAME} %|EPOCH?{%{EPOCH}:}:{}|%{VERSION}-%{RELEASE} %{ARCH}\n";
    let all = tool("rpm", "rpm", &["--dbpath", database.to_str().unwrap(), "-qa", "--qf", format], "");
    // An epoch of zero is as good as none.
    let mut lines: Vec<_> = all.lines().map(|line| line.replace(" 0:", " ")).collect();
    lines.sort();
    lines
}

fn of_rpm(files: &[(&str, &[u8])]) -> Report {
    let mut nodes =
        vec![("etc/os-release", text("ID=fedora\n")), ("usr/bin/cloud-init", text("")), ("usr/bin/dnf", text(""))];
    nodes.extend(files.iter().map(|(path, content)| (*path, Node::File(content))));
    let disk = ext(48, &["-t", "ext4"], &nodes);
    // One package alone is looked up in each inspection.
    let version = report(disk.clone()).os.unwrap().cloud_init.unwrap().version;
    assert_eq!(version.as_deref(), Some("3:1.2^git1-4.el9"));
    full_report(disk)
}

#[test]
fn packages_of_rpm_are_those_of_rpm() {
    let folder = tempfile::tempdir().unwrap();
    install(folder.path());
    let database = folder.path().join("db");
    let path = database.join("rpmdb.sqlite");
    let found = of_rpm(&[("usr/lib/sysimage/rpm/rpmdb.sqlite", &fs::read(&path).unwrap())]);
    assert_eq!(packages(&found), listed(&database));
    assert_eq!((found.notes.len(), packages(&found).len()), (0, 25), "{:?}", found.notes);

    // What was committed and lies in the log only: copied while the database is open, as a snapshot of a running guest has it.
    let copies = ["main", "log"].map(|name| folder.path().join(name).display().to_string());
    let script = format!(
        "pragma journal_mode=wal; pragma wal_autocheckpoint=0;\n\
         delete from Packages where hnum = (select hnum from Name where key = 'sub7');\n\
         .system cp {path} {}; cp {path}-wal {}\n",
        copies[0],
        copies[1],
        path = path.display(),
    );
    tool("sqlite3", "sqlite3", &[path.to_str().unwrap()], &script);
    let [main, log] = copies.map(|copy| fs::read(copy).unwrap());
    let found = of_rpm(&[("var/lib/rpm/rpmdb.sqlite", &main), ("var/lib/rpm/rpmdb.sqlite-wal", &log)]);
    assert_eq!(packages(&found), listed(&database));
    assert_eq!(packages(&found).len(), 24);
    let stale = of_rpm(&[("var/lib/rpm/rpmdb.sqlite", &main)]);
    assert_eq!(packages(&stale).len(), 25);

    // The same headers in Berkeley DB, as rpm kept them until 2021.
    let headers = tool("sqlite3", "sqlite3", &[path.to_str().unwrap()], "select hnum, hex(blob) from Packages;");
    let mut dump =
        "VERSION=3\nformat=bytevalue\ntype=hash\ndb_pagesize=4096\nHEADER=END\n 00000000\n 19000000\n".to_owned();
    for line in headers.lines() {
        let (number, header) = line.split_once('|').unwrap();
        dump.push_str(&format!(" {:02x}000000\n {}\n", number.parse::<u8>().unwrap(), header.to_ascii_lowercase()));
    }
    let old = folder.path().join("Packages");
    tool("db5.3-util", "db5.3_load", &[old.to_str().unwrap()], &(dump + "DATA=END\n"));
    let found = of_rpm(&[("var/lib/rpm/Packages", &fs::read(old).unwrap())]);
    assert_eq!(packages(&found), listed(&database));
}
