//! `vmfab port`

use clap::Args;

use super::super::Status;
use super::super::session::Session;
use super::super::table::{Align, Table};
use super::new_machine::{Ports, parse_ports};
use crate::failure::Failure;
use crate::image::Protocol;
use crate::machine::Forwarded;
use crate::ops::machine::{self, Port as Listed};

/// List, add and remove the forwarded ports of a machine
///
/// Changes take effect at once, also in a running machine, and stay after its next start. Ports
/// listen on 127.0.0.1 unless an address is given. vmfab up sets the ports of a project's machine to
/// those of its vmfab.kdl when it starts it.
#[derive(Debug, Args)]
#[command(
    visible_alias = "ports",
    after_help = "\
Examples:
  vmfab port docker
  vmfab port docker --add 8080:80
  vmfab port docker --add 5353:53/udp --remove 8080"
)]
pub(crate) struct Port {
    /// Name of the machine
    name: String,

    /// Forward a port of 127.0.0.1 to a port of the machine
    #[arg(short = 'p', long = "add", value_name = "[ADDRESS:]HOST:GUEST[/udp]", value_parser = parse_ports)]
    add: Vec<Ports>,

    /// Forward this port of 127.0.0.1 no longer
    #[arg(short, long = "remove", value_name = "HOST[/udp]", value_parser = parse_host_port)]
    remove: Vec<(u16, Protocol)>,
}

impl Port {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        let context = session.context()?;
        for (host, protocol) in self.remove {
            machine::remove_port(context, &self.name, host, protocol)?;
        }
        for port in self.add.into_iter().flat_map(|ports| ports.0) {
            machine::add_port(context, &self.name, port)?;
        }
        let ports = machine::ports_of(context, &self.name)?;
        session.print(&ports, |ports| table(ports))?;
        Ok(Status::Done)
    }
}

fn table(ports: &[Listed]) -> Table {
    let mut table = Table::new([
        ("HOST", Align::Left),
        ("GUEST", Align::Left),
        ("", Align::Left),
    ]);
    for port in ports {
        let Forwarded {
            host,
            guest,
            protocol,
            ..
        } = port.forwarded;
        table.row([
            format!("{}:{host}", port.forwarded.address),
            format!("{guest}/{}", protocol.name()),
            match (port.active, port.ssh) {
                (false, true) => "SSH, when it runs",
                (false, false) => "when it runs",
                (true, true) => "SSH",
                (true, false) => "",
            }
            .to_owned(),
        ]);
    }
    table
}

fn parse_host_port(text: &str) -> Result<(u16, Protocol), String> {
    let (port, protocol) = match text.strip_suffix("/udp") {
        Some(port) => (port, Protocol::Udp),
        None => (text.strip_suffix("/tcp").unwrap_or(text), Protocol::Tcp),
    };
    let port = port.parse::<u16>().ok().filter(|port| *port > 0);
    port.map(|port| (port, protocol))
        .ok_or_else(|| "write a number from 1 to 65535, such as 8080 or 5353/udp".to_owned())
}
