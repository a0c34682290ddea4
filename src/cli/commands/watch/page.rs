//! The page: which machines it shows and how, and what keys mean.

use std::collections::BTreeMap;
use std::path::PathBuf;

use ratatui::Frame;
use ratatui::crossterm::event::{KeyCode, KeyEvent};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier};
use ratatui::text::Line;
use ratatui::widgets::{Clear, Paragraph};

use super::super::super::screen::{Look, bottom_line, fitting, is_interrupt};
use super::pane::Pane;
use crate::machine::MachineName;
use crate::ops::machine::Glance;

/// Which machine, also when others come and go: its project and its name.
pub(super) type Id = (Option<PathBuf>, MachineName);

pub(super) fn id(glance: &Glance) -> Id {
    (glance.entry.project.clone(), glance.entry.name.clone())
}

/// What the user wants that the page cannot do itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wish {
    Quit,
    Ssh(Id),
    Console(Id),
    Stop(Id),
    Restart(Id),
}

/// The least that a machine gets, with its border.
const LEAST: (u16, u16) = (36, 5);
/// Bigger than this nothing gains: a line of a usual console, and enough of its lines.
const IDEAL: (u16, u16) = (82, 14);

const HINTS: &[(&str, &str)] = &[
    ("q", "quit"),
    ("?", "help"),
    ("s", "ssh"),
    ("x", "stop"),
    ("r", "restart"),
    ("Enter", "large"),
    ("c", "console"),
    ("PgUp", "scroll"),
];
/// How many of them do something where there are no machines, or none are known yet.
const WITHOUT_MACHINES: usize = 2;

const HELP: &[(&str, &str)] = &[
    ("arrows, Tab", "select a machine"),
    ("Enter", "one machine large, or all"),
    ("PgUp, PgDn", "scroll its console"),
    ("Home, End", "the first and last lines"),
    ("s", "open a session by SSH"),
    ("c", "attach to the console"),
    ("x", "stop it, after a question"),
    ("r", "restart or start it"),
    ("q, Ctrl-C", "quit"),
];

/// Machines on a page.
#[derive(Debug)]
pub(super) struct Page {
    look: Look,
    /// Nothing before they were asked for the first time.
    glances: Option<Vec<Glance>>,
    selected: Option<Id>,
    large: bool,
    help: bool,
    /// Lines that are below those of the selected machine that are seen.
    scrolled: usize,
    question: Option<(Wish, String)>,
    told: Option<String>,
    /// What is done with machines at the moment.
    pub(super) busy: BTreeMap<Id, &'static str>,
    /// As it was drawn last: machines in a row, the first row, and lines of the selected console.
    columns: usize,
    top: usize,
    height: usize,
}

impl Page {
    pub(super) fn new(look: Look) -> Self {
        Self {
            look,
            glances: None,
            selected: None,
            large: false,
            help: false,
            scrolled: 0,
            question: None,
            told: None,
            busy: BTreeMap::new(),
            columns: 1,
            top: 0,
            height: 1,
        }
    }

    /// Shows these machines from now on.
    pub(super) fn update(&mut self, glances: Vec<Glance>) {
        let is_there = |id: &Id| glances.iter().any(|glance| self::id(glance) == *id);
        if !self.selected.as_ref().is_some_and(is_there) {
            self.selected = glances.first().map(id);
            self.scrolled = 0;
        }
        self.glances = Some(glances);
    }

    /// Says something until the next key.
    pub(super) fn tell(&mut self, message: &str) {
        let first = message.lines().next().unwrap_or_default();
        self.told = Some(self.look.plain(first));
    }

    fn all(&self) -> &[Glance] {
        self.glances.as_deref().unwrap_or_default()
    }

    /// Where the selected machine is among all.
    fn index(&self) -> usize {
        let selected = |glance: &Glance| self.selected.as_ref() == Some(&id(glance));
        self.all().iter().position(selected).unwrap_or_default()
    }

