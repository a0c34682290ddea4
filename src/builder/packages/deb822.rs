//! Paragraphs of fields, as in `Packages` and `Release` files. Pure. Source: deb822(5),
//! deb-control(5).

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead};

use crate::checked::{Line, Name};

/// The fields of a package that decide what is installed with it and how. The others differ between
/// an archive's lists and the package itself, and are long. The priority counts, too, and is the
/// archive's own: it is a field of [`Package`](crate::lock::Package).
const RELEVANT: [&str; 19] = [
    "Package",
    "Version",
    "Architecture",
    "Multi-Arch",
    "Essential",
    "Important",
    "Protected",
    "Build-Essential",
    "Section",
    "Source",
    "Installed-Size",
    "Pre-Depends",
    "Depends",
    "Recommends",
    "Suggests",
    "Conflicts",
    "Breaks",
    "Replaces",
    "Provides",
];

/// What a `Release` file says that can be asked for when packages are chosen.
const RELEASE: [&str; 5] = ["Suite", "Codename", "Version", "Origin", "Label"];

/// The first line of a field's value.
pub(super) fn field<'a>(paragraph: &'a str, name: &str) -> Option<&'a str> {
    paragraph.lines().find_map(|line| {
        let (field, value) = line.split_once(':')?;
        field.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// The relevant fields of a package, in one order, each on its lines.
pub(super) fn relevant(paragraph: &str) -> String {
    let mut fields: BTreeMap<usize, String> = BTreeMap::new();
    let mut current = None;
    for line in paragraph.lines().filter(|line| !line.is_empty()) {
        if !line.starts_with([' ', '\t']) {
            let name = line.split(':').next().unwrap_or_default();
            current = RELEVANT
                .iter()
                .position(|relevant| relevant.eq_ignore_ascii_case(name));
        }
        if let Some(field) = current {
            let text = fields.entry(field).or_default();
            text.push_str(line.trim_end());
            text.push('\n');
        }
    }
    fields.into_values().collect()
}

/// What a `Release` file, signed or not, says of the archive.
pub(super) fn release(text: &str) -> BTreeMap<Name, Line> {
    let known = RELEASE.iter().filter_map(|&name| {
        let value = field(text, name)?;
        Some((name.parse().ok()?, Line::like(value)))
    });
    known.collect()
}

/// The paragraphs of a `Packages` file for packages of these names.
pub(super) fn paragraphs(
    mut list: impl BufRead,
    names: &BTreeSet<String>,
) -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    let mut line = Vec::new();
    let mut paragraph = Vec::new();
    // Fields before the name are kept until it is known whether it is wanted.
    let mut wanted = None;
    loop {
        line.clear();
        let end = list.read_until(b'\n', &mut line)? == 0;
        if end || line == b"\n" {
            if wanted == Some(true) {
                found.push(String::from_utf8_lossy(&paragraph).into_owned());
            }
            if end {
                return Ok(found);
            }
            paragraph.clear();
            wanted = None;
            continue;
        }
        if wanted.is_none()
            && let Some(name) = line.strip_prefix(b"Package: ")
        {
            wanted = Some(names.contains(String::from_utf8_lossy(name).trim()));
        }
        if wanted != Some(false) {
            paragraph.extend_from_slice(&line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "\
Package: a
Version: 1
Description: the first
 of several
Depends: b,
 c
SHA256: 00

Architecture: all
Package: b
Version: 2

Package: bb
Version: 3
";

    #[test]
    fn paragraphs_of_names() {
        let names = BTreeSet::from(["a".to_owned(), "bb".to_owned(), "c".to_owned()]);
        let found = paragraphs(LIST.as_bytes(), &names).unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!(field(&found[0], "sha256"), Some("00"));
        assert_eq!(field(&found[1], "Version"), Some("3"));
        let b = paragraphs(LIST.as_bytes(), &BTreeSet::from(["b".to_owned()])).unwrap();
        assert_eq!(b, ["Architecture: all\nPackage: b\nVersion: 2\n"]);
    }

    #[test]
    fn what_decides_is_kept_in_one_order() {
        let text = "Description: the first\n of several\nDepends: b,\n c\nVersion: 1\nPackage: a\n";
        let kept = "Package: a\nVersion: 1\nDepends: b,\n c\n";
        assert_eq!(relevant(text), kept);
        assert_eq!(relevant(kept), kept);
    }

    #[test]
    fn releases() {
        let text = "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nOrigin: Debian\n\
                    Suite: oldstable\nDate: today\nSHA256:\n 00 1 main\n";
        let release = release(text);
        assert_eq!(&*release["Suite"], "oldstable");
        assert_eq!(release.len(), 2);
    }
}
