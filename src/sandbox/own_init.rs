//! The process of a container image under the init of vmfab's own: what that reads is written as
//! the module `config` of `init/` reads it.

use std::fmt::Write as _;
use std::time::Duration;

use super::accounts::{self, Account};
use super::edit::Edit;
use super::root::Root;
use super::tasks::Tasks;
use super::worker::WorkerError;
use crate::image::{ContainerConfig, Healthcheck, Protocol, Signal};

// What the init does without the kernel, for tests.
#[cfg(test)]
#[path = "../../init/config.rs"]
mod config;
#[cfg(test)]
#[path = "../../init/dhcp.rs"]
mod dhcp;
#[cfg(test)]
#[path = "../../init/group.rs"]
mod group;
#[cfg(test)]
#[path = "../../init/table.rs"]
mod table;

/// Where the init looks for it.
const CONFIG: &str = "/usr/lib/vmfab/init.conf";
/// The most words and variables that the init has room for, of each kind.
const MOST_WORDS: usize = 4000;
/// The most bytes that it reads.
const MOST_BYTES: usize = (1 << 20) - 1;
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

impl Tasks<'_> {
    /// Writes what the init of vmfab's own runs.
    pub(super) fn own_service(&self, config: &ContainerConfig) -> Result<(), WorkerError> {
        let root = Root::new(self.tree).map_err(WorkerError::io("open the tree"))?;
        let files = root
            .text("/etc/passwd")
            .and_then(|passwd| Ok((passwd, root.text("/etc/group")?)));
        let (passwd, group) = files.map_err(WorkerError::io("read the users of the image"))?;
        let user = config.user.as_deref().unwrap_or_default();
        let account = accounts::account(user, &passwd, &group).map_err(|message| {
            WorkerError::Unsatisfiable {
                message,
                help: "make the account with a step of the image, or give the numeric id"
                    .to_owned(),
            }
        })?;
        let text = text(config, &account);
        let words = [config.command().len(), config.env.len()];
        if text.len() > MOST_BYTES || words.iter().any(|count| *count > MOST_WORDS) {
            return Err(WorkerError::Unsatisfiable {
                message: "the command line or the variables of the image are too large for the \
                          init of vmfab's own"
                    .to_owned(),
                help: "put them into a file of the image".to_owned(),
            });
        }
        let directories = config.volumes.iter().chain(&config.workdir);
        let directories = directories.filter(|path| path.starts_with('/'));
        let mut edits: Vec<Edit> = directories
            .map(|path| Edit::Directory {
                path: path.clone(),
                owner: None,
            })
            .collect();
        edits.push(Edit::Write {
            path: CONFIG.to_owned(),
            content: text,
            mode: 0o644,
            owner: None,
            time: None,
        });
        self.edit(&edits)
    }
}

