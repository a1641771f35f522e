//! The options of the handshake: what a client asks before the transmission, and what is answered.

use std::borrow::Cow;

use crate::exports::{Export, Refusal, Resolve};
use crate::protocol::{
    ALLOCATION, ALLOCATION_ID, BLOCK_MAX, BLOCK_MIN, BLOCK_PREFERRED, FLAG_CAN_MULTI_CONN, FLAG_HAS_FLAGS,
    FLAG_READ_ONLY, FLAG_SEND_CACHE, FLAG_SEND_DF, FLAG_SEND_FLUSH, INFO_BLOCK_SIZE, INFO_DESCRIPTION, INFO_EXPORT,
    INFO_NAME, OPT_ABORT, OPT_GO, OPT_INFO, OPT_LIST, OPT_LIST_META_CONTEXT, OPT_SET_META_CONTEXT, OPT_STARTTLS,
    OPT_STRUCTURED_REPLY, OPTION_REPLY_MAGIC, REP_ACK, REP_ERR_INVALID, REP_ERR_POLICY, REP_ERR_TLS_REQD,
    REP_ERR_UNKNOWN, REP_ERR_UNSUP, REP_INFO, REP_META_CONTEXT, REP_SERVER, STRING_MAX,
};

/// What was agreed on so far.
pub(crate) struct Haggling<'a> {
    exports: &'a dyn Resolve,
    security: Security,
    /// The export that was found last: a client names the same one in several options.
    found: Option<(String, Export)>,
    structured: bool,
    /// The export for which the client has chosen `base:allocation`.
    allocation: Option<String>,
}

/// How a connection stands with TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Security {
    /// There is none.
    Plain,
    /// It must come before anything else.
    Wanted,
    /// The client speaks through it.
    Tls,
}

/// What follows an option.
pub(crate) enum Next {
    /// Another option.
    Option,
    /// TLS, and then another option.
    Tls,
    /// The end of the connection.
    Close,
    /// The transmission.
    Transmission(Agreed),
}

/// How an export is transmitted.
pub(crate) struct Agreed {
    pub(crate) export: Export,
    pub(crate) structured: bool,
    /// Whether block status may be asked for.
    pub(crate) allocation: bool,
}

impl Agreed {
    /// Returns the transmission flags.
    pub(crate) fn flags(&self) -> u16 {
        let fragments = if self.structured { FLAG_SEND_DF } else { 0 };
        FLAG_HAS_FLAGS | FLAG_READ_ONLY | FLAG_SEND_FLUSH | FLAG_CAN_MULTI_CONN | FLAG_SEND_CACHE | fragments
    }
}

