//! What templates of others ask for: shown, and asked about, before they are first built.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use super::super::{Context, RecipeChoice};
use crate::audit::Deed;
use crate::digest::Hasher;
use crate::event::Event;
use crate::failure::Failure;
use crate::host::file;
use crate::image::{Port, Protocol};
use crate::limits::StepBounds;
use crate::recipe::{
    Base, Content, Fetched, Image, Instruction, Kernel, Loaded, default_image, is_dockerfile,
    without_preamble,
};
use crate::text::shown_size;
use crate::world::{recipes, templates};

/// The most lines of one kind that are shown, and characters of one line.
const MOST: usize = 20;
const LONGEST: usize = 160;

/// Shows what a recipe asks for that has templates of others in it, unless this home has built it
/// with the same demands before. A user who is there must agree.
///
/// # Errors
/// The user does not agree, or the template is not there any more.
pub(in crate::ops) fn consent(context: &Context, choice: &RecipeChoice) -> Result<(), Failure> {
    let path = Path::new(&choice.recipe);
    if is_dockerfile(path) || !context.home.unpacked_templates().exists() {
        return Ok(());
    }
    // What is wrong with it, the build says.
    let Ok(loaded) = recipes::load(context, path, &choice.settings) else {
        return Ok(());
    };
    let used = templates::used(context, &loaded.files)?;
    if used.is_empty() {
        return Ok(());
    }
    let mut text = String::new();
    for one in &used {
        let _ = writeln!(text, "{} {} is a template of others", one.name, one.version);
        let _ = writeln!(text, "  {:<12} {}", "signed by", one.signed);
    }
    let image = choice.image.as_deref();
    let asked = Asked::of(&loaded, image);
    let mut hasher = Hasher::new("vmfab asked by templates v1");
    for one in &used {
        hasher.update_field(one.digest.to_string().as_bytes());
    }
    hasher.update_field(text.as_bytes());
    // Also what is too long to be shown.
    hasher.update_field(format!("{asked:?}").as_bytes());
    text += &asked.text(&context.config.limits.template_steps);
    let accepted = context.home.templates().join("accepted");
    let accepted = accepted.join(hasher.finish().to_string());
    if accepted.exists() {
        return Ok(());
    }
    match (context.agree)(&text)? {
        Some(true) => {}
        Some(false) => return Err(Failure::failed("vmfab built nothing")),
        None => context.emit(Event::Note {
            message: text.trim_end().to_owned(),
        }),
    }
    for one in &used {
        context.record(&Deed::TemplateAccepted {
            template: one.name.clone(),
            version: one.version.clone(),
            digest: one.digest.to_string(),
            signed: one.signed.clone(),
        });
    }
    // What cannot be remembered is asked again.
    let _ = file::cache(&accepted, text.as_bytes());
    Ok(())
}

/// What images ask for, each thing once.
#[derive(Debug, Default)]
struct Asked {
    fetches: BTreeSet<String>,
    network: BTreeSet<String>,
    bases: BTreeSet<String>,
    ports: BTreeSet<String>,
    directories: BTreeSet<String>,
}

impl Asked {
    /// The demands of the image that is meant; of all when that is not clear.
    fn of(loaded: &Loaded, image: Option<&str>) -> Self {
        let mut asked = Self::default();
        let names = loaded.images.iter().map(|image| image.name.value.as_str());
        let meant = match image {
            Some(image) => names.clone().position(|name| name == image),
            None => default_image(&loaded.recipe.name, names),
        };
        let meant = meant.and_then(|at| loaded.images.get(at));
        match meant {
            Some(image) => asked.image(image),
            None => loaded.images.iter().for_each(|image| asked.image(image)),
        }
        asked
    }

    fn fetched(&mut self, fetched: &Fetched) {
        self.fetches.insert(fetched.fetch.url.value.clone());
    }

