//! Results of steps in repositories: a cache that others can ask.
//!
//! A result is an artifact under a tag that is made from the key of its action. Its config says
//! what came out, so that one small answer tells it; content is had when somebody needs it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::artifact::{Artifact, RESULT};
use super::push::{Bundle, PushOptions, RESULT_TAG, Target};
use super::work::Task;
use super::{Memory, ShareError, Sharing};
use crate::derivation::{Cache, CacheError, CacheHit, Outputs};
use crate::digest::{ActionKey, ObjectId, ObjectRef};
use crate::event::{Event, Sink};
use crate::host::Interrupt;
use crate::image::ImageConfig;
use crate::registry::{Platform, RegistryError, Repository, Version};
use crate::store::Store;

const VERSION: u32 = 1;
/// The output that is an image config.
const CONFIG: &str = "config";
/// The output that only locked builds read: packages as they were downloaded.
const PACKAGES: &str = "packages";
/// Blobs that are moved at once.
const PARALLEL: usize = 4;

/// What came of an action.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Told {
    version: u32,
    action: ActionKey,
    outputs: BTreeMap<String, Output>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Output {
    #[serde(flatten)]
    object: ObjectRef,
    /// Whether the artifact has its content.
    content: bool,
}

/// A repository that is used until it fails.
struct One {
    repository: Arc<dyn Repository>,
    down: AtomicBool,
    /// It was told that something in it is wrong.
    warned: AtomicBool,
}

impl One {
    const fn new(repository: Arc<dyn Repository>) -> Self {
        Self {
            repository,
            down: AtomicBool::new(false),
            warned: AtomicBool::new(false),
        }
    }

    fn is_down(&self) -> bool {
        self.down.load(Ordering::Relaxed)
    }
}

/// Several repositories with results, asked in order, and one that takes them.
pub struct Results {
    store: Store,
    downloads: PathBuf,
    memory: Memory,
    sink: Arc<dyn Sink>,
    interrupt: Interrupt,
    read: Vec<One>,
    push: Option<One>,
    all_content: bool,
    found: Mutex<HashMap<ActionKey, Hit>>,
    /// Results whose content could not be used: those that are pushed take their place.
    broken: Mutex<HashSet<ActionKey>>,
    offers: Mutex<Vec<Offer>>,
}

/// A result that is to be pushed.
struct Offer {
    key: ActionKey,
    outputs: Outputs,
    last: bool,
}

/// A result that was found.
#[derive(Debug, Clone)]
struct Hit {
    /// The repository, by its number.
    from: usize,
    artifact: Artifact,
    told: Told,
}

/// What repositories with results are used with.
pub struct ResultsOptions {
    /// Those that are asked, in order.
    pub read: Vec<Arc<dyn Repository>>,
    /// The one that takes results.
    pub push: Option<Arc<dyn Repository>>,
    /// Whether it takes the content of every step, and not only of the last.
    pub all_content: bool,
}

impl Results {
    /// Results of others for this store.
    #[must_use]
    pub fn new(
        store: Store,
        downloads: PathBuf,
        memory: Memory,
        sink: Arc<dyn Sink>,
        interrupt: Interrupt,
        options: ResultsOptions,
    ) -> Self {
        Self {
            store,
            downloads,
            memory,
            sink,
            interrupt,
            read: options.read.into_iter().map(One::new).collect(),
            push: options.push.map(One::new),
            all_content: options.all_content,
            found: Mutex::default(),
            offers: Mutex::default(),
            broken: Mutex::default(),
        }
    }

