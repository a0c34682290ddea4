//! How errors are shown: text for people, one JSON object with `--json`; on standard error.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::process::ExitCode;

use console::{Style, Term};
use serde::Serialize;

use super::super::options::{ColorWhen, Hints};
use super::super::output::{clean, clean_lines};
use super::diagnostic;
use crate::failure::{Failure, Kind};

/// The form of an error with `--json`: one object on standard error.
#[derive(Serialize)]
struct Json<'a> {
    kind: Kind,
    message: &'a str,
    help: &'a [String],
    exit_code: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    output: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    log: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<Self>,
    #[serde(flatten)]
    diagnostic: Option<diagnostic::Json>,
}

/// Shows a failure on standard error.
pub(in crate::cli) fn report(failure: &Failure, hints: &Hints) -> ExitCode {
    let kind = failure.kind();
    if kind == Kind::ReaderGone {
        return ExitCode::from(kind.exit_code());
    }
    let text = if hints.json {
        let json = serde_json::to_string(&to_json(failure));
        json.unwrap_or_else(|_| failure.message().to_owned()) + "\n"
    } else {
        let terminal = Term::stderr();
        let look = Look {
            color: hints.color.decide(&terminal),
            width: terminal
                .size_checked()
                .map_or(100, |(_, width)| width.into()),
        };
        to_text(failure, look)
    };
    // Nobody is left to tell when standard error is closed.
    let _ = io::stderr().lock().write_all(text.as_bytes());
    ExitCode::from(kind.exit_code())
}

fn to_json(failure: &Failure) -> Json<'_> {
    let details = failure.details();
    Json {
        kind: failure.kind(),
        message: failure.message(),
        help: failure.help(),
        exit_code: failure.kind().exit_code(),
        command: details.command.as_deref(),
        output: &details.output,
        log: details.log.as_ref().map(|log| log.display().to_string()),
        errors: failure.causes().iter().map(to_json).collect(),
        diagnostic: failure.diagnostic().map(|inner| diagnostic::to_json(inner)),
    }
}

fn to_text(failure: &Failure, look: Look) -> String {
    let style = |style: Style| style.force_styling(look.color);
    let error = style(Style::new().red().bold()).apply_to("error:");
    let faint = style(Style::new().dim());
    let details = failure.details();
    let mut text = String::new();
    for cause in failure.causes() {
        text += &to_text(cause, look);
        text.push('\n');
    }
    match failure.diagnostic() {
        Some(inner) => text += &diagnostic::to_text(inner, look.color, look.width),
        None => {
            let _ = writeln!(text, "{error} {}", clean_lines(failure.message()));
        }
    }
    if let Some(command) = &details.command {
        push_block(&mut text, "command", &mut command.lines(), &faint);
    }
    if !details.output.is_empty() {
        let mut lines = details.output.iter().map(String::as_str);
        push_block(&mut text, "last output", &mut lines, &faint);
    }
    if let Some(log) = &details.log {
        let _ = writeln!(text, "  {} {}", faint.apply_to("log:"), log.display());
    }
    let label = style(Style::new().cyan().bold()).apply_to("help:");
    // The text of a diagnostic has its help in it.
    let shown = failure.diagnostic().is_none();
    for help in failure.help().iter().filter(|_| shown) {
        let help = clean_lines(help).replace('\n', "\n        ");
        let _ = writeln!(text, "  {label} {help}");
    }
    text
}

/// How errors look.
#[derive(Clone, Copy)]
struct Look {
    color: bool,
    width: usize,
}

/// `label: line`, or the lines below the label when there are several.
fn push_block(
    text: &mut String,
    label: &str,
    lines: &mut dyn Iterator<Item = &'_ str>,
    faint: &Style,
) {
    let lines: Vec<_> = lines.map(clean).collect();
    let label = faint.apply_to(format!("{label}:"));
    if let [line] = lines.as_slice() {
        let _ = writeln!(text, "  {label} {line}");
        return;
    }
    let _ = writeln!(text, "  {label}");
    for line in lines {
        let _ = writeln!(text, "    {} {line}", faint.apply_to("|"));
    }
}

