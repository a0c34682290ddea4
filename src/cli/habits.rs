//! What other tools call commands: an unknown one is answered with vmfab's.

use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, ErrorKind};

/// What is said of names that docker, podman, lima, vagrant and virsh have, by themselves or behind
/// a command of vmfab's.
const HABITS: &[(&[&str], &str)] = &[
    (
        &["image ls", "image list", "images ls", "images list"],
        "\"vmfab images\" lists images",
    ),
    (
        &["ps"],
        "\"vmfab list\" lists machines, \"vmfab images\" images",
    ),
    (
        &["status"],
        "\"vmfab list\" lists machines and their states",
    ),
    (
        &["rmi", "untag"],
        "\"vmfab image rm @TAG\" removes tags; \"vmfab store gc\" then frees the space",
    ),
    (
        &["store rm", "store delete", "store remove"],
        "\"vmfab image rm @TAG\" removes a tag of an image, \"vmfab store unkeep NAME\" a root; \"vmfab store gc\" then frees the space",
    ),
    (
        &["delete", "remove", "destroy"],
        "\"vmfab rm NAME\" removes a machine, \"vmfab image rm @TAG\" a tag of an image",
    ),
    (
        &["run", "launch"],
        "\"vmfab boot @TAG\" creates a machine from an image and starts it",
    ),
    (
        &["shell", "enter"],
        "\"vmfab exec NAME -- COMMAND\" runs a command in a machine, \"vmfab ssh NAME\" opens a session",
    ),
    (
        &["attach"],
        "\"vmfab console NAME\" attaches to the console of a machine, \"vmfab ssh NAME\" opens a session",
    ),
    (
        &["copy", "scp", "rsync"],
        "\"vmfab cp FILE NAME:PATH\" copies files into a machine, \"vmfab cp NAME:PATH .\" out of it",
    ),
    (
        &["kill", "poweroff", "halt", "shutdown"],
        "\"vmfab stop NAME\" shuts a machine down, \"vmfab stop --force NAME\" ends it at once",
    ),
    (
        &["reboot", "reload", "reset"],
        "\"vmfab restart NAME\" shuts a machine down and starts it again",
    ),
    (
        &["save"],
        "\"vmfab push @TAG oci-archive:FILE:TAG\" writes an image to a file, \"vmfab build RECIPE --output FILE\" its disk",
    ),
    (
        &["load", "import"],
        "\"vmfab pull oci-archive:FILE\" reads an image from a file",
    ),
    (
        &["search"],
        "\"vmfab template search WORD\" searches templates; \"vmfab tags HOST/NAME\" lists the tags of a repository; registries cannot be searched",
    ),
    (
        &["prune", "clean", "cleanup", "system"],
        "\"vmfab store gc\" removes what nothing needs, \"vmfab store stat\" shows what takes space",
    ),
    (
        &["df", "du", "store ls", "store list"],
        "\"vmfab store stat\" shows what takes space, \"vmfab image tree @TAG\" what takes that of an image",
    ),
    (
        &["tag"],
        "\"vmfab image tag @TAG @TAG\" adds tags to an image",
    ),
    (
        &["init", "new"],
        "\"vmfab images --available\" lists the recipes that come with vmfab; \"vmfab build RECIPE\" builds one, or your own file",
    ),
    (
        &["resize", "grow"],
        "\"vmfab set NAME disk-size=SIZE\" grows the disk of a machine, `disk size=` in the recipe that of an image",
    ),
    (
        &["check", "validate"],
        "\"vmfab lint FILE\" checks a recipe or a Dockerfile, \"vmfab plan RECIPE\" shows its steps; neither builds",
    ),
    (
        &["convert"],
        "\"vmfab build RECIPE --output FILE --format FORMAT\" writes a disk in another format",
    ),
    (
        &["container", "machine", "vm"],
        "\"vmfab list\", \"vmfab start\", \"vmfab stop\" and \"vmfab rm\" manage machines",
    ),
    (
        &["info"],
        "\"vmfab doctor\" shows what this host has and lacks, \"vmfab inspect NAME\" details of a machine",
    ),
    (
        &["freeze", "managedsave"],
        "\"vmfab pause NAME\" pauses a machine, \"vmfab resume NAME\" continues it",
    ),
    (
        &["fork"],
        "\"vmfab clone NAME NEW\" makes a machine like another one, \"vmfab snapshot create NAME\" saves one",
    ),
    (
        &["edit"],
        "\"vmfab set NAME memory=SIZE cpus=N\" changes a machine; in a project, change vmfab.kdl and run \"vmfab up\"",
    ),
    (
        &["mount"],
        "\"vmfab boot @TAG --volume DIRECTORY:PATH\" shares a directory of this host, \"vmfab cp DIRECTORY NAME:PATH\" copies one",
    ),
    (
        &["diff"],
        "\"vmfab image diff @A @B\" compares images, \"vmfab snapshot diff A B\" snapshots; \"vmfab explain RECIPE\" shows what has changed since the last build",
    ),
    (
        &["events"],
        "\"vmfab logs --follow NAME\" follows the console of a machine; with --json, builds print their events",
    ),
    (
        &["templates"],
        "\"vmfab template validate DIRECTORY\" checks a template, \"vmfab images --available\" lists the recipes that come with vmfab",
    ),
];

