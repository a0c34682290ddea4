//! Which content an address without a checksum stands for: asked once, and remembered.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::git::{self, Commit};
use super::{Context, oci};
use crate::builder;
use crate::digest::{Checksum, Hasher};
use crate::failure::{Failure, Kind};
use crate::host::file::{Durability, Replace};
use crate::instruction::Address;
use crate::plan::Pinned;
use crate::recipe::{Fetch, Pin, Spanned};
use crate::registry::Reference;
use crate::source::{ChecksumsRequest, FetchError, Fetcher, Signature, Source};

/// What was found out about an address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Remembered<T = Checksum> {
    pub url: String,
    /// Of what is there.
    pub checksum: T,
    /// Its size in bytes.
    pub size: Option<u64>,
    /// When it was looked up, in seconds since 1970.
    pub resolved: u64,
}

/// What the content of an address is, as far as it is remembered.
///
/// # Errors
/// Nothing is remembered, and it cannot be looked up.
pub(crate) fn pin(context: &Context, fetch: &Fetch) -> Result<Pinned, Failure> {
    let known = read(&path(context, fetch), &fetch.url.value);
    let remembered = match known {
        _ if matches!(fetch.pin, None | Some(Pin::Checksum(_))) => {
            return Err(Failure::new(
                Kind::Recipe,
                "the recipe gives no checksum for it",
            ));
        }
        Some(remembered) => remembered,
        None => look_up(context, fetch)?,
    };
    Ok(Pinned {
        checksum: remembered.checksum,
        size: remembered.size,
    })
}

fn read<T: DeserializeOwned>(path: &Path, url: &str) -> Option<Remembered<T>> {
    let bytes = fs::read(path).ok()?;
    let remembered: Remembered<T> = serde_json::from_slice(&bytes).ok()?;
    (remembered.url == url).then_some(remembered)
}

/// The commit of a reference of a git repository, as far as it is remembered.
///
/// # Errors
/// Nothing is remembered, and the repository cannot be asked.
pub(crate) fn pin_commit(
    context: &Context,
    repository: &Address,
    reference: &str,
) -> Result<Commit, Failure> {
    match recall(context, &git::address(&repository.url, reference)) {
        Some(commit) => Ok(commit),
        None => look_up_commit(context, repository, reference),
    }
}

/// Asks a git repository for the commit of a reference, and remembers the answer.
///
/// # Errors
/// There is no such reference, or the repository cannot be asked.
pub(crate) fn look_up_commit(
    context: &Context,
    repository: &Address,
    reference: &str,
) -> Result<Commit, Failure> {
    let commit = git::look_up(context, repository, reference)?;
    let address = git::address(&repository.url, reference);
    Ok(remember(context, &address, commit))
}

/// What an address stands for, if that is remembered.
fn recall<T: DeserializeOwned>(context: &Context, address: &str) -> Option<T> {
    let remembered = read(&context.home.pins().join(file_name(address)), address)?;
    Some(remembered.checksum)
}

/// Remembers what an address stands for. What cannot be remembered is asked again.
fn remember<T: Serialize>(context: &Context, address: &str, checksum: T) -> T {
    let remembered = Remembered {
        url: address.to_owned(),
        checksum,
        size: None,
        resolved: now(),
    };
    let _ = write(&context.home.pins().join(file_name(address)), &remembered);
    remembered.checksum
}

/// What a tag of a registry stands for, as far as it is remembered.
///
/// # Errors
/// Nothing is remembered, and the registry cannot be asked.
pub(crate) fn pin_tag(context: &Context, reference: &Reference) -> Result<Checksum, Failure> {
    match recall(context, &oci::address(reference)) {
        Some(checksum) => Ok(checksum),
        None => look_up_tag(context, reference),
    }
}

/// Asks the registry what a tag stands for, and remembers the answer.
///
/// # Errors
/// There is no such tag, or the registry cannot be asked.
pub(crate) fn look_up_tag(context: &Context, reference: &Reference) -> Result<Checksum, Failure> {
    let digest = oci::look_up(context, reference)?;
    let address = oci::address(reference);
    Ok(remember(context, &address, Checksum::from(digest)))
}

/// The file of a tag.
fn file_name(address: &str) -> String {
    let mut hasher = Hasher::new("vmfab pin v1");
    hasher.update_field(address.as_bytes());
    format!("{}.json", hasher.finish().short())
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |age| age.as_secs())
}

