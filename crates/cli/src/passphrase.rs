//! Passphrases, which come from files so that neither the history of a shell nor a list of processes shows them.

use std::fs;
use std::io;
use std::path::Path;

use zeroize::Zeroizing;

use crate::error::{Failure, Result};

/// A passphrase longer than this is another file given by mistake.
const MAX_LENGTH: u64 = 64 << 10;

/// Reads a passphrase from a file; a line break at its end is left out.
pub(crate) fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>> {
    let failed =
        |error: io::Error| Failure::new(format!("cannot read the passphrase in `{}`: {error}", path.display()));
    if fs::metadata(path).map_err(failed)?.len() > MAX_LENGTH {
        return Err(Failure::new(format!("`{}` is too large for a passphrase", path.display())));
    }
    let mut bytes = Zeroizing::new(fs::read(path).map_err(failed)?);
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
    }
    if bytes.is_empty() {
        return Err(Failure::new(format!("`{}` holds no passphrase", path.display())));
    }
    Ok(bytes)
}

/// Reads a passphrase from a file as it goes to the server, which takes texts only.
pub(crate) fn read_text(path: Option<&Path>) -> Result<Option<Zeroizing<String>>> {
    let Some(path) = path else { return Ok(None) };
    let bytes = read(path)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| {
        Failure::new(format!("the passphrase in `{}` is no text in UTF-8", path.display()))
            .with_hint("convert the disk here with `molde disk convert`, which takes any bytes")
    })?;
    Ok(Some(Zeroizing::new(text.to_owned())))
}
