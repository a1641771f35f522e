//! Crafted archives and descriptors: refused with the reason, and never a panic.

use std::sync::Arc;
use std::time::Duration;

use disk::{ErrorKind, Format};

use super::{Tar, appliance, descriptor, envelope, fails, header, open, run, simple, with_checksum};
use crate::common::Stopwatch;
use crate::common::{Folder, Numbers};

#[test]
fn archives_that_are_no_flat_list_of_files() {
    use ErrorKind::{Corrupt, Refused, TooLarge};
    let good = descriptor(&["a.img"]);
    assert!(open(simple(&good, |tar| tar)).is_ok());
    for name in ["../x", "/x", "dir/x", "./dir/x", "././x", "..", "x\\y", "C:x", "x\ny", "./", ".//x"] {
        fails(simple(&good, |tar| tar.file(name, b"")), Refused, "no bare file name");
    }
    for (kind, says) in [
        (b'1', "a hard link"),
        (b'2', "a symbolic link"),
        (b'3', "a device"),
        (b'4', "a device"),
        (b'5', "a folder"),
        (b'6', "a FIFO"),
        (b'S', "a sparse file"),
        (b'K', "a symbolic link"),
        (b'7', "no regular file"),
        (b'V', "no regular file"),
        (b'X', "no regular file"),
    ] {
        fails(simple(&good, |tar| tar.header("x", kind, "00000000000\0")), Refused, says);
    }
    let mut no_text = header("x", b'0', "00000000000\0");
    no_text[1] = 0xff;
    let no_text = with_checksum(no_text);
    fails(simple(&good, |tar| Tar([tar.0, no_text].concat())), Refused, "no bare file name");
    // A folder in the prefix of ustar.
    let mut prefixed = header("x", b'0', "00000000000\0");
    prefixed[345] = b'd';
    let prefixed = with_checksum(prefixed);
    fails(simple(&good, |tar| Tar([tar.0, prefixed].concat())), Refused, "no bare file name");
    fails(simple(&good, |tar| tar.file("a.img", b"")), Corrupt, "holds \"a.img\" twice");
    fails(simple(&good, |tar| tar.file("./a.img", b"")), Corrupt, "holds \"a.img\" twice");
    let many = |count| (0..count).fold(Tar::default(), |tar, i| tar.file(&format!("{i}"), b""));
    fails(Tar([many(999).0, simple(&good, |tar| tar)].concat()).end(), TooLarge, "more than 1000 members");
    assert!(open(Tar([many(998).0, simple(&good, |tar| tar)].concat()).end()).is_ok());
    let started = Stopwatch::start();
    fails(many(20_000).end(), TooLarge, "more than 1000 members");
    assert!(started.elapsed().as_millis() < 1000);
}

