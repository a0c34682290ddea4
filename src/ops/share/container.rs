//! Pushing the tree of an image as an ordinary container image.

use super::super::{Context, images};
use super::containerdisk::put_manifest;
use super::push::{PushImage, PushedImage, index_of, tag};
use crate::failure::Failure;
use crate::registry::{Blob, Described, Platform, descriptor, media, to_bytes};
use crate::share::Task;
use crate::share::container::{Container, layer};

/// Pushes the tree of an image of the store as an ordinary container image.
///
/// # Errors
/// There is no such image, it has no layers here, or the registry does not take it.
pub fn push_container(context: &Context, options: &PushImage) -> Result<PushedImage, Failure> {
    let found = images::find(context, &options.image)?;
    let store = context.store()?;
    let short = found.image.short();
    let mut container = Container::of(&found.config).ok_or_else(|| {
        let message = format!("image {short} is made from a disk: it has no layers");
        Failure::failed(message).with_help("push it without --layout container")
    })?;
    let objects = container.objects();
    if !objects.iter().all(|object| store.has_object(object)) {
        let message = format!("not all layers of image {short} are in the store");
        let help = "build it again, or pull it from where it was pushed with --layers";
        return Err(Failure::failed(message).with_help(help));
    }
    let tag = tag(&options.to)?;
    let repository = context.registries().open(&options.to)?;
    let index = index_of(&*repository, options, tag.as_deref())?;
    let directory = context.home.downloads();
    std::fs::create_dir_all(&directory).map_err(Failure::io("create", &directory))?;
    let interrupt = &context.interrupt;
    let name = format!("push {} to {}", options.image, repository.name());
    let task = Task::new(&*context.sink, interrupt, name);
    let progress = |bytes| task.step(bytes);
    for object in objects {
        let (file, diff_id) = layer(&store, object, &directory, interrupt)?;
        task.expect(file.blob.size);
        repository.put_blob(&file.blob, &file, &[], &progress)?;
        container.add(&file.blob, &diff_id);
    }
    let (manifest, config) = container.finish(&options.annotations);
    let blob = Blob::of(&config);
    task.expect(blob.size);
    repository.put_blob(&blob, &config, &[], &progress)?;
    let sent = task.moved();
    let bytes = to_bytes(&manifest);
    let manifest = Blob::of(&bytes);
    let mut digest = manifest.digest;
    match index {
        None => put_manifest(&*repository, tag, &bytes)?,
        Some(version) => {
            let own = crate::registry::Version::Digest(manifest.digest);
            repository.put_manifest(&own, media::MANIFEST, &bytes)?;
            let mut entry = descriptor(media::MANIFEST, &manifest);
            entry.set_for(&Platform::linux(&found.config.template.architecture));
            let sharing = super::sharing(context, &store);
            digest = sharing.index(&*repository, &version, entry)?.digest;
        }
    }
    task.done();
    drop(task);
    repository.finish()?;
    Ok(PushedImage {
        image: found.image,
        reference: options.to.to_string(),
        digest: digest.into(),
        manifest: manifest.digest.into(),
        present: sent == 0,
        sent,
        packs: 0,
        new_packs: 0,
        mounted_packs: 0,
    }
    .recorded(context))
}
