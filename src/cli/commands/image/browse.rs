//! What takes the space of an image, as a page in the terminal: one walks through its directories.

use ratatui::Frame;
use ratatui::crossterm::event::{KeyCode, KeyEvent};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::Paragraph;

use super::super::super::output::{count, size};
use super::super::super::screen::{Look, bottom_line, fitting, is_interrupt, width};
use super::tree::{bar, percent};
use crate::contents::Node;
use crate::ops::contents::ImageTree;

/// Letters of a bar.
const BAR: usize = 10;
/// Narrower terminals have no room for bars.
const NARROWEST: usize = 60;

const HINTS: &[(&str, &str)] = &[
    ("q", "quit"),
    ("Enter", "open"),
    ("Left", "up"),
    ("Tab", "next list"),
    ("s", "sort"),
];

/// What is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum View {
    Directories,
    Layers,
    Wasted,
    Packages,
}

const VIEWS: [View; 4] = [
    View::Directories,
    View::Layers,
    View::Wasted,
    View::Packages,
];

/// What comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Size,
    Files,
    Name,
}

/// A line of a list.
#[derive(Debug, Clone)]
struct Row {
    size: u64,
    /// Files in it, or what else is counted.
    files: u64,
    name: String,
    /// Where it is among those of its list.
    at: usize,
    opens: bool,
}

/// An image that one walks through.
#[derive(Debug)]
pub(super) struct Browser {
    look: Look,
    tree: ImageTree,
    view: View,
    order: Order,
    /// The way to the directory that is seen: places of those above it in the ones above them.
    way: Vec<usize>,
    rows: Vec<Row>,
    selected: usize,
    /// As it was drawn last: the first row that was seen, and how many were.
    top: usize,
    height: usize,
}

impl Browser {
    pub(super) fn new(look: Look, tree: ImageTree) -> Self {
        let mut browser = Self {
            look,
            tree,
            view: View::Directories,
            order: Order::Size,
            way: Vec::new(),
            rows: Vec::new(),
            selected: 0,
            top: 0,
            height: 1,
        };
        browser.list();
        browser
    }

    /// The directory that is seen.
    fn directory(&self) -> &Node {
        let mut node = &self.tree.tree;
        for at in &self.way {
            node = &node.below[*at];
        }
        node
    }

    /// Lists what the view has, from its beginning.
    fn list(&mut self) {
        let row = |at, size, files, name: String, opens| Row {
            size,
            files,
            name,
            at,
            opens,
        };
        let tree = &self.tree;
        self.rows = match self.view {
            View::Directories => {
                let below = self.directory().below.iter().enumerate();
                let named = below.map(|(at, node)| {
                    let end = if node.directory { "/" } else { "" };
                    let name = format!("{}{end}", node.name);
                    row(at, node.size, node.files, name, !node.below.is_empty())
                });
                named.collect()
            }
            View::Layers => {
                let layers = tree.layers.iter().enumerate();
                let named = layers.map(|(at, one)| {
                    let step = one.step.as_deref().unwrap_or("another build");
                    let name = format!("{} {step}", one.layer.short());
                    row(at, one.uses.size, one.uses.files, name, false)
                });
                named.collect()
            }
            View::Wasted => {
                let wasted = tree.wasted.iter().enumerate();
                let named = wasted.map(|(at, one)| {
                    let now = if one.removed { "removed" } else { "replaced" };
                    let name = format!("{} ({now})", one.path);
                    row(at, one.size, one.copies as u64, name, false)
                });
                named.collect()
            }
            View::Packages => {
                let packages = tree.packages.iter().enumerate();
                let named = packages.map(|(at, one)| {
                    let name = format!("{} {}", one.name, one.version);
                    row(at, one.size, 1, name, false)
                });
                named.collect()
            }
        };
        match self.order {
            Order::Size => self.rows.sort_by_key(|row| std::cmp::Reverse(row.size)),
            Order::Files => self.rows.sort_by_key(|row| std::cmp::Reverse(row.files)),
            Order::Name => self.rows.sort_by(|one, other| one.name.cmp(&other.name)),
        }
        self.selected = 0;
        self.top = 0;
    }

