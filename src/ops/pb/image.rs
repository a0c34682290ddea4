//! From what a user names to an image whose disk boots: the one place that installs.

use std::path::{Path, PathBuf};

use super::super::image_record::{self, ImageRecord};
use super::super::images::{self, FoundImage};
use super::super::machine::{self, ImageOptions};
use super::super::share::conversion::{absolute, build_nodes, name, quoted};
use super::super::share::{self};
use super::super::{Context, RecipeChoice};
use super::podman::{self, PodmanImage};
use crate::checked::Line;
use crate::failure::{Failure, Kind};
use crate::image::ContainerRef;
use crate::instruction::is_bootable;
use crate::recipe::is_dockerfile;
use crate::registry::Location;

/// Sizes are whole ones of these.
const MIB: u64 = 1 << 20;

/// How an image is installed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InstallOptions {
    /// The file system of the root; the image's own when absent.
    pub filesystem: Option<String>,
    /// What the root file system is to have, in bytes.
    pub root_size_max: Option<u64>,
    /// The least that the disk has, in bytes.
    pub disk_size: Option<u64>,
    /// Kernel arguments.
    pub kargs: Vec<String>,
    /// Where the system looks for updates, if not where its image came from.
    pub target: Option<String>,
}

impl InstallOptions {
    /// Whether the user asked for nothing.
    #[must_use]
    pub fn is_usual(&self) -> bool {
        *self == Self::default()
    }

    /// The nodes of a recipe that installs a container image so.
    fn nodes(&self, source: &str, target: Option<&str>) -> String {
        let mut node = format!("bootc {}", quoted(source));
        let mut property = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                node += &format!(" {name}={}", quoted(&value));
            }
        };
        // Rounded down: it is the most that the root may have.
        let root_size = self.root_size_max.map(|size| format!("{}M", size / MIB));
        property("filesystem", self.filesystem.clone());
        property("root-size", root_size);
        property("target", self.target.clone().or(target.map(str::to_owned)));
        if !self.kargs.is_empty() {
            let kargs: Vec<String> = self.kargs.iter().map(|karg| quoted(karg)).collect();
            node += &format!(" {{\n        karg {}\n    }}", kargs.join(" "));
        }
        if let Some(size) = self.disk_size {
            let size = size.div_ceil(MIB);
            node += &format!("\n    disk size=\"{size}M\"");
        }
        node
    }
}

/// An image that was installed to a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    pub image: FoundImage,
    pub container: ContainerRef,
}

/// A container image that a user named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Named {
    /// One that was installed before, by its id.
    Installed(ContainerRef),
    /// One in podman's storage.
    Podman(ContainerRef),
    /// One that lies somewhere.
    Elsewhere(Location, ContainerRef),
    /// A Dockerfile.
    Dockerfile(PathBuf),
    /// One that vmfab has, or builds.
    Own(String),
}

impl Named {
    /// The container image, if it is known before anything is built.
    pub(super) const fn container(&self) -> Option<&ContainerRef> {
        match self {
            Self::Installed(container)
            | Self::Podman(container)
            | Self::Elsewhere(_, container) => Some(container),
            Self::Dockerfile(_) | Self::Own(_) => None,
        }
    }
}

/// Finds the container image that a text stands for: the first digits of the id of one that was
/// installed, a name or an id in podman's storage, a reference, a layout or an archive, a Dockerfile,
/// or else what `vmfab boot` takes.
///
/// # Errors
/// There is none, or it does not boot.
pub(super) fn named(context: &Context, text: &str) -> Result<Named, Failure> {
    let is_hex = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_hex && let Some(container) = installed(context, text)? {
        return Ok(Named::Installed(container));
    }
    let stored = text.strip_prefix("containers-storage:").unwrap_or(text);
    if let Some(image) = podman::image(stored) {
        return of_podman(&image, stored);
    }
    let path = Path::new(text);
    if !machine::is_elsewhere(text) {
        return match (is_dockerfile(path), path.is_file()) {
            (true, true) => Ok(Named::Dockerfile(path.to_owned())),
            (true, false) => Err(
                Failure::new(Kind::NotFound, format!("no file {text} found"))
                    .with_help("give the path of a Containerfile, or the name of an image"),
            ),
            (false, _) => Ok(Named::Own(text.to_owned())),
        };
    }
    let location: Location = text
        .parse()
        .map_err(|error| Failure::usage(format!("{error}")))?;
    if context.offline {
        return known_by_name(context, text).map(Named::Installed);
    }
    let Some(details) = share::container_details(context, &location)? else {
        return Ok(Named::Own(text.to_owned()));
    };
    if !is_bootable(|label| details.labels.get(label).map(String::as_str)) {
        return Err(ordinary(text));
    }
    let container = ContainerRef {
        id: details.id,
        reference: Line::like(text),
    };
    Ok(Named::Elsewhere(location, container))
}

/// An image in podman's storage as a recipe has it: by its id.
fn stored(container: &ContainerRef) -> String {
    Location::Storage(container.id.to_string()).to_string()
}

