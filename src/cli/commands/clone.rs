//! `vmfab clone`

use clap::Args;

use super::super::Status;
use super::super::session::Session;
use super::boot::parse_name;
use super::create::text;
use super::hardware::parse_memory;
use crate::failure::{Failure, Kind};
use crate::image::Hardware;
use crate::machine::MachineName;
use crate::ops::machine::{self, CreateOptions};
use crate::ops::{images, snapshot};

/// Create a machine from another one, with an identity of its own
///
/// The clone shares everything that the machine has written so far, and takes no time and no space.
/// The machine goes on. The clone has its own key, address, ports and host name. Its first start
/// also renews its machine id and SSH host keys, which takes one boot more.
///
/// Of an image, it creates a machine as vmfab create does.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab clone web web-2
  vmfab clone web big --memory 8G --cpus 8
  vmfab clone @docker web")]
pub(crate) struct Clone {
    /// Name of the machine, or @tag of an image
    #[arg(value_name = "MACHINE|@TAG")]
    source: String,

    /// Name of the new machine
    #[arg(value_parser = parse_name)]
    name: MachineName,

    /// Set the memory [default: as the source has]
    #[arg(short, long, value_name = "SIZE", value_parser = parse_memory)]
    memory: Option<u32>,

    /// Set the number of virtual processors [default: as the source has]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=255))]
    cpus: Option<u32>,
}

impl Clone {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        let context = session.context()?;
        let is_image = self.source.starts_with('@');
        let cloned = match is_image {
            true => Err(Failure::unknown("machine", &self.source)),
            false => machine::clone(context, &self.source, &self.name, self.memory, self.cpus),
        };
        let created = match cloned {
            // Only the machine may be missing: an image of that name is meant then.
            Err(error) if error.is(Kind::NotFound) => {
                if !is_image && !snapshot::is_image(context, &self.source)? {
                    return Err(error);
                }
                let image = images::find(context, &self.source)?;
                let options = CreateOptions {
                    name: Some(self.name),
                    hardware: Hardware {
                        memory_mib: self.memory,
                        cpus: self.cpus,
                        ..Hardware::default()
                    },
                    ..CreateOptions::default()
                };
                machine::create(context, &image, &options)?
            }
            result => result?,
        };
        session.print(&created, text)?;
        Ok(Status::Done)
    }
}