/// Asks the network and remembers the answer.
///
/// # Errors
/// The list of checksums cannot be had, is not to be trusted, or says nothing of the address.
pub(crate) fn look_up(context: &Context, fetch: &Fetch) -> Result<Remembered, Failure> {
    let pinned = match &fetch.pin {
        Some(Pin::Checksums {
            url,
            signature,
            keyring,
        }) => {
            let signature = signature.as_ref().zip(keyring.as_deref());
            listed(&context.fetcher(), fetch, &url.value, signature)?
        }
        _ => download(context, fetch)?,
    };
    let remembered = Remembered {
        url: fetch.url.value.clone(),
        checksum: pinned.checksum,
        size: pinned.size,
        resolved: now(),
    };
    // What cannot be remembered is asked again.
    let _ = write(&path(context, fetch), &remembered);
    Ok(remembered)
}

/// What a list of checksums says of the content of an address.
fn listed(
    fetcher: &Fetcher,
    fetch: &Fetch,
    list: &str,
    signature: Option<(&Spanned<String>, &Path)>,
) -> Result<Pinned, Failure> {
    let place = |text: &str| {
        Source::new(&beside(&fetch.url.value, text))
            .map_err(|error| Failure::new(Kind::Recipe, error.to_string()))
    };
    let signed = match signature {
        Some((signature, keyring)) => Some((place(&signature.value)?, keyring)),
        None => None,
    };
    let signature = signed.as_ref();
    let request = ChecksumsRequest {
        source: &place(&fetch.url.value)?,
        list: &place(list)?,
        signature: signature.map(|(source, keyring)| Signature { source, keyring }),
    };
    let resolved = fetcher.resolve(&request).map_err(unresolved)?;
    Ok(Pinned {
        checksum: resolved.checksum,
        size: resolved.size.or(fetch.size),
    })
}

/// Forgets what all addresses stood for, unless it is only `looked`; tells how many there were.
pub(crate) fn forget(context: &Context, looked: bool) -> usize {
    let entries = fs::read_dir(context.home.pins());
    let files = entries.into_iter().flatten().flatten();
    files
        .filter(|entry| looked || fs::remove_file(entry.path()).is_ok())
        .count()
}

/// Fetches content that nothing is known of into the store, and tells what it is: the first time is
/// taken on trust, and the lock holds every later one to it.
///
/// # Errors
/// It cannot be fetched or stored.
pub(crate) fn download(context: &Context, fetch: &Fetch) -> Result<Pinned, Failure> {
    let source = Source::new(&fetch.url.value).map_err(Failure::other)?;
    let store = context.store()?;
    let fetched = builder::fetch_unknown(&context.fetcher(), &store, &source, fetch.size);
    let fetched = fetched.map_err(unresolved)?;
    Ok(Pinned {
        checksum: fetched.checksum,
        size: Some(fetched.size),
    })
}

/// The network, a server or a signature fails: no mistake of the recipe, unless it names the wrong
/// list.
fn unresolved(error: FetchError) -> Failure {
    let failure = Failure::from(error);
    match failure.kind() {
        Kind::Verification => failure.with_kind(Kind::Recipe),
        _ => failure,
    }
}

/// A URL as it is, or a name as that of a file beside `url`.
fn beside(url: &str, text: &str) -> String {
    if text.contains("://") {
        return text.to_owned();
    }
    let url = url.split(['?', '#']).next().unwrap_or(url);
    match url.rsplit_once('/') {
        Some((directory, _)) => format!("{directory}/{text}"),
        None => text.to_owned(),
    }
}

/// One file for each address and way to know it.
fn path(context: &Context, fetch: &Fetch) -> PathBuf {
    let mut hasher = Hasher::new("vmfab pin v1");
    hasher.update_field(fetch.url.value.as_bytes());
    if let Some(Pin::Checksums {
        url,
        signature,
        keyring,
    }) = &fetch.pin
    {
        hasher.update_field(url.value.as_bytes());
        let signature = signature.as_ref().map_or("", |signature| &signature.value);
        hasher.update_field(signature.as_bytes());
        let keyring = keyring
            .as_deref()
            .map(|path| path.as_os_str().as_encoded_bytes());
        hasher.update_field(keyring.unwrap_or_default());
    }
    let name = format!("{}.json", hasher.finish().short());
    context.home.pins().join(name)
}

fn write(path: &Path, remembered: &impl Serialize) -> std::io::Result<()> {
    let directory = path.parent().unwrap_or(path);
    fs::create_dir_all(directory)?;
    Replace::new(path, Durability::Whole).with(&serde_json::to_vec_pretty(remembered)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_lie_beside_their_files() {
        let beside = |text| beside("https://a.org/b/c.img?x=/y", text);
        assert_eq!(beside("SHA256SUMS"), "https://a.org/b/SHA256SUMS");
        assert_eq!(beside("https://z/s"), "https://z/s");
        assert_eq!(super::beside("file:///a/b", "c"), "file:///a/c");
    }
}
