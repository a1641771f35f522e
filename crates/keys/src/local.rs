//! The embedded key service: master keys in one file of this host.
//!
//! The file is text, so that it can be kept in a safe on paper. The first line names the format, each
//! other line is a master key. The last key wraps; all unwrap, so a rotation appends a line.
//! ```text
//! molde-master-keys 1
//! 9f86d081884c7d65 n4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg=
//! ```
//! A wrapped secret is `version (1) | id of the master key (8) | nonce (12) | ciphertext | tag (16)`; the
//! seal binds `"molde wrap" | version | id | context`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use zeroize::Zeroizing;

use crate::{Error, ErrorKind, Kms, Result, Secret, cipher};

const FIRST_LINE: &str = "molde-master-keys 1";
const WRAP_VERSION: u8 = 1;
const KEY_ID_LENGTH: usize = 8;
/// A thousand keys; a larger file is not ours.
const FILE_LENGTH_MAX: u64 = 64 * 1024;

type KeyId = [u8; KEY_ID_LENGTH];

struct MasterKey {
    id: KeyId,
    key: Zeroizing<[u8; cipher::KEY_LENGTH]>,
}

/// A key service whose master keys lie in one file, readable by its owner only.
pub struct LocalKms {
    path: PathBuf,
    /// Oldest first, never empty.
    keys: Vec<MasterKey>,
}

impl LocalKms {
    /// Opens the master key file at `path`, or makes it with one new key, durable before this returns.
    ///
    /// Refuses a file that others than its owner may read. When two processes make the file at once, both
    /// end with the same key.
    pub fn open_or_create(path: &Path) -> Result<Self> {
        match Self::open(path) {
            Err(error) if is_missing(&error) => {}
            opened => return opened,
        }
        create(path)?;
        Self::open(path)
    }

    fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|e| Error::io(format_args!("open the key file {}", path.display()), e))?;
        let reading = |e| Error::io(format_args!("read the key file {}", path.display()), e);
        let metadata = file.metadata().map_err(reading)?;
        if metadata.mode() & 0o077 != 0 {
            let message = format!("the key file {} may be read by others than its owner", path.display());
            return Err(Error::new(ErrorKind::Refused, message)
                .with_hint(format!("run `chmod 600 {}`, and change the key if somebody read it", path.display())));
        }
        let mut text = Zeroizing::new(String::new());
        file.take(FILE_LENGTH_MAX).read_to_string(&mut text).map_err(reading)?;
        Ok(Self { path: path.to_owned(), keys: parse(path, &text)? })
    }

    fn aad(id: &KeyId, context: &[u8]) -> Vec<u8> {
        [b"molde wrap".as_slice(), &[WRAP_VERSION], id, context].concat()
    }
}

#[async_trait]
impl Kms for LocalKms {
    async fn wrap(&self, context: &[u8], secret: &[u8]) -> Result<Vec<u8>> {
        let Some(MasterKey { id, key }) = self.keys.last() else {
            return Err(Error::new(ErrorKind::Refused, format!("{} holds no key", self.path.display())));
        };
        let sealed = cipher::seal(key, &Self::aad(id, context), secret)?;
        Ok([[WRAP_VERSION].as_slice(), id, &sealed].concat())
    }

    async fn unwrap(&self, context: &[u8], wrapped: &[u8]) -> Result<Secret> {
        let Some((&version, rest)) = wrapped.split_first() else {
            return Err(Error::new(ErrorKind::Corrupt, "a wrapped secret is empty"));
        };
        if version != WRAP_VERSION {
            let message = format!("a wrapped secret has version {version}, this release knows {WRAP_VERSION}");
            return Err(Error::new(ErrorKind::Version, message));
        }
        let Some((id, sealed)) = rest.split_first_chunk::<KEY_ID_LENGTH>() else {
            return Err(Error::new(ErrorKind::Corrupt, "a wrapped secret is cut short"));
        };
        let Some(master) = self.keys.iter().find(|master| master.id == *id) else {
            let message = format!("the master key {} is not in {}", hex::encode(id), self.path.display());
            return Err(Error::new(ErrorKind::Refused, message)
                .with_hint("restore the key file that was in use when the bytes were written"));
        };
        Ok(Secret::new(cipher::open(&master.key, &Self::aad(id, context), sealed)?))
    }
}

fn is_missing(error: &Error) -> bool {
    use std::error::Error as _;
    let cause = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    cause.is_some_and(|cause| cause.kind() == io::ErrorKind::NotFound)
}

fn parse(path: &Path, text: &str) -> Result<Vec<MasterKey>> {
    let corrupt = |line: usize| {
        Error::new(ErrorKind::Corrupt, format!("line {line} of the key file {} is not understood", path.display()))
    };
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default();
    if first != FIRST_LINE {
        if first.starts_with("molde-master-keys ") {
            let message = format!("the key file {} was written by a newer release", path.display());
            return Err(Error::new(ErrorKind::Version, message));
        }
        return Err(corrupt(1));
    }
    let mut keys: Vec<MasterKey> = Vec::new();
    for (line, number) in lines.zip(2..) {
        let master = parse_key(line).ok_or_else(|| corrupt(number))?;
        if keys.iter().any(|other| other.id == master.id) {
            return Err(corrupt(number));
        }
        keys.push(master);
    }
    if keys.is_empty() { Err(corrupt(2)) } else { Ok(keys) }
}

