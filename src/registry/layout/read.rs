//! Reading a layout, whatever holds its files: a directory or an archive.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use serde::Deserialize;

use super::super::{
    Blob, BlobReader, Described, Fetched, MAX_MANIFEST, Parsed, RegistryError, Version, media,
    parse_manifest,
};
use super::index::Names;
use crate::digest::Sha256;

/// The file that makes a directory a layout.
pub(in crate::registry) const MARKER: &str = "oci-layout";
/// The file that names manifests.
pub(in crate::registry) const INDEX: &str = "index.json";
/// The only version there is.
const VERSION: &str = "1.0.0";
/// The longest [`MARKER`] that is read, in bytes.
const MAX_MARKER: u64 = 4096;

/// Files of a layout. Nothing is followed to a place that is not in it.
pub(in crate::registry) trait Files {
    /// What holds them, for people.
    fn place(&self) -> &str;

    /// The file with a path such as `blobs/sha256/…`.
    ///
    /// # Errors
    /// It is something else than a file, or cannot be opened.
    fn open(&self, path: &str) -> Result<Option<Part>, RegistryError>;
}

/// A file, or the part of an archive that is one.
#[derive(Debug, Clone)]
pub(in crate::registry) struct Part {
    pub(in crate::registry) file: Arc<File>,
    /// Where it begins.
    pub(in crate::registry) start: u64,
    /// How many bytes it has.
    pub(in crate::registry) length: u64,
}

impl Part {
    /// The bytes of a range of it; what is beyond its end is left out.
    pub(in crate::registry) fn bytes(&self, range: Range<u64>) -> PartReader {
        let end = range.end.min(self.length);
        PartReader {
            file: Arc::clone(&self.file),
            at: self.start + range.start.min(end),
            end: self.start + end,
        }
    }
}

/// Reads a range of a file, whoever else reads it.
pub(in crate::registry) struct PartReader {
    file: Arc<File>,
    at: u64,
    end: u64,
}

impl Read for PartReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        let wanted = left.min(buffer.len());
        if wanted == 0 {
            return Ok(0);
        }
        match self.file.read_at(&mut buffer[..wanted], self.at)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            count => {
                self.at += count as u64;
                Ok(count)
            }
        }
    }
}

/// Where a blob is.
pub(in crate::registry) fn blob_path(digest: &Sha256) -> String {
    format!("blobs/sha256/{digest}")
}

/// For `map_err` and the like: what is wrong with a file of a layout.
pub(in crate::registry) fn invalid(
    files: &dyn Files,
    what: impl Into<String>,
    reason: impl Into<String>,
) -> RegistryError {
    RegistryError::Invalid {
        place: files.place().to_owned(),
        what: what.into(),
        reason: reason.into(),
    }
}

/// A file that is read whole.
fn small(files: &dyn Files, path: &str, max: u64) -> Result<Option<Vec<u8>>, RegistryError> {
    let Some(part) = files.open(path)? else {
        return Ok(None);
    };
    if part.length > max {
        let length = part.length;
        return Err(invalid(
            files,
            path,
            format!("is too large: it has {length} bytes, and at most {max} are read"),
        ));
    }
    let mut bytes = Vec::new();
    part.bytes(0..part.length)
        .read_to_end(&mut bytes)
        .map_err(|error| invalid(files, path, format!("cannot be read: {error}")))?;
    Ok(Some(bytes))
}

/// Whether it is a layout. `false` when there is no word of it.
///
/// # Errors
/// It is one of another version.
pub(in crate::registry) fn check(files: &dyn Files) -> Result<bool, RegistryError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Marker {
        image_layout_version: String,
    }
    let Some(bytes) = small(files, MARKER, MAX_MARKER)? else {
        return Ok(false);
    };
    let marker: Marker = serde_json::from_slice(&bytes)
        .map_err(|error| invalid(files, MARKER, format!("has no version in it: {error}")))?;
    match marker.image_layout_version.as_str() {
        VERSION => Ok(true),
        other => Err(invalid(
            files,
            MARKER,
            format!("says version {other:?}, and only {VERSION} is known"),
        )),
    }
}

/// The content of [`MARKER`].
pub(in crate::registry) fn marker() -> Vec<u8> {
    serde_json::json!({ "imageLayoutVersion": VERSION })
        .to_string()
        .into_bytes()
}

