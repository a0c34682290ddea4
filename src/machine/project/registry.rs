//! The home's list of projects: what keeps the images of their machines when garbage is collected.
//!
//! ```text
//! $VMFAB_HOME/projects/
//!   <hash of the path>.json   the path, and what the project's machines need
//!   <hash of the path>.lock   locked by the vmfab that changes it
//! ```
//!
//! An entry is forced to disk before the machine is made that needs it, so that there never is a
//! machine that no entry covers. It says by itself what is needed: a project on a disk that is not
//! mounted cannot be read. From outside that looks the same as a project that was deleted; so an
//! entry goes only [`PATIENCE`] after a garbage collection first found the project gone and said
//! so.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::Project;
use crate::digest::{Hasher, ObjectId};
use crate::event::{Event, Sink};
use crate::host::file::{self, Durability, Replace};
use crate::host::{Home, Interrupt};
use crate::machine::directory::lock_soon;
use crate::machine::error::{MachineError, io_error};

/// The version that this program writes, and the newest that it reads.
const VERSION: u32 = 1;
/// How long a project must have been gone before it is forgotten.
pub const PATIENCE: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Between two tries to take a lock.
const RETRY: Duration = Duration::from_millis(20);

/// What a machine needs from the store. The disk follows from the image, as long as that can be
/// read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Need {
    pub image: ObjectId,
    /// The image's disk.
    pub disk: ObjectId,
}

/// A project that the home knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Registered {
    version: u32,
    pub path: PathBuf,
    /// What its machines need, sorted.
    pub needs: Vec<Need>,
    /// When a garbage collection first found it gone, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub absent_since: Option<u64>,
}

impl Registered {
    #[must_use]
    pub fn project(&self) -> Project {
        Project::at(&self.path)
    }
}

/// A project whose directory is not there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Absent {
    /// Where it was.
    pub path: PathBuf,
    /// When it was first found gone, in seconds since 1970.
    pub since: u64,
    /// From when on a garbage collection forgets it, in seconds since 1970.
    pub until: u64,
    /// Whether it is forgotten now.
    pub forgotten: bool,
}

/// The projects that a home knows.
#[derive(Debug, Clone)]
pub struct Projects {
    home: Home,
    directory: PathBuf,
}

/// The right to change a project's entry and to make its machines; one process has it at a time.
#[derive(Debug)]
#[must_use]
pub struct Turn {
    projects: Projects,
    project: Project,
    _lock: File,
}

impl Projects {
    /// The projects of `home`.
    #[must_use]
    pub fn new(home: &Home) -> Self {
        Self {
            home: home.clone(),
            directory: home.projects(),
        }
    }

