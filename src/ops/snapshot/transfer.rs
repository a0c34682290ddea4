//! Snapshots as files.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Seek, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Serialize;

use super::super::image_record::{ImageRecord, ImageSource};
use super::super::machine::{keep_need, places};
use super::super::{Context, images, signatures};
use super::{find, parse, tag};
use crate::audit::Deed;
use crate::checked::Line;
use crate::config::TrustedUse;
use crate::digest::{ObjectId, ObjectRef};
use crate::event::Event;
use crate::failure::Failure;
use crate::host::file::{Durability, Replace};
use crate::image::ImageConfig;
use crate::machine::{Machines, PortableSnapshot};
use crate::share::{SnapshotContent, SnapshotFile, SnapshotKind, SnapshotManifest, read_snapshot};
use crate::store::{Store, TagName};
use crate::world::image_config;
use crate::world::signatures::{Evidence, check_evidence};

/// What to write to a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportOptions {
    /// A project snapshot, or `@name` for an image.
    pub name: String,
    /// The file, `-` for standard output; `NAME.snapshot.tar.gz` when absent.
    pub output: Option<PathBuf>,
    /// An image that the reader has.
    pub since: Option<String>,
    /// Whether a file of that name is replaced.
    pub force: bool,
}

/// A snapshot that was written to a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Exported {
    pub name: String,
    /// `-` for standard output.
    pub output: PathBuf,
    /// Bytes of the file.
    pub size: u64,
}

/// Writes a snapshot to a file.
///
/// # Errors
/// There is none of that name, or the file cannot be written.
pub fn export(context: &Context, options: &ExportOptions) -> Result<Exported, Failure> {
    let store = context.store()?;
    let bare = options.name.trim_start_matches('@').to_owned();
    let output = match &options.output {
        Some(output) => output.clone(),
        None => PathBuf::from(format!("{bare}.snapshot.tar.gz")),
    };
    if output.as_os_str() != "-" && output.exists() && !options.force {
        return Err(Failure::failed(format!("{} exists", output.display()))
            .with_help("choose another file with --output, or replace it with --force"));
    }
    let task = format!("export {}", options.name);
    let started = std::time::Instant::now();
    context.emit(Event::TaskStarted { name: task.clone() });
    let since = options.since.as_ref().map(|since| {
        let found = images::find(context, since)?;
        Ok::<_, Failure>((found.image, found.config.boot_objects()))
    });
    let content = match options.name.starts_with('@') {
        true => base_content(context, &store, &options.name, since.transpose()?)?,
        false => project_content(context, &store, &options.name, since.transpose()?)?,
    };
    let file = SnapshotFile::new(&store, content, &context.interrupt)?;
    let size = write(context, &file, &output)?;
    context.emit(Event::TaskFinished {
        name: task,
        seconds: started.elapsed().as_secs_f64(),
    });
    context.record(&Deed::SnapshotExported {
        snapshot: options.name.clone(),
        to: output.display().to_string(),
    });
    Ok(Exported {
        name: options.name.clone(),
        output,
        size,
    })
}

fn base_content(
    context: &Context,
    store: &Store,
    name: &str,
    parent: Option<(ObjectId, Vec<ObjectRef>)>,
) -> Result<SnapshotContent, Failure> {
    if tag(context, name)?.is_none() {
        let bare = name.trim_start_matches('@');
        if super::names(context)?.iter().any(|name| name == bare) {
            return Err(Failure::unknown("image", name).with_help(format!(
                "\"{bare}\" is a snapshot of a machine: vmfab snapshot export {bare}"
            )));
        }
    }
    let found = images::find(context, name)?;
    let config = found.config;
    Ok(SnapshotContent {
        name: Line::like(name.trim_start_matches('@')),
        kind: SnapshotKind::Base,
        architecture: config.template.architecture.clone(),
        created: found.created.unwrap_or_default(),
        description: config.template.description.clone(),
        disk_size: config.disk.size,
        root: found.image,
        objects: objects(store, found.image, &config)?,
        parent,
    })
}

