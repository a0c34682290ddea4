//! Patterns of names, as OpenSSH has them (ssh_config(5), PATTERNS).

/// Whether a list of patterns, separated by commas, covers a name: one does, and none with `!`.
#[must_use]
pub fn covers(patterns: &str, name: &str) -> bool {
    let mut covered = false;
    for pattern in patterns.split(',') {
        match pattern.strip_prefix('!') {
            Some(not) if matches(not.as_bytes(), name.as_bytes()) => return false,
            Some(_) => {}
            None => covered |= matches(pattern.as_bytes(), name.as_bytes()),
        }
    }
    covered
}

/// Whether a pattern can cover a name: it says where, as in `registry.example/team/*`, or begins
/// with `*` or `file:`.
#[must_use]
pub fn names_a_place(pattern: &str) -> bool {
    let pattern = pattern.trim_start_matches('!');
    let first = pattern.split('/').next().unwrap_or_default();
    first == "localhost" || first.contains(['*', '?', '.', ':'])
}

/// Whether a pattern is a name: `*` stands for any bytes, `?` for one.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    // Where to go on after the last star, with one byte of the name more in it.
    let (mut at, mut in_name) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while in_name < name.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at + 1, in_name));
                at += 1;
            }
            Some(&byte) if byte == b'?' || byte == name[in_name] => {
                at += 1;
                in_name += 1;
            }
            _ => match star {
                Some((after, from)) => {
                    star = Some((after, from + 1));
                    (at, in_name) = (after, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|&byte| byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (patterns, name, expected) in [
            ("*", "registry.example/a/b", true),
            ("registry.example/a/*", "registry.example/a/b", true),
            ("registry.example/a/*", "registry.example/a/b/c", true),
            ("registry.example/a/*", "registry.example/ab", false),
            ("*/a/*", "registry.example/a/b", true),
            ("*/a/*", "registry.example/b/a", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*a*a*b", "aaaaaaaaaaaaaaaaaaaac", false),
            ("a,b", "b", true),
            ("*,!b", "b", false),
            ("!b", "a", false),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(covers(patterns, name), expected, "{patterns} {name}");
        }
        for (pattern, expected) in [
            ("registry.example/a/*", true),
            ("localhost/a", true),
            ("host:5000/a", true),
            ("*/a/*", true),
            ("file:*", true),
            ("team/*", false),
        ] {
            assert_eq!(names_a_place(pattern), expected, "{pattern}");
        }
    }
}
