//! The tags of a repository, page by page.

use std::io::Read;

use serde::Deserialize;

use super::Remote;
use super::call::{Call, Failure, Target, drain};
use crate::http::{Method, Response, StatusCode, Url, header};
use crate::registry::{MAX_MANIFEST, PlaceKind, RegistryError, Version};

/// More tags are not listed.
const MOST_TAGS: usize = 1 << 20;
/// More pages are not asked for.
const MOST_PAGES: usize = 1 << 14;

/// A page.
struct Page {
    tags: Vec<String>,
    next: Option<Url>,
}

/// All tags, sorted. What has not the form of a tag is left out.
pub(super) fn list(remote: &Remote) -> Result<Vec<String>, RegistryError> {
    let mut tags = Vec::new();
    let mut next = None;
    for _ in 0..MOST_PAGES {
        let page = remote
            .host
            .retry(&remote.name, || page(remote, next.as_ref()))?;
        let before = tags.len();
        let good = |tag: &String| Version::tag(tag).is_ok();
        tags.extend(page.tags.into_iter().filter(good));
        let stuck = tags.len() == before && page.next.is_some() && page.next == next;
        if tags.len() > MOST_TAGS || stuck {
            break;
        }
        let Some(url) = page.next else {
            tags.sort();
            tags.dedup();
            return Ok(tags);
        };
        next = Some(url);
    }
    Err(remote.invalid("list of tags", "does not end"))
}

/// One try to get a page.
fn page(remote: &Remote, at: Option<&Url>) -> Result<Page, Failure> {
    #[derive(Deserialize)]
    struct Answer {
        tags: Option<Vec<String>>,
    }
    let path = format!("{}/tags/list", remote.repository);
    let target = at.map_or(Target::Path(&path), Target::Url);
    let call = Call::new(Method::GET, target, &remote.reading);
    let response = remote.host.once(&call, &remote.identity)?;
    if response.status == StatusCode::NOT_FOUND && at.is_none() {
        drain(response);
        let unknown = RegistryError::Unknown {
            place: remote.name.clone(),
            kind: PlaceKind::Repository,
        };
        return Err(unknown.into());
    }
    if response.status != StatusCode::OK {
        return Err(remote.refusal("list of tags", response).into());
    }
    let next = next_page(remote, &response)?;
    let mut bytes = Vec::new();
    let mut body = response.body.take(MAX_MANIFEST as u64 + 1);
    body.read_to_end(&mut bytes).map_err(Failure::of_reading)?;
    if bytes.len() > MAX_MANIFEST {
        return Err(remote.invalid("list of tags", "is too long").into());
    }
    let answer: Answer = serde_json::from_slice(&bytes)
        .map_err(|error| remote.invalid("list of tags", format!("cannot be read: {error}")))?;
    Ok(Page {
        tags: answer.tags.unwrap_or_default(),
        next,
    })
}

/// The `Link` to the next page (RFC 8288). It must stay at the registry.
fn next_page(remote: &Remote, response: &Response) -> Result<Option<Url>, Failure> {
    let Some(target) = response.header(header::LINK).and_then(next_link) else {
        return Ok(None);
    };
    let url = remote.host.place_of(&response.url, target)?;
    if !url.same_server(&remote.host.base()?) {
        let reason = format!("goes on at another server, {}", url.host());
        return Err(remote.invalid("list of tags", reason).into());
    }
    Ok(Some(url))
}

/// The target of the link that is the next page.
fn next_link(text: &str) -> Option<&str> {
    text.split(",").find_map(|link| {
        let (target, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
        let next = parameters.split(';').any(|parameter| {
            let parameter = parameter.replace([' ', '"'], "");
            parameter.eq_ignore_ascii_case("rel=next")
        });
        next.then_some(target)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links() {
        for (text, next) in [
            (
                r#"</v2/a/tags/list?last=b&n=2>; rel="next""#,
                Some("/v2/a/tags/list?last=b&n=2"),
            ),
            (r#"</first>; rel="first", </x>; a=b; rel=next"#, Some("/x")),
            (r#"</first>; rel="prev""#, None),
            ("<", None),
            ("", None),
        ] {
            assert_eq!(next_link(text), next, "{text}");
        }
    }
}