fn text(config: &ContainerConfig, account: &Account) -> String {
    let mut text = String::new();
    let mut add = |letter: char, value: &dyn std::fmt::Display| {
        let _ = write!(text, "{letter}{value}\0");
    };
    for word in config.command() {
        add('a', &word);
    }
    for (name, value) in [("PATH", PATH), ("HOME", &account.home)] {
        if config.env(name).is_none() {
            add('e', &format!("{name}={value}"));
        }
    }
    for (name, value) in &config.env {
        add('e', &format!("{name}={value}"));
    }
    let workdir = config.workdir.as_deref().unwrap_or("/");
    add('w', &format!("/{}", workdir.trim_start_matches('/')));
    add('u', &account.identity.uid);
    add('g', &account.identity.gid);
    for group in &account.identity.groups {
        add('s', group);
    }
    let signal = config.stop_signal.as_deref().map(str::parse::<Signal>);
    let signal = signal.and_then(Result::ok).unwrap_or(Signal::TERM);
    add('k', &signal.number());
    let exposed = config.exposed.iter();
    for port in exposed.filter(|port| port.protocol == Protocol::Tcp) {
        add('l', &port.port);
    }
    let check = config.healthcheck.as_ref();
    let command = check.and_then(|check| Some((check, check.command(&config.shell())?)));
    if let Some((check, command)) = command {
        for word in command {
            add('h', &word);
        }
        let milliseconds =
            |time: Option<Duration>, usual: Duration| time.unwrap_or(usual).as_millis().max(1);
        let interval = milliseconds(check.interval, Healthcheck::INTERVAL);
        add('i', &interval);
        add('t', &milliseconds(check.timeout, Healthcheck::TIMEOUT));
        add(
            'p',
            &milliseconds(check.start_period, Healthcheck::START_PERIOD),
        );
        let soon = milliseconds(check.start_interval, Healthcheck::SOON);
        add('n', &soon.min(interval));
        add('r', &check.retries.unwrap_or(Healthcheck::RETRIES));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::config::{Entry, entries};
    use super::{dhcp, group, table};
    use base64ct::Encoding;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn account() -> Account {
        accounts::account("7", "", "").unwrap()
    }

    #[test]
    fn the_init_reads_what_the_image_says() {
        let config: ContainerConfig = serde_json::from_value(json!({
            "Entrypoint": ["/serve"], "Cmd": ["two words", ""], "Env": ["A=1=2", "HOME=/x"],
            "WorkingDir": "srv", "StopSignal": "SIGQUIT",
            "ExposedPorts": { "80/tcp": {}, "53/udp": {} },
            "Healthcheck": { "Test": ["CMD", "true"], "Interval": 1_000_000_000 },
        }))
        .unwrap();
        let text = text(&config, &account());
        let path = format!("PATH={PATH}");
        let read: Vec<Entry<'_>> = entries(text.as_bytes()).collect();
        let expected = [
            Entry::Argument(b"/serve"),
            Entry::Argument(b"two words"),
            Entry::Argument(b""),
            Entry::Variable(path.as_bytes()),
            Entry::Variable(b"A=1=2"),
            Entry::Variable(b"HOME=/x"),
            Entry::Workdir(b"/srv"),
            Entry::Number(b'u', 7),
            Entry::Number(b'g', 0),
            Entry::Number(b'k', 3),
            Entry::Number(b'l', 80),
            Entry::Health(b"true"),
            Entry::Number(b'i', 1000),
            Entry::Number(b't', 30_000),
            Entry::Number(b'p', 1),
            Entry::Number(b'n', 1000),
            Entry::Number(b'r', 3),
        ];
        assert_eq!(read, expected);
    }

    /// An answer as QEMU's network gives it.
    #[test]
    fn the_init_understands_a_dhcp_server() {
        let (id, card) = ([1, 2, 3, 4], [0x52, 0x54, 0, 0x12, 0x34, 0x56]);
        let offer = dhcp::Lease {
            kind: dhcp::OFFER,
            address: [10, 0, 2, 15],
            mask: [255, 255, 255, 0],
            router: Some([10, 0, 2, 2]),
            resolver: Some([10, 0, 2, 3]),
            server: [10, 0, 2, 2],
        };
        let mut answer = dhcp::message(dhcp::DISCOVER, id, card, &offer).to_vec();
        answer[0] = 2;
        answer[16..20].copy_from_slice(&offer.address);
        answer.truncate(240);
        answer.extend([0, 53, 1, dhcp::OFFER, 1, 4, 255, 255, 255, 0]);
        answer.extend([3, 8, 10, 0, 2, 2, 10, 0, 2, 9, 6, 4, 10, 0, 2, 3]);
        answer.extend([54, 4, 10, 0, 2, 2, 255, 99]);
        assert_eq!(dhcp::answer(&answer, id), Some(offer));
        assert_eq!(dhcp::answer(&answer, [0; 4]), None);
        let request = dhcp::message(dhcp::REQUEST, id, card, &offer);
        assert!(request.windows(6).any(|w| w == [50, 4, 10, 0, 2, 15]));
        assert!(request.windows(6).any(|w| w == [54, 4, 10, 0, 2, 2]));
        assert_eq!(dhcp::answer(&request, id), None);
        let acknowledges = (dhcp::ACK, dhcp::LENGTH);
        assert_eq!(acknowledges, (5, 300));
    }

    #[test]
    fn the_init_knows_the_machines_of_its_network() {
        let table = "52:54:0a:d5:00:02 10.213.0.2 16\n10.213.0.2 db\n10.213.0.3 web site\n";
        let encoded = base64ct::Base64::encode_string(table.as_bytes());
        let mut buffer = [0; 400];
        let length = group::decode(format!("{encoded}\0more").as_bytes(), &mut buffer);
        assert_eq!(&buffer[..length], table.as_bytes());
        let card = group::card(table.as_bytes()).unwrap();
        assert_eq!(card.hardware, [0x52, 0x54, 0x0a, 0xd5, 0, 2]);
        assert_eq!(card.address, [10, 213, 0, 2]);
        for wrong in [
            "",
            "52:54 10.213.0.2",
            "1:2:3:4:5:6 1.2.3",
            "1:2:3:4:5:fff 1.2.3.4",
        ] {
            assert_eq!(group::card(wrong.as_bytes()), None, "{wrong}");
        }

        let old = "127.0.0.1 localhost\n10.213.0.9 old # vmfab\n192.0.2.1 mine # vmfab's";
        let mut hosts = |old: &str, table: &str| {
            let length = group::hosts(old.as_bytes(), table.as_bytes(), &mut buffer);
            String::from_utf8(buffer[..length].to_vec()).unwrap()
        };
        let new = hosts(old, table);
        insta::assert_snapshot!(new, @r"
        127.0.0.1 localhost
        192.0.2.1 mine # vmfab's
        10.213.0.2 db # vmfab
        10.213.0.3 web site # vmfab
        ");
        assert_eq!(hosts(&new, table), new);
        assert_eq!(
            hosts(&new, ""),
            "127.0.0.1 localhost\n192.0.2.1 mine # vmfab's\n"
        );
    }

    #[test]
    fn the_init_knows_what_to_mount() {
        let uuid = "UUID=01234567-89ab-cdef-0123-456789abcdef";
        let text = format!("{uuid} /srv/data ext4 ro\nshare0 /src 9p rw,trans=virtio,msize=5\n");
        let read: Vec<_> = table::mounts(text.as_bytes()).collect();
        let [volume, share] = read[..] else {
            panic!("{read:?}");
        };
        assert_eq!((volume.at, volume.kind), (&b"/srv/data"[..], &b"ext4"[..]));
        assert_eq!((volume.read_only, volume.options), (true, &b""[..]));
        let bytes = *b"\x01\x23\x45\x67\x89\xab\xcd\xef";
        let expected = [bytes, bytes].concat();
        assert_eq!(table::uuid(volume.what).unwrap().to_vec(), expected);
        assert_eq!(
            (share.read_only, share.options),
            (false, &b"trans=virtio,msize=5"[..])
        );
        for wrong in [
            share.what,
            b"UUID=0",
            &uuid.as_bytes()[..40],
            &[uuid, "0"].concat().into_bytes(),
        ] {
            assert_eq!(table::uuid(wrong), None);
        }
    }

    proptest! {
        #[test]
        fn no_answer_of_a_server_is_too_odd(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            dhcp::answer(&bytes, [0; 4]);
            let mut plausible = dhcp::message(dhcp::DISCOVER, [0; 4], [0; 6], &dhcp::Lease::default())
                .to_vec();
            plausible[0] = 2;
            plausible.truncate(240);
            plausible.extend(bytes);
            dhcp::answer(&plausible, [0; 4]);
        }
    }
}
