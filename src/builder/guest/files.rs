//! Files of a step for a guest. It is asked before what is there (`look.sh`), and gets an archive
//! without the directories that are to stay as they are: all that are there when files are copied,
//! links to directories when a layer is unpacked.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::derivation::SOURCE_DATE_EPOCH;
use crate::derivation::step::Copy;
use crate::sandbox::owner_ids;
use crate::tarball::{Kind, Member, Reader, Time, Writer};

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
    /// Numbers of the directories that stay as they are, in the order of [`questions`].
    there: HashSet<usize>,
    passwd: String,
    group: String,
    /// Whether it has GNU tar, which knows holes.
    gnu_tar: bool,
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
            "tar" => self.gnu_tar = text == "gnu",
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
    fn path(&self, inside: &[u8]) -> Option<PathBuf> {
        let top = match self {
            Self::Copied(copy) => Path::new(copy.destination.trim_start_matches('/')),
            Self::Layer => Path::new(""),
        };
        // Without the dots: a directory "x/." cannot be made.
        let parts = Path::new(OsStr::from_bytes(inside)).components();
        let parts = parts.filter(|part| !matches!(part, std::path::Component::CurDir));
        Some(top.join(parts.collect::<PathBuf>()))
            .map(|path| path.components().collect::<PathBuf>())
            .filter(|path| !path.as_os_str().is_empty())
    }

    /// What `look.sh` is asked of a directory.
    const fn question(&self) -> &'static [u8] {
        match self {
            Self::Copied(_) => b"d /",
            Self::Layer => b"l /",
        }
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
        ask(&mut questions, placing.question(), &parent);
    }
    let mut archive = Reader::new(archive);
    while let Some(member) = archive.member()? {
        if let Some(path) = placing.path(&member.path) {
            let question = match member.kind {
                Kind::Directory => placing.question(),
                _ => b"f /",
            };
            ask(&mut questions, question, &path);
        }
    }
    Ok(questions)
}

fn ask(questions: &mut Vec<u8>, question: &[u8], path: &Path) {
    questions.extend(question);
    for &byte in path.as_os_str().as_bytes() {
        match byte {
            b'\\' => questions.extend(b"\\\\"),
            b'\n' => questions.extend(b"\\n"),
            byte => questions.push(byte),
        }
    }
    questions.push(b'\n');
}

/// Writes an archive anew, to be unpacked in the root directory of the guest that answered
/// `looked`.
pub(super) fn repack(
    source: impl Read,
    target: &File,
    placing: Placing<'_>,
    owner: (u32, u32),
    looked: &Looked,
) -> io::Result<()> {
    let mut tar = Writer::new(BufWriter::with_capacity(1 << 20, target));
    let mut number = 0;
    let mut is_there = || {
        number += 1;
        looked.there.contains(&(number - 1))
    };
    let bytes = |path: PathBuf| path.into_os_string().into_vec();
    for parent in placing.parents() {
        if !is_there() {
            tar.add(&root_directory(bytes(parent)))?;
        }
    }
    let mut source = Reader::new(source);
    while let Some(mut member) = source.member()? {
        let Some(path) = placing.path(&member.path) else {
            continue;
        };
        if is_there() {
            continue;
        }
        member.path = bytes(path);
        // Numbers count: names are those of the system that made the archive.
        (member.user, member.group) = Default::default();
        if let Placing::Copied(copy) = placing {
            (member.uid, member.gid) = (owner.0.into(), owner.1.into());
            if let Some(mode) = copy.mode.filter(|_| member.is_file()) {
                member.mode = mode;
            }
        }
        if member.kind == Kind::Link {
            member.link = bytes(placing.path(&member.link).unwrap_or_default());
        }
        if looked.gnu_tar {
            tar.add_file(&member, &mut source.stored())?;
        } else {
            member.data = None;
            tar.add_file(&member, &mut source)?;
        }
    }
    tar.finish()?.flush()
}

fn root_directory(path: Vec<u8>) -> Member {
    Member {
        path,
        kind: Kind::Directory,
        mode: 0o755,
        time: Time {
            seconds: SOURCE_DATE_EPOCH,
            nanoseconds: 0,
        },
        ..Member::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(entries: &[(&str, Kind)]) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new());
        for (path, kind) in entries {
            let member = Member {
                path: path.as_bytes().to_vec(),
                kind: *kind,
                mode: 0o2711,
                uid: 1,
                gid: 2,
                time: Time {
                    seconds: 7,
                    nanoseconds: 0,
                },
                ..Member::default()
            };
            writer.add(&member).unwrap();
        }
        writer.finish().unwrap()
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
        let mut archive = Reader::new(file);
        let mut lines = Vec::new();
        while let Some(member) = archive.member().unwrap() {
            let (uid, gid, time) = (member.uid, member.gid, member.time.seconds);
            let name = member.name();
            lines.push(format!("{name} {:o} {uid}:{gid} {time}", member.mode));
        }
        (questions, lines)
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
        let source = packed(&[(".", Kind::File)]);
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
            (".", Kind::Directory),
            ("a\n\\b", Kind::Directory),
            ("a\n\\b/c", Kind::File),
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
    fn a_layer_stays_as_it_is_but_for_links_to_directories() {
        let source = packed(&[("./usr/", Kind::Directory), ("usr/x", Kind::File)]);
        let (questions, lines) = repacked(&source, Placing::Layer, "vmfab:there:0");
        assert_eq!(questions, "l /usr\nf /usr/x\n");
        assert_eq!(lines, ["usr/x 2711 1:2 7"]);
        let (_, lines) = repacked(&source, Placing::Layer, "");
        assert_eq!(lines, ["usr 2711 1:2 7", "usr/x 2711 1:2 7"]);
    }

    #[test]
    fn a_shell_answers_the_questions() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        std::fs::create_dir(at("a\n\\b ")).unwrap();
        std::fs::write(at("file"), "").unwrap();
        std::os::unix::fs::symlink(".", at("link")).unwrap();
        let look = |paths: &[(&str, &str)]| {
            let mut input = Vec::new();
            for (question, path) in paths {
                let path = at(path);
                let question = format!("{question} /");
                ask(
                    &mut input,
                    question.as_bytes(),
                    path.strip_prefix("/").unwrap(),
                );
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
            ("d", "new"),
            ("d", "a\n\\b "),
            ("f", "file"),
            ("d", "link"),
            ("f", "link"),
            ("l", "new"),
            ("l", "a\n\\b "),
            ("l", "link"),
        ]);
        let looked = looked.unwrap();
        assert_eq!(looked.there, [1, 3, 7].into());
        assert_eq!(looked.owner(Some("root")), Ok((0, 0)));
        assert!(look(&[("f", "a\n\\b ")]).is_none());
        assert!(look(&[("d", "file")]).is_none());
    }
}
