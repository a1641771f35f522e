//! The fixed newstyle handshake: a greeting, options until one of them begins the transmission.

use std::io::{self, BufReader, Read, Write};

use crate::exports::Resolve;
use crate::options::{Agreed, Haggling, Next, Security};
use crate::protocol::{FLAG_FIXED_NEWSTYLE, FLAG_NO_ZEROES, INIT_MAGIC, OPT_EXPORT_NAME, OPTION_MAGIC};
use crate::stream::{Incoming, Stream};
use crate::tls::Tls;

/// The data of an option have at most this many bytes; a name and a few queries are some hundreds.
const OPTION_MAX: usize = 64 << 10;
/// A client needs half a dozen options.
const OPTIONS_MAX: usize = 256;
/// What follows the answer to the oldest option unless the client says that it does not want it.
const ZEROES: [u8; 124] = [0; 124];

/// Agrees with a client on what is transmitted; `None` if the client ended it.
///
/// An error means that the connection cannot go on. It is not told to the client where the protocol has no way to.
pub(crate) fn handshake(
    reader: &mut BufReader<Incoming<'_>>,
    stream: &Stream,
    exports: &dyn Resolve,
    tls: Option<&Tls>,
) -> io::Result<Option<Agreed>> {
    let mut writer = stream;
    let flags = FLAG_FIXED_NEWSTYLE | FLAG_NO_ZEROES;
    writer.write_all(&[&INIT_MAGIC.to_be_bytes()[..], &OPTION_MAGIC.to_be_bytes(), &flags.to_be_bytes()].concat())?;
    let client_flags = u32::from_be_bytes(array(reader)?);
    if client_flags & !u32::from(flags) != 0 {
        return Err(broken("the client sets handshake flags that nobody offered"));
    }
    let security = if tls.is_some() { Security::Wanted } else { Security::Plain };
    let mut haggling = Haggling::new(exports, security);
    for _ in 0..OPTIONS_MAX {
        if u64::from_be_bytes(array(reader)?) != OPTION_MAGIC {
            return Err(broken("an option does not begin with its magic number"));
        }
        let option = u32::from_be_bytes(array(reader)?);
        let length = u32::from_be_bytes(array(reader)?) as usize;
        if length > OPTION_MAX {
            return Err(broken("the data of an option are too long"));
        }
        let mut data = vec![0; length];
        reader.read_exact(&mut data)?;
        if option == OPT_EXPORT_NAME {
            let agreed =
                haggling.agree(&data).map_err(|_| broken("the client asks for an export that it does not get"))?;
            let zeroes = if client_flags & u32::from(FLAG_NO_ZEROES) == 0 { &ZEROES[..] } else { &[] };
            let size = agreed.export.disk.len().to_be_bytes();
            writer.write_all(&[&size[..], &agreed.flags().to_be_bytes(), zeroes].concat())?;
            return Ok(Some(agreed));
        }
        let mut replies = Vec::new();
        let next = haggling.answer(option, &data, &mut replies);
        writer.write_all(&replies)?;
        match next {
            Next::Option => {}
            Next::Tls => {
                // What was sent too early came outside of TLS and must not count as if it came through it.
                if !reader.buffer().is_empty() {
                    return Err(broken("the client does not wait for the beginning of TLS"));
                }
                tls.map_or(Ok(()), |tls| stream.start_tls(tls))?;
                // What was agreed on before counts no more.
                haggling = Haggling::new(exports, Security::Tls);
            }
            Next::Close => return Ok(None),
            Next::Transmission(agreed) => return Ok(Some(agreed)),
        }
    }
    Err(broken("the client sends options without end"))
}

fn array<const N: usize>(reader: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    reader.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn broken(sentence: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, sentence)
}
