//! Pushing an image as a containerDisk of KubeVirt.

use super::super::{Context, images};
use super::push::{PushImage, PushedImage, is_index, tag};
use crate::digest::Checksum;
use crate::event::Event;
use crate::failure::Failure;
use crate::registry::{Blob, Delivered, Repository, Version, media};
use crate::share::containerdisk::containerdisk;

/// Pushes an image of the store as an ordinary container image with its disk.
///
/// # Errors
/// There is no such image, or the registry does not take it.
pub fn push_containerdisk(context: &Context, options: &PushImage) -> Result<PushedImage, Failure> {
    let found = images::find(context, &options.image)?;
    let store = context.store()?;
    let tag = tag(&options.to)?;
    let repository = context.registries().open(&options.to)?;
    if let Some(tag) = &tag
        && is_index(&*repository, tag)?
    {
        return Err(Failure::usage(format!(
            "{} is an index of several architectures",
            options.to
        ))
        .with_help("push the containerdisk with another tag"));
    }
    let directory = context.home.downloads();
    std::fs::create_dir_all(&directory).map_err(Failure::io("create", &directory))?;
    let interrupt = &context.interrupt;
    let made = containerdisk(
        &store,
        &found.config,
        &options.annotations,
        &directory,
        interrupt,
    );
    let made = made?;
    if let Some(note) = &made.note {
        context.emit(Event::Note {
            message: note.clone(),
        });
    }
    let name = format!("push {} to {}", options.image, repository.name());
    let task = crate::share::Task::new(&*context.sink, interrupt, name);
    let config = Blob::of(&made.config);
    task.expect(config.size + made.layer.blob.size);
    let progress = |bytes| task.step(bytes);
    let put = |blob: &Blob, source: &dyn crate::registry::BlobSource| {
        repository.put_blob(blob, source, &[], &progress)
    };
    let layer = put(&made.layer.blob, &made.layer)?;
    put(&config, &made.config)?;
    let sent = task.moved();
    let bytes = crate::registry::to_bytes(&made.manifest);
    put_manifest(&*repository, tag, &bytes)?;
    task.done();
    drop(task);
    repository.finish()?;
    let digest = Checksum::from(Blob::of(&bytes).digest);
    Ok(PushedImage {
        image: found.image,
        reference: options.to.to_string(),
        digest: digest.clone(),
        manifest: digest,
        present: layer == Delivered::Present && sent == 0,
        sent,
        packs: 0,
        new_packs: 0,
        mounted_packs: 0,
    }
    .recorded(context))
}

pub(super) fn put_manifest(
    repository: &dyn Repository,
    tag: Option<String>,
    bytes: &[u8],
) -> Result<(), Failure> {
    match tag {
        Some(tag) => repository.put_manifest(&Version::Tag(tag), media::MANIFEST, bytes)?,
        None => repository.put_unnamed(media::MANIFEST, bytes)?,
    }
    Ok(())
}
