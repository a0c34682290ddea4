//! What differs between two images, as a page for a reviewer.

use std::collections::BTreeMap;

use super::{change, count, notes, size, table};
use crate::html::{Html, Page};
use crate::ops::contents::{ImageDiff, PackageChange};
use crate::ops::snapshot::{Change, FileChange};

/// How deep directories are that files are gathered under.
const GROUPED: usize = 2;
/// The most files that a page lists: a browser shows them without a pause.
const MOST_FILES: usize = 20_000;

/// The page of `vmfab image diff`.
pub(in crate::cli) fn diff_page(diff: &ImageDiff) -> Page {
    let (before, after) = (&diff.before, &diff.after);
    let mut html = Html::new();
    notes(&mut html, &diff.notes);
    let row = |what: &str, old: String, new: String, difference: String| {
        vec![difference, old, new, what.to_owned()]
    };
    let difference = |old: usize, new: usize| match new.checked_sub(old) {
        Some(more) => format!("+{more}"),
        None => format!("-{}", old - new),
    };
    table(
        &mut html,
        3,
        &["Change", "Before", "After", ""],
        [
            row(
                "disk",
                size(before.disk_size),
                size(after.disk_size),
                change(before.disk_size, after.disk_size),
            ),
            row(
                "on this host",
                size(before.stored_size),
                size(after.stored_size),
                change(before.stored_size, after.stored_size),
            ),
            row(
                "packages",
                before.packages.to_string(),
                after.packages.to_string(),
                difference(before.packages, after.packages),
            ),
            row(
                "image",
                before.image.short(),
                after.image.short(),
                String::new(),
            ),
        ],
    );
    packages(&mut html, &diff.packages);
    files(&mut html, &diff.files);
    Page::new(format!("From {} to {}", before.name, after.name), html)
}

fn packages(html: &mut Html, packages: &[PackageChange]) {
    html.markup("<h2>Packages</h2>\n");
    if packages.is_empty() {
        html.markup("<p>The packages are the same.</p>\n");
        return;
    }
    html.markup("<p>")
        .text(format!("{} changed.", count(packages.len(), "package")))
        .markup("</p>\n");
    let rows = packages.iter().map(|one| {
        let what = match (one.before.is_empty(), one.after.is_empty()) {
            (true, _) => "added",
            (_, true) => "removed",
            _ => "changed",
        };
        vec![
            change(one.size_before, one.size),
            what.to_owned(),
            one.name.clone(),
            one.before.join(", "),
            one.after.join(", "),
        ]
    });
    table(html, 1, &["Size", "", "Package", "Before", "After"], rows);
}

fn files(html: &mut Html, files: &[FileChange]) {
    html.markup("<h2>Files</h2>\n");
    if files.is_empty() {
        html.markup("<p>The files are the same.</p>\n");
        return;
    }
    let number = |change| files.iter().filter(|one| one.change == change).count();
    html.markup("<p>")
        .text(format!(
            "{} added, {} changed, {} deleted. Times do not count.",
            number(Change::Added),
            number(Change::Changed),
            number(Change::Deleted)
        ))
        .markup("</p>\n");
    let shown = &files[..files.len().min(MOST_FILES)];
    let mut groups: BTreeMap<&str, Vec<&FileChange>> = BTreeMap::new();
    for file in shown {
        groups.entry(group(&file.path)).or_default().push(file);
    }
    let one = groups.len() == 1;
    for (directory, files) in groups {
        let sum = |size: fn(&FileChange) -> Option<u64>| {
            files.iter().filter_map(|one| size(one)).sum::<u64>()
        };
        let difference = change(sum(|one| one.size_before), sum(|one| one.size));
        html.markup(if one { "<details open>" } else { "<details>" })
            .markup("<summary><span class=\"mono\">")
            .text(directory)
            .markup("</span> ")
            .text(format!("{}, {difference}", count(files.len(), "file")))
            .markup("</summary>\n");
        let rows = files.iter().map(|one| {
            let (before, after) = (one.size_before.unwrap_or(0), one.size.unwrap_or(0));
            vec![
                change(before, after),
                one.change.letter().to_string(),
                one.path.clone(),
                one.what.join(", "),
            ]
        });
        table(html, 1, &["Size", "", "Path", "What"], rows);
        html.markup("</details>\n");
    }
    if files.len() > shown.len() {
        let more = count(files.len() - shown.len(), "file");
        html.markup("<p class=\"warn\">")
            .text(format!(
                "{more} not shown: vmfab image diff --json lists them all"
            ))
            .markup("</p>\n");
    }
}

/// The directory that a file is gathered under.
fn group(path: &str) -> &str {
    let slashes = path.match_indices('/').map(|(at, _)| at);
    match slashes.skip(1).take(GROUPED).last() {
        Some(at) => &path[..at],
        None => "/",
    }
}

#[cfg(test)]
mod tests {
    use super::group;

    #[test]
    fn files_are_gathered_under_two_levels() {
        assert_eq!(group("/usr/lib/a/b"), "/usr/lib");
        assert_eq!(group("/usr/lib"), "/usr");
        assert_eq!(group("/etc/passwd"), "/etc");
        assert_eq!(group("/vmlinuz"), "/");
    }
}
