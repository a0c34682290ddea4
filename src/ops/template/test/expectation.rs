//! What a test expects of a running machine.

use super::super::super::Context;
use super::super::super::machine::{Exec, ExecOptions, exec};
use crate::checked::AccountName;
use crate::failure::Failure;
use crate::recipe::Expectation;

/// Seconds that a port may take.
const PATIENCE: u32 = 30;
/// The most of what a command wrote that a report shows, in bytes.
const SHOWN: usize = 4096;

/// Looks whether it holds in a machine.
///
/// # Errors
/// It does not, or the machine cannot be entered.
pub(super) fn check(
    context: &Context,
    machine: &str,
    expectation: &Expectation,
) -> Result<(), Failure> {
    let (what, script, user) = match expectation {
        Expectation::Run { command, user } => {
            let line = command.trim().lines().next().unwrap_or_default();
            (format!("run {line}"), command.clone(), user.as_ref())
        }
        Expectation::Port(port) => (format!("port {port}"), listens(*port), None),
        Expectation::File { path, contains } => (
            format!("file {path}"),
            file(path, contains.as_deref()),
            None,
        ),
    };
    let options = ExecOptions {
        user: Some(user.cloned().unwrap_or_else(root)),
        ..ExecOptions::default()
    };
    let command = ["/bin/sh".to_owned(), "-ec".to_owned(), script];
    let (code, output) = match exec(context, machine, &options, &command)? {
        Exec::Ended(ended) => (Some(ended.code), [ended.stdout, ended.stderr].concat()),
        Exec::Session(mut session) => {
            let output = session
                .output()
                .map_err(|error| Failure::failed(format!("ssh cannot be started: {error}")))?;
            let written = [output.stdout, output.stderr].concat();
            (output.status.code(), written)
        }
    };
    if code == Some(0) {
        return Ok(());
    }
    let output = String::from_utf8_lossy(&output);
    let from = output.len().saturating_sub(SHOWN);
    let from = (from..output.len()).find(|at| output.is_char_boundary(*at));
    let output = output[from.unwrap_or(0)..].trim();
    let code = code.map_or_else(|| "by a signal".to_owned(), |code| format!("with {code}"));
    Err(Failure::failed(format!("{what} ended {code}: {output}")))
}

fn root() -> AccountName {
    "root".parse().expect("a name")
}

/// Waits until something listens on the port, as the kernel lists sockets (proc(5)): state `0A`.
fn listens(port: u16) -> String {
    format!(
        "for second in $(seq {PATIENCE}); do\n\
         grep -Esq '^ *[0-9]+: [0-9A-F]+:{port:04X} [0-9A-F]+:0000 0A' /proc/net/tcp /proc/net/tcp6 && exit 0\n\
         sleep 1\n\
         done\n\
         echo 'nothing listens on it'\n\
         exit 1"
    )
}

fn file(path: &str, contains: Option<&str>) -> String {
    let path = quoted(path);
    let exists = format!("[ -e {path} ] || {{ echo 'it does not exist'; exit 1; }}");
    match contains {
        None => exists,
        Some(text) => format!(
            "{exists}\ngrep -qF -- {} {path} || {{ echo 'it has no such text'; exit 1; }}",
            quoted(text)
        ),
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn holds(script: &str) -> bool {
        let status = Command::new("/bin/sh").args(["-ec", script]).output();
        status.unwrap().status.success()
    }

    #[test]
    fn files_and_ports_are_looked_for() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("it's");
        let path = path.to_str().unwrap();
        assert!(!holds(&file(path, None)));
        std::fs::write(path, "a 'b' -c\n").unwrap();
        assert!(holds(&file(path, None)));
        assert!(holds(&file(path, Some("'b' -c"))));
        assert!(!holds(&file(path, Some("d"))));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(holds(&listens(listener.local_addr().unwrap().port())));
    }
}
