//! One machine: its state and load in the border, the end of its console inside.

use std::collections::VecDeque;

use ratatui::Frame;
use ratatui::layout::{Alignment, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use super::super::super::output::size;
use super::super::super::screen::{Look, width, wrap};
use super::super::list::{percent, shown, span, state};
use crate::ops::machine::Glance;

/// How one machine is shown.
pub(super) struct Pane<'a> {
    pub(super) look: Look,
    pub(super) glance: &'a Glance,
    /// What is done with it at the moment.
    pub(super) busy: Option<&'static str>,
    pub(super) is_selected: bool,
    pub(super) shows_project: bool,
    /// Lines of its console below those that are seen; as many as there can be, at most.
    pub(super) scrolled: usize,
}

impl Pane<'_> {
    /// Draws it; returns how many lines are below.
    pub(super) fn draw(&self, frame: &mut Frame<'_>, area: Rect) -> usize {
        let inside = usize::from(area.width.saturating_sub(2));
        let (lines, scrolled) = self.lines(inside, area.height.saturating_sub(2).into());
        let name = format!(" {} ", self.name());
        let state = format!("{} ", self.state());
        let taken = width(&name) + width(&state);
        let load = self.load(inside.saturating_sub(taken + 1));
        let [name_style, border_style] = match self.is_selected {
            true => [
                Style::new().add_modifier(Modifier::BOLD | Modifier::REVERSED),
                self.look.color(Color::Cyan),
            ],
            false => [Style::new().add_modifier(Modifier::BOLD), Style::new()],
        };
        let title = Line::from(vec![
            Span::styled(name, name_style),
            Span::raw(" "),
            Span::styled(state, self.state_style()),
        ]);
        let mut block = self
            .look
            .block()
            .border_style(border_style)
            .title_top(title.style(Style::reset()));
        if !load.is_empty() {
            let load = Line::styled(format!(" {load} "), Style::reset());
            block = block.title_top(load.alignment(Alignment::Right));
        }
        if scrolled > 0 {
            let below = Line::styled(format!(" {scrolled} more below "), Style::reset());
            block = block.title_bottom(below.alignment(Alignment::Right));
        }
        let lines: Vec<Line<'_>> = lines.into_iter().map(Line::from).collect();
        frame.render_widget(Paragraph::new(lines).block(block), area);
        scrolled
    }

    fn name(&self) -> String {
        let entry = &self.glance.entry;
        match &entry.project {
            Some(project) if self.shows_project => {
                format!("{} in {}", entry.name, self.look.plain(&shown(project)))
            }
            _ => entry.name.to_string(),
        }
    }

    fn state(&self) -> String {
        match self.busy {
            Some(doing) => doing.to_owned(),
            None => state(&self.glance.entry),
        }
    }

    fn state_style(&self) -> Style {
        match (self.busy, self.glance.entry.state) {
            (None, "running") => self.look.color(Color::Green),
            (None, "stopped") => Style::new().add_modifier(Modifier::DIM),
            (None, "damaged") => self.look.color(Color::Red),
            _ => self.look.color(Color::Yellow),
        }
    }

    /// What it uses, as much of it as fits.
    fn load(&self, cells: usize) -> String {
        let entry = &self.glance.entry;
        let (Some(usage), Some(settings)) = (entry.usage, &entry.settings) else {
            return String::new();
        };
        let cpus = settings.cpus;
        let share = percent(usage.cpu / f64::from(cpus.max(1)));
        let brief = share.trim_end_matches(" of ");
        let memory = size(usage.memory);
        let promised = size(settings.memory);
        let uptime = span(usage.uptime as u64);
        let choices = [
            format!("{share}{cpus}, {memory} of {promised}, {uptime}"),
            format!("{share}{cpus}, {memory} of {promised}"),
            format!("{brief}, {memory}"),
            brief.to_owned(),
        ];
        let mut fitting = choices.into_iter().filter(|text| width(text) + 2 <= cells);
        fitting.next().unwrap_or_default()
    }

    /// The lines of the console that are seen, and how many are below.
    fn lines(&self, cells: usize, rows: usize) -> (Vec<String>, usize) {
        let wanted = rows.saturating_add(self.scrolled);
        let mut lines = VecDeque::new();
        for line in self.glance.console.iter().rev() {
            if lines.len() >= wanted {
                break;
            }
            let line = self.look.plain(line);
            for part in wrap(&line, cells.max(1)).into_iter().rev() {
                lines.push_front(part.to_owned());
            }
        }
        let below = self.scrolled.min(lines.len().saturating_sub(rows));
        let end = lines.len() - below;
        let first = end.saturating_sub(rows);
        (lines.into_iter().take(end).skip(first).collect(), below)
    }
}
