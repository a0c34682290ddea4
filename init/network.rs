//! Addresses of the network cards, by DHCP.

use crate::dhcp::{self, Lease};
use crate::group::Card;
use crate::say;
use crate::sys::sys;

const AF_INET: usize = 2;
const DATAGRAM: usize = 2;
const BROADCAST: [u8; 4] = [255; 4];
/// How often a server is asked, and how long it is waited for, in milliseconds.
const TRIES: u32 = 5;
const PATIENCE: i64 = 1000;

/// ioctl(2) on interfaces: netdevice(7).
const SIOCADDRT: usize = 0x890b;
const SIOCGIFNAME: usize = 0x8910;
const SIOCGIFFLAGS: usize = 0x8913;
const SIOCSIFFLAGS: usize = 0x8914;
const SIOCSIFADDR: usize = 0x8916;
const SIOCSIFNETMASK: usize = 0x891c;
const SIOCGIFHWADDR: usize = 0x8927;
const UP: u8 = 1;
const ETHERNET: u8 = 1;

/// `struct ifreq`: a name, and 24 bytes that the request has a meaning for.
#[repr(C, align(8))]
struct Interface {
    name: [u8; 16],
    value: [u8; 24],
}

#[repr(C, align(8))]
struct Route([u8; 120]);

impl Interface {
    fn address(&mut self, address: [u8; 4]) -> &mut Self {
        self.value = [0; 24];
        self.value[0] = AF_INET as u8;
        self.value[4..8].copy_from_slice(&address);
        self
    }
}

/// `struct sockaddr_in`.
fn place(address: [u8; 4], port: u16) -> [u8; 16] {
    let mut place = [0; 16];
    place[0] = AF_INET as u8;
    place[2..4].copy_from_slice(&port.to_be_bytes());
    place[4..8].copy_from_slice(&address);
    place
}

/// Whether somebody in this machine listens on a TCP port.
pub fn listens(port: u16) -> bool {
    let socket = sys!(SOCKET, AF_INET, 1 | 0o2000000, 0);
    let place = place([127, 0, 0, 1], port);
    let connected = sys!(CONNECT, socket, &raw const place, 16) == 0;
    sys!(CLOSE, socket);
    connected
}

/// Sets up all network cards; tells whether there is one. One of a private network has its address
/// already.
pub fn set_up(private: Option<Card>) -> bool {
    let socket = sys!(SOCKET, AF_INET, DATAGRAM | 0o2000000, 0);
    let mut found = false;
    for index in 1..32u32 {
        let mut card = Interface {
            name: [0; 16],
            value: [0; 24],
        };
        card.value[..4].copy_from_slice(&index.to_ne_bytes());
        if sys!(IOCTL, socket, SIOCGIFNAME, &raw mut card) < 0 {
            continue;
        }
        sys!(IOCTL, socket, SIOCGIFFLAGS, &raw mut card);
        card.value[0] |= UP;
        sys!(IOCTL, socket, SIOCSIFFLAGS, &raw mut card);
        if card.name.starts_with(b"lo\0") {
            sys!(
                IOCTL,
                socket,
                SIOCSIFADDR,
                &raw mut *card.address([127, 0, 0, 1])
            );
            continue;
        }
        let got = sys!(IOCTL, socket, SIOCGIFHWADDR, &raw mut card);
        if got < 0 || card.value[0] != ETHERNET {
            continue;
        }
        found = true;
        let mut hardware = [0; 6];
        hardware.copy_from_slice(&card.value[2..8]);
        let known = private.filter(|private| private.hardware == hardware);
        let known = known.map(|private| Lease {
            address: private.address,
            mask: [255, 255, 0, 0],
            ..Lease::default()
        });
        match known.or_else(|| lease(&card.name, hardware)) {
            Some(lease) => configure(socket, &mut card, &lease),
            None => say(&[b"no answer by DHCP on ", &card.name]),
        }
    }
    sys!(CLOSE, socket);
    found
}