    fn base(&mut self, base: &Base) {
        match base {
            Base::Image(image) => self.image(image),
            Base::Disk(fetched) | Base::Layer(fetched) => self.fetched(fetched),
            Base::Registry(image) => {
                self.bases.insert(image.shown.value.clone());
            }
            Base::Tag(tag) => {
                self.bases.insert(format!("@{}", tag.value));
            }
            Base::Bootstrap(one) => {
                let from = one.mirror.as_deref().unwrap_or("its usual archive");
                let (distribution, suite) = (&one.distribution, &one.suite);
                self.fetches
                    .insert(format!("packages of {distribution} {suite} from {from}"));
            }
            Base::Dockerfile(dockerfile) => {
                let name = &dockerfile.name;
                self.network
                    .insert(format!("what the Dockerfile of {name} runs and adds"));
            }
            Base::Bootc(bootc) => self.base(&bootc.source.value),
            Base::DiskFile(_) => {}
        }
    }

    fn image(&mut self, image: &Image) {
        self.base(&image.base);
        if let Some(Kernel::Fetched(fetched)) = &image.kernel {
            self.fetched(fetched);
        }
        if let Some(fetched) = &image.initrd {
            self.fetched(fetched);
        }
        for instruction in &image.instructions {
            match instruction {
                Instruction::Packages(packages) => {
                    let on = packages.on.values().flatten();
                    let names: Vec<&str> = packages
                        .names
                        .iter()
                        .chain(on)
                        .map(String::as_str)
                        .collect();
                    self.network.insert(format!("packages {}", names.join(" ")));
                }
                Instruction::Run(run) if run.network => {
                    let command = without_preamble(&run.command);
                    // A name alone says what its author likes.
                    let line = match &run.name {
                        Some(name) => format!("run {name:?}: {command}"),
                        None => format!("run {command}"),
                    };
                    self.network.insert(line);
                }
                Instruction::CopyFrom(copy) => self.base(&copy.from.value),
                Instruction::Layer(fetched) => self.fetched(fetched),
                Instruction::File(file) => {
                    if let Content::Fetched(fetched) = &file.content {
                        self.fetched(fetched);
                    }
                }
                _ => {}
            }
        }
        for check in image.checks.iter().filter(|check| check.network) {
            self.network.insert(format!("check {}", check.command));
        }
        for port in &image.ports {
            let Port {
                guest, protocol, ..
            } = &port.value;
            let protocol = match protocol {
                Protocol::Tcp => "",
                Protocol::Udp => "/udp",
                Protocol::Sctp => "/sctp",
            };
            let name = image.port_names.get(guest);
            let name = name.map_or_else(String::new, |name| format!(" ({name})"));
            self.ports.insert(format!("{guest}{protocol}{name}"));
        }
        for share in &image.shares {
            let read_only = if share.read_only { ", read-only" } else { "" };
            let (host, at) = (&share.host, &share.at);
            self.directories
                .insert(format!("{host} at {at}{read_only}"));
        }
    }

    fn text(&self, most: &StepBounds) -> String {
        let mut text = String::new();
        let several = [
            ("fetches", &self.fetches),
            ("network for", &self.network),
            ("starts from", &self.bases),
            ("ports", &self.ports),
            ("directories", &self.directories),
        ];
        for (title, lines) in several {
            let mut title = title;
            for line in lines.iter().take(MOST) {
                let mut line: String = line.split_whitespace().collect::<Vec<_>>().join(" ");
                if line.chars().count() > LONGEST {
                    line = line.chars().take(LONGEST).chain(['…']).collect();
                }
                let _ = writeln!(text, "  {title:<12} {line}");
                title = "";
            }
            if let Some(more) = lines.len().checked_sub(MOST).filter(|more| *more > 0) {
                let _ = writeln!(text, "  {:<12} and {more} more", "");
            }
        }
        let StepBounds {
            seconds,
            memory,
            processes,
            disk,
        } = *most;
        let (memory, disk) = (shown_size(memory), shown_size(disk));
        let _ = writeln!(
            text,
            "  {:<12} {seconds} s, {memory} of memory, {processes} processes, {disk} of disk",
            "each step"
        );
        text
    }
}
