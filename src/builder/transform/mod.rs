//! What is done to content from outside before it is a disk, a layer or a file. The input is the
//! one object of the role `blob`, and so is the output, but for `unpack` and `apply`, which give a
//! `layer`.
//!
//! | transform | file |
//! |---|---|
//! | `strip-vhd-footer`, `convert` | `convert.rs`, with the headers of formats in [`foreign`](crate::disk::foreign) |
//! | `decompress` | `decompress.rs` |
//! | `extract`, `containerdisk` | `extract.rs` |
//! | `unpack`, `files`, `apply`, `pack` | `tree.rs` |
//! | `file` | `file.rs` |
//! | `rename`, `grow` | here |
//!
//! Content is streamed, so that memory is bounded, whatever comes out of it; runs of zeros become
//! holes.

mod blob;
mod convert;
mod decompress;
mod extract;
mod file;
mod tree;

#[cfg(test)]
mod tests;

use std::fs::OpenOptions;
use std::io::{self, Read, Write};

use blob::Blob;

use crate::derivation::step::Transform as Kind;
use crate::derivation::{BuildRequest, Builder, Outputs, Step};
use crate::digest::ObjectRef;
use crate::disk;
use crate::failure::Failure;
use crate::sandbox::Sandbox;
use crate::store::{Store, StoreError};

/// What content looks like by its first bytes, for error messages: `xz data`, `a zip archive`, `a
/// qcow2 disk`.
fn looks_like(head: &[u8]) -> String {
    disk::Content::of(&head).map_or_else(|error| error.to_string(), disk::Content::describe)
}

/// Bytes that are moved at once.
const BUFFER: usize = 256 << 10;

pub(super) struct Transform {
    pub(super) sandbox: Sandbox,
    pub(super) store: Store,
    /// The limit of this name.
    pub(super) image_size: u64,
}

impl Builder for Transform {
    fn build(&self, request: &BuildRequest<'_>) -> Result<Outputs, Failure> {
        let Step::Transform(kind) = super::step(request)? else {
            return Err(super::wrong_kind(request));
        };
        let blob = request.inputs_of("blob").next();
        let work = Work {
            transform: self,
            request,
            blob: blob.ok_or_else(|| super::wrong_kind(request))?,
        };
        let object = match &kind {
            Kind::StripVhdFooter => work.strip_vhd_footer()?,
            Kind::Decompress { format } => work.decompress(format.as_deref())?,
            Kind::Convert { from } => work.convert(from.as_deref())?,
            // The name is in the label of the step alone.
            Kind::Rename { .. } => work.blob,
            Kind::Extract { member } => work.extract(member)?,
            Kind::Unpack => work.unpack()?,
            Kind::Files => work.files()?,
            Kind::Apply => work.apply()?,
            Kind::Containerdisk => work.containerdisk()?,
            Kind::File { path } => work.file(path)?,
            Kind::Pack { time } => work.pack(*time)?,
            Kind::Grow { size } => work.grow(*size)?,
        };
        let output = if matches!(kind, Kind::Unpack | Kind::Apply) {
            "layer"
        } else {
            "blob"
        };
        Ok(Outputs::from([(output.to_owned(), object)]))
    }
}

/// One transform of one object.
struct Work<'a> {
    transform: &'a Transform,
    request: &'a BuildRequest<'a>,
    blob: ObjectRef,
}

impl Work<'_> {
    fn store(&self) -> &Store {
        &self.transform.store
    }

    /// Opens the input.
    fn open(&self) -> Result<Blob, Failure> {
        let reader = self.store().open_object(&self.blob.id);
        let reader = reader.map_err(Failure::of_step)?;
        Ok(Blob::new(reader, self.request.interrupt.clone()))
    }

    /// A line for the log of the step.
    fn say(&self, line: &str) -> Result<(), Failure> {
        (self.request.output)(line);
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.request.log)
            .and_then(|mut log| writeln!(log, "{line}"))
            .map_err(Failure::step_io("write to", self.request.log))
    }

    /// Stores what a stream gives; `failed` says what a mistake in the stream means.
    fn put(
        &self,
        stream: &mut dyn Read,
        failed: impl Fn(io::Error) -> Failure,
    ) -> Result<ObjectRef, Failure> {
        let mut writer = self.store().writer().map_err(Failure::of_step)?;
        self.copy(stream, &mut writer, failed, |error| {
            match from_store(error) {
                Ok(error) => Failure::of_step(error),
                Err(error) => Failure::of_step(error),
            }
        })?;
        writer.finish().map_err(Failure::of_step)
    }

    /// Moves a stream to its end. What is wrong with the store or with the user's patience is not
    /// the stream's mistake.
    fn copy(
        &self,
        from: &mut dyn Read,
        to: &mut dyn Write,
        failed: impl Fn(io::Error) -> Failure,
        not_written: impl FnOnce(io::Error) -> Failure,
    ) -> Result<u64, Failure> {
        let mut buffer = vec![0; BUFFER];
        let mut copied = 0;
        loop {
            if self.request.interrupt.requested() {
                return Err(Failure::interrupted());
            }
            let count = match from.read(&mut buffer) {
                Ok(0) => return Ok(copied),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(self.read_error(error, failed)),
            };
            if let Err(error) = to.write_all(&buffer[..count]) {
                return Err(not_written(error));
            }
            copied += count as u64;
        }
    }

    /// Why a stream over the input could not be read.
    fn read_error(&self, error: io::Error, failed: impl FnOnce(io::Error) -> Failure) -> Failure {
        if self.request.interrupt.requested() {
            return Failure::interrupted();
        }
        match from_store(error) {
            Ok(error) => Failure::of_step(error),
            Err(error) => failed(error),
        }
    }

    /// The disk with a hole behind its end.
    fn grow(&self, size: u64) -> Result<ObjectRef, Failure> {
        let size = disk::disk_size(size);
        if size < self.blob.size {
            return Err(Failure::failed(format!(
                "the disk has {} and cannot be made smaller, to {}",
                bytes(self.blob.size),
                bytes(size)
            ))
            .with_help(
                "give the `disk` node at least the size of the disk that it starts from, or \
                       leave the size out",
            ));
        }
        self.say(&format!(
            "from {} to {}",
            bytes(self.blob.size),
            bytes(size)
        ))?;
        if size == self.blob.size {
            return Ok(self.blob);
        }
        let grown = self.store().resize(&self.blob.id, size);
        grown.map_err(Failure::of_step)
    }
}

/// The error of the store in an error of a stream, or that error.
fn from_store(error: io::Error) -> Result<StoreError, io::Error> {
    error.downcast::<StoreError>()
}

/// What is wrong with the input.
fn unusable(message: impl Into<String>, help: impl Into<String>) -> Failure {
    Failure::failed(message.into()).with_help(help.into())
}

/// `10 GiB (10737418240 bytes)`.
fn bytes(size: u64) -> String {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let unit = units.iter().find(|(_, shift)| size >= 1 << shift);
    match unit {
        Some((unit, shift)) => {
            let number = size as f64 / (1_u64 << shift) as f64;
            let number = format!("{number:.1}");
            let number = number.strip_suffix(".0").unwrap_or(&number);
            format!("{number} {unit} ({size} bytes)")
        }
        None => format!("{size} bytes"),
    }
}