/// An option that is refused: the kind of reply and a sentence.
type Refused = (u32, Cow<'static, str>);

const INVALID: Refused = refused(REP_ERR_INVALID, "the data of this option are not of the form that it has");
const UNKNOWN: Refused = refused(REP_ERR_UNKNOWN, "no export has this name");

const fn refused(error: u32, sentence: &'static str) -> Refused {
    (error, Cow::Borrowed(sentence))
}

impl<'a> Haggling<'a> {
    pub(crate) fn new(exports: &'a dyn Resolve, security: Security) -> Self {
        Self { exports, security, found: None, structured: false, allocation: None }
    }

    /// Returns what is agreed on for the export called `name`.
    pub(crate) fn agree(&mut self, name: &[u8]) -> Result<Agreed, Refused> {
        if self.security == Security::Wanted {
            return Err(refused(REP_ERR_TLS_REQD, "this server is used through TLS only"));
        }
        let export = self.find(name)?;
        let allocation = self.structured && self.allocation.as_ref() == Some(&export.name);
        Ok(Agreed { export, structured: self.structured, allocation })
    }

    fn find(&mut self, name: &[u8]) -> Result<Export, Refused> {
        // Nothing else is a string of the protocol, so nothing else is a name.
        let name = std::str::from_utf8(name).ok().filter(|name| name.len() <= STRING_MAX).ok_or(UNKNOWN)?;
        if let Some((_, export)) = self.found.as_ref().filter(|(found, _)| found == name) {
            return Ok(export.clone());
        }
        let export = self.exports.find(name).map_err(|refusal| match refusal {
            Refusal::Unknown => UNKNOWN,
            Refusal::Denied(sentence) => {
                (REP_ERR_POLICY, Cow::Owned(sentence[..sentence.floor_char_boundary(STRING_MAX)].to_owned()))
            }
        })?;
        self.found = Some((name.to_owned(), export.clone()));
        Ok(export)
    }

    /// Answers `option` with `data`; the replies are appended to `replies`.
    pub(crate) fn answer(&mut self, option: u32, data: &[u8], replies: &mut Vec<u8>) -> Next {
        let start = replies.len();
        match self.try_answer(option, data, replies) {
            Ok(next) => next,
            Err((error, sentence)) => {
                replies.truncate(start);
                reply(replies, option, error, &[sentence.as_bytes()]);
                Next::Option
            }
        }
    }

    fn try_answer(&mut self, option: u32, data: &[u8], replies: &mut Vec<u8>) -> Result<Next, Refused> {
        let mut next = Next::Option;
        match option {
            OPT_ABORT => next = Next::Close,
            OPT_STARTTLS => {
                self.may_start_tls(data)?;
                next = Next::Tls;
            }
            _ if self.security == Security::Wanted => {
                return Err(refused(REP_ERR_TLS_REQD, "this server is used through TLS only"));
            }
            OPT_LIST => self.list(data, replies)?,
            OPT_STRUCTURED_REPLY if data.is_empty() => self.structured = true,
            OPT_STRUCTURED_REPLY => return Err(INVALID),
            OPT_INFO | OPT_GO => {
                let agreed = self.info(option, data, replies)?;
                if option == OPT_GO {
                    next = Next::Transmission(agreed);
                }
            }
            OPT_LIST_META_CONTEXT | OPT_SET_META_CONTEXT => self.contexts(option, data, replies)?,
            _ => return Err(refused(REP_ERR_UNSUP, "this server does not know the option")),
        }
        reply(replies, option, REP_ACK, &[]);
        Ok(next)
    }

    fn may_start_tls(&self, data: &[u8]) -> Result<(), Refused> {
        match self.security {
            _ if !data.is_empty() => Err(INVALID),
            Security::Wanted => Ok(()),
            Security::Plain => Err(refused(REP_ERR_UNSUP, "this server has no TLS")),
            Security::Tls => Err(refused(REP_ERR_INVALID, "the connection has TLS already")),
        }
    }

    fn list(&self, data: &[u8], replies: &mut Vec<u8>) -> Result<(), Refused> {
        if !data.is_empty() {
            return Err(INVALID);
        }
        for (name, description) in self.exports.list() {
            let name = name.as_bytes();
            reply(replies, OPT_LIST, REP_SERVER, &[&be32(name.len()), name, description.as_bytes()]);
        }
        Ok(())
    }

    fn info(&mut self, option: u32, data: &[u8], replies: &mut Vec<u8>) -> Result<Agreed, Refused> {
        let mut fields = Fields(data);
        let name = fields.string()?;
        let count = fields.u16()?;
        let wanted = (0..count).map(|_| fields.u16()).collect::<Result<Vec<_>, _>>()?;
        fields.end()?;
        let agreed = self.agree(name)?;
        let mut info = |kind: u16, parts: [&[u8]; 3]| {
            reply(replies, option, REP_INFO, &[&kind.to_be_bytes(), parts[0], parts[1], parts[2]]);
        };
        let export = &agreed.export;
        info(INFO_EXPORT, [&export.disk.len().to_be_bytes(), &agreed.flags().to_be_bytes(), &[]]);
        info(INFO_BLOCK_SIZE, [&BLOCK_MIN.to_be_bytes(), &BLOCK_PREFERRED.to_be_bytes(), &BLOCK_MAX.to_be_bytes()]);
        if wanted.contains(&INFO_NAME) {
            info(INFO_NAME, [export.name.as_bytes(), &[], &[]]);
        }
        if wanted.contains(&INFO_DESCRIPTION) && !export.description.is_empty() {
            info(INFO_DESCRIPTION, [export.description.as_bytes(), &[], &[]]);
        }
        Ok(agreed)
    }

    /// Lists or chooses contexts of block status, of which there is one.
    fn contexts(&mut self, option: u32, data: &[u8], replies: &mut Vec<u8>) -> Result<(), Refused> {
        let choosing = option == OPT_SET_META_CONTEXT;
        if choosing {
            // Also when it fails, what was chosen before is no more.
            self.allocation = None;
        }
        if !self.structured {
            return Err(refused(REP_ERR_INVALID, "structured replies must be agreed on before contexts"));
        }
        let mut fields = Fields(data);
        let name = fields.string()?;
        let count = fields.u32()?;
        let mut matches = count == 0 && !choosing;
        for _ in 0..count {
            let query = fields.string()?;
            matches |= query == ALLOCATION.as_bytes() || (query == b"base:" && !choosing);
        }
        fields.end()?;
        let export = self.find(name)?;
        if matches {
            let id = if choosing { ALLOCATION_ID } else { 0 };
            reply(replies, option, REP_META_CONTEXT, &[&id.to_be_bytes(), ALLOCATION.as_bytes()]);
        }
        if matches && choosing {
            self.allocation = Some(export.name);
        }
        Ok(())
    }
}

/// Appends a reply to `option` whose data are `parts`, one after the other; they are at most some kilobytes.
fn reply(replies: &mut Vec<u8>, option: u32, kind: u32, parts: &[&[u8]]) {
    replies.extend(OPTION_REPLY_MAGIC.to_be_bytes());
    replies.extend(option.to_be_bytes());
    replies.extend(kind.to_be_bytes());
    replies.extend(be32(parts.iter().map(|part| part.len()).sum()));
    parts.iter().for_each(|part| replies.extend(*part));
}

fn be32(length: usize) -> [u8; 4] {
    (length as u32).to_be_bytes()
}

/// The data of an option that were not looked at yet.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn bytes(&mut self, length: usize) -> Result<&'a [u8], Refused> {
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(INVALID)?;
        self.0 = rest;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Refused> {
        self.bytes(N)?.try_into().map_err(|_| INVALID)
    }

    fn u16(&mut self) -> Result<u16, Refused> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    fn u32(&mut self) -> Result<u32, Refused> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    fn string(&mut self) -> Result<&'a [u8], Refused> {
        let length = self.u32()?;
        self.bytes(usize::try_from(length).map_err(|_| INVALID)?)
    }

    fn end(&self) -> Result<(), Refused> {
        if self.0.is_empty() { Ok(()) } else { Err(INVALID) }
    }
}
