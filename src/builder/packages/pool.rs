//! Files of packages out of the store.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::{LISTING, Listing, OUTPUT, place_key};
use crate::digest::{ObjectId, ObjectRef};
use crate::failure::Failure;
use crate::lock::Package;
use crate::store::{ObjectReader, Store};
use crate::tarball::{RECORD, Reader};

/// The longest listing, in bytes.
const MAX_LISTING: u64 = 64 << 20;

/// The output of a step, opened.
pub(super) struct Opened {
    pub(super) listing: Listing,
    reader: ObjectReader,
    /// Where the file of each package begins.
    offsets: Vec<u64>,
}

impl Opened {
    pub(super) fn open(store: &Store, output: &ObjectRef) -> Result<Self, Failure> {
        let wrong = |what: &str| {
            let id = output.id.short();
            Failure::of_step(io::Error::other(format!(
                "object {id} is not a list of packages: {what}"
            )))
        };
        let mut reader = store.open_object(&output.id).map_err(Failure::of_step)?;
        let mut archive = Reader::new(&mut reader);
        let member = archive.member().map_err(Failure::of_step)?;
        let member = member.filter(|member| member.path == LISTING.as_bytes());
        let size = member
            .ok_or_else(|| wrong("another member comes first"))?
            .size;
        if size > MAX_LISTING {
            return Err(wrong("it is too long"));
        }
        let mut text = Vec::new();
        archive.read_to_end(&mut text).map_err(Failure::of_step)?;
        let listing: Listing = serde_json::from_slice(&text).map_err(Failure::of_step)?;
        if listing.version != 1 {
            return Err(wrong("another vmfab wrote it"));
        }
        let mut offset = RECORD + padded(size);
        let mut offsets = Vec::new();
        for listed in &listing.packages {
            offsets.push(offset + RECORD);
            offset = offset
                .checked_add(RECORD + padded(listed.package.size.min(output.size)))
                .ok_or_else(|| wrong("its sizes are"))?;
        }
        Ok(Self {
            listing,
            reader,
            offsets,
        })
    }

    /// Writes the file of a package to `path`, when it is here, and says what the archive said of
    /// it.
    fn extract(&mut self, package: &Package, path: &Path) -> Result<Option<Lookup>, Failure> {
        let listed = &self.listing.packages;
        let same = |other: &Package| (other.sha256, other.size) == (package.sha256, package.size);
        let Some(index) = listed.iter().position(|listed| same(&listed.package)) else {
            return Ok(None);
        };
        let stanza = listed[index].stanza.clone();
        let mut file = File::create(path).map_err(Failure::step_io("create", path))?;
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; 1 << 18];
        let mut done = 0;
        while done < package.size {
            let most = usize::try_from(package.size - done).unwrap_or(usize::MAX);
            let part = buffer.len().min(most);
            let at = self.offsets[index] + done;
            self.reader
                .read_exact_at(&mut buffer[..part], at)
                .map_err(Failure::of_step)?;
            hasher.update(&buffer[..part]);
            file.write_all(&buffer[..part])
                .map_err(Failure::step_io("write", path))?;
            done += part as u64;
        }
        file.set_permissions(std::fs::Permissions::from_mode(0o644))
            .map_err(Failure::step_io("open up", path))?;
        let matches = hasher.finalize().as_slice() == package.sha256.as_bytes();
        Ok(matches.then_some(Lookup::Here(stanza)))
    }
}

/// Bytes that a member of this size takes, without its header.
const fn padded(size: u64) -> u64 {
    size.next_multiple_of(RECORD)
}

/// Where the file of a package is.
pub(super) enum Lookup {
    /// It was written; with what its archive said of it.
    Here(Option<String>),
    /// Not in the store.
    Nowhere,
}

/// Outputs of steps that have files of packages.
pub(super) struct Pool<'a> {
    store: &'a Store,
    opened: BTreeMap<ObjectId, Opened>,
}

impl<'a> Pool<'a> {
    pub(super) const fn new(store: &'a Store) -> Self {
        Self {
            store,
            opened: BTreeMap::new(),
        }
    }

    /// Writes the file of a package to `path`, when the store has it. What is damaged is as good as
    /// absent.
    pub(super) fn find(&mut self, package: &Package, path: &Path) -> Result<Lookup, Failure> {
        for opened in self.opened.values_mut() {
            if let Some(found) = opened.extract(package, path)? {
                return Ok(found);
            }
        }
        let place = self.store.action(&place_key(&package.sha256));
        if let Some(output) = place.as_ref().and_then(|place| place.outputs.get(OUTPUT))
            && !self.opened.contains_key(&output.id)
            && let Ok(mut opened) = Opened::open(self.store, output)
        {
            let found = opened.extract(package, path)?;
            self.opened.insert(output.id, opened);
            if let Some(found) = found {
                return Ok(found);
            }
        }
        Ok(Lookup::Nowhere)
    }
}
