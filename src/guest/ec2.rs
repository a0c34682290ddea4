//! The metadata service of Amazon EC2, which images for it ask whom to let in.
//!
//! Source: "Use the Instance Metadata Service",
//! <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-instance-metadata.html>.
//!
//! QEMU's network leads each connection to 169.254.169.254 to the standard input and output of a
//! process of its own: this program with a hidden argument, which answers one request from a file
//! and ends. Nothing listens on the host.
//!
//! Guests ask with a token (version 2) or without (version 1): tokens are given out, and not asked
//! for.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::{Deserialize, Serialize};

use super::cloud::Identity;
use crate::host::file;

/// The hidden first argument that makes this program answer a request; the file is the second.
pub const METADATA_ARGUMENT: &str = "__metadata";
/// The address of the service.
pub const ADDRESS: &str = "169.254.169.254";
/// The guest's own address: the first that QEMU's network gives away.
pub const GUEST_ADDRESS: &str = "169.254.169.15";
/// The network that both are in: QEMU leads only addresses of its own network to processes.
pub const NETWORK: &str = "169.254.169.0/24";
/// The address of the guest's network card.
pub const MAC: &str = "52:54:00:12:34:56";
/// The name of the key in lists.
const KEY_NAME: &str = "vmfab";
/// What a guest gets as a token.
const TOKEN: &str = "dm1mYWIgYXNrcyBmb3Igbm8gdG9rZW4=";
/// Who has not said within this time what it wants gets nothing.
const PATIENCE: Duration = Duration::from_secs(10);
/// Connections of one guest that are answered at the same time. QEMU starts a process for each, and
/// the guest decides how many it opens.
const AT_ONCE: u32 = 16;
/// What the guest gets that has more of them.
const BUSY: &str = "HTTP/1.1 503 Service Unavailable\r\nServer: vmfab\r\nRetry-After: 1\r\nContent-Length: 0\r\n\
    Connection: close\r\n\r\n";
/// The longest head of a request, in bytes.
const MOST: usize = 16 << 10;

/// What the service says: contents by their paths below the version, such as
/// `meta-data/instance-id`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata(BTreeMap<String, String>);

impl Metadata {
    /// What a machine's guest is told.
    #[must_use]
    pub fn new(identity: &Identity) -> Self {
        let id = instance_id(identity);
        let card = format!("meta-data/network/interfaces/macs/{MAC}");
        let document = serde_json::json!({
            "architecture": std::env::consts::ARCH,
            "availabilityZone": "local-1a",
            "imageId": "ami-00000000",
            "instanceId": id,
            "instanceType": "vmfab",
            "privateIp": GUEST_ADDRESS,
            "region": "local-1",
        });
        let values = [
            ("meta-data/ami-id", "ami-00000000"),
            ("meta-data/hostname", &identity.hostname),
            ("meta-data/instance-id", &id),
            ("meta-data/instance-type", "vmfab"),
            ("meta-data/local-hostname", &identity.hostname),
            ("meta-data/local-ipv4", GUEST_ADDRESS),
            ("meta-data/mac", MAC),
            ("meta-data/placement/availability-zone", "local-1a"),
            ("meta-data/placement/region", "local-1"),
            (&format!("{card}/device-number"), "0"),
            (&format!("{card}/interface-id"), "eni-00000000"),
            (&format!("{card}/local-ipv4s"), GUEST_ADDRESS),
            (&format!("{card}/mac"), MAC),
            (&format!("{card}/subnet-ipv4-cidr-block"), NETWORK),
            ("dynamic/instance-identity/document", &document.to_string()),
            ("user-data", &identity.user_data()),
        ];
        let owned = |(path, value): (&str, &str)| (path.to_owned(), value.to_owned());
        let keys = identity
            .public_keys
            .iter()
            .enumerate()
            .map(|(number, key)| {
                let path = format!("meta-data/public-keys/{number}/openssh-key");
                (path, key.trim_end().to_owned())
            });
        Self(values.into_iter().map(owned).chain(keys).collect())
    }

