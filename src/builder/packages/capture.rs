//! What a step installed: from the files that apt downloaded and the lists that it chose from.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::{LISTING, Listed, Listing, OUTPUT, deb822, place_key, repository};
use crate::checked::Unfit;
use crate::derivation::SOURCE_DATE_EPOCH;
use crate::digest::{ObjectRef, Sha256};
use crate::failure::Failure;
use crate::host::beneath::{Below, SMALL, open_unlinked, read_to_limit};
use crate::lock::{Archive, Package};
use crate::store::{ActionResult, Store};
use crate::tarball::{Member, Time, Writer};

/// The file of a package.
pub(super) struct DebFile {
    path: PathBuf,
    size: u64,
}

/// Files of packages, by their content.
pub(super) type Files = BTreeMap<Sha256, DebFile>;

/// The packages in a directory.
pub(super) fn files(directory: &Path) -> io::Result<Files> {
    let mut files = Files::new();
    // Steps can write there: it may be a link by now.
    let (above, name) = (directory.parent(), directory.file_name());
    let below = Below::new(above.unwrap_or(directory))?;
    for name in below.names(name.unwrap_or_default())? {
        let path = directory.join(name);
        if path.extension().is_none_or(|extension| extension != "deb") {
            continue;
        }
        let (sha256, size) = super::sha256(&path).map_err(|error| {
            let message = format!("{}: {error}", path.display());
            io::Error::new(error.kind(), message)
        })?;
        files.insert(sha256, DebFile { path, size });
    }
    Ok(files)
}

/// A list that apt chose from.
struct Target {
    path: PathBuf,
    archive: Archive,
}

