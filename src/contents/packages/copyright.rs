//! Debian's `copyright` files. Source: Debian policy, "Machine-readable debian/copyright file" 1.0.

use std::collections::BTreeSet;

/// The licences of the paragraphs about files, joined by `AND`; nothing when the file is not
/// machine-readable.
pub(super) fn licenses(bytes: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(bytes);
    let head = text.lines().next()?;
    if !head.starts_with("Format:") && !head.starts_with("Format-Specification:") {
        return None;
    }
    let mut found = BTreeSet::new();
    for paragraph in text.split("\n\n") {
        let field = |name: &str| {
            let mut lines = paragraph.lines();
            lines.find_map(|line| Some(line.strip_prefix(name)?.trim()))
        };
        // A licence without files is the text of one that others name.
        if field("Files:").is_some()
            && let Some(license) = field("License:").filter(|license| !license.is_empty())
        {
            found.insert(license.to_owned());
        }
    }
    let several = found.len() > 1;
    let one = |license: String| match several && license.contains(' ') {
        true => format!("({license})"),
        false => license,
    };
    let all: Vec<String> = found.into_iter().map(one).collect();
    (!all.is_empty()).then(|| all.join(" AND "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn licences_of_files_count() {
        let text = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\
            Upstream-Name: x\n\nFiles: *\nCopyright: a\nLicense: GPL-2+\n\n\
            Files: debian/*\nCopyright: b\nLicense: Expat or BSD-3-clause\n text\n\n\
            License: GPL-2+\n text\n\nLicense: unused\n";
        let found = licenses(text.as_bytes());
        assert_eq!(found.as_deref(), Some("(Expat or BSD-3-clause) AND GPL-2+"));
        assert_eq!(licenses(b"This package was debianized by hand.\n"), None);
        assert_eq!(licenses(b""), None);
    }
}
