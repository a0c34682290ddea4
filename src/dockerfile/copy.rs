//! `COPY` and `ADD`.

use super::heredoc::Redirection;
use super::instruction::{Flags, Reading, Takes};
use super::model::{Add, Copy, Files, Word};
use super::words::split_blank;

pub(super) fn copy(reading: &mut Reading<'_>) -> Option<Copy> {
    let flags = reading.flags(&[
        ("from", Takes::Value),
        ("chown", Takes::Value),
        ("chmod", Takes::Value),
        ("link", Takes::Switch),
        ("parents", Takes::Switch),
        ("exclude", Takes::Values),
    ]);
    let flags = flags?;
    let files = files(reading, &flags)?;
    let from = flags.value("from");
    if let Some(from) = &from {
        if from.value.is_empty() {
            let help = "write a stage, an image or a named context: COPY --from=build /a /b";
            return reading.wrong(&from.span, "--from is empty", "empty", help);
        }
        if from.value.contains('$') {
            let message = "--from cannot have variables";
            let help = "make a stage of it, FROM image:$VERSION AS name, and copy --from=name";
            return reading.wrong(&from.span, message, "has a variable", help);
        }
        if let Some(document) = files.documents.first() {
            let message = "a here-document cannot come from another stage";
            let span = document.name.span.clone();
            let help = "use two COPY instructions, one of them without --from";
            return reading.wrong(&span, message, "here-document", help);
        }
    }
    Some(Copy {
        files,
        from,
        parents: flags.switch("parents") == Some(true),
    })
}

pub(super) fn add(reading: &mut Reading<'_>) -> Option<Add> {
    let flags = reading.flags(&[
        ("chown", Takes::Value),
        ("chmod", Takes::Value),
        ("link", Takes::Switch),
        ("checksum", Takes::Value),
        ("keep-git-dir", Takes::Switch),
        ("unpack", Takes::Switch),
        ("exclude", Takes::Values),
    ]);
    let flags = flags?;
    let files = files(reading, &flags)?;
    let checksum = flags.value("checksum");
    if let Some(checksum) = &checksum {
        let help = "use one ADD for each: ADD --checksum=sha256:… https://… /there";
        let message = match files.sources.as_slice() {
            [one] if is_remote(one) => None,
            [_] => Some("--checksum needs a source from the network"),
            _ => Some("--checksum needs exactly one source"),
        };
        if let Some(message) = message {
            return reading.wrong(&checksum.span, message, "checksum", help);
        }
    }
    Some(Add {
        files,
        checksum,
        keep_git_dir: flags.switch("keep-git-dir"),
        unpack: flags.switch("unpack"),
    })
}

/// Whether a source is not in the context, or may turn out not to be.
fn is_remote(source: &Word) -> bool {
    let text = &source.value;
    text.contains('$') || text.contains("://") || text.starts_with("git@") || text.contains(".git")
}

fn files(reading: &mut Reading<'_>, flags: &Flags) -> Option<Files> {
    let mut words: Vec<Word> = match reading.exec()? {
        Some(words) => words,
        None => {
            let pieces = split_blank(&reading.line.text, reading.args.clone());
            pieces
                .into_iter()
                .map(|piece| reading.word(piece))
                .collect()
        }
    };
    let name = reading.name();
    let keyword = reading.keyword.span.clone();
    let Some(destination) = words.pop().filter(|_| !words.is_empty()) else {
        let message = format!("{name} needs a source and a destination");
        let help = format!("for example {name} app /srv/app");
        return reading.wrong(&keyword, message, "where from, and where to?", help);
    };
    if Redirection::parse(&destination.value).is_some() {
        let message = format!("the destination of {name} is missing");
        let help = format!("write it after the here-document: {name} <<EOF /etc/file");
        return reading.wrong(&destination.span, message, "is the source", help);
    }
    if let Some(lone) = words
        .iter()
        .find(|word| matches!(word.value.as_str(), "<<" | "<<-"))
    {
        let help = format!("write the name directly behind it: {name} <<EOF /etc/file");
        let span = lone.span.clone();
        return reading.wrong(&span, "a here-document needs a name", "no name", help);
    }
    let (documents, sources): (Vec<_>, Vec<_>) = words
        .into_iter()
        .partition(|word| Redirection::parse(&word.value).is_some());
    let announced = reading.documents.len();
    if documents.len() != announced {
        let help = "names of here-documents cannot have blanks here";
        return reading.wrong(&keyword, "a here-document is not a source", "unclear", help);
    }
    let chmod = flags.value("chmod");
    if let Some(mode) = chmod.as_ref().filter(|mode| !mode.value.contains('$')) {
        check_mode(reading, mode)?;
    }
    Some(Files {
        sources,
        documents: std::mem::take(&mut reading.documents),
        destination,
        chown: flags.value("chown"),
        chmod,
        link: flags.switch("link") == Some(true),
        exclude: flags.values("exclude").collect(),
    })
}

fn check_mode(reading: &mut Reading<'_>, mode: &Word) -> Option<()> {
    if is_mode(&mode.value) {
        return Some(());
    }
    let message = format!("{:?} is not a mode", mode.value);
    let help = "write it in octal, such as 755, or with symbols, such as u=rwX,go=rX";
    reading.wrong(&mode.span, message, "not a mode", help)
}

/// Octal up to 7777, or clauses as chmod(1) has them.
#[must_use]
pub fn is_mode(text: &str) -> bool {
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return u32::from_str_radix(text, 8).is_ok_and(|mode| mode <= 0o7777);
    }
    text.split(',').all(|clause| {
        let actions = clause.trim_start_matches(['u', 'g', 'o', 'a']);
        let mut parts = actions.split_inclusive(['+', '-', '=']);
        let begins = matches!(parts.next(), Some("+" | "-" | "="));
        let permissions = |part: &str| {
            let part = part.trim_end_matches(['+', '-', '=']);
            let all_of = |set: &str| part.chars().all(|c| set.contains(c));
            all_of("rwxXst") || (part.len() == 1 && all_of("ugo"))
        };
        begins && parts.all(permissions)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes() {
        for mode in [
            "755",
            "0644",
            "7777",
            "u=rwX,go=rX",
            "+x",
            "a-w",
            "u+s",
            "g=u",
            "u=rw+x",
        ] {
            assert!(is_mode(mode), "{mode}");
        }
        for mode in [
            "", "8", "10000", "rwx", "u", "u=q", "u=rwx,", "755x", "u=ug",
        ] {
            assert!(!is_mode(mode), "{mode}");
        }
    }
}
