//! A module of the kernel without what only debuggers and tracers read, which an emulated processor would spend a second on.
//!
//! The kernel looks for these parts by their names and does without those that are not there (`find_module_sections`,
//! `module_finalize`): types, which it checks together with all of its own; tables that unwind a stack, which it sorts; events and
//! places to trace, for each of which it makes folders or patches code. As no signature holds for what was changed, it is taken
//! away: a kernel that does not insist on one then need not hash the file either.

use crate::fields::{le16, le32, le64, put_le32, stands_at};

/// Sections that get another name.
const HIDDEN: [&[u8]; 6] =
    [b".BTF", b".orc_unwind", b".orc_unwind_ip", b"_ftrace_events", b"_ftrace_eval_map", b"__mcount_loc"];
/// Most sections that are looked at.
const SECTIONS_MAX: usize = 4096;
/// What comes last in a file that is signed, and the length of what tells of the signature before it (`struct module_signature`).
const SIGNED: &[u8] = b"~Module signature appended~\n";
const TOLD: usize = 12;

/// Returns `module` without what a micro-VM has no use for; as it is, where it is not what is expected.
pub(super) fn lean(module: Vec<u8>) -> Vec<u8> {
    leaner(&module).unwrap_or(module)
}

fn leaner(module: &[u8]) -> Option<Vec<u8>> {
    let mut lean = unsigned(module)?.to_vec();
    // Of 64 bits, in the order of bytes of x86.
    if !stands_at(&lean, 0, b"\x7fELF\x02\x01") || lean.len() < 64 {
        return None;
    }
    let (entry, count, names) = (le16(&lean, 0x3a), le16(&lean, 0x3c), le16(&lean, 0x3e));
    let start = usize::try_from(le64(&lean, 0x28)).ok()?;
    let at = |number: usize| start.checked_add(number * usize::from(entry));
    if entry < 64 || usize::from(count) > SECTIONS_MAX || names >= count || at(count.into())? > lean.len() {
        return None;
    }
    let name_table = usize::try_from(le64(&lean, at(names.into())? + 0x18)).ok()?;
    for number in 0..usize::from(count) {
        let at = at(number)?;
        let name = lean.get(name_table.checked_add(le32(&lean, at) as usize)?..)?;
        let name = &name[..name.iter().position(|byte| *byte == 0)?];
        if HIDDEN.contains(&name) {
            // It is called what follows its first letter.
            let name = le32(&lean, at) + 1;
            put_le32(&mut lean, at, name);
        }
    }
    Some(lean)
}

/// Returns what a signature was made of.
fn unsigned(module: &[u8]) -> Option<&[u8]> {
    let Some(told) = module.strip_suffix(SIGNED) else { return Some(module) };
    let (rest, told) = told.split_at_checked(told.len().checked_sub(TOLD)?)?;
    let length = u32::from_be_bytes(*told.last_chunk()?) as usize + usize::from(told[3]) + usize::from(told[4]);
    rest.get(..rest.len().checked_sub(length)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A module with sections of these names, the first of which is that of the names.
    fn module(names: &[&str]) -> Vec<u8> {
        let mut file = vec![0; 64];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        let strings: Vec<u8> = names.iter().flat_map(|name| [name.as_bytes(), b"\0"].concat()).collect();
        let headers = 64 + strings.len();
        file[0x28] = headers as u8;
        file[0x3a] = 64;
        file[0x3c] = names.len() as u8;
        file.extend(&strings);
        let mut at = 0;
        for name in names {
            let mut header = [0; 64];
            header[0] = at;
            header[0x18] = 64;
            file.extend(header);
            at += name.len() as u8 + 1;
        }
        file
    }

    fn names(module: &[u8]) -> Vec<String> {
        let (headers, count) = (usize::from(module[0x28]), usize::from(module[0x3c]));
        let name = |number: usize| {
            let at = 64 + usize::from(module[headers + number * 64]);
            module[at..].iter().take_while(|byte| **byte != 0).map(|byte| char::from(*byte)).collect()
        };
        (0..count).map(name).collect()
    }

    #[test]
    fn what_serves_debugging_is_not_found_and_all_else_stays() {
        let whole =
            module(&[".shstrtab", ".text", ".rela.orc_unwind_ip", ".orc_unwind_ip", ".BTF", "__mcount_loc", "__param"]);
        let made = lean(whole.clone());
        let expected = [".shstrtab", ".text", ".rela.orc_unwind_ip", "orc_unwind_ip", "BTF", "_mcount_loc", "__param"];
        assert_eq!(names(&made), expected);
        assert_eq!(made.len(), whole.len());
        // A signature is of what was.
        let mut signed = [&whole[..], b"signature", &[0, 0, 2, 0, 0, 0, 0, 0], &9_u32.to_be_bytes(), SIGNED].concat();
        assert_eq!(lean(signed.clone()), made);
        // One that is longer than the file.
        let at = signed.len() - SIGNED.len() - 2;
        signed[at] = 0xff;
        assert_eq!(lean(signed.clone()), signed);
    }

    #[test]
    fn what_is_no_module_stays_as_it_is() {
        let whole = module(&[".shstrtab", ".BTF"]);
        for end in 0..whole.len() {
            assert_eq!(lean(whole[..end].to_vec()), whole[..end]);
        }
        for at in (0..6).chain(0x28..0x40) {
            let mut altered = whole.clone();
            altered[at] ^= 0xff;
            // No fault of this program, whatever the kernel says of it.
            assert_eq!(lean(altered.clone()).len(), altered.len(), "{at:#x}");
        }
        assert_eq!(lean(Vec::new()), b"");
    }
}
