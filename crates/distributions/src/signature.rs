//! OpenPGP (RFC 9580): which text was signed by a pinned key, and when.
//!
//! What is pinned is the fingerprint of a primary key; a signature counts if that key made it, or a subkey that it bound for
//! signing, and if neither has expired or was revoked. Everything else about a key is taken from its own signatures: no web of
//! trust, no keyserver. MD5, SHA-1 and the like are refused, except for the self-signatures that can only take away.

#[cfg(test)]
mod tests;

use jiff::Timestamp;
use pgp::composed::{CleartextSignedMessage, Deserializable, DetachedSignature, SignedPublicKey, SignedPublicSubKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::crypto::public_key::PublicKeyAlgorithm;
use pgp::packet::{Signature, SignatureType, SubpacketData};
use pgp::types::{KeyDetails, Tag};

use crate::error::{Error, Result};

/// More signatures on one text are not verified: each costs time.
const SIGNATURES_MAX: usize = 16;
/// How far a clock of a signer may be ahead of ours.
const AHEAD_MAX: i64 = 24 * 60 * 60;

/// A key whose signatures count.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    fingerprint: String,
    public: SignedPublicKey,
}

/// Who signed a text, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Signed {
    /// The fingerprint of the primary key.
    pub(crate) by: String,
    pub(crate) at: Timestamp,
}

/// Why a signature does not count; what comes later tells a person more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Doubt {
    Unsigned,
    OtherKey,
    Wrong,
    Weak,
    Future,
    Expired,
    KeyExpired,
    KeyRevoked,
}

impl Key {
    /// Reads an armored key, which must have the fingerprint that was pinned; others in the same file do not count.
    pub(crate) fn read(fingerprint: &str, armored: &str) -> Result<Self> {
        let pinned = fingerprint.replace(' ', "").to_ascii_uppercase();
        let unreadable = |error| Error::new(format!("the key `{pinned}` cannot be read")).caused_by(error);
        let (keys, _) = SignedPublicKey::from_string_many(armored).map_err(unreadable)?;
        for public in keys.take(SIGNATURES_MAX) {
            let public = public.map_err(unreadable)?;
            if fingerprint_of(&public.primary_key) == pinned {
                return Ok(Self { fingerprint: pinned, public });
            }
        }
        Err(Error::new(format!("the key file does not hold the key `{pinned}`")))
    }

    /// Returns why a signature over `text` by this key does not count, or when it was made.
    fn check(&self, signature: &Signature, text: &[u8], now: Timestamp) -> Result<Timestamp, Doubt> {
        let by_primary = signature.verify(&self.public.primary_key, text).is_ok();
        let subkey = (!by_primary)
            .then(|| self.public.public_subkeys.iter().find(|subkey| signature.verify(&subkey.key, text).is_ok()));
        let subkey = match subkey {
            None => None,
            Some(Some(subkey)) => Some(subkey),
            Some(None) if !self.names(signature) => return Err(Doubt::OtherKey),
            // Those are not even computed.
            Some(None) if !is_strong(signature) => return Err(Doubt::Weak),
            Some(None) => return Err(Doubt::Wrong),
        };
        self.check_primary(now, by_primary)?;
        if let Some(subkey) = subkey {
            self.check_subkey(subkey, now)?;
        }
        check_made(signature, now)
    }

    /// Whether a signature says that this key, or a subkey of it, made it.
    fn names(&self, signature: &Signature) -> bool {
        let ids = signature.issuer_key_id();
        let own = |key: &dyn KeyDetails| {
            ids.iter().any(|id| **id == key.legacy_key_id())
                || signature.issuer_fingerprint().iter().any(|named| **named == key.fingerprint())
        };
        own(&self.public.primary_key) || self.public.public_subkeys.iter().any(|subkey| own(&subkey.key))
    }

