//! `vmfab to-disk`

use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Args, ValueHint};
use serde::Serialize;

use super::super::Status;
use super::super::session::Session;
use super::build::parse_format;
use super::hardware::parse_size;
use crate::failure::Failure;
use crate::image::DiskFormat;
use crate::ops::export::{self, ExportOptions, Exported};
use crate::ops::pb::{self, InstallOptions};

/// Install a bootable container to a disk file
///
/// Its own bootc does it, in a machine: vmfab needs neither root nor a container engine. The same
/// image with the same options is installed once. vmfab build does the same for a recipe with a
/// bootc node.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab to-disk quay.io/centos-bootc/centos-bootc:stream10 centos.qcow2
  vmfab to-disk ./Containerfile os.raw --filesystem xfs --disk-size 20G
  vmfab to-disk oci:out os.vmdk --target-imgref quay.io/me/os:stable
  vmfab to-disk localhost/os os.img --format raw --force")]
pub(crate) struct ToDisk {
    /// Container image: a reference, containers-storage:IMAGE, oci:DIR, oci-archive:FILE,
    /// docker-archive:FILE, a name in podman's storage, or a Containerfile
    #[arg(value_name = "IMAGE")]
    image: String,

    /// File to write
    #[arg(value_hint = ValueHint::FilePath)]
    file: PathBuf,

    /// Make this file system: ext4, xfs or btrfs [default: the image's own]
    #[arg(long, value_name = "FS", value_parser = PossibleValuesParser::new(["ext4", "xfs", "btrfs"]), hide_possible_values = true)]
    filesystem: Option<String>,

    /// Give the root file system SIZE [default: the rest of the disk]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    root_size: Option<u64>,

    /// Set the size of the disk [default: twice the image, and at least 10 GiB]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    disk_size: Option<u64>,

    /// Add a kernel argument (repeatable)
    #[arg(long = "karg", value_name = "ARGUMENT")]
    kargs: Vec<String>,

    /// Let the installed system look for updates there [default: where the image came from]
    #[arg(long, value_name = "REF")]
    target_imgref: Option<String>,

    /// Set the format of FILE [default: from the file extension]
    #[arg(short, long, value_name = "FORMAT", value_parser = parse_format)]
    format: Option<DiskFormat>,

    /// Compress the content of a qcow2
    #[arg(long)]
    compress: bool,

    /// Replace FILE if it exists
    #[arg(long)]
    force: bool,
}

/// What was written.
#[derive(Serialize)]
struct Written {
    image: String,
    #[serde(flatten)]
    file: Exported,
}

impl ToDisk {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        let context = session.context()?;
        let format = export::format(&self.file, self.format, None, self.compress)?;
        export::check(&self.file, format, self.force)?;
        let install = InstallOptions {
            filesystem: self.filesystem,
            root_size_max: self.root_size,
            disk_size: self.disk_size,
            kargs: self.kargs,
            target: self.target_imgref,
        };
        let installed = pb::install(context, &self.image, &install)?;
        let options = ExportOptions {
            disk: installed.image.config.disk.id,
            target: self.file,
            format,
            hypervisor: None,
            compress: self.compress,
            force: self.force,
        };
        let file = export::export(context, &options)?;
        export::advise(context, &installed.image.config, &options)?;
        let written = Written {
            image: installed.image.image.to_string(),
            file,
        };
        let line = |written: &Written| format!("{}\n", written.file.path.display());
        session.print_last(&written, line, line)?;
        Ok(Status::Done)
    }
}
