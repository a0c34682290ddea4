//! The same build by somebody else: without root where the tests run as root, and as the root of a
//! user namespace where they do not.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::super::support::{Build, Lab, Ran, Recipes, base, program, tool};
use super::sandbox::write_every_node;

/// A user account of this host, made for a test and removed with it.
pub(crate) struct Account {
    name: String,
}

impl Account {
    /// One when the tests run as root.
    pub(crate) fn other() -> Option<Self> {
        rustix::process::getuid().is_root().then(Self::new)
    }

    fn new() -> Self {
        let name = format!("vmfab-{}", std::process::id());
        let mut useradd = tool("useradd", "passwd");
        let useradd = useradd.args(["--no-create-home", "--shell", "/bin/sh", &name]);
        Ran::of(useradd).ends_with(0);
        let account = Self { name };
        for (file, option) in [
            ("/etc/subuid", "--add-subuids"),
            ("/etc/subgid", "--add-subgids"),
        ] {
            let ranges = fs::read_to_string(file).unwrap_or_default();
            let line = format!("{}:", account.name);
            if !ranges.lines().any(|range| range.starts_with(&line)) {
                let mut usermod = tool("usermod", "passwd");
                let range = ["1000000000-1000065535", &account.name];
                Ran::of(usermod.arg(option).args(range)).ends_with(0);
            }
        }
        account
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        Ran::of(tool("userdel", "passwd").arg(&self.name));
    }
}

/// A directory that everybody can reach, unlike the one of a test run.
pub(crate) struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        // On a disk, unlike /tmp in places.
        let directory = tempfile::Builder::new()
            .prefix("vmfab-test-")
            .tempdir_in("/var/tmp")
            .unwrap();
        let path = directory.keep();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        Self(path)
    }

    /// One with the program, a home of somebody else, and copies of these files.
    pub(crate) fn with(account: Option<&Account>, files: &[PathBuf]) -> Self {
        let place = Self::new();
        fs::copy(program(), place.0.join("vmfab")).unwrap();
        let mut copy = tool("cp", "coreutils");
        // With their modes, which count.
        Ran::of(copy.arg("-a").args(files).arg(&place.0)).ends_with(0);
        fs::create_dir(place.0.join("home")).unwrap();
        if let Some(account) = account {
            let mut chown = tool("chown", "coreutils");
            Ran::of(chown.arg("-R").arg(&account.name).arg(&place.0)).ends_with(0);
        }
        place
    }

    /// The program run there by somebody else.
    pub(crate) fn command(&self, account: Option<&Account>) -> Command {
        by_somebody_else(&self.0, account)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Not every file in it need belong to whom the tests run as.
        Ran::of(
            Command::new(program())
                .args(["__worker", "remove"])
                .arg(&self.0),
        );
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The program run by somebody else, with a home and the program in `place`.
fn by_somebody_else(place: &Path, account: Option<&Account>) -> Command {
    let program = place.join("vmfab");
    let mut command = match account {
        Some(account) => {
            let mut runuser = tool("runuser", "util-linux");
            runuser.args(["-u", &account.name, "--"]);
            runuser
        }
        None => {
            let mut unshare = tool("unshare", "util-linux");
            unshare.args(["--map-root-user", "--map-auto", "--"]);
            unshare
        }
    };
    command
        .arg(program)
        .current_dir(place)
        .env("VMFAB_HOME", place.join("home"))
        .env("LC_ALL", "C.UTF-8");
    command
}

#[test]
fn somebody_else_gets_the_same_image() {
    let recipes = Recipes::new();
    write_every_node(&recipes);
    let mine = recipes.build("every-node").succeeds();

    let account = Account::other();
    let place = Place::with(account.as_ref(), &[recipes.directory().to_owned()]);
    let copied = recipes.directory().file_name().unwrap();
    fs::rename(place.0.join(copied), place.0.join("recipes")).unwrap();

    let mut build = by_somebody_else(&place.0, account.as_ref());
    let theirs = Build::of(build.args(["build", "recipes/every-node.kdl", "--json"])).succeeds();
    assert_eq!(theirs.ended("cached"), [""; 0]);
    let started = theirs.started();
    assert!(
        started.iter().any(|step| step.contains(": bootstrap ")),
        "{started:?}"
    );
    let layers = |ran: Ran| ran.ends_with(0).json()["config"]["layers"].clone();
    let inspect = ["image", "inspect", "@every-node", "--json"];
    let my_layers = layers(Lab::get().run(inspect));
    let their_layers = layers(Ran::of(
        by_somebody_else(&place.0, account.as_ref()).args(inspect),
    ));
    assert_eq!(my_layers, their_layers, "on {}", base());
    assert_eq!(mine.image(), theirs.image());

    // Nothing changed for them either, and no scratch directory is left.
    let mut again = by_somebody_else(&place.0, account.as_ref());
    let again = Build::of(again.args(["build", "recipes/every-node.kdl", "--json"])).succeeds();
    assert_eq!(again.started(), [""; 0]);
    let work = fs::read_dir(place.0.join("home/cache/work")).unwrap();
    assert_eq!(work.count(), 0);
}

/// Directories (Active Directory, LDAP) and OpenShift give such ids.
#[test]
fn a_large_id_is_kept_or_refused_before_anything_is_built() {
    let recipes = Recipes::new();
    recipes.image(
        "large",
        r#"
        file "/group" owner="0:1000660000" { content "x" }
        user "anna" uid=1885580785
        check "test $(stat -c %u:%g /group) = 0:1000660000"
        check "test $(stat -c %u /home/anna) = 1885580785"
        "#,
    );
    if rustix::process::getuid().is_root() {
        recipes.build("large").succeeds();
    }
    let account = Account::other();
    let place = Place::with(account.as_ref(), &[recipes.path("large.kdl")]);
    let mut build = place.command(account.as_ref());
    let refused = Build::of(build.args(["build", "large.kdl", "--json"])).ends_with(5);
    assert_eq!(refused.started(), [""; 0]);
    let message = refused.error()["message"].to_string();
    assert!(message.contains("group id 1000660000"), "{message}");
}
