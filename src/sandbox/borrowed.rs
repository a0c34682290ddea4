//! Files of the build that commands see in their tree, and no layer gets: the host's name servers,
//! a `policy-rc.d` that keeps package scripts from starting services, and for processes as
//! container engines run them the name `localhost`.
//!
//! They are a layer of their own, between those of the image and what the step changes. So a step
//! can replace or remove them like any file, which is then its change. What a step only appended
//! to, copied or touched has the build's lines in it; these are taken out again.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Gid, Mode, OFlags, ResolveFlags, Timestamps, Uid, openat2};

use super::layer::{is_opaque, is_whiteout};
use super::mounts::path_in_run;

/// The first line of each of these files, by which they are known again.
const MARK: &str = "# Of the build, and not of the image.\n";
/// Where the resolver looks for name servers.
const RESOLVER: &str = "etc/resolv.conf";
/// What invoke-rc.d asks. Source: invoke-rc.d(8): exit code 101 forbids the action.
const POLICY: (&str, &str) = (
    "usr/sbin/policy-rc.d",
    "#!/bin/sh\n# Of the build, and not of the image.\nexit 101\n",
);

/// Names that every process knows.
const HOSTS: (&str, &str) = (
    "etc/hosts",
    "# Of the build, and not of the image.\n127.0.0.1 localhost vmfab\n\
     ::1 localhost ip6-localhost ip6-loopback\n",
);

/// The layer.
pub(super) struct Borrowed {
    directory: PathBuf,
    files: Vec<File>,
    /// The resolver's file and its content, where the image has it in `/run`, which is in memory.
    pub(super) in_run: Option<(PathBuf, Vec<u8>)>,
}

struct File {
    /// Relative to the tree.
    path: &'static str,
    content: Vec<u8>,
    /// What the image has there.
    own: Option<Vec<u8>>,
}

impl Borrowed {
    /// Makes the layer in the new `directory`, for a tree of `layers`, lowest first. `resolver` is
    /// the content of the resolver's file, for steps with network; `hosts`: whether they have
    /// `/etc/hosts`, too.
    pub(super) fn make(
        directory: PathBuf,
        layers: &[PathBuf],
        resolver: Option<&[u8]>,
        hosts: bool,
    ) -> io::Result<Self> {
        fs::create_dir(&directory)?;
        let mut borrowed = Self {
            directory,
            files: Vec::new(),
            in_run: None,
        };
        borrowed.add(layers, POLICY.0, POLICY.1.as_bytes().to_vec(), 0o755)?;
        if hosts {
            borrowed.add(layers, HOSTS.0, HOSTS.1.as_bytes().to_vec(), 0o644)?;
        }
        if let Some(resolver) = resolver {
            match resolver_in_run(layers) {
                Some(path) => borrowed.in_run = Some((path, resolver.to_vec())),
                None => {
                    let content = [MARK.as_bytes(), resolver].concat();
                    borrowed.add(layers, RESOLVER, content, 0o644)?;
                }
            }
        }
        // The root directory is that of the image.
        if let Some(root) = layers.last() {
            like(&fs::symlink_metadata(root)?, &borrowed.directory)?;
        }
        Ok(borrowed)
    }

