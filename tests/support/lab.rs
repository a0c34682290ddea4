//! The home that the tests of one run share.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use super::{Build, Ran};

/// The program under test.
pub(crate) fn program() -> &'static str {
    env!("CARGO_BIN_EXE_vmfab")
}

/// The recipe that all images of these tests start from, one that comes with vmfab.
pub(crate) fn base() -> String {
    std::env::var("VMFAB_TEST_BASE").unwrap_or_else(|_| "debian-12".to_owned())
}

/// Where homes of test runs are, each named by the process of its run.
const HOMES: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/end-to-end");

/// Ends the machines of the home `$2` with the program `$1`, and removes it. Not every file in it
/// need be the user's: some belong to subordinate ids.
const CLEAN_UP: &str = r#"
export VMFAB_HOME="$2"
"$1" --quiet list | while read -r name; do "$1" --quiet rm --force "$name"; done
exec "$1" __worker remove "$2"
"#;

/// A home with the base image in its store. It is removed when the process of the tests ends,
/// however it ends.
#[derive(Debug)]
pub(crate) struct Lab {
    home: PathBuf,
    /// How the base image was built.
    pub(crate) base: Build,
    /// Cleans up when its standard input, which this process holds, is closed.
    _caretaker: Child,
}

static LAB: OnceLock<Result<Lab, String>> = OnceLock::new();

impl Lab {
    /// The home of this run, made by the first test that asks.
    #[track_caller]
    pub(crate) fn get() -> &'static Self {
        let lab = LAB.get_or_init(|| {
            // Everybody who asks is to hear what went wrong.
            std::panic::catch_unwind(Self::make).map_err(|panic| {
                let text = panic.downcast_ref::<String>().cloned();
                text.unwrap_or_else(|| "see the first failure".to_owned())
            })
        });
        lab.as_ref()
            .unwrap_or_else(|why| panic!("there is no base image: {why}"))
    }

    fn make() -> Self {
        remove_left_behind();
        let home = Path::new(HOMES).join(std::process::id().to_string());
        fs::create_dir_all(&home).unwrap();
        let caretaker = Command::new("/bin/sh")
            .args(["-c", &format!("read -r _\n{CLEAN_UP}"), "caretaker"])
            .args([program().as_ref(), home.as_os_str()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C is for the tests, not for it.
            .process_group(0)
            .spawn()
            .unwrap();
        let mut command = command_in(&home);
        command.args(["build", &base(), "--json"]);
        let base = Build::of(&mut command).succeeds();
        Self {
            home,
            base,
            _caretaker: caretaker,
        }
    }

    /// The home's directory.
    pub(crate) fn home(&self) -> &Path {
        &self.home
    }

    /// The program, with this home.
    pub(crate) fn command(&self) -> Command {
        command_in(&self.home)
    }

    /// Runs the program with this home.
    pub(crate) fn run<const N: usize>(&self, arguments: [&str; N]) -> Ran {
        Ran::of(self.command().args(arguments))
    }
}

/// The program, with a home.
pub(crate) fn command_in(home: &Path) -> Command {
    let mut command = Command::new(program());
    command
        .env("VMFAB_HOME", home)
        .env("LC_ALL", "C.UTF-8")
        .env_remove("CLICOLOR_FORCE");
    command
}

/// Removes homes of runs whose caretaker could not.
fn remove_left_behind() {
    let Ok(entries) = fs::read_dir(HOMES) else {
        return;
    };
    for home in entries.flatten().map(|entry| entry.path()) {
        let name = home.file_name().unwrap_or_default();
        if Path::new("/proc").join(name).exists() {
            continue;
        }
        let mut command = Command::new("/bin/sh");
        command.args(["-c", CLEAN_UP, "caretaker"]);
        Ran::of(command.arg(program()).arg(&home)).ends_with(0);
    }
}
