//! Registry hives: read as hivexregedit wrote them, and changed so that it finds what was meant and nothing else.

use std::time::{Duration, Instant};

use disk::error::ErrorKind;
use guest::registry::{Changed, Editor, Hive, Key, ValueChange, ValueData, ValueKind};

use crate::hives::{empty, export, merge, regedit, stamp};
use crate::mutation::Random;

const TIME: u64 = 0x01d9_0000_1234_5678;

fn services() -> Vec<u8> {
    let long: Vec<String> = (0..12_000).map(|number: u32| format!("{:02x}", number % 251)).collect();
    let text = format!(
        r#"
        [ControlSet001\Services\atapi]
        "Start"=dword:00000003
        "Group"="SCSI Miniport"
        @="the default"
        [ControlSet001\Services\viostor\Parameters]
        "BusType"=dword:00000001
        [ControlSet001\Services\Tcpip\Parameters\Interfaces\{{A}}]
        "EnableDHCP"=dword:00000000
        "IPAddress"=hex(7):31,00,30,00,2e,00,30,00,2e,00,30,00,2e,00,35,00,00,00,00,00
        "ImagePath"=hex(2):25,00,78,00,25,00,00,00
        "Wide"=hex(b):01,00,00,00,01,00,00,00
        "Long"=hex:{}
        [Select]
        "Current"=dword:00000001
        "#,
        long.join(",")
    );
    merge(&empty(5), &regedit(&text))
}

fn editor(hive: &[u8]) -> Editor {
    Editor::open(hive.to_vec(), r"HKLM\SYSTEM", TIME).unwrap()
}

/// Asserts that the hive differs from `old` in the ranges that are told, and in no other.
fn check_ranges(old: &[u8], changed: &Changed) {
    let mut patched = old.to_vec();
    patched.resize(changed.bytes.len(), 0);
    for range in &changed.ranges {
        patched[range.clone()].copy_from_slice(&changed.bytes[range.clone()]);
    }
    assert!(patched == changed.bytes);
    assert_eq!(changed.bytes.len() % 4096, 0);
    assert!(!Hive::open(&changed.bytes).unwrap().is_dirty());
}

/// Returns the lines that only one of two exports has: `-` from the old one, `+` from the new one.
fn difference(old: &[u8], new: &[u8]) -> Vec<String> {
    let (old, new) = (export(old), export(new));
    // A line of a file may stand under several keys, so that each is told with its key.
    let lines = |text: &str| {
        let mut key = String::new();
        let mut lines = Vec::new();
        for line in text.replace("\\\n  ", "").lines().filter(|line| !line.is_empty()) {
            if line.starts_with('[') {
                key = line.to_owned();
            }
            lines.push(format!("{key}{}", if line.starts_with('[') { "" } else { line }));
        }
        lines
    };
    let (old, new) = (lines(&old), lines(&new));
    let gone = old.iter().filter(|line| !new.contains(line)).map(|line| format!("-{line}"));
    gone.chain(new.iter().filter(|line| !old.contains(line)).map(|line| format!("+{line}"))).collect()
}

#[test]
fn values_of_each_type_are_read() {
    let bytes = services();
    let hive = Hive::open(&bytes).unwrap();
    assert!(!hive.is_dirty() && !hive.is_cut());
    let key = |path: &str| hive.key(path).unwrap().unwrap();
    let atapi = key(r"controlset001\SERVICES\AtApi");
    assert_eq!((atapi.name(), atapi.class().unwrap()), ("atapi".to_owned(), None));
    assert_eq!(atapi.value("START").unwrap().unwrap().number(), Some(3));
    assert_eq!(atapi.value("group").unwrap().unwrap().text().as_deref(), Some("SCSI Miniport"));
    assert_eq!(atapi.value("").unwrap().unwrap().text().as_deref(), Some("the default"));
    assert!(atapi.value("none").unwrap().is_none() && atapi.subkey("none").unwrap().is_none());
    assert!(hive.key(r"ControlSet001\none\x").unwrap().is_none());
    let interface = key(r"ControlSet001\Services\Tcpip\Parameters\Interfaces\{A}");
    let value = |name: &str| interface.value(name).unwrap().unwrap();
    assert_eq!(value("IPAddress").texts().unwrap(), ["10.0.0.5"]);
    assert_eq!(value("ImagePath").text().as_deref(), Some("%x%"));
    assert_eq!((value("Wide").number(), value("Wide").kind()), (Some(0x1_0000_0001), ValueKind::Qword));
    let long = value("Long").data().unwrap();
    assert!(long.len() == 12_000 && long[11_999] == (11_999_u32 % 251) as u8);
    assert_eq!((value("Long").number(), value("Long").text(), value("Long").texts()), (None, None, None));
    let names: Vec<String> = key(r"ControlSet001\Services").subkeys(10).unwrap().iter().map(Key::name).collect();
    assert_eq!(names, ["atapi", "Tcpip", "viostor"]);
    assert_eq!(key("ControlSet001").subkey("Services").unwrap().unwrap().subkeys(1).unwrap().len(), 1);
}