fn configure(socket: isize, card: &mut Interface, lease: &Lease) {
    sys!(
        IOCTL,
        socket,
        SIOCSIFADDR,
        &raw mut *card.address(lease.address)
    );
    sys!(
        IOCTL,
        socket,
        SIOCSIFNETMASK,
        &raw mut *card.address(lease.mask)
    );
    if let Some(router) = lease.router {
        // `struct rtentry`: padding, destination, gateway, mask, flags (up, by a gateway).
        let mut route = Route([0; 120]);
        for (at, address) in [(8, [0; 4]), (24, router), (40, [0; 4])] {
            route.0[at..at + 16].copy_from_slice(&place(address, 0));
        }
        route.0[56] = 3;
        sys!(IOCTL, socket, SIOCADDRT, &raw mut route);
    }
    if let Some(resolver) = lease.resolver {
        let mut text = [0; 32];
        let length = dotted(resolver, &mut text);
        crate::write_file(
            b"/etc/resolv.conf\0",
            &[b"nameserver ", &text[..length], b"\n"],
        );
    }
    let mut text = [0; 32];
    let length = dotted(lease.address, &mut text);
    say(&[&card.name, b" has the address ", &text[..length]]);
}

/// An address as people write it.
fn dotted(address: [u8; 4], text: &mut [u8; 32]) -> usize {
    let mut length = 0;
    for (index, number) in address.iter().enumerate() {
        if index > 0 {
            text[length] = b'.';
            length += 1;
        }
        for (least, digit) in [
            (100, number / 100),
            (10, number / 10 % 10),
            (0, number % 10),
        ] {
            if *number >= least {
                text[length] = b'0' + digit;
                length += 1;
            }
        }
    }
    length
}

/// Asks for an address on one card.
fn lease(name: &[u8; 16], hardware: [u8; 6]) -> Option<Lease> {
    const SOL_SOCKET: usize = 1;
    const SO_BROADCAST: usize = 6;
    const SO_BINDTODEVICE: usize = 25;
    let socket = sys!(SOCKET, AF_INET, DATAGRAM | 0o2000000, 0);
    let yes = 1u32;
    sys!(
        SETSOCKOPT,
        socket,
        SOL_SOCKET,
        SO_BROADCAST,
        &raw const yes,
        4
    );
    sys!(
        SETSOCKOPT,
        socket,
        SOL_SOCKET,
        SO_BINDTODEVICE,
        name.as_ptr(),
        16
    );
    let here = place([0; 4], 68);
    sys!(BIND, socket, &raw const here, 16);
    let id = (crate::now() as u32 ^ u32::from(hardware[5])).to_be_bytes();
    let mut offer = Lease::default();
    let mut found = None;
    for _ in 0..TRIES {
        if ask(socket, dhcp::DISCOVER, id, hardware, &mut offer) == Some(dhcp::OFFER)
            && ask(socket, dhcp::REQUEST, id, hardware, &mut offer) == Some(dhcp::ACK)
        {
            found = Some(offer);
            break;
        }
    }
    sys!(CLOSE, socket);
    found
}

/// Sends a message and waits for its answer; tells of which kind that is.
fn ask(socket: isize, kind: u8, id: [u8; 4], hardware: [u8; 6], lease: &mut Lease) -> Option<u8> {
    let message = dhcp::message(kind, id, hardware, lease);
    let to = place(BROADCAST, 67);
    sys!(
        SENDTO,
        socket,
        &raw const message,
        dhcp::LENGTH,
        0,
        &raw const to,
        16
    );
    let end = crate::now() + PATIENCE;
    loop {
        let left = end - crate::now();
        if left <= 0 || !crate::wait(&[socket], left)[0] {
            return None;
        }
        let mut bytes = [0; 1500];
        let count = sys!(READ, socket, &raw mut bytes, 1500);
        let count = usize::try_from(count).ok()?;
        if let Some(answer) = dhcp::answer(&bytes[..count], id) {
            *lease = answer;
            return Some(answer.kind);
        }
    }
}