    /// Where it is.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    fn add(
        &mut self,
        layers: &[PathBuf],
        path: &'static str,
        content: Vec<u8>,
        mode: u32,
    ) -> io::Result<()> {
        let parents: Vec<&Path> = Path::new(path).ancestors().skip(1).collect();
        let mut made = Vec::new();
        for parent in parents
            .iter()
            .rev()
            .filter(|parent| **parent != Path::new(""))
        {
            // A tree without that directory has nobody who would read the file.
            let Some(meta) = look_up(layers, parent).filter(|(_, meta)| meta.is_dir()) else {
                return Ok(());
            };
            made.push((self.directory.join(parent), meta.1));
        }
        for (directory, _) in &made {
            fs::create_dir_all(directory)?;
        }
        let file = self.directory.join(path);
        fs::write(&file, &content)?;
        fs::set_permissions(&file, fs::Permissions::from_mode(mode))?;
        // From the innermost on: what is made in a directory changes its time.
        for (directory, meta) in made.iter().rev() {
            like(meta, directory)?;
        }
        let own = look_up(layers, Path::new(path)).filter(|(_, meta)| meta.is_file());
        let own = own.map(|(file, _)| fs::read(file)).transpose()?;
        self.files.push(File { path, content, own });
        Ok(())
    }

    /// Takes the lines of the build out of what a step changed.
    pub(super) fn give_back(&self, upper: &Path) -> io::Result<()> {
        for file in &self.files {
            // The step may have made links of its directories: they are not followed.
            let meta = open(upper, Path::new(file.path)).and_then(|file| file.metadata().ok());
            let path = upper.join(file.path);
            let removed = meta.is_some_and(|meta| is_whiteout(&path, &meta));
            // It removed nothing of the image, only the build's.
            if removed && file.own.is_none() {
                fs::remove_file(path)?;
            }
        }
        for directory in ["etc", "usr/sbin"] {
            let meta = open(upper, Path::new(directory)).and_then(|file| file.metadata().ok());
            if meta.is_some_and(|meta| meta.is_dir()) {
                self.restore_below(&upper.join(directory))?;
            }
        }
        Ok(())
    }

    fn restore_below(&self, directory: &Path) -> io::Result<()> {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                self.restore_below(&entry.path())?;
            } else if kind.is_file() && entry.metadata()?.len() < 1 << 20 {
                self.restore(&entry.path())?;
            }
        }
        Ok(())
    }

    fn restore(&self, path: &Path) -> io::Result<()> {
        let content = fs::read(path)?;
        let Some((file, rest)) = self
            .files
            .iter()
            .find_map(|file| Some((file, content.strip_prefix(&file.content[..])?)))
        else {
            return Ok(());
        };
        match &file.own {
            // A copy of it, or it with other attributes, where the image has none.
            None if rest.is_empty() => fs::remove_file(path),
            own => fs::write(path, [own.as_deref().unwrap_or_default(), rest].concat()),
        }
    }
}

/// Where the resolver's file is when it is a link of the tree into `/run`.
fn resolver_in_run(layers: &[PathBuf]) -> Option<PathBuf> {
    let (file, meta) = look_up(layers, Path::new(RESOLVER))?;
    let link = meta
        .is_symlink()
        .then(|| fs::read_link(file).ok())
        .flatten()?;
    path_in_run(&link)
}

/// What a path of the tree is, without following links, and the file of the layer that has it.
fn look_up(layers: &[PathBuf], path: &Path) -> Option<(PathBuf, fs::Metadata)> {
    'layers: for layer in layers.iter().rev() {
        let mut below = PathBuf::new();
        let mut opaque = false;
        for part in path.components() {
            let Component::Normal(name) = part else {
                return None;
            };
            below.push(name);
            let Some(file) = open(layer, &below) else {
                match opaque {
                    true => return None,
                    false => continue 'layers,
                }
            };
            let meta = file.metadata().ok()?;
            if below == path {
                let found = layer.join(path);
                return (!is_whiteout(&found, &meta)).then_some((found, meta));
            }
            // Something else is in place of the directory of lower layers.
            if !meta.is_dir() {
                return None;
            }
            opaque |= is_opaque(&layer.join(&below)).ok()?;
        }
    }
    None
}

/// Opens a file of a layer itself, which a link on its way cannot replace.
fn open(layer: &Path, below: &Path) -> Option<fs::File> {
    let layer = fs::File::open(layer).ok()?;
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    // A link at the end is opened as such; one before it ends the way.
    let parent = below.parent().unwrap_or(Path::new(""));
    if parent != Path::new("") {
        let strict = resolve | ResolveFlags::NO_SYMLINKS;
        openat2(&layer, parent, flags, Mode::empty(), strict).ok()?;
    }
    Some(
        openat2(&layer, below, flags, Mode::empty(), resolve)
            .ok()?
            .into(),
    )
}

