//! Labels of steps, for people. They are not hashed.

use crate::instruction::{Packages, Run};
use crate::recipe::Instruction;

/// The longest text that a label takes over from a recipe, in characters.
const LONGEST: usize = 48;

/// What an instruction does, a few words.
pub(super) fn instruction(instruction: &Instruction) -> String {
    match instruction {
        Instruction::Packages(Packages { names, .. }) => {
            format!("packages {}", shorten(&names.join(" ")))
        }
        Instruction::Run(run) => script("run", run),
        Instruction::File(file) => format!("file {}", file.path),
        Instruction::Copy(copy) => format!("copy to {}", copy.destination),
        Instruction::CopyFrom(copy) => format!("copy to {}", copy.destination),
        Instruction::User(user) => format!("user {}", user.name),
        Instruction::Env(variables) => {
            let names: Vec<&str> = variables.keys().map(String::as_str).collect();
            format!("env {}", shorten(&names.join(" ")))
        }
        Instruction::Hostname(name) => format!("hostname {}", name.value),
        Instruction::Service(service) => {
            let verb = if service.enable { "enable" } else { "disable" };
            format!("service {verb} {}", service.name)
        }
        Instruction::Layer(fetched) => {
            let url = &fetched.fetch.url.value;
            format!("layer {}", shorten(url.rsplit('/').next().unwrap_or(url)))
        }
    }
}

/// `run` or `check` with the first line of its script that says something.
pub(super) fn script(kind: &str, run: &Run) -> String {
    if let Some(name) = &run.name {
        return format!("{kind} {}", shorten(name));
    }
    let line = run
        .command
        .lines()
        .map(str::trim)
        .find(|line| !line.is_empty() && !line.starts_with('#') && !line.starts_with("set -"))
        .unwrap_or_default();
    let more = run.command.trim().lines().count() > 1;
    let line = shorten(line);
    let dots = if more && !line.ends_with('…') {
        " …"
    } else {
        ""
    };
    format!("{kind} {line}{dots}")
}

/// The text, or its beginning and `…`.
pub(super) fn shorten(text: &str) -> String {
    if text.chars().count() <= LONGEST {
        return text.to_owned();
    }
    let start: String = text.chars().take(LONGEST - 1).collect();
    format!("{}…", start.trim_end())
}

/// The name of an image in a registry; of its digest only the beginning.
pub(super) fn remote(name: &str) -> String {
    match name.split_once("@sha256:") {
        Some((front, digits)) if digits.len() > 12 && digits.is_ascii() => {
            format!("{front}@sha256:{}", &digits[..12])
        }
        _ => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut() {
        assert_eq!(shorten("short"), "short");
        let cut = shorten(&"é".repeat(100));
        assert_eq!(cut.chars().count(), LONGEST);
        assert!(cut.ends_with('…'));
    }

    #[test]
    fn digests_are_cut() {
        let digits = "0123456789abcdef".repeat(4);
        let name = remote(&format!("a.b/c:1@sha256:{digits}"));
        assert_eq!(name, "a.b/c:1@sha256:0123456789ab");
        assert_eq!(remote("debian:12"), "debian:12");
    }
}
