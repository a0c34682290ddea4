//! What takes the space of an image, as a page.

use super::{count, notes, size, table};
use crate::contents::Node;
use crate::html::{Html, Page, Tile, treemap};
use crate::ops::contents::ImageTree;

const STYLE: &str = include_str!("tree.css");

/// Levels of directories that the picture shows.
const DRAWN: usize = 3;

/// The page of `vmfab image tree`.
pub(in crate::cli) fn tree_page(tree: &ImageTree) -> Page {
    let mut html = Html::new();
    let root = &tree.tree;
    html.markup("<p>");
    html.text(format!(
        "{} in {} below {}",
        size(root.size),
        count(root.files as usize, "file"),
        root.name
    ));
    html.markup(". Image <code>")
        .text(tree.image)
        .markup("</code></p>\n");
    notes(&mut html, &tree.notes);
    html.markup("<h2>Directories</h2>\n");
    let tiles: Vec<Tile> = root
        .below
        .iter()
        .map(|node| tile(node, "", DRAWN))
        .collect();
    html.part(&treemap(&tiles, "Sizes of directories and files"));
    html.markup("\n<div class=\"tree\">");
    branch(&mut html, root, root.size);
    html.markup("</div>\n");
    if !tree.layers.is_empty() {
        html.markup("<h2>Layers</h2>\n<p>The lowest first. ");
        html.text(match tree.wasted_count {
            0 => "Later layers remove or replace no file of earlier ones.".to_owned(),
            files => format!(
                "{} in {} that later layers remove or replace.",
                size(tree.wasted_size),
                count(files, "file")
            ),
        });
        html.markup("</p>\n");
        let rows = tree.layers.iter().map(|layer| {
            vec![
                size(layer.uses.size),
                layer.uses.files.to_string(),
                size(layer.uses.wasted),
                layer.layer.short(),
                layer.step.clone().unwrap_or_default(),
            ]
        });
        table(
            &mut html,
            3,
            &["Size", "Files", "Wasted", "Layer", "Step"],
            rows,
        );
    }
    if !tree.wasted.is_empty() {
        html.markup("<h2>Wasted</h2>\n");
        let rows = tree.wasted.iter().map(|one| {
            let fate = if one.removed { "removed" } else { "replaced" };
            let cells = [size(one.size), one.copies.to_string(), fate.to_owned()];
            cells.into_iter().chain([one.path.clone()]).collect()
        });
        table(&mut html, 2, &["Size", "Copies", "", "Path"], rows);
        left_out(&mut html, tree.wasted_count - tree.wasted.len(), "file");
    }
    html.markup("<h2>Packages</h2>\n<p>");
    html.text(format!(
        "{}, {} as their databases say.",
        count(tree.packages_count, "package"),
        size(tree.packages_size)
    ));
    html.markup("</p>\n");
    let rows = tree.packages.iter().map(|one| {
        vec![
            size(one.size),
            one.name.clone(),
            one.version.clone(),
            one.architecture.clone(),
            one.manager.to_owned(),
        ]
    });
    if !tree.packages.is_empty() {
        table(
            &mut html,
            1,
            &["Size", "Package", "Version", "Architecture", ""],
            rows,
        );
        left_out(
            &mut html,
            tree.packages_count - tree.packages.len(),
            "package",
        );
    }
    Page::new(format!("What takes the space of {}", tree.name), html).style(STYLE)
}

fn left_out(html: &mut Html, number: usize, noun: &str) {
    if number > 0 {
        let more = count(number, noun);
        html.markup("<p class=\"muted\">")
            .text(format!("{more} not shown"))
            .markup("</p>\n");
    }
}

fn tile(node: &Node, above: &str, depth: usize) -> Tile {
    let path = format!("{above}/{}", node.name);
    let below = match depth {
        1 => Vec::new(),
        _ => node
            .below
            .iter()
            .map(|one| tile(one, &path, depth - 1))
            .collect(),
    };
    let mut tile = Tile {
        label: node.name.clone(),
        title: format!("{path}: {}", size(node.size)),
        size: node.size,
        below,
    };
    if let (Some(others), false) = (node.others, tile.below.is_empty()) {
        let what = count(others.entries, "other");
        tile.below.push(Tile {
            title: format!("{path}: {what}, {}", size(others.size)),
            label: what,
            size: others.size,
            below: Vec::new(),
        });
    }
    tile
}

/// A directory with what is in it, which opens without a script.
fn branch(html: &mut Html, node: &Node, whole: u64) {
    let line = |html: &mut Html, name: &str, bytes: u64| {
        html.markup("<span class=\"size\">").text(size(bytes));
        let part = 100.0 * bytes as f64 / whole.max(1) as f64;
        html.markup("</span> <svg class=\"bar\" viewBox=\"0 0 100 10\" aria-hidden=\"true\">");
        let width = format!("{part:.1}");
        html.open("rect", &[("width", &width), ("height", &10)])
            .close("rect");
        html.markup("</svg> <span class=\"mono\">")
            .text(name)
            .markup("</span>");
    };
    for below in &node.below {
        let name = if below.directory {
            format!("{}/", below.name)
        } else {
            below.name.clone()
        };
        if below.below.is_empty() {
            html.markup("<div class=\"leaf\">");
            line(html, &name, below.size);
            html.markup("</div>\n");
        } else {
            html.markup("<details><summary>");
            line(html, &name, below.size);
            html.markup("</summary>\n");
            branch(html, below, whole);
            html.markup("</details>\n");
        }
    }
    if let Some(others) = node.others {
        html.markup("<div class=\"leaf muted\">");
        line(html, &count(others.entries, "other"), others.size);
        html.markup("</div>\n");
    }
}
