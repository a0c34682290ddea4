//! Lists of checksums: which line is of a file. Pure.
//!
//! | form | from |
//! |---|---|
//! | `HEX  name`, `HEX *name` | `sha256sum` and its kin, with `\` before lines of escaped names; Alpine |
//! | `SHA256 (name) = HEX` | `sha256sum --tag`, BSD |
//! | `HEX` alone | a list of one file |
//!
//! Everything else (comments, the armour of a clear-signed list) is passed over.

use crate::digest::{Algorithm, Checksum};

/// Names that are shown when there is none of the name that was looked for.
const SIMILAR: usize = 3;

/// A line of a list.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    /// As the list has it; empty for a checksum alone.
    name: String,
    /// `None` when it is of an algorithm that is not used.
    checksum: Option<Checksum>,
}

/// The checksum of the file `name` in a list that is itself called `list_name`, or why there is
/// none.
pub(super) fn find(text: &str, list_name: &str, name: &str) -> Result<Checksum, String> {
    // MD5 and SHA-1 no longer prove anything.
    let weak = || format!("the list has no SHA-256, SHA-512 or BLAKE3 checksum of {name}");
    let no_entry = format!("the list has no checksum of {name}");
    let list_name = list_name.to_lowercase();
    let blake3 = ["b3", "blake3"].iter().any(|part| list_name.contains(part));
    let entries: Vec<Entry> = text
        .lines()
        .filter_map(|line| entry(line, blake3))
        .collect();
    let named: Vec<&Entry> = entries
        .iter()
        .filter(|entry| !entry.name.is_empty())
        .collect();
    if named.is_empty() {
        return match entries.as_slice() {
            [] => Err("this is no list of checksums".to_owned()),
            [Entry { checksum, .. }] => checksum.clone().ok_or_else(weak),
            _ => Err(no_entry),
        };
    }
    let base = |entry: &Entry| entry.name.rsplit('/').next().unwrap_or_default().to_owned();
    let mut found: Vec<&Entry> = named
        .iter()
        .copied()
        .filter(|entry| base(entry) == name)
        .collect();
    // Where directories have files of one name, the one beside the list is meant.
    let beside = |entry: &&&Entry| entry.name.trim_start_matches("./") == name;
    if found.iter().any(|entry| beside(&entry)) {
        found.retain(|entry| beside(&entry));
    }
    if found.is_empty() {
        return Err(
            match similar(name, named.iter().map(|entry| base(entry))).as_slice() {
                [] => no_entry,
                names => format!("{no_entry}; it has {}", names.join(", ")),
            },
        );
    }
    let strong = |algorithm| {
        let checksums = found.iter().filter_map(|entry| entry.checksum.as_ref());
        let mut checksums: Vec<_> = checksums
            .filter(|one| one.algorithm() == algorithm)
            .collect();
        checksums.sort();
        checksums.dedup();
        checksums
    };
    for algorithm in Algorithm::ALL {
        match strong(algorithm).as_slice() {
            [] => {}
            [only] => return Ok((*only).clone()),
            _ => {
                let entries: Vec<&str> = found.iter().map(|entry| entry.name.as_str()).collect();
                return Err(format!(
                    "the list has different checksums of {name}: {}",
                    entries.join(", ")
                ));
            }
        }
    }
    Err(weak())
}

fn similar(name: &str, others: impl Iterator<Item = String>) -> Vec<String> {
    let mut scored: Vec<(f64, String)> = others
        .map(|other| (strsim::normalized_levenshtein(name, &other), other))
        .filter(|(score, _)| *score > 0.5)
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    scored.dedup();
    scored
        .into_iter()
        .take(SIMILAR)
        .map(|(_, name)| name)
        .collect()
}

fn entry(line: &str, blake3: bool) -> Option<Entry> {
    let line = line.trim_end_matches('\r');
    tagged(line).or_else(|| plain(line, blake3))
}

/// `SHA256 (name) = HEX`.
fn tagged(line: &str) -> Option<Entry> {
    let (line, escaped) = unmarked(line);
    let (tag, rest) = line.split_once(" (")?;
    let (name, digits) = rest.rsplit_once(") = ")?;
    let digits = digits.trim();
    let hex = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !hex || tag.contains(' ') {
        return None;
    }
    let tag = tag.to_ascii_lowercase().replace('-', "");
    let tag = tag
        .replace("sha2256", "sha256")
        .replace("sha2512", "sha512");
    let algorithm = Algorithm::ALL.into_iter().find(|one| one.name() == tag);
    Some(Entry {
        name: file_name(name, escaped),
        checksum: algorithm.and_then(|one| Checksum::from_hex(one, digits).ok()),
    })
}

