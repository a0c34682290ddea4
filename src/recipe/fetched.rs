//! Content from outside: a `fetch` node and the transforms after it.

use super::error::Problem;
use super::model::{Compression, Fetch, Fetched, Pin, Transform};
use super::reader::Reader;
use super::reference::normalise;
use super::source::Spanned;
use super::value;
use crate::digest::Algorithm;
use crate::image::DiskFormat;

/// Properties of `fetch` that say how the content is known.
const PINS: [&str; 4] = ["sha256", "sha512", "blake3", "checksums"];

/// Reads the nodes between the braces of a node that takes content from outside; `None` when there
/// is no right `fetch` among them, which is reported.
pub(super) fn read(node: &Reader<'_>) -> Option<Fetched> {
    let mut fetched: Option<Fetched> = None;
    let mut wrong = false;
    for child in node.children() {
        match (child.shape.name, &mut fetched) {
            ("fetch", None) => match fetch(&child) {
                Some(fetch) => {
                    fetched = Some(Fetched {
                        span: child.span(),
                        fetch,
                        transforms: Vec::new(),
                    });
                }
                None => wrong = true,
            },
            ("fetch", Some(_)) => {
                node.scope.report(
                    Problem::new(
                        &child.span(),
                        "content comes from one place",
                        "the second fetch",
                    )
                    .with_help("for other places of the same content use mirrors=\"…\""),
                );
                wrong = true;
            }
            (_, Some(fetched)) => match transform(&child) {
                Some(transform) => fetched
                    .transforms
                    .push(Spanned::new(transform, child.span())),
                None => wrong = true,
            },
            // What is wrong about the fetch was reported.
            (_, None) if wrong => {}
            (name, None) => {
                node.scope.report(
                    Problem::new(
                        &child.span(),
                        format!("\"{name}\" comes before \"fetch\""),
                        "there is no content yet",
                    )
                    .with_help(
                        "write fetch first, then the nodes that process the content, in order",
                    ),
                );
                wrong = true;
            }
        }
    }
    fetched.filter(|_| !wrong)
}

fn fetch(node: &Reader<'_>) -> Option<Fetch> {
    let url = node.parsed_argument(0, value::url);
    let mirrors = node.words("mirrors", value::url);
    let lists = ["checksums", "signature"].map(|name| node.text(name).map(|text| text.value));
    let all = url.iter().map(|url| &url.value);
    let mut all = all.chain(&mirrors).chain(lists.iter().flatten());
    if !all.all(|url| node.scope.may_fetch(url, &node.span_of_all())) {
        return None;
    }
    let size = node.number("size", value::bytes).map(|size| size.value);
    let pins: Vec<&str> = PINS.into_iter().filter(|name| node.has(name)).collect();
    if let [_, second, ..] = pins.as_slice() {
        node.scope.report(
            Problem::new(
                &node.span(),
                "content has one checksum",
                format!("\"{second}\" is the second"),
            )
            .with_help("keep one of sha256, sha512, blake3 and checksums"),
        );
        return None;
    }
    let pin = match pins.first() {
        None => None,
        Some(&"checksums") => {
            let signature = node.parsed("signature", value::url_or_name);
            let keyring = node.text("keyring");
            if let (Some(signature), None) = (&signature, &keyring) {
                node.scope.report(
                    Problem::new(
                        &signature.span,
                        "a signature needs a key ring to be checked with",
                        "keyring is missing",
                    )
                    .with_help("add keyring=\"/usr/share/keyrings/….gpg\""),
                );
                return None;
            }
            let directory = node.scope.directory.clone().unwrap_or_default();
            if let Some(keyring) = &keyring
                && !node
                    .scope
                    .may_read(&normalise(&directory.join(&keyring.value)), &keyring.span)
            {
                return None;
            }
            Some(Pin::Checksums {
                url: node.parsed("checksums", value::url_or_name)?,
                signature,
                keyring: keyring.map(|path| directory.join(path.value)),
            })
        }
        Some(algorithm) => {
            let mut all = Algorithm::ALL.into_iter();
            let algorithm = all.find(|known| known.name() == *algorithm)?;
            let checksum = |text: &str| value::checksum(text, algorithm);
            Some(Pin::Checksum(
                node.parsed(algorithm.name(), checksum)?.value,
            ))
        }
    };
    if !matches!(pin, Some(Pin::Checksums { .. })) {
        for name in ["signature", "keyring"] {
            if node.has(name) {
                node.scope.report(
                    Problem::new(
                        &node.span(),
                        format!("\"{name}\" applies to a checksum list"),
                        "checksums is missing",
                    )
                    .with_help("add checksums=\"SHA256SUMS\""),
                );
                return None;
            }
        }
    }
    Some(Fetch {
        url: url?,
        mirrors,
        pin,
        size,
    })
}

fn transform(node: &Reader<'_>) -> Option<Transform> {
    Some(match node.shape.name {
        "strip-vhd-footer" => Transform::StripVhdFooter,
        "decompress" => Transform::Decompress(match node.positional().next() {
            None => None,
            Some(_) => Some(node.argument_choice(0, &Compression::NAMES)?.value),
        }),
        "convert" => Transform::Convert(match node.has("from") {
            false => None,
            true => Some(node.choice("from", &DiskFormat::NAMES)?.value),
        }),
        "rename" => Transform::Rename(node.parsed_argument(0, value::name)?.value),
        "extract" => Transform::Extract(node.parsed_argument(0, value::member)?.value),
        // The only one left in the shapes of content: "unpack".
        _ => Transform::Unpack,
    })
}
