//! OVA: archives of disks with a description.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use disk::appliance::{Bus, Firmware, GuestOs};
use disk::{Deny, ErrorKind, FileSource, Format, Given, Opened, Source, probe};

use crate::common::{Folder, check_extents, open_bytes, read_all, seeded_disk};

mod hostile;
mod write;

/// A tar archive made by hand, which may be as wrong as it likes.
#[derive(Default, Clone)]
struct Tar(Vec<u8>);

impl Tar {
    fn file(mut self, name: &str, bytes: &[u8]) -> Self {
        self.0.extend(header(name, b'0', &format!("{:011o}\0", bytes.len())));
        self.content(bytes)
    }

    fn header(mut self, name: &str, kind: u8, size: &str) -> Self {
        self.0.extend(header(name, kind, size));
        self
    }

    fn content(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    /// An extended header of the POSIX kind.
    fn pax(self, kind: u8, records: &[(&str, &str)]) -> Self {
        let records: String = records
            .iter()
            .map(|(key, value)| {
                let rest = format!(" {key}={value}\n");
                // The length counts its own digits.
                let length = (1..4)
                    .map(|digits| rest.len() + digits)
                    .find(|length| length.to_string().len() + rest.len() == *length);
                format!("{}{rest}", length.unwrap())
            })
            .collect();
        self.header("pax", kind, &format!("{:011o}\0", records.len())).content(records.as_bytes())
    }

    fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

fn header(name: &str, kind: u8, size: &str) -> Vec<u8> {
    let mut header = vec![0; 512];
    header[..name.len()].copy_from_slice(name.as_bytes());
    header[100..107].copy_from_slice(b"0000644");
    header[124..124 + size.len()].copy_from_slice(size.as_bytes());
    header[156] = kind;
    header[257..265].copy_from_slice(b"ustar\x0000");
    with_checksum(header)
}

fn with_checksum(mut header: Vec<u8>) -> Vec<u8> {
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}

const NAMESPACES: &str = r#"xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1" xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData" xmlns:vmw="http://www.vmware.com/schema/ovf" xmlns:vbox="http://www.virtualbox.org/ovf/machine""#;

/// A descriptor of one machine whose disks are `d1`, `d2` and so on in the files that are named.
fn descriptor(files: &[&str]) -> String {
    let references: String =
        files.iter().enumerate().map(|(i, file)| format!(r#"<File ovf:id="f{i}" ovf:href="{file}"/>"#)).collect();
    let disks: String = (0..files.len())
        .map(|i| format!(r#"<Disk ovf:diskId="d{i}" ovf:fileRef="f{i}" ovf:capacity="1" ovf:capacityAllocationUnits="byte * 2^20"/>"#))
        .collect();
    envelope(&format!(
        "<References>{references}</References><DiskSection><Info/>{disks}</DiskSection><VirtualSystem ovf:id=\"vm\"/>"
    ))
}

fn envelope(content: &str) -> String {
    format!("<?xml version=\"1.0\"?>\n<Envelope {NAMESPACES}>{content}</Envelope>")
}

fn one_disk() -> Vec<u8> {
    seeded_disk(1 << 20, 11)
}

/// An appliance of one raw disk, with more in the archive.
fn simple(descriptor: &str, more: impl FnOnce(Tar) -> Tar) -> Vec<u8> {
    more(Tar::default().file("a.ovf", descriptor.as_bytes()).file("a.img", &one_disk())).end()
}

fn open(bytes: Vec<u8>) -> disk::Result<Opened> {
    open_bytes(bytes, Format::Ova)
}

fn appliance(bytes: Vec<u8>) -> disk::Result<disk::Appliance> {
    disk::appliance(Arc::new(bytes))
}

#[track_caller]
fn fails(bytes: Vec<u8>, kind: ErrorKind, says: &str) {
    let error = open(bytes).expect_err(says);
    assert!(error.kind() == kind && error.to_string().contains(says), "{error:?}");
}

fn run(program: &str, folder: &Path, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new(program).current_dir(folder).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Makes the files of an appliance whose disk is in a format of qemu-img; returns the disk.
fn unpacked(folder: &Folder, format: &str, options: &[&str]) -> Vec<u8> {
    let disk = one_disk();
    let raw = folder.write("raw", &disk);
    folder.image("a.vmdk", &raw, format, options);
    std::fs::write(folder.path("a.ovf"), descriptor(&["a.vmdk"])).unwrap();
    disk
}

#[test]
fn archives_of_all_kinds_of_tar() {
    let folder = Folder::new();
    let disk = unpacked(&folder, "vmdk", &["-o", "subformat=streamOptimized"]);
    let folder_path = folder.path("");
    let sums = run("sha512sum", &folder_path, &["--tag", "a.ovf", "a.vmdk"]);
    std::fs::write(folder.path("a.mf"), sums).unwrap();
    for format in ["v7", "oldgnu", "gnu", "ustar", "posix"] {
        for prefix in ["", "./"] {
            let names = ["a.ovf", "a.vmdk", "a.mf"].map(|name| format!("{prefix}{name}"));
            let arguments = [&["-c", "--format", format], &names.each_ref().map(String::as_str)[..]].concat();
            let bytes = run("tar", &folder_path, &arguments);
            assert_eq!(probe(&bytes).unwrap(), Format::Ova, "{format}");
            assert_reads(&open(bytes.clone()).unwrap(), &disk);
            let verified = disk::verify_manifest(Arc::new(bytes)).unwrap();
            assert_eq!((verified.files, verified.unlisted), (vec!["a.ovf".to_owned(), "a.vmdk".to_owned()], vec![]));
        }
    }
    // Python writes times with fractions, and so extended headers.
    let script =
        "import tarfile,sys\nt=tarfile.open('p.ova','w')\n[t.add(n) for n in ('a.ovf','a.mf','a.vmdk')]\nt.close()";
    run("python3", &folder_path, &["-c", script]);
    let bytes = std::fs::read(folder.path("p.ova")).unwrap();
    assert!(bytes.windows(6).any(|part| part == b"mtime="));
    assert_reads(&open(bytes).unwrap(), &disk);
}

#[track_caller]
fn assert_reads(opened: &Opened, disk: &[u8]) {
    assert_eq!(opened.format, Format::Ova);
    let read = read_all(&*opened.disk, 100_000).unwrap();
    assert!(read == disk, "the disk differs");
    check_extents(&*opened.disk, disk);
}

#[test]
fn what_lies_beside_does_no_harm() {
    let text = descriptor(&["a.img"]);
    let start = Tar::default().header("./", b'5', "00000000000\0").pax(b'g', &[("comment", "of git")]);
    // Of macOS, with an attribute that is no text.
    let start = start.pax(b'x', &[("SCHILY.xattr.x", "y")]).file("./._a.ovf", b"\0\x05\x16\x07").file("._a.mf", b"\0");
    let other = start.file("a.ovf", text.as_bytes()).file("b.ovf", b"").file("a.img", &one_disk()).file("a.cert", b"");
    let opened = open(other.end()).unwrap();
    assert_reads(&opened, &one_disk());
    assert_eq!(
        opened.notes,
        [
            "the archive has 2 descriptors, of which the first counts: a.ovf",
            "the certificate of the appliance was not looked at"
        ]
    );
    // A name that the plain header cuts inside of its last letter.
    let folder = Folder::new();
    let disk = unpacked(&folder, "raw", &[]);
    let long = format!("{}\u{e9}", "n".repeat(99));
    std::fs::write(folder.path(&long), "x").unwrap();
    for format in ["gnu", "posix"] {
        let bytes = run("tar", &folder.path(""), &["-c", "--format", format, "a.ovf", &long, "a.vmdk"]);
        assert_reads(&open(bytes).unwrap(), &disk);
    }
}

#[test]
fn disks_of_all_formats() {
    for (format, options, variant) in [
        ("raw", &[][..], "raw"),
        ("qcow2", &["-c"], "qcow2 v3"),
        ("vmdk", &["-o", "subformat=monolithicSparse"], "vmdk monolithicSparse"),
        ("vpc", &["-o", "force_size=on"], "vhd dynamic"),
        ("vdi", &[], "vdi"),
    ] {
        let folder = Folder::new();
        let disk = unpacked(&folder, format, options);
        let bytes = run("tar", &folder.path(""), &["-c", "a.ovf", "a.vmdk"]);
        let opened = open(bytes).unwrap();
        assert!(opened.variant.starts_with(variant), "{}", opened.variant);
        assert_eq!(opened.notes, Vec::<String>::new());
        assert_reads(&opened, &disk);
    }
}

#[test]
fn one_of_several_disks_is_chosen() {
    let (first, second) = (vec![1; 4096], vec![2; 8192]);
    let bytes: Arc<dyn Source> = Arc::new(
        Tar::default()
            .file("a.ovf", descriptor(&["first.img", "second%20disk.img"]).as_bytes())
            .file("first.img", &first)
            .file("second disk.img", &second)
            .end(),
    );
    let opened = |name: &str| disk::open(Arc::clone(&bytes), Format::Ova, &Given::new().with_member(name));
    for (name, disk) in [("first.img", &first), ("d0", &first), ("second disk.img", &second), ("d1", &second)] {
        let opened = opened(name).unwrap();
        assert_eq!(&read_all(&*opened.disk, 512).unwrap(), disk);
        let note = format!("the disk has {} bytes, and the descriptor of the appliance says 1048576", disk.len());
        assert_eq!(opened.notes, [note]);
    }
    for error in [opened("third").unwrap_err(), disk::open(Arc::clone(&bytes), Format::Ova, &Deny).unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::Refused);
        assert!(error.to_string().contains("first.img (1048576 bytes), second disk.img (1048576 bytes)"), "{error}");
        assert_eq!(error.hint(), Some("choose one: --member first.img"));
    }
}

#[test]
fn large_disks() {
    let folder = Folder::new();
    let path = folder.path("large.ova");
    let length = (9_u64 << 30) + 512;
    let mut start = Tar::default().file("a.ovf", descriptor(&["a.img"]).as_bytes()).0;
    let mut binary = header("a.img", b'0', "");
    binary[124] = 0x80;
    binary[128..136].copy_from_slice(&length.to_be_bytes());
    let pax = Tar::default().pax(b'x', &[("size", &length.to_string())]).header("a.img", b'0', "00000000000\0").0;
    let plain = start.len();
    for large in [with_checksum(binary), pax] {
        start.truncate(plain);
        start.extend(large);
        std::fs::write(&path, &start).unwrap();
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(start.len() as u64 + length + 1024).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, b"end", start.len() as u64 + length - 3).unwrap();
        let disk = disk::open(Arc::new(FileSource::open(&path).unwrap()), Format::Ova, &Deny).unwrap().disk;
        assert_eq!(disk.len(), length);
        let mut end = [0; 3];
        disk.read_at(&mut end, length - 3).unwrap();
        assert_eq!(&end, b"end");
        // One byte less, and the archive is cut.
        file.set_len(start.len() as u64 + length - 1).unwrap();
        let error = disk::open(Arc::new(FileSource::open(&path).unwrap()), Format::Ova, &Deny).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
    }
}

/// As VMware writes it, with two configurations.
const VMWARE: &str = r#"
<References>
  <File ovf:href="a.img" ovf:id="file1" ovf:size="1048576"/>
  <File ovf:href="b.nvram" ovf:id="file2"/>
</References>
<DiskSection>
  <Info>Virtual disk information</Info>
  <Disk ovf:capacity="40" ovf:capacityAllocationUnits="byte * 2^30" ovf:diskId="vmdisk1" ovf:fileRef="file1"
        ovf:format="http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"/>
  <Disk ovf:capacity="${size}" ovf:diskId="vmdisk2"/>
</DiskSection>
<DeploymentOptionSection>
  <Configuration ovf:id="small"/><Configuration ovf:id="large" ovf:default="true"/>
</DeploymentOptionSection>
<VirtualSystem ovf:id="web">
  <Info>A virtual machine</Info>
  <Name>web &amp; <![CDATA[<more>]]>&#33;</Name>
  <OperatingSystemSection ovf:id="96" vmw:osType="debian12_64Guest"><Info/><Description>Debian 12</Description></OperatingSystemSection>
  <ProductSection><Info/><Product>Web</Product><Vendor>Example</Vendor><Version>1.2</Version></ProductSection>
  <VirtualHardwareSection>
    <Item ovf:configuration="small"><rasd:InstanceID>1</rasd:InstanceID><rasd:ResourceType>3</rasd:ResourceType><rasd:VirtualQuantity>1</rasd:VirtualQuantity></Item>
    <Item><rasd:InstanceID>1</rasd:InstanceID><rasd:ResourceType>3</rasd:ResourceType><rasd:VirtualQuantity>2</rasd:VirtualQuantity></Item>
    <Item ovf:configuration="medium large"><rasd:InstanceID>1</rasd:InstanceID><rasd:ResourceType>3</rasd:ResourceType><rasd:VirtualQuantity>8</rasd:VirtualQuantity></Item>
    <Item ovf:bound="max"><rasd:InstanceID>1</rasd:InstanceID><rasd:ResourceType>3</rasd:ResourceType><rasd:VirtualQuantity>64</rasd:VirtualQuantity></Item>
    <Item><rasd:AllocationUnits>byte * 2^30</rasd:AllocationUnits><rasd:InstanceID>2</rasd:InstanceID><rasd:ResourceType>4</rasd:ResourceType><rasd:VirtualQuantity>4</rasd:VirtualQuantity></Item>
    <Item><rasd:InstanceID>3</rasd:InstanceID><rasd:ResourceSubType>VirtualSCSI</rasd:ResourceSubType><rasd:ResourceType>6</rasd:ResourceType></Item>
    <Item><rasd:InstanceID>4</rasd:InstanceID><rasd:ResourceSubType>vmware.nvme.controller</rasd:ResourceSubType><rasd:ResourceType>20</rasd:ResourceType></Item>
    <Item><rasd:HostResource>ovf:/disk/vmdisk1</rasd:HostResource><rasd:InstanceID>5</rasd:InstanceID><rasd:Parent>4</rasd:Parent><rasd:ResourceType>17</rasd:ResourceType></Item>
    <Item><rasd:HostResource>ovf://disk/vmdisk2</rasd:HostResource><rasd:InstanceID>6</rasd:InstanceID><rasd:Parent>3</rasd:Parent><rasd:ResourceType>17</rasd:ResourceType></Item>
    <Item><rasd:InstanceID>7</rasd:InstanceID><rasd:ResourceSubType>VmxNet3</rasd:ResourceSubType><rasd:ResourceType>10</rasd:ResourceType></Item>
    <Item><rasd:InstanceID>8</rasd:InstanceID><rasd:ResourceType>10</rasd:ResourceType></Item>
    <vmw:Config ovf:required="false" vmw:key="cpuHotAddEnabled" vmw:value="true"/>
    <vmw:Config ovf:required="false" vmw:key="firmware" vmw:value="efi"/>
  </VirtualHardwareSection>
</VirtualSystem>"#;

#[test]
fn a_descriptor_of_vmware() {
    let found = appliance(simple(&envelope(VMWARE), |tar| tar.file("b.nvram", b"x").file("a.cert", b"x"))).unwrap();
    assert_eq!((found.name.as_str(), found.product.as_deref()), ("web & <more>!", Some("Web, 1.2, Example")));
    assert_eq!((found.firmware, found.vcpus, found.memory_bytes), (Some(Firmware::Efi), Some(8), Some(4 << 30)));
    assert_eq!(found.nics, ["VmxNet3", ""]);
    let controllers: Vec<_> = found.controllers.iter().map(|found| (found.bus, found.model.as_str())).collect();
    assert_eq!(controllers, [(Bus::Scsi, "VirtualSCSI"), (Bus::Nvme, "vmware.nvme.controller")]);
    let os = GuestOs { cim_id: Some(96), kind: "debian12_64Guest".into(), description: "Debian 12".into() };
    assert_eq!(found.os, Some(os));
    let [first, second] = found.disks.as_slice() else { panic!("{:?}", found.disks) };
    assert_eq!((first.id.as_str(), first.file.as_deref(), first.file_size), ("vmdisk1", Some("a.img"), 1 << 20));
    assert_eq!((first.capacity_bytes, first.bus), (Some(40 << 30), Some(Bus::Nvme)));
    assert_eq!((second.capacity_bytes, second.bus, second.file.as_ref()), (None, Some(Bus::Scsi), None));
    assert_eq!(found.notes, ["the certificate of the appliance was not looked at"]);
    let opened = |name: &str| {
        let bytes = simple(&envelope(VMWARE), |tar| tar.file("b.nvram", b"x"));
        disk::open(Arc::new(bytes), Format::Ova, &Given::new().with_member(name))
    };
    let notes = opened("vmdisk1").unwrap().notes;
    assert_eq!(notes.len(), 2, "{notes:?}");
    assert!(notes[1].contains("calls the disk a VMDK, and it is in format raw"));
    assert!(opened("vmdisk2").unwrap_err().to_string().contains("begins blank"));
}

#[test]
fn a_descriptor_of_virtualbox() {
    let text = envelope(
        r#"<References><File ovf:id="file1" ovf:href="a.img"/></References>
        <DiskSection><Info/><Disk ovf:capacity="1048576" ovf:diskId="vmdisk1" ovf:fileRef="file1" ovf:format="x"/></DiskSection>
        <VirtualSystemCollection ovf:id="all"><Info/>
        <VirtualSystem ovf:id="box"><Info/>
          <OperatingSystemSection ovf:id="94"><Info/><Description>Ubuntu_64</Description>
            <vbox:OSType ovf:required="false">Ubuntu_64</vbox:OSType></OperatingSystemSection>
          <VirtualHardwareSection><Info/>
            <Item><rasd:Caption>1024 MB of memory</rasd:Caption><rasd:AllocationUnits>MegaBytes</rasd:AllocationUnits>
              <rasd:InstanceID>2</rasd:InstanceID><rasd:ResourceType>4</rasd:ResourceType><rasd:VirtualQuantity>1024</rasd:VirtualQuantity></Item>
            <Item><rasd:InstanceID>3</rasd:InstanceID><rasd:ResourceSubType>PIIX4</rasd:ResourceSubType><rasd:ResourceType>5</rasd:ResourceType></Item>
            <Item><rasd:InstanceID>5</rasd:InstanceID><rasd:ResourceSubType>AHCI</rasd:ResourceSubType><rasd:ResourceType>20</rasd:ResourceType></Item>
            <Item><rasd:HostResource>/disk/vmdisk1</rasd:HostResource><rasd:InstanceID>9</rasd:InstanceID><rasd:Parent>5</rasd:Parent><rasd:ResourceType>17</rasd:ResourceType></Item>
          </VirtualHardwareSection>
          <vbox:Machine ovf:required="false" version="1.19-linux" name="box"><ovf:Info/>
            <Hardware><Firmware type="EFI"/></Hardware></vbox:Machine>
        </VirtualSystem><VirtualSystem ovf:id="other"/></VirtualSystemCollection>"#,
    );
    let found = appliance(simple(&text, |tar| tar)).unwrap();
    assert_eq!((found.name.as_str(), found.firmware, found.vcpus), ("box", Some(Firmware::Efi), None));
    assert_eq!((found.memory_bytes, found.disks[0].bus), (Some(1 << 30), Some(Bus::Sata)));
    assert_eq!(found.os.unwrap().kind, "Ubuntu_64");
    assert_eq!(found.notes, ["the appliance has 1 more virtual machines than the first, shown here"]);
}

#[test]
fn a_descriptor_of_ovirt() {
    // After OVF 0.9: sections and machines are told by their type.
    let text = r#"<?xml version="1.0" encoding="UTF-8"?>
        <ovf:Envelope xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1/" xmlns:rasd="r" xmlns:xsi="x" ovf:version="4.2">
        <References><File ovf:href="a.img" ovf:id="1f" ovf:size="1048576"/></References>
        <Section xsi:type="ovf:NetworkSection_Type"><Info/></Section>
        <Section xsi:type="ovf:DiskSection_Type"><Info/>
          <Disk ovf:diskId="1d" ovf:capacity="1048576" ovf:fileRef="1f" ovf:format="vmdk.html#sparse"/></Section>
        <Content ovf:id="out" xsi:type="ovf:VirtualSystem_Type"><Name>vm</Name>
          <Section ovf:id="x" xsi:type="ovf:OperatingSystemSection_Type"><Info/><Description>debian_9</Description></Section>
          <Section xsi:type="ovf:VirtualHardwareSection_Type">
            <Item><rasd:InstanceId>1</rasd:InstanceId><rasd:ResourceType>3</rasd:ResourceType><rasd:VirtualQuantity>2</rasd:VirtualQuantity></Item>
          </Section></Content></ovf:Envelope>"#;
    let found = appliance(simple(text, |tar| tar)).unwrap();
    assert_eq!((found.name.as_str(), found.vcpus, found.disks.len()), ("vm", Some(2), 1));
    assert_eq!(found.os.unwrap().description, "debian_9");
}