/// The listing of `files`, with what the lists in `directory` say of them.
pub(super) fn listing(directory: &Path, files: &Files) -> io::Result<Listing> {
    let mut listing = Listing {
        version: 1,
        archives: Vec::new(),
        packages: Vec::new(),
    };
    let mut unlisted: BTreeMap<Sha256, &DebFile> =
        files.iter().map(|(sha256, file)| (*sha256, file)).collect();
    for target in targets(directory)? {
        let archive = listing.archives.len();
        let names: BTreeSet<String> = unlisted.values().filter_map(|file| name(file)).collect();
        let found = match open_unlinked(&target.path) {
            Ok(list) if !names.is_empty() => {
                let list = list.take(super::MOST_LIST);
                deb822::paragraphs(BufReader::with_capacity(1 << 18, list), &names)?
            }
            // Without names there is nothing to look for; a list that is not kept as text says
            // nothing.
            Ok(_) => Vec::new(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        for paragraph in found {
            let text = |name: &str| deb822::field(&paragraph, name).unwrap_or_default();
            let Ok(sha256) = text("SHA256").parse::<Sha256>() else {
                continue;
            };
            let Some(file) = unlisted.remove(&sha256) else {
                continue;
            };
            listing.packages.push(Listed {
                package: Package {
                    name: fit(text("Package"))?,
                    version: fit(text("Version"))?,
                    architecture: fit(text("Architecture"))?,
                    sha256,
                    size: file.size,
                    priority: Some(text("Priority"))
                        .filter(|p| !matches!(*p, "" | "optional"))
                        .map(fit)
                        .transpose()?,
                    archive: Some(archive),
                    file: Some(fit(text("Filename"))?),
                },
                stanza: Some(deb822::relevant(&paragraph)),
            });
        }
        listing.archives.push(target.archive);
    }
    for (sha256, file) in unlisted {
        let [name, version, architecture] = named(file).ok_or_else(|| {
            let path = file.path.display();
            io::Error::other(format!("{path} does not have the name of a package"))
        })?;
        listing.packages.push(Listed {
            package: Package {
                name: fit(&name)?,
                version: fit(&version)?,
                architecture: fit(&architecture)?,
                sha256,
                size: file.size,
                priority: None,
                archive: None,
                file: None,
            },
            stanza: None,
        });
    }
    listing.packages.sort();
    Ok(listing)
}

/// A text of an archive's lists, as locks have it.
fn fit<T: FromStr<Err = Unfit>>(text: &str) -> io::Result<T> {
    text.parse().map_err(io::Error::other)
}

/// Name, version and architecture, as apt names the file: `NAME_VERSION_ARCHITECTURE.deb`, with `%`
/// before the digits of characters that file names do not have.
fn named(file: &DebFile) -> Option<[String; 3]> {
    let stem = file.path.file_stem()?.to_str()?;
    let mut parts = stem.split('_').map(unescaped);
    Some([parts.next()?, parts.next()?, parts.next()?])
}

fn name(file: &DebFile) -> Option<String> {
    named(file).map(|[name, ..]| name)
}

fn unescaped(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = tail.get(..2).and_then(|digits| {
            let digits = std::str::from_utf8(digits).ok()?;
            u8::from_str_radix(digits, 16).ok()
        });
        match escaped {
            Some(byte) if *first == b'%' => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The lists that apt used, in its order.
fn targets(directory: &Path) -> io::Result<Vec<Target>> {
    let below = Below::new(directory)?;
    let text = read_to_limit(below.file("archives/targets")?, SMALL)?;
    let text = String::from_utf8_lossy(&text);
    let lists = directory.join("lists");
    let mut targets: Vec<Target> = Vec::new();
    for line in text.lines() {
        let mut parts = line.splitn(3, '|');
        let (Some(path), Some(inside), Some(url)) = (parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        let file_name = Path::new(path).file_name().unwrap_or_default();
        let path = lists.join(file_name);
        if targets.iter().any(|other| other.path == path) {
            continue;
        }
        // The list's name ends in its path in the archive: what is before it all lists of one
        // release share.
        let name = file_name.to_string_lossy();
        let prefix = name.strip_suffix(&inside.replace('/', "_")).unwrap_or("");
        let release = ["InRelease", "Release"].iter().find_map(|release| {
            let file = below.file(format!("lists/{prefix}{release}")).ok()?;
            let bytes = read_to_limit(file, SMALL).ok()?;
            Some(String::from_utf8_lossy(&bytes).into_owned())
        });
        let release = release.map_or_else(BTreeMap::new, |text| deb822::release(&text));
        let url = if url.ends_with('/') {
            url.to_owned()
        } else {
            format!("{url}/")
        };
        targets.push(Target {
            path,
            archive: Archive {
                url: fit(&url)?,
                release,
            },
        });
    }
    Ok(targets)
}

/// Looks whether exactly the packages of a lock were installed.
pub(super) fn compare(listing: &Listing, files: &Files) -> Result<(), Failure> {
    let packages = || listing.packages.iter().map(|listed| &listed.package);
    let left: Vec<&str> = packages()
        .filter(|package| !files.contains_key(&package.sha256))
        .map(|package| &*package.name)
        .collect();
    let locked: BTreeSet<Sha256> = packages().map(|package| package.sha256).collect();
    let more: Vec<String> = files
        .iter()
        .filter(|(sha256, _)| !locked.contains(sha256))
        .filter_map(|(_, file)| name(file))
        .collect();
    if left.is_empty() && more.is_empty() {
        return Ok(());
    }
    let mut message = "apt did not install the packages in vmfab.lock".to_owned();
    if !left.is_empty() {
        message += &format!("; it left out {}", left.join(", "));
    }
    if !more.is_empty() {
        message += &format!("; it added {}", more.join(", "));
    }
    Err(Failure::failed(message).with_help(
        "the lock does not belong to this recipe any more: \"vmfab update\" makes it anew",
    ))
}

/// Stores the output, and where each of its files is.
pub(super) fn store(store: &Store, listing: &Listing, files: &Files) -> Result<ObjectRef, Failure> {
    let text = serde_json::to_vec(listing).map_err(Failure::of_step)?;
    let mut writer = store.writer().map_err(Failure::of_step)?;
    let mut tar = Writer::new(&mut writer);
    let mut add = |name: &str, size: u64, content: &mut dyn Read| {
        let member = Member {
            path: name.into(),
            mode: 0o644,
            size,
            time: Time {
                seconds: SOURCE_DATE_EPOCH,
                nanoseconds: 0,
            },
            ..Member::default()
        };
        tar.add_file(&member, content).map_err(Failure::of_step)
    };
    add(LISTING, text.len() as u64, &mut text.as_slice())?;
    for listed in &listing.packages {
        let package = &listed.package;
        if let Some(file) = files.get(&package.sha256) {
            let mut content = open_unlinked(&file.path).map_err(Failure::of_step)?;
            add(&repository::file_name(package), file.size, &mut content)?;
        }
    }
    tar.finish().map_err(Failure::of_step)?;
    let output = writer.finish().map_err(Failure::of_step)?;
    for listed in &listing.packages {
        let result = ActionResult {
            outputs: BTreeMap::from([(OUTPUT.to_owned(), output)]),
        };
        store
            .put_action(&place_key(&listed.package.sha256), result)
            .map_err(Failure::of_step)?;
    }
    Ok(output)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A directory as apt leaves it: one list, of `listed`, and the files `kept`.
    fn left(listed: &[&str], kept: &[&str]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = directory.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let mut list = String::new();
        for name in listed {
            let digest = Sha256::of(name.as_bytes());
            list += &format!(
                "Package: {name}\nVersion: 1:2\nArchitecture: all\nPriority: required\n\
                 Filename: pool/{name}.deb\nSHA256: {digest}\n\n"
            );
        }
        write("lists/m_dists_s_main_binary-amd64_Packages", &list);
        write("lists/m_dists_s_InRelease", "Suite: stable\nDate: now\n");
        write(
            "archives/targets",
            "/x/m_dists_s_main_binary-amd64_Packages|main/binary-amd64/Packages|http://m\n",
        );
        for name in kept {
            write(&format!("archives/kept/{name}_1%3a2_all.deb"), name);
        }
        directory
    }

    #[test]
    fn nothing_of_the_host_is_taken_for_a_package() {
        use std::os::unix::fs::symlink;
        let left = left(&["a"], &["a"]);
        let kept = left.path().join("archives/kept");
        let other = kept.join("evil_1_all.deb");
        for target in ["/etc/passwd", "/dev/zero", "a_1_all.deb"] {
            symlink(target, &other).unwrap();
            let error = files(&kept).map(drop).unwrap_err();
            assert!(error.to_string().ends_with("it is a link"), "{error}");
            fs::remove_file(&other).unwrap();
        }
        let fifo = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, &other, fifo, 0o600.into(), 0).unwrap();
        assert!(files(&kept).is_err());
        fs::remove_file(&other).unwrap();
        let files = files(&kept).unwrap();
        assert_eq!(files.len(), 1);
        // The lists, and the directory itself.
        let targets = left.path().join("archives/targets");
        fs::remove_file(&targets).unwrap();
        symlink("/dev/zero", &targets).unwrap();
        assert!(listing(left.path(), &files).is_err());
        fs::rename(&kept, left.path().join("moved")).unwrap();
        symlink(left.path().join("moved"), &kept).unwrap();
        assert!(super::files(&kept).is_err());
    }

    #[test]
    fn what_was_installed_is_known_and_kept() {
        let left = left(&["b", "c", "a"], &["a", "c", "stray"]);
        let files = files(&left.path().join("archives/kept")).unwrap();
        let listing = listing(left.path(), &files).unwrap();
        let names: Vec<_> = listing
            .packages
            .iter()
            .map(|listed| (&*listed.package.name, listed.package.file.as_deref()))
            .collect();
        assert_eq!(
            names,
            [
                ("a", Some("pool/a.deb")),
                ("c", Some("pool/c.deb")),
                ("stray", None)
            ]
        );
        assert_eq!(listing.packages[2].package.version, "1:2");
        assert_eq!(listing.archives[0].url, "http://m/");
        assert_eq!(&*listing.archives[0].release["Suite"], "stable");
        assert_eq!(listing.archives[0].release.len(), 1);

        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path()).unwrap();
        let output = super::store(&store, &listing, &files).unwrap();
        assert_eq!(super::store(&store, &listing, &files).unwrap(), output);
        // Any program can read it.
        let bytes = store.read_object(&output.id).unwrap();
        let mut tar = tar::Archive::new(bytes.as_slice());
        let sizes: Vec<u64> = tar.entries().unwrap().map(|e| e.unwrap().size()).collect();
        assert_eq!(sizes[1..], [1, 1, 5]);
        let mut pool = super::super::pool::Pool::new(&store);
        for listed in &listing.packages {
            let path = home.path().join("out.deb");
            let found = pool.find(&listed.package, &path).unwrap();
            let super::super::pool::Lookup::Here(stanza) = found else {
                panic!("{} is not found", listed.package.name);
            };
            assert_eq!(stanza, listed.stanza);
            assert_eq!(fs::read_to_string(path).unwrap(), *listed.package.name);
        }
        assert_eq!(
            super::super::read(&store, &output).unwrap().packages.len(),
            3
        );
    }

    #[test]
    fn other_packages_than_locked_are_refused() {
        let left = left(&["a", "b"], &["a", "b"]);
        let mut files = files(&left.path().join("archives/kept")).unwrap();
        let mut listing = listing(left.path(), &files).unwrap();
        assert!(compare(&listing, &files).is_ok());
        files.remove(&listing.packages[0].package.sha256);
        let message = |result: Result<(), Failure>| result.unwrap_err().to_string();
        assert!(message(compare(&listing, &files)).ends_with("it left out a"));
        listing.packages.clear();
        assert!(message(compare(&listing, &files)).ends_with("it added b"));
    }
}
