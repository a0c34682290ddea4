//! One file that holds a template: a tar of a fixed order (`.vmfabt`).
//!
//! A package has regular files and nothing else, ordered by path, each with owner 0, time 0 and one
//! of two modes. So equal templates give equal bytes, and the digest of the bytes is that of the
//! template. The reader accepts this form alone. It says which rule another one breaks.

use std::collections::BTreeSet;
use std::io::Read as _;

use semver::Version;

use super::outline::{MOST_DEPENDENCIES, Outline};
use crate::checked::Name;
use crate::digest::Sha256;
use crate::failure::Failure;
use crate::tarball::{self, Compression, Kind, Member, Writer};

/// The most bytes of a package.
pub const MOST_BYTES: u64 = 64 << 20;
/// The most files in one.
pub const MOST_FILES: usize = 4096;
/// The longest path, in bytes.
const LONGEST_PATH: usize = 240;
/// How deep files may lie.
const DEEPEST: usize = 16;
/// The longest recipe that is read of one.
const LONGEST_RECIPE: usize = 4 << 20;
/// What the file with the `recipe` node may be called when there are several.
const USUAL: [&str; 2] = ["template.kdl", "recipe.kdl"];

const PLAIN: u32 = 0o644;
const EXECUTABLE: u32 = 0o755;

/// A file of a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageFile {
    /// Relative, with `/` between its parts.
    pub path: String,
    pub executable: bool,
    pub content: Vec<u8>,
}

/// A template in one piece.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// Ordered by path.
    files: Vec<PackageFile>,
    /// The path of the file with the `recipe` node.
    recipe: String,
    outline: Outline,
    digest: Sha256,
    bytes: Vec<u8>,
}

impl Package {
    /// Packs files.
    ///
    /// # Errors
    /// They break a rule of packages, or none of them is the recipe of a template.
    pub fn pack(mut files: Vec<PackageFile>) -> Result<Self, Failure> {
        files.sort_by(|a, b| a.path.cmp(&b.path));
        check(&files)?;
        let bytes = write(&files)?;
        Self::of(files, bytes)
    }

    /// Reads the bytes of a package.
    ///
    /// # Errors
    /// They are none: the failure names the rule.
    pub fn read(bytes: Vec<u8>) -> Result<Self, Failure> {
        if bytes.len() as u64 > MOST_BYTES {
            return Err(too_large());
        }
        if let Some(compression) = Compression::of(&bytes) {
            let message = format!(
                "the package is compressed ({compression:?}): a package is a tar without compression"
            );
            return Err(refused(message));
        }
        let mut files = unpack(&bytes)?;
        files.sort_by(|a, b| a.path.cmp(&b.path));
        check(&files)?;
        if write(&files)? != bytes {
            return Err(refused(
                "the package has another form: members are ordered by path, and have owner 0, time 0 and mode \
                 644 or 755",
            ));
        }
        Self::of(files, bytes)
    }

    fn of(files: Vec<PackageFile>, bytes: Vec<u8>) -> Result<Self, Failure> {
        if bytes.len() as u64 > MOST_BYTES {
            return Err(too_large());
        }
        let recipe = recipe_of(&files)?;
        let mut outline = Outline::read(&recipe.path, text(recipe)?).map_err(Failure::recipe)?;
        let recipe = recipe.path.clone();
        // What it includes may need templates, too.
        let others = files.iter().filter(|file| file.path != recipe);
        for file in others.filter(|file| file.path.ends_with(".kdl")) {
            let needs = Outline::needs_of(&file.path, text(file)?).map_err(Failure::recipe)?;
            for need in needs {
                let known = outline.needs.iter();
                if known
                    .map(|known| &known.template)
                    .all(|one| *one != need.template)
                {
                    outline.needs.push(need);
                }
            }
        }
        if outline.needs.len() > MOST_DEPENDENCIES {
            return Err(refused(format!(
                "the template needs {} others, more than {MOST_DEPENDENCIES}",
                outline.needs.len()
            )));
        }
        Ok(Self {
            files,
            recipe,
            outline,
            digest: Sha256::of(&bytes),
            bytes,
        })
    }

    #[must_use]
    pub fn files(&self) -> &[PackageFile] {
        &self.files
    }

