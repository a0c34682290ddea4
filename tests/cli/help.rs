//! Help texts, the reference made of them, completions, manual pages.

use std::path::Path;
use std::process::Command;

use super::{Bench, Ran};

/// What comes behind this in `docs/cli.md` is written by a test.
const REFERENCE: &str = "\n<!-- From here on this file is written by tests/cli/help.rs. -->\n";

/// The names of a command and of all below it, such as `image tag`.
fn all_commands(command: &clap::Command, before: &[String], found: &mut Vec<Vec<String>>) {
    found.push(before.to_vec());
    for inner in command.get_subcommands() {
        let name = [before, &[inner.get_name().to_owned()]].concat();
        all_commands(inner, &name, found);
    }
}

fn commands() -> Vec<Vec<String>> {
    let mut found = Vec::new();
    all_commands(&vmfab::cli::command(), &[], &mut found);
    assert!(found.len() > 8, "{found:?}");
    found
}

/// The second part of `docs/cli.md` is the help text of every command; with `UPDATE_DOCS=1` in the
/// environment this test writes it.
#[test]
fn the_reference_is_current() {
    let bench = Bench::new();
    let mut text = String::new();
    for name in commands() {
        let ran = Ran::from(bench.command(&name).arg("--help").output().unwrap()).ends_with(0);
        assert_eq!(ran.stderr, "");
        let (before, after) = ran
            .stdout
            .split_once("\nGlobal options:\n")
            .unwrap_or((&ran.stdout, ""));
        let after = match (name.is_empty(), after.split_once("\n\n")) {
            (true, _) => format!("\nGlobal options:\n{after}"),
            (false, Some((_, rest))) if rest.starts_with(char::is_uppercase) => format!("\n{rest}"),
            (false, _) => {
                let examples = after.find("\nExamples:\n").or(after.find("\nInstall:\n"));
                examples.map_or_else(String::new, |at| after[at..].to_owned())
            }
        };
        let title = ["vmfab".to_owned()]
            .iter()
            .chain(&name)
            .cloned()
            .collect::<Vec<_>>();
        text += &format!(
            "\n## {}\n\n```text\n{}\n```\n",
            title.join(" "),
            format!("{before}{after}").trim_end()
        );
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/cli.md");
    let found = std::fs::read_to_string(&path).unwrap();
    let (by_hand, reference) = found
        .split_once(REFERENCE)
        .expect("docs/cli.md has a part that this test writes");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, format!("{by_hand}{REFERENCE}{text}")).unwrap();
        return;
    }
    assert!(
        reference == text,
        "docs/cli.md is not what --help says: run UPDATE_DOCS=1 cargo test the_reference_is_current"
    );
}

#[test]
fn every_command_has_an_example_and_a_short_description() {
    for name in commands() {
        let root = vmfab::cli::command();
        let command = name.iter().fold(&root, |command, name| {
            command.find_subcommand(name).unwrap()
        });
        let examples = command
            .get_after_help()
            .map(ToString::to_string)
            .unwrap_or_default();
        assert!(
            examples.contains("  vmfab ") || examples.contains("  bash "),
            "vmfab {} has no example",
            name.join(" ")
        );
        let about = command
            .get_about()
            .map(ToString::to_string)
            .unwrap_or_default();
        assert!(
            !about.is_empty() && about.len() < 75 && !about.contains('\n'),
            "{name:?}: {about}"
        );
    }
}

#[test]
fn every_command_is_in_one_group_of_the_help() {
    let help = Bench::new().run(["--help"]).ends_with(0).stdout;
    for command in vmfab::cli::command().get_subcommands() {
        let line = format!("\n  {} ", command.get_name());
        assert_eq!(
            help.matches(&line).count(),
            1,
            "{} in:\n{help}",
            command.get_name()
        );
    }
}

/// What a shell gets that asks for the last of these words.
fn completed(bench: &Bench, words: &[&str]) -> Vec<String> {
    let mut command = bench.command(["--", "vmfab"]);
    command.args(words).env("COMPLETE", "fish");
    let ran = Ran::from(command.output().unwrap()).ends_with(0);
    let lines = ran.stdout.lines();
    lines
        .map(|line| line.split('\t').next().unwrap().to_owned())
        .collect()
}