/// Shows what clap says: help and version on standard output, errors on standard error.
pub(in crate::cli) fn usage(error: &clap::Error, hints: &Hints) -> ExitCode {
    if !hints.json || !error.use_stderr() {
        // A reader of the help who has enough is no error.
        let _ = error.print();
        return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
    }
    let text = error.render().to_string();
    let mut parts = text.split("\n\n").map(str::trim);
    let message = parts.next().unwrap_or_default();
    let help = parts.filter_map(|part| part.strip_prefix("tip: "));
    let usage = Failure::usage(message.strip_prefix("error: ").unwrap_or(message))
        .and_help(help.map(str::to_owned));
    let hints = Hints {
        color: ColorWhen::Never,
        ..*hints
    };
    report(&usage, &hints)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::executor::{FailedStep, steps};
    use crate::host::{MissingProgram, Program, missing_programs};

    fn text(failure: &Failure) -> String {
        let look = Look {
            color: false,
            width: 80,
        };
        to_text(failure, look)
    }

    fn json(failure: &Failure) -> String {
        serde_json::to_string_pretty(&to_json(failure)).unwrap()
    }

    fn failed_command(name: &str) -> FailedStep {
        FailedStep {
            step: name.to_owned(),
            log: PathBuf::from("/home/anna/.local/share/vmfab/log/1f.log"),
            error: Failure::command(
                "apt-get install -y docker.ioo",
                "exited with code 100",
                vec![
                    "Reading package lists...".to_owned(),
                    "\u{1b}[31mE: Unable to locate package docker.ioo\u{1b}[0m".to_owned(),
                ],
            ),
        }
    }

    #[test]
    fn a_failed_step() {
        insta::assert_snapshot!(text(&steps(vec![failed_command("docker: packages docker.ioo")])), @r#"
        error: step "docker: packages docker.ioo" failed: exited with code 100
          command: apt-get install -y docker.ioo
          last output:
            | Reading package lists...
            | E: Unable to locate package docker.ioo
          log: /home/anna/.local/share/vmfab/log/1f.log
          help: change the step and build again: vmfab keeps the steps before it
        "#);
        insta::assert_snapshot!(json(&steps(vec![failed_command("docker: packages docker.ioo")])), @r#"
        {
          "kind": "failed",
          "message": "step \"docker: packages docker.ioo\" failed: exited with code 100",
          "help": [
            "change the step and build again: vmfab keeps the steps before it"
          ],
          "exit_code": 1,
          "command": "apt-get install -y docker.ioo",
          "output": [
            "Reading package lists...",
            "\u001b[31mE: Unable to locate package docker.ioo\u001b[0m"
          ],
          "log": "/home/anna/.local/share/vmfab/log/1f.log"
        }
        "#);
    }

    #[test]
    fn several_failed_steps() {
        let script = FailedStep {
            error: Failure::command(
                "set -e\nmake\nmake install",
                "took longer than 30 s",
                Vec::new(),
            ),
            ..failed_command("tools: run")
        };
        insta::assert_snapshot!(text(&steps(vec![failed_command("docker: packages"), script])), @r#"
        error: step "docker: packages" failed: exited with code 100
          command: apt-get install -y docker.ioo
          last output:
            | Reading package lists...
            | E: Unable to locate package docker.ioo
          log: /home/anna/.local/share/vmfab/log/1f.log

        error: step "tools: run" failed: took longer than 30 s
          command:
            | set -e
            | make
            | make install
          log: /home/anna/.local/share/vmfab/log/1f.log

        error: 2 steps failed
          help: vmfab keeps the steps that succeeded: only the others run next time
        "#);
    }

    #[test]
    fn programs_that_are_missing() {
        let missing = [Program::Bwrap, Program::Newuidmap, Program::Newgidmap].map(MissingProgram);
        insta::assert_snapshot!(text(&missing_programs(&missing)), @r#"
        error: bwrap, newuidmap, newgidmap are not installed
          help: install what is missing: sudo apt-get install bubblewrap uidmap
        "#);
    }

    #[test]
    fn what_is_not_there() {
        let known = ["docker", "debian-12"];
        insta::assert_snapshot!(text(&Failure::not_found("image", "dokcer", known)), @r#"
        error: no image "dokcer" found
          help: did you mean "docker"?
        "#);
    }

    #[test]
    fn what_others_wrote_cannot_move_the_cursor() {
        let error =
            Failure::usage("there are images for \u{1b}[2Jlinux/\rx\nand").with_help("a\u{7}b\nc");
        insta::assert_snapshot!(text(&error), @"
        error: there are images for linux/ x
        and
          help: a b
                c
        ");
    }

    #[test]
    fn a_full_disk() {
        let full = std::io::Error::from(io::ErrorKind::StorageFull);
        let error = crate::store::StoreError::Io {
            action: "write",
            path: PathBuf::from("/srv/vmfab/store/tmp/put-1"),
            source: full,
        };
        insta::assert_snapshot!(text(&error.into()), @r#"
        error: write /srv/vmfab/store/tmp/put-1: no storage space
          help: free some space where /srv/vmfab/store/tmp/put-1 is (`vmfab store gc` removes what no image needs), or set VMFAB_HOME to a directory with more
        "#);
    }

    #[derive(Debug, thiserror::Error, miette::Diagnostic)]
    #[error("no node \"pakages\" found")]
    #[diagnostic(help("did you mean \"packages\"?"))]
    struct Wrong {
        #[source_code]
        text: miette::NamedSource<String>,
        #[label("unknown node")]
        place: miette::SourceSpan,
    }

    fn wrong_recipe() -> Failure {
        let text = "image \"ä\" {\n    pakages \"docker.io\"\n}\n".to_owned();
        let place = text.find("pakages").unwrap();
        Failure::recipe(Wrong {
            text: miette::NamedSource::new("docker.kdl", text),
            place: (place, "pakages".len()).into(),
        })
    }

    #[test]
    fn a_wrong_recipe() {
        insta::assert_snapshot!(json(&wrong_recipe()), @r#"
        {
          "kind": "recipe",
          "message": "no node \"pakages\" found",
          "help": [
            "did you mean \"packages\"?"
          ],
          "exit_code": 4,
          "file": "docker.kdl",
          "line": 2,
          "column": 5,
          "spans": [
            {
              "label": "unknown node",
              "offset": 17,
              "length": 7,
              "line": 2,
              "column": 5
            }
          ]
        }
        "#);
        let shown = text(&wrong_recipe());
        for part in [
            "error: no node",
            "docker.kdl:2:5",
            "pakages \"docker.io\"",
            "did you mean",
        ] {
            assert!(shown.contains(part), "{part} is not in:\n{shown}");
        }
        assert_eq!(shown.matches("did you mean").count(), 1, "{shown}");
    }

    #[derive(Debug, thiserror::Error, miette::Diagnostic)]
    #[error("its config is \u{1b}[2Jgone\r")]
    #[diagnostic(help("there are images for \u{1b}]0;title\u{7}linux/\u{9b}x\nand"))]
    struct OfOthers {
        #[source_code]
        text: miette::NamedSource<String>,
        #[label("\u{1b}[31mred")]
        place: miette::SourceSpan,
        #[related]
        more: Vec<OfOthers>,
    }

    #[test]
    fn diagnostics_cannot_move_the_cursor_either() {
        let error = |more| OfOthers {
            text: miette::NamedSource::new("web.kdl", "image \"web\"\n".to_owned()),
            place: (0, 5).into(),
            more,
        };
        for more in [vec![], vec![error(vec![]), error(vec![])]] {
            let shown = text(&Failure::recipe(error(more)));
            for part in [
                "its config is gone",
                "images for",
                "and",
                "red",
                "web.kdl:1:1",
            ] {
                assert!(shown.contains(part), "{part} is not in:\n{shown}");
            }
            let is_harmful = |c: char| c.is_control() && c != '\n';
            assert!(!shown.contains(is_harmful), "{shown:?}");
        }
    }
}
