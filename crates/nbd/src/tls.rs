//! TLS: what a server proves itself with, and a session that one thread reads and several write.

use std::fmt;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection};

/// What a server proves itself with, and whom it believes: with it, a server answers nothing outside of TLS 1.2 or 1.3.
#[derive(Clone)]
pub struct Tls(Arc<ServerConfig>);

/// Files that no TLS can be made of.
#[derive(Debug)]
pub struct TlsError {
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl TlsError {
    fn new(message: impl Into<String>, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { message: message.into(), source: Some(source.into()) }
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for TlsError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| source.as_ref() as _)
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The configuration holds the private key.
        f.write_str("Tls")
    }
}

impl Tls {
    /// Reads PEM files: the certificate with those between it and its root, and its private key. With `client_ca`,
    /// only clients with a certificate of one of its authorities are served.
    pub fn from_files(certificate: &Path, key: &Path, client_ca: Option<&Path>) -> Result<Self, TlsError> {
        let chain = certificates(certificate)?;
        let private = PrivateKeyDer::from_pem_file(key).map_err(|error| unreadable("a private key", key, error))?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError::new("cannot prepare TLS", error))?;
        let builder = match client_ca {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let failed = |error: Box<dyn std::error::Error + Send + Sync>| {
                    TlsError::new(format!("the authorities in `{}` cannot be used", path.display()), error)
                };
                let mut roots = RootCertStore::empty();
                for authority in certificates(path)? {
                    roots.add(authority).map_err(|error| failed(error.into()))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().map_err(|error| failed(error.into()))?)
            }
        };
        let config = builder.with_single_cert(chain, private).map_err(|error| {
            let (certificate, key) = (certificate.display(), key.display());
            TlsError::new(format!("the certificate `{certificate}` and the key `{key}` do not go together"), error)
        })?;
        Ok(Self(Arc::new(config)))
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |error| unreadable("certificates", path, error);
    let list = CertificateDer::pem_file_iter(path).map_err(failed)?.collect::<Result<Vec<_>, _>>().map_err(failed)?;
    if list.is_empty() {
        return Err(failed(pem::Error::NoItemsFound));
    }
    Ok(list)
}

fn unreadable(what: &str, path: &Path, error: pem::Error) -> TlsError {
    // The sentence of the library says little of a file that cannot be read.
    let why = match &error {
        pem::Error::Io(error) => error.to_string(),
        pem::Error::NoItemsFound => "there is none in PEM form".to_owned(),
        error => error.to_string(),
    };
    TlsError::new(format!("cannot read {what} from `{}`: {why}", path.display()), error)
}

/// A session with a client.
///
/// No lock on `state` is held while the socket is waited for, so a client that takes nothing does not keep the thread
/// that reads from it.
pub(crate) struct Session {
    state: Mutex<ServerConnection>,
    /// Held by whoever takes sealed bytes out of `state` until they are sent: they must leave in their order.
    sealed: Mutex<Vec<u8>>,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Session")
    }
}

impl Session {
    pub(crate) fn new(tls: &Tls) -> io::Result<Self> {
        let state = ServerConnection::new(Arc::clone(&tls.0)).map_err(io::Error::other)?;
        Ok(Self { state: Mutex::new(state), sealed: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, ServerConnection> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads bytes of the client that were opened already; `None` if more sealed ones are needed for that, and 0 if
    /// it has said that there will be no more.
    pub(crate) fn read(&self, buf: &mut [u8]) -> io::Result<Option<usize>> {
        match self.state().reader().read(buf) {
            Ok(length) => Ok(Some(length)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Opens some of the bytes in front of `sealed`, which are taken from it, after all that were opened have been
    /// read; what the session has to answer goes to `out`.
    pub(crate) fn open(&self, sealed: &mut &[u8], out: impl Write) -> io::Result<()> {
        let mut state = self.state();
        state.read_tls(sealed)?;
        let opened = state.process_new_packets();
        let answers = state.wants_write();
        drop(state);
        if answers {
            // Also after a fault, which the client is told.
            self.send(out, |_| Ok(()))?;
        }
        opened.map(drop).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }

    /// Seals and sends some of the bytes in front of `plain`; returns how many.
    pub(crate) fn write(&self, plain: &[u8], out: impl Write) -> io::Result<usize> {
        self.send(out, |state| state.writer().write(plain))
    }

    /// Tells the client that there will be no more.
    pub(crate) fn close(&self, out: impl Write) -> io::Result<()> {
        self.send(out, |state| {
            state.send_close_notify();
            Ok(())
        })
    }

    fn send<T>(&self, mut out: impl Write, put: impl FnOnce(&mut ServerConnection) -> io::Result<T>) -> io::Result<T> {
        let mut sealed = self.sealed.lock().unwrap_or_else(PoisonError::into_inner);
        sealed.clear();
        let mut state = self.state();
        let done = put(&mut state)?;
        while state.wants_write() {
            state.write_tls(&mut *sealed)?;
        }
        drop(state);
        out.write_all(&sealed)?;
        Ok(done)
    }
}