#[test]
fn names_of_the_moment_are_completed() {
    let bench = Bench::new();
    assert_eq!(completed(&bench, &["image", "rm", "@d"]), [""; 0]);
    assert!(!bench.home.path().join("store").exists());
    bench.image("docker");
    bench.image("debian-12");
    assert_eq!(completed(&bench, &["image", "rm", "@do"]), ["@docker"]);
    assert_eq!(completed(&bench, &["boot", "@de"]), ["@debian-12"]);
    assert_eq!(completed(&bench, &["build", "kube"]), ["kubernetes"]);
    let formats = completed(&bench, &["build", "docker", "--format", "v"]);
    assert!(formats.contains(&"vmdk".to_owned()), "{formats:?}");
    assert_eq!(completed(&bench, &["image", "export", "@do"]), ["@docker"]);
    let hypervisors = completed(&bench, &["image", "export", "@docker", "--for", "h"]);
    assert_eq!(hypervisors, ["hyperv"]);
    let modes = completed(&bench, &["build", "docker", "--cache-mode", "mi"]);
    assert_eq!(modes, ["min"]);
    bench
        .run(["store", "add", "/etc/passwd", "--keep", "accounts"])
        .ends_with(0);
    assert_eq!(completed(&bench, &["store", "unkeep", "a"]), ["accounts"]);
    let machine = bench.home.path().join("machines/web");
    std::fs::create_dir_all(machine).unwrap();
    assert_eq!(completed(&bench, &["stop", "w"]), ["web"]);
    assert_eq!(completed(&bench, &["resume", "w"]), ["web"]);
    assert!(completed(&bench, &["imag"]).contains(&"images".to_owned()));
    // Of the Dockerfile that the line names.
    let context = bench.home.path().join("context");
    std::fs::create_dir(&context).unwrap();
    let text = "ARG NODE=22\nFROM scratch AS dev\nARG NEXT\nFROM scratch AS test\n";
    std::fs::write(context.join("Dockerfile"), text).unwrap();
    let context = context.display().to_string();
    for command in ["build", "boot", "plan", "explain", "lock", "up"] {
        let stages = completed(&bench, &[command, &context, "--target", ""]);
        assert_eq!(stages, ["dev", "test"], "{command}");
        let arguments = completed(&bench, &[command, &context, "--build-arg", "NO"]);
        assert_eq!(arguments, ["NODE="], "{command}");
    }
    // A file of the working directory is a recipe, too.
    std::fs::write(bench.home.path().join("own.kdl"), "").unwrap();
    let path = bench.home.path().join("ow").display().to_string();
    let found = completed(&bench, &["build", &path]);
    assert!(found[0].ends_with("/own.kdl"), "{found:?}");
}

#[test]
fn completions_are_scripts_of_their_shells() {
    let bench = Bench::new();
    for (shell, mark) in [
        ("bash", "_clap_complete_vmfab"),
        ("zsh", "#compdef vmfab"),
        ("fish", "complete "),
        ("elvish", "edit:completion"),
        ("powershell", "Register-ArgumentCompleter"),
    ] {
        let ran = bench.run(["completions", shell]).ends_with(0);
        assert!(ran.stdout.contains(mark), "{shell}");
        // The script asks the program.
        assert!(ran.stdout.contains("COMPLETE"), "{shell}");
    }
    let file = bench.home.path().join("completion.bash");
    std::fs::write(&file, bench.run(["completions", "bash"]).stdout).unwrap();
    let parsed = Command::new("bash").arg("-n").arg(&file).output().unwrap();
    assert!(
        parsed.status.success(),
        "{}",
        String::from_utf8_lossy(&parsed.stderr)
    );
    bench.run(["completions", "cmd.exe"]).ends_with(2);
}

#[test]
fn manual_pages() {
    let bench = Bench::new();
    let page = bench.run(["man"]).ends_with(0).stdout;
    assert!(page.contains(".TH vmfab 1"), "{page}");
    let directory = bench.home.path().join("man1");
    bench
        .run(["man", "--output", directory.to_str().unwrap()])
        .ends_with(0);
    for name in commands() {
        let parts = ["vmfab".to_owned()]
            .iter()
            .chain(&name)
            .cloned()
            .collect::<Vec<_>>();
        let path = directory.join(format!("{}.1", parts.join("-")));
        assert!(path.is_file(), "{}", path.display());
    }
}