    /// What a key means.
    pub(super) fn key(&mut self, key: KeyEvent) -> Option<Wish> {
        self.told = None;
        if is_interrupt(key) {
            return Some(Wish::Quit);
        }
        if let Some((wish, _)) = self.question.take() {
            let yes = matches!(key.code, KeyCode::Char('y' | 'Y'));
            return yes.then_some(wish);
        }
        if std::mem::take(&mut self.help) {
            return None;
        }
        let page = self.height.max(2) - 1;
        match key.code {
            KeyCode::Char('q') => return Some(Wish::Quit),
            KeyCode::Char('?') => self.help = true,
            KeyCode::Esc => self.large = false,
            KeyCode::Enter => self.large ^= true,
            KeyCode::Left | KeyCode::BackTab | KeyCode::Char('h') => self.select_back(1),
            KeyCode::Right | KeyCode::Tab | KeyCode::Char('l') => self.select(self.index() + 1),
            KeyCode::Up | KeyCode::Char('k') => self.select_back(self.in_a_row()),
            KeyCode::Down | KeyCode::Char('j') => self.select(self.index() + self.in_a_row()),
            KeyCode::PageUp => self.scrolled = self.scrolled.saturating_add(page),
            KeyCode::PageDown => self.scrolled = self.scrolled.saturating_sub(page),
            // As far as there are lines: drawing sees to that.
            KeyCode::Home => self.scrolled = usize::MAX,
            KeyCode::End => self.scrolled = 0,
            KeyCode::Char(letter) => return self.about_machine(letter),
            _ => {}
        }
        None
    }

    const fn in_a_row(&self) -> usize {
        if self.large { 1 } else { self.columns }
    }

    fn select_back(&mut self, by: usize) {
        if let Some(index) = self.index().checked_sub(by) {
            self.select(index);
        }
    }

    fn select(&mut self, index: usize) {
        if let Some(glance) = self.all().get(index) {
            self.selected = Some(id(glance));
            self.scrolled = 0;
        }
    }

    fn about_machine(&mut self, letter: char) -> Option<Wish> {
        let glance = self.all().get(self.index())?;
        let id = id(glance);
        let name = &glance.entry.name;
        let runs = glance.entry.state != "stopped";
        let told = match letter {
            's' if runs => return Some(Wish::Ssh(id)),
            'c' if runs => return Some(Wish::Console(id)),
            'x' | 'r' if self.busy.contains_key(&id) => {
                format!("{name}: {} already", self.busy[&id])
            }
            'x' if runs => {
                let settings = glance.entry.settings.as_ref();
                let goes = settings.is_some_and(|settings| settings.remove_when_stopped);
                let goes = if goes { " and remove it (--rm)" } else { "" };
                self.question = Some((Wish::Stop(id), format!("Stop {name}{goes}? [y/N]")));
                return None;
            }
            'r' if runs => {
                self.question = Some((Wish::Restart(id), format!("Restart {name}? [y/N]")));
                return None;
            }
            'r' => return Some(Wish::Restart(id)),
            's' | 'c' | 'x' => format!("{name} is stopped; r starts it"),
            _ => return None,
        };
        self.tell(&told);
        None
    }

    /// Draws it.
    pub(super) fn draw(&mut self, frame: &mut Frame<'_>) {
        let rows = Layout::vertical([Constraint::Fill(1), Constraint::Length(1)]);
        let [middle, bottom] = rows.areas(frame.area());
        let count = self.all().len();
        if count == 0 {
            let text = match self.glances {
                None => "looking for machines",
                Some(_) => "no machines: vmfab up or vmfab boot creates some",
            };
            frame.render_widget(Paragraph::new(text), middle);
        } else if self.large {
            self.draw_pane(frame, middle, self.index());
        } else {
            self.draw_grid(frame, middle);
        }
        self.draw_bottom(frame, bottom);
        if self.help {
            self.draw_help(frame, middle);
        }
    }

