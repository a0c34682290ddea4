//! Starting children from a thread that lives as long as this process.
//!
//! The kernel ends a child with its "parent" when it asked for that (`PR_SET_PDEATHSIG`), and takes
//! the thread that started it for the parent (prctl(2)). Threads of pools come and go.

use std::io;
use std::process::{Child, Command};
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};

type Answer = io::Result<Child>;
type Queue = Sender<(Command, Sender<Answer>)>;

/// Starts `command` from a thread that does not end before this process.
///
/// # Errors
/// The program cannot be started.
pub fn spawn_lasting(command: Command) -> io::Result<Child> {
    static QUEUE: OnceLock<Option<Queue>> = OnceLock::new();
    let gone = || io::Error::other("the thread that starts programs cannot be had");
    let queue = QUEUE.get_or_init(|| start().ok()).as_ref();
    let (sender, answer) = channel();
    queue
        .ok_or_else(gone)?
        .send((command, sender))
        .map_err(|_| gone())?;
    answer.recv().map_err(|_| gone())?
}

fn start() -> io::Result<Queue> {
    let (queue, commands) = channel::<(Command, Sender<Answer>)>();
    std::thread::Builder::new()
        .name("spawner".into())
        .spawn(move || {
            for (mut command, answer) in commands {
                let _ = answer.send(command.spawn());
            }
        })?;
    Ok(queue)
}
