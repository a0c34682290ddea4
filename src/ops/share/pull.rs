//! Pulling an image.

use serde::Serialize;

use super::super::image_record::{ImageRecord, ImageSource};
use super::super::{Context, images, lazy};
use super::{all_tags, conversion, pulled, sharing};
use crate::audit::Deed;
use crate::config::TrustedUse;
use crate::digest::{Checksum, ObjectId, Sha256};
use crate::event::Event;
use crate::failure::Failure;
use crate::image::ImageConfig;
use crate::registry::{
    Descriptor, Location, Manifest, Platform, Repository, ToldPlatform, Version,
};
use crate::share::published::{What, what};
use crate::share::{Artifact, IMAGE, Published, ShareError, Sharing};
use crate::store::TagName;
use crate::world::signatures;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullOptions {
    /// Where from.
    pub from: Location,
    /// Tags that are to name the image; its own name when empty.
    pub tags: Vec<TagName>,
    /// Whether all tags of the repository are pulled.
    pub all_tags: bool,
    /// For what; this host when absent.
    pub platform: Option<Platform>,
    /// Whether a machine is made of a container image.
    pub containers: bool,
    /// What it is wanted for: what must be signed may depend on that.
    pub used_for: TrustedUse,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PulledImage {
    pub image: ObjectId,
    /// Its name in the recipe.
    pub name: String,
    /// Where it is from.
    pub reference: String,
    /// The digest of its manifest.
    pub digest: Checksum,
    /// The tags that name it now, without `@`.
    pub tags: Vec<String>,
    /// Bytes that were fetched.
    pub fetched: u64,
}

/// What came of pulling.
#[derive(Debug, Default)]
pub struct Pulled {
    /// Images that are here now.
    pub images: Vec<PulledImage>,
    /// What became of the tags, of all of a repository, whose images could not be pulled.
    pub failures: Vec<Failure>,
}

/// What is under a tag or digest.
pub(super) enum Tried {
    /// An image, which is here now.
    Pulled(PulledImage),
    /// Something else, or an image for another platform only.
    Other(Failure),
}

/// An image that is to be pulled.
pub(super) struct One<'a> {
    /// What was asked for.
    pub options: &'a PullOptions,
    /// Where it is.
    pub repository: &'a dyn Repository,
    /// Which one it is there.
    pub version: &'a Version,
    /// Which one the user asked for.
    pub asked: &'a Version,
    /// What it is called in messages.
    pub name: &'a str,
    /// Its tag, where all of the repository are pulled: a part of the new one.
    pub tag: Option<&'a str>,
}

/// Pulls an image, or all of a repository, and tags what was pulled. Of all, tags of other things
/// are passed over, and one that fails does not keep the others from being pulled.
///
/// # Errors
/// There is none, it is none of vmfab's or for another platform, it is not what its digests say, or
/// the registry fails. What was fetched until then stays.
pub fn pull(context: &Context, options: &PullOptions) -> Result<Pulled, Failure> {
    let repository = context.registries().open(&options.from)?;
    if options.all_tags {
        return all_tags::pull(context, &*repository, options);
    }
    let version = match options.from.version() {
        Some(version) => version,
        None => repository.only_version()?,
    };
    let name = options.from.to_string();
    let one = One {
        options,
        repository: &*repository,
        version: &version,
        asked: &version,
        name: &name,
        tag: None,
    };
    match one.pull(context)? {
        Tried::Pulled(image) => Ok(Pulled {
            images: vec![image],
            failures: Vec::new(),
        }),
        Tried::Other(error) => Err(error),
    }
}

/// Pulls the image of a manifest that `from` stood for before, and tags it.
///
/// # Errors
/// See [`pull`].
pub(in crate::ops) fn pull_rest(
    context: &Context,
    from: &Location,
    repository: &dyn Repository,
    digest: Sha256,
) -> Result<(), Failure> {
    let options = PullOptions {
        from: from.clone(),
        tags: Vec::new(),
        all_tags: false,
        platform: None,
        containers: false,
        used_for: TrustedUse::Boot,
    };
    let version = Version::Digest(digest);
    let one = One {
        options: &options,
        repository,
        version: &version,
        asked: &from.version().unwrap_or_else(|| version.clone()),
        name: &from.to_string(),
        tag: None,
    };
    match one.pull(context)? {
        Tried::Pulled(_) => Ok(()),
        Tried::Other(error) => Err(error),
    }
}