    fn draw_grid(&mut self, frame: &mut Frame<'_>, area: Rect) {
        let count = self.all().len();
        self.columns = columns(count, area.width, area.height);
        let rows = count.div_ceil(self.columns);
        let seen = rows.min((area.height / LEAST.1).max(1).into());
        let row = self.index() / self.columns;
        self.top = self
            .top
            .clamp((row + 1).saturating_sub(seen), row)
            .min(rows - seen);
        let part = |whole: u16, number: usize, of: usize| whole as usize * number / of;
        for row in 0..seen {
            let (y, below) = (
                part(area.height, row, seen),
                part(area.height, row + 1, seen),
            );
            for column in 0..self.columns {
                let index = (self.top + row) * self.columns + column;
                if index >= count {
                    break;
                }
                let x = part(area.width, column, self.columns);
                let right = part(area.width, column + 1, self.columns);
                let pane = Rect::new(
                    area.x + x as u16,
                    area.y + y as u16,
                    (right - x) as u16,
                    (below - y) as u16,
                );
                self.draw_pane(frame, pane, index);
            }
        }
    }

    fn draw_pane(&mut self, frame: &mut Frame<'_>, area: Rect, index: usize) {
        let is_selected = index == self.index();
        let glances = self.all();
        let glance = &glances[index];
        let first = &glances[0].entry.project;
        let pane = Pane {
            look: self.look,
            glance,
            busy: self.busy.get(&id(glance)).copied(),
            is_selected,
            shows_project: self.large || glances.iter().any(|one| one.entry.project != *first),
            scrolled: if is_selected { self.scrolled } else { 0 },
        };
        let scrolled = pane.draw(frame, area);
        if is_selected {
            self.scrolled = scrolled;
            self.height = area.height.saturating_sub(2).into();
        }
    }

    fn draw_bottom(&self, frame: &mut Frame<'_>, area: Rect) {
        let cells = area.width.into();
        let line = match (&self.question, &self.told) {
            (Some((_, question)), _) => Line::styled(
                fitting(question, cells),
                self.look.color(Color::Yellow).add_modifier(Modifier::BOLD),
            ),
            (None, Some(told)) => Line::styled(fitting(told, cells), Modifier::BOLD),
            (None, None) => {
                let place = match self.all().len() {
                    0 | 1 => String::new(),
                    many => format!("{}/{many}", self.index() + 1),
                };
                let hints = match self.all() {
                    [] => &HINTS[..WITHOUT_MACHINES],
                    _ => HINTS,
                };
                frame.render_widget(bottom_line(hints, &place, cells), area);
                return;
            }
        };
        frame.render_widget(line, area);
    }

    fn draw_help(&self, frame: &mut Frame<'_>, area: Rect) {
        let keys = HELP.iter().map(|(key, _)| key.len()).max().unwrap_or(0);
        let lines: Vec<String> = HELP
            .iter()
            .map(|(key, does)| format!(" {key:keys$}  {does} "))
            .collect();
        let width = lines.iter().map(String::len).max().unwrap_or(0) + 2;
        let area = area.centered(
            Constraint::Length(width as u16),
            Constraint::Length(lines.len() as u16 + 2),
        );
        let lines: Vec<Line<'_>> = lines.into_iter().map(Line::from).collect();
        let block = self.look.block().title_top(" Keys ");
        frame.render_widget(Clear, area);
        frame.render_widget(Paragraph::new(lines).block(block), area);
    }
}

