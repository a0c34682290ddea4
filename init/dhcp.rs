//! Messages of DHCP (RFC 2131, options of RFC 2132).

pub(crate) const DISCOVER: u8 = 1;
pub(crate) const OFFER: u8 = 2;
pub(crate) const REQUEST: u8 = 3;
pub(crate) const ACK: u8 = 5;
/// The length of the messages that are sent.
pub(crate) const LENGTH: usize = 300;

const COOKIE: [u8; 4] = [99, 130, 83, 99];
const OPTIONS: usize = 240;

/// What a server says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Lease {
    pub(crate) kind: u8,
    pub(crate) address: [u8; 4],
    pub(crate) mask: [u8; 4],
    pub(crate) router: Option<[u8; 4]>,
    pub(crate) resolver: Option<[u8; 4]>,
    pub(crate) server: [u8; 4],
}

/// A message to all servers. `offer` is what a request asks for.
pub(crate) fn message(kind: u8, id: [u8; 4], hardware: [u8; 6], offer: &Lease) -> [u8; LENGTH] {
    let mut message = [0; LENGTH];
    message[..4].copy_from_slice(&[1, 1, 6, 0]);
    message[4..8].copy_from_slice(&id);
    // The answer goes to all: nobody has an address yet.
    message[10] = 0x80;
    message[28..34].copy_from_slice(&hardware);
    message[236..240].copy_from_slice(&COOKIE);
    let mut at = OPTIONS;
    let mut option = |bytes: &[u8]| {
        message[at..at + bytes.len()].copy_from_slice(bytes);
        at += bytes.len();
    };
    option(&[53, 1, kind]);
    if kind == REQUEST {
        let [a, b, c, d] = offer.address;
        option(&[50, 4, a, b, c, d]);
        let [a, b, c, d] = offer.server;
        option(&[54, 4, a, b, c, d]);
    }
    // Mask, router, resolver.
    option(&[55, 3, 1, 3, 6, 255]);
    message
}

/// What an answer to a message with this id says.
pub(crate) fn answer(bytes: &[u8], id: [u8; 4]) -> Option<Lease> {
    let four = |at: usize| <[u8; 4]>::try_from(bytes.get(at..at + 4)?).ok();
    if bytes.first() != Some(&2) || four(4)? != id || four(236)? != COOKIE {
        return None;
    }
    let mut lease = Lease {
        address: four(16)?,
        mask: [255, 255, 255, 0],
        ..Lease::default()
    };
    let mut at = OPTIONS;
    while let Some(&code) = bytes.get(at) {
        match code {
            0 => at += 1,
            255 => break,
            _ => {
                let length = usize::from(*bytes.get(at + 1)?);
                match (code, length) {
                    (53, 1..) => lease.kind = *bytes.get(at + 2)?,
                    (1, 4..) => lease.mask = four(at + 2)?,
                    (3, 4..) => lease.router = four(at + 2),
                    (6, 4..) => lease.resolver = four(at + 2),
                    (54, 4..) => lease.server = four(at + 2)?,
                    _ => {}
                }
                at += 2 + length;
            }
        }
    }
    Some(lease)
}