/// Gives a directory the owner, mode and time of another.
fn like(meta: &fs::Metadata, directory: &Path) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(meta.uid()), Gid::from_raw(meta.gid()));
    rustix::fs::chownat(CWD, directory, Some(uid), Some(gid), AtFlags::empty())?;
    fs::set_permissions(directory, meta.permissions())?;
    let time = |seconds, nanoseconds| rustix::fs::Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds,
    };
    let times = Timestamps {
        last_access: time(meta.atime(), meta.atime_nsec()),
        last_modification: time(meta.mtime(), meta.mtime_nsec()),
    };
    Ok(rustix::fs::utimensat(
        CWD,
        directory,
        &times,
        AtFlags::empty(),
    )?)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Trees {
        _directory: tempfile::TempDir,
        image: PathBuf,
        upper: PathBuf,
        borrowed: Borrowed,
    }

    fn trees(own: Option<&str>) -> Trees {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let (image, upper) = (at("image"), at("upper"));
        fs::create_dir_all(image.join("etc")).unwrap();
        fs::create_dir_all(upper.join("etc")).unwrap();
        fs::set_permissions(image.join("etc"), fs::Permissions::from_mode(0o711)).unwrap();
        if let Some(own) = own {
            fs::write(image.join(RESOLVER), own).unwrap();
        }
        let layers = [image.clone()];
        let borrowed =
            Borrowed::make(at("borrowed"), &layers, Some(b"nameserver 1\n"), false).unwrap();
        Trees {
            _directory: directory,
            image,
            upper,
            borrowed,
        }
    }

    #[test]
    fn the_layer_has_the_files_and_the_directories_of_the_image() {
        let trees = trees(Some("own\n"));
        let layer = trees.borrowed.directory();
        let text = fs::read_to_string(layer.join(RESOLVER)).unwrap();
        assert!(text.ends_with("\nnameserver 1\n"), "{text}");
        let (ours, theirs) = (
            fs::metadata(layer.join("etc")).unwrap(),
            fs::metadata(trees.image.join("etc")).unwrap(),
        );
        assert_eq!(ours.mode(), theirs.mode());
        assert_eq!(ours.modified().unwrap(), theirs.modified().unwrap());
        // The image has no /usr/sbin.
        assert!(!layer.join("usr").exists());
    }

    #[test]
    fn what_a_step_wrote_stays_without_the_lines_of_the_build() {
        let cases = [
            (Some("own\n"), "", Some("own\n")),
            (Some("own\n"), "step\n", Some("own\nstep\n")),
            (None, "step\n", Some("step\n")),
            (None, "", None),
        ];
        for (own, added, expected) in cases {
            let trees = trees(own);
            let build = fs::read_to_string(trees.borrowed.directory().join(RESOLVER)).unwrap();
            for name in ["resolv.conf", ".resolv.conf.bak"] {
                fs::write(trees.upper.join("etc").join(name), build.clone() + added).unwrap();
            }
            fs::write(trees.upper.join("etc/other"), "nameserver 1\n").unwrap();
            trees.borrowed.give_back(&trees.upper).unwrap();
            for name in ["resolv.conf", ".resolv.conf.bak"] {
                let text = fs::read_to_string(trees.upper.join("etc").join(name)).ok();
                assert_eq!(text.as_deref(), expected, "{own:?} {added:?}");
            }
            let other = fs::read_to_string(trees.upper.join("etc/other")).unwrap();
            assert_eq!(other, "nameserver 1\n");
        }
    }

    #[test]
    fn a_path_is_looked_up_through_all_layers_and_no_link() {
        let directory = tempfile::tempdir().unwrap();
        let layers: Vec<PathBuf> = ["0", "1"].map(|name| directory.path().join(name)).into();
        fs::create_dir_all(layers[0].join("etc")).unwrap();
        fs::create_dir_all(&layers[1]).unwrap();
        fs::write(layers[0].join("etc/file"), "").unwrap();
        let found = |path: &str| look_up(&layers, Path::new(path)).map(|(file, _)| file);
        assert_eq!(found("etc/file"), Some(layers[0].join("etc/file")));
        assert_eq!(found("etc/none"), None);
        std::os::unix::fs::symlink(directory.path().join("0/etc"), layers[1].join("etc")).unwrap();
        assert_eq!(found("etc/file"), None);
        assert_eq!(found("etc"), Some(layers[1].join("etc")));
    }
}
