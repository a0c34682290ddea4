//! `vmfab image tree`

use std::path::PathBuf;

use clap::{Args, ValueHint};
use console::{Style, Term};

use super::super::super::Status;
use super::super::super::output::{count, size, unicode};
use super::super::super::pages;
use super::super::super::screen::{Input, Look, Screen, can_show};
use super::super::super::session::Session;
use super::super::super::table::{Align, Table};
use super::browse::Browser;
use crate::checked::GuestPath;
use crate::contents::{Limits, Node};
use crate::failure::Failure;
use crate::ops::contents::{self, ImageTree, TreeOptions};
use crate::ops::page_file;

/// Letters of the longest bar.
const BAR: usize = 20;
/// Narrower terminals have no room for bars.
const NARROWEST: u16 = 60;
/// What a page shows unless told otherwise: one opens directories in it.
const PAGE: Limits = Limits { depth: 8, top: 40 };

/// Show what takes the space of an image
///
/// Show directories, layers, packages and wasted bytes, the largest first. Files of an image come
/// from its layers, or from its disk if it has no layers. The disk must have ext2, ext3 or ext4. Wasted bytes are in files that later layers remove or replace. Sizes of
/// packages are those that the databases of dpkg, apk and rpm (rpmdb.sqlite) state.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vmfab image tree @docker
  vmfab image tree @docker --interactive
  vmfab image tree @docker /usr/lib --depth 1 --top 30
  vmfab image tree @docker --html docker.html
  vmfab image tree @docker --json | jq -r '.packages[] | \"\\(.size) \\(.name)\"'")]
pub(super) struct Tree {
    /// Tag, or first digits of an id
    image: String,

    /// Directory of the image to begin with [default: /]
    directory: Option<GuestPath>,

    /// Levels of directories to show; 0: all [default: 2, in a page 8]
    #[arg(short, long, value_name = "N")]
    depth: Option<usize>,

    /// Entries of each directory, packages and wasted files to show; 0: all [default: 10, in a
    /// page 40]
    #[arg(short, long, value_name = "N")]
    top: Option<usize>,

    /// Write a page for browsers to FILE instead
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    html: Option<PathBuf>,

    /// Walk through everything in the terminal: Enter opens a directory, Left goes up, Tab shows
    /// layers, wasted files and packages, s sorts, q quits
    #[arg(short, long, conflicts_with_all = ["html", "depth", "top"])]
    interactive: bool,
}

impl Tree {
    pub(super) fn run(self, session: &Session) -> Result<Status, Failure> {
        if let Some(path) = &self.html {
            page_file::check(path)?;
        }
        let usual = match (self.interactive, &self.html) {
            (true, _) => Limits::ALL,
            (false, Some(_)) => PAGE,
            (false, None) => Limits { depth: 2, top: 10 },
        };
        let limit = |asked: Option<usize>, usual| match asked {
            Some(0) => usize::MAX,
            asked => asked.unwrap_or(usual),
        };
        let options = TreeOptions {
            image: self.image,
            directory: self.directory,
            limits: Limits {
                depth: limit(self.depth, usual.depth),
                top: limit(self.top, usual.top),
            },
        };
        if self.interactive {
            return browse(session, &options);
        }
        let tree = contents::tree(session.reading_context()?, &options)?;
        if let Some(path) = &self.html {
            pages::write(session, path, &pages::tree_page(&tree))?;
            if !session.json() {
                return Ok(Status::Done);
            }
        }
        session.print(&tree, |tree| text(session, tree))?;
        Ok(Status::Done)
    }
}

/// Lets the user walk through an image.
fn browse(session: &Session, options: &TreeOptions) -> Result<Status, Failure> {
    const INSTEAD: &str = "leave out --interactive, or write a page with --html FILE";
    if session.json() || !can_show() {
        return Err(
            Failure::usage("--interactive needs a terminal, and no --json").with_help(INSTEAD),
        );
    }
    let context = session.context()?;
    let tree = contents::tree(context, options)?;
    let mut browser = Browser::new(Look::of(session), tree);
    let mut screen = Screen::open(session, &context.interrupt, INSTEAD)?;
    let mut changed = true;
    while !context.interrupt.requested() {
        if changed {
            screen.draw(|frame| browser.draw(frame))?;
        }
        let input = screen.input()?;
        changed = input != Input::Nothing;
        if let Input::Key(key) = input
            && browser.key(key)
        {
            return Ok(Status::Done);
        }
    }
    Err(Failure::interrupted())
}

