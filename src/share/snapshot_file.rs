//! Snapshots as one file (`store-format/snapshots.md`): a tar with a manifest, the lists of objects,
//! and packs.
//!
//! A file is read from front to back, so a pipe will do. The manifest comes first and names every
//! other member, in order, with its length and checksum: whatever else an archive says is refused.
//! Packs go into the store while they are read, and nothing there names what is in them before each
//! chunk was decoded and compared with its digest.

use std::collections::HashSet;
use std::io::{self, BufRead, Read, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::checked::{Line, Text, Word};
use crate::digest::{Digest, ObjectId, ObjectRef, Sha256};
use crate::failure::Failure;
use crate::host::{Interrupt, free_space};
use crate::store::{ChunkList, OutgoingPack, Parts, Store, StoreError};
use crate::tarball::{Compression, Kind as MemberKind, Member, Reader, Writer};

/// The version that this program writes, and the newest that it reads.
const VERSION: u32 = 1;
const MANIFEST: &str = "manifest.json";
/// The longest manifest that is read, in bytes.
const MAX_MANIFEST: u64 = 16 << 20;
/// The longest list, or content of a small object, that is read, in bytes.
const MAX_LIST: u64 = 1 << 30;
/// The most objects and packs.
const MAX_MEMBERS: usize = 100_000;
/// A pack ends with the chunk that reaches this many bytes.
const PACK: u64 = 64 << 20;

/// What the file is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SnapshotKind {
    /// An image.
    Base,
    /// A machine at one moment.
    Project,
}

/// What a manifest says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Format {
    #[serde(rename = "vmfab-snapshot")]
    Snapshot,
}

/// `manifest.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SnapshotManifest {
    format: Format,
    version: u32,
    /// Without `@`.
    pub name: Line,
    #[serde(rename = "type")]
    pub kind: SnapshotKind,
    /// `x86_64` or `aarch64`.
    pub architecture: Word,
    /// In seconds since 1970.
    pub created: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<Text>,
    /// Bytes of the disks, as the guest sees them.
    pub disk_size: u64,
    /// The config of the image, or what a project snapshot is.
    pub root: ObjectId,
    /// The image that must be in the store before: its chunks were left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<ObjectId>,
    objects: Vec<ListMember>,
    packs: Vec<PackMember>,
}

/// An object: its list, or all of a small one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct ListMember {
    id: ObjectId,
    /// Bytes of the object.
    size: u64,
    /// Whether the member is the content itself.
    content: bool,
    /// Bytes of the member.
    length: u64,
    sha256: Sha256,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct PackMember {
    sha256: Sha256,
    /// Bytes of the member.
    length: u64,
    /// Where its table begins.
    table: u64,
}

impl ListMember {
    fn name(&self) -> String {
        format!("objects/{}", self.id)
    }
}

impl PackMember {
    fn name(&self) -> String {
        format!("packs/{}.pack", self.sha256)
    }
}

/// What is to be in a file.
pub struct SnapshotContent {
    pub name: Line,
    pub kind: SnapshotKind,
    pub architecture: Word,
    pub created: u64,
    pub description: Option<Text>,
    pub disk_size: u64,
    pub root: ObjectId,
    /// The root, and all that it names.
    pub objects: Vec<ObjectRef>,
    /// An image whose objects the reader has.
    pub parent: Option<(ObjectId, Vec<ObjectRef>)>,
}

/// A file that can be written.
pub struct SnapshotFile {
    manifest: SnapshotManifest,
    lists: Vec<Vec<u8>>,
    packs: Vec<OutgoingPack>,
}