fn project_content(
    context: &Context,
    store: &Store,
    name: &str,
    parent: Option<(ObjectId, Vec<ObjectRef>)>,
) -> Result<SnapshotContent, Failure> {
    let found = find(context, name)?;
    let snapshot = found.snapshot;
    let image = snapshot.settings.image;
    let config = image_config(store, &image)?;
    let portable = found
        .machines
        .snapshots()
        .portable(&snapshot, &config, store)?;
    let root = store.put_bytes(&portable.to_bytes())?;
    let mut all = vec![root];
    all.extend(objects(store, image, &config)?);
    all.extend(portable.objects());
    Ok(SnapshotContent {
        name: Line::like(name),
        kind: SnapshotKind::Project,
        architecture: config.template.architecture.clone(),
        created: snapshot.created,
        description: snapshot.description,
        disk_size: portable.disk_size(),
        root: root.id,
        objects: all,
        parent,
    })
}

/// An image with what it boots.
fn objects(
    store: &Store,
    image: ObjectId,
    config: &ImageConfig,
) -> Result<Vec<ObjectRef>, Failure> {
    let size = store.open_object(&image)?.size();
    let mut objects = vec![ObjectRef { id: image, size }];
    objects.extend(config.boot_objects());
    Ok(objects)
}

/// Writes the archive; gives its length.
fn write(context: &Context, file: &SnapshotFile, output: &Path) -> Result<u64, Failure> {
    let fill = |out: &mut dyn Write| -> io::Result<u64> {
        let mut counted = Counted(BufWriter::with_capacity(1 << 20, out), 0);
        if output
            .extension()
            .is_some_and(|extension| extension == "tar")
        {
            file.write(&mut counted, &context.interrupt)?;
        } else {
            // Packs are compressed already.
            let mut gzip = GzEncoder::new(&mut counted, Compression::none());
            file.write(&mut gzip, &context.interrupt)?;
            gzip.finish()?;
        }
        counted.flush()?;
        Ok(counted.1)
    };
    let mut size = 0;
    let written = match output.as_os_str() == "-" {
        true => fill(&mut io::stdout().lock()).map(|written| size = written),
        false => Replace::new(output, Durability::Whole)
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
            .fill(|mut out| fill(&mut out).map(|written| size = written)),
    };
    match written {
        Err(_) if context.interrupt.requested() => Err(Failure::interrupted()),
        Err(error) => Err(Failure::io("write", output)(error)),
        Ok(()) => Ok(size),
    }
}

struct Counted<W>(W, u64);

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.0.write(bytes)?;
        self.1 += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// What to read from a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportOptions {
    /// The file, `-` for standard input.
    pub file: PathBuf,
    /// The name that it gets; as the file says when absent.
    pub name: Option<String>,
    /// Whether another architecture is taken, and a tag replaced.
    pub force: bool,
}

/// A snapshot that came from a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Imported {
    /// Base ones with `@`.
    pub name: String,
    #[serde(rename = "type")]
    pub kind: SnapshotKind,
    /// The image, or the one that the machine is of.
    pub image: ObjectId,
}

/// Takes a snapshot from a file. It has no name before all of it was read and verified.
///
/// # Errors
/// The file is not a snapshot or damaged, it is for other processors, or its name is taken.
pub fn import(context: &Context, options: &ImportOptions) -> Result<Imported, Failure> {
    let store = context.store()?;
    let mut input: Box<dyn io::BufRead> = match options.file.as_os_str() == "-" {
        true => {
            let none = || Ok(Evidence::default());
            check_evidence(context, "file:-", TrustedUse::SnapshotImport, none)?;
            Box::new(BufReader::with_capacity(1 << 20, io::stdin().lock()))
        }
        false => {
            let mut file = File::open(&options.file).map_err(Failure::io("open", &options.file))?;
            let beside = || signatures::beside(context, &options.file, &mut file);
            let name = signatures::file_name(&options.file);
            check_evidence(context, &name, TrustedUse::SnapshotImport, beside)?;
            file.rewind().map_err(Failure::io("read", &options.file))?;
            Box::new(BufReader::with_capacity(1 << 20, file))
        }
    };
    let task = format!("import {}", options.file.display());
    let started = std::time::Instant::now();
    context.emit(Event::TaskStarted { name: task.clone() });
    let check = |manifest: &SnapshotManifest| check(context, manifest, options);
    let directory = context.home.downloads().join("snapshots");
    let manifest = read_snapshot(&store, &directory, &mut input, &context.interrupt, &check)?;
    let imported = match manifest.kind {
        SnapshotKind::Base => adopt_base(context, &store, &manifest, options),
        SnapshotKind::Project => adopt_project(context, &store, &manifest, options),
    };
    context.emit(Event::TaskFinished {
        name: task,
        seconds: started.elapsed().as_secs_f64(),
    });
    if let Ok(imported) = &imported {
        context.record(&Deed::SnapshotImported {
            snapshot: imported.name.clone(),
            from: options.file.display().to_string(),
            image: imported.image.to_string(),
        });
    }
    imported
}

