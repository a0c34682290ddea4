//! The TPM of a machine: a swtpm, which keeps its state in a file beside the machine's disks and ends
//! when QEMU does.

use std::process::Child;

use super::Machine;
use super::directory::files;
use super::error::MachineError;
use super::server::Server;
use crate::failure::Failure;
use crate::host::{Program, require};

/// Starts swtpm and waits until it listens.
pub(super) fn serve(machine: &Machine) -> Result<Child, MachineError> {
    let program = require(Program::Swtpm)?;
    let server = Server {
        program: &program,
        socket: files::TPM_SOCKET,
        log: files::TPM_LOG,
        inherits: false,
    };
    let control = format!("type=unixio,path={},mode=0600", files::TPM_SOCKET);
    let state = format!("backend-uri=file://{}", files::TPM_STATE);
    let words = ["socket", "--tpm2", "--terminate", "--ctrl"];
    let words = words.into_iter().map(str::to_owned);
    let words = words.chain([control, "--tpmstate".to_owned(), state]);
    server.start(machine, words.map(Into::into), |tail| {
        Failure::failed("swtpm does not start")
            .with_output(tail)
            .into()
    })
}