    fn sharing(&self) -> Sharing<'_> {
        Sharing {
            store: &self.store,
            downloads: self.downloads.clone(),
            memory: self.memory.clone(),
            sink: &*self.sink,
            interrupt: &self.interrupt,
            parallel: PARALLEL,
        }
    }

    /// Says once that a repository fails; it is not used any more.
    fn give_up(&self, one: &One, error: &ShareError) {
        if one.down.swap(true, Ordering::Relaxed) || error.is_interrupted() {
            return;
        }
        self.sink.emit(Event::Warning {
            message: format!("skipping the cache {}: {error}", one.repository.name()),
        });
    }

    /// Says once that something in a repository is wrong.
    fn warn_of(&self, one: &One, error: &ShareError) {
        if !one.warned.swap(true, Ordering::Relaxed) {
            self.sink.emit(Event::Warning {
                message: format!("the cache {} is wrong: {error}", one.repository.name()),
            });
        }
    }

    /// What a repository says of an action.
    fn ask(&self, one: &One, key: &ActionKey) -> Result<Option<(Artifact, Told)>, ShareError> {
        // Results are for no platform in particular: the key knows.
        let platform = Platform {
            architecture: String::new(),
            os: String::new(),
            variant: None,
        };
        let sharing = self.sharing();
        let version = Version::Tag(tag(key));
        let Some(found) = sharing.find(&*one.repository, &version, &platform)? else {
            return Ok(None);
        };
        let place = one.repository.name();
        let invalid = |reason: String| ShareError::invalid(&place, tag(key), reason);
        let artifact = found
            .artifact
            .filter(|artifact| artifact.kind == RESULT)
            .ok_or_else(|| invalid("is no result".to_owned()))?;
        let config = sharing.config(&*one.repository, &artifact)?;
        let told: Told = serde_json::from_slice(&config)
            .map_err(|error| invalid(format!("is no result: {error}")))?;
        if told.version != VERSION {
            return Ok(None);
        }
        if told.outputs.is_empty() {
            return Err(invalid("is a result without outputs".to_owned()));
        }
        if told.action != *key {
            return Err(invalid("is the result of another action".to_owned()));
        }
        Ok(Some((artifact, told)))
    }

    /// The artifact of a result.
    fn bundle(&self, key: &ActionKey, outputs: &Outputs, content: bool) -> Bundle {
        let mut objects: Vec<ObjectRef> = Vec::new();
        let mut told = BTreeMap::new();
        for (name, object) in outputs {
            let named = match content && name != PACKAGES {
                true => self.with_content(name, object),
                false => None,
            };
            let output = Output {
                object: *object,
                content: named.is_some(),
            };
            objects.extend(named.into_iter().flatten());
            told.insert(name.clone(), output);
        }
        let told = Told {
            version: VERSION,
            action: *key,
            outputs: told,
        };
        Bundle {
            kind: RESULT,
            config: serde_json::to_vec(&told).expect("results serialise to JSON"),
            objects,
            boot_order: None,
            annotations: BTreeMap::new(),
        }
    }

    /// An output and what it names, when all of it is here. What names others comes last.
    fn with_content(&self, name: &str, object: &ObjectRef) -> Option<Vec<ObjectRef>> {
        let mut objects = match name {
            CONFIG => {
                let bytes = self.store.read_object(&object.id).ok()?;
                ImageConfig::from_bytes(&bytes).ok()?.boot_objects()
            }
            _ => Vec::new(),
        };
        objects.push(*object);
        let whole = objects.iter().all(|object| self.store.has_object(object));
        whole.then_some(objects)
    }

    fn found(&self) -> std::sync::MutexGuard<'_, HashMap<ActionKey, Hit>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn offers(&self) -> std::sync::MutexGuard<'_, Vec<Offer>> {
        self.offers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn broken(&self) -> std::sync::MutexGuard<'_, HashSet<ActionKey>> {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push_result(&self, one: &One, offer: &Offer, task: &Task<'_>) -> Result<(), ShareError> {
        let Offer { key, outputs, last } = offer;
        let bundle = self.bundle(key, outputs, self.all_content || *last);
        let broken = self.broken().contains(key);
        if !broken && let Some((artifact, told)) = self.ask(one, key).ok().flatten() {
            let more = |(name, output): (&String, &Output)| {
                let now = outputs.contains_key(name) && bundle.objects.contains(&output.object);
                now && !output.content
            };
            let same = told
                .outputs
                .iter()
                .map(|(name, output)| (name, &output.object));
            if same.eq(outputs.iter())
                && !told.outputs.iter().any(more)
                && self.sharing().is_whole(&*one.repository, &artifact)?
            {
                return Ok(());
            }
        }
        let options = PushOptions {
            target: Target::Tag(tag(key)),
            full: false,
            index: None,
            name: format!("result {}", key.short()),
        };
        self.sharing()
            .push_within(&*one.repository, &bundle, &options, task)?;
        Ok(())
    }
}

