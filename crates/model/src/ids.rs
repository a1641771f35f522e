//! Ids as types, so that an image's id never fits where a server's id belongs.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

/// Returned when a text is no id of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {kind} id: expected 32 hexadecimal digits, with or without dashes")]
pub struct IdError {
    kind: &'static str,
    text: String,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $new:ident, $show:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// Makes a new id.
            #[expect(clippy::new_without_default, reason = "a default id would be a lie: each is new")]
            #[must_use]
            pub fn new() -> Self {
                Self(Uuid::$new())
            }

            /// Returns the id as a UUID.
            #[must_use]
            pub fn uuid(self) -> Uuid {
                self.0
            }
        }

        impl From<Uuid> for $name {
            fn from(uuid: Uuid) -> Self {
                Self(uuid)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0.$show(), f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                // Only the two spellings that clients send: `Uuid` alone would also take braces and URNs.
                let plain = matches!(text.len(), 32 | 36);
                match Uuid::try_parse(text) {
                    Ok(uuid) if plain => Ok(Self(uuid)),
                    _ => Err(IdError { kind: $kind, text: text.chars().take(64).collect() }),
                }
            }
        }
    };
}

id!(/** Names an image; shown with dashes. */ ImageId, "an image", new_v4, hyphenated);
id!(/** Names a server; shown with dashes. */ ServerId, "a server", new_v4, hyphenated);
id!(/** Names a content of the chunk store; shown with dashes, sorts by time. */ ContentId, "a content", now_v7, hyphenated);
id!(/** Names a job; shown as 32 digits, sorts by time. */ JobId, "a job", now_v7, simple);
id!(/** Names a multipart upload; shown as 32 digits, sorts by time. */ UploadId, "an upload", now_v7, simple);
id!(/** Names an export; shown as 32 digits, sorts by time. */ ExportId, "an export", now_v7, simple);
id!(/** Names a bucket inside records; clients use its name. */ BucketId, "a bucket", new_v4, hyphenated);
id!(/** Names a project; shown as 32 digits, as OpenStack and Huawei clients expect. */ ProjectId, "a project", new_v4, simple);
id!(/** Names a user; shown as 32 digits. */ UserId, "a user", new_v4, simple);
id!(/** Names an identity domain; shown as 32 digits. */ DomainId, "a domain", new_v4, simple);