    /// The path of the file with the `recipe` node.
    #[must_use]
    pub fn recipe(&self) -> &str {
        &self.recipe
    }

    #[must_use]
    pub const fn outline(&self) -> &Outline {
        &self.outline
    }

    #[must_use]
    pub const fn name(&self) -> &Name {
        &self.outline.name
    }

    #[must_use]
    pub const fn version(&self) -> &Version {
        &self.outline.version
    }

    /// Of its bytes.
    #[must_use]
    pub const fn digest(&self) -> Sha256 {
        self.digest
    }

    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What its file is called: `NAME-VERSION.vmfabt`.
    #[must_use]
    pub fn file_name(&self) -> String {
        format!("{}-{}.{}", self.name(), self.version(), super::EXTENSION)
    }
}

fn refused(message: impl Into<String>) -> Failure {
    Failure::verification(message)
        .with_help("\"vmfab template package\" makes a package of a directory")
}

fn too_large() -> Failure {
    refused(format!(
        "the package has more than {} MiB",
        MOST_BYTES >> 20
    ))
}

/// The file with the `recipe` node: the only recipe beside its directory's, or one of a usual name.
fn recipe_of(files: &[PackageFile]) -> Result<&PackageFile, Failure> {
    let top = |file: &&PackageFile| !file.path.contains('/') && file.path.ends_with(".kdl");
    let mut recipes = files.iter().filter(top);
    let usual = USUAL
        .iter()
        .find_map(|name| files.iter().find(|file| file.path == *name));
    match (usual, recipes.next(), recipes.next()) {
        (Some(usual), _, _) => Ok(usual),
        (None, Some(only), None) => Ok(only),
        (None, None, _) => Err(refused("the template has no recipe: a file NAME.kdl")),
        (None, Some(_), Some(_)) => Err(refused(
            "the template has several recipes, and none is called template.kdl or recipe.kdl",
        )),
    }
}

fn text(file: &PackageFile) -> Result<&str, Failure> {
    let path = &file.path;
    if file.content.len() > LONGEST_RECIPE {
        return Err(refused(format!("the recipe {path} is longer than 4 MiB")));
    }
    std::str::from_utf8(&file.content)
        .map_err(|_| refused(format!("the recipe {path} is not UTF-8 text")))
}

fn check(files: &[PackageFile]) -> Result<(), Failure> {
    if files.len() > MOST_FILES {
        return Err(too_many());
    }
    let paths: BTreeSet<&str> = files.iter().map(|file| file.path.as_str()).collect();
    let mut seen = BTreeSet::new();
    let mut size = 0;
    for file in files {
        check_path(&file.path)?;
        // File systems that know no case must not mix two files up either.
        if !seen.insert(file.path.to_lowercase()) {
            return Err(refused(format!(
                "the package has two files {:?}",
                file.path
            )));
        }
        let mut above = file.path.as_str();
        while let Some((directory, _)) = above.rsplit_once('/') {
            if paths.contains(directory) {
                return Err(refused(format!(
                    "the package has a file and a directory {directory:?}"
                )));
            }
            above = directory;
        }
        size += file.content.len() as u64;
    }
    match size > MOST_BYTES {
        true => Err(too_large()),
        false => Ok(()),
    }
}

fn too_many() -> Failure {
    refused(format!("the package has more than {MOST_FILES} files"))
}

/// Whether a path stays in the directory of the package, and is one for every system.
fn check_path(path: &str) -> Result<(), Failure> {
    let why = if path.starts_with('/') {
        "is absolute: paths are relative"
    } else if path.split('/').any(|part| part == "..") {
        "climbs out of the package"
    } else if path.split('/').any(|part| matches!(part, "" | ".")) {
        "is not in its shortest form"
    } else if path.len() > LONGEST_PATH || path.split('/').count() > DEEPEST {
        "is too long or too deep: 240 bytes and 16 directories are the most"
    } else if path.contains(|c: char| c.is_control() || c == '\\') {
        "has characters that are not allowed in paths"
    } else {
        return Ok(());
    };
    Err(refused(format!("the path {path:?} in the package {why}")))
}

