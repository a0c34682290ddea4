//! Archives on disk that have exactly the packages of a listing, for apt: one directory for each
//! archive that they came from, so that what apt knows of these archives stays true. Source of the
//! format: sources.list(5), <https://wiki.debian.org/DebianRepository/Format>.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::{Listing, deb822};
use crate::checked::Line;
use crate::digest::Sha256;
use crate::lock::{Archive, Package};

/// Any fixed time: archives without one are refused. It is `SOURCE_DATE_EPOCH`.
const DATE: &str = "Wed, 01 Jan 2020 00:00:00 UTC";

/// Writes the lists of the archives below `root`, where the files of the packages are already, and
/// the sources that name them; apt finds `root` at `seen`.
///
/// `codename` stands in the place of each archive's own: mmdebstrap installs the required packages
/// of its suite, and one whose version is from the updates of that suite would be none here.
pub(super) fn write(
    root: &Path,
    seen: &str,
    codename: Option<&str>,
    listing: &Listing,
) -> io::Result<()> {
    // The last one is for packages that no archive lists; it may be empty, as any other.
    for archive in 0..=listing.archives.len() {
        let directory = root.join(archive.to_string());
        fs::create_dir_all(&directory)?;
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755))?;
        let index = index(listing, archive);
        let release = release(listing.archives.get(archive), codename, &index);
        write_file(&directory.join("Packages"), &index)?;
        write_file(&directory.join("Release"), &release)?;
    }
    let sources = sources(seen, listing.archives.len() + 1);
    write_file(&root.join("sources.list"), &sources)
}

/// The line of each archive.
fn sources(seen: &str, count: usize) -> String {
    let seen: String = seen
        .bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02x}"),
        })
        .collect();
    // The files were compared with the lock, which is what is trusted. Copied, because dpkg runs
    // where these directories may not be seen.
    (0..count)
        .map(|archive| format!("deb [trusted=yes] copy:{seen}/{archive} ./\n"))
        .collect()
}

/// The `Packages` file of one archive.
fn index(listing: &Listing, archive: usize) -> String {
    let mut text = String::new();
    let own = |package: &Package| {
        package
            .archive
            .unwrap_or(listing.archives.len())
            .min(listing.archives.len())
            == archive
    };
    for listed in listing
        .packages
        .iter()
        .filter(|listed| own(&listed.package))
    {
        let package = &listed.package;
        // Once more: an empty line in it would begin another package.
        let stanza = listed.stanza.as_deref().unwrap_or_default();
        text.push_str(&deb822::relevant(stanza));
        let _ = write!(
            text,
            "Priority: {}\nFilename: ./{}\nSize: {}\nSHA256: {}\n\n",
            package.priority.as_deref().unwrap_or("optional"),
            file_name(package),
            package.size,
            package.sha256
        );
    }
    text
}

/// The `Release` file of one archive.
fn release(archive: Option<&Archive>, codename: Option<&str>, index: &str) -> String {
    let mut fields = archive.map_or_else(BTreeMap::new, |archive| archive.release.clone());
    if let Some(codename) = codename {
        fields.insert("Codename".parse().expect("a name"), Line::like(codename));
    }
    let mut text = String::new();
    for (field, value) in fields {
        let _ = writeln!(text, "{field}: {value}");
    }
    let digest = Sha256::of(index.as_bytes());
    let _ = writeln!(
        text,
        "Date: {DATE}\nSHA256:\n {digest} {} Packages",
        index.len()
    );
    text
}

/// The file of a package, under a name that no other has.
pub(super) fn file_name(package: &Package) -> String {
    format!("{}.deb", package.sha256)
}

fn write_file(path: &Path, text: &str) -> io::Result<()> {
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644))
}

#[cfg(test)]
mod tests {
    use super::super::Listed;
    use super::*;

    #[test]
    fn each_archive_has_its_packages() {
        let package = |name: &str, archive| Package {
            name: name.parse().unwrap(),
            version: "1".parse().unwrap(),
            architecture: "all".parse().unwrap(),
            sha256: crate::digest::Sha256::from_bytes([7; 32]),
            size: 5,
            priority: None,
            archive,
            file: None,
        };
        let listed = |name: &str, archive| Listed {
            package: package(name, archive),
            stanza: Some(format!("Package: {name}\n")),
        };
        let listing = Listing {
            version: 1,
            archives: vec![Archive {
                url: "http://m/".parse().unwrap(),
                release: BTreeMap::from([("Suite".parse().unwrap(), Line::like("stable"))]),
            }],
            packages: vec![
                listed("a", Some(0)),
                listed("b", None),
                listed("c", Some(0)),
            ],
        };
        let first = index(&listing, 0);
        insta::assert_snapshot!(format!("{first}---\n{}", release(listing.archives.first(), Some("s"), &first)), @r#"
        Package: a
        Priority: optional
        Filename: ./0707070707070707070707070707070707070707070707070707070707070707.deb
        Size: 5
        SHA256: 0707070707070707070707070707070707070707070707070707070707070707

        Package: c
        Priority: optional
        Filename: ./0707070707070707070707070707070707070707070707070707070707070707.deb
        Size: 5
        SHA256: 0707070707070707070707070707070707070707070707070707070707070707

        ---
        Codename: s
        Suite: stable
        Date: Wed, 01 Jan 2020 00:00:00 UTC
        SHA256:
         14b4ec465c5a58ef9008d36bfcafec7ef44c47c023c3c0377eb43c90501bfc3e 386 Packages
        "#);
        assert!(index(&listing, 1).starts_with("Package: b\n"));
        assert!(!release(None, None, "").contains("Suite"));
    }

    #[test]
    fn paths_in_sources_are_escaped() {
        assert_eq!(
            sources("/a b", 2),
            "deb [trusted=yes] copy:/a%20b/0 ./\ndeb [trusted=yes] copy:/a%20b/1 ./\n"
        );
    }
}
