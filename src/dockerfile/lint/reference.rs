//! Whether a text can name an image.

/// Whether a text is `[HOST/]NAME[:TAG][@DIGEST]`, or one of vmfab's own ways to name an image.
pub(super) fn can_be_image(text: &str) -> bool {
    if let Some(tag) = text.strip_prefix('@') {
        return !tag.is_empty();
    }
    if let Some((_, rest)) = text.split_once("://") {
        return !rest.is_empty();
    }
    let (name, digest) = match text.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (text, None),
    };
    if digest.is_some_and(|digest| !is_digest(digest)) {
        return false;
    }
    // A colon after the last slash begins a tag; before it, a port.
    let last = name.rfind('/').map_or(0, |at| at + 1);
    let (name, tag) = match name[last..].find(':') {
        Some(at) => (&name[..last + at], Some(&name[last + at + 1..])),
        None => (name, None),
    };
    if tag.is_some_and(|tag| !is_tag(tag)) {
        return false;
    }
    let is_id = name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit());
    let mut parts: Vec<&str> = name.split('/').collect();
    let is_host = |part: &str| {
        part.contains(['.', ':']) || part == "localhost" || part.chars().any(char::is_uppercase)
    };
    if parts.len() > 1 && is_host(parts[0]) {
        let host = parts.remove(0);
        let fits = |b: u8| b.is_ascii_alphanumeric() || b".-:[]_".contains(&b);
        if host.is_empty() || !host.bytes().all(fits) {
            return false;
        }
    }
    !is_id && parts.iter().all(|part| is_component(part))
}

fn is_digest(text: &str) -> bool {
    text.split_once(':').is_some_and(|(algorithm, hex)| {
        !algorithm.is_empty() && hex.len() >= 32 && hex.bytes().all(|b| b.is_ascii_hexdigit())
    })
}

fn is_tag(text: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    (1..=128).contains(&text.len()) && !text.starts_with(['.', '-']) && text.bytes().all(fits)
}

/// Small letters and digits, with `.`, `_`, `__` or any number of `-` between them.
fn is_component(text: &str) -> bool {
    let is_inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let ends_well = |b: Option<u8>| b.is_some_and(is_inner);
    let separators = text.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    ends_well(text.bytes().next())
        && ends_well(text.bytes().last())
        && separators.into_iter().all(|separator| {
            matches!(separator, "" | "." | "_" | "__") || separator.bytes().all(|b| b == b'-')
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for name in [
            "debian",
            "debian:12",
            "library/debian",
            "ghcr.io/a/b-c__d:v1.0_x",
            "localhost:5000/x",
            "x@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "@debian-12",
            "oci://ghcr.io/a/b",
        ] {
            assert!(can_be_image(name), "{name}");
        }
        for name in [
            "",
            ":",
            "busybox:",
            "Debian",
            "a//b",
            "-a",
            "a-",
            "a b",
            "a:b:c",
            "x@sha256:12",
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        ] {
            assert!(!can_be_image(name), "{name}");
        }
    }
}
