//! Disks of all formats as raw bytes.
//!
//! qemu-img reads them, in the same confinement as other programs of the host: it sees no files but
//! its own. It is told the format, and never guesses; and the header was looked at before, so that
//! the file names no other.

use std::collections::BTreeMap;

use serde_json::json;

use super::{Work, bytes, unusable};
use crate::digest::ObjectRef;
use crate::disk::Content;
use crate::disk::foreign::{self, Footer, FooterKind, ForeignError};
use crate::failure::Failure;
use crate::image::DiskFormat;
use crate::sandbox::{HostCommand, Job, Lent, Runner, Task};

impl Work<'_> {
    /// A fixed VHD without its footer. All chunks but the last are those of the VHD.
    pub(super) fn strip_vhd_footer(&self) -> Result<ObjectRef, Failure> {
        let blob = self.open()?;
        let footer = Footer::read(&blob).map_err(|error| self.refused(error))?;
        let size = footer
            .fixed_size(&blob)
            .map_err(|error| self.refused(error))?;
        self.say(&format!("fixed VHD: a disk of {}", bytes(size)))?;
        let disk = self.store().resize(&self.blob.id, size);
        disk.map_err(Failure::of_step)
    }

    /// A disk as raw bytes; its format is recognised by content when none is given.
    pub(super) fn convert(&self, from: Option<&str>) -> Result<ObjectRef, Failure> {
        let blob = self.open()?;
        let content = Content::of(&blob);
        let content = content.map_err(|error| self.read_error(error, Failure::of_step))?;
        let format = match from.and_then(DiskFormat::named) {
            // The recipe says it, whatever is in it.
            Some(DiskFormat::Raw) => DiskFormat::Raw,
            Some(format) if content != Content::Disk(format) => {
                return Err(unusable(
                    format!(
                        "it is not a {} disk: it looks like {}",
                        format.name(),
                        content.describe()
                    ),
                    "leave out from= so that vmfab recognises the format; compressed files need `decompress` first",
                ));
            }
            _ => content
                .disk()
                .map_err(|error| unusable(error.to_string(), error.help()))?,
        };
        if format == DiskFormat::Raw {
            self.say(&format!("raw: a disk of {}", bytes(self.blob.size)))?;
            return Ok(self.blob);
        }
        let header = foreign::check(format, &blob, self.transform.image_size)
            .map_err(|error| self.refused(error))?;
        if format == DiskFormat::Vhd
            && Footer::read(&blob).is_ok_and(|footer| footer.kind == FooterKind::Fixed)
        {
            return self.strip_vhd_footer();
        }
        drop(blob);
        self.say(&format!(
            "{}: a disk of {}",
            format.name(),
            bytes(header.size)
        ))?;
        self.qemu_img(format)
    }

    fn qemu_img(&self, format: DiskFormat) -> Result<ObjectRef, Failure> {
        let sandbox = &self.transform.sandbox;
        let scratch = sandbox.scratch()?;
        let raw = scratch.file("raw")?;
        let mut image = json!({
            "driver": format.qemu_name(),
            "file": { "driver": "file", "filename": "source" },
        });
        match format {
            // Whatever its header says.
            DiskFormat::Qcow | DiskFormat::Qcow2 | DiskFormat::Qed => {
                image["backing"] = json!(null);
            }
            DiskFormat::Vhd => {
                // The other size there is, cylinders by heads by sectors, is rounded down, and ends
                // at 127 GiB.
                image["force_size_calc"] = json!("current_size");
            }
            _ => {}
        }
        let argv = [
            "/bin/sh".to_owned(),
            "-euc".to_owned(),
            "cd -- \"$VMFAB_JOB\"; exec qemu-img \"$@\"".to_owned(),
            "qemu-img".to_owned(),
            "convert".to_owned(),
            "-O".to_owned(),
            "raw".to_owned(),
            format!("json:{image}"),
            "raw".to_owned(),
        ];
        let command = HostCommand {
            argv: argv.into(),
            env: Default::default(),
            network: false,
        };
        let task = Task::Host(command);
        let job = Job {
            files: BTreeMap::from([("source".to_owned(), self.blob)]),
            ..Job::over(&[], vec![task])
        };
        sandbox
            .run(job, &Lent::default(), &scratch, self.request)
            .map_err(|error| match error.is_command() {
                true => error.with_command(format!("qemu-img convert from {}", format.name())),
                false => error,
            })?;
        // There may not be room for three of them.
        let _ = std::fs::remove_file(scratch.path().join("source"));
        self.store().adopt_disk(raw).map_err(Failure::of_step)
    }

    fn refused(&self, error: ForeignError) -> Failure {
        match error {
            ForeignError::Io(error) => self.read_error(error, Failure::of_step),
            error => unusable(error.to_string(), error.help()),
        }
    }
}