    /// All of them, sorted by path.
    ///
    /// # Errors
    /// An entry cannot be read.
    pub fn list(&self) -> Result<Vec<Registered>, MachineError> {
        let entries = match fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(io_error("list", &self.directory)(error)),
        };
        let mut all = Vec::new();
        for entry in entries {
            let path = entry.map_err(io_error("list", &self.directory))?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            if name.is_some_and(|name| name.ends_with(".json") && !name.starts_with('.')) {
                all.extend(read(&path)?);
            }
        }
        all.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(all)
    }

    /// The entry of a project, when the home knows it.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn find(&self, project: &Project) -> Result<Option<Registered>, MachineError> {
        read(&self.file(project, "json"))
    }

    /// Waits until no other vmfab changes the project.
    ///
    /// # Errors
    /// The user gave up, or the lock cannot be taken.
    pub fn turn(
        &self,
        project: &Project,
        sink: &dyn Sink,
        interrupt: &Interrupt,
    ) -> Result<Turn, MachineError> {
        let started = Instant::now();
        let mut told = false;
        loop {
            if let Some(turn) = self.try_turn(project)? {
                return Ok(turn);
            }
            if interrupt.requested() {
                return Err(MachineError::Interrupted { running: None });
            }
            if !told && started.elapsed() > Duration::from_millis(500) {
                told = true;
                sink.emit(Event::MachineWaiting {
                    machine: project.root.display().to_string(),
                    what: "another vmfab".to_owned(),
                });
            }
            std::thread::sleep(RETRY);
        }
    }

    fn try_turn(&self, project: &Project) -> Result<Option<Turn>, MachineError> {
        fs::create_dir_all(&self.directory).map_err(io_error("create", &self.directory))?;
        let path = self.file(project, "lock");
        let lock = file::open_lock(&path, 0).map_err(io_error("open", &path))?;
        if !lock_soon(&lock).map_err(io_error("lock", &path))? {
            return Ok(None);
        }
        // Whoever forgets a project removes its lock, too.
        Ok(file::is_at(&lock, &path).then(|| Turn {
            projects: self.clone(),
            project: project.clone(),
            _lock: lock,
        }))
    }

    /// Takes what no machine needs any more out of a project's entry, unless it is another's turn:
    /// a later call does it then.
    ///
    /// # Errors
    /// The entry cannot be written.
    pub fn tidy(&self, project: &Project) -> Result<(), MachineError> {
        match self.try_turn(project)? {
            Some(turn) => turn.tidy(),
            None => Ok(()),
        }
    }

    /// Looks after all entries at the time `now`: those whose projects are there are tidied, those
    /// whose projects are gone for too long are dropped. Without `write` nothing is changed.
    /// Gives the projects that are not there.
    ///
    /// # Errors
    /// An entry cannot be read or written.
    pub fn review(&self, now: SystemTime, write: bool) -> Result<Vec<Absent>, MachineError> {
        let now = now
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        let mut absent = Vec::new();
        for entry in self.list()? {
            let project = entry.project();
            match project.is_there() {
                Ok(false) => {}
                Ok(true) => {
                    if write {
                        self.tidy(&project)?;
                    }
                    continue;
                }
                // It is there, or was: who may not look cannot say that it is gone.
                Err(_) => continue,
            }
            let since = entry.absent_since.unwrap_or(now);
            let until = since + PATIENCE.as_secs();
            let forgotten = entry.absent_since.is_some() && now >= until;
            absent.push(Absent {
                path: entry.path.clone(),
                since,
                until,
                forgotten,
            });
            if !write || (!forgotten && entry.absent_since.is_some()) {
                continue;
            }
            if let Some(turn) = self.try_turn(&project)? {
                if forgotten {
                    turn.forget()?;
                } else {
                    turn.write(&Registered {
                        absent_since: Some(now),
                        ..entry
                    })?;
                }
            }
        }
        Ok(absent)
    }

    fn file(&self, project: &Project, extension: &str) -> PathBuf {
        let mut hasher = Hasher::new("vmfab project v1");
        hasher.update_field(project.root.as_os_str().as_encoded_bytes());
        self.directory
            .join(format!("{}.{extension}", hasher.finish().to_hex()))
    }
}

impl Turn {
    /// Notes, durably, that the project's machines need these besides what they need already.
    ///
    /// # Errors
    /// The entry cannot be written.
    pub fn need(&self, needs: &[Need]) -> Result<(), MachineError> {
        let known = self.projects.find(&self.project)?;
        let mut entry = known.clone().unwrap_or_else(|| Registered {
            version: VERSION,
            path: self.project.root.clone(),
            needs: Vec::new(),
            absent_since: None,
        });
        entry.absent_since = None;
        entry.needs.extend(needs);
        entry.needs.sort();
        entry.needs.dedup();
        if known.as_ref() == Some(&entry) {
            return Ok(());
        }
        self.write(&entry)
    }

