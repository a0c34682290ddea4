//! Tables as podman prints them: columns at least 12 wide, two spaces between them. Pure.

/// The least width of a column, with the space behind it.
const LEAST: usize = 12;
/// Spaces between the longest cell and the next column.
const GAP: usize = 2;

/// A line for the header and for each row.
pub(super) fn columns<const N: usize>(header: [&str; N], rows: &[[String; N]]) -> String {
    let header = header.map(str::to_owned);
    let lines: Vec<&[String; N]> = std::iter::once(&header).chain(rows).collect();
    let width = |column: usize| {
        let cells = lines.iter().map(|line| line[column].chars().count() + GAP);
        cells.max().unwrap_or(0).max(LEAST)
    };
    let widths: Vec<usize> = (0..N).map(width).collect();
    let mut text = String::new();
    for line in lines {
        for (column, cell) in line.iter().enumerate() {
            text += cell;
            if column + 1 < N {
                text.extend(std::iter::repeat_n(
                    ' ',
                    widths[column] - cell.chars().count(),
                ));
            }
        }
        text.push('\n');
    }
    text
}

/// How long ago a time was, in podman's words; both in seconds since 1970.
pub(super) fn ago(time: u64, now: u64) -> String {
    let seconds = now.saturating_sub(time);
    // A half hour counts as one.
    let hours = (seconds + 30 * 60) / 3600;
    let count = |number: u64, unit: &str| format!("{number} {unit} ago");
    match (seconds, seconds / 60, hours) {
        (0, ..) => "Less than a second ago".to_owned(),
        (1, ..) => "1 second ago".to_owned(),
        (..60, ..) => count(seconds, "seconds"),
        (_, 1, _) => "About a minute ago".to_owned(),
        (_, ..60, _) => count(seconds / 60, "minutes"),
        (.., 1) => "About an hour ago".to_owned(),
        (.., ..48) => count(hours, "hours"),
        (.., ..336) => count(hours / 24, "days"),
        (.., ..1440) => count(hours / 24 / 7, "weeks"),
        (.., ..17520) => count(hours / 24 / 30, "months"),
        _ => count(hours / 24 / 365, "years"),
    }
}

/// The time now, in seconds since 1970.
pub(super) fn now() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |now| now.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_podmans() {
        let row = [
            "d0300f628e13",
            "quay.io/fedora/fedora-bootc:latest",
            "10.7GB",
            "false",
        ];
        let text = columns(["ID", "REPO", "SIZE", "RUNNING"], &[row.map(str::to_owned)]);
        assert_eq!(
            text,
            "ID            REPO                                SIZE        RUNNING\n\
             d0300f628e13  quay.io/fedora/fedora-bootc:latest  10.7GB      false\n"
        );
    }

    #[test]
    fn times_are_podmans() {
        const HOUR: u64 = 3600;
        for (seconds, text) in [
            (0, "Less than a second ago"),
            (1, "1 second ago"),
            (59, "59 seconds ago"),
            (119, "About a minute ago"),
            (240, "4 minutes ago"),
            (59 * 60, "59 minutes ago"),
            (HOUR, "About an hour ago"),
            (HOUR + 45 * 60, "2 hours ago"),
            (47 * HOUR, "47 hours ago"),
            (3 * 24 * HOUR, "3 days ago"),
            (15 * 24 * HOUR, "2 weeks ago"),
            (100 * 24 * HOUR, "3 months ago"),
            (800 * 24 * HOUR, "2 years ago"),
        ] {
            assert_eq!(ago(1000, 1000 + seconds), text);
        }
    }
}