/// Whether it can get its name, before much is read.
fn check(
    context: &Context,
    manifest: &SnapshotManifest,
    options: &ImportOptions,
) -> Result<(), Failure> {
    if *manifest.architecture != *std::env::consts::ARCH && !options.force {
        return Err(Failure::failed(format!(
            "the snapshot is for {}, but this host has {}",
            manifest.architecture,
            std::env::consts::ARCH
        ))
        .with_help("--force imports it nevertheless; it does not boot here"));
    }
    let name = wanted_name(manifest, options);
    match manifest.kind {
        SnapshotKind::Base => {
            let tag = base_name(name)?;
            match context.store()?.tag(&tag)? {
                Some(other) if other != manifest.root && !options.force => Err(Failure::failed(
                    format!("{tag} already names another image"),
                )
                .with_help("choose another one with --name, or replace it with --force")),
                _ => Ok(()),
            }
        }
        SnapshotKind::Project => {
            let name = project_name(name)?;
            match home(context)?.snapshots().names()?.contains(&name) {
                true => Err(
                    Failure::failed(format!("snapshot \"{name}\" already exists"))
                        .with_help("choose another name with --name"),
                ),
                false => Ok(()),
            }
        }
    }
}

fn wanted_name<'a>(manifest: &'a SnapshotManifest, options: &'a ImportOptions) -> &'a str {
    let name = options.name.as_deref();
    name.unwrap_or(&manifest.name)
}

fn base_name(name: &str) -> Result<TagName, Failure> {
    Ok(name.parse::<TagName>()?)
}

fn project_name(name: &str) -> Result<crate::machine::SnapshotName, Failure> {
    parse(name).map_err(|failure| {
        failure.with_help("the file is a snapshot of a machine: name it with --name, without @")
    })
}

/// Where project snapshots go: the project that the user is in, or the home.
fn home(context: &Context) -> Result<Machines, Failure> {
    let mut places = places(context)?;
    Ok(places.swap_remove(0))
}

fn adopt_base(
    context: &Context,
    store: &Store,
    manifest: &SnapshotManifest,
    options: &ImportOptions,
) -> Result<Imported, Failure> {
    let tag = base_name(wanted_name(manifest, options))?;
    let image = manifest.root;
    check_image(store, &image)?;
    super::save_base(context, &image, &tag, options.force)?;
    let source = ImageSource::Imported {
        from: options.file.display().to_string(),
    };
    ImageRecord::now(source).keep(context, &image);
    Ok(Imported {
        name: tag.to_string(),
        kind: SnapshotKind::Base,
        image,
    })
}

fn adopt_project(
    context: &Context,
    store: &Store,
    manifest: &SnapshotManifest,
    options: &ImportOptions,
) -> Result<Imported, Failure> {
    let name = project_name(wanted_name(manifest, options))?;
    let wrong = |why: String| {
        Failure::verification(format!("the snapshot in the file cannot be used: {why}"))
    };
    let portable =
        PortableSnapshot::from_bytes(&store.read_object(&manifest.root)?).map_err(wrong)?;
    let image = portable.image();
    let config = check_image(store, &image)?;
    if let Some(missing) = portable.objects().iter().find(|one| !store.has_object(one)) {
        return Err(wrong(format!("it lacks its object {}", missing.id.short())));
    }
    let machines = home(context)?;
    keep_need(context, &machines, image)?;
    let snapshots = machines.snapshots();
    let snapshot = snapshots.adopt(&portable, &name, &config, store, &context.interrupt)?;
    Ok(Imported {
        name: snapshot.name.to_string(),
        kind: SnapshotKind::Project,
        image,
    })
}

/// The config of an image that has all that it boots.
fn check_image(store: &Store, image: &ObjectId) -> Result<ImageConfig, Failure> {
    let wrong = |why: String| {
        Failure::verification(format!("the snapshot in the file cannot be used: {why}"))
    };
    if !store.knows(image) {
        return Err(wrong(format!("it lacks its image {}", image.short())));
    }
    let config = image_config(store, image).map_err(|error| wrong(error.to_string()))?;
    let missing = config
        .boot_objects()
        .into_iter()
        .find(|one| !store.has_object(one));
    match missing {
        Some(missing) => Err(wrong(format!("it lacks its object {}", missing.id.short()))),
        None => Ok(config),
    }
}
