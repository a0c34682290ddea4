//! What a new machine is made of and what it gets, as options that several commands take.

use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

use clap::Args;

use super::super::prompt;
use super::super::session::Session;
use super::build::parse_tag;
use super::cache::CacheArgs;
use super::hardware::HardwareArgs;
use super::images::kind;
use super::recipe::{AgreeArgs, DockerfileArgs, LockArgs, SecretArgs, local, parse_setting};
use super::several::OvercommitArgs;
use crate::failure::Failure;
use crate::image::{Hardware, Protocol};
use crate::machine::{Forwarded, MachineName};
use crate::ops::available::{self, ParameterDetails};
use crate::ops::images::FoundImage;
use crate::ops::machine::{self, ImageOptions};
use crate::ops::{Context, RecipeChoice, snapshot, template};
use crate::store::TagName;

/// Options of every command that makes a machine of an image or a recipe.
#[derive(Debug, Clone, Args)]
pub(super) struct NewMachineArgs {
    /// Set a parameter of the recipe (repeatable)
    #[arg(short, long = "set", value_name = "NAME=VALUE", value_parser = parse_setting)]
    settings: Vec<(String, String)>,

    #[command(flatten)]
    dockerfile: DockerfileArgs,

    #[command(flatten)]
    secrets: SecretArgs,

    #[command(flatten)]
    lock: LockArgs,

    #[command(flatten)]
    agree: AgreeArgs,

    #[command(flatten)]
    hardware: HardwareArgs,

    /// Forward port HOST of this host to port GUEST of the machine (repeatable)
    ///
    /// It listens on 127.0.0.1, or on ADDRESS; 0.0.0.0 stands for all addresses of this host. HOST and
    /// GUEST can be ranges of the same length, such as 8000-8010:8000-8010.
    #[arg(short, long = "port", value_name = "[ADDRESS:]HOST:GUEST[/udp]", value_parser = parse_ports)]
    ports: Vec<Ports>,

    /// Share none of the directories of this host that the image asks for
    ///
    /// Without it, vmfab asks for each one, unless --volume shares a directory at its path.
    #[arg(long)]
    no_shares: bool,

    #[command(flatten)]
    room: OvercommitArgs,

    /// Tag the image as well, with the disk as it was before the boot
    #[arg(long, value_name = "@TAG", value_parser = parse_tag)]
    save_base: Option<TagName>,

    /// Let --save-base replace a tag of another image
    #[arg(long, requires = "save_base")]
    force: bool,

    #[command(flatten)]
    cache: CacheArgs,

    /// Whether the name is that of a template.
    #[arg(skip)]
    is_template: bool,

    /// Whether the disk of an image in a registry need not be here.
    #[arg(skip)]
    is_lazy: bool,
}

/// What a machine can be made of now.
pub(super) struct Ingredients {
    pub(super) context: Context,
    pub(super) image: FoundImage,
    pub(super) hardware: Hardware,
    pub(super) ports: Vec<Forwarded>,
}

impl NewMachineArgs {
    /// The same for a template, if it is for one.
    pub(super) fn of_template(self, is_template: bool) -> Self {
        Self {
            is_template,
            ..self
        }
    }

    /// The same, if its machine may start before all of its image is here.
    pub(super) fn lazy(self, is_lazy: bool) -> Self {
        Self { is_lazy, ..self }
    }

    /// Finds the image that `name` stands for, or builds it, and tags it if that is asked for.
    /// `machine` is the name of the machine that it is for. `fallback` boots what the image starts
    /// from if it cannot be built.
    pub(super) fn prepare(
        mut self,
        session: &Session,
        mut name: String,
        machine: Option<&MachineName>,
        fallback: bool,
    ) -> Result<Ingredients, Failure> {
        session.lend(self.secrets.read()?);
        let context = session.registry_context(self.cache.registries)?;
        let context = self
            .agree
            .apply(context.with_overcommit(self.room.overcommit));
        if self.is_template {
            let template = template::find(&context, &name)?;
            ask(session, &context, &template.recipe, &mut self.settings)?;
            template.check(&context, &self.settings.iter().cloned().collect())?;
            name = template.recipe;
        }
        let choice = RecipeChoice {
            recipe: local(session, name)?,
            settings: self.settings.into_iter().collect(),
            ..RecipeChoice::default()
        };
        let choice = self.dockerfile.apply(choice)?;
        let options = ImageOptions {
            choice: self.lock.apply(choice),
            cache: self.cache.options(&context)?,
            machine: machine.cloned(),
            fallback,
            // A tag is for an image that is all here.
            lazy: self.is_lazy && self.save_base.is_none(),
        };
        if let Some(tag) = &self.save_base {
            snapshot::check_base(&context, tag, self.force)?;
        }
        let mut hardware = self.hardware.hardware(&context.interrupt)?;
        let image = machine::image(&context, options)?;
        if !self.no_shares {
            machine::ask_for_shares(&image, &mut hardware, |what| {
                session.end_progress();
                let answer =
                    prompt::line(&format!("{what}. Share it? [y/N] "), &context.interrupt)?;
                Ok(answer.map(|answer| matches!(&*answer.to_ascii_lowercase(), "y" | "yes")))
            })?;
        }
        if let Some(tag) = &self.save_base {
            snapshot::save_base(&context, &image.image, tag, self.force)?;
        }
        Ok(Ingredients {
            context,
            image,
            hardware,
            ports: self.ports.into_iter().flat_map(|ports| ports.0).collect(),
        })
    }
}

