//! `vmfab store stat`

use clap::Args;

use super::super::super::Status;
use super::super::super::output::{count, size};
use super::super::super::session::Session;
use super::super::super::table::{Align, Table};
use crate::failure::Failure;
use crate::ops::store;
use crate::store::GroupUsage;

/// Show what takes space
///
/// LOGICAL is the size as plain files. STORED is the space in the store, with equal parts counted
/// once, compressed. ONLY is the part that no other image and no root needs.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab store stat
  vmfab store stat --json | jq '.images[] | {tags, unique}'")]
pub(super) struct Stat {}

impl Stat {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        let stat = store::stat(session.reading_context()?)?;
        session.print(&stat, text)?;
        let downloads = &stat.caches.downloads;
        if downloads.usage.files > 0 {
            session.note(&format!(
                "downloads are what interrupted pulls and builds left: the same command goes on from it; vmfab store \
                 gc removes what nobody went on with for a week (now {}), and who wants the space at once removes the files of \
                 {} when no pull and no build runs",
                size(downloads.old),
                downloads.directory.display()
            ));
        }
        Ok(Status::Done)
    }
}

fn text(stat: &store::Stat) -> String {
    let usage = &stat.usage;
    let number = |number: u64, noun: &str| count(number as usize, noun);
    let mut total = Table::new([("", Align::Left), ("SIZE", Align::Right), ("", Align::Left)]);
    let mut row = |name: &str, bytes: u64, what: String| {
        total.row([name.to_owned(), size(bytes), what]);
    };
    row("logical", usage.logical, number(usage.objects, "object"));
    row(
        "deduplicated",
        usage.deduplicated,
        number(usage.chunks, "chunk"),
    );
    let (packs, journals) = (usage.packs.count, usage.journals.count);
    let files = format!("{}, {}", number(packs, "pack"), number(journals, "journal"));
    row("stored", usage.stored, files);
    row(
        "index",
        usage.index.bytes,
        number(usage.index.count, "file"),
    );
    let (disks, layers) = (stat.caches.disks, stat.caches.layers);
    row("disk cache", disks.bytes, number(disks.files, "file"));
    row("layer cache", layers.bytes, number(layers.files, "file"));
    let mounts = stat.caches.mounts;
    if mounts.files > 0 {
        row("cache mounts", mounts.bytes, number(mounts.files, "file"));
    }
    let downloads = stat.caches.downloads.usage;
    row(
        "downloads",
        downloads.bytes,
        format!("{}, not finished", number(downloads.files, "file")),
    );
    let mut text = total.to_string();
    if stat.images.is_empty() && stat.roots.is_empty() {
        return text;
    }
    let mut groups = Table::new([
        ("IMAGE OR ROOT", Align::Left),
        ("LOGICAL", Align::Right),
        ("STORED", Align::Right),
        ("ONLY", Align::Right),
        ("", Align::Left),
    ]);
    let mut row = |name: String, usage: &GroupUsage, without_layers: usize| {
        let missing = match (usage.missing, without_layers) {
            (0, 0) => String::new(),
            (0, layers) => format!("without {}", number(layers as u64, "layer")),
            (missing, _) => format!("{} missing", number(missing, "object")),
        };
        let sizes = [usage.logical, usage.stored, usage.unique].map(size);
        groups.row([name].into_iter().chain(sizes).chain([missing]));
    };
    for image in &stat.images {
        let tags: Vec<_> = image.tags.iter().map(|tag| format!("@{tag}")).collect();
        row(tags.join(" "), &image.usage, image.without_layers);
    }
    for root in &stat.roots {
        row(root.name.clone(), &root.usage, 0);
    }
    text.push('\n');
    text + &groups.to_string()
}