#[test]
fn class_of_a_key_is_read() {
    let mut hive = empty(5);
    put(&mut hive, 0xa8, 16_u32.wrapping_neg());
    put(&mut hive, 0xac, 0x0044_004a);
    put(&mut hive, 0xb8, 4096 - 0xb8);
    put(&mut hive, 0x24 + 48, 0xa8);
    hive[4096 + 0x24 + 74] = 4;
    assert_eq!(Hive::open(&hive).unwrap().root().unwrap().class().unwrap().as_deref(), Some("JD"));
    hive[4096 + 0x24 + 74] = 14;
    assert!(Hive::open(&hive).unwrap().root().unwrap().class().is_err());
}

#[test]
fn a_dword_is_changed_in_place() {
    let old = services();
    let mut editor = editor(&old);
    editor.set_dword(r"ControlSet001\Services\atapi", "Start", 0).unwrap();
    let changed = editor.finish();
    check_ranges(&old, &changed);
    assert_eq!(changed.bytes.len(), old.len());
    assert_eq!(changed.told, [r"HKLM\SYSTEM\ControlSet001\Services\atapi Start: 3 -> 0"]);
    let key = r"[\K\ControlSet001\Services\atapi]".replace(r"[\K", "[K");
    let expected = [format!("-{key}\"Start\"=dword:00000003"), format!("+{key}\"Start\"=dword:00000000")];
    assert_eq!(difference(&old, &changed.bytes), expected);
    // Besides the base block: the time of the key, and one byte of the number.
    let outside: Vec<_> = changed.ranges.iter().filter(|range| range.start >= 512).collect();
    assert_eq!(outside.len(), 2, "{:?}", changed.ranges);
    assert_eq!(outside.iter().map(|range| range.len()).sum::<usize>(), 8 + 1);

    // What is as wanted is not written again.
    let mut again = self::editor(&changed.bytes);
    again.set_dword(r"ControlSet001\Services\atapi", "start", 0).unwrap();
    again.delete_value(r"ControlSet001\Services\atapi", "none").unwrap();
    again.create_key(r"ControlSet001\Services\ATAPI").unwrap();
    let again = again.finish();
    assert!(again.bytes == changed.bytes && again.ranges.is_empty() && again.told.is_empty());
}

