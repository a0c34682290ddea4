//! Compressed content.

use std::io::{self, BufReader, Read};

use super::{BUFFER, Work, bytes, looks_like, unusable};
use crate::digest::ObjectRef;
use crate::failure::Failure;
use crate::tarball::Compression;

impl Work<'_> {
    /// The input, decompressed; the format is recognised by content when none is given. `any` takes
    /// what is not compressed too.
    pub(super) fn decompress(&self, format: Option<&str>) -> Result<ObjectRef, Failure> {
        let head = self.head()?;
        let found = Compression::of(&head);
        if format == Some("any") && found.is_none() {
            self.say("it is not compressed")?;
            return Ok(self.blob);
        }
        let format = format.filter(|format| *format != "any");
        let format = match (format, found) {
            (Some(name), found) => {
                let format = Compression::named(name);
                if found != format {
                    return Err(unusable(
                        format!("it is not {name} data: it looks like {}", looks_like(&head)),
                        "leave out the format so that vmfab recognises it, or check the address",
                    ));
                }
                format
            }
            (None, found) => found,
        };
        let format = format.ok_or_else(|| {
            unusable(
                format!(
                    "it has an unknown compression: it looks like {}",
                    looks_like(&head)
                ),
                "vmfab supports gz, xz, zst and bz2; leave out `decompress` if it is not compressed",
            )
        })?;
        let mut stream = self.decompressed(format)?;
        let object = self.put(&mut stream, |error| damaged(format, &error))?;
        self.say(&format!(
            "{}: from {} to {}",
            format.name(),
            bytes(self.blob.size),
            bytes(object.size)
        ))?;
        Ok(object)
    }

    /// The first bytes of the input.
    pub(super) fn head(&self) -> Result<Vec<u8>, Failure> {
        let head = self.open()?.head(512);
        head.map_err(|error| self.read_error(error, Failure::of_step))
    }

    /// The input as a stream, decompressed.
    pub(super) fn decompressed(
        &self,
        format: Compression,
    ) -> Result<Box<dyn Read + 'static>, Failure> {
        let stream = BufReader::with_capacity(BUFFER, self.open()?);
        format
            .reader(stream)
            .map_err(|error| self.read_error(error, |error| damaged(format, &error)))
    }
}

/// The stream is not what its format asks for.
pub(super) fn damaged(format: Compression, error: &io::Error) -> Failure {
    let why = match error.kind() {
        io::ErrorKind::UnexpectedEof => "it ends in the middle".to_owned(),
        _ => error.to_string(),
    };
    unusable(
        format!("the {} data is damaged: {why}", format.name()),
        "check whether the file is complete at its origin; a checksum in the recipe verifies it",
    )
}
