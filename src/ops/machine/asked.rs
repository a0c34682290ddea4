//! Directories of this host that an image asks for: a machine gets those that the user gives it.

use std::path::Path;

use super::super::Context;
use super::super::images::FoundImage;
use crate::event::Event;
use crate::failure::Failure;
use crate::image::{AskedShare, Hardware, Mount, Mounted};

/// Those that the user has not given yet.
fn open<'a>(image: &'a FoundImage, mounts: &'a [Mount]) -> impl Iterator<Item = &'a AskedShare> {
    let given = |share: &&AskedShare| mounts.iter().any(|mount| mount.at == share.at);
    let shares = image.config.template.shares.iter();
    shares.filter(move |share| !given(share))
}

fn message(image: &FoundImage, share: &AskedShare, directory: &str) -> String {
    let read_only = if share.read_only { ", read-only" } else { "" };
    format!(
        "image \"{}\" asks for the directory {directory} of this host, at {} of the machine{read_only}",
        image.config.template.name, share.at
    )
}

/// Asks for each directory that the user has not given, and gives those to which the answer is yes.
/// `None` stands for nobody to ask.
///
/// # Errors
/// There is nobody to ask, or no such directory.
pub fn ask_for_shares(
    image: &FoundImage,
    hardware: &mut Hardware,
    ask: impl Fn(&str) -> Result<Option<bool>, Failure>,
) -> Result<(), Failure> {
    let asked: Vec<_> = open(image, &hardware.mounts).cloned().collect();
    for share in asked {
        let (host, at) = (&*share.host, &share.at);
        let refuse = |help: String| {
            let message = message(image, &share, host);
            Failure::usage(message).with_help(format!("{help}, or none: --no-shares"))
        };
        let path = Path::new(host)
            .canonicalize()
            .ok()
            .filter(|path| path.is_dir())
            .ok_or_else(|| {
                let help = "it does not exist here: share another one: --volume DIRECTORY:";
                refuse(format!("{help}{at}"))
            })?;
        let given = ask(&message(image, &share, &path.to_string_lossy()))?;
        let given = given.ok_or_else(|| {
            let here = if host.starts_with('.') { "" } else { "./" };
            let read_only = if share.read_only { ":ro" } else { "" };
            refuse(format!("share it: --volume {here}{host}:{at}{read_only}"))
        })?;
        if given {
            hardware.mounts.push(Mount {
                what: Mounted::Share(path),
                at: share.at,
                read_only: share.read_only,
            });
        }
    }
    Ok(())
}

/// Makes sure that a project says of each directory whether its machine gets it.
pub(in crate::ops) fn require_shares(image: &FoundImage, mounts: &[Mount]) -> Result<(), Failure> {
    let Some(share) = open(image, mounts).next() else {
        return Ok(());
    };
    let (host, at) = (&share.host, &share.at);
    Err(Failure::usage(message(image, share, host)).with_help(format!(
        "share it in the machine's node of vmfab.kdl: share \"NAME\" host=\"{host}\" guest=\"{at}\", or \
         none: image-shares=#false"
    )))
}

/// Warns of hardware that the user asked for, and that is less than the image needs.
pub(in crate::ops) fn tell_requirements(context: &Context, image: &FoundImage, asked: &Hardware) {
    let template = &image.config.template;
    for (option, has, needs) in template.requires.lacking(asked) {
        context.emit(Event::Warning {
            message: format!(
                "image \"{}\" requires {option} {needs}, and the machine gets {has}: vmfab set \
                 NAME {option}={needs} gives it more",
                template.name
            ),
        });
    }
}

/// Tells what a machine is made without.
pub(in crate::ops) fn tell_shares(context: &Context, image: &FoundImage, mounts: &[Mount]) {
    for share in open(image, mounts) {
        context.emit(Event::Note {
            message: format!(
                "the machine has no directory of this host at {}, which its image asks for",
                share.at
            ),
        });
    }
}
