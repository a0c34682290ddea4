//! Blobs of registries, layouts and archives, read as content from outside is.

use std::io::{self, Read};

use super::fetch::outside;
use crate::derivation::BuildError;
use crate::digest::Checksum;
use crate::plan::BlobPlace;
use crate::registry::{Blob, Location, Registries, RegistryError};
use crate::source::{
    FetchKind, FetchRequest, Fetcher, Origin, OriginError, Outcome, Source, Taker,
};

/// Brings a blob to a taker. `already` says whether it is here by now, after another process was
/// waited for.
///
/// # Errors
/// It cannot be had, or is not what its digest says.
pub(super) fn bring(
    fetcher: &Fetcher,
    registries: &Registries,
    place: &BlobPlace,
    already: &(dyn Fn() -> bool + Sync),
    taker: &mut dyn Taker,
) -> Result<Outcome, BuildError> {
    let checksum: Checksum = place.digest.parse().map_err(BuildError::other)?;
    let digits = place.digest.trim_start_matches("sha256:");
    let origin = InRegistry {
        registries,
        place,
        location: place.repository.parse().map_err(BuildError::other)?,
        blob: Blob {
            digest: digits.parse().map_err(BuildError::other)?,
            size: place.size,
        },
    };
    let source = Source::elsewhere(place.address(), &place.name);
    let wanted = FetchRequest {
        source: &source,
        checksum: Some(&checksum),
        size: Some(place.size),
        already,
    };
    let fetched = fetcher.fetch_from(&wanted, &origin, taker);
    fetched.map_err(|error| outside(&error))
}

struct InRegistry<'a> {
    registries: &'a Registries,
    place: &'a BlobPlace,
    location: Location,
    blob: Blob,
}

impl Origin for InRegistry<'_> {
    fn open(&self, offset: u64) -> Result<(u64, Box<dyn Read + Send>), OriginError> {
        let range = (offset > 0).then_some(offset..self.blob.size);
        let repository = self.registries.open(&self.location);
        let reader = repository.and_then(|repository| repository.read_blob(&self.blob, range));
        let reader = reader.map_err(|error| origin_error(&error))?;
        Ok((reader.start, reader.bytes))
    }

    fn failed(&self, error: io::Error) -> OriginError {
        match error.downcast::<RegistryError>() {
            Ok(error) => origin_error(&error),
            Err(error) => OriginError {
                kind: FetchKind::Download,
                message: error.to_string(),
                help: vec!["try again: vmfab resumes the download".to_owned()],
            },
        }
    }

    fn is_local(&self) -> bool {
        self.place.is_local()
    }
}

fn origin_error(error: &RegistryError) -> OriginError {
    OriginError {
        kind: match error {
            RegistryError::Invalid { .. } => FetchKind::Verification,
            RegistryError::Offline(_) => FetchKind::Offline,
            RegistryError::Io { .. } | RegistryError::Source(_) => FetchKind::Local,
            RegistryError::Interrupted => FetchKind::Interrupted,
            _ => FetchKind::Download,
        },
        message: error.to_string(),
        help: match (error, error.remedy()) {
            (_, Some(remedy)) => vec![remedy],
            (RegistryError::Invalid { .. }, None) => vec![
                "vmfab kept nothing: try again; if that fails, push it again or use another version"
                    .to_owned(),
            ],
            _ => Vec::new(),
        },
    }
}
