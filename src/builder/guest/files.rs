//! Files of a step for a guest. Programs named tar differ in what they do to directories that are there, so the archive
//! that a guest gets holds none of these: it was asked before (`look.sh`).

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use tar::EntryType;

use crate::builder::local::append_link;
use crate::derivation::step::Copy;
use crate::sandbox::owner_ids;

/// What becomes of the entries of an archive.
#[derive(Debug, Clone, Copy)]
pub(super) enum Placing<'a> {
    /// Those of `copy`: all get one owner, files the mode that the step says.
    Copied(&'a Copy),
    /// Those of a layer: they stay as they are.
    Layer,
}

/// What a guest said of the files that it is going to get, and of its accounts.
#[derive(Debug, Default)]
pub(super) struct Looked {
    /// Numbers of the directories that are there, in the order of [`questions`].
    there: HashSet<usize>,
    passwd: String,
    group: String,
}

impl Looked {
    /// Takes one line of the answer.
    pub(super) fn add(&mut self, line: &str) {
        let Some((kind, text)) = line.strip_prefix("vmfab:").and_then(|l| l.split_once(':')) else {
            return;
        };
        match kind {
            "there" => self.there.extend(text.parse::<usize>()),
            "passwd" => self.passwd.extend([text, "\n"]),
            "group" => self.group.extend([text, "\n"]),
            _ => {}
        }
    }

    /// The ids of `user[:group]`; root's when absent.
    pub(super) fn owner(&self, owner: Option<&str>) -> Result<(u32, u32), String> {
        match owner {
            Some(owner) => owner_ids(owner, &self.passwd, &self.group),
            None => Ok((0, 0)),
        }
    }
}

impl Placing<'_> {
    /// The path below the root of what an entry becomes; nothing for the root itself.
    fn path(&self, entry: &Path) -> Option<PathBuf> {
        let top = match self {
            Self::Copied(copy) => Path::new(copy.destination.trim_start_matches('/')),
            Self::Layer => Path::new(""),
        };
        // Without the dots: a directory "x/." cannot be made.
        let parts = entry.components();
        let parts = parts.filter(|part| !matches!(part, std::path::Component::CurDir));
        Some(top.join(parts.collect::<PathBuf>()))
            .map(|path| path.components().collect::<PathBuf>())
            .filter(|path| !path.as_os_str().is_empty())
    }

    /// The directories above the destination, the upper ones first.
    fn parents(&self) -> Vec<PathBuf> {
        let Self::Copied(copy) = self else {
            return Vec::new();
        };
        let destination = Path::new(copy.destination.trim_start_matches('/'));
        let parents = destination.ancestors().skip(1);
        let mut parents: Vec<PathBuf> = parents.map(Path::to_owned).collect();
        parents.retain(|path| !path.as_os_str().is_empty());
        parents.reverse();
        parents
    }
}

/// What `look.sh` is asked of the files in an archive.
pub(super) fn questions(archive: impl Read, placing: Placing<'_>) -> io::Result<Vec<u8>> {
    let mut questions = Vec::new();
    for parent in placing.parents() {
        ask(&mut questions, true, &parent);
    }
    for entry in tar::Archive::new(archive).entries()? {
        let entry = entry?;
        if let Some(path) = placing.path(&entry.path()?) {
            ask(&mut questions, entry.header().entry_type().is_dir(), &path);
        }
    }
    Ok(questions)
}

fn ask(questions: &mut Vec<u8>, directory: bool, path: &Path) {
    questions.extend(if directory { b"d /" } else { b"f /" });
    for &byte in path.as_os_str().as_bytes() {
        match byte {
            b'\\' => questions.extend(b"\\\\"),
            b'\n' => questions.extend(b"\\n"),
            byte => questions.push(byte),
        }
    }
    questions.push(b'\n');
}