    /// The answer to a request, of which `head` is the beginning up to the empty line.
    #[must_use]
    pub fn answer(&self, head: &str) -> String {
        let mut words = head.lines().next().unwrap_or_default().split_whitespace();
        let (method, path) = (words.next(), words.next().unwrap_or_default());
        let path = path.split('?').next().unwrap_or_default();
        let content = match method {
            Some("PUT") if path == "/latest/api/token" => Ok(TOKEN.to_owned()),
            Some("GET" | "HEAD") => self.content(path).ok_or("404 Not Found"),
            Some(_) => Err("405 Method Not Allowed"),
            None => Err("400 Bad Request"),
        };
        let (status, content) = match content {
            Ok(content) => ("200 OK", content),
            Err(status) => (status, String::new()),
        };
        let mut answer = format!(
            "HTTP/1.1 {status}\r\nServer: vmfab\r\nContent-Type: text/plain\r\n\
             Content-Length: {}\r\nConnection: close\r\n\
             X-aws-ec2-metadata-token-ttl-seconds: 21600\r\n\r\n",
            content.len()
        );
        if method != Some("HEAD") {
            answer.push_str(&content);
        }
        answer
    }

    fn content(&self, path: &str) -> Option<String> {
        let path = path.trim_start_matches('/');
        let (version, path) = path.split_once('/').unwrap_or((path, ""));
        if version.is_empty() {
            return Some("latest".to_owned());
        }
        // "latest", or a date.
        let dated = |text: &str| {
            text.bytes()
                .all(|b| b.is_ascii_digit() || b"-.".contains(&b))
        };
        if version != "latest" && !dated(version) {
            return None;
        }
        if let Some(value) = self.0.get(path) {
            return Some(value.clone());
        }
        let directory = path.trim_end_matches('/');
        if directory == "meta-data/public-keys" {
            let keys = self
                .0
                .keys()
                .filter(|key| key.starts_with("meta-data/public-keys/"));
            let names = keys.enumerate().map(|(number, _)| match number {
                0 => format!("0={KEY_NAME}"),
                number => format!("{number}={KEY_NAME}-{number}"),
            });
            return Some(names.collect::<Vec<_>>().join("\n"));
        }
        let prefix = match directory {
            "" => String::new(),
            directory => format!("{directory}/"),
        };
        let mut names: Vec<String> = Vec::new();
        for below in self.0.keys().filter_map(|key| key.strip_prefix(&prefix)) {
            let name = match below.split_once('/') {
                Some((directory, _)) => format!("{directory}/"),
                None => below.to_owned(),
            };
            if names.last() != Some(&name) {
                names.push(name);
            }
        }
        (!names.is_empty()).then(|| names.join("\n"))
    }
}

/// The machine's id as Amazon's are.
fn instance_id(identity: &Identity) -> String {
    let digits = identity.instance_text().replace('-', "");
    format!("i-{}", &digits[..17.min(digits.len())])
}

/// The UUID of the machine's hardware: guests know Amazon's machines by its first three digits.
#[must_use]
pub fn system_uuid(identity: &Identity) -> String {
    format!(
        "ec2{}",
        identity.instance_text().get(3..).unwrap_or_default()
    )
}

/// Answers one request on standard input and output from a file with [`Metadata`] as JSON.
#[must_use]
pub fn metadata_main(file: Option<&std::ffi::OsStr>) -> ExitCode {
    let answered = file
        .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))
        .and_then(|file| answer_from(Path::new(file)));
    match answered {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn answer_from(file: &Path) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let Some(_turn) = turn(file)? else {
        out.write_all(BUSY.as_bytes())?;
        return out.flush();
    };
    let metadata: Metadata = serde_json::from_slice(&std::fs::read(file)?)?;
    let head = read_head()?;
    out.write_all(metadata.answer(&head).as_bytes())?;
    out.flush()
}

/// One of the turns of those that answer from `file`, held until it is dropped; nothing when all
/// are taken.
fn turn(file: &Path) -> io::Result<Option<File>> {
    for number in 0..AT_ONCE {
        let turn = File::create(file.with_extension(format!("turn-{number}")))?;
        if file::try_lock(&turn)? {
            return Ok(Some(turn));
        }
    }
    Ok(None)
}