impl SnapshotFile {
    /// Reads all that goes into the file once, for the checksums.
    ///
    /// # Errors
    /// An object is not in the store or damaged, or the user gave up.
    pub fn new(
        store: &Store,
        content: SnapshotContent,
        interrupt: &Interrupt,
    ) -> Result<Self, Failure> {
        let mut known = HashSet::new();
        let parent = content.parent.map(|(parent, objects)| {
            for object in objects {
                if let Parts::List(list) = store.parts(&object.id)? {
                    known.extend(list.chunks.iter().map(|chunk| chunk.id));
                }
            }
            Ok::<_, StoreError>(parent)
        });
        let parent = parent.transpose()?;
        let (mut members, mut lists, mut seen) = (Vec::new(), Vec::new(), HashSet::new());
        let (mut chunks, mut packs) = (Chunks::default(), Vec::new());
        for object in content.objects {
            if !seen.insert(object.id) {
                continue;
            }
            let (is_content, bytes) = match store.parts(&object.id)? {
                Parts::Blob(bytes) => (true, bytes),
                Parts::List(list) => {
                    for chunk in &list.chunks {
                        if interrupt.requested() {
                            return Err(Failure::interrupted());
                        }
                        if known.insert(chunk.id) {
                            packs.extend(chunks.add(store, chunk.id)?);
                        }
                    }
                    (false, list.encode())
                }
            };
            members.push(ListMember {
                id: object.id,
                size: object.size,
                content: is_content,
                length: bytes.len() as u64,
                sha256: Sha256::of(&bytes),
            });
            lists.push(bytes);
        }
        packs.extend(chunks.end(store)?);
        let manifest = SnapshotManifest {
            format: Format::Snapshot,
            version: VERSION,
            name: content.name,
            kind: content.kind,
            architecture: content.architecture,
            created: content.created,
            description: content.description,
            disk_size: content.disk_size,
            root: content.root,
            parent,
            objects: members,
            packs: packs
                .iter()
                .map(|pack| PackMember {
                    sha256: pack.name(),
                    length: pack.size(),
                    table: pack.table_offset(),
                })
                .collect(),
        };
        Ok(Self {
            manifest,
            lists,
            packs,
        })
    }

    #[must_use]
    pub const fn manifest(&self) -> &SnapshotManifest {
        &self.manifest
    }

    /// Writes the archive. Equal content gives equal bytes.
    ///
    /// # Errors
    /// It cannot be written, the store cannot be read, or the user gave up.
    pub fn write(&self, out: &mut dyn Write, interrupt: &Interrupt) -> io::Result<()> {
        let manifest = serde_json::to_vec_pretty(&self.manifest)?;
        let mut archive = Writer::new(out);
        archive.add_file(&member(MANIFEST, manifest.len() as u64), &mut &*manifest)?;
        for (entry, bytes) in self.manifest.objects.iter().zip(&self.lists) {
            archive.add_file(&member(&entry.name(), entry.length), &mut &**bytes)?;
        }
        for (entry, pack) in self.manifest.packs.iter().zip(&self.packs) {
            let mut content = Stoppable(pack.open(0), interrupt);
            archive.add_file(&member(&entry.name(), entry.length), &mut content)?;
        }
        archive.finish()?.flush()
    }
}

/// Chunks that are gathered until they fill a pack.
#[derive(Default)]
struct Chunks {
    ids: Vec<Digest>,
    stored: u64,
}

impl Chunks {
    fn add(&mut self, store: &Store, chunk: Digest) -> Result<Option<OutgoingPack>, StoreError> {
        self.stored += u64::from(store.chunk_stored(&chunk)?.unwrap_or_default());
        self.ids.push(chunk);
        match self.stored >= PACK {
            true => self.end(store),
            false => Ok(None),
        }
    }

    fn end(&mut self, store: &Store) -> Result<Option<OutgoingPack>, StoreError> {
        self.stored = 0;
        match std::mem::take(&mut self.ids).as_slice() {
            [] => Ok(None),
            ids => store.outgoing(ids).map(Some),
        }
    }
}

fn member(name: &str, size: u64) -> Member {
    Member {
        path: name.as_bytes().to_vec(),
        kind: MemberKind::File,
        mode: 0o644,
        size,
        ..Member::default()
    }
}

struct Stoppable<'a, R>(R, &'a Interrupt);