/// Writes an archive anew, to be unpacked in the root directory of the guest that answered `looked`.
pub(super) fn repack(
    source: impl Read,
    target: &File,
    placing: Placing<'_>,
    owner: (u32, u32),
    looked: &Looked,
) -> io::Result<()> {
    let mut tar = tar::Builder::new(BufWriter::with_capacity(1 << 20, target));
    let mut number = 0;
    let mut is_there = || {
        number += 1;
        looked.there.contains(&(number - 1))
    };
    for parent in placing.parents() {
        if !is_there() {
            tar.append_data(&mut root_directory(), parent, io::empty())?;
        }
    }
    for entry in tar::Archive::new(source).entries()? {
        let mut entry = entry?;
        let Some(path) = placing.path(&entry.path()?) else {
            continue;
        };
        if is_there() {
            continue;
        }
        let attributes = attributes(&mut entry)?;
        if !attributes.is_empty() {
            let pairs = attributes
                .iter()
                .map(|(key, value)| (key.as_str(), value.as_slice()));
            tar.append_pax_extensions(pairs)?;
        }
        let mut header = entry.header().clone();
        let kind = header.entry_type();
        // Numbers count: names are those of the system that made the archive.
        header.set_username("")?;
        header.set_groupname("")?;
        if let Placing::Copied(copy) = placing {
            header.set_uid(owner.0.into());
            header.set_gid(owner.1.into());
            if let Some(mode) = copy.mode.filter(|_| kind.is_file()) {
                header.set_mode(mode);
            }
        }
        match (entry.link_name()?, kind) {
            (Some(target), EntryType::Link) => {
                let target = placing.path(&target).unwrap_or_default();
                append_link(&mut tar, &mut header, &path, &target)?;
            }
            (Some(target), _) => append_link(&mut tar, &mut header, &path, &target)?,
            (None, _) => tar.append_data(&mut header, &path, &mut entry)?,
        }
    }
    tar.into_inner()?.flush()
}

/// The extended attributes of an entry, as pax records.
fn attributes<R: Read>(entry: &mut tar::Entry<'_, R>) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut found = Vec::new();
    for record in entry.pax_extensions()?.into_iter().flatten() {
        let record = record?;
        if let Ok(key) = record.key()
            && key.starts_with("SCHILY.xattr.")
        {
            found.push((key.to_owned(), record.value_bytes().to_owned()));
        }
    }
    Ok(found)
}

