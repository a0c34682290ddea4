//! Blobs of registries, layouts and archives, read as content from outside is.

use std::io::{self, Read};

use crate::digest::Checksum;
use crate::failure::{Failure, Kind};
use crate::plan::BlobPlace;
use crate::registry::{Blob, Location, Registries, RegistryError};
use crate::source::{FetchRequest, Fetcher, Origin, Outcome, Source, Taker};

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
) -> Result<Outcome, Failure> {
    let checksum = Checksum::from(place.digest);
    let origin = InRegistry {
        registries,
        place,
        location: place.repository.parse().map_err(Failure::of_step)?,
        blob: Blob {
            digest: place.digest,
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
    Ok(fetched?)
}

struct InRegistry<'a> {
    registries: &'a Registries,
    place: &'a BlobPlace,
    location: Location,
    blob: Blob,
}

impl Origin for InRegistry<'_> {
    fn open(&self, offset: u64) -> Result<(u64, Box<dyn Read + Send>), Failure> {
        let range = (offset > 0).then_some(offset..self.blob.size);
        let repository = self.registries.open(&self.location);
        let reader = repository.and_then(|repository| repository.read_blob(&self.blob, range));
        let reader = reader.map_err(of_registry)?;
        Ok((reader.start, reader.bytes))
    }

    fn failed(&self, error: io::Error) -> Failure {
        match error.downcast::<RegistryError>() {
            Ok(error) => of_registry(error),
            Err(error) => Failure::new(Kind::Transient, error.to_string())
                .with_help("try again: vmfab resumes the download"),
        }
    }

    fn is_local(&self) -> bool {
        self.place.is_local()
    }
}

fn of_registry(error: RegistryError) -> Failure {
    let failure = Failure::from(error);
    match failure.kind() {
        Kind::Verification => failure.or_help(
            "vmfab kept nothing: try again; if that fails, push it again or use another version",
        ),
        _ => failure,
    }
}
