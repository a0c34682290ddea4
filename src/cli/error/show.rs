//! How errors are shown: text for people, one JSON object with `--json`; on standard error.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::process::ExitCode;

use console::{Style, Term};
use serde::Serialize;

use super::super::options::{ColorWhen, Hints};
use super::super::output::{clean, clean_lines};
use super::{CliError, Details, Kind, diagnostic};

/// The form of an error with `--json`: one object on standard error.
#[derive(Serialize)]
struct Json<'a> {
    kind: Kind,
    message: &'a str,
    help: &'a [String],
    exit_code: u8,
    #[serde(flatten)]
    details: &'a Details,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<Self>,
    #[serde(flatten)]
    diagnostic: Option<diagnostic::Json>,
}

impl CliError {
    /// Shows the error on standard error.
    pub(in crate::cli) fn report(&self, hints: &Hints) -> ExitCode {
        if self.kind == Kind::ReaderGone {
            return ExitCode::from(self.kind.exit_code());
        }
        let text = if hints.json {
            let json = serde_json::to_string(&self.to_json());
            json.unwrap_or_else(|_| self.message.clone()) + "\n"
        } else {
            let terminal = Term::stderr();
            let look = Look {
                color: hints.color.decide(&terminal),
                width: terminal
                    .size_checked()
                    .map_or(100, |(_, width)| width.into()),
            };
            self.to_text(look)
        };
        // Nobody is left to tell when standard error is closed.
        let _ = io::stderr().lock().write_all(text.as_bytes());
        ExitCode::from(self.kind.exit_code())
    }