fn text(session: &Session, tree: &ImageTree) -> String {
    let terminal = Term::stdout();
    let width = terminal.size_checked().map_or(0, |(_, width)| width);
    let bars = terminal.is_term() && width >= NARROWEST;
    let heading = session.style(Style::new().bold());
    let root = &tree.tree;
    let mut text = format!(
        "{}: {} in {} below {}\n",
        tree.name,
        size(root.size),
        count(root.files as usize, "file"),
        root.name
    );
    for note in &tree.notes {
        text += &format!("{note}\n");
    }
    text += &format!("\n{}\n", heading.apply_to("Directories"));
    let mut lines = Lines {
        text,
        whole: root.size,
        bars,
    };
    lines.branch(root, 0);
    let mut text = lines.text;
    if !tree.layers.is_empty() {
        text += &format!("\n{}\n{}", heading.apply_to("Layers"), layers(tree));
        let whole: u64 = tree.layers.iter().map(|layer| layer.uses.size).sum();
        text += &match tree.wasted_count {
            0 => "no layer removes or replaces a file of another\n".to_owned(),
            files => format!(
                "wasted: {}, {} of all layers, in {} that later layers remove or replace\n",
                size(tree.wasted_size),
                percent(tree.wasted_size, whole),
                count(files, "file")
            ),
        };
    }
    if !tree.wasted.is_empty() {
        text += &format!("\n{}\n{}", heading.apply_to("Wasted"), wasted(tree));
        text += &more(tree.wasted_count - tree.wasted.len(), "file");
    }
    if !tree.packages.is_empty() {
        text += &format!("\n{}\n{}", heading.apply_to("Packages"), packages(tree));
        text += &more(tree.packages_count - tree.packages.len(), "package");
        text += &format!(
            "{}: {}\n",
            count(tree.packages_count, "package"),
            size(tree.packages_size)
        );
    }
    text
}

fn more(number: usize, noun: &str) -> String {
    match number {
        0 => String::new(),
        number => format!("{} more; --top 0 shows all\n", count(number, noun)),
    }
}

pub(super) fn percent(part: u64, whole: u64) -> String {
    format!("{:.1} %", 100.0 * part as f64 / whole.max(1) as f64)
}

/// The lines of what is in a directory.
struct Lines {
    text: String,
    whole: u64,
    bars: bool,
}

impl Lines {
    fn add(&mut self, depth: usize, name: &str, bytes: u64) {
        let bar = match self.bars {
            true => format!("{}  ", bar(bytes, self.whole, BAR)),
            false => String::new(),
        };
        let part = percent(bytes, self.whole);
        // A name is one line.
        let name = name.replace('\n', "\\n");
        let indent = "  ".repeat(depth);
        self.text += &format!("{:>9} {part:>7}  {bar}{indent}{name}\n", size(bytes));
    }

    fn branch(&mut self, node: &Node, depth: usize) {
        for below in &node.below {
            let end = if below.directory { "/" } else { "" };
            self.add(depth, &format!("{}{end}", below.name), below.size);
            self.branch(below, depth + 1);
        }
        if let Some(others) = node.others {
            let what = format!("({})", count(others.entries, "other"));
            self.add(depth, &what, others.size);
        }
    }
}

pub(super) fn bar(part: u64, whole: u64, letters: usize) -> String {
    let full = if unicode() { '\u{2588}' } else { '#' };
    let length = (letters as f64 * part as f64 / whole.max(1) as f64).round() as usize;
    let full: String = std::iter::repeat_n(full, length.min(letters)).collect();
    format!("{full}{}", " ".repeat(letters - length.min(letters)))
}

fn layers(tree: &ImageTree) -> Table {
    let mut table = Table::new([
        ("SIZE", Align::Right),
        ("FILES", Align::Right),
        ("WASTED", Align::Right),
        ("LAYER", Align::Left),
        ("STEP", Align::Left),
    ]);
    for layer in &tree.layers {
        table.row([
            size(layer.uses.size),
            layer.uses.files.to_string(),
            size(layer.uses.wasted),
            layer.layer.short(),
            layer.step.clone().unwrap_or_default(),
        ]);
    }
    table
}

fn wasted(tree: &ImageTree) -> Table {
    let mut table = Table::new([
        ("SIZE", Align::Right),
        ("COPIES", Align::Right),
        ("NOW", Align::Left),
        ("PATH", Align::Left),
    ]);
    for one in &tree.wasted {
        let now = if one.removed { "removed" } else { "replaced" };
        let path = one.path.replace('\n', "\\n");
        table.row([size(one.size), one.copies.to_string(), now.to_owned(), path]);
    }
    table
}

fn packages(tree: &ImageTree) -> Table {
    let mut table = Table::new([
        ("SIZE", Align::Right),
        ("PACKAGE", Align::Left),
        ("VERSION", Align::Left),
        ("FOR", Align::Left),
        ("BY", Align::Left),
    ]);
    for one in &tree.packages {
        table.row([
            size(one.size),
            one.name.clone(),
            one.version.clone(),
            one.architecture.clone(),
            one.manager.to_owned(),
        ]);
    }
    table
}