fn unpack(bytes: &[u8]) -> Result<Vec<PackageFile>, Failure> {
    let damaged = |error: std::io::Error| refused(format!("the package is damaged: {error}"));
    let mut reader = tarball::Reader::new(bytes);
    let (mut files, mut size) = (Vec::new(), 0_u64);
    while let Some(member) = reader.member().map_err(damaged)? {
        let path = String::from_utf8(member.path.clone())
            .map_err(|_| refused(format!("the path {:?} is not UTF-8", member.name())))?;
        check_path(&path)?;
        let what = match member.kind {
            Kind::File => None,
            Kind::Symlink | Kind::Link => Some("a link"),
            Kind::Directory => Some("a directory"),
            _ => Some("a device or a pipe"),
        };
        if let Some(what) = what {
            return Err(refused(format!(
                "{path:?} in the package is {what}: a package has regular files and nothing else"
            )));
        }
        // A hole takes no bytes in the archive, and as many as it likes here.
        size = size.saturating_add(member.size);
        if size > MOST_BYTES {
            return Err(refused(format!(
                "the files of the package have more than {} MiB",
                MOST_BYTES >> 20
            )));
        }
        if files.len() == MOST_FILES {
            return Err(too_many());
        }
        let mut content = Vec::new();
        let mut whole = reader.by_ref().take(member.size);
        whole.read_to_end(&mut content).map_err(damaged)?;
        files.push(PackageFile {
            path,
            executable: member.mode & 0o111 != 0,
            content,
        });
    }
    Ok(files)
}

