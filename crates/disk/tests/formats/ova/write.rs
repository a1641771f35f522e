//! Appliances that are written: read back, and looked at by tools that nobody here wrote.

use std::path::Path;
use std::sync::Arc;

use disk::appliance::{Bus, Firmware};
use disk::{ConvertOptions, FileSource, Format, Source, convert, verify_manifest};

use super::run;
use crate::common::{Folder, open_file, qemu_img, read_all, seeded_disk, text};

fn options(chosen: &[(&str, &str)]) -> ConvertOptions<'static> {
    let mut options = ConvertOptions { force: true, ..ConvertOptions::default() };
    chosen.iter().for_each(|(key, value)| options.write.set(key, value));
    options
}

fn packed(folder: &Folder, raw: &Path, chosen: &[(&str, &str)]) -> disk::Result<Arc<dyn Source>> {
    let path = folder.path("new.ova");
    convert(raw, Some(Format::Raw), &path, Format::Ova, &options(chosen))?;
    Ok(Arc::new(FileSource::open(&path)?))
}

#[test]
fn tools_read_what_is_written() {
    // The last one is no whole number of sectors.
    for (seed, size) in [(1, 3 << 20), (2, 512), (3, (1 << 20) + 100)] {
        let folder = Folder::new();
        let disk = seeded_disk(size, seed);
        let raw = folder.write("raw", &disk);
        let file = packed(&folder, &raw, &[("name", "web-1.0")]).unwrap();
        let names = ["web-1.0.ovf", "web-1.0.mf", "web-1.0-disk1.vmdk"];
        let list =
            |program: &str, arguments: &[&str]| String::from_utf8(run(program, &folder.path(""), arguments)).unwrap();
        assert_eq!(list("tar", &["-tf", "new.ova"]).lines().collect::<Vec<_>>(), names);
        let python = "import tarfile; t = tarfile.open('new.ova'); print(all(m.isreg() and m.mtime == 0 for m in t), *t.getnames())";
        assert_eq!(list("python3", &["-c", python]).trim(), format!("True {}", names.join(" ")));

        run("tar", &folder.path(""), &["-xf", "new.ova"]);
        let manifest = std::fs::read_to_string(folder.path(names[1])).unwrap();
        let sums = list("sha256sum", &["--tag", names[0], names[2]]).replace(" (", "(").replace(") =", ")=");
        assert_eq!(manifest, sums);
        qemu_img(&["check", "-q", "-f", "vmdk", text(&folder.path(names[2]))]);
        let whole = size.next_multiple_of(512);
        std::fs::OpenOptions::new().write(true).open(&raw).unwrap().set_len(whole as u64).unwrap();
        let vmdk = folder.path(names[2]);
        qemu_img(&["compare", "-q", "-f", "raw", "-F", "vmdk", text(&raw), text(&vmdk)]);

        let opened = open_file(&folder.path("new.ova"), Format::Ova).unwrap();
        assert_eq!((opened.variant.as_str(), opened.notes.as_slice()), ("vmdk streamOptimized", &[][..]));
        assert!(read_all(&*opened.disk, 70_000).unwrap()[..size] == disk);
        let verified = verify_manifest(file).unwrap();
        assert_eq!(
            (verified.files.as_slice(), verified.unlisted.len()),
            (&[names[0].to_owned(), names[2].to_owned()][..], 0)
        );
    }
}

/// Prints what another XML parser finds by the full names of the standard.
const LOOK: &str = "
import tarfile, xml.etree.ElementTree as E
t = tarfile.open('new.ova'); r = E.parse(t.extractfile(t.getnames()[0])).getroot()
o = '{http://schemas.dmtf.org/ovf/envelope/1}'
a = '{http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData}'
assert r.tag == o + 'Envelope' and [c.tag for c in r][:2] == [o + 'References', o + 'DiskSection']
f = r.find(f'{o}References/{o}File'); d = r.find(f'{o}DiskSection/{o}Disk')
assert t.getmember(f.get(o + 'href')).size == int(f.get(o + 'size')) and f.get(o + 'id') == d.get(o + 'fileRef')
s = r.find(o + 'VirtualSystem'); h = s.find(o + 'VirtualHardwareSection'); items = h.findall(o + 'Item')
for i in items:
    names = [c.tag.removeprefix(a) for c in i]
    assert names == sorted(names) and {'ElementName', 'InstanceID', 'ResourceType'} <= set(names), names