fn of_podman(image: &PodmanImage, text: &str) -> Result<Named, Failure> {
    let name = image.names().first().map_or(text, String::as_str);
    if !is_bootable(|label| image.label(label)) {
        return Err(ordinary(name));
    }
    Ok(Named::Podman(ContainerRef {
        id: image.id,
        reference: Line::like(name),
    }))
}

fn ordinary(text: &str) -> Failure {
    Failure::failed(format!(
        "{text} is an ordinary container image: it has neither the label containers.bootc=1 nor \
         ostree.bootable"
    ))
    .with_help(format!(
        "start it FROM a bootc image such as quay.io/centos-bootc/centos-bootc:stream9; vmfab boot \
         {text} makes a machine whose service is the container's process"
    ))
}

/// The container image whose id begins with these digits, of those that have a machine or that
/// were installed.
fn installed(context: &Context, digits: &str) -> Result<Option<ContainerRef>, Failure> {
    let mut found: Vec<ContainerRef> = Vec::new();
    let machines = super::list(context)?.into_iter();
    let containers = machines.map(|machine| machine.container);
    for container in containers.chain(recorded(context).map(|(container, _)| container)) {
        let is_new = !found.iter().any(|one| one.id == container.id);
        if is_new && super::begins(&container, digits) {
            found.push(container);
        }
    }
    match found.len() {
        0 => Ok(None),
        1 => Ok(found.pop()),
        _ => {
            let ids: Vec<_> = found.iter().map(|one| one.id.short()).collect();
            let message = format!("several images have an id that begins with \"{digits}\"");
            Err(Failure::usage(message).with_help(format!("give more digits: {}", ids.join(", "))))
        }
    }
}

/// The container image that had this name when it was installed last, for those who use no network.
fn known_by_name(context: &Context, name: &str) -> Result<ContainerRef, Failure> {
    let mut named: Vec<_> = recorded(context)
        .filter(|(container, _)| &*container.reference == name)
        .collect();
    named.sort_by_key(|(_, image)| image.created);
    let last = named.pop().map(|(container, _)| container);
    last.ok_or_else(|| {
        let message = format!("offline, and vmfab has not installed {name} before");
        Failure::failed(message).with_help("run it once without --offline")
    })
}

/// The container images that were installed and are in the store, with what they became.
pub(super) fn recorded(context: &Context) -> impl Iterator<Item = (ContainerRef, FoundImage)> {
    image_record::images(context).filter_map(|image| {
        let container = ImageRecord::of(context, &image)?.container?;
        Some((container, images::find(context, &image.to_string()).ok()?))
    })
}

/// Installs what a text names (a reference, a layout, an image in podman's storage, a Dockerfile) to
/// a disk, unless the store has it.
///
/// # Errors
/// There is no such image, or it cannot be installed.
pub fn install(
    context: &Context,
    text: &str,
    options: &InstallOptions,
) -> Result<Installed, Failure> {
    image_of(context, &named(context, text)?, options)
}

/// The files of what a text names as a disk that boots without an installation.
///
/// # Errors
/// There is no such image, or it is installed already.
pub fn tree(context: &Context, text: &str) -> Result<FoundImage, Failure> {
    let of = |shown: &str, source: &str| {
        let nodes = format!("bootc {} install=#false", quoted(source));
        built(context, &format!("{}-tree", image_name(shown)), &nodes)
    };
    match named(context, text)? {
        Named::Podman(container) => of(&container.reference, &stored(&container)),
        Named::Elsewhere(location, _) => of(&location.to_string(), &source_of(&location)),
        Named::Dockerfile(path) => {
            let (own, whole) = dockerfile(&path)?;
            of(&own, &whole)
        }
        Named::Installed(container) => match named(context, &container.reference)? {
            Named::Installed(_) => Err(already(text)),
            _ => tree(context, &container.reference),
        },
        Named::Own(text) => {
            images::find(context, &text)?;
            Err(already(&text))
        }
    }
}

/// There are no files of a container any more.
fn already(text: &str) -> Failure {
    Failure::usage(format!("{text} is a disk already"))
        .with_help("name a container image or a Containerfile; vmfab boot --rm boots a disk")
}

