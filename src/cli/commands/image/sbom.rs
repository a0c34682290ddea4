//! `vmfab image sbom`

use std::path::PathBuf;

use clap::{Args, ValueEnum, ValueHint};

use super::super::super::Status;
use super::super::super::options::RegistryOptions;
use super::super::super::output::{count, write_text};
use super::super::super::session::Session;
use super::super::super::table::{Align, Table};
use super::provenance::print_attached;
use crate::failure::Failure;
use crate::host::file::{Durability, Replace};
use crate::host::umask;
use crate::ops::attestations::Attested;
use crate::ops::contents::{self, BillFormat, BillOfMaterials};

/// List the packages of an image, as a bill of materials (SBOM)
///
/// Packages of dpkg, apk, rpm, Python and npm, and crates of Rust programs that cargo-auditable
/// built, with version, licence, source package and the step that brought each. Licences are those that packages state; in SPDX and CycloneDX they are
/// expressions where vmfab knows the names. The disk must have ext2, ext3 or ext4.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab image sbom @docker
  vmfab image sbom @docker --format spdx -o docker.spdx.json
  vmfab image sbom @docker --format cyclonedx | jq '.components | length'
  vmfab image sbom ghcr.io/team/docker:1.0 --attached
  vmfab image sbom @docker --json | jq -r '.packages[] | select(.step == null).name'")]
pub(super) struct Sbom {
    /// Tag, or first digits of an id; with --attached a reference
    image: String,

    /// Print the SPDX document that was pushed with an image and that a trusted key signed
    #[arg(long, conflicts_with = "format")]
    attached: bool,

    #[command(flatten)]
    registries: RegistryOptions,

    /// Write a document: spdx (SPDX 2.3) or cyclonedx (CycloneDX 1.5), both as JSON
    #[arg(long, value_name = "FORMAT", value_enum, hide_possible_values = true)]
    format: Option<Format>,

    /// Write the document to FILE instead of standard output
    #[arg(short, long, value_name = "FILE", requires = "format", value_hint = ValueHint::FilePath)]
    output: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    Spdx,
    Cyclonedx,
}

impl Sbom {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        if self.attached {
            return print_attached(session, self.registries, &self.image, Attested::Bill);
        }
        let bill = contents::sbom(session.reading_context()?, &self.image)?;
        let Some(format) = self.format else {
            session.print(&bill, shown)?;
            notes(session, &bill);
            return Ok(Status::Done);
        };
        let document = bill.document(match format {
            Format::Spdx => BillFormat::Spdx,
            Format::Cyclonedx => BillFormat::CycloneDx,
        });
        match &self.output {
            Some(path) => Replace::new(path, Durability::None)
                .permissions(umask::users(0o666))
                .with(document.as_bytes())
                .map_err(Failure::io("write", path))?,
            None => {
                session.end_progress();
                write_text(&document)?;
            }
        }
        notes(session, &bill);
        Ok(Status::Done)
    }
}

fn notes(session: &Session, bill: &BillOfMaterials) {
    for note in &bill.notes {
        session.note(note);
    }
}

fn shown(bill: &BillOfMaterials) -> String {
    let mut table = Table::new(vec![
        ("PACKAGE", Align::Left),
        ("VERSION", Align::Left),
        ("BY", Align::Left),
        ("LICENCE", Align::Left),
        ("STEP", Align::Left),
    ]);
    for one in &bill.packages {
        let package = &one.package;
        table.row(vec![
            package.name.clone(),
            package.version.clone(),
            package.manager.to_owned(),
            package.license.clone().unwrap_or_default(),
            one.step.clone().unwrap_or_default(),
        ]);
    }
    format!("{table}\n{}\n", count(bill.packages.len(), "package"))
}