/// Puts what was meant, when it is known, in the place of what clap takes for similar.
pub(super) fn advise(error: &mut clap::Error, root: &clap::Command) {
    let Some(advice) = unknown(error).and_then(|(around, name)| advice(&around, &name, root))
    else {
        return;
    };
    error.remove(ContextKind::SuggestedSubcommand);
    let advice = ContextValue::StyledStrs(vec![StyledStr::from(advice)]);
    error.insert(ContextKind::Suggested, advice);
}

/// The command that was given, if any, and the word behind it that is none.
fn unknown(error: &clap::Error) -> Option<(String, String)> {
    let what = match error.kind() {
        ErrorKind::InvalidSubcommand => ContextKind::InvalidSubcommand,
        ErrorKind::UnknownArgument => ContextKind::InvalidArg,
        _ => return None,
    };
    let Some(ContextValue::String(name)) = error.get(what) else {
        return None;
    };
    let Some(ContextValue::StyledStr(usage)) = error.get(ContextKind::Usage) else {
        return None;
    };
    let usage = usage.to_string();
    // The program can be called something else, and comes before them.
    let words = usage
        .split_whitespace()
        .skip_while(|word| *word != "Usage:");
    let is_name = |word: &&str| word.starts_with(|c: char| c.is_ascii_lowercase());
    let around: Vec<&str> = words.skip(2).take_while(is_name).collect();
    Some((around.join(" "), name.clone()))
}

fn advice(around: &str, name: &str, root: &clap::Command) -> Option<String> {
    let habit = |name: &str| {
        let mut habits = HABITS.iter();
        let (_, advice) = habits.find(|(names, _)| names.contains(&name))?;
        Some((*advice).to_owned())
    };
    let whole = format!("{around} {name}");
    habit(whole.trim()).or_else(|| match around {
        "images" => {
            let image = root.find_subcommand("image")?;
            let known = image.find_subcommand(name)?;
            Some(format!("it is \"vmfab image {}\"", known.get_name()))
        }
        "image" | "store" => match root.find_subcommand(name) {
            Some(known) => Some(format!("it is \"vmfab {}\"", known.get_name())),
            None => habit(name),
        },
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::commands;
    use super::*;

    #[test]
    fn names_are_named_once_and_are_no_commands() {
        let root = commands::root();
        let mut seen = std::collections::BTreeSet::new();
        for name in HABITS.iter().flat_map(|(names, _)| *names) {
            assert!(seen.insert(name), "{name} twice");
            assert!(root.find_subcommand(name).is_none(), "{name} is a command");
        }
    }

    #[test]
    fn what_is_advised_is_there() {
        let root = commands::root();
        for (_, advice) in HABITS {
            let mut commands = advice.split("vmfab ").skip(1).peekable();
            assert!(commands.peek().is_some(), "{advice}");
            for command in commands {
                let text = command.split('"').next().unwrap();
                let mut at = &root;
                for word in text.split_whitespace() {
                    if at.has_subcommands() {
                        if word.starts_with("--") {
                            break;
                        }
                        let next = at.find_subcommand(word);
                        at = next.unwrap_or_else(|| panic!("no {word}: {advice}"));
                    } else if let Some(long) = word.strip_prefix("--").filter(|w| !w.is_empty()) {
                        let mut options = at.get_arguments();
                        assert!(
                            options.any(|option| option.get_long() == Some(long)),
                            "no {word}: {advice}"
                        );
                    }
                }
                assert!(!at.has_subcommands() || text.starts_with("--"), "{advice}");
            }
        }
    }

    #[test]
    fn unknown_commands_are_answered() {
        let said_by = |program: &str, line: &str| {
            let root = commands::root();
            let words = [program].into_iter().chain(line.split(' '));
            let mut error = root.clone().try_get_matches_from(words).unwrap_err();
            advise(&mut error, &root);
            let text = error.render().to_string();
            let mut lines = text
                .lines()
                .filter_map(|line| line.trim().strip_prefix("tip: "));
            let first = lines.next().unwrap_or("-").to_owned();
            assert_eq!(lines.next(), None, "{text}");
            format!("{line}: {first}")
        };
        let said = |line: &str| said_by("vmfab", line);
        for line in ["images rm x", "ps", "store rm x"] {
            assert_eq!(said_by("/opt/tool", line), said(line));
        }
        let lines = [
            "ps",
            "--quiet ps -a",
            "rmi x",
            "images rm x",
            "images ls",
            "image ls",
            "image pull x",
            "image prune",
            "image save x",
            "store prune",
            "store ls",
            "store rm x",
            "system prune",
            "save x",
            "run -it x",
            "enter x",
            "search x",
            "halt x",
            "init",
            "resize x 20G",
            // What nobody calls anything is answered by clap.
            "pul x",
            "frobnicate",
            "images --foo",
            "list ps",
        ];
        insta::assert_snapshot!(lines.map(said).join("\n"));
    }
}