    /// Checks that the primary key is neither expired nor revoked and, where it signs itself, that it may.
    fn check_primary(&self, now: Timestamp, signs: bool) -> Result<(), Doubt> {
        let primary = &self.public.primary_key;
        let details = &self.public.details;
        if details.revocation_signatures.iter().any(|revocation| revocation.verify_key(primary).is_ok()) {
            return Err(Doubt::KeyRevoked);
        }
        let direct = details.direct_signatures.iter().filter(|own| own.verify_key(primary).is_ok());
        let users = details.users.iter().flat_map(|user| {
            let certifies = |own: &&Signature| own.verify_certification(primary, Tag::UserId, &user.id).is_ok();
            user.signatures.iter().filter(|own| own.typ() != Some(SignatureType::CertRevocation)).filter(certifies)
        });
        // The latest word of the key on itself is the one that holds (RFC 9580, 5.2.3.10).
        let latest = direct.chain(users).max_by_key(|own| own.created()).ok_or(Doubt::Wrong)?;
        if signs && !(latest.key_flags().sign() || says_nothing_of_use(latest)) {
            return Err(Doubt::Wrong);
        }
        check_life(primary, latest, now)
    }

    /// Checks that a subkey was bound for signing by the primary key, and is neither expired nor revoked.
    fn check_subkey(&self, subkey: &SignedPublicSubKey, now: Timestamp) -> Result<(), Doubt> {
        let primary = &self.public.primary_key;
        let own = || subkey.signatures.iter().filter(|own| own.verify_subkey_binding(primary, &subkey.key).is_ok());
        if own().any(|own| own.typ() == Some(SignatureType::SubkeyRevocation)) {
            return Err(Doubt::KeyRevoked);
        }
        let bindings = own().filter(|own| own.typ() == Some(SignatureType::SubkeyBinding) && is_strong(own));
        let latest = bindings.max_by_key(|own| own.created()).ok_or(Doubt::Wrong)?;
        // The subkey's own consent, without which anybody could adopt the signatures of another's key (5.2.1.9).
        let consent = latest.embedded_signature().ok_or(Doubt::Wrong)?;
        if !latest.key_flags().sign()
            || !is_strong(consent)
            || consent.verify_primary_key_binding(&subkey.key, primary).is_err()
        {
            return Err(Doubt::Wrong);
        }
        check_life(&subkey.key, latest, now)
    }
}

fn says_nothing_of_use(own: &Signature) -> bool {
    !own.config().is_some_and(|config| {
        config.hashed_subpackets().any(|subpacket| matches!(subpacket.data, SubpacketData::KeyFlags(_)))
    })
}

/// Checks that a key lives, by what its latest signature on itself says.
fn check_life(key: &impl KeyDetails, latest: &Signature, now: Timestamp) -> Result<(), Doubt> {
    let created = i64::from(key.created_at().as_secs());
    match latest.key_expiration_time().map(|life| i64::from(life.as_secs())) {
        // Zero is for ever (5.2.3.13).
        Some(life) if life > 0 && created.saturating_add(life) <= now.as_second() => Err(Doubt::KeyExpired),
        _ => Ok(()),
    }
}

/// Checks everything about a signature but the numbers: how it was made, and when.
fn check_made(signature: &Signature, now: Timestamp) -> Result<Timestamp, Doubt> {
    if !is_strong(signature) {
        return Err(Doubt::Weak);
    }
    let config = signature.config().ok_or(Doubt::Wrong)?;
    // Certifications and the like are signatures over other things than a text.
    if !matches!(config.typ(), SignatureType::Binary | SignatureType::Text) {
        return Err(Doubt::Wrong);
    }
    // What is critical and not understood makes the signature void (5.2.3.7).
    let unknown = |data: &SubpacketData| {
        matches!(data, SubpacketData::Other(..) | SubpacketData::Experimental(..) | SubpacketData::Notation(_))
    };
    if config.hashed_subpackets().any(|subpacket| subpacket.is_critical && unknown(&subpacket.data)) {
        return Err(Doubt::Wrong);
    }
    let created = i64::from(signature.created().ok_or(Doubt::Wrong)?.as_secs());
    if created > now.as_second().saturating_add(AHEAD_MAX) {
        return Err(Doubt::Future);
    }
    match signature.signature_expiration_time().map(|life| i64::from(life.as_secs())) {
        Some(life) if life > 0 && created.saturating_add(life) <= now.as_second() => Err(Doubt::Expired),
        _ => Timestamp::from_second(created).map_err(|_| Doubt::Wrong),
    }
}

