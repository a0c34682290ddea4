//! Runs a command in the background: starts this program once more.

use std::fs;
use std::io::{self, IsTerminal};
use std::process::{Command, Stdio};

use super::session::Session;
use crate::checked::BuildId;
use crate::failure::Failure;
use crate::host::process::pause;
use crate::ops::builds;

/// The hidden option that the second process gets in addition to those of the first.
const AS_BUILD: &str = "--as-build";

/// Runs this command line in a session of its own, and returns the id of its build once its record
/// has begun.
///
/// # Errors
/// The program cannot be started, or ended before its record began.
pub(super) fn detach(session: &Session) -> Result<BuildId, Failure> {
    session.leave_notifying();
    let context = session.context()?;
    let (id, path, out) = builds::prepare(context)?;
    let error = out.try_clone().map_err(Failure::io("open", &path))?;
    let program = std::env::current_exe().map_err(Failure::io("find", "vmfab".as_ref()))?;
    // A recipe can come from a pipe. A terminal stays with the first process.
    let input = match io::stdin().is_terminal() {
        true => Stdio::null(),
        false => Stdio::inherit(),
    };
    let mut child = Command::new(&program)
        .args(std::env::args_os().skip(1))
        .args([AS_BUILD, &id])
        .stdin(input)
        .stdout(out)
        .stderr(error)
        .spawn()
        .map_err(Failure::io("start", &program))?;
    loop {
        let ended = child.try_wait().map_err(Failure::io("watch", &program))?;
        if builds::list(context, true).iter().any(|one| one.id == id) {
            return Ok(id);
        }
        if ended.is_some() {
            let said = fs::read_to_string(&path).unwrap_or_default();
            // Without a record, no other process will.
            let _ = fs::remove_file(&path);
            let lines = said.lines().map(str::to_owned).collect();
            let message = "vmfab ended before the build started";
            return Err(Failure::failed(message).with_output(lines));
        }
        if !pause(&context.interrupt) {
            return Err(Failure::interrupted_with(format!(
                "vmfab builds cancel {id} cancels the build, if it has started"
            )));
        }
    }
}
