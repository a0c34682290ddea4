//! Ports and volumes of a service.

use std::net::Ipv4Addr;
use std::path::{Component, Path};

use super::service::Reading;
use super::units::range;
use super::yaml::{Node, Value};
use crate::checked::{MountPoint, Name};
use crate::image::{Port, Protocol};
use crate::text::Span;

/// The protocol of a port, and the address of the host when it is not 127.0.0.1.
type Way = (Protocol, Option<Ipv4Addr>);

/// What a port below 1024 becomes on the host when the file does not choose one.
const ABOVE_PRIVILEGED: u16 = 8000;

impl Reading<'_> {
    pub(super) fn port(&mut self, node: &Node) {
        let (host, guest, protocol, ip) = match &node.value {
            Value::Map(map) => {
                const KNOWN: [&str; 7] = [
                    "app_protocol",
                    "host_ip",
                    "mode",
                    "name",
                    "protocol",
                    "published",
                    "target",
                ];
                self.notes.unknown(map, &KNOWN, "a port");
                let mut text = |name: &str| {
                    let node = node.get(name)?;
                    self.notes.text(node, name)
                };
                let guest = text("target").unwrap_or_default();
                (text("published"), guest, text("protocol"), text("host_ip"))
            }
            _ => {
                let Some(text) = self.notes.text(node, "ports") else {
                    return;
                };
                let (front, protocol) = match text.split_once('/') {
                    Some((front, protocol)) => (front, Some(protocol.to_owned())),
                    None => (text.as_str(), None),
                };
                let (rest, guest) = match front.rsplit_once(':') {
                    Some((rest, guest)) => (Some(rest), guest),
                    None => (None, front),
                };
                let (ip, host) = match rest.map(|rest| rest.rsplit_once(':').ok_or(rest)) {
                    Some(Ok((ip, host))) => (Some(ip.to_owned()), Some(host.to_owned())),
                    Some(Err(host)) => (None, Some(host.to_owned())),
                    None => (None, None),
                };
                (host, guest.to_owned(), protocol, ip)
            }
        };
        let protocol = match protocol.as_deref() {
            None | Some("tcp") => Protocol::Tcp,
            Some("udp") => Protocol::Udp,
            Some(other) => {
                let message = format!("vmfab forwards TCP and UDP, and not {other}");
                let help = "remove the port, or let the service speak TCP";
                self.notes.wrong(&node.span, message, help);
                return;
            }
        };
        // Where the file gives none, docker listens on all: that is not for a development machine.
        let address = match ip.as_deref() {
            None | Some("localhost" | "::1" | "[::1]") => None,
            Some("::" | "[::]") => Some(Ipv4Addr::UNSPECIFIED),
            Some(ip) => match ip.parse::<Ipv4Addr>() {
                Ok(address) => Some(address).filter(|address| !address.is_loopback()),
                Err(_) => return self.no_port(&node.span),
            },
        };
        let way = (protocol, address);
        let host = host.filter(|host| !host.is_empty());
        let parts = (range(&guest), host.as_deref().map(range));
        let (Some((first, last)), host) = parts else {
            return self.no_port(&node.span);
        };
        match host {
            None => {
                for guest in first..=last {
                    self.chosen(guest, way, &node.span);
                }
            }
            Some(Some((from, to))) if to - from == last - first => {
                for (host, guest) in (from..=to).zip(first..=last) {
                    self.take(host, guest, way, &node.span);
                }
            }
            // One port of the guest, and a range to choose from.
            Some(Some((from, to))) if first == last => {
                let free = (from..=to)
                    .find(|port| !self.shared.ports.contains_key(&(protocol.name(), *port)));
                self.take(free.unwrap_or(from), first, way, &node.span);
            }
            Some(_) => self.no_port(&node.span),
        }
    }

    fn no_port(&mut self, span: &Span) {
        let help = "write HOST:GUEST, such as \"8080:80\", or two ranges of the same length";
        self.notes.wrong(span, "this is no port", help);
    }

    /// A port of the host for one that the file leaves to docker.
    fn chosen(&mut self, guest: u16, way: Way, span: &Span) {
        let start = match guest {
            0..1024 => guest + ABOVE_PRIVILEGED,
            guest => guest,
        };
        let mut free = start..=u16::MAX;
        let host = free.find(|port| !self.shared.ports.contains_key(&(way.0.name(), *port)));
        let host = host.unwrap_or(start);
        let message = format!("vmfab forwards port {host} of the host to port {guest}");
        self.notes.warn(span, message);
        self.take(host, guest, way, span);
    }

    fn take(&mut self, host: u16, guest: u16, (protocol, address): Way, span: &Span) {
        let name = self.service.name.clone();
        if let Some(other) = self.shared.ports.insert((protocol.name(), host), name) {
            let message = format!("port {host} of the host is given twice");
            let help = format!("use another port of the host: \"{other}\" has this one");
            self.notes.wrong(span, message, help);
            return;
        }
        self.service.ports.push(Port {
            guest,
            host: Some(host),
            protocol,
            address,
        });
    }

    pub(super) fn volume(&mut self, node: &Node) {
        let read_only;
        let (source, target, kind) = match &node.value {
            Value::Map(_) => {
                read_only = node.get("read_only").is_some_and(
                    |node| matches!(&node.value, Value::Scalar(text) if text == "true"),
                );
                let mut text = |name: &str| {
                    let node = node.get(name)?;
                    self.notes.text(node, name)
                };
                let kind = text("type").unwrap_or_else(|| "volume".to_owned());
                (text("source"), text("target").unwrap_or_default(), kind)
            }
            _ => {
                let Some(text) = self.notes.text(node, "volumes") else {
                    return;
                };
                read_only = text.rsplit(':').next() == Some("ro");
                let mut parts = text.split(':');
                let first = parts.next().unwrap_or_default().to_owned();
                match parts.next() {
                    None => (None, first, "volume".to_owned()),
                    Some(target) => {
                        let path = first.starts_with(['.', '/', '~']);
                        let kind = if path { "bind" } else { "volume" };
                        (Some(first), target.to_owned(), kind.to_owned())
                    }
                }
            }
        };
        if !target.starts_with('/') || target.contains('\0') {
            let message = format!("\"{target}\" is not where a volume can be");
            let help = "write an absolute path, such as ./site:/srv/www";
            self.notes.wrong(&node.span, message, help);
            return;
        }
        match (kind.as_str(), source) {
            ("bind", Some(source)) => self.bind(&source, target, &node.span),
            ("volume", Some(name)) => self.named(&name, target, read_only, &node.span),
            ("volume", None) => {
                if self.shared.first("volume") {
                    let message = "volumes without a name are on the disk of their machine: vmfab rm \
                                   and up --recreate discard them";
                    self.notes.warn(&node.span, message);
                }
                self.service.directories.push(target);
            }
            ("tmpfs", _) => {
                let message = format!("{target} is on the machine's disk, not in memory");
                self.notes.warn(&node.span, message);
                self.service.directories.push(target);
            }
            _ => self.notes.wrong(
                &node.span,
                format!("vmfab has no volumes of the type \"{kind}\""),
                "write a bind with a source, or a volume",
            ),
        }
    }

    fn named(&mut self, name: &str, target: String, read_only: bool, span: &Span) {
        let own = self.service.name.clone();
        let other = self.shared.volumes.insert(name.to_owned(), own);
        if other.is_some_and(|other| other != self.service.name) {
            let message = format!("two services share the volume \"{name}\"");
            let help = "one machine at a time can use a volume: keep the data in one of them";
            self.notes.wrong(span, message, help);
            return;
        }
        let target = target.trim_end_matches('/').to_owned();
        let whole = (self.around.volume)(name);
        let fits = whole.parse::<Name>().is_ok() && target.parse::<MountPoint>().is_ok();
        if !fits {
            let message = format!("a machine cannot mount the volume \"{name}\" at \"{target}\"");
            let help = "use letters, digits, \".\", \"_\" and \"-\" in both";
            self.notes.wrong(span, message, help);
            return;
        }
        self.service.volumes.push((whole, target, read_only));
    }

    fn bind(&mut self, source: &str, target: String, span: &Span) {
        let path = Path::new(source);
        let inside = path
            .components()
            .all(|part| matches!(part, Component::CurDir | Component::Normal(_)))
            && !source.starts_with('~');
        if !inside {
            let message = format!("vmfab does not copy {source} into a machine");
            let help = "machines share no directories with the host yet: name a file or a directory \
                        below that of this file, which is copied";
            self.notes.wrong(span, message, help);
            return;
        }
        let whole = self.around.directory.join(path);
        if !self.around.files.is_directory(&whole) && !self.around.files.is_file(&whole) {
            let message = format!("no file or directory {source} found");
            self.notes.wrong(
                span,
                message,
                "the path is relative to the directory of this file",
            );
            return;
        }
        let message = format!(
            "{source} is copied when the image is built, and not shared: after changes run vmfab up \
             --recreate {}",
            self.service.name
        );
        self.notes.warn(span, message);
        let source = match source.starts_with('.') {
            true => source.to_owned(),
            false => format!("./{source}"),
        };
        let target = target.trim_end_matches('/');
        let target = if target.is_empty() { "/" } else { target };
        self.service.copies.push((source, target.to_owned()));
    }
}