/// Asks for the parameters of a template that have neither default nor value. Where there is no
/// terminal, the build tells which ones it needs.
fn ask(
    session: &Session,
    context: &Context,
    recipe: &str,
    settings: &mut Vec<(String, String)>,
) -> Result<(), Failure> {
    let details = available::describe(context, recipe)?;
    for parameter in details.parameters {
        let is_set = settings.iter().any(|(name, _)| *name == parameter.name);
        if is_set || parameter.default.is_some() {
            continue;
        }
        loop {
            session.end_progress();
            let Some(answer) = prompt::line(&question(&parameter), &context.interrupt)? else {
                return Ok(());
            };
            match available::check(context, recipe, &parameter.name, &answer) {
                Ok(()) => {
                    settings.push((parameter.name, answer));
                    break;
                }
                Err(error) => session.note(&error.to_string()),
            }
        }
    }
    Ok(())
}

/// `port (Port of the application; port, at least 1024): `
fn question(parameter: &ParameterDetails) -> String {
    let name = &parameter.name;
    let kind = kind(parameter);
    match &parameter.description {
        Some(description) => format!("{name} ({description}; {kind}): "),
        None => format!("{name} ({kind}): "),
    }
}

/// The ports that one option forwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ports(pub(super) Vec<Forwarded>);

pub(super) fn parse_ports(text: &str) -> Result<Ports, String> {
    ports(text).map(Ports).ok_or_else(|| {
        "write [ADDRESS:]HOST:GUEST, with numbers from 1 to 65535 or two ranges of one length, such as \
         8080:80, 5353:53/udp or 0.0.0.0:8000-8010:8000-8010"
            .to_owned()
    })
}

fn ports(text: &str) -> Option<Vec<Forwarded>> {
    let (ports, protocol) = match text.strip_suffix("/udp") {
        Some(ports) => (ports, Protocol::Udp),
        None => (text.strip_suffix("/tcp").unwrap_or(text), Protocol::Tcp),
    };
    let (front, guest) = ports.rsplit_once(':')?;
    let (address, host) = match front.rsplit_once(':') {
        Some((address, host)) => (address.parse().ok()?, host),
        None => (Ipv4Addr::LOCALHOST, front),
    };
    let (host, guest) = (range(host)?, range(guest)?);
    (host.len() == guest.len()).then(|| {
        let pairs = host.zip(guest);
        let forwarded = pairs.map(|(host, guest)| Forwarded {
            protocol,
            address,
            ..Forwarded::tcp(host, guest)
        });
        forwarded.collect()
    })
}

/// `80`, `8000-8010`.
fn range(text: &str) -> Option<RangeInclusive<u16>> {
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (port(first)?, port(last)?);
    (first <= last).then_some(first..=last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports() {
        let shown = |text: &str| {
            let ports = parse_ports(text).unwrap().0;
            let shown: Vec<_> = ports.iter().map(ToString::to_string).collect();
            shown.join(", ")
        };
        assert_eq!(shown("8080:80"), "forwards 127.0.0.1:8080 to port 80");
        assert_eq!(
            shown("5353:53/udp"),
            "forwards 127.0.0.1:5353 to port 53/udp"
        );
        assert_eq!(
            shown("0.0.0.0:80-81:8080-8081/tcp"),
            "forwards 0.0.0.0:80 to port 8080, forwards 0.0.0.0:81 to port 8081"
        );
        for bad in [
            "", "80", "80:", ":80", "0:80", "80:65536", "a:b", "1:2:3", "1:2/sctp", "x:1:2",
            "1-2:3", "2-1:2-1", "1-:1-",
        ] {
            assert!(parse_ports(bad).is_err(), "{bad}");
        }
    }
}