impl One<'_> {
    /// Pulls it.
    ///
    /// # Errors
    /// See [`pull`].
    pub(super) fn pull(&self, context: &Context) -> Result<Tried, Failure> {
        let store = context.store()?;
        let sharing = sharing(context, &store);
        let platform = self.options.platform.clone();
        let platform = platform.unwrap_or_else(Platform::host);
        let found = match sharing.find(self.repository, self.version, &platform) {
            Err(error @ ShareError::Platform { .. }) => return Ok(Tried::Other(error.into())),
            found => found?.ok_or_else(|| missing(self.name, self.repository))?,
        };
        let is_container = matches!(what(&found.manifest, None), What::Container { .. });
        let mut service = false;
        let artifact = match &found.artifact {
            Some(artifact) if artifact.kind == IMAGE => Some(artifact),
            None if is_disk(&sharing, self.repository, &found.manifest)? => None,
            None if is_container && self.options.containers => {
                service = true;
                None
            }
            _ => {
                let other = no_image(&self.options.from, self.name, &found.manifest);
                return Ok(Tried::Other(other));
            }
        };
        if let Some(error) = self.other_platform(&sharing, &found)? {
            return Ok(Tried::Other(error.into()));
        }
        let digests = found.signed_digests();
        signatures::check(context, &self.options.from, &digests, self.options.used_for)?;
        let pulled = match artifact {
            Some(artifact) => self.image(context, &sharing, &found, artifact)?,
            None => match self.not_for_host(&sharing, &found)? {
                Some(error) => return Ok(Tried::Other(error)),
                None => self.others(context, &found, service)?,
            },
        };
        let (from, image) = (&self.options.from, pulled.image);
        let record = ImageRecord::now(ImageSource::pulled(from, self.name));
        match artifact {
            Some(_) => record.keep(context, &image),
            // A recipe that nobody wrote took it.
            None => record.replace(context, &image),
        }
        context.record(&Deed::ImagePulled {
            image: image.to_string(),
            from: self.name.to_owned(),
            digest: pulled.digest.to_string(),
            tags: pulled.tags.clone(),
        });
        pulled::note(context, from, self.asked, found.digest, &platform, image);
        Ok(Tried::Pulled(pulled))
    }

    /// Brings an image of vmfab's, and tags it.
    fn image(
        &self,
        context: &Context,
        sharing: &Sharing<'_>,
        found: &Published,
        artifact: &Artifact,
    ) -> Result<PulledImage, Failure> {
        let (image, config, fetched) = bring(sharing, self.repository, artifact, self.name)?;
        keep_boot_order(context, sharing, self.repository, artifact, &config);
        let own = own_tag(&config, self.repository);
        let mut tags = match (self.options.tags.as_slice(), self.tag) {
            ([], None) => vec![own?],
            ([], Some(tag)) => vec![all_tags::name(own?.as_str(), tag)?],
            (tags, _) => tags.to_vec(),
        };
        tags.dedup();
        for tag in &tags {
            let before = sharing.store.tag(tag)?;
            if before != Some(image) {
                sharing.store.put_tag(tag, &image)?;
                note_moved(context, tag, before, &image);
            }
        }
        Ok(PulledImage {
            image,
            name: config.template.name.into(),
            reference: self.name.to_owned(),
            digest: found.digest.into(),
            tags: tags.iter().map(|tag| tag.as_str().to_owned()).collect(),
            fetched,
        })
    }

    /// Makes an image of a disk of others, or of a container image whose process is a service.
    fn others(
        &self,
        context: &Context,
        found: &Published,
        service: bool,
    ) -> Result<PulledImage, Failure> {
        let own = conversion::name(&last_part(self.repository));
        let size = found.manifest.layers().iter().map(Descriptor::size).sum();
        let tags = match self.tag {
            Some(tag) => vec![all_tags::name(&own, tag)?],
            None => self.options.tags.clone(),
        };
        let location = match (&self.options.from, self.version) {
            (Location::Registry(reference), version) => Location::Registry(reference.with(version)),
            (Location::Layout { path, .. }, Version::Tag(tag)) => Location::Layout {
                path: path.clone(),
                tag: Some(tag.clone()),
            },
            (Location::Archive { path, .. }, Version::Tag(tag)) => Location::Archive {
                path: path.clone(),
                tag: Some(tag.clone()),
            },
            (local, _) => local.clone(),
        };
        let from = conversion::Foreign {
            location: &location,
            digest: found.digest,
            service,
        };
        conversion::pull(context, &from, &own, size, &tags)
    }

    /// The error for what no index names, and says that it is not for the platform that is asked
    /// for.
    fn other_platform(
        &self,
        sharing: &Sharing<'_>,
        found: &Published,
    ) -> Result<Option<ShareError>, Failure> {
        let wanted = self.options.platform.as_ref();
        let Some(wanted) = wanted.filter(|_| !found.is_indexed()) else {
            return Ok(None);
        };
        let told: Option<Platform> = match &found.artifact {
            Some(artifact) => {
                let config = sharing.config(self.repository, artifact)?;
                let config = ImageConfig::from_bytes(&config).ok();
                config.map(|config| Platform::linux(&config.template.architecture))
            }
            None => {
                let config = sharing.config_of_others(self.repository, &found.manifest)?;
                let told: Option<ToldPlatform> = serde_json::from_slice(&config).ok();
                told.map(Platform::from)
            }
        };
        let other = told.filter(|told| told.is_other_than(wanted));
        Ok(other.map(|told| ShareError::Platform {
            place: self.name.to_owned(),
            platform: wanted.to_string(),
            there: vec![told.to_string()],
        }))
    }

    /// The error for a disk of others that is not for this host: the recipe that takes it is
    /// planned for this host's architecture, and chooses in layouts and archives by it.
    fn not_for_host(
        &self,
        sharing: &Sharing<'_>,
        found: &Published,
    ) -> Result<Option<Failure>, Failure> {
        let host = Platform::host();
        let Some(wanted) = &self.options.platform else {
            return Ok(None);
        };
        let chosen_again = matches!(self.version, Version::Tag(_))
            && !matches!(self.options.from, Location::Registry(_));
        let is_other = wanted.is_other_than(&host)
            || chosen_again
                && sharing
                    .find(self.repository, self.version, &host)?
                    .is_none_or(|again| again.digest != found.digest);
        Ok(is_other.then(|| Failure::usage(format!(
                "{} is a disk of others: these are taken for this host's architecture only, {host}, and not for {wanted}",
                self.name
            )).with_help("pull it on a host of that architecture, or leave out --platform")))
    }
}