/// Reads up to the empty line that ends the head of a request.
fn read_head() -> io::Result<String> {
    let stdin = io::stdin();
    let mut head = Vec::new();
    let started = Instant::now();
    loop {
        let left = PATIENCE
            .checked_sub(started.elapsed())
            .ok_or(io::ErrorKind::TimedOut)?;
        let mut fds = [PollFd::new(&stdin, PollFlags::IN)];
        if poll(&mut fds, Timespec::try_from(left).ok().as_ref())? == 0 {
            continue;
        }
        let mut buffer = [0; 4096];
        let count = rustix::io::read(&stdin, &mut buffer)?;
        head.extend_from_slice(&buffer[..count]);
        let end = head.windows(4).any(|part| part == b"\r\n\r\n")
            || head.windows(2).any(|part| part == b"\n\n");
        if end || count == 0 || head.len() > MOST {
            return Ok(String::from_utf8_lossy(&head).into_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::cloud::tests::identity;
    use super::*;

    fn get(path: &str) -> String {
        let metadata = Metadata::new(&identity());
        let head = format!("GET {path} HTTP/1.1\r\nHost: {ADDRESS}\r\n\r\n");
        let answer = metadata.answer(&head);
        let (head, content) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.lines().next().unwrap();
        format!("{status}\n{content}")
    }

    #[test]
    fn paths_and_lists() {
        insta::assert_snapshot!(get("/latest/meta-data/"), @"
        HTTP/1.1 200 OK
        ami-id
        hostname
        instance-id
        instance-type
        local-hostname
        local-ipv4
        mac
        network/
        placement/
        public-keys/
        ");
        insta::assert_snapshot!(get("/2021-03-23/meta-data/instance-id"), @"
        HTTP/1.1 200 OK
        i-0b61ac6a4a4e4b62a
        ");
        insta::assert_snapshot!(get("/latest/meta-data/public-keys/"), @"
        HTTP/1.1 200 OK
        0=vmfab
        ");
        insta::assert_snapshot!(get("/latest/meta-data/public-keys/0/openssh-key"), @r#"
        HTTP/1.1 200 OK
        ssh-ed25519 AAAA vmfab "machine" of docker
        "#);
        insta::assert_snapshot!(get("/latest/meta-data/network/interfaces/macs/"), @"
        HTTP/1.1 200 OK
        52:54:00:12:34:56/
        ");
        let more = Identity {
            public_keys: vec!["ssh-ed25519 AAAA".into(), "ssh-rsa BBBB".into()],
            ..identity()
        };
        assert_eq!(
            Metadata::new(&more)
                .content("latest/meta-data/public-keys/")
                .as_deref(),
            Some("0=vmfab\n1=vmfab-1")
        );
        assert_eq!(
            Metadata::new(&more)
                .content("latest/meta-data/public-keys/1/openssh-key")
                .as_deref(),
            Some("ssh-rsa BBBB")
        );
        assert!(get("/latest/user-data").starts_with("HTTP/1.1 200 OK\n#cloud-config\n"));
        assert_eq!(
            get("/latest/"),
            "HTTP/1.1 200 OK\ndynamic/\nmeta-data/\nuser-data"
        );
        assert_eq!(get("/"), "HTTP/1.1 200 OK\nlatest");
        for path in [
            "/latest/meta-data/spot",
            "/secret/user-data",
            "/latest/meta-data/iam/",
        ] {
            assert_eq!(get(path), "HTTP/1.1 404 Not Found\n", "{path}");
        }
    }

    #[test]
    fn tokens_are_given_to_who_asks() {
        let metadata = Metadata::new(&identity());
        let answer = metadata.answer("PUT /latest/api/token HTTP/1.1\r\n\r\n");
        assert!(answer.ends_with(TOKEN), "{answer}");
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"));
        let status = |head: &str| metadata.answer(head).lines().next().unwrap().to_owned();
        assert_eq!(
            status("PUT /latest/meta-data/hostname HTTP/1.1"),
            "HTTP/1.1 405 Method Not Allowed"
        );
        assert_eq!(status(""), "HTTP/1.1 400 Bad Request");
        assert!(
            metadata
                .answer("HEAD /latest/user-data HTTP/1.1")
                .ends_with("\r\n\r\n")
        );
    }

    #[test]
    fn ids_as_amazon_has_them() {
        insta::assert_snapshot!(system_uuid(&identity()), @"ec21ac6a-4a4e-4b62-ae8a-7b1f4e0c2d55");
    }
}