/// `HEX  name`, `HEX *name`, or `HEX` alone. What it is of, its length tells.
fn plain(line: &str, blake3: bool) -> Option<Entry> {
    let (line, escaped) = unmarked(line);
    let line = line.trim_end();
    let end = line.find(|c: char| !c.is_ascii_hexdigit());
    let (digits, rest) = line.split_at(end.unwrap_or(line.len()));
    // The shortest is MD5.
    if digits.len() < 32 || digits.len() % 2 == 1 {
        return None;
    }
    let name = match rest.strip_prefix([' ', '\t']) {
        Some(rest) => rest.strip_prefix([' ', '*']).unwrap_or(rest).trim_start(),
        None if rest.is_empty() => "",
        None => return None,
    };
    let algorithm = match digits.len() {
        64 if blake3 => Some(Algorithm::Blake3),
        64 => Some(Algorithm::Sha256),
        128 => Some(Algorithm::Sha512),
        _ => None,
    };
    Some(Entry {
        name: file_name(name, escaped),
        checksum: algorithm.and_then(|one| Checksum::from_hex(one, digits).ok()),
    })
}

/// A line without the mark that its name is escaped.
fn unmarked(line: &str) -> (&str, bool) {
    line.strip_prefix('\\')
        .map_or((line, false), |line| (line, true))
}

fn file_name(name: &str, escaped: bool) -> String {
    if escaped {
        let name = name.replace("\\\\", "\0").replace("\\n", "\n");
        name.replace("\\r", "\r").replace('\0', "\\")
    } else {
        name.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(digit: char, count: usize) -> String {
        digit.to_string().repeat(count)
    }

    #[test]
    fn every_form() {
        let (a, b) = (hex('a', 64), hex('b', 128));
        let sha256 = format!("sha256:{a}");
        let sha512 = format!("sha512:{b}");
        for (text, expected) in [
            (format!("{a}  disk.img\n"), &sha256),
            (format!("{a} *disk.img\r\n"), &sha256),
            (format!("{a} disk.img"), &sha256),
            (format!("{}  ./disk.img", a.to_uppercase()), &sha256),
            (format!("{b}  amd64/disk.img"), &sha512),
            (format!("SHA256 (disk.img) = {a}"), &sha256),
            (format!("SHA2-512 (x/disk.img) = {b}"), &sha512),
            (
                format!("MD5 (disk.img) = {}\nSHA512 (disk.img) = {b}", hex('c', 32)),
                &sha512,
            ),
            (
                format!("SHA512 (disk.img) = {b}\nSHA256 (disk.img) = {a}"),
                &sha256,
            ),
            (
                format!(
                    "# disk.img: 5 bytes\n-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nSHA256 (disk.img) = {a}"
                ),
                &sha256,
            ),
            (format!("{a}\n"), &sha256),
            (format!("{a}  other/disk.img\n{a}  disk.img"), &sha256),
            (
                format!("{}  other/disk.img\n{a}  disk.img", hex('d', 64)),
                &sha256,
            ),
        ] {
            let found = find(&text, "SHA256SUMS", "disk.img").unwrap();
            assert_eq!(found.to_string(), *expected, "{text}");
        }
        let blake3 = find(&format!("{a}  disk.img"), "B3SUMS", "disk.img").unwrap();
        assert_eq!(blake3.algorithm(), Algorithm::Blake3);
        let escaped = find(&format!("\\{a}  a\\\\n\\nb"), "x", "a\\n\nb").unwrap();
        assert_eq!(escaped.hex(), a);
    }

    #[test]
    fn what_is_missing_is_told() {
        let (a, b) = (hex('a', 64), hex('b', 64));
        let problem = |text: &str| {
            find(text, "SHA256SUMS", "noble-server-amd64.img")
                .unwrap_err()
                .to_string()
        };
        let list =
            format!("{a}  noble-server-arm64.img\n{a}  noble-server-amd64.tar.gz\n{a}  README\n");
        assert_eq!(
            problem(&list),
            "the list has no checksum of noble-server-amd64.img; it has noble-server-arm64.img, noble-server-amd64.tar.gz"
        );
        assert_eq!(problem("<html>404</html>"), "this is no list of checksums");
        assert_eq!(
            problem(&format!(
                "{a}  a/noble-server-amd64.img\n{b}  b/noble-server-amd64.img"
            )),
            "the list has different checksums of noble-server-amd64.img: a/noble-server-amd64.img, b/noble-server-amd64.img"
        );
        assert_eq!(
            problem(&format!("{}  noble-server-amd64.img", hex('a', 32))),
            "the list has no SHA-256, SHA-512 or BLAKE3 checksum of noble-server-amd64.img"
        );
        assert_eq!(
            problem(&format!("{a}\n{b}\n")),
            "the list has no checksum of noble-server-amd64.img"
        );
    }

    proptest::proptest! {
        #[test]
        fn nothing_panics(text in "\\PC*|([a-f0-9]{64} [ *][a-z./\\\\]{0,9}\n){0,4}") {
            let _ = find(&text, "list", "a");
        }
    }
}