/// Says that a tag names another image than before.
pub(super) fn note_moved(
    context: &Context,
    tag: &TagName,
    before: Option<ObjectId>,
    image: &ObjectId,
) {
    if let Some(before) = before.filter(|before| before != image) {
        let (before, image) = (before.short(), image.short());
        context.emit(Event::Note {
            message: format!("{tag} named {before}, and names {image} now"),
        });
    }
}

/// Brings an image into the store; tells how many bytes that took.
pub(in crate::ops) fn bring(
    sharing: &Sharing<'_>,
    repository: &dyn Repository,
    artifact: &Artifact,
    name: &str,
) -> Result<(ObjectId, ImageConfig, u64), Failure> {
    let wrong = |what: String| Failure::verification(format!("{name}: {what}"));
    let pulled = sharing.pull(repository, artifact, None, name)?;
    let config = ImageConfig::from_bytes(&pulled.config)
        .map_err(|error| wrong(format!("its config is {error}")))?;
    for object in config.boot_objects() {
        if !pulled.objects.contains(&object) && !sharing.store.has_object(&object) {
            let object = object.id.short();
            return Err(wrong(format!("its object {object} is not in the artifact")));
        }
    }
    let image = sharing.store.put_bytes(&pulled.config)?;
    Ok((image.id, config, pulled.fetched))
}

