//! apk's `installed`. Source: Alpine's wiki, "Apk spec", "Installed Database V2".

use super::Package;

pub(super) const MANAGER: &str = "apk";

/// The packages that are installed: paragraphs of lines, each with one letter and a colon.
pub(super) fn packages(bytes: &[u8]) -> Result<Vec<Package>, String> {
    let text = String::from_utf8_lossy(bytes);
    let paragraphs = text.split("\n\n").filter_map(|paragraph| {
        let field = |name: &str| paragraph.lines().find_map(|line| line.strip_prefix(name));
        let name = field("P:")?;
        let origin = field("o:").filter(|origin| *origin != name);
        Some(Package {
            license: field("L:").map(str::to_owned),
            source: origin.map(str::to_owned),
            file: first_file(paragraph),
            name: name.to_owned(),
            version: field("V:")?.to_owned(),
            architecture: field("A:").unwrap_or_default().to_owned(),
            manager: MANAGER,
            size: field("I:").and_then(|size| size.parse().ok()).unwrap_or(0),
        })
    });
    Ok(paragraphs.collect())
}

/// The first file that a package brings: `R:` is below the last `F:`.
fn first_file(paragraph: &str) -> Option<String> {
    let mut directory = "";
    for line in paragraph.lines() {
        if let Some(other) = line.strip_prefix("F:") {
            directory = other;
        } else if let Some(name) = line.strip_prefix("R:") {
            return Some(match directory {
                "" => name.to_owned(),
                _ => format!("{directory}/{name}"),
            });
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn installed_packages_are_listed() {
        let installed = "C:Q1abc=\nP:musl\nV:1.2.5-r1\nA:x86_64\nS:405000\nI:667648\nF:lib\nR:ld-musl\n\nP:busybox\nV:1.37\n\n";
        let found = packages(installed.as_bytes()).unwrap();
        let found: Vec<_> = found
            .iter()
            .map(|one| (&*one.name, &*one.version, &*one.architecture, one.size))
            .collect();
        assert_eq!(
            found,
            [
                ("musl", "1.2.5-r1", "x86_64", 667648),
                ("busybox", "1.37", "", 0)
            ]
        );
    }
}