ids = [i.findtext(a + 'InstanceID') for i in items]; assert len(set(ids)) == len(ids)
disk = [i for i in items if i.findtext(a + 'ResourceType') == '17'][0]
assert disk.findtext(a + 'HostResource') == 'ovf:/disk/' + d.get(o + 'diskId')
parent = [i for i in items if i.findtext(a + 'InstanceID') == disk.findtext(a + 'Parent')][0]
nets = [n.get(o + 'name') for n in r.findall(f'{o}NetworkSection/{o}Network')]
assert all(i.findtext(a + 'Connection') in nets for i in items if i.findtext(a + 'ResourceType') == '10')
print(s.get(o + 'id'), s.findtext(o + 'Name'), s.find(o + 'OperatingSystemSection').get(o + 'id'), d.get(o + 'capacity'),
      parent.findtext(a + 'ResourceSubType'), [i.findtext(a + 'VirtualQuantity') for i in items[:2]], len(items))
";

#[test]
fn the_machine_is_what_was_chosen() {
    let folder = Folder::new();
    let raw = folder.write("raw", &seeded_disk(70_000, 5));
    let file = packed(&folder, &raw, &[]).unwrap();
    let found = disk::appliance(file).unwrap();
    assert_eq!((found.name.as_str(), found.firmware), ("appliance", Some(Firmware::Bios)));
    assert_eq!((found.vcpus, found.memory_bytes, found.nics.len()), (Some(1), Some(1 << 30), 1));
    assert_eq!((found.disks[0].bus, found.disks[0].capacity_bytes), (Some(Bus::Scsi), Some(70_144)));
    let look = || String::from_utf8(run("python3", &folder.path(""), &["-c", LOOK])).unwrap();
    assert_eq!(look().trim(), "appliance appliance 102 70144 lsilogic ['1', '1024'] 5");

    let chosen = [("name", "x.y"), ("firmware", "efi"), ("vcpus", "8"), ("memory", "4096"), ("nics", "3")];
    let file = packed(&folder, &raw, &[&chosen[..], &[("os", "Debian"), ("controller", "sata")]].concat()).unwrap();
    let found = disk::appliance(file).unwrap();
    assert_eq!((found.name.as_str(), found.firmware), ("x.y", Some(Firmware::Efi)));
    assert_eq!((found.vcpus, found.memory_bytes, found.nics), (Some(8), Some(4 << 30), vec!["E1000".to_owned(); 3]));
    assert_eq!((found.disks[0].bus, found.os.unwrap().cim_id), (Some(Bus::Sata), Some(96)));
    assert_eq!(look().trim(), "x.y x.y 96 70144 vmware.sata.ahci ['8', '4096'] 7");
    packed(&folder, &raw, &[("nics", "0")]).unwrap();
    assert!(look().ends_with("4\n"));
}

#[test]
fn choices_that_cannot_be() {
    let folder = Folder::new();
    let raw = folder.write("raw", &[0; 512]);
    for (key, value) in [
        ("name", "../x"),
        ("name", ".x"),
        ("name", ""),
        ("name", "a b"),
        ("name", "a\"><b"),
        ("firmware", "uefi"),
        ("vcpus", "0"),
        ("memory", "3"),
        ("nics", "11"),
        ("os", "plan9"),
        ("controller", "ide"),
        ("subformat", "x"),
    ] {
        let error = packed(&folder, &raw, &[(key, value)]).err().expect(value);
        assert!(error.kind() == disk::ErrorKind::Unsupported && error.hint().is_some(), "{error:?}");
        assert!(error.to_string().contains(key), "{error}");
        assert!(!folder.path("new.ova").exists());
    }
    let long = "n".repeat(81);
    assert!(packed(&folder, &raw, &[("name", &long)]).is_err());
    assert!(packed(&folder, &raw, &[("name", &long[1..])]).is_ok());
}

#[test]
fn the_same_disk_gives_the_same_appliance() {
    let folder = Folder::new();
    let raw = folder.write("raw", &seeded_disk(5 << 20, 7));
    let mut files = [1, 4].map(|threads| {
        let path = folder.path("new.ova");
        let mut options = options(&[("level", "1")]);
        options.copy.threads = threads;
        let copied = convert(&raw, Some(Format::Raw), &path, Format::Ova, &options).unwrap().copied;
        let bytes = std::fs::read(path).unwrap();
        assert_eq!(copied.bytes_total, bytes.len() as u64);
        bytes
    });
    assert!(files[0] == files[1]);
    // Each file ends at a block, and a damaged disk is found.
    assert_eq!(files[0].len() % 512, 0);
    let end = files[0].len();
    files[0][end - 2000] ^= 1;
    let [damaged, _] = files;
    assert!(verify_manifest(Arc::new(damaged)).unwrap_err().to_string().contains("-disk1.vmdk\" is not what"));
}
