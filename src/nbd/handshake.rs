//! What client and server agree on before the first request.

use std::io::{self, Read, Write};

/// The only disk has this name, and the empty one.
pub const EXPORT: &str = "disk";

const SERVER_MAGIC: &[u8; 8] = b"NBDMAGIC";
const OPTION_MAGIC: &[u8; 8] = b"IHAVEOPT";
const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;

/// Flags of both sides: options are answered, and no zeros follow what `EXPORT_NAME` says.
const FIXED_NEWSTYLE: u16 = 1;
const NO_ZEROES: u16 = 2;

/// What is true of the disk: flags are sent, it is read-only, flushing is allowed, and several
/// connections see the same.
const TRANSMISSION: u16 = 1 | 1 << 1 | 1 << 2 | 1 << 8;

/// Options of clients.
const EXPORT_NAME: u32 = 1;
const ABORT: u32 = 2;
const LIST: u32 = 3;
const INFO: u32 = 6;
const GO: u32 = 7;

/// Replies to them.
const ACK: u32 = 1;
const SERVER: u32 = 2;
const INFORMATION: u32 = 3;
const ERROR: u32 = 1 << 31;
const UNSUPPORTED: u32 = ERROR + 1;
const INVALID: u32 = ERROR + 3;
const UNKNOWN: u32 = ERROR + 6;

/// Information about the disk: size and flags.
const INFO_EXPORT: u16 = 0;
/// The longest data of an option, in bytes: a name may have 4096.
const LONGEST: u32 = 8 << 10;
/// Options of one client.
const MOST: usize = 64;

/// Agrees with a client; tells whether it wants to read now.
pub(super) fn shake_hands(
    from: &mut impl Read,
    to: &mut impl Write,
    size: u64,
) -> io::Result<bool> {
    let hello = [
        &SERVER_MAGIC[..],
        OPTION_MAGIC,
        &(FIXED_NEWSTYLE | NO_ZEROES).to_be_bytes(),
    ];
    to.write_all(&hello.concat())?;
    let flags = u32::from_be_bytes(array(from)?);
    if flags & u32::from(FIXED_NEWSTYLE) == 0 {
        return Err(wrong("the client does not know the fixed newstyle of NBD"));
    }
    let facts = [&size.to_be_bytes()[..], &TRANSMISSION.to_be_bytes()].concat();
    for _ in 0..MOST {
        if array(from)? != *OPTION_MAGIC {
            return Err(wrong("the client sent something that is no option of NBD"));
        }
        let option = u32::from_be_bytes(array(from)?);
        let length = u32::from_be_bytes(array(from)?);
        if length > LONGEST {
            return Err(wrong("an option of the client is too long"));
        }
        let mut data = vec![0; length as usize];
        from.read_exact(&mut data)?;
        let mut reply = |kind: u32, data: &[u8]| answer(to, option, kind, data);
        match option {
            EXPORT_NAME if is_ours(&data) => {
                let zeros: &[u8] = match flags & u32::from(NO_ZEROES) {
                    0 => &[0; 124],
                    _ => &[],
                };
                to.write_all(&[&facts, zeros].concat())?;
                return Ok(true);
            }
            // The protocol has no other answer.
            EXPORT_NAME => return Ok(false),
            ABORT => {
                reply(ACK, &[])?;
                return Ok(false);
            }
            LIST => {
                let length = (EXPORT.len() as u32).to_be_bytes();
                reply(SERVER, &[&length, EXPORT.as_bytes()].concat())?;
                reply(ACK, &[])?;
            }
            INFO | GO => match name(&data) {
                None => reply(INVALID, &[])?,
                Some(name) if !is_ours(name) => reply(UNKNOWN, &[])?,
                Some(_) => {
                    reply(
                        INFORMATION,
                        &[&INFO_EXPORT.to_be_bytes()[..], &facts].concat(),
                    )?;
                    reply(ACK, &[])?;
                    if option == GO {
                        return Ok(true);
                    }
                }
            },
            _ => reply(UNSUPPORTED, &[])?,
        }
    }
    Err(wrong("the client has too many options"))
}

fn is_ours(name: &[u8]) -> bool {
    name.is_empty() || name == EXPORT.as_bytes()
}

/// The name in the data of `INFO` and `GO`.
fn name(data: &[u8]) -> Option<&[u8]> {
    let (length, rest) = data.split_first_chunk()?;
    rest.get(..u32::from_be_bytes(*length) as usize)
}

fn answer(to: &mut impl Write, option: u32, kind: u32, data: &[u8]) -> io::Result<()> {
    let length = data.len() as u32;
    let reply = [
        &OPTION_REPLY_MAGIC.to_be_bytes()[..],
        &option.to_be_bytes(),
        &kind.to_be_bytes(),
        &length.to_be_bytes(),
        data,
    ];
    to.write_all(&reply.concat())
}

fn array<const N: usize>(from: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn wrong(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