    /// What a key means; returns whether the user has enough.
    pub(super) fn key(&mut self, key: KeyEvent) -> bool {
        let last = self.rows.len().saturating_sub(1);
        let page = self.height.max(2) - 1;
        match key.code {
            _ if is_interrupt(key) => return true,
            KeyCode::Char('q') | KeyCode::Esc => return true,
            KeyCode::Up | KeyCode::Char('k') => self.selected = self.selected.saturating_sub(1),
            KeyCode::Down | KeyCode::Char('j') => self.selected = last.min(self.selected + 1),
            KeyCode::PageUp => self.selected = self.selected.saturating_sub(page),
            KeyCode::PageDown => self.selected = last.min(self.selected + page),
            KeyCode::Home => self.selected = 0,
            KeyCode::End => self.selected = last,
            KeyCode::Enter | KeyCode::Right | KeyCode::Char('l') => self.open(),
            KeyCode::Left | KeyCode::Backspace | KeyCode::Char('h') => self.up(),
            KeyCode::Tab | KeyCode::BackTab => {
                let by = if key.code == KeyCode::Tab {
                    1
                } else {
                    VIEWS.len() - 1
                };
                self.view = VIEWS[(self.view as usize + by) % VIEWS.len()];
                self.list();
            }
            KeyCode::Char('s') => {
                self.order = match self.order {
                    Order::Size => Order::Files,
                    Order::Files => Order::Name,
                    Order::Name => Order::Size,
                };
                self.list();
            }
            _ => {}
        }
        false
    }

    fn open(&mut self) {
        if let Some(row) = self.rows.get(self.selected)
            && row.opens
        {
            self.way.push(row.at);
            self.list();
        }
    }

    /// Goes to the directory above, where this one is selected.
    fn up(&mut self) {
        if self.view != View::Directories {
            return;
        }
        if let Some(from) = self.way.pop() {
            self.list();
            let came = self.rows.iter().position(|row| row.at == from);
            self.selected = came.unwrap_or_default();
        }
    }

    /// Draws it.
    pub(super) fn draw(&mut self, frame: &mut Frame<'_>) {
        let parts = [
            Constraint::Length(2),
            Constraint::Fill(1),
            Constraint::Length(1),
        ];
        let [head, middle, bottom] = Layout::vertical(parts).areas(frame.area());
        self.draw_head(frame, head);
        self.draw_rows(frame, middle);
        let place = match self.rows.len() {
            0 => String::new(),
            rows => format!("{}/{rows}", self.selected + 1),
        };
        frame.render_widget(bottom_line(HINTS, &place, bottom.width.into()), bottom);
    }

    fn draw_head(&self, frame: &mut Frame<'_>, area: Rect) {
        let tree = &self.tree;
        let (what, bytes) = match self.view {
            View::Directories => {
                let names = self.way.iter().scan(&tree.tree, |node, at| {
                    *node = &node.below[*at];
                    Some(node.name.as_str())
                });
                let first = tree.tree.name.trim_end_matches('/');
                let path: Vec<&str> = std::iter::once(first).chain(names).collect();
                (format!("{}/", path.join("/")), self.directory().size)
            }
            View::Layers => {
                let sizes = tree.layers.iter().map(|layer| layer.uses.size);
                (count(tree.layers.len(), "layer"), sizes.sum())
            }
            View::Wasted => (
                format!(
                    "{} wasted by later layers",
                    count(tree.wasted_count, "file")
                ),
                tree.wasted_size,
            ),
            View::Packages => (count(tree.packages_count, "package"), tree.packages_size),
        };
        let order = match self.order {
            Order::Size => "size",
            Order::Files => "files",
            Order::Name => "name",
        };
        let cells = area.width.into();
        let first = self.look.plain(&format!("{} {what}", tree.name));
        let second = format!(
            "{} in {}, by {order}",
            size(bytes),
            count(self.rows.len(), "row")
        );
        let lines = vec![
            Line::styled(fitting(&first, cells).to_owned(), Modifier::BOLD),
            Line::raw(fitting(&second, cells).to_owned()),
        ];
        frame.render_widget(Paragraph::new(lines), area);
    }

    fn draw_rows(&mut self, frame: &mut Frame<'_>, area: Rect) {
        self.height = area.height.max(1).into();
        let selected = self.selected;
        self.top = self
            .top
            .clamp((selected + 1).saturating_sub(self.height), selected);
        let whole: u64 = self.rows.iter().map(|row| row.size).sum();
        let cells: usize = area.width.into();
        if self.rows.is_empty() {
            let notes = self.tree.notes.join("; ");
            let text = if notes.is_empty() {
                "nothing here"
            } else {
                &notes
            };
            frame.render_widget(Line::raw(self.look.plain(text)), area);
            return;
        }
        let seen = self
            .rows
            .iter()
            .enumerate()
            .skip(self.top)
            .take(self.height);
        let lines = seen.map(|(number, row)| {
            let bar = match cells >= NARROWEST {
                true => format!("{}  ", bar(row.size, whole, BAR)),
                false => String::new(),
            };
            let share = percent(row.size, whole);
            let name = self.look.plain(&row.name.replace('\n', "\\n"));
            let line = format!("{:>9} {share:>7}  {bar}{name}", size(row.size));
            let line = fitting(&line, cells);
            let line = format!("{line}{}", " ".repeat(cells - width(line)));
            let style = match (number == selected, row.opens) {
                (true, _) => Style::new().add_modifier(Modifier::REVERSED),
                (false, true) => self.look.color(Color::Cyan),
                (false, false) => Style::new(),
            };
            Line::styled(line, style)
        });
        let lines: Vec<Line<'_>> = lines.collect();
        frame.render_widget(Paragraph::new(lines), area);
    }
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use ratatui::crossterm::event::KeyModifiers;

