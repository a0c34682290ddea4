//! The table of results.

use std::time::Duration;

/// One line: a time of vmfab, and what it must not exceed.
pub(crate) struct Row {
    /// What was measured.
    pub(crate) what: &'static str,
    /// vmfab's time.
    pub(crate) vmfab: Duration,
    /// What it is compared with.
    pub(crate) limit: Limit,
}

/// What a time must not exceed.
pub(crate) enum Limit {
    /// So much time.
    Time(Duration),
    /// So many times what a peer takes.
    Ratio {
        /// The peer.
        peer: &'static str,
        /// Its time.
        time: Duration,
        /// The largest ratio.
        most: f64,
    },
}

impl Row {
    /// The measured time as a part of what it is compared with, and the most that it may be.
    fn ratio(&self) -> (f64, f64) {
        match self.limit {
            Limit::Time(limit) => (self.vmfab.as_secs_f64() / limit.as_secs_f64(), 1.0),
            Limit::Ratio { time, most, .. } => {
                (self.vmfab.as_secs_f64() / time.as_secs_f64(), most)
            }
        }
    }

    /// Whether the limit is kept.
    pub(crate) fn holds(&self) -> bool {
        let (ratio, most) = self.ratio();
        ratio <= most
    }
}

/// Markdown with aligned columns.
pub(crate) fn render(rows: &[Row]) -> String {
    let header = [
        "measured",
        "vmfab",
        "peer",
        "peer's time",
        "ratio",
        "at most",
        "",
    ];
    let mut lines = vec![header.map(str::to_owned)];
    for row in rows {
        let (ratio, most) = row.ratio();
        let (peer, time, ratio, most) = match row.limit {
            Limit::Time(limit) => (
                String::new(),
                String::new(),
                String::new(),
                time_text(limit),
            ),
            Limit::Ratio { peer, time, .. } => (
                peer.to_owned(),
                time_text(time),
                format!("{ratio:.3}"),
                format!("{most:.2}"),
            ),
        };
        let verdict = if row.holds() { "ok" } else { "MISSED" };
        lines.push([
            row.what.to_owned(),
            time_text(row.vmfab),
            peer,
            time,
            ratio,
            most,
            verdict.to_owned(),
        ]);
    }
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max();
    let widths: Vec<usize> = (0..header.len()).map(|c| width(c).unwrap_or(0)).collect();
    lines.insert(
        1,
        std::array::from_fn(|column| "-".repeat(widths[column].max(1))),
    );
    lines
        .iter()
        .map(|line| {
            let cells = line
                .iter()
                .zip(&widths)
                .map(|(cell, width)| format!("{cell:<width$}"));
            format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "))
        })
        .collect()
}

fn time_text(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds < 1.0 {
        format!("{:.1} ms", seconds * 1e3)
    } else {
        format!("{seconds:.2} s")
    }
}