/// In how many columns so many machines are seen best.
fn columns(count: usize, width: u16, height: u16) -> usize {
    let most = usize::from(width / LEAST.0).clamp(1, count.max(1));
    let scale = |columns: usize| {
        let rows = count.div_ceil(columns);
        let across = f64::from(width) / columns as f64 / f64::from(IDEAL.0);
        let down = f64::from(height) / rows as f64 / f64::from(IDEAL.1);
        // Of those that are too low, fewer are seen at once.
        across.min(down).min(1.0)
    };
    let mut best = 1;
    for columns in 2..=most {
        if scale(columns) > scale(best) {
            best = columns;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use ratatui::crossterm::event::KeyModifiers;

    use super::super::super::super::screen::width as width_of;
    use super::super::super::list::tests::{entry, running, settings};
    use super::*;
    use crate::ops::machine::MachineEntry;

    fn glance(entry: MachineEntry, console: &[&str]) -> Glance {
        let console = console.iter().map(|&line| line.to_owned()).collect();
        Glance { entry, console }
    }

    fn many(count: usize) -> Page {
        let machine = |number: usize| {
            let lines: Vec<String> = (0..50)
                .map(|line| format!("line {line} of {number}"))
                .collect();
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            glance(running(&format!("web-{number}")), &lines)
        };
        let mut page = Page::new(Look::new(false, true));
        page.update((1..=count).map(machine).collect());
        page
    }

    /// The page as text.
    fn drawn(page: &mut Page, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| page.draw(frame)).unwrap();
        let cells = terminal.backend().buffer().content();
        let lines = cells.chunks(width.into()).map(|line| {
            // Behind a wide character there is a cell that is not seen.
            let seen = line.iter().scan(0, |hidden, cell| {
                let is_seen = *hidden == 0;
                *hidden = if is_seen {
                    width_of(cell.symbol()) - 1
                } else {
                    0
                };
                Some(if is_seen { cell.symbol() } else { "" })
            });
            let line: String = seen.collect();
            line.trim_end().to_owned()
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    fn press(page: &mut Page, code: KeyCode) -> Option<Wish> {
        page.key(KeyEvent::new(code, KeyModifiers::NONE))
    }

    fn letter(page: &mut Page, letter: char) -> Option<Wish> {
        press(page, KeyCode::Char(letter))
    }

    #[test]
    fn two_machines_at_eighty_columns() {
        let mut page = Page::new(Look::new(true, true));
        page.update(vec![
            glance(running("docker"), &["Booting", "docker login:"]),
            glance(
                entry("old", "stopped", Some(settings())),
                &["\u{1b}]0;owned\u{7}\u{1b}[2J\tx\u{202e}y", "日本語", ""],
            ),
        ]);
        insta::assert_snapshot!(drawn(&mut page, 80, 13), @r"
        ┌ docker  running ─────── 12%, 300 MiB ┐┌ old  stopped ────────────────────────┐
        │Booting                               ││        x y                           │
        │docker login:                         ││日本語                                │
        │                                      ││                                      │
        │                                      ││                                      │
        │                                      ││                                      │
        │                                      ││                                      │
        │                                      ││                                      │
        │                                      ││                                      │
        │                                      ││                                      │
        │                                      ││                                      │
        └──────────────────────────────────────┘└──────────────────────────────────────┘
        q quit  ? help  s ssh  x stop  r restart  Enter large  c console             1/2
        ");
        insta::assert_snapshot!(drawn(&mut page, 40, 10), @r"
        ┌ docker  running ─────── 12%, 300 MiB ┐
        │Booting                               │
        │docker login:                         │
        │                                      │
        │                                      │
        │                                      │
        │                                      │
        │                                      │
        └──────────────────────────────────────┘
        q quit  ? help  s ssh  x stop        1/2
        ");
    }

    #[test]
    fn a_large_one_is_scrolled() {
        let mut page = many(3);
        press(&mut page, KeyCode::Enter);
        press(&mut page, KeyCode::Down);
        insta::assert_snapshot!(drawn(&mut page, 60, 7), @r"
        ┌ web-2  running ─────── 12% of 2, 300 MiB of 1.0 GiB, 2 h ┐
        │line 46 of 2                                              │
        │line 47 of 2                                              │
        │line 48 of 2                                              │
        │line 49 of 2                                              │
        └──────────────────────────────────────────────────────────┘
        q quit  ? help  s ssh  x stop  r restart  Enter large    2/3
        ");
        press(&mut page, KeyCode::PageUp);
        insta::assert_snapshot!(drawn(&mut page, 60, 7), @r"
        ┌ web-2  running ─────── 12% of 2, 300 MiB of 1.0 GiB, 2 h ┐
        │line 43 of 2                                              │
        │line 44 of 2                                              │
        │line 45 of 2                                              │
        │line 46 of 2                                              │
        └──────────────────────────────────────────── 3 more below ┘
        q quit  ? help  s ssh  x stop  r restart  Enter large    2/3
        ");
        press(&mut page, KeyCode::Home);
        assert!(drawn(&mut page, 60, 7).contains("line 0 of 2"));
        assert_eq!(page.scrolled, 46);
        press(&mut page, KeyCode::End);
        assert!(drawn(&mut page, 60, 7).contains("line 49 of 2"));
    }

    #[test]
    fn as_many_as_fit_are_seen_and_the_selected_one_always() {
        let grid = |count, width, height| columns(count, width, height);
        assert_eq!(grid(1, 200, 50), 1);
        assert_eq!(grid(2, 80, 23), 1);
        assert_eq!(grid(4, 80, 23), 2);
        assert_eq!(grid(4, 40, 23), 1);
        assert_eq!(grid(6, 200, 49), 2);
        assert_eq!(grid(12, 200, 49), 3);
        let mut page = many(12);
        for number in 1..=12 {
            let text = drawn(&mut page, 40, 24);
            assert!(text.contains(&format!(" web-{number} ")), "{text}");
            assert_eq!(text.matches(" running ").count(), 4, "{text}");
            assert!(text.ends_with(&format!("{number}/12")), "{text}");
            press(&mut page, KeyCode::Down);
        }
        drawn(&mut page, 200, 50);
        press(&mut page, KeyCode::Up);
        assert_eq!(page.index(), 8);
        // Whatever its size.
        for (width, height) in [(1, 1), (2, 2), (3, 30), (30, 3), (200, 1)] {
            drawn(&mut page, width, height);
        }
    }

    #[test]
    fn vmfab_asks_before_it_stops() {
        let mut page = many(2);
        press(&mut page, KeyCode::Tab);
        let web = page.selected.clone().unwrap();
        assert_eq!(letter(&mut page, 'x'), None);
        assert!(drawn(&mut page, 80, 10).ends_with("Stop web-2? [y/N]"));
        assert_eq!(letter(&mut page, 'n'), None);
        assert_eq!(letter(&mut page, 'y'), None);
        letter(&mut page, 'x');
        assert_eq!(letter(&mut page, 'y'), Some(Wish::Stop(web.clone())));
        letter(&mut page, 'r');
        // The machine that was asked about, even if others come.
        let mut all = page.glances.clone().unwrap();
        all.insert(0, glance(running("a"), &[]));
        page.update(all);
        assert_eq!(letter(&mut page, 'y'), Some(Wish::Restart(web.clone())));
        page.busy.insert(web.clone(), "stopping");
        assert_eq!(letter(&mut page, 'x'), None);
        assert!(drawn(&mut page, 80, 10).ends_with("web-2: stopping already"));
        assert_eq!(letter(&mut page, 's'), Some(Wish::Ssh(web)));
    }

    #[test]
    fn what_is_stopped_is_started() {
        let mut page = Page::new(Look::new(false, false));
        let text = drawn(&mut page, 80, 5);
        assert!(text.starts_with("looking for machines"), "{text}");
        assert!(text.ends_with("q quit  ? help"), "{text}");
        assert_eq!(letter(&mut page, 's'), None);
        page.update(Vec::new());
        assert!(drawn(&mut page, 80, 5).starts_with("no machines"));
        page.update(vec![glance(entry("old", "stopped", None), &[])]);
        assert_eq!(letter(&mut page, 's'), None);
        assert!(drawn(&mut page, 80, 5).ends_with("old is stopped; r starts it"));
        let old = page.selected.clone().unwrap();
        assert_eq!(letter(&mut page, 'r'), Some(Wish::Restart(old)));
        letter(&mut page, '?');
        insta::assert_snapshot!(drawn(&mut page, 60, 13), @r"
        + old  stopped --------------------------------------------+
        |        + Keys ----------------------------------+        |
        |        | arrows, Tab  select a machine          |        |
        |        | Enter        one machine large, or all |        |
        |        | PgUp, PgDn   scroll its console        |        |
        |        | Home, End    the first and last lines  |        |
        |        | s            open a session by SSH     |        |
        |        | c            attach to the console     |        |
        |        | x            stop it, after a question |        |
        |        | r            restart or start it       |        |
        |        | q, Ctrl-C    quit                      |        |
        +--------+----------------------------------------+--------+
        q quit  ? help  s ssh  x stop  r restart  Enter large
        ");
        assert_eq!(letter(&mut page, 'q'), None);
        assert_eq!(letter(&mut page, 'q'), Some(Wish::Quit));
        let control_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(page.key(control_c), Some(Wish::Quit));
    }
}
