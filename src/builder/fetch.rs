//! Content from outside.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use super::blob;
use crate::derivation::{BuildRequest, Builder, Derivation, Outputs, Step, action_key, step};
use crate::digest::{ActionKey, Checksum};
use crate::failure::Failure;
use crate::plan::{BlobPlace, Place};
use crate::registry::Registries;
use crate::source::{
    FetchError, FetchRequest, Fetched, Fetcher, Outcome, Source, TakeError, Taker,
};
use crate::store::{ActionResult, ObjectWriter, Store};

pub(super) struct Fetch {
    pub(super) store: Store,
    pub(super) fetcher: Arc<Fetcher>,
    /// Where content can be had, by checksum.
    pub(super) places: BTreeMap<Checksum, Place>,
    /// Where blobs of registries can be had, by checksum.
    pub(super) blobs: BTreeMap<Checksum, BlobPlace>,
    pub(super) registries: Registries,
}

impl Builder for Fetch {
    fn build(&self, request: &BuildRequest<'_>) -> Result<Outputs, Failure> {
        let Step::Fetch(params) = super::step(request)? else {
            return Err(super::wrong_kind(request));
        };
        let known = || {
            let known = self.store.action(&request.key).map(|result| result.outputs);
            known.ok_or_else(|| super::wrong_kind(request))
        };
        let Some(place) = self.places.get(&params.checksum) else {
            let blob = self.blobs.get(&params.checksum);
            let blob = blob.ok_or_else(|| super::wrong_kind(request))?;
            let mut taker = IntoStore::new(&self.store, request.key)?;
            let already = || self.store.action(&request.key).is_some();
            let (fetcher, registries) = (&self.fetcher, &self.registries);
            return match blob::bring(fetcher, registries, blob, &already, &mut taker)? {
                Outcome::Fetched(_) => Ok(taker.outputs),
                Outcome::Already => known(),
            };
        };
        let mut failure = None;
        for url in &place.urls {
            let source = Source::new(url).map_err(Failure::of_step)?;
            let mut taker = IntoStore::new(&self.store, request.key)?;
            let wanted = FetchRequest {
                source: &source,
                checksum: Some(&params.checksum),
                size: place.size.filter(|_| place.exact),
                already: &|| self.store.action(&request.key).is_some(),
            };
            match self.fetcher.fetch(&wanted, &mut taker) {
                Ok(Outcome::Fetched(_)) => return Ok(taker.outputs),
                Ok(Outcome::Already) => return known(),
                // Another place may do where this one does not; what is wrong here is wrong for
                // all.
                Err(error) => {
                    let everywhere = matches!(
                        error,
                        FetchError::Interrupted
                            | FetchError::NoSpace { .. }
                            | FetchError::Take { .. }
                    );
                    failure = Some(error.into());
                    if everywhere {
                        break;
                    }
                }
            }
        }
        Err(failure.unwrap_or_else(|| super::wrong_kind(request)))
    }
}

/// Fetches content whose checksum is not known, so that a `fetch` step with the checksum that it
/// turns out to have is done.
///
/// # Errors
/// It cannot be fetched or stored.
pub(crate) fn fetch_unknown(
    fetcher: &Fetcher,
    store: &Store,
    source: &Source,
    size: Option<u64>,
) -> Result<Fetched, FetchError> {
    let wanted = FetchRequest {
        source,
        checksum: None,
        size,
        already: &|| false,
    };
    let failed = |source: TakeError| FetchError::Take {
        name: wanted.source.name().to_owned(),
        source,
    };
    let writer = store.writer().map_err(|error| failed(error.into()))?;
    let mut taker = IntoStore {
        store,
        key: None,
        writer: Some(writer),
        outputs: Outputs::new(),
    };
    match fetcher.fetch(&wanted, &mut taker)? {
        Outcome::Fetched(fetched) => Ok(fetched),
        Outcome::Already => Err(failed("nobody said that it is here".into())),
    }
}

/// The key of the step that fetches content with this checksum.
fn key_of(checksum: &Checksum) -> ActionKey {
    let step = Step::Fetch(step::Fetch {
        checksum: checksum.clone(),
    });
    let (builder, version, params) = step.to_parts();
    let derivation = Derivation {
        name: String::new(),
        builder,
        version,
        params,
        inputs: Vec::new(),
    };
    action_key(&derivation, &[])
}

/// Puts what comes into the store while it comes.
struct IntoStore<'a> {
    store: &'a Store,
    /// Known when the checksum is.
    key: Option<ActionKey>,
    writer: Option<ObjectWriter>,
    outputs: Outputs,
}

impl<'a> IntoStore<'a> {
    fn new(store: &'a Store, key: ActionKey) -> Result<Self, Failure> {
        Ok(Self {
            store,
            key: Some(key),
            writer: Some(store.writer().map_err(Failure::of_step)?),
            outputs: Outputs::new(),
        })
    }
}

impl Taker for IntoStore<'_> {
    fn restart(&mut self) -> Result<(), TakeError> {
        self.writer = Some(self.store.writer()?);
        Ok(())
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), TakeError> {
        match &mut self.writer {
            Some(writer) => Ok(writer.write_all(bytes)?),
            None => Err("the content was finished already".into()),
        }
    }

    fn finish(&mut self, fetched: &Fetched) -> Result<(), TakeError> {
        let Some(writer) = self.writer.take() else {
            return Err("the content was finished already".into());
        };
        self.outputs.insert("blob".to_owned(), writer.finish()?);
        // Now, for after this the download is forgotten: a process that dies would leave nothing.
        let outputs = self.outputs.clone();
        let key = self.key.unwrap_or_else(|| key_of(&fetched.checksum));
        Ok(self.store.put_action(&key, ActionResult { outputs })?)
    }
}