    use super::*;
    use crate::contents::{Package, Wasted};
    use crate::digest::{Hasher, ObjectId};

    fn node(name: &str, size: u64, files: u64, below: Vec<Node>) -> Node {
        Node {
            name: name.to_owned(),
            directory: files != 1,
            size,
            files,
            below,
            others: None,
        }
    }

    fn browser() -> Browser {
        let lib = vec![
            node("libc.so", 90_000, 1, vec![]),
            node("\u{1b}[2J", 1, 1, vec![]),
        ];
        let usr = vec![node("lib", 90_001, 2, lib), node("empty", 0, 0, vec![])];
        let root = vec![node("usr", 90_001, 2, usr), node("etc", 9000, 7, vec![])];
        let tree = ImageTree {
            image: ObjectId::new(Hasher::new("test").finish()),
            name: "@docker".to_owned(),
            tree: node("/", 99_001, 9, root),
            layers: Vec::new(),
            wasted_size: 5000,
            wasted_count: 1,
            wasted: vec![Wasted {
                path: "/var/cache".to_owned(),
                size: 5000,
                copies: 1,
                removed: true,
            }],
            packages_size: 7000,
            packages_count: 1,
            packages: vec![Package {
                license: None,
                source: None,
                file: None,
                name: "bash".to_owned(),
                version: "5.2".to_owned(),
                architecture: String::new(),
                manager: "dpkg",
                size: 7000,
            }],
            notes: Vec::new(),
        };
        Browser::new(Look::new(false, true), tree)
    }

    fn drawn(browser: &mut Browser, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| browser.draw(frame)).unwrap();
        let cells = terminal.backend().buffer().content();
        let lines = cells.chunks(width.into()).map(|line| {
            let line: String = line.iter().map(|cell| cell.symbol()).collect();
            line.trim_end().to_owned()
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    fn press(browser: &mut Browser, code: KeyCode) -> bool {
        browser.key(KeyEvent::new(code, KeyModifiers::NONE))
    }

    #[test]
    fn one_walks_down_and_up() {
        let mut browser = browser();
        insta::assert_snapshot!(drawn(&mut browser, 40, 6), @r"
        @docker /
        97 KiB in 2 rows, by size
           88 KiB  90.9 %  usr/
          8.8 KiB   9.1 %  etc/

        q quit  Enter open  Left up          1/2
        ");
        press(&mut browser, KeyCode::Enter);
        press(&mut browser, KeyCode::Enter);
        press(&mut browser, KeyCode::End);
        let text = drawn(&mut browser, 80, 6);
        assert!(
            text.starts_with("@docker /usr/lib/\n88 KiB in 2 rows, by size\n"),
            "{text}"
        );
        assert!(text.contains("  libc.so\n"), "{text}");
        assert!(text.ends_with("2/2") && !text.contains('\u{1b}'), "{text}");
        // A file does not open.
        press(&mut browser, KeyCode::Right);
        assert_eq!(browser.way, [0, 0]);
        press(&mut browser, KeyCode::Left);
        assert_eq!((browser.way.as_slice(), browser.selected), (&[0][..], 0));
        press(&mut browser, KeyCode::Left);
        press(&mut browser, KeyCode::Left);
        assert_eq!(browser.way, [0; 0]);
        press(&mut browser, KeyCode::Char('s'));
        assert_eq!(browser.rows[0].name, "etc/");
        assert!(press(&mut browser, KeyCode::Char('q')));
        for (width, height) in [(1, 1), (3, 3), (200, 2)] {
            drawn(&mut browser, width, height);
        }
    }

    #[test]
    fn other_lists_have_rows_too() {
        let mut browser = browser();
        press(&mut browser, KeyCode::Tab);
        assert!(drawn(&mut browser, 80, 6).contains("nothing here"));
        press(&mut browser, KeyCode::Tab);
        let wasted = drawn(&mut browser, 80, 6);
        assert!(wasted.contains("/var/cache (removed)"), "{wasted}");
        assert!(wasted.contains("1 file wasted by later layers"), "{wasted}");
        press(&mut browser, KeyCode::Tab);
        assert!(drawn(&mut browser, 80, 6).contains("bash 5.2"));
        press(&mut browser, KeyCode::Tab);
        assert_eq!(browser.view, View::Directories);
    }
}
