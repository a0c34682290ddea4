//! The table of results.

use std::fmt;
use std::time::Duration;

/// What is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Quantity {
    /// How long something takes.
    Time(Duration),
    /// Memory or storage.
    Bytes(u64),
}

/// One line: what vmfab needs, and what it must not exceed.
pub(crate) struct Row {
    /// What was measured.
    pub(crate) what: &'static str,
    /// vmfab's figure.
    pub(crate) vmfab: Quantity,
    /// What it is compared with: a quantity of the same kind.
    pub(crate) limit: Limit,
}

/// What a quantity must not exceed.
pub(crate) enum Limit {
    /// This quantity.
    Most(Quantity),
    /// So many times what a peer needs.
    Ratio {
        /// The peer.
        peer: &'static str,
        /// Its figure.
        needs: Quantity,
        /// The largest ratio.
        most: f64,
    },
    /// Nothing: what a peer needs, for information.
    None {
        /// The peer.
        peer: &'static str,
        /// Its figure.
        needs: Quantity,
    },
}

impl From<Duration> for Quantity {
    fn from(time: Duration) -> Self {
        Self::Time(time)
    }
}

impl Quantity {
    /// Seconds or bytes.
    #[allow(clippy::cast_precision_loss)]
    fn value(self) -> f64 {
        match self {
            Self::Time(time) => time.as_secs_f64(),
            Self::Bytes(bytes) => bytes as f64,
        }
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.value();
        let (value, unit) = match self {
            Self::Time(_) if value < 1.0 => return write!(f, "{:.1} ms", value * 1e3),
            Self::Time(_) => (value, "s"),
            Self::Bytes(..1_048_576) => return write!(f, "{:.0} KiB", value / 1024.0),
            Self::Bytes(_) => (value / 1_048_576.0, "MiB"),
        };
        write!(f, "{value:.2} {unit}")
    }
}

impl Row {
    /// The measured quantity as a part of what it is compared with, and the most that it may be.
    fn ratio(&self) -> (f64, f64) {
        let (other, most) = match self.limit {
            Limit::Most(limit) => (limit, 1.0),
            Limit::Ratio { needs, most, .. } => (needs, most),
            Limit::None { needs, .. } => (needs, f64::INFINITY),
        };
        (self.vmfab.value() / other.value(), most)
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
        "the peer's",
        "ratio",
        "at most",
        "",
    ];
    let mut lines = vec![header.map(str::to_owned)];
    for row in rows {
        let (ratio, most) = row.ratio();
        let (peer, needs, ratio, most) = match row.limit {
            Limit::Most(limit) => (
                String::new(),
                String::new(),
                String::new(),
                limit.to_string(),
            ),
            Limit::Ratio { peer, needs, .. } => (
                peer.to_owned(),
                needs.to_string(),
                format!("{ratio:.3}"),
                format!("{most:.2}"),
            ),
            Limit::None { peer, needs } => (
                peer.to_owned(),
                needs.to_string(),
                format!("{ratio:.3}"),
                String::new(),
            ),
        };
        let verdict = match row.limit {
            Limit::None { .. } => "",
            _ if row.holds() => "ok",
            _ => "MISSED",
        };
        lines.push([
            row.what.to_owned(),
            row.vmfab.to_string(),
            peer,
            needs,
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