#[test]
fn keys_and_values_are_added_and_taken_away() {
    for minor in [3, 5] {
        let old = merge(&empty(minor), &regedit("[Services\\one]\n\"a\"=dword:00000001\n\"b\"=\"text\"\n"));
        let mut editor = editor(&old);
        editor.create_key(r"Services\viostor\Parameters\PnpInterface").unwrap();
        editor.set_dword(r"Services\viostor\Parameters\PnpInterface", "5", 1).unwrap();
        let path: Vec<u8> = "system32\\x.sys\0".encode_utf16().flat_map(u16::to_le_bytes).collect();
        editor.set_value(r"Services\viostor", "ImagePath", ValueKind::ExpandText, &path).unwrap();
        editor.set_value(r"Services\viostor", "", ValueKind::Binary, &[7; 9000]).unwrap();
        editor
            .set_value(
                r"Services\one",
                "b",
                ValueKind::Text,
                &"longer than it was\0".encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>(),
            )
            .unwrap();
        editor.delete_value(r"Services\one", "A").unwrap();
        editor.create_key("Ключ").unwrap();
        let changed = editor.finish();
        check_ranges(&old, &changed);
        let difference = difference(&old, &changed.bytes);
        let has = |line: &str| difference.iter().any(|found| found == line);
        assert!(has(r#"-[K\Services\one]"a"=dword:00000001"#), "{difference:#?}");
        assert!(has(r"+[K\Services\viostor\Parameters\PnpInterface]"), "{difference:#?}");
        assert!(has(r#"+[K\Services\viostor\Parameters\PnpInterface]"5"=dword:00000001"#), "{difference:#?}");
        assert!(difference.iter().any(|line| line.starts_with(r#"+[K\Services\viostor]"ImagePath"=hex(2):73,00"#)));
        assert!(
            difference.iter().any(|line| line.starts_with(r"+[K\Services\viostor]@=hex(3):07,07,07")),
            "{difference:#?}"
        );
        // Two changed values, one gone, four new keys, three new values.
        assert_eq!(difference.len(), 2 + 1 + 4 + 3, "{difference:#?}");
        let told = [
            r"HKLM\SYSTEM\Services\viostor created",
            r"HKLM\SYSTEM\Services\viostor\Parameters created",
            r"HKLM\SYSTEM\Services\viostor\Parameters\PnpInterface created",
            r"HKLM\SYSTEM\Services\viostor\Parameters\PnpInterface 5: (none) -> 1",
            r#"HKLM\SYSTEM\Services\viostor ImagePath: (none) -> "system32\\x.sys""#,
            r"HKLM\SYSTEM\Services\viostor (default): (none) -> 9000 bytes",
            r#"HKLM\SYSTEM\Services\one b: "text" -> "longer than it was""#,
            r"HKLM\SYSTEM\Services\one A: 1 -> (none)",
            r"HKLM\SYSTEM\Ключ created",
        ];
        assert_eq!(changed.told, told);
        let hive = Hive::open(&changed.bytes).unwrap();
        assert_eq!(hive.key(r"services\VIOSTOR").unwrap().unwrap().time(), TIME);
        assert!(hive.key("кЛЮЧ").unwrap().is_some());
        // The descriptor of the root is shared by the seven keys that there are now.
        assert_eq!(changed.bytes[4096 + 0x7c + 12], 7);
    }
}

#[test]
fn data_moves_between_cells_and_is_freed() {
    let old = services();
    let path = r"ControlSet001\Services\Tcpip\Parameters\Interfaces\{A}";
    let mut editor = editor(&old);
    // From a long cell to four bytes, to a cell, to a longer one that takes the place which the first one left.
    editor.set_value(path, "Long", ValueKind::Binary, &[1, 2, 3]).unwrap();
    editor.set_value(path, "Long", ValueKind::Binary, &[4; 100]).unwrap();
    editor.set_value(path, "Long", ValueKind::Binary, &[5; 11_000]).unwrap();
    editor.set_value(path, "Long", ValueKind::Binary, &[6; 50]).unwrap();
    editor.set_value(path, "Long", ValueKind::Text, b"").unwrap();
    for name in ["EnableDHCP", "IPAddress", "ImagePath", "Wide", "Long"] {
        editor.delete_value(path, name).unwrap();
    }
    let changed = editor.finish();
    check_ranges(&old, &changed);
    assert_eq!(changed.bytes.len(), old.len());
    let difference = difference(&old, &changed.bytes);
    assert!(difference.len() == 5 && difference.iter().all(|line| line.starts_with('-')), "{difference:#?}");
    let mut again = self::editor(&changed.bytes);
    again.set_value(path, "Again", ValueKind::Binary, &[9; 11_000]).unwrap();
    assert_eq!(again.finish().bytes.len(), old.len());
}

/// Windows cuts data over 16344 bytes into segments (`db`), which hivexregedit does not.
#[test]
fn segments_are_joined_and_freed() {
    let mut hive = merge(&empty(5), "[K]\n\"Long\"=hex:01,02,03,04,05,06,07,08\n");
    let bin = hive.len() - 4096;
    hive.resize(hive.len() + 0x9000, 0);
    hive[40..44].copy_from_slice(&u32::try_from(bin + 0x9000).unwrap().to_le_bytes());
    hive[4096 + bin..4096 + bin + 8].copy_from_slice(&[b"hbin", &(bin as u32).to_le_bytes()[..]].concat());
    put(&mut hive, bin + 8, 0x9000);
    // Cells one after the other: the block, its list, two segments, and what is left.
    let (block, list, first, second, rest) = (bin + 0x20, bin + 0x30, bin + 0x40, bin + 0x4020, bin + 0x8000);
    let places = [block, list, first, second, rest, bin + 0x9000];
    for pair in places.windows(2) {
        put(&mut hive, pair[0], ((pair[1] - pair[0]) as u32).wrapping_neg());
    }
    put(&mut hive, rest, 0x1000);
    hive[4096 + block + 4..4096 + block + 8].copy_from_slice(b"db\x02\0");
    put(&mut hive, block + 8, list as u32);
    put(&mut hive, list + 4, first as u32);
    put(&mut hive, list + 8, second as u32);
    hive[4096 + first + 4..4096 + second].fill(1);
    hive[4096 + second + 4..4096 + rest].fill(2);
    let value = hive.windows(2).position(|part| part == b"vk").unwrap();
    hive[value + 4..value + 8].copy_from_slice(&20_000_u32.to_le_bytes());
    hive[value + 8..value + 12].copy_from_slice(&(block as u32).to_le_bytes());
    stamp(&mut hive);

    let data = Hive::open(&hive).unwrap().root().unwrap().value("long").unwrap().unwrap().data().unwrap();
    assert_eq!(data, [vec![1; 16_344], vec![2; 20_000 - 16_344]].concat());
    let mut editor = editor(&hive);
    editor.set_value("", "Long", ValueKind::Binary, &[3; 12_000]).unwrap();
    editor.set_value("", "Other", ValueKind::Binary, &[4; 16_000]).unwrap();
    let changed = editor.finish();
    check_ranges(&hive, &changed);
    // Both fit only where the segments were.
    assert_eq!(changed.bytes.len(), hive.len());
}

/// A list that is split in two, and lists of lists, as the larger hives have them.
#[test]
fn many_keys_stay_sorted() {
    let mut editor = editor(&empty(5));
    for number in 0..1300_u32 {
        editor.create_key(&format!("Key {:04}", number.wrapping_mul(7919) % 1300)).unwrap();
    }
    let changed = editor.finish();
    assert!(changed.bytes.windows(2).any(|part| part == b"ri"));
    let keys: Vec<String> =
        export(&changed.bytes).lines().filter(|line| line.contains("Key")).map(str::to_owned).collect();
    let expected: Vec<String> = (0..1300).map(|number| format!("[K\\Key {number:04}]")).collect();
    assert_eq!(keys, expected);
    let hive = Hive::open(&changed.bytes).unwrap();
    let names: Vec<String> = hive.root().unwrap().subkeys(5000).unwrap().iter().map(Key::name).collect();
    assert!(names.is_sorted() && names.len() == 1300);
}

#[test]
fn hives_that_are_not_whole_are_read_and_not_changed() {
    let sound = services();
    let fault = |hive: &[u8]| Editor::open(hive.to_vec(), "X", TIME).err().unwrap();
    let mut dirty = sound.clone();
    dirty[4] ^= 1;
    stamp(&mut dirty);
    let hive = Hive::open(&dirty).unwrap();
    assert!(hive.is_dirty() && hive.key("Select").unwrap().is_some());
    assert_eq!(fault(&dirty).kind(), ErrorKind::Refused);
    assert!(fault(&dirty).to_string().contains("in its logs") && fault(&dirty).hint().is_some());
    let mut unsummed = sound.clone();
    unsummed[508] ^= 1;
    assert_eq!(fault(&unsummed).kind(), ErrorKind::Refused);
    let cut = &sound[..sound.len() - 4096];
    assert!(Hive::open(cut).unwrap().is_cut());
    assert_eq!(fault(cut).kind(), ErrorKind::Corrupt);
    assert!(Hive::open(&sound[..4000]).is_err() && Hive::open(&[0; 8192]).is_err());
    let mut old = sound.clone();
    old[24] = 2;
    assert_eq!(Hive::open(&old).err().unwrap().kind(), ErrorKind::Unsupported);
    let mut editor = editor(&sound);
    assert!(editor.set_dword("none", "x", 1).unwrap_err().to_string().contains(r"there is no key HKLM\SYSTEM\none"));
    assert_eq!(
        editor.set_value("Select", "x", ValueKind::Binary, &[0; 16_345]).unwrap_err().kind(),
        ErrorKind::TooLarge
    );
    assert_eq!(editor.create_key(&"x".repeat(256)).unwrap_err().kind(), ErrorKind::TooLarge);
    assert_eq!(editor.create_key(&"x\\".repeat(513)).unwrap_err().kind(), ErrorKind::TooLarge);
}

fn put(hive: &mut [u8], at: usize, value: u32) {
    hive[4096 + at..4096 + at + 4].copy_from_slice(&value.to_le_bytes());
}

/// Keys below themselves, lists that name one key 65535 times, cells that lie over each other.
#[test]
fn loops_end() {
    let start = Instant::now();
    let mut hive = empty(5);
    // A list at 0xb0 whose only key is the root itself.
    put(&mut hive, 0xa8, 8);
    put(&mut hive, 0xb0, 16_u32.wrapping_neg());
    hive[4096 + 0xb4..4096 + 0xb8].copy_from_slice(b"lf\x01\0");
    put(&mut hive, 0xb8, 0x20);
    put(&mut hive, 0xc0, 4096 - 0xc0);
    put(&mut hive, 0x24 + 20, 1);
    put(&mut hive, 0x24 + 28, 0xb0);
    let found = Hive::open(&hive).unwrap();
    assert!(found.key(&"ROOT\\".repeat(1_000_000)).unwrap().is_some());
    assert!(Editor::open(hive.clone(), "X", 0).unwrap().create_key(&"ROOT\\".repeat(500)).is_ok());
    // The oldest kind of list has no hashes.
    hive[4096 + 0xb4..4096 + 0xb6].copy_from_slice(b"li");
    let mut oldest = Editor::open(hive.clone(), "X", 0).unwrap();
    oldest.create_key("AAA").unwrap();
    let oldest = oldest.finish().bytes;
    let keys = Hive::open(&oldest).unwrap().root().unwrap().subkeys(10).unwrap();
    assert_eq!(keys.iter().map(Key::name).collect::<Vec<_>>(), ["AAA", "ROOT"]);
    // A list of lists that names itself.
    hive[4096 + 0xb4..4096 + 0xb6].copy_from_slice(b"ri");
    put(&mut hive, 0xb8, 0xb0);
    assert!(Hive::open(&hive).unwrap().root().unwrap().subkeys(10).is_err());
    assert!(Editor::open(hive.clone(), "X", 0).unwrap().create_key("x").is_err());

    // As many lists as can be, all the same one, which names the root as often as it can.
    let mut wide = empty(5);
    wide.resize(4096 + (1 << 20), 0);
    for (field, value) in [(8, 1 << 20), (0xa8, 8), (0xb0, 0x80000_u32.wrapping_neg()), (0x24 + 20, u32::MAX)] {
        put(&mut wide, field, value);
    }
    wide[40..44].copy_from_slice(&(1_u32 << 20).to_le_bytes());
    wide[4096 + 0xb4..4096 + 0xb8].copy_from_slice(b"lf\xff\xff");
    (0..65535).for_each(|at| put(&mut wide, 0xb8 + at * 8, 0x20));
    let second = 0xb0 + 0x80000;
    put(&mut wide, second, 0x50000_u32.wrapping_neg());
    wide[4096 + second + 4..4096 + second + 8].copy_from_slice(b"ri\xff\xff");
    (0..65535).for_each(|at| put(&mut wide, second + 8 + at * 4, 0xb0));
    put(&mut wide, second + 0x50000, ((1 << 20) - second - 0x50000) as u32);
    put(&mut wide, 0x24 + 28, second as u32);
    let root = Hive::open(&wide).unwrap().root().unwrap();
    assert!(root.subkey("none").unwrap().is_none());
    assert_eq!(root.subkeys(usize::MAX).unwrap().len(), 1 << 18);
    stamp(&mut wide);
    assert_eq!(Editor::open(wide, "X", 0).unwrap().create_key("x").unwrap_err().kind(), ErrorKind::TooLarge);

    // Cells over each other can be read, but no change is made in such a hive.
    let mut over = services();
    put(&mut over, 0x20, 96_u32.wrapping_neg());
    stamp(&mut over);
    assert!(Hive::open(&over).unwrap().key("Select").unwrap().is_some());
    assert!(Editor::open(over, "X", 0).err().unwrap().to_string().contains("is broken"));
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
}

/// Two keys have one list of values: what is set in the one is set in the other.
#[test]
fn what_would_change_something_else_too_is_refused() {
    let text = "[Services\\First]\n\"Start\"=dword:00000003\n[Services\\Second]\n\"Start\"=dword:00000003\n";
    let mut hive = merge(&empty(5), &regedit(text));
    // The name stands 76 bytes into the key, the address of the list 40.
    let list = |hive: &[u8], name: &[u8]| hive.windows(name.len()).position(|found| found == name).unwrap() - 76 + 40;
    let (first, second) = (list(&hive, b"First"), list(&hive, b"Second"));
    let change = |key: &str, number| ValueChange {
        key: format!("Services\\{key}"),
        name: "Start".to_owned(),
        before: None,
        after: ValueData::dword(number),
    };
    let changes = [change("First", 2), change("Second", 4)];
    editor(&hive).apply(&changes).unwrap();
    hive.copy_within(first..first + 4, second);
    let refused = editor(&hive).apply(&changes[..1]).unwrap_err().to_string();
    assert_eq!(refused, r"cells of HKLM\SYSTEM lie over each other");
}

/// Reads all that can be reached in a few levels, as far as the hive lets it.
fn walk(key: &Key<'_>, depth: usize, found: &mut usize) {
    *found += 1;
    let _ = (key.name(), key.class());
    for value in key.values(50).unwrap_or_default() {
        *found += usize::from(value.data().is_ok());
        let _ = (value.name(), value.number(), value.text(), value.texts());
    }
    if depth > 0 {
        key.subkeys(20).unwrap_or_default().iter().for_each(|key| walk(key, depth - 1, found));
    }
}

#[test]
fn damaged_hives_are_read_and_changed_to_an_end() {
    const ROUNDS: usize = 4000;
    let sound = services();
    let mut random = Random(0x6d6f_6c64_6500_0003);
    let (mut found, mut changed, mut refused) = (0, 0, 0);
    for round in 0..ROUNDS {
        let mut hive = sound.clone();
        // Most of the hive is the long value, of which no damage is noticed.
        let end = if round % 8 == 0 { hive.len() } else { 4096 + 3072 };
        for _ in 0..1 << random.next(7) {
            let at = if random.next(6) == 0 { random.next(512) } else { random.next(end) };
            let special = [0, 0xff, 0x7f, 0x80, 0x20, 8];
            hive[at] = if random.next(2) == 0 { special[random.next(6)] } else { random.next(256) as u8 };
        }
        // Two of three have a base block that is right, so that changes are tried.
        if round % 3 != 0 {
            hive[..48].copy_from_slice(&sound[..48]);
            stamp(&mut hive);
        }
        let start = Instant::now();
        if let Ok(root) = Hive::open(&hive).and_then(|hive| hive.root()) {
            walk(&root, 5, &mut found);
        }
        match Editor::open(hive, "X", TIME) {
            Ok(mut editor) => {
                let path = r"ControlSet001\Services\Tcpip\Parameters\Interfaces\{A}";
                let _ = editor.create_key(r"ControlSet001\Services\viostor\Enum\x");
                let _ = editor.set_dword(r"ControlSet001\Services\atapi", "Start", 0);
                let _ = editor.set_value(path, "Long", ValueKind::Binary, &[1; 300]);
                let _ = editor.set_value(path, "New", ValueKind::Binary, &[1; 9000]);
                let _ = editor.delete_value(path, "IPAddress");
                changed += usize::from(!editor.finish().told.is_empty());
            }
            Err(_) => refused += 1,
        }
        assert!(start.elapsed() < Duration::from_secs(5), "round {round}: {:?}", start.elapsed());
    }
    assert!(found > ROUNDS && changed > ROUNDS / 20 && refused > ROUNDS / 20, "{found} {changed} {refused}");
}
