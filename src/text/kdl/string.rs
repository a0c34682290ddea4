//! Strings: quoted, raw, on one line and on several.

use std::ops::Range;

use super::cursor::{Cursor, Step, Stop, is_newline, is_space};

/// A string that begins here, at a `"` or at the `#` before one.
pub(super) fn string(cursor: &mut Cursor<'_>) -> Step<String> {
    let start = cursor.at;
    let hashes = cursor.take_while(|c| c == '#').len();
    let several = cursor.at("\"\"\"");
    cursor.at += if several { 3 } else { 1 };
    let opening = start..cursor.at;
    if several && !cursor.newline() {
        let stop = Stop::new(
            opening,
            "a newline must follow \"\"\"",
            "text follows in the same line",
        );
        return Err(stop.help("\"\"\" begins a multi-line string: write its text on the next line"));
    }
    let body = cursor.at;
    let end = format!(
        "{}{}",
        if several { "\"\"\"" } else { "\"" },
        "#".repeat(hashes)
    );
    find_end(cursor, &end, hashes > 0, several, &opening)?;
    let range = body..cursor.at;
    cursor.at += end.len();
    let text = &cursor.text[range.clone()];
    match (several, hashes > 0) {
        (false, true) => Ok(text.to_owned()),
        (false, false) => unescape(text, range.start),
        (true, true) => dedent(text, &opening),
        (true, false) => {
            let joined = join_lines(text);
            // After the joining, places in the text are gone.
            unescape(&dedent(&joined, &opening)?, range.start).map_err(|stop| Stop {
                range: opening,
                ..stop
            })
        }
    }
}

/// Goes to the quotes that end a string.
fn find_end(
    cursor: &mut Cursor<'_>,
    end: &str,
    raw: bool,
    several: bool,
    opening: &Range<usize>,
) -> Step<()> {
    let open = || {
        let stop = Stop::new(opening.clone(), "the string does not end", "it begins here");
        stop.help(format!("end it with {end}"))
    };
    loop {
        if cursor.at(end) {
            return Ok(());
        }
        match cursor.peek() {
            None => return Err(open()),
            Some('\\') if !raw => {
                cursor.at += 1;
                // What follows is either one character, or spaces with newlines among them.
                let space = |c| is_space(c) || is_newline(c);
                if cursor.take_while(space).is_empty() {
                    cursor.at = cursor.here().end;
                }
            }
            Some(c) if is_newline(c) && !several => {
                return Err(open().help(format!(
                    "end it with {end} in the same line; put \"\"\" around text of several lines"
                )));
            }
            Some(c) => cursor.at += c.len_utf8(),
        }
    }
}

/// Takes out each `\` that has spaces and newlines behind it, and these.
fn join_lines(text: &str) -> String {
    let mut joined = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        joined.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let trimmed = after.trim_start_matches(|c| is_space(c) || is_newline(c));
        if trimmed.len() < after.len() {
            rest = trimmed;
        } else {
            let next = after.chars().next().map_or(0, char::len_utf8);
            joined.push_str(&rest[at..=at + next]);
            rest = &after[next..];
        }
    }
    joined + rest
}

/// The lines of a string without the indentation of the last one, which holds nothing else.
fn dedent(text: &str, opening: &Range<usize>) -> Step<String> {
    let normal = normal_newlines(text);
    let (lines, prefix) = match normal.rsplit_once('\n') {
        Some((lines, prefix)) => (Some(lines), prefix),
        None => (None, normal.as_str()),
    };
    if !prefix.chars().all(is_space) {
        let stop = Stop::new(
            opening.clone(),
            "text stands before the closing \"\"\"",
            "of this string",
        );
        return Err(stop.help("put the closing \"\"\" on a line of its own"));
    }
    let mut done = Vec::new();
    for line in lines.into_iter().flat_map(|lines| lines.split('\n')) {
        if line.chars().all(is_space) {
            done.push("");
        } else if let Some(rest) = line.strip_prefix(prefix) {
            done.push(rest);
        } else {
            let stop = Stop::new(
                opening.clone(),
                format!(
                    "the line {:?} is indented less than the closing \"\"\"",
                    shortened(line)
                ),
                "in this string",
            );
            return Err(
                stop.help("indent each line at least like the last line, with the same characters")
            );
        }
    }
    Ok(done.join("\n"))
}

fn shortened(line: &str) -> String {
    line.chars().take(40).collect()
}

fn normal_newlines(text: &str) -> String {
    text.replace("\r\n", "\n").replace(is_newline, "\n")
}

/// Puts in what the escapes stand for; `start` is where the text stands.
fn unescape(text: &str, start: usize) -> Step<String> {
    let mut done = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        done.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let trimmed = after.trim_start_matches(|c| is_space(c) || is_newline(c));
        if trimmed.len() < after.len() {
            rest = trimmed;
            continue;
        }
        let place = start + text.len() - after.len() - 1;
        let (c, length) = escape(after).ok_or_else(|| {
            let next = after.chars().next();
            let range = place..place + 1 + next.map_or(0, char::len_utf8);
            let shown = next.map_or_else(String::new, String::from);
            Stop::new(range, format!("\"\\{shown}\" is not an escape"), "unknown escape").help(
                "escapes are \\n \\r \\t \\\\ \\\" \\b \\f \\s and \\u{1F600}; write \\\\ for a backslash, or use a raw \
                 string: #\"…\"#",
            )
        })?;
        done.push(c);
        rest = &after[length..];
    }
    Ok(done + rest)
}

/// What an escape stands for, and how long it is without the `\`.
fn escape(after: &str) -> Option<(char, usize)> {
    let simple = match after.chars().next()? {
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        '\\' => '\\',
        '"' => '"',
        'b' => '\u{8}',
        'f' => '\u{c}',
        's' => ' ',
        'u' => {
            let (digits, _) = after.strip_prefix("u{")?.split_once('}')?;
            let hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
            if !hex || !(1..=6).contains(&digits.len()) {
                return None;
            }
            let c = char::from_u32(u32::from_str_radix(digits, 16).ok()?)?;
            return Some((c, digits.len() + 3));
        }
        _ => return None,
    };
    Some((simple, 1))
}