/// Whether nobody can make another text of the same hash, and the kind of key is one that lists are signed with.
fn is_strong(signature: &Signature) -> bool {
    use HashAlgorithm::{Sha3_256, Sha3_512, Sha256, Sha384, Sha512};
    use PublicKeyAlgorithm::{ECDSA, Ed448, Ed25519, EdDSALegacy, RSA};
    let hash = matches!(signature.hash_alg(), Some(Sha256 | Sha384 | Sha512 | Sha3_256 | Sha3_512));
    let key =
        signature.config().is_some_and(|config| matches!(config.pub_alg, RSA | ECDSA | EdDSALegacy | Ed25519 | Ed448));
    hash && key
}

fn fingerprint_of(key: &impl KeyDetails) -> String {
    hex::encode_upper(key.fingerprint().as_bytes())
}

/// Verifies a signature that stands in a file of its own, armored or not, over `text`.
pub(crate) fn detached(text: &[u8], signature: &[u8], keys: &[Key], now: Timestamp) -> Result<Signed> {
    let unreadable = |error| Error::new("the signature is no OpenPGP signature").caused_by(error);
    let parsed = if signature.starts_with(b"-----BEGIN") {
        DetachedSignature::from_armor_many_buf(signature).map(|(parsed, _)| parsed)
    } else {
        DetachedSignature::from_bytes_many(signature)
    };
    let signatures: Vec<Signature> = parsed
        .map_err(unreadable)?
        .take(SIGNATURES_MAX)
        .map(|parsed| parsed.map(|parsed| parsed.signature))
        .collect::<Result<_, _>>()
        .map_err(unreadable)?;
    judge(&signatures, text, keys, now)
}

/// Verifies a text that holds its own signature (RFC 9580, 7), and returns what was signed; nothing else of it may be used.
pub(crate) fn clearsigned(text: &str, keys: &[Key], now: Timestamp) -> Result<(String, Signed)> {
    let (message, _) = CleartextSignedMessage::from_string(text)
        .map_err(|error| Error::new("the list is no text with an OpenPGP signature").caused_by(error))?;
    let signed = message.signed_text();
    let found = judge(message.signatures(), signed.as_bytes(), keys, now)?;
    Ok((signed, found))
}

/// One good signature by one of the keys is enough.
fn judge(signatures: &[Signature], text: &[u8], keys: &[Key], now: Timestamp) -> Result<Signed> {
    let mut doubt = Doubt::Unsigned;
    for signature in signatures.iter().take(SIGNATURES_MAX) {
        for key in keys {
            match key.check(signature, text, now) {
                Ok(at) => return Ok(Signed { by: key.fingerprint.clone(), at }),
                Err(why) => doubt = doubt.max(why),
            }
        }
    }
    let why = match doubt {
        Doubt::Unsigned => "there is no signature",
        Doubt::OtherKey => "it was signed by another key",
        Doubt::Wrong => "the signature is not one over this text",
        Doubt::Weak => "the signature was made with a weak hash or a kind of key that is not used any more",
        Doubt::Future => "the signature is dated in the future",
        Doubt::Expired => "the signature has expired",
        Doubt::KeyExpired => "the key has expired",
        Doubt::KeyRevoked => "the key was revoked",
    };
    let pinned = keys.iter().map(|key| key.fingerprint.as_str()).collect::<Vec<_>>().join(", ");
    Err(Error::new(format!("the list cannot be believed: {why}"))
        .with_hint(format!("it must be signed by {pinned}; a new key has to be pinned in the definitions first")))
}