/// The index; one that names nothing when it is not there.
pub(super) fn names(files: &dyn Files) -> Result<Names, RegistryError> {
    match small(files, INDEX, MAX_MANIFEST as u64)? {
        None => Ok(Names::empty()),
        Some(bytes) => Names::parse(&bytes).map_err(|reason| invalid(files, INDEX, reason)),
    }
}

/// As for [`Repository`](super::super::Repository).
pub(in crate::registry) fn manifest(
    files: &dyn Files,
    version: &Version,
) -> Result<Option<Fetched>, RegistryError> {
    let names = names(files)?;
    let (digest, said) = match version {
        Version::Digest(digest) => (*digest, names.of_digest(digest)),
        Version::Tag(tag) => {
            let found = names.find(tag);
            let Some(descriptor) = found.map_err(|reason| invalid(files, INDEX, reason))? else {
                return Ok(None);
            };
            let blob = descriptor.blob();
            let blob = blob.map_err(|why| invalid(files, format!("the manifest of {tag}"), why))?;
            (blob.digest, Some(descriptor))
        }
    };
    let path = blob_path(&digest);
    let Some(bytes) = small(files, &path, MAX_MANIFEST as u64)? else {
        return match version {
            Version::Digest(_) => Ok(None),
            Version::Tag(tag) => Err(invalid(
                files,
                path,
                format!("is not there, and {INDEX} says that it is the manifest of {tag}"),
            )),
        };
    };
    if Sha256::of(&bytes) != digest {
        return Err(invalid(files, path, "is damaged: its SHA-256 is another"));
    }
    let said = said.map(|descriptor| descriptor.media_type().as_ref());
    Ok(Some(Fetched {
        digest,
        media_type: media_type(&bytes, said),
        bytes,
    }))
}

/// What a manifest is: as it says, as `said`, or as it looks.
fn media_type(bytes: &[u8], said: Option<&str>) -> String {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Head {
        media_type: Option<String>,
    }
    let head: Option<Head> = serde_json::from_slice(bytes).ok();
    let own = head.and_then(|head| head.media_type);
    own.or_else(|| said.map(str::to_owned)).unwrap_or_else(|| {
        match parse_manifest(bytes, "") {
            Ok(Parsed::Index(_)) => media::INDEX,
            _ => media::MANIFEST,
        }
        .to_owned()
    })
}

/// A blob's bytes, when it is there.
///
/// # Errors
/// It has not as many bytes as it should.
pub(in crate::registry) fn blob(
    files: &dyn Files,
    blob: &Blob,
) -> Result<Option<Part>, RegistryError> {
    let path = blob_path(&blob.digest);
    match files.open(&path)? {
        Some(part) if part.length != blob.size => Err(invalid(
            files,
            path,
            format!(
                "is damaged: it has {} bytes, and should have {}",
                part.length, blob.size
            ),
        )),
        found => Ok(found),
    }
}

/// As for [`Repository`](super::super::Repository).
pub(in crate::registry) fn read_blob(
    files: &dyn Files,
    blob: &Blob,
    range: Option<Range<u64>>,
) -> Result<BlobReader, RegistryError> {
    let part = self::blob(files, blob)?.ok_or_else(|| RegistryError::Missing {
        place: files.place().to_owned(),
        what: format!("blob sha256:{}", blob.digest),
    })?;
    let range = range.unwrap_or(0..blob.size);
    if range.start > range.end || range.end > blob.size {
        return Err(invalid(
            files,
            format!("blob sha256:{}", blob.digest),
            format!(
                "has {} bytes, and {} to {} were asked for",
                blob.size, range.start, range.end
            ),
        ));
    }
    Ok(BlobReader {
        start: range.start,
        bytes: Box::new(part.bytes(range)),
    })
}

/// The only version that is there.
pub(in crate::registry) fn only_version(files: &dyn Files) -> Result<Version, RegistryError> {
    let names = names(files)?;
    match names.only() {
        Some(descriptor) => descriptor
            .blob()
            .map(|blob| Version::Digest(blob.digest))
            .map_err(|reason| invalid(files, "the only manifest", reason)),
        None if names.len() == 0 => Err(RegistryError::Missing {
            place: files.place().to_owned(),
            what: "manifest".to_owned(),
        }),
        None => Err(RegistryError::Several {
            place: files.place().to_owned(),
            tags: names.tags(),
        }),
    }
}

/// As for [`Repository`](super::super::Repository).
pub(in crate::registry) fn tags(files: &dyn Files) -> Result<Vec<String>, RegistryError> {
    Ok(names(files)?.tags())
}