/// Keeps what a boot reads, for whoever gets the image from here. An image without it boots as well.
fn keep_boot_order(
    context: &Context,
    sharing: &Sharing<'_>,
    repository: &dyn Repository,
    artifact: &Artifact,
    config: &ImageConfig,
) {
    match sharing.boot_order(repository, artifact, config.disk.size) {
        Ok(None) => {}
        Ok(Some(order)) => lazy::order::keep(context, &config.disk, &order),
        Err(error) => context.emit(Event::Warning {
            message: format!("pulled without its boot order: {error}"),
        }),
    }
}

/// The tag that an image gets when none is asked for: its name in the recipe, or that of the
/// repository.
fn own_tag(config: &ImageConfig, repository: &dyn Repository) -> Result<TagName, Failure> {
    let tag = config.template.name.parse();
    let tag = tag.or_else(|_| last_part(repository).parse());
    tag.map_err(|_| {
        Failure::usage(format!("\"{}\" cannot be a tag", config.template.name))
            .with_help("give one with --tag")
    })
}

/// The last part of a repository's name.
fn last_part(repository: &dyn Repository) -> String {
    let name = repository.name();
    let last = name.rsplit(['/', ':']).next().unwrap_or(&name);
    last.trim_end_matches(".tar").to_owned()
}

/// Whether a manifest is that of a disk, or of a container image that has nothing but one.
fn is_disk(
    sharing: &Sharing<'_>,
    repository: &dyn Repository,
    manifest: &Manifest,
) -> Result<bool, Failure> {
    let is = match what(manifest, None) {
        What::Container { .. } => {
            let config = sharing.config_of_others(repository, manifest)?;
            what(manifest, Some(&config))
        }
        other => other,
    };
    Ok(matches!(
        is,
        What::Disk(_)
            | What::Container {
                looks_like_disk: true
            }
    ))
}

pub(super) fn missing(name: &str, repository: &dyn Repository) -> Failure {
    Failure::unknown("image", name).with_help(format!(
        "\"vmfab tags {}\" lists the tags",
        repository.name()
    ))
}

/// What is said of a manifest that is no image: a recipe can start from a container image.
fn no_image(from: &Location, name: &str, manifest: &Manifest) -> Failure {
    let scheme = match from {
        Location::Registry(_) => "oci://",
        _ => "",
    };
    let (is, help) = match what(manifest, None) {
        What::Container { .. } => (
            "a container image".to_owned(),
            Some(format!(
                "use it as a base in a recipe: from \"{scheme}{name}\""
            )),
        ),
        What::Other(other) => (other, None),
        What::Vmfab(kind) => (format!("an artifact of the type {kind}"), None),
        What::Disk(_) => ("a disk".to_owned(), None),
    };
    Failure::failed(format!("{name} is not a vmfab image: it is {is}")).and_help(help)
}

/// The image that a user named by where it lies, which is pulled when it is not here; of a
/// container image a machine is made that runs its process. Who does not use the network gets what
/// was pulled from there last. With `lazy` the disk need not be here yet.
///
/// # Errors
/// See [`pull`]; nothing is here.
pub fn named(
    context: &Context,
    from: &Location,
    lazy: bool,
) -> Result<images::FoundImage, Failure> {
    if let Location::Registry(reference) = from
        && context.offline
    {
        let found = pulled::find(context, reference, &Platform::host());
        return found.map_err(|error| lazy::missing_of(context, from).unwrap_or(error));
    }
    if lazy && let Some(found) = lazy::begin(context, from)? {
        return Ok(found);
    }
    let options = PullOptions {
        from: from.clone(),
        tags: Vec::new(),
        all_tags: false,
        platform: None,
        containers: true,
        used_for: TrustedUse::Boot,
    };
    let pulled = pull(context, &options)?;
    let image = pulled.images.first().map(|image| image.image.to_string());
    images::find(context, &image.unwrap_or_default())
}