    fn to_json(&self) -> Json<'_> {
        Json {
            kind: self.kind,
            message: &self.message,
            help: &self.help,
            exit_code: self.kind.exit_code(),
            details: &self.details,
            errors: self.parts.iter().map(Self::to_json).collect(),
            diagnostic: self
                .diagnostic
                .as_deref()
                .map(|inner| diagnostic::to_json(inner)),
        }
    }

    fn to_text(&self, look: Look) -> String {
        let style = |style: Style| style.force_styling(look.color);
        let error = style(Style::new().red().bold()).apply_to("error:");
        let faint = style(Style::new().dim());
        let mut text = String::new();
        for part in &self.parts {
            text += &part.to_text(look);
            text.push('\n');
        }
        match &self.diagnostic {
            Some(inner) => text += &diagnostic::to_text(inner.as_ref(), look.color, look.width),
            None => {
                let _ = writeln!(text, "{error} {}", clean_lines(&self.message));
            }
        }
        if let Some(command) = &self.details.command {
            push_block(&mut text, "command", &mut command.lines(), &faint);
        }
        if !self.details.output.is_empty() {
            let mut lines = self.details.output.iter().map(String::as_str);
            push_block(&mut text, "last output", &mut lines, &faint);
        }
        if let Some(log) = &self.details.log {
            let _ = writeln!(text, "  {} {log}", faint.apply_to("log:"));
        }
        let label = style(Style::new().cyan().bold()).apply_to("help:");
        // The text of a diagnostic has its help in it.
        let shown = self.diagnostic.is_none();
        for help in self.help.iter().filter(|_| shown) {
            let help = clean_lines(help).replace('\n', "\n        ");
            let _ = writeln!(text, "  {label} {help}");
        }
        text
    }
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
    let mut usage = CliError::usage(message.strip_prefix("error: ").unwrap_or(message));
    usage.help.extend(help.map(str::to_owned));
    usage.report(&Hints {
        color: ColorWhen::Never,
        ..*hints
    })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::derivation::BuildError;
    use crate::host::{MissingProgram, Program};
    use crate::ops::{Error, StepFailure};

    fn text(error: Error) -> String {
        CliError::from(error).to_text(Look {
            color: false,
            width: 80,
        })
    }

    fn json(error: Error) -> String {
        serde_json::to_string_pretty(&CliError::from(error).to_json()).unwrap()
    }

    fn failed_command(name: &str) -> StepFailure {
        StepFailure {
            name: name.to_owned(),
            log: PathBuf::from("/home/anna/.local/share/vmfab/log/1f.log"),
            error: BuildError::Command {
                command: "apt-get install -y docker.ioo".to_owned(),
                how: "exited with code 100".to_owned(),
                tail: vec![
                    "Reading package lists...".to_owned(),
                    "\u{1b}[31mE: Unable to locate package docker.ioo\u{1b}[0m".to_owned(),
                ],
            },
        }
    }

    #[test]
    fn a_failed_step() {
        insta::assert_snapshot!(text(Error::Steps(vec![failed_command("docker: packages docker.ioo")])), @r#"
        error: step "docker: packages docker.ioo" failed: exited with code 100
          command: apt-get install -y docker.ioo
          last output:
            | Reading package lists...
            | E: Unable to locate package docker.ioo
          log: /home/anna/.local/share/vmfab/log/1f.log
          help: change the step and build again: vmfab keeps the steps before it
        "#);
        insta::assert_snapshot!(json(Error::Steps(vec![failed_command("docker: packages docker.ioo")])), @r#"
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
        let script = StepFailure {
            error: BuildError::Command {
                command: "set -e\nmake\nmake install".to_owned(),
                how: "took longer than 30 s".to_owned(),
                tail: Vec::new(),
            },
            ..failed_command("tools: run")
        };
        insta::assert_snapshot!(text(Error::Steps(vec![failed_command("docker: packages"), script])), @r#"
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
    fn missing_programs() {
        let missing = [Program::Bwrap, Program::Newuidmap, Program::Newgidmap].map(MissingProgram);
        insta::assert_snapshot!(text(Error::Missing(missing.to_vec())), @r#"
        error: bwrap, newuidmap, newgidmap are not installed
          help: install what is missing: sudo apt-get install bubblewrap uidmap
        "#);
    }

    #[test]
    fn what_is_not_there() {
        let known = ["docker", "debian-12"];
        insta::assert_snapshot!(text(Error::not_found("image", "dokcer", known)), @r#"
        error: no image "dokcer" found
          help: did you mean "docker"?
        "#);
    }

    #[test]
    fn what_others_wrote_cannot_move_the_cursor() {
        let error = Error::Usage {
            message: "there are images for \u{1b}[2Jlinux/\rx\nand".to_owned(),
            help: Some("a\u{7}b\nc".to_owned()),
        };
        insta::assert_snapshot!(text(error), @"
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
        insta::assert_snapshot!(text(error.into()), @r#"
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

    fn wrong_recipe() -> Error {
        let text = "image \"ä\" {\n    pakages \"docker.io\"\n}\n".to_owned();
        let place = text.find("pakages").unwrap();
        Error::recipe(Wrong {
            text: miette::NamedSource::new("docker.kdl", text),
            place: (place, "pakages".len()).into(),
        })
    }

    #[test]
    fn a_wrong_recipe() {
        insta::assert_snapshot!(json(wrong_recipe()), @r#"
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
        let shown = text(wrong_recipe());
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
            let shown = text(Error::recipe(error(more)));
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

    #[test]
    fn exit_codes() {
        let code = |error: Error| CliError::from(error).kind.exit_code();
        let step = |error| {
            Error::Steps(vec![StepFailure {
                error,
                ..failed_command("s")
            }])
        };
        assert_eq!(code(step(BuildError::Interrupted)), 130);
        assert_eq!(code(Error::Interrupted), 130);
        assert_eq!(code(wrong_recipe()), 4);
        assert_eq!(code(Error::Home(crate::host::HomeError)), 5);
        let missing = Error::from(crate::host::MissingProgram(crate::host::Program::Bwrap));
        assert_eq!(code(missing), 5);
        assert_eq!(
            code(Error::Verification {
                message: String::new(),
                help: None
            }),
            6
        );
        assert_eq!(
            code(Error::Usage {
                message: String::new(),
                help: None
            }),
            2
        );
        assert_eq!(code(Error::not_found("image", "x", [])), 3);
        assert_eq!(
            code(step(BuildError::Unsatisfiable {
                message: String::new(),
                help: String::new()
            })),
            1
        );
    }
}