fn parse_key(line: &str) -> Option<MasterKey> {
    let (id, key) = line.split_once(' ')?;
    let mut master = MasterKey { id: [0; KEY_ID_LENGTH], key: Zeroizing::new([0; cipher::KEY_LENGTH]) };
    hex::decode_to_slice(id, &mut master.id).ok()?;
    let bytes = Zeroizing::new(BASE64.decode(key).ok()?);
    master.key = Zeroizing::new(bytes.as_slice().try_into().ok()?);
    Some(master)
}

/// Writes a file with one new key beside `path` and links it there, unless another process was first.
fn create(path: &Path) -> Result<()> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let (mut id, key) = ([0; KEY_ID_LENGTH], Secret::random(cipher::KEY_LENGTH)?);
    cipher::random(&mut id)?;
    let encoded = Zeroizing::new(BASE64.encode(key.expose()));
    let text = Zeroizing::new(format!("{FIRST_LINE}\n{} {}\n", hex::encode(id), encoded.as_str()));
    let temporary = folder.join(format!(".master-keys-{}", hex::encode(id)));
    let written = write_and_link(&temporary, path, text.as_bytes());
    let removed = fs::remove_file(&temporary);
    written
        .and(removed)
        .and_then(|()| File::open(folder)?.sync_all())
        .map_err(|e| Error::io(format_args!("create the key file {}", path.display()), e))
}

fn write_and_link(temporary: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    match fs::hard_link(temporary, path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        linked => linked,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn two_key_file() -> String {
        let line = |id: &str, byte: u8| format!("{id} {}\n", BASE64.encode([byte; 32]));
        format!("{FIRST_LINE}\n{}{}", line("0000000000000001", 1), line("0000000000000002", 2))
    }

    fn write(path: &Path, text: &str) {
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    #[tokio::test]
    async fn wraps_and_unwraps_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master.key");
        let wrapped = LocalKms::open_or_create(&path).unwrap().wrap(b"content:1", b"a secret").await.unwrap();
        assert!(!wrapped.windows(8).any(|window| window == b"a secret"));

        let again = LocalKms::open_or_create(&path).unwrap();
        assert_eq!(again.unwrap(b"content:1", &wrapped).await.unwrap().expose(), b"a secret");
        assert_eq!(again.unwrap(b"content:2", &wrapped).await.unwrap_err().kind(), ErrorKind::Refused);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "the temporary file stayed");
    }

    #[tokio::test]
    async fn every_changed_byte_of_a_wrapped_secret_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let kms = LocalKms::open_or_create(&folder.path().join("k")).unwrap();
        let wrapped = kms.wrap(b"c", &[5; 32]).await.unwrap();
        for at in 0..wrapped.len() {
            let mut changed = wrapped.clone();
            changed[at] ^= 0x10;
            assert!(kms.unwrap(b"c", &changed).await.is_err(), "byte {at}");
            assert!(kms.unwrap(b"c", &wrapped[..at]).await.is_err(), "cut to {at}");
        }
    }

    #[test]
    fn refuses_a_file_that_others_may_read_and_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master.key");
        LocalKms::open_or_create(&path).unwrap();
        for mode in [0o640, 0o604, 0o660] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = LocalKms::open_or_create(&path).err().unwrap();
            assert_eq!(error.kind(), ErrorKind::Refused);
            assert!(error.to_string().contains("master.key"), "{error}");
            assert!(error.hint().unwrap().contains("chmod 600"));
        }
    }

    #[tokio::test]
    async fn the_last_key_wraps_and_every_key_unwraps() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master.key");
        let both = two_key_file();
        let old_only: String = both.lines().take(2).map(|line| format!("{line}\n")).collect();
        write(&path, &old_only);
        let old = LocalKms::open_or_create(&path).unwrap().wrap(b"c", b"old").await.unwrap();
        write(&path, &both);
        let rotated = LocalKms::open_or_create(&path).unwrap();
        let new = rotated.wrap(b"c", b"new").await.unwrap();
        assert_eq!((old[8], new[8]), (1, 2));
        assert_eq!(rotated.unwrap(b"c", &old).await.unwrap().expose(), b"old");

        write(&path, &old_only);
        let error = LocalKms::open_or_create(&path).unwrap().unwrap(b"c", &new).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused);
        assert!(error.to_string().contains("0000000000000002"), "{error}");
    }

    #[test]
    fn refuses_files_that_are_not_a_key_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("k");
        let both = two_key_file();
        let twice = format!("{both}{}\n", both.lines().last().unwrap());
        for (text, kind) in [
            ("", ErrorKind::Corrupt),
            ("hello\n", ErrorKind::Corrupt),
            ("molde-master-keys 1\n", ErrorKind::Corrupt),
            ("molde-master-keys 2\n", ErrorKind::Version),
            ("molde-master-keys 1\n00 AAAA\n", ErrorKind::Corrupt),
            ("molde-master-keys 1\n0000000000000001 AAAA\n", ErrorKind::Corrupt),
            (twice.as_str(), ErrorKind::Corrupt),
        ] {
            write(&path, text);
            assert_eq!(LocalKms::open_or_create(&path).err().unwrap().kind(), kind, "{text:?}");
        }
    }

    #[test]
    fn processes_that_create_at_once_share_one_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("k");
        let ids: Vec<KeyId> = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..8).map(|_| scope.spawn(|| LocalKms::open_or_create(&path).unwrap().keys[0].id)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    }
}
