//! What the last lines of a failed command say to somebody who knows how steps run.

/// What programs say when there is no network, or no resolver.
const NO_NETWORK: [&str; 12] = [
    "could not resolve",
    "couldn't resolve",
    "temporary failure resolving",
    "temporary failure in name resolution",
    "name or service not known",
    "unable to resolve host",
    "name resolution failed",
    "network is unreachable",
    "bad address",
    "dial tcp: lookup",
    "dns error",
    "getaddrinfo",
];
/// What says that a program could not be started, before its name.
const NOT_STARTED: [&str; 2] = ["bwrap: execvp ", "env: "];

/// What to do about a command that failed with these last lines of output.
pub(super) fn of_output(tail: &[String]) -> Option<String> {
    if let Some(program) = tail.iter().rev().find_map(|line| missing_program(line)) {
        return Some(format!(
            "the image has no {program}: install it in an earlier step, or name a program that the image has"
        ));
    }
    let offline = |line: &String| {
        let line = line.to_lowercase();
        NO_NETWORK.iter().any(|words| line.contains(words))
    };
    tail.iter()
        .any(offline)
        .then(|| "a run has no network by default: run \"…\" network=#true".to_owned())
}

/// The program of which a line says that there is none.
fn missing_program(line: &str) -> Option<&str> {
    let rest = NOT_STARTED
        .iter()
        .find_map(|start| line.strip_prefix(start))?;
    let rest = rest.strip_prefix("can't execute ").unwrap_or(rest);
    let program = rest.strip_suffix(": No such file or directory")?;
    Some(program.trim_matches(['\'', '"', '\u{2018}', '\u{2019}']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_usual_programs() {
        let hint = |line: &str| of_output(&["before".to_owned(), line.to_owned()]);
        for line in [
            "curl: (6) Could not resolve host: example.org",
            "Err:1 http://deb.debian.org/debian bookworm InRelease",
            "  Temporary failure resolving 'deb.debian.org'",
            "wget: bad address 'example.org'",
            "wget: unable to resolve host address 'example.org'",
            "fatal: unable to access 'https://a/': Could not resolve host: a",
            "ssh: Could not resolve hostname a: Temporary failure in name resolution",
            "pip: [Errno -2] Name or service not known",
            "Get \"https://a/\": dial tcp: lookup a: no such host",
            "connect: Network is unreachable",
        ] {
            let found = hint(line).is_some_and(|hint| hint.contains("network=#true"));
            assert_eq!(found, !line.starts_with("Err:"), "{line}");
        }
        for line in [
            "bwrap: execvp /bin/zsh: No such file or directory",
            "env: '/bin/zsh': No such file or directory",
            "env: \u{2018}/bin/zsh\u{2019}: No such file or directory",
            "env: can't execute '/bin/zsh': No such file or directory",
        ] {
            let hint = hint(line).unwrap();
            assert!(hint.starts_with("the image has no /bin/zsh: "), "{hint}");
        }
        assert_eq!(hint("make: *** [all] Error 2"), None);
    }
}
