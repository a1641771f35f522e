//! Setup information files (INF): which files a driver has.
//!
//! Form: Microsoft's "General Syntax Rules for INF Files", "INF Version Section" and "INF SourceDisksFiles Section".

use std::collections::HashMap;

use super::folders::Platform;

/// Longest name of a file.
const NAME_MAX: usize = 64;

/// The sections of an INF by name, in small letters, each with its lines as key and value.
pub(super) struct Inf {
    sections: HashMap<String, Vec<(String, String)>>,
    text: String,
}

impl Inf {
    /// Reads an INF; none where it is none for Windows.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let text = decoded(bytes);
        let mut sections: HashMap<String, Vec<(String, String)>> = HashMap::new();
        let mut name = String::new();
        for line in text.lines().map(|line| without_comment(line).trim()).filter(|line| !line.is_empty()) {
            if let Some(section) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                name = section.trim().to_ascii_lowercase();
                continue;
            }
            let (key, value) = line.split_once('=').unwrap_or((line, ""));
            let bare = |text: &str| text.trim().trim_matches('"').to_owned();
            sections.entry(name.clone()).or_default().push((bare(key), bare(value)));
        }
        let inf = Self { sections, text: text.to_ascii_uppercase() };
        let signature = inf.value("version", "signature")?;
        matches!(signature.to_ascii_lowercase().as_str(), "$windows nt$" | "$chicago$").then_some(inf)
    }

    fn value(&self, section: &str, key: &str) -> Option<&str> {
        let lines = self.sections.get(section)?;
        lines.iter().find(|(found, _)| found.eq_ignore_ascii_case(key)).map(|(_, value)| value.as_str())
    }

    /// Returns whether `word` stands anywhere in it.
    pub(super) fn mentions(&self, word: &str) -> bool {
        self.text.contains(word)
    }

    /// Returns the name of the file with the signatures.
    pub(super) fn catalogue(&self, platform: Platform) -> Option<String> {
        let keys = [format!("catalogfile.nt{}", platform.section()), "catalogfile.nt".into(), "catalogfile".into()];
        keys.iter().find_map(|key| self.value("version", key)).filter(|name| is_plain(name)).map(str::to_owned)
    }

    /// Returns the names of the files that are copied when the driver is installed; an error says what of it is odd.
    pub(super) fn files(&self, platform: Platform) -> Result<Vec<String>, String> {
        let section = "sourcedisksfiles";
        let lines = [section.to_owned(), format!("{section}.{}", platform.section())]
            .into_iter()
            .flat_map(|section| self.sections.get(&section).into_iter().flatten());
        let mut files = Vec::new();
        for (name, place) in lines {
            if !is_plain(name) {
                return Err("names a file that is no plain name".to_owned());
            }
            // The number of a disk, a folder on it, a size.
            let folder = place.split(',').nth(1).unwrap_or_default().trim().trim_matches('"');
            if !folder.is_empty() {
                return Err(format!("has {name} in another folder"));
            }
            files.push(name.clone());
        }
        Ok(files)
    }
}

fn is_plain(name: &str) -> bool {
    let is_known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    (1..=NAME_MAX).contains(&name.len()) && name.bytes().all(is_known) && !name.starts_with('.') && !name.ends_with('.')
}

/// Returns the text, whichever way it is written.
fn decoded(bytes: &[u8]) -> String {
    match bytes {
        [0xff, 0xfe, rest @ ..] => {
            let units: Vec<u16> = rest.chunks_exact(2).map(|unit| u16::from_le_bytes([unit[0], unit[1]])).collect();
            String::from_utf16_lossy(&units)
        }
        _ => String::from_utf8_lossy(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)).into_owned(),
    }
}

/// Returns the line up to a semicolon that is not in quotes.
fn without_comment(line: &str) -> &str {
    let mut is_quoted = false;
    let end = line.find(|letter| {
        is_quoted ^= letter == '"';
        letter == ';' && !is_quoted
    });
    &line[..end.unwrap_or(line.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "; a driver\n[Version]\nSignature=\"$WINDOWS NT$\" ; it is one\nCatalogFile = NetKVM.cat\n\
        CatalogFile.NTarm64=arm.cat\n[SourceDisksFiles]\nnetkvm.sys = 1,,\n\"netkvmp.exe\"=1\n[SourceDisksFiles.x86]\nold.dll=1\n\
        [Models.NTamd64]\n%a;b% = install, PCI\\VEN_1AF4&DEV_1000&SUBSYS_00011AF4&REV_00\n";

    #[test]
    fn files_of_a_driver() {
        let wide: Vec<u8> = "\u{feff}".encode_utf16().chain(TEXT.encode_utf16()).flat_map(u16::to_le_bytes).collect();
        for bytes in [TEXT.as_bytes(), &wide] {
            let inf = Inf::parse(bytes).unwrap();
            assert_eq!(inf.files(Platform::Amd64).unwrap(), ["netkvm.sys", "netkvmp.exe"]);
            assert_eq!(inf.files(Platform::X86).unwrap(), ["netkvm.sys", "netkvmp.exe", "old.dll"]);
            assert_eq!(inf.catalogue(Platform::Amd64).as_deref(), Some("NetKVM.cat"));
            assert_eq!(inf.catalogue(Platform::Arm64).as_deref(), Some("arm.cat"));
            assert!(inf.mentions("VEN_1AF4&DEV_1000") && !inf.mentions("VEN_1AF4&DEV_1042"));
        }
    }

    #[test]
    fn what_is_no_driver_is_refused() {
        assert!(Inf::parse(b"").is_none() && Inf::parse(b"[Version]\nSignature=no").is_none());
        let files = |line: &str| {
            let text = format!("[version]\nsignature=$Windows NT$\n[SourceDisksFiles]\n{line}\n");
            Inf::parse(text.as_bytes()).unwrap().files(Platform::Amd64)
        };
        assert!(files(r"..\..\evil.sys=1").is_err() && files("a.sys=1,\\other").is_err() && files("../a=1").is_err());
        assert_eq!(files("a.sys=1,,300").unwrap(), ["a.sys"]);
    }
}