/// Installs a container image to a disk, unless the store has it.
///
/// # Errors
/// It cannot be pulled or installed.
pub(super) fn image_of(
    context: &Context,
    named: &Named,
    options: &InstallOptions,
) -> Result<Installed, Failure> {
    let (image, container) = match named {
        Named::Installed(container) => {
            let mut known = recorded(context).filter(|(one, _)| one.id == container.id);
            let found = match known.next().filter(|_| options.is_usual()) {
                Some((_, image)) => image,
                None => again(context, container, options)?,
            };
            (found, container.clone())
        }
        Named::Podman(container) => {
            let mut known = recorded(context).filter(|(one, _)| one.id == container.id);
            if let Some((_, image)) = known.next().filter(|_| options.is_usual()) {
                return Ok(Installed {
                    image,
                    container: container.clone(),
                });
            }
            let source = stored(container);
            let target = Some(&*container.reference);
            let image = install_from(context, &container.reference, &source, target, options)?;
            (image, container.clone())
        }
        Named::Elsewhere(location, container) => {
            let image = from(context, location, options)?;
            (image, container.clone())
        }
        Named::Dockerfile(path) => {
            let (own, whole) = dockerfile(path)?;
            let image = install_from(context, &own, &whole, None, options)?;
            let container = as_container(&image, &path.to_string_lossy());
            (image, container)
        }
        Named::Own(text) => {
            if !options.is_usual() {
                let message = format!("{text} is an image of vmfab, and installed already");
                let help = "give the options of the installation with a container image or a \
                            Containerfile, or write them into the recipe";
                return Err(Failure::usage(message).with_help(help));
            }
            let image = own(context, text)?;
            let container = as_container(&image, text);
            (image, container)
        }
    };
    if !matches!(named, Named::Own(_))
        && let Some(mut record) = ImageRecord::of(context, &image.image)
    {
        record.container = Some(container.clone());
        record.replace(context, &image.image);
    }
    Ok(Installed { image, container })
}

/// Installs what lies somewhere. Its updates come from there, if that is a registry.
fn from(
    context: &Context,
    location: &Location,
    options: &InstallOptions,
) -> Result<FoundImage, Failure> {
    let shown = location.to_string();
    install_from(context, &shown, &source_of(location), None, options)
}

/// A location as a recipe has it.
fn source_of(location: &Location) -> String {
    match location {
        Location::Registry(_) => format!("oci://{location}"),
        local => absolute(local),
    }
}

/// What the image of a Dockerfile is named after, and its whole path.
fn dockerfile(path: &Path) -> Result<(String, String), Failure> {
    let whole = path.canonicalize().map_err(Failure::io("open", path))?;
    let own = whole.parent().and_then(Path::file_name);
    let own = own.unwrap_or_default().to_string_lossy();
    Ok((own.into_owned(), whole.to_string_lossy().into_owned()))
}

/// Installs a container image that has another installation, or had one.
fn again(
    context: &Context,
    container: &ContainerRef,
    options: &InstallOptions,
) -> Result<FoundImage, Failure> {
    let reference = &container.reference;
    match named(context, reference)? {
        Named::Installed(_) | Named::Own(_) => Err(Failure::new(
            Kind::NotFound,
            format!(
                "the image {} is not in the store any more",
                container.id.short()
            ),
        )
        .with_help(format!("run it by its name: {reference}"))),
        found => {
            if found.container().is_some_and(|now| now.id != container.id) {
                let id = container.id.short();
                let message = format!("{reference} is another image than {id} now");
                return Err(Failure::new(Kind::NotFound, message)
                    .with_help("run it by its name, or by its digest"));
            }
            Ok(image_of(context, &found, options)?.image)
        }
    }
}

/// Builds the disk of a container image at `source`, named after `text`.
fn install_from(
    context: &Context,
    text: &str,
    source: &str,
    target: Option<&str>,
    options: &InstallOptions,
) -> Result<FoundImage, Failure> {
    built(context, &image_name(text), &options.nodes(source, target))
}

/// What an image of vmfab is called after a container image or a Dockerfile.
fn image_name(text: &str) -> String {
    let last = text.rsplit('/').next().unwrap_or(text);
    name(last.split([':', '@']).next().unwrap_or(last))
}

/// Builds an image of these nodes, and tags it with its name.
fn built(context: &Context, own: &str, nodes: &str) -> Result<FoundImage, Failure> {
    let built = build_nodes(context, own, nodes, vec![own.parse()?])?;
    images::find(context, &built.image.to_string())
}

/// An image of vmfab's: of a tag or a recipe, which is built first.
fn own(context: &Context, text: &str) -> Result<FoundImage, Failure> {
    let options = ImageOptions {
        choice: RecipeChoice {
            recipe: text.to_owned(),
            ..RecipeChoice::default()
        },
        ..ImageOptions::default()
    };
    machine::image(context, options)
}

/// How an image without a container in a registry is listed: by vmfab's id.
fn as_container(image: &FoundImage, text: &str) -> ContainerRef {
    ContainerRef {
        id: *image.image.digest(),
        reference: Line::like(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_become_nodes() {
        let usual = InstallOptions::default();
        assert_eq!(usual.nodes("oci://a/b:1", None), "bootc \"oci://a/b:1\"");
        let options = InstallOptions {
            filesystem: Some("xfs".to_owned()),
            root_size_max: Some(8_000_000_000),
            disk_size: Some(20_000_000_000),
            kargs: vec!["a=$b".to_owned(), "quiet".to_owned()],
            target: None,
        };
        assert_eq!(
            options.nodes("oci:x", Some("a/b:1")),
            "bootc \"oci:x\" filesystem=\"xfs\" root-size=\"7629M\" target=\"a/b:1\" {\n        \
             karg \"a=$$b\" \"quiet\"\n    }\n    disk size=\"19074M\""
        );
    }
}