fn root_directory() -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(EntryType::Directory);
    header.set_mode(0o755);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(crate::derivation::SOURCE_DATE_EPOCH.cast_unsigned());
    header.set_size(0);
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(entries: &[(&str, EntryType)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, kind) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_size(0);
            header.set_mode(0o2711);
            header.set_mtime(7);
            header.set_uid(1);
            header.set_gid(2);
            builder.append_data(&mut header, path, io::empty()).unwrap();
        }
        builder.into_inner().unwrap()
    }

    /// What a guest that answers with `answer` gets.
    fn repacked(source: &[u8], placing: Placing<'_>, answer: &str) -> (String, Vec<String>) {
        let mut looked = Looked::default();
        answer.lines().for_each(|line| looked.add(line));
        let owner = match placing {
            Placing::Copied(copy) => looked.owner(copy.owner.as_deref()).unwrap(),
            Placing::Layer => (0, 0),
        };
        let questions = String::from_utf8(questions(source, placing).unwrap()).unwrap();
        let mut file = tempfile::tempfile().unwrap();
        repack(source, &file, placing, owner, &looked).unwrap();
        io::Seek::rewind(&mut file).unwrap();
        let mut archive = tar::Archive::new(file);
        let lines = archive.entries().unwrap().map(|entry| {
            let entry = entry.unwrap();
            let header = entry.header();
            format!(
                "{} {:o} {}:{} {}",
                entry.path().unwrap().display(),
                header.mode().unwrap(),
                header.uid().unwrap(),
                header.gid().unwrap(),
                header.mtime().unwrap(),
            )
        });
        (questions, lines.collect())
    }

    fn copy(destination: &str, mode: Option<u32>, owner: Option<&str>) -> Copy {
        Copy {
            destination: destination.to_owned(),
            mode,
            owner: owner.map(str::to_owned),
        }
    }

    #[test]
    fn one_file_gets_the_name_of_its_destination() {
        let source = packed(&[(".", EntryType::Regular)]);
        let accounts = "vmfab:passwd:web:x:33:34::/:/bin/sh\nnoise\nvmfab:there:0";
        let step = copy("/usr/bin/tool", Some(0o600), Some("web"));
        let (questions, lines) = repacked(&source, Placing::Copied(&step), accounts);
        assert_eq!(questions, "d /usr\nd /usr/bin\nf /usr/bin/tool\n");
        assert_eq!(
            lines,
            ["usr/bin 755 0:0 1577836800", "usr/bin/tool 600 33:34 7"]
        );
        let step = copy("/tool", None, None);
        let (_, lines) = repacked(&source, Placing::Copied(&step), "");
        assert_eq!(lines, ["tool 2711 0:0 7"]);
    }

    #[test]
    fn a_directory_becomes_its_destination() {
        let kinds = [
            (".", EntryType::Directory),
            ("a\n\\b", EntryType::Directory),
            ("a\n\\b/c", EntryType::Regular),
        ];
        let step = copy("/www", Some(0o600), Some("5:1000660000"));
        let source = packed(&kinds);
        let (questions, lines) = repacked(&source, Placing::Copied(&step), "");
        assert_eq!(questions, "d /www\nd /www/a\\n\\\\b\nf /www/a\\n\\\\b/c\n");
        let expected = [
            "www 2711 5:1000660000 7",
            "www/a\n\\b 2711 5:1000660000 7",
            "www/a\n\\b/c 600 5:1000660000 7",
        ];
        assert_eq!(lines, expected);
        let (_, lines) = repacked(&source, Placing::Copied(&step), "vmfab:there:1");
        assert_eq!(lines, [expected[0], expected[2]]);
        let step = copy("/", None, None);
        let (questions, _) = repacked(&source, Placing::Copied(&step), "");
        assert!(questions.starts_with("d /a\\n"), "{questions}");
    }

    #[test]
    fn a_layer_stays_as_it_is_but_for_directories_that_are_there() {
        let source = packed(&[
            ("./usr/", EntryType::Directory),
            ("usr/x", EntryType::Regular),
        ]);
        let (questions, lines) = repacked(&source, Placing::Layer, "vmfab:there:0");
        assert_eq!(questions, "d /usr\nf /usr/x\n");
        assert_eq!(lines, ["usr/x 2711 1:2 7"]);
    }

    #[test]
    fn a_shell_answers_the_questions() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        std::fs::create_dir(at("a\n\\b ")).unwrap();
        std::fs::write(at("file"), "").unwrap();
        std::os::unix::fs::symlink(".", at("link")).unwrap();
        let look = |paths: &[(bool, &str)]| {
            let mut input = Vec::new();
            for (is_directory, path) in paths {
                let path = at(path);
                ask(&mut input, *is_directory, path.strip_prefix("/").unwrap());
            }
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&input).unwrap();
            io::Seek::rewind(&mut file).unwrap();
            let mut shell = std::process::Command::new("sh");
            shell
                .args(["-c", super::super::shell::LOOK, "vmfab"])
                .stdin(file);
            let output = shell.output().unwrap();
            let mut looked = Looked::default();
            let text = String::from_utf8_lossy(&output.stdout);
            text.lines().for_each(|line| looked.add(line));
            output.status.success().then_some(looked)
        };
        let looked = look(&[
            (true, "new"),
            (true, "a\n\\b "),
            (false, "file"),
            (true, "link"),
            (false, "link"),
        ]);
        let looked = looked.unwrap();
        assert_eq!(looked.there, [1, 3].into());
        assert_eq!(looked.owner(Some("root")), Ok((0, 0)));
        assert!(look(&[(false, "a\n\\b ")]).is_none());
        assert!(look(&[(true, "file")]).is_none());
    }
}