impl Cache for Results {
    fn look_up(&self, key: &ActionKey) -> Option<CacheHit> {
        for (from, one) in self.read.iter().enumerate() {
            if one.is_down() {
                continue;
            }
            match self.ask(one, key) {
                Ok(None) => {}
                Ok(Some((artifact, told))) => {
                    let outputs = told.outputs.iter();
                    let hit = CacheHit {
                        outputs: outputs
                            .map(|(name, output)| (name.clone(), output.object))
                            .collect(),
                        from: one.repository.name(),
                    };
                    let found = Hit {
                        from,
                        artifact,
                        told,
                    };
                    self.found().insert(*key, found);
                    return Some(hit);
                }
                // One that is wrong says nothing of the others.
                Err(error) if error.is_garbage() => self.warn_of(one, &error),
                Err(error) => self.give_up(one, &error),
            }
        }
        None
    }

    fn bring(&self, key: &ActionKey, outputs: &Outputs) -> Result<(), CacheError> {
        let hit = self.found().get(key).cloned();
        let hit = hit.ok_or(CacheError::Absent)?;
        let there = |name: &String| hit.told.outputs.get(name).is_some_and(|one| one.content);
        if !outputs.keys().all(there) {
            return Err(CacheError::Absent);
        }
        // An image is brought with all that it names.
        let wanted: Option<HashSet<ObjectId>> = match outputs.contains_key(CONFIG) {
            true => None,
            false => Some(outputs.values().map(|object| object.id).collect()),
        };
        let one = &self.read[hit.from];
        let name = format!("result {}", key.short());
        let repository = &*one.repository;
        let pulled = self.sharing();
        let pulled = pulled.pull(repository, &hit.artifact, wanted.as_ref(), &name);
        match pulled {
            Ok(_) => {}
            Err(ShareError::Registry(error)) if !matches!(error, RegistryError::Invalid { .. }) => {
                one.down.store(true, Ordering::Relaxed);
                return Err(CacheError::Unreachable(error.to_string()));
            }
            Err(error) => {
                self.broken().insert(*key);
                return Err(CacheError::Unusable(error.to_string()));
            }
        }
        let whole = outputs
            .iter()
            .all(|(name, object)| self.with_content(name, object).is_some());
        match whole {
            true => Ok(()),
            false => Err(CacheError::Unusable("its content is incomplete".to_owned())),
        }
    }

    fn pushes_to(&self) -> Option<String> {
        self.push.as_ref().map(|one| one.repository.name())
    }

    fn offer(&self, key: &ActionKey, outputs: &Outputs, last: bool) {
        if self.push.is_some() {
            let offer = Offer {
                key: *key,
                outputs: outputs.clone(),
                last,
            };
            self.offers().push(offer);
        }
    }

    fn finish(&self) {
        let mut offers = std::mem::take(&mut *self.offers());
        let Some(one) = self.push.as_ref().filter(|_| !offers.is_empty()) else {
            return;
        };
        // What the build was for comes first: then its packs have nothing but what it needs, and
        // layers, which share most with it, use them too.
        offers.sort_by_key(|offer| !offer.last);
        let name = format!("push results to {}", one.repository.name());
        let task = Task::new(&*self.sink, &self.interrupt, name);
        let pushed = offers.iter().try_for_each(|offer| {
            task.check()?;
            self.push_result(one, offer, &task)
        });
        match pushed.and_then(|()| Ok(one.repository.finish()?)) {
            Ok(()) => task.done(),
            Err(error) => self.give_up(one, &error),
        }
    }
}

/// The tag of the result of an action.
fn tag(key: &ActionKey) -> String {
    format!("{RESULT_TAG}{key}")
}