fn write(files: &[PackageFile]) -> Result<Vec<u8>, Failure> {
    let failed =
        |error: std::io::Error| Failure::failed(format!("cannot write a package: {error}"));
    let mut writer = Writer::new(Vec::new());
    for file in files {
        let member = Member {
            path: file.path.clone().into_bytes(),
            mode: if file.executable { EXECUTABLE } else { PLAIN },
            size: file.content.len() as u64,
            ..Member::default()
        };
        let mut content = file.content.as_slice();
        writer.add_file(&member, &mut content).map_err(failed)?;
    }
    writer.finish().map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use proptest::prelude::*;

    use super::*;

    const RECIPE: &str =
        "recipe \"web\" version=\"1.0.0\" { }\nimage \"web\" { from \"alpine@3\" }\n";

    fn file(path: &str, content: &[u8]) -> PackageFile {
        PackageFile {
            path: path.into(),
            executable: false,
            content: content.into(),
        }
    }

    fn recipe() -> PackageFile {
        file("web.kdl", RECIPE.as_bytes())
    }

    /// A tar of these members, each with its content.
    fn tar(members: Vec<(Member, &[u8])>) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new());
        for (mut member, content) in members {
            member.size = content.len() as u64;
            writer.add_file(&member, &mut { content }).unwrap();
        }
        writer.finish().unwrap()
    }

    fn member(path: &str) -> Member {
        Member {
            path: path.into(),
            mode: PLAIN,
            ..Member::default()
        }
    }

    #[track_caller]
    fn refusal(bytes: Vec<u8>) -> String {
        let refused = Package::read(bytes).unwrap_err();
        assert!(refused.is(crate::failure::Kind::Verification), "{refused}");
        refused.to_string()
    }

    #[test]
    fn packages_that_break_a_rule_are_refused_by_it() {
        let good = || (member("web.kdl"), RECIPE.as_bytes());
        assert!(Package::read(tar(vec![good()])).is_ok());
        let linked = |kind, to: &str| Member {
            kind,
            link: to.into(),
            ..member("a")
        };
        let with = |other: Member| tar(vec![(other, b""), good()]);
        for (bytes, why) in [
            (with(member("../a")), "climbs out of the package"),
            (with(member("a/../../b")), "climbs out of the package"),
            (with(member("/etc/passwd")), "is absolute"),
            (with(member("./a")), "is not in its shortest form"),
            (with(member("a//b")), "is not in its shortest form"),
            (with(member("a\\b")), "characters that are not allowed"),
            (with(member(&"a/".repeat(20))), "is too long or too deep"),
            (with(linked(Kind::Symlink, "/etc/passwd")), "is a link"),
            (with(linked(Kind::Symlink, "web.kdl")), "is a link"),
            (with(linked(Kind::Link, "../../x")), "is a link"),
            (with(linked(Kind::CharDevice, "")), "is a device or a pipe"),
            (with(linked(Kind::Fifo, "")), "is a device or a pipe"),
            (with(linked(Kind::Directory, "")), "is a directory"),
            (tar(vec![good(), (member("a"), b"")]), "has another form"),
            (
                with(Member {
                    uid: 7,
                    ..member("a")
                }),
                "has another form",
            ),
            (
                with(Member {
                    mode: 0o4755,
                    ..member("a")
                }),
                "has another form",
            ),
            (tar(vec![good(), good()]), "two files \"web.kdl\""),
            (
                tar(vec![(member("WEB.kdl"), b""), good()]),
                "two files \"web.kdl\"",
            ),
            (
                tar(vec![(member("a"), b""), (member("a/b"), b""), good()]),
                "a file and a directory \"a\"",
            ),
            (tar(vec![(member("a"), b"x")]), "has no recipe"),
            (b"something else".to_vec(), "is damaged"),
        ] {
            let said = refusal(bytes);
            assert!(said.contains(why), "{said} should say: {why}");
        }
    }

    #[test]
    fn bombs_are_refused_before_they_take_memory() {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&vec![0; 1 << 20]).unwrap();
        let said = refusal(gzip.finish().unwrap());
        assert!(said.contains("without compression"), "{said}");
        let said = refusal(zstd::encode_all(&b"x"[..], 1).unwrap());
        assert!(said.contains("without compression"), "{said}");
        // Terabytes that are holes.
        let mut writer = Writer::new(Vec::new());
        let hole = Member {
            size: 1 << 42,
            data: Some(Vec::new()),
            ..member("a")
        };
        writer.add(&hole).unwrap();
        let said = refusal(writer.finish().unwrap());
        assert!(said.contains("more than 64 MiB"), "{said}");
        let many = (0..=MOST_FILES).map(|n| (member(&format!("{n:06}")), &b""[..]));
        let said = refusal(tar(many.collect()));
        assert!(said.contains("more than 4096 files"), "{said}");
    }

    #[test]
    fn the_recipe_of_a_package() {
        let with = |files: &[&str]| {
            let files = files.iter().map(|path| file(path, RECIPE.as_bytes()));
            Package::pack(files.collect()).map(|package| package.recipe().to_owned())
        };
        assert_eq!(with(&["a.kdl", "lib/b.kdl"]).unwrap(), "a.kdl");
        assert_eq!(with(&["a.kdl", "template.kdl"]).unwrap(), "template.kdl");
        assert!(with(&["a.kdl", "b.kdl"]).is_err());
        assert!(with(&["lib/b.kdl"]).is_err());
        let package = Package::pack(vec![recipe()]).unwrap();
        assert_eq!(package.file_name(), "web-1.0.0.vmfabt");
        assert_eq!(package.outline().needs.len(), 1);
    }

    proptest! {
        /// Packing, reading and packing again give the same bytes, in whatever order files come.
        #[test]
        fn packages_come_back_as_they_were(
            contents in prop::collection::btree_map("[a-z]{1,8}(/[a-z]{1,130}){0,2}[.]txt", (any::<bool>(), prop::collection::vec(any::<u8>(), 0..700)), 0..12),
            seed in any::<u64>(),
        ) {
            let mut files = vec![recipe()];
            for (path, (executable, content)) in contents {
                files.push(PackageFile { path, executable, content });
            }
            prop_assume!(check(&files).is_ok());
            let packed = Package::pack(files.clone()).unwrap();
            let middle = seed as usize % files.len();
            files.rotate_left(middle);
            let again = Package::pack(files).unwrap();
            prop_assert_eq!(again.bytes(), packed.bytes());
            let read = Package::read(packed.bytes().to_vec()).unwrap();
            prop_assert_eq!(&read, &packed);
            prop_assert_eq!(read.digest(), Sha256::of(packed.bytes()));
        }

        /// Whatever bytes come, none panics; a package that one byte was changed of is refused or
        /// another one.
        #[test]
        fn changed_packages_are_not_the_same(at in any::<prop::sample::Index>(), bit in 0..8_u32) {
            let packed = Package::pack(vec![recipe(), file("a", b"content")]).unwrap();
            let mut bytes = packed.bytes().to_vec();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            if let Ok(read) = Package::read(bytes) {
                prop_assert_ne!(read.digest(), packed.digest());
            }
        }
    }
}
