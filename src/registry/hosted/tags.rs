//! The tags of a repository, page by page.

use serde::Deserialize;

use super::Hosted;
use super::call::{Call, CallError, Target, drain};
use crate::http::{Method, Response, StatusCode, Url, header};
use crate::registry::{PlaceKind, RegistryError, Version, is_referrers_tag};

/// More tags are not listed.
const MOST_TAGS: usize = 1 << 20;
/// More pages are not asked for.
const MOST_PAGES: usize = 1 << 14;

struct Page {
    tags: Vec<String>,
    next: Option<Url>,
}

/// All tags, sorted. What has not the form of a tag is left out, and so are lists of referrers.
pub(super) fn list(hosted: &Hosted) -> Result<Vec<String>, RegistryError> {
    let mut tags = Vec::new();
    let mut next = None;
    for _ in 0..MOST_PAGES {
        let page = hosted
            .host
            .retry(&hosted.name, || page(hosted, next.as_ref()))?;
        let before = tags.len();
        let good = |tag: &String| Version::tag(tag).is_ok() && !is_referrers_tag(tag);
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
    Err(hosted.invalid("list of tags", "does not end"))
}

/// One try to get a page.
fn page(hosted: &Hosted, at: Option<&Url>) -> Result<Page, CallError> {
    #[derive(Deserialize)]
    struct Answer {
        tags: Option<Vec<String>>,
    }
    let path = format!("{}/tags/list", hosted.repository);
    let target = at.map_or(Target::Path(&path), Target::Url);
    let call = Call::new(Method::GET, target, &hosted.reading);
    let response = hosted.host.once(&call, &hosted.identity)?;
    if response.status == StatusCode::NOT_FOUND && at.is_none() {
        drain(response);
        let unknown = RegistryError::Unknown {
            place: hosted.name.clone(),
            kind: PlaceKind::Repository,
        };
        return Err(unknown.into());
    }
    if response.status != StatusCode::OK {
        return Err(hosted.refusal("list of tags", response).into());
    }
    let next = next_page(hosted, &response)?;
    let bytes = hosted.whole("list of tags", response)?;
    let answer: Answer = serde_json::from_slice(&bytes)
        .map_err(|error| hosted.invalid("list of tags", format!("cannot be read: {error}")))?;
    Ok(Page {
        tags: answer.tags.unwrap_or_default(),
        next,
    })
}

/// The `Link` to the next page (RFC 8288). It must stay at the registry.
fn next_page(hosted: &Hosted, response: &Response) -> Result<Option<Url>, CallError> {
    let links = response.headers.get_all(header::LINK).iter();
    let links: Vec<&str> = links.filter_map(|link| link.to_str().ok()).collect();
    let Some(target) = links.iter().find_map(|link| next_link(link)) else {
        return Ok(None);
    };
    let url = hosted.host.place_of(&response.url, target)?;
    if !url.same_server(&hosted.host.base()?) {
        let reason = format!("goes on at another server, {}", url.host());
        return Err(hosted.invalid("list of tags", reason).into());
    }
    Ok(Some(url))
}

/// The target of the link that is the next page, among those of one header line (RFC 8288, section
/// 3). Lines count together: RFC 9110, section 5.3.
fn next_link(line: &str) -> Option<&str> {
    let mut rest = line;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let (target, after) = rest.strip_prefix('<')?.split_once('>')?;
        let (link, after) = up_to_comma(after);
        let mut rels = parameters(link).filter(|(name, _)| name.eq_ignore_ascii_case("rel"));
        // The first "rel" counts, and may name several relations.
        let rel = rels.next().map(|(_, value)| value).unwrap_or_default();
        let mut words = rel.split_ascii_whitespace();
        if words.any(|word| word.eq_ignore_ascii_case("next")) {
            return Some(target.trim());
        }
        rest = after;
    }
}

/// Splits before the first comma that is not in quotes.
fn up_to_comma(text: &str) -> (&str, &str) {
    text.split_at(outside_quotes(text, ',').unwrap_or(text.len()))
}

/// Where the first `sign` outside of quotes is.
fn outside_quotes(text: &str, sign: char) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if c == sign && !quoted => return Some(at),
            _ => {}
        }
    }
    None
}

/// The parameters of a link, as `; name="value"`.
fn parameters(link: &str) -> impl Iterator<Item = (&str, String)> {
    let mut rest = link;
    std::iter::from_fn(move || {
        let start = outside_quotes(rest, ';')?;
        let after = &rest[start + 1..];
        let end = outside_quotes(after, ';').unwrap_or(after.len());
        rest = &after[end..];
        Some(&after[..end])
    })
    .map(|parameter| {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let value = value.trim();
        let quoted = value
            .strip_prefix('"')
            .and_then(|value| value.strip_suffix('"'));
        let value = match quoted {
            Some(quoted) => quoted.replace('\\', ""),
            None => value.to_owned(),
        };
        (name.trim(), value)
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
            (r#"</first>;rel=first,</x>;rel=next"#, Some("/x")),
            (
                r#"</x?a=1,2;b>; title="a, <b>; rel=\"no\"" ; REL = "prev NEXT""#,
                Some("/x?a=1,2;b"),
            ),
            (r#", ,</x>; rel="next""#, Some("/x")),
            (r#"</x>; rel="prev"; rel="next""#, None),
            (r#"</x>; title="; rel=next""#, None),
            (r#"</x>; rel="nextone", </y>; norel=next"#, None),
            (r#"</first>; rel="prev""#, None),
            ("</x>", None),
            ("<", None),
            ("", None),
        ] {
            assert_eq!(next_link(text), next, "{text}");
        }
    }
}
