//! `vmfab wait`

use std::time::Duration;

use clap::Args;

use super::super::Status;
use super::super::output::duration;
use super::super::session::Session;
use super::boot::TIMEOUT;
use super::several::{Named, finish};
use crate::failure::Failure;
use crate::ops::machine::{self, Affected, Awaited, WaitOptions};

/// Wait until machines are ready
///
/// Without an option, wait until a command over SSH succeeds. With several options, wait for all of
/// them. vmfab fails at once if a machine stops or pauses meanwhile.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab wait docker && vmfab ssh docker
  vmfab wait web --port 80 --timeout 60
  vmfab wait web --service nginx
  vmfab wait --all --boot")]
pub(crate) struct Wait {
    #[command(flatten)]
    machines: Named,

    /// Wait until a command over SSH succeeds
    #[arg(long)]
    ssh: bool,

    /// Wait until a program in the machine listens on this TCP port
    #[arg(long = "port", value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    ports: Vec<u16>,

    /// Wait until a service of systemd or OpenRC runs
    #[arg(long = "service", value_name = "SERVICE")]
    services: Vec<String>,

    /// Wait until the init system has started everything
    #[arg(long)]
    boot: bool,

    /// Wait at most SECONDS
    #[arg(long, value_name = "SECONDS", default_value_t = TIMEOUT)]
    timeout: u64,
}

impl Wait {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        let mut awaited = vec![Awaited::Ssh];
        awaited.extend(self.boot.then_some(Awaited::Boot));
        awaited.extend(self.services.into_iter().map(Awaited::Service));
        awaited.extend(self.ports.into_iter().map(Awaited::Port));
        let options = WaitOptions {
            awaited,
            timeout: Duration::from_secs(self.timeout),
        };
        let context = session.context()?;
        let waited = self
            .machines
            .targets(Affected::Started)
            .each(context, |machine| machine::wait(context, machine, &options))?;
        finish(session, waited, "ready", |waited| {
            let seconds = duration(waited.seconds);
            format!("{}: ready after {seconds}\n", waited.name)
        })
    }
}