#[test]
fn archives_whose_headers_lie() {
    use ErrorKind::{Corrupt, Refused, TooLarge};
    let good = descriptor(&["a.img"]);
    for size in ["", "-0000000001\0", "00000000008\0", "0x000000010\0", "\0\0\0\0\0\0\0\0\0\0\0\0", "           \0"] {
        fails(simple(&good, |tar| tar.header("x", b'0', size)), Corrupt, "is no number");
    }
    fails(simple(&good, |tar| tar.header("x", b'0', "77777777777\0")), Corrupt, "a member of the archive needs");
    for (binary, says) in [([0xff; 12], "is no number"), ([0x81; 12], "is no number")] {
        let mut header = header("x", b'0', "");
        header[124..136].copy_from_slice(&binary);
        fails(simple(&good, |tar| Tar([tar.0, with_checksum(header)].concat())), Corrupt, says);
    }
    for binary in [i64::MAX as u64, (1 << 62) + 1, u64::MAX] {
        let mut header = header("x", b'0', "");
        header[124] = 0x80;
        header[128..136].copy_from_slice(&binary.to_be_bytes());
        let error = open(simple(&good, |tar| Tar([tar.0, with_checksum(header)].concat()))).unwrap_err();
        assert_eq!(error.kind(), Corrupt);
    }
    // Extended headers that rename or resize what the plain header says as well.
    for records in [
        &[("path", "y")][..],
        &[("path", "../../etc/passwd")],
        &[("size", "0")],
        &[("size", "1048576")],
        &[("size", "-1")],
        &[("size", "99999999999999999999")],
        &[("linkpath", "/etc/passwd")],
        &[("GNU.sparse.major", "1")],
        &[("hdrcharset", "BINARY")],
        &[("path", "\u{e9}1"), ("path", "\u{e9}2")],
    ] {
        fails(simple(&good, |tar| tar.pax(b'x', records).file("x", b"")), Refused, "extended header at byte");
        fails(simple(&good, |tar| tar.pax(b'g', records).file("x", b"")), Refused, "extended header at byte");
    }
    fails(simple(&good, |tar| tar.pax(b'x', &[("path", "../\u{e9}")]).file("x", b"")), Refused, "no bare file name");
    let long = "n".repeat(120);
    let named = |tar: Tar, name: &str| {
        tar.header("long", b'L', &format!("{:011o}\0", name.len() + 1)).content(format!("{name}\0").as_bytes())
    };
    fails(simple(&good, |tar| named(tar, "short").file("x", b"")), Refused, "without need");
    fails(simple(&good, |tar| named(tar, &format!("{long}/x")).file("x", b"")), Refused, "no bare file name");
    fails(simple(&good, |tar| named(tar, &"n".repeat(256)).file("x", b"")), Refused, "no bare file name");
    fails(
        simple(&good, |tar| {
            tar.pax(b'x', &[("comment", "x")]).header("y", b'x', "00000200001\0").content(&[b'1'; 65537])
        }),
        TooLarge,
        "has 65537 bytes",
    );
    for records in ["", "7", "x y=z\n", "99 a=b\n", "6 a=b", "3 a\n", "0 a=b\n", "18446744073709551615 a=b\n"] {
        let size = format!("{:011o}\0", records.len());
        let bytes = simple(&good, |tar| tar.header("pax", b'x', &size).content(records.as_bytes()).file("x", b""));
        match records {
            "" => assert!(open(bytes).is_ok()),
            _ => fails(bytes, Corrupt, "is not made of records"),
        }
    }
    let two = simple(&good, |tar| tar.pax(b'x', &[("size", "8589934592")]).header("x", b'0', "00000000001\0"));
    fails(two, Refused, "has two sizes, 1 and 8589934592");
    // Such names and times are sound.
    let bytes = simple(&good, |tar| {
        named(tar, &long).file("x", b"").pax(b'x', &[("path", "\u{e9}"), ("mtime", "1.5")]).file("y", b"")
    });
    assert!(open(bytes).is_ok());
    fails(simple(&good, |tar| tar.pax(b'x', &[("path", "\u{e9}")])), Corrupt, "after an extended header");
}