impl<R: Read> Read for Stoppable<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.1.requested() {
            true => Err(io::Error::other("interrupted")),
            false => self.0.read(buffer),
        }
    }
}

/// Reads an archive, compressed or not, and stores all that is in it. Nothing names that then; the
/// caller gives the root a name. `check` decides by the manifest whether it is wanted. `directory`
/// takes packs that are not whole yet.
///
/// # Errors
/// It is not such an archive, something in it is not what its checksum says, an object is not whole,
/// `check` refuses, the store fails, or the user gave up.
pub fn read_snapshot(
    store: &Store,
    directory: &Path,
    input: &mut dyn BufRead,
    interrupt: &Interrupt,
    check: &dyn Fn(&SnapshotManifest) -> Result<(), Failure>,
) -> Result<SnapshotManifest, Failure> {
    let head = input.fill_buf().map_err(unreadable)?;
    match Compression::of(head) {
        None => read(store, directory, input, interrupt, check),
        Some(format) => {
            let mut stream = format.reader(input).map_err(unreadable)?;
            read(store, directory, &mut stream, interrupt, check)
        }
    }
}

fn read(
    store: &Store,
    directory: &Path,
    input: &mut dyn Read,
    interrupt: &Interrupt,
    check: &dyn Fn(&SnapshotManifest) -> Result<(), Failure>,
) -> Result<SnapshotManifest, Failure> {
    let mut archive = Reader::new(Stoppable(input, interrupt));
    let length = next(&mut archive, MANIFEST, None)?;
    if length > MAX_MANIFEST {
        return Err(wrong("its manifest is too large"));
    }
    let bytes = content(&mut archive, length)?;
    let manifest = parse(&bytes)?;
    check(&manifest)?;
    if let Some(parent) = &manifest.parent
        && !store.knows(parent)
    {
        return Err(Failure::failed(format!(
            "the file has only what differs from the image {}, which is not in the store",
            parent.short()
        ))
        .with_help("import or pull that image first, or have the file exported without --since"));
    }
    let packs: u64 = manifest.packs.iter().map(|pack| pack.length).sum();
    let free = free_space(store.root()).unwrap_or(u64::MAX);
    if packs > free {
        return Err(Failure::failed(format!(
            "the file has {packs} bytes of content, and the store has room for {free}"
        ))
        .with_help("vmfab store gc removes what no image needs"));
    }
    let mut lists = Vec::new();
    for entry in &manifest.objects {
        next(&mut archive, &entry.name(), Some(entry.length))?;
        let bytes = content(&mut archive, entry.length)?;
        if Sha256::of(&bytes) != entry.sha256 {
            return Err(wrong(format!(
                "{} is not what its checksum says",
                entry.name()
            )));
        }
        lists.push(bytes);
    }
    store.claim()?;
    for entry in &manifest.packs {
        next(&mut archive, &entry.name(), Some(entry.length))?;
        if store.has_pack(&entry.sha256)? {
            // What is here has this name; a file that is damaged is refused all the same.
            if sum(&mut archive).map_err(unreadable)? != entry.sha256 {
                return Err(wrong(format!("{} is not what its name says", entry.name())));
            }
            continue;
        }
        let pack = store.incoming(directory, entry.sha256, entry.length, entry.table);
        let mut pack = pack.map_err(refused)?.ok_or_else(|| {
            Failure::failed("another vmfab imports the same file; try again when it has ended")
        })?;
        // What an earlier import left of it was read again from its file.
        let skipped = io::copy(&mut archive.by_ref().take(pack.position()), &mut io::sink());
        skipped.map_err(unreadable)?;
        loop {
            match pack.take(&mut archive) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => {
                    // What is not whole is of no use: a file is read from its beginning.
                    pack.forget();
                    return Err(match interrupt.requested() {
                        true => Failure::interrupted(),
                        false => refused(error),
                    });
                }
            }
        }
        pack.finish().map_err(refused)?;
    }
    if archive.member().map_err(unreadable)?.is_some() {
        return Err(wrong("it has members that its manifest does not name"));
    }
    // No pack is believed: each chunk is decoded and compared with its digest.
    let nothing = HashSet::new();
    for (entry, bytes) in manifest.objects.iter().zip(&lists) {
        if interrupt.requested() {
            return Err(Failure::interrupted());
        }
        let object = match entry.content {
            true => store.put_bytes(bytes)?,
            false => {
                let list = ChunkList::decode(bytes)
                    .map_err(|error| wrong(format!("{}: {error}", entry.name())))?;
                store
                    .put_list(&list, &nothing)
                    .map_err(|error| match error {
                        StoreError::DamagedObject { .. } | StoreError::Damaged { .. } => {
                            wrong(error.to_string())
                        }
                        error => error.into(),
                    })?
            }
        };
        if (object.id, object.size) != (entry.id, entry.size) {
            return Err(wrong(format!("{} is another object", entry.name())));
        }
    }
    Ok(manifest)
}