    /// Takes what no machine needs any more out of the entry; without machines the entry goes. When
    /// a machine cannot be read, or the project is not there, all stays.
    ///
    /// # Errors
    /// The entry cannot be written.
    pub fn tidy(&self) -> Result<(), MachineError> {
        let Some(mut entry) = self.projects.find(&self.project)? else {
            return self.forget();
        };
        if !self.project.is_there().unwrap_or(false) {
            return Ok(());
        }
        let machines = self.project.machines(&self.projects.home);
        let snapshots = machines.snapshots().list();
        let machines = machines.list()?;
        // One that cannot be read may need anything.
        let Ok(snapshots) = snapshots else {
            return Ok(());
        };
        if machines.is_empty() && snapshots.is_empty() {
            return self.forget();
        }
        let snapshots = snapshots.into_iter();
        let mut images: Vec<_> = snapshots.map(|one| one.settings.image).collect();
        for machine in machines {
            match machine.config() {
                Ok(config) => images.push(config.image),
                Err(_) => return Ok(()),
            }
        }
        let before = (entry.needs.len(), entry.absent_since.take());
        entry.needs.retain(|need| images.contains(&need.image));
        if before == (entry.needs.len(), None) {
            return Ok(());
        }
        self.write(&entry)
    }

    /// Drops the entry and the lock's file.
    fn forget(&self) -> Result<(), MachineError> {
        for extension in ["json", "lock"] {
            let path = self.projects.file(&self.project, extension);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(io_error("remove", &path)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Writes the entry in one piece, and to disk.
    fn write(&self, entry: &Registered) -> Result<(), MachineError> {
        let path = self.projects.file(&self.project, "json");
        let directory = &self.projects.directory;
        let write = || -> io::Result<()> {
            let mut json = serde_json::to_vec_pretty(entry)?;
            json.push(b'\n');
            Replace::new(&path, Durability::Lasting).with(&json)?;
            let above = directory.parent().map(File::open).transpose()?;
            above.map_or(Ok(()), |above| above.sync_all())
        };
        write().map_err(io_error("write", &path))
    }
}

/// An entry; `None` when there is none.
fn read(path: &Path) -> Result<Option<Registered>, MachineError> {
    let damaged = |why: String| MachineError::Registration {
        path: path.to_owned(),
        why,
    };
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error("read", path)(error)),
    };
    let entry: Registered =
        serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
    if entry.version > VERSION {
        return Err(damaged(format!(
            "it has version {}, this vmfab supports up to {VERSION}",
            entry.version
        )));
    }
    Ok(Some(entry))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Silent;
    use crate::machine::config::tests::sample;

    /// A home and a project in directories of their own.
    fn scene() -> (tempfile::TempDir, Projects, Project) {
        let directory = tempfile::tempdir().unwrap();
        let top = directory.path().canonicalize().unwrap();
        let projects = Projects::new(&Home::at(top.join("home")));
        let project = Project::at(top.join("my project"));
        project.prepare().unwrap();
        (directory, projects, project)
    }

    fn need(text: &str) -> Need {
        let id = |of: &str| ObjectId::new(Hasher::new(of).update(text.as_bytes()).finish());
        Need {
            image: id("image"),
            disk: id("disk"),
        }
    }

    fn machine(project: &Project, name: &str, image: ObjectId) {
        let directory = project.machines_directory().join(name);
        fs::create_dir_all(&directory).unwrap();
        let config = crate::machine::MachineConfig { image, ..sample() };
        config.write(&directory).unwrap();
    }

    fn turn(projects: &Projects, project: &Project) -> Turn {
        let interrupt = Interrupt::new().unwrap();
        projects.turn(project, &Silent, &interrupt).unwrap()
    }

    fn needs(projects: &Projects, project: &Project) -> Option<Vec<Need>> {
        let entry = projects.find(project).unwrap()?;
        assert_eq!(entry.project(), *project);
        assert_eq!(projects.list().unwrap(), std::slice::from_ref(&entry));
        Some(entry.needs)
    }

    #[test]
    fn an_entry_follows_the_machines() {
        let (_directory, projects, project) = scene();
        assert_eq!(needs(&projects, &project), None);
        let (a, b) = (need("a"), need("b"));
        let turn = turn(&projects, &project);
        turn.need(&[a]).unwrap();
        machine(&project, "one", a.image);
        turn.need(&[b, a]).unwrap();
        let mut both = vec![a, b];
        both.sort();
        assert_eq!(needs(&projects, &project), Some(both.clone()));
        // The machine of b was never made. While it is somebody's turn it may still be.
        projects.tidy(&project).unwrap();
        assert_eq!(needs(&projects, &project), Some(both.clone()));
        drop(turn);
        // A machine that cannot be read may need anything.
        fs::create_dir(project.machines_directory().join("torn")).unwrap();
        projects.tidy(&project).unwrap();
        assert_eq!(needs(&projects, &project), Some(both));
        fs::remove_dir(project.machines_directory().join("torn")).unwrap();
        projects.tidy(&project).unwrap();
        assert_eq!(needs(&projects, &project), Some(vec![a]));
        fs::remove_dir_all(project.machines_directory().join("one")).unwrap();
        projects.tidy(&project).unwrap();
        assert_eq!(needs(&projects, &project), None);
        assert_eq!(fs::read_dir(&projects.directory).unwrap().count(), 0);
    }

    #[test]
    fn one_process_at_a_time() {
        let (_directory, projects, project) = scene();
        let first = turn(&projects, &project);
        assert!(projects.try_turn(&project).unwrap().is_none());
        let interrupt = Interrupt::new().unwrap();
        interrupt.request();
        let error = projects.turn(&project, &Silent, &interrupt).unwrap_err();
        assert!(matches!(error, MachineError::Interrupted { .. }), "{error}");
        // The lock's file goes with the entry: who waited for it gets the next one.
        first.need(&[need("a")]).unwrap();
        first.forget().unwrap();
        let second = turn(&projects, &project);
        drop(first);
        assert!(projects.try_turn(&project).unwrap().is_none());
        drop(second);
        assert!(projects.try_turn(&project).unwrap().is_some());
    }

    #[test]
    fn a_project_that_is_gone_is_forgotten_after_a_month() {
        let (_directory, projects, project) = scene();
        let a = need("a");
        turn(&projects, &project).need(&[a]).unwrap();
        machine(&project, "one", a.image);
        let day = |day: u64| UNIX_EPOCH + Duration::from_secs((1000 + day) * 86_400);
        let review = |at: u64, write| projects.review(day(at), write).unwrap();
        assert_eq!(review(0, true), []);
        let away = project.root.with_extension("away");
        fs::rename(&project.root, &away).unwrap();
        // Looking alone does not begin the month.
        assert_eq!(review(1, false)[0].until, 1031 * 86_400);
        assert_eq!(review(2, true)[0].until, 1032 * 86_400);
        assert_eq!(review(10, true)[0].since, 1002 * 86_400);
        fs::rename(&away, &project.root).unwrap();
        assert_eq!(review(31, true), []);
        assert_eq!(projects.find(&project).unwrap().unwrap().absent_since, None);
        // A mount point without its disk is an empty directory.
        fs::rename(&project.root, &away).unwrap();
        fs::create_dir(&project.root).unwrap();
        assert!(!review(40, true)[0].forgotten);
        assert!(!review(69, true)[0].forgotten);
        assert_eq!(needs(&projects, &project), Some(vec![a]));
        assert!(review(70, false)[0].forgotten);
        assert_eq!(needs(&projects, &project), Some(vec![a]));
        assert!(review(70, true)[0].forgotten);
        assert_eq!(needs(&projects, &project), None);
        assert_eq!(review(71, true), []);
    }

    #[test]
    fn entries_that_cannot_be_read_are_errors() {
        let (_directory, projects, project) = scene();
        turn(&projects, &project).need(&[need("a")]).unwrap();
        let path = projects.file(&project, "json");
        let text = fs::read_to_string(&path).unwrap();
        for bad in [
            text[..20].to_owned(),
            text.replace("\"version\": 1", "\"version\": 2"),
        ] {
            fs::write(&path, bad).unwrap();
            let error = projects.list().unwrap_err();
            assert!(
                matches!(error, MachineError::Registration { .. }),
                "{error}"
            );
        }
    }
}
