//! The `vmfab` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    vmfab::cli::main()
}