fn parse(bytes: &[u8]) -> Result<SnapshotManifest, Failure> {
    let stored: serde_json::Value =
        serde_json::from_slice(bytes).map_err(|error| wrong(format!("its manifest: {error}")))?;
    if let Some(version) = stored["version"].as_u64()
        && version > u64::from(VERSION)
    {
        return Err(wrong(format!(
            "it has version {version}, this vmfab supports up to {VERSION}"
        )));
    }
    let manifest: SnapshotManifest =
        serde_json::from_value(stored).map_err(|error| wrong(format!("its manifest: {error}")))?;
    let lengths = manifest.objects.iter().map(|entry| entry.length);
    let total = lengths.fold(0_u64, u64::saturating_add);
    let is_listed = manifest
        .objects
        .iter()
        .any(|entry| entry.id == manifest.root);
    match () {
        () if manifest.objects.len() + manifest.packs.len() > MAX_MEMBERS || total > MAX_LIST => {
            Err(wrong("its manifest names too much"))
        }
        () if !is_listed => Err(wrong("it does not have the object that it is about")),
        () => Ok(manifest),
    }
}

/// The next member, which must be this file; its length.
fn next(archive: &mut Reader<impl Read>, name: &str, length: Option<u64>) -> Result<u64, Failure> {
    let Some(member) = archive.member().map_err(unreadable)? else {
        return Err(wrong(format!("it ends before {name}")));
    };
    let is_plain = member.is_file() && member.data.is_none() && member.link.is_empty();
    if member.path != name.as_bytes() || !is_plain {
        return Err(wrong(format!(
            "it has {:?} in place of {name}",
            member.name()
        )));
    }
    if length.is_some_and(|length| length != member.size) {
        return Err(wrong(format!(
            "{name} has another length than the manifest says"
        )));
    }
    Ok(member.size)
}

fn content(archive: &mut Reader<impl Read>, length: u64) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = archive.by_ref().take(length).read_to_end(&mut bytes);
    read.map_err(unreadable)?;
    Ok(bytes)
}

/// The checksum of what is left of a member.
fn sum(content: &mut dyn Read) -> io::Result<Sha256> {
    use sha2::Digest as _;
    let mut hasher = sha2::Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    loop {
        match content.read(&mut buffer)? {
            0 => return Ok(Sha256::from_bytes(hasher.finalize().into())),
            count => hasher.update(&buffer[..count]),
        }
    }
}

fn wrong(why: impl std::fmt::Display) -> Failure {
    Failure::verification(format!(
        "the file is not a snapshot that vmfab can import: {why}"
    ))
    .with_help("vmfab changed nothing that has a name; have the file exported again")
}

fn unreadable(error: io::Error) -> Failure {
    match error.to_string().as_str() {
        "interrupted" => Failure::interrupted(),
        text => wrong(text),
    }
}

fn refused(error: crate::store::IncomingError) -> Failure {
    match error {
        crate::store::IncomingError::Store(error) => error.into(),
        error => wrong(error),
    }
}