#[test]
fn archives_that_were_cut() {
    let whole = simple(&descriptor(&["a.img"]), |tar| tar);
    let sound = whole.len() - 512;
    assert!(open(whole[..sound].to_vec()).is_ok(), "one block of zeros ends it too");
    assert!(open(whole[..whole.len() - 1].to_vec()).is_ok());
    for length in (0..sound).step_by(997).chain([sound - 512, sound - 1]) {
        let error = open(whole[..length].to_vec()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{length}: {error}");
    }
    let mut lone = whole;
    let end = lone.len();
    lone[end - 1] = 1;
    fails(lone, ErrorKind::Corrupt, "goes on after an empty header");
}

#[test]
fn descriptors_that_ask_for_too_much() {
    use ErrorKind::{Corrupt, Refused, TooLarge, Unsupported};
    let with = |text: &str| simple(text, |tar| tar);
    let files = |files: &str| with(&envelope(&format!("<References>{files}</References>")));
    for href in [
        "/etc/passwd",
        "../a.img",
        "dir/a.img",
        "file:///etc/passwd",
        "http://example.org/a.img",
        "..",
        "a%2fb",
        "%2e%2e",
        "a%00",
        "%",
        "%zz",
        "%+1",
        "a\\b",
        "json:{}",
        "",
    ] {
        let kind = if href.is_empty() { Corrupt } else { Refused };
        let says = if href.is_empty() { "has no \"href\"" } else { "no bare file name" };
        fails(files(&format!(r#"<File ovf:id="f" ovf:href="{href}"/>"#)), kind, says);
    }
    for (file, kind, says) in [
        (r#"ovf:id="f" ovf:href="b.img""#, Corrupt, "\"b.img\", which is not in the archive"),
        (r#"ovf:href="a.img""#, Corrupt, "has no \"id\""),
        (r#"ovf:id="f" ovf:href="a.img" href="b""#, Corrupt, "two attributes"),
        (r#"ovf:id="f" ovf:href="a.img" ovf:href="b""#, Corrupt, "not sound XML"),
        (r#"ovf:id="f" ovf:href="a.img" ovf:compression="gzip""#, Unsupported, "compressed as a whole"),
        (r#"ovf:id="f" ovf:href="a.img" ovf:chunkSize="1000""#, Unsupported, "cut in chunks"),
        (r#"ovf:id="f" ovf:href="a.img"/><File ovf:id="g" ovf:href="a.img""#, Corrupt, "refers twice"),
        (r#"ovf:id="f" ovf:href="a.img"/><File ovf:id="f" ovf:href="a.ovf""#, Corrupt, "refers twice"),
    ] {
        fails(files(&format!("<File {file}/>")), kind, says);
    }
    let disks = |disks: &str| {
        let files = r#"<References><File ovf:id="f" ovf:href="a.img"/></References>"#;
        with(&envelope(&format!("{files}<DiskSection>{disks}</DiskSection>")))
    };
    for (disk, kind, says) in [
        ("", Unsupported, "has no disk"),
        (r#"<Disk ovf:diskId="d" ovf:fileRef="g" ovf:capacity="1"/>"#, Corrupt, "to which nothing refers"),
        (r#"<Disk ovf:diskId="d" ovf:fileRef="f" ovf:parentRef="e"/>"#, Refused, "only the difference"),
        (r#"<Disk ovf:fileRef="f"/>"#, Corrupt, "has no \"diskId\""),
        (r#"<Disk ovf:diskId="d"/><Disk ovf:diskId="d"/>"#, Corrupt, "two disks called"),
        (r#"<Disk ovf:diskId="d" ovf:capacity="-1"/>"#, Corrupt, "has the capacity"),
        (r#"<Disk ovf:diskId="d" ovf:capacity="9" ovf:capacityAllocationUnits="byte * 2^63"/>"#, Corrupt, "capacity"),
        (r#"<Disk ovf:diskId="d" ovf:capacity="9" ovf:capacityAllocationUnits="furlong"/>"#, Corrupt, "capacity"),
    ] {
        fails(disks(disk), kind, says);
    }
    fails(with(&"<a>".repeat(65)), TooLarge, "more than 64 levels");
    fails(with(&format!("<a>{}</a>", "<b/>".repeat(50_000))), TooLarge, "50000 elements");
    fails(
        with(&format!("<a {}/>", (0..9999).map(|i| format!("a{i}='' ")).collect::<String>())),
        TooLarge,
        "256 attributes",
    );
    fails(with(&envelope(&" ".repeat(1 << 20))), TooLarge, "the limit is 1048576");
}

#[test]
fn descriptors_that_are_no_plain_xml() {
    use ErrorKind::{Corrupt, Refused, Unsupported};
    let with = |text: &str| simple(text, |tar| tar);
    for dtd in [
        "<!DOCTYPE a>",
        "<!DOCTYPE a SYSTEM \"http://example.org/a.dtd\">",
        "<!DOCTYPE a [<!ENTITY x SYSTEM \"file:///etc/passwd\">]>",
        "<!DOCTYPE a [<!ENTITY x \"lol\"><!ENTITY y \"&x;&x;&x;\">]>",
    ] {
        fails(with(&format!("{dtd}{}", envelope("<Name>&x;</Name>"))), Refused, "a document type");
    }
    for (text, kind, says) in [
        (envelope("<Name>&x;</Name>"), Refused, "an entity of its own"),
        (envelope("<Name a='&x;'/>"), Corrupt, "not sound XML"),
        (envelope("<Name>&#0;</Name>"), Corrupt, "not sound XML"),
        (envelope("<a></b>"), Corrupt, "not sound XML"),
        (envelope("<a>"), Corrupt, "not sound XML"),
        ("<Envelope>".to_owned(), Corrupt, "ends inside of \"Envelope\""),
        (String::new(), Corrupt, "is empty"),
        ("text".to_owned(), Corrupt, "text outside"),
        ("<a/><b/>".to_owned(), Corrupt, "a second root"),
        ("<html/>".to_owned(), Corrupt, "is no OVF"),
        ("<?xml version='1.0' encoding='UTF-16'?><Envelope/>".to_owned(), Unsupported, "encoded in \"UTF-16\""),
        ("<Envelope/>".to_owned(), Unsupported, "has no disk"),
        ("\u{feff}<Envelope/>".to_owned(), Unsupported, "has no disk"),
    ] {
        fails(with(&text), kind, says);
    }
    let latin = Tar::default().file("a.ovf", b"<Envelope a='\xe9'/>").end();
    fails(latin, Corrupt, "not UTF-8 at byte 13");
    fails(
        Tar::default().file("b", b"").file("c", b"").end(),
        Unsupported,
        "no descriptor (.ovf), so it is no appliance: it holds b, c",
    );
    fails(Tar::default().end(), Unsupported, "it is empty");
}

#[test]
fn manifests() {
    use ErrorKind::{Corrupt, Refused};
    let folder = Folder::new();
    let text = descriptor(&["a.img"]);
    std::fs::write(folder.path("a.ovf"), &text).unwrap();
    std::fs::write(folder.path("a.img"), super::one_disk()).unwrap();
    let with = |manifest: &str| simple(&text, |tar| tar.file("A.MF", manifest.as_bytes()));
    for program in ["sha1sum", "sha256sum", "sha512sum"] {
        let digests = run(program, &folder.path(""), &["--tag", "a.ovf", "a.img"]);
        let lines = String::from_utf8(digests).unwrap();
        // As GNU writes them, and as VMware does.
        for lines in [lines.clone(), lines.replace(" (", "(").replace(") = ", ")= ").replace('\n', "\r\n")] {
            let bytes = with(&lines);
            assert!(open(bytes.clone()).is_ok());
            assert_eq!(disk::verify_manifest(Arc::new(bytes)).unwrap().files, ["a.ovf", "a.img"]);
        }
        // A wrong digest of the disk is found when that is asked for, a wrong one of the descriptor at once.
        let (of_ovf, of_img) = lines.split_once('\n').unwrap();
        let wrong = |line: &str| format!("{}{}", &line[..line.len() - 1], if line.ends_with('0') { '1' } else { '0' });
        let bytes = with(&format!("{of_ovf}\n{}", wrong(of_img.trim_end())));
        assert!(open(bytes.clone()).is_ok());
        let error = disk::verify_manifest(Arc::new(bytes)).unwrap_err();
        assert!(error.kind() == Corrupt && error.to_string().starts_with("\"a.img\" is not what the manifest says"));
        fails(with(&wrong(of_ovf)), Corrupt, "\"a.ovf\" is not what the manifest says");
        fails(with(of_img), Corrupt, "does not list the descriptor");
        fails(with(&format!("{of_ovf}\n{of_ovf}")), Corrupt, "lists \"a.ovf\" twice");
        fails(with(&format!("{of_ovf}\n{}", of_img.replace("a.img", "b.img"))), Corrupt, "which is not in the archive");
        let two = simple(&text, |tar| tar.file("a.mf", of_ovf.as_bytes()).file("b.mf", of_ovf.as_bytes()));
        fails(two, Refused, "more than one manifest");
        let verified = disk::verify_manifest(Arc::new(with(of_ovf))).unwrap();
        assert_eq!(
            (verified.files.as_slice(), verified.unlisted.as_slice()),
            (&["a.ovf".into()][..], &["a.img".into()][..])
        );
    }
    let digest = "0".repeat(64);
    for line in [
        "x".to_owned(),
        format!("MD5(a.ovf)= {}", &digest[..32]),
        format!("SHA256(a.ovf)= {}", &digest[..63]),
        format!("SHA256(a.ovf)= {}g", &digest[..63]),
        format!("SHA256(../a.ovf)= {digest}"),
        format!("SHA256(a.ovf) {digest}"),
        format!("SHA256 a.ovf = {digest}"),
        "SHA256(a.ovf)=".to_owned(),
    ] {
        fails(with(&format!("\n{line}\n")), Corrupt, "line 2 of the manifest is not such as");
    }
    fails(simple(&text, |tar| tar.file("a.mf", b"\xff")), Corrupt, "the manifest is no text");
    let verified = disk::verify_manifest(Arc::new(simple(&text, |tar| tar))).unwrap();
    assert_eq!((verified.files.len(), verified.unlisted), (0, vec!["a.ovf".to_owned(), "a.img".to_owned()]));
}

#[test]
fn nothing_packed_is_opened_inside() {
    let text = descriptor(&["d"]);
    let inside = |bytes: &[u8]| Tar::default().file("a.ovf", text.as_bytes()).file("d", bytes).end();
    let nested = simple(&descriptor(&["a.img"]), |tar| tar);
    for (start, name) in [
        (&nested[..], "ova"),
        (b"\x1f\x8b\x08\0", "gzip"),
        (b"\xfd7zXZ\0\0\x04", "xz"),
        (b"\x28\xb5\x2f\xfd", "zstd"),
        (b"BZh91AY&SY", "bzip2"),
        (b"PK\x03\x04", "zip"),
    ] {
        let says = format!("is a {name} file: nothing packed is opened inside");
        fails(inside(&[start, &[0; 600]].concat()), ErrorKind::Refused, &says);
    }
    // The disk inside is as hostile as any: this one wants another file of the host.
    let folder = Folder::new();
    let arguments = ["create", "-q", "-f", "qcow2", "-u", "-b", "/etc/passwd", "-F", "raw", "a.qcow2", "1M"];
    run("qemu-img", &folder.path(""), &arguments);
    let bytes = std::fs::read(folder.path("a.qcow2")).unwrap();
    fails(inside(&bytes), ErrorKind::Refused, "/etc/passwd");
}

#[test]
fn old_headers_are_told_from_disks() {
    let of = |bytes: &[u8]| disk::probe(&bytes.to_vec()).unwrap();
    let mut old = header("a", b'0', "00000000000\0");
    old[257..265].fill(0);
    let old = with_checksum(old);
    assert_eq!(of(&old), Format::Ova);
    for at in [0, 124, 148, 511] {
        let mut other = old.clone();
        other[at] ^= 1;
        assert_eq!(of(&other), Format::Raw, "{at}");
    }
    assert_eq!(of(&old[..511]), Format::Raw);
    // A sum of nothing is no name.
    assert_eq!(of(&with_checksum(vec![0; 512])), Format::Raw);
}

#[test]
fn the_worst_descriptors_take_no_time() {
    let item = |id: usize| format!("<Item><InstanceID>{id}</InstanceID><ResourceType>17</ResourceType></Item>");
    let hardware = |items: String| {
        let files = r#"<References><File id="f" href="a.img"/></References><DiskSection><Disk diskId="d" fileRef="f"/></DiskSection>"#;
        envelope(&format!(
            "{files}<VirtualSystem><VirtualHardwareSection>{items}</VirtualHardwareSection></VirtualSystem>"
        ))
    };
    let attributes: String = (0..250).map(|number| format!("a{number}='' ")).collect();
    for (text, read) in [
        (hardware((0..12_000).map(item).collect()), true),
        (hardware((0..12_000).map(|_| item(1)).collect()), true),
        (hardware(format!("<Item>{}</Item>", "<x/>".repeat(49_000))), true),
        (hardware(format!("<x {attributes}/>").repeat(500)), true),
        (hardware("&lt;".repeat(200_000)), true),
        (hardware("<![CDATA[]]>".repeat(80_000)), true),
        (envelope(&"<VirtualSystem/>".repeat(49_000)), true),
        (
            envelope(
                &(0..9000)
                    .map(|id| format!(r#"<References><File id="{id}" href="a.img"/></References>"#))
                    .collect::<String>(),
            ),
            false,
        ),
        (
            envelope(&format!(
                "<DiskSection>{}</DiskSection>",
                (0..20_000).map(|id| format!(r#"<Disk diskId="{id}"/>"#)).collect::<String>()
            )),
            true,
        ),
    ] {
        let bytes = simple(&text, |tar| tar);
        assert!(text.len() > 150_000, "{}", text.len());
        let started = Stopwatch::start();
        let found = appliance(bytes.clone());
        assert_eq!(found.is_ok(), read, "{found:?}");
        let _ = open(bytes);
        assert!(started.elapsed() < Duration::from_secs(1), "{:?}: {}", started.elapsed(), &text[..900]);
    }
    let lines: String = (0..12_000).map(|number| format!("SHA256({number})= {:064}\n", 0)).collect();
    let files = (0..900).fold(Tar::default(), |tar, number| tar.file(&format!("{number}"), b""));
    let bytes = Tar([files.file("a.mf", lines.as_bytes()).0, simple(&descriptor(&["a.img"]), |tar| tar)].concat()).0;
    let started = Stopwatch::start();
    fails(bytes, ErrorKind::Corrupt, "\"900\", which is not in the archive");
    assert!(started.elapsed() < Duration::from_secs(1));
}

/// Damages the headers, descriptor and manifest of an appliance thousands of times.
#[test]
fn damage_never_panics() {
    let folder = Folder::new();
    let text = envelope(super::VMWARE);
    std::fs::write(folder.path("a.ovf"), &text).unwrap();
    let digests = run("sha256sum", &folder.path(""), &["--tag", "a.ovf"]);
    let tar = Tar::default().file("a.ovf", text.as_bytes()).pax(b'x', &[("mtime", "1.5"), ("path", "\u{e9}")]);
    let tar = tar.file("b", b"").file("a.img", b"some").file("b.nvram", b"");
    for (seed, manifest) in [(1, false), (2, true)] {
        let tar = if manifest { tar.clone().file("a.mf", &digests) } else { tar.clone() };
        let whole = tar.end();
        appliance(whole.clone()).unwrap();
        let mut numbers = Numbers::new(seed);
        let mut failed = 0;
        for time in 0..6000 {
            let mut bytes = whole.clone();
            for _ in 0..=numbers.below(4) {
                let at = numbers.below(bytes.len() as u64) as usize;
                bytes[at] = match numbers.below(4) {
                    0 => b"\0<>&\"'/ "[numbers.below(8) as usize],
                    1 => 0xff,
                    2 => bytes[at] ^ (1 << numbers.below(8)),
                    _ => numbers.next() as u8,
                };
            }
            // Half of them with sound checksums, so that what lies behind them is reached.
            if numbers.below(2) == 0 {
                for block in bytes.chunks_mut(512).filter(|block| block.get(257..262) == Some(b"ustar")) {
                    block.copy_from_slice(&with_checksum(block.to_vec()));
                }
            }
            let started = Stopwatch::start();
            failed += u32::from(appliance(bytes.clone()).is_err());
            let _ = open(bytes);
            assert!(started.elapsed() < Duration::from_secs(1), "mutation {time} with seed {seed}");
        }
        assert!(failed > 600, "only {failed} damaged archives were found out");
    }
}
