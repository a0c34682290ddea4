//! Archives as layers, and files as what `copy` takes.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::path::Path;

use super::super::local;
use super::{Work, bytes};
use crate::digest::ObjectRef;
use crate::failure::Failure;
use crate::sandbox::{AttributesLeftOut, Form, Job, Lent, Runner, Task};
use crate::tarball::{FileWithHoles, Kind, Member, Reader, Writer};

/// The file of the job that holds the tar.
const ARCHIVE: &str = "archive.tar";

impl Work<'_> {
    /// The files of a tar, compressed or not, over the layers below: unpacked in a worker, and
    /// packed as all layers are. Entries that lead out of the tree are refused; device nodes are
    /// left out.
    pub(super) fn unpack(&self) -> Result<ObjectRef, Failure> {
        self.in_worker(false, Form::Files)
    }

    /// The same files as a tar for the tar(1) of a machine, with nothing in it that
    /// [`unpack`](Self::unpack) would not take.
    pub(super) fn files(&self) -> Result<ObjectRef, Failure> {
        let mut tar = self.tar()?;
        let stream = std::mem::replace(&mut tar.stream, Box::new(std::io::empty()));
        let mut writer = self.store().writer().map_err(Failure::of_step)?;
        let left_out = rewrite(&mut Reader::new(stream), &mut writer)
            .map_err(|error| self.read_error(error, |error| tar.damaged(&error)))?;
        left_out.lines().try_for_each(|line| self.say(&line))?;
        writer.finish().map_err(Failure::of_step)
    }

    /// A layer of a container image over the layers below it, as a layer of ours: its whiteouts
    /// remove, and its paths may go through links of the layers below. Host keys and the like go:
    /// they would be those of all machines.
    pub(super) fn apply(&self) -> Result<ObjectRef, Failure> {
        // Not every program writes the zeros at the end of an archive without entries.
        if self.blob.size == 0 {
            let layers: Vec<ObjectRef> = self.request.inputs_of("layer").collect();
            let sandbox = &self.transform.sandbox;
            let job = Job::layer(&layers, Vec::new(), true);
            return sandbox.layer(job, &Lent::default(), &sandbox.scratch()?, self.request);
        }
        self.in_worker(true, Form::Layer)
    }

    fn in_worker(&self, clean: bool, form: Form) -> Result<ObjectRef, Failure> {
        let mut tar = self.tar()?;
        let scratch = self.transform.sandbox.scratch()?;
        let file = scratch.file(ARCHIVE)?;
        let path = file.path().to_owned();
        let mut out = FileWithHoles::new(file.as_file());
        let mut stream = std::mem::replace(&mut tar.stream, Box::new(std::io::empty()));
        let size = self.copy(
            &mut stream,
            &mut out,
            |error| tar.damaged(&error),
            Failure::step_io("write", &path),
        )?;
        out.finish().map_err(Failure::step_io("write", &path))?;
        self.say(&format!("a tar archive of {}", bytes(size)))?;
        let layers: Vec<ObjectRef> = self.request.inputs_of("layer").collect();
        let task = Task::Apply {
            archive: ARCHIVE.into(),
            form,
        };
        let job = Job::layer(&layers, vec![task], clean);
        let sandbox = &self.transform.sandbox;
        sandbox.layer(job, &Lent::default(), &scratch, self.request)
    }

    /// The input as a tar with one file, in the place of the root.
    pub(super) fn pack(&self, time: Option<i64>) -> Result<ObjectRef, Failure> {
        let content = local::hash(self.open()?);
        let content = content.map_err(|error| self.read_error(error, Failure::of_step))?;
        let mut writer = self.store().writer().map_err(Failure::of_step)?;
        let mut archive = Writer::new(&mut writer);
        let member = local::file_member(Path::new("."), self.blob.size, 0o644, time, &content);
        let appended = archive
            .add_file(&member, &mut self.open()?)
            .and_then(|()| archive.finish());
        appended.map_err(|error| self.read_error(error, Failure::of_step))?;
        writer.finish().map_err(Failure::of_step)
    }
}

/// Writes the files of an archive anew: owners are numbers, and device nodes and links to them are
/// left out.
fn rewrite(
    reader: &mut Reader<impl Read>,
    writer: &mut impl Write,
) -> io::Result<AttributesLeftOut> {
    let mut archive = Writer::new(writer);
    let mut left_out = BTreeSet::new();
    let mut attributes = AttributesLeftOut::default();
    while let Some(mut member) = reader.member()? {
        attributes.take_from(&mut member);
        let shown = member.name();
        rewrite_one(reader, member, &mut archive, &mut left_out)
            .map_err(|error| io::Error::new(error.kind(), format!("{shown}: {error}")))?;
    }
    archive.finish()?;
    Ok(attributes)
}

fn rewrite_one(
    reader: &mut Reader<impl Read>,
    mut member: Member,
    archive: &mut Writer<impl Write>,
    left_out: &mut BTreeSet<Vec<u8>>,
) -> io::Result<()> {
    member.path = inside(&member.path)?;
    if member.kind == Kind::Link {
        member.link = inside(&member.link)?;
    }
    // The root directory is as it is in all trees.
    if member.path.is_empty() {
        return Ok(());
    }
    match member.kind {
        Kind::CharDevice | Kind::BlockDevice => {
            left_out.insert(member.path);
            return Ok(());
        }
        Kind::Link if left_out.contains(&member.link) => {
            left_out.insert(member.path);
            return Ok(());
        }
        Kind::Other(flag) => {
            let message = format!("entries of type {:?} are not supported", char::from(flag));
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        _ => left_out.remove(&member.path),
    };
    (member.user, member.group, member.note) = Default::default();
    archive.add_file(&member, &mut reader.stored())
}

/// A path below the root, without what means nothing.
fn inside(path: &[u8]) -> io::Result<Vec<u8>> {
    let mut parts = path.split(|byte| *byte == b'/');
    if path.starts_with(b"/") || parts.clone().any(|part| part == b"..") {
        let message = "the path leads out of the layer";
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    let parts: Vec<&[u8]> = parts
        .by_ref()
        .filter(|part| !matches!(*part, b"" | b"."))
        .collect();
    Ok(parts.join(&b'/'))
}
