//! The machines of a project: `up`, `down`, and what keeps them.

use std::collections::BTreeMap;
use std::time::SystemTime;

use vmfab::event::Event;
use vmfab::failure::Failure;
use vmfab::machine::{PATIENCE, Project, Projects};
use vmfab::ops::project::{self, DownOptions, Up, UpOptions};
use vmfab::ops::{RecipeChoice, store};

use super::network::find_each_other;
use super::*;

// The program that serves a private network is vmfab itself: `machines::network` tries that.
const CONTROL_AND_WORKERS: &str = "\
machine \"control\" image=\"@tiny\" network=\"user\" memory=\"64M\" cpus=1
machine \"worker\" image=\"@tiny\" network=\"user\" memory=\"64M\" cpus=1 count=2 { depends-on \"control\" }
";

/// A project in a directory whose path is too long for a socket's address, with a space in it.
pub(super) struct Scene {
    pub(super) bench: Bench,
    pub(super) project: PathBuf,
}

impl Scene {
    pub(super) fn new(file: &str) -> Self {
        let bench = Bench::new();
        let project = bench
            .directory
            .path()
            .canonicalize()
            .unwrap()
            .join("my project".repeat(12));
        fs::create_dir_all(&project).unwrap();
        let scene = Self { bench, project };
        scene.describe(file);
        scene
    }

    fn describe(&self, file: &str) {
        fs::write(self.project.join(Project::FILE), file).unwrap();
    }

    fn context(&self) -> Context {
        self.bench.context().inside(&self.project).unwrap()
    }

    fn options(names: &[&str]) -> UpOptions {
        UpOptions {
            cache: vmfab::ops::cache::CacheOptions::default(),
            names: names.iter().map(|&name| name.to_owned()).collect(),
            image: None,
            settings: BTreeMap::new(),
            dockerfile: RecipeChoice::default(),
            accel: Some(AccelChoice::Tcg),
            recreate: false,
            adopt: false,
            until: Until::Console,
            timeout: MOMENT,
        }
    }

    pub(super) fn up(&self, names: &[&str]) -> Up {
        self.up_as(&Self::options(names))
    }

    fn up_as(&self, options: &UpOptions) -> Up {
        project::up(&self.context(), options, |_| Ok::<_, Failure>(())).unwrap()
    }

    fn command<const N: usize>(&self, arguments: [&str; N]) -> Command {
        let mut command = self.bench.command(arguments);
        command.current_dir(&self.project);
        command
    }

    pub(super) fn run<const N: usize>(&self, arguments: [&str; N]) -> Ran {
        Ran::from(self.command(arguments).output().unwrap())
    }

    pub(super) fn machines(&self) -> PathBuf {
        self.project.join(".vmfab/machines")
    }

    /// The home's entries of projects.
    fn entries(&self) -> usize {
        Projects::new(&Home::at(&self.bench.home))
            .list()
            .unwrap()
            .len()
    }

    fn gc(&self) -> Ran {
        self.run(["store", "gc", "--older-than=0s", "--keep-last=0"])
            .ends_with(0)
    }

    /// The machines that events of a kind tell of, in order.
    fn told(&self, of: impl Fn(&Event) -> Option<String>) -> Vec<String> {
        self.bench.recorder.take().iter().filter_map(of).collect()
    }
}

fn outcomes(up: &Up) -> Vec<(&str, &str)> {
    let machines = up.machines.iter();
    machines
        .map(|machine| (machine.name.as_str(), machine.outcome))
        .collect()
}

fn all(outcome: &'static str) -> Vec<(&'static str, &'static str)> {
    ["control", "worker-1", "worker-2"]
        .map(|name| (name, outcome))
        .to_vec()
}

#[test]
fn machines_come_up_in_order_and_go_down_again() {
    let scene = Scene::new(CONTROL_AND_WORKERS);
    assert_eq!(outcomes(&scene.up(&[])), all("made"));
    let steps = scene.told(|event| match event {
        Event::MachineWaiting { machine, what } if what == "qemu" => {
            Some(format!("{machine} starts"))
        }
        Event::MachineReady { machine, .. } => Some(format!("{machine} ready")),
        _ => None,
    });
    assert_eq!(steps[..2], ["control starts", "control ready"], "{steps:?}");
    assert_eq!(steps.len(), 6, "{steps:?}");
    let ignore = fs::read_to_string(scene.project.join(".vmfab/.gitignore")).unwrap();
    assert_eq!(ignore, "*\n");
    assert_eq!(scene.entries(), 1);
    assert_eq!(outcomes(&scene.up(&["worker"])), all("running"));

    // In the project its machines come first, and hide those of the home.
    let home = scene.bench.boot();
    let inside = scene.run(["list", "--json"]).ends_with(0).json();
    let list = inside.as_array().unwrap();
    let names: Vec<_> = list.iter().map(|entry| &entry["name"]).collect();
    assert_eq!(names, ["control", "worker-1", "worker-2", home.as_str()]);
    assert_eq!(list[0]["project"], *scene.project.to_string_lossy());
    assert_eq!(list[3]["project"], Value::Null);
    assert_eq!(scene.bench.list().len(), 1);
    let everywhere = scene.bench.run(["list", "--all", "--quiet"]).ends_with(0);
    assert_eq!(everywhere.stdout.lines().count(), 4);
    scene.bench.run(["inspect", "control"]).ends_with(3);
    let details = scene.run(["inspect", "control"]).ends_with(0);
    assert!(
        details.stdout.contains(".vmfab/machines/control"),
        "{details:#?}"
    );
    scene
        .run(["ssh"])
        .ends_with(2)
        .says("control, worker-1, worker-2");
    let log = scene.run(["logs", "worker-1"]).ends_with(0);
    assert!(log.stdout.contains("tiny: up"), "{log:#?}");

    let overlay = || {
        let path = scene.machines().join("worker-2/overlay.qcow2");
        std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).unwrap())
    };
    let before = overlay();
    scene.bench.recorder.take();
    let options = DownOptions {
        names: Vec::new(),
        timeout: MOMENT,
        remove: false,
    };
    let down = project::down(&scene.context(), &options).unwrap();
    assert!(down.failures.is_empty(), "{down:#?}");
    let stops = scene.told(|event| match event {
        Event::MachineWaiting { machine, what } if what == "shutdown" => Some(machine.clone()),
        _ => None,
    });
    assert_eq!(stops.last().unwrap(), "control", "{stops:?}");
    assert_eq!(scene.bench.processes().len(), 1);
    assert_eq!(outcomes(&scene.up(&[])), all("started"));
    assert_eq!(overlay(), before);

    let dry = scene.run(["down", "--rm", "--dry-run"]).ends_with(0);
    assert!(
        dry.stdout
            .contains("worker-2: would be stopped and removed"),
        "{dry:#?}"
    );
    scene
        .run(["down", "--rm"])
        .ends_with(2)
        .says("confirm with --yes");
    let down = scene.run(["down", "--rm", "--yes", "--force"]).ends_with(0);
    assert!(
        down.stdout.contains("control: forced to stop, removed"),
        "{down:#?}"
    );
    assert!(!scene.project.join(".vmfab").exists());
    assert_eq!(scene.entries(), 0);
    scene.run(["down"]).ends_with(0).says("no machines");
}

#[test]
fn garbage_collection_keeps_what_projects_need() {
    let scene = Scene::new("machine \"web\" image=\"@tiny\" memory=\"64M\" cpus=1");
    scene.up(&[]);
    scene.run(["down", "--force"]).ends_with(0);
    scene.run(["image", "rm", "@tiny"]).ends_with(0);
    scene.gc();
    let up = scene.run(["up", "--dry-run"]).ends_with(0);
    assert!(
        up.stdout.contains("there is no image @tiny any more"),
        "{up:#?}"
    );
    let up = scene.up(&[]);
    assert_eq!(outcomes(&up), [("web", "started")]);
    scene.run(["down", "--force"]).ends_with(0);

    // A disk that is not mounted looks like a project that was deleted.
    let away = scene.project.with_extension("away");
    fs::rename(&scene.project, &away).unwrap();
    let gc = || {
        let mut command = scene
            .bench
            .command(["store", "gc", "--older-than=0s", "--keep-last=0"]);
        Ran::from(command.arg("--cache-size=1K").output().unwrap()).ends_with(0)
    };
    gc().says("are missing: the store keeps what they need until");
    gc();
    fs::rename(&away, &scene.project).unwrap();
    assert_eq!(outcomes(&scene.up(&[])), [("web", "started")]);
    scene.run(["down", "--force"]).ends_with(0);

    // After a month it is taken for deleted.
    fs::rename(&scene.project, &away).unwrap();
    gc();
    let projects = Projects::new(&Home::at(&scene.bench.home));
    let later = SystemTime::now() + PATIENCE;
    assert!(projects.review(later, true).unwrap()[0].forgotten);
    gc();
    let objects = store::stat(&scene.bench.context()).unwrap();
    assert_eq!(objects.usage.objects, 0, "{objects:#?}");
}

#[test]
fn a_machine_stays_on_its_image_until_it_is_made_anew() {
    let scene = Scene::new("machine \"web\" image=\"@tiny\" memory=\"64M\" cpus=1");
    let first = scene.up(&[]).machines[0].image.unwrap();
    // The image is another now, and so is what the file asks for.
    scene.bench.image("tiny", &tiny_kernel(), |config| {
        config.template.description = Some("another".parse().unwrap());
    });
    scene.describe("machine \"web\" image=\"@tiny\" memory=\"96M\" cpus=1 { disk size=\"64M\" }");
    scene.gc();
    let again = scene.up(&[]);
    assert_eq!(outcomes(&again), [("web", "running")]);
    assert_eq!(again.machines[0].image, Some(first));
    let notes = scene.told(|event| match event {
        Event::Note { message } => Some(message.clone()),
        _ => None,
    });
    let notes = notes.join("\n");
    for part in [
        "stays on the image",
        "vmfab up --recreate web creates it anew",
        "keeps its disk",
        "runs with other memory",
    ] {
        assert!(notes.contains(part), "{part:?} is not in {notes}");
    }
    scene.run(["down", "--force"]).ends_with(0);
    assert_eq!(outcomes(&scene.up(&[])), [("web", "started")]);
    let inspect = || scene.run(["inspect", "--json", "web"]).ends_with(0).json();
    assert_eq!(inspect()["memory"], 96 << 20);
    assert_eq!(inspect()["image"], first.to_string());

    scene
        .run(["up", "--recreate"])
        .ends_with(2)
        .says("removes machine \"web\" and all data on its disk");
    let dry = scene.run(["up", "--recreate", "-n"]).ends_with(0);
    assert!(dry.stdout.contains("web: would be removed"), "{dry:#?}");
    assert_eq!(inspect()["image"], first.to_string());
    let options = UpOptions {
        recreate: true,
        ..Scene::options(&["web"])
    };
    let anew = scene.up_as(&options);
    assert_eq!(outcomes(&anew), [("web", "recreated")]);
    assert_ne!(anew.machines[0].image, Some(first));
    assert_eq!(inspect()["disk_size"], 64 << 20);
    // What no machine needs any more is not kept.
    let entries = Projects::new(&Home::at(&scene.bench.home)).list().unwrap();
    assert_eq!(entries[0].needs.len(), 1);

    scene.describe("machine \"other\" image=\"@tiny\" memory=\"64M\" cpus=1");
    let left = scene.up(&[]).left;
    assert_eq!(
        left.iter().map(|name| name.as_str()).collect::<Vec<_>>(),
        ["web"]
    );
    scene.run(["rm", "--force", "web"]).ends_with(0);
    assert!(scene.up(&[]).left.is_empty());
}

#[test]
fn a_dry_run_says_what_would_fail() {
    let port = free_port();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = listener.local_addr().unwrap().port();
    let scene = Scene::new(&format!(
        r#"
machine "good" image="@served" memory="64M"
machine "lost" image="@lost" memory="64M"
machine "huge" image="@tiny" memory="900T"
machine "small" image="@large" memory="64M" {{ disk size="64M" }}
machine "taken" image="@tiny" memory="64M" {{ port 80 host={taken} }}
"#
    ));
    scene.bench.image("served", &tiny_kernel(), |config| {
        config.template.ports = vec![vmfab::image::Port {
            guest: 80,
            host: Some(port),
            protocol: Default::default(),
            address: None,
        }];
    });
    let store = Store::open(scene.bench.home.join("store")).unwrap();
    let large = store.put_bytes(&vec![0; 65 << 20]).unwrap();
    scene
        .bench
        .image("large", &tiny_kernel(), |config| config.disk = large);
    let dry = scene.run(["up", "--dry-run"]).ends_with(1);
    let lines: Vec<&str> = dry.stdout.lines().collect();
    assert_eq!(lines[0], "good: would be created and started");
    for (line, part) in lines[1..].iter().zip([
        "lost: would fail: no image \"lost\" found",
        "huge: would fail: a machine with 943718400 MiB of memory cannot run on this host",
        "small: would fail: a disk of 64M is smaller than the image's disk of 65M",
        "taken: would fail: cannot forward port",
    ]) {
        assert!(line.starts_with(part), "{line} instead of {part}");
    }
    dry.says("4 of 5 machines would not be up");
    let dry = scene.run(["up", "--dry-run", "--json"]).ends_with(1).json();
    assert_eq!(dry["event"], "result");
    let machines = dry["machines"].as_array().unwrap();
    assert_eq!(machines[0]["action"], "make");
    assert_eq!(machines[0]["error"], Value::Null);
    assert!(machines[1]["error"].as_str().unwrap().contains("lost"));
    assert!(!scene.machines().exists());
    scene
        .run(["up", "huge"])
        .ends_with(5)
        .says("give this one less");
}

#[test]
fn one_that_fails_stops_those_after_it_and_no_others() {
    let scene = Scene::new(
        "machine \"a\" image=\"@gone\"\n\
         machine \"b\" image=\"@tiny\" memory=\"64M\" network=\"user\" { depends-on \"a\" }\n\
         machine \"c\" image=\"@tiny\" memory=\"64M\" network=\"user\"\n\
         machine \"d\" image=\"@gone\"\n\
         machine \"e\" image=\"@lost\" { depends-on \"a\" }\n\
         machine \"f\" image=\"@lost\"\n",
    );
    let up = scene.up(&[]);
    let expected = [
        ("a", "failed"),
        ("b", "skipped"),
        ("c", "made"),
        ("d", "skipped"),
        ("e", "skipped"),
        ("f", "failed"),
    ];
    assert_eq!(outcomes(&up), expected);
    let errors: Vec<_> = up.machines.iter().map(|m| m.error.as_deref()).collect();
    assert_eq!(errors[0], Some("no image \"gone\" found"));
    assert_eq!(errors[1], Some("it depends on \"a\", which is not up"));
    assert_eq!(errors[5], Some("no image \"lost\" found"));
    assert_eq!(up.failures.len(), 2);
    let ran = scene.run(["up", "a", "c"]);
    assert!(ran.stdout.contains("a: failed: no image"), "{ran:#?}");
    assert!(
        ran.stdout
            .contains("c: is already running; enter it with: vmfab ssh c"),
        "{ran:#?}"
    );
    assert_ne!(ran.code, Some(0));
    scene
        .run(["up", "g"])
        .ends_with(3)
        .says("no machine \"g\" found");
    // One that is never ready, by its console.
    scene.run(["rm", "--force", "c"]).ends_with(0);
    let ran = scene.run(["up", "a"]).ends_with(3);
    assert_eq!(ran.stdout, "", "said once, on stderr");
    assert!(!scene.project.join(".vmfab").exists());
    assert_eq!(
        fs::read_dir(scene.bench.home.join("projects"))
            .unwrap()
            .count(),
        0
    );
    scene
        .run(["up", "--accel=tcg", "--timeout=1", "c"])
        .ends_with(1)
        .says("was not ready within 1 s");
}

#[test]
fn a_killed_up_is_gone_on_with_and_two_wait_for_each_other() {
    let scene = Scene::new("machine \"web\" image=\"@tiny\" memory=\"64M\" cpus=1 accel=\"tcg\"");
    let mut first = Running(scene.command(["up"]).spawn().unwrap());
    let log = scene.machines().join("web/console.log");
    wait_until("the console", || {
        fs::read_to_string(&log).is_ok_and(|text| text.contains("tiny: up"))
    });
    let second = Running(scene.command(["up"]).spawn().unwrap());
    std::thread::sleep(Duration::from_secs(2));
    kill_process(first.pid(), Signal::KILL).unwrap();
    first.0.wait().unwrap();
    second
        .finish()
        .ends_with(0)
        .says("waiting for another vmfab");
    assert_eq!(outcomes(&scene.up(&[])), [("web", "running")]);
}

#[test]
fn a_directory_without_a_file_has_one_machine() {
    let scene = Scene::new("");
    scene
        .run(["up"])
        .ends_with(4)
        .says("has no image and no machine");
    scene.describe("image \"web\" { from \"debian-12\" }");
    scene.run(["up"]).ends_with(2).says("describes no machines");
    fs::remove_file(scene.project.join(Project::FILE)).unwrap();
    let options = UpOptions {
        image: Some("@tiny".to_owned()),
        ..Scene::options(&[])
    };
    let up = scene.up_as(&options);
    let name = up.machines[0].name.to_string();
    assert!(name.starts_with("my-projectmy-project"), "{name}");
    // Later it is started again whatever it was made of.
    assert_eq!(outcomes(&scene.up(&[])), [(name.as_str(), "running")]);
    scene
        .run(["ssh", &name, "-u", "root", "true"])
        .ends_with(255);
    let below = scene.project.join("below");
    fs::create_dir(&below).unwrap();
    let mut outside = scene.bench.command(["down"]);
    Ran::from(outside.current_dir(&below).output().unwrap())
        .ends_with(0)
        .says("the project has no machines");
    scene.describe("machine \"web\" image=\"@tiny\"");
    scene
        .run(["up", "--image", "@tiny"])
        .ends_with(2)
        .says("already names the images");
    // Who is below a project is in it.
    let mut inside = scene.bench.command(["down", "--force"]);
    let down = Ran::from(inside.current_dir(&below).output().unwrap()).ends_with(0);
    assert_eq!(down.stdout, format!("{name}: forced to stop\n"));
}

#[test]
fn a_directory_that_cannot_be_written_to_and_one_that_nobody_knows() {
    let scene = Scene::new("machine \"web\" image=\"@tiny\" memory=\"64M\" cpus=1");
    fs::write(scene.project.join(".vmfab"), "").unwrap();
    scene
        .run(["up"])
        .ends_with(1)
        .says("cannot store machines in");
    assert_eq!(scene.entries(), 0);
    fs::remove_file(scene.project.join(".vmfab")).unwrap();
    scene.up(&[]);
    scene.run(["down", "--force"]).ends_with(0);
    // A project that was moved, or came from elsewhere: nothing in it runs for its name.
    let moved = scene.project.with_file_name("moved");
    fs::rename(&scene.project, &moved).unwrap();
    let mut start = scene.bench.command(["start", "web"]);
    Ran::from(start.current_dir(&moved).output().unwrap())
        .ends_with(3)
        .says("no machine \"web\" found");
    let scene = Scene {
        project: moved,
        bench: scene.bench,
    };
    scene.run(["up"]).ends_with(2).says("was not made here");
    let config = scene.project.join(".vmfab/machines/web/machine.json");
    let read =
        || -> serde_json::Value { serde_json::from_slice(&fs::read(&config).unwrap()).unwrap() };
    let mut asking = read();
    asking["mounts"] = serde_json::json!([{ "share": "/", "at": "/host" }]);
    asking["devices"] = serde_json::json!({ "cdrom": "/etc/passwd" });
    fs::write(&config, asking.to_string()).unwrap();
    let adopting = UpOptions {
        adopt: true,
        ..Scene::options(&[])
    };
    // QEMU trusts what it reads as memory.
    let memory = |path: &str| scene.project.join(".vmfab").join(path);
    let memories = ["machines/web/memory.zst", "snapshots/x.memory.zst"].map(memory);
    fs::create_dir_all(memory("snapshots")).unwrap();
    for path in &memories {
        fs::write(path, "from elsewhere").unwrap();
    }
    fs::write(memory("machines/web/memory.json"), "{}").unwrap();
    assert_eq!(outcomes(&scene.up_as(&adopting)), [("web", "started")]);
    assert!(!memories.iter().any(|path| path.exists()));
    assert!(!memory("machines/web/memory.json").exists());
    assert!(read().get("mounts").is_none() && read().get("devices").is_none());
    scene.run(["stop", "--force", "web"]).ends_with(0);
    // An overlay that names a file of the host for its data.
    let overlay = scene.machines().join("web/overlay.qcow2");
    let file = fs::File::options().write(true).open(overlay).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[4], 79).unwrap();
    scene
        .run(["up"])
        .ends_with(1)
        .says("names a separate data file");
}

/// The whole way with real guests.
#[test]
fn a_real_project() {
    let bench = Bench::with_base();
    let project = bench.directory.path().join("shop");
    fs::create_dir(&project).unwrap();
    let base = support::base();
    let file = format!(
        "machine \"control\" image=\"{base}\" memory=\"512M\" {{ alias \"hub.internal\"; }}\n\
         machine \"worker\" image=\"@{base}\" memory=\"512M\" network=\"none,group\" {{\n\
         depends-on \"control\"\n\
         }}\n"
    );
    fs::write(project.join(Project::FILE), file).unwrap();
    let run = |arguments: &[&str]| {
        let mut command = bench.command(arguments);
        Ran::from(command.current_dir(&project).output().unwrap())
    };
    let up = run(&["up", "--timeout", "900"]).ends_with(0);
    let hit = format!("{base}: cache hit");
    let up = up.says(&hit);
    assert!(
        up.stdout.contains("enter it with: vmfab ssh worker"),
        "{up:#?}"
    );
    find_each_other(&project, &run);
    run(&["ssh", "control", "--", "echo kept > file && sync"]).ends_with(0);
    let down = run(&["down", "--timeout", "300"]).ends_with(0);
    let lines: Vec<_> = down.stdout.lines().collect();
    assert_eq!(lines, ["control: stopped", "worker: stopped"]);
    let again = run(&["up", "--timeout", "900", "control"]).ends_with(0);
    let again = again.says(&hit);
    assert!(again.stdout.contains("control: started"), "{again:#?}");
    let kept = run(&["ssh", "control", "--", "cat file"]).ends_with(0);
    assert_eq!(kept.stdout, "kept\n");
    // A change of the recipe is told and not built.
    let other = format!("machine \"control\" image=\"{base}\" {{ set \"size\" \"9G\"; }}");
    fs::write(project.join(Project::FILE), other).unwrap();
    let dry = run(&["up", "--dry-run"]).ends_with(0);
    let stays = "what its recipe gives now is not built: vmfab up --recreate control";
    assert!(dry.stdout.contains(stays), "{dry:#?}");
    run(&["down", "--rm", "--yes", "--force"]).ends_with(0);
    assert_eq!(bench.processes(), []);
}

/// A base snapshot that `create` saved is an image like any other.
#[test]
fn a_machine_of_the_file_is_of_a_saved_base() {
    let scene = Scene::new("machine \"x\" image=\"@vibe-base\" memory=\"64M\" cpus=1\n");
    scene
        .bench
        .run([
            "create",
            "first",
            "--from",
            "@tiny",
            "--save-base",
            "@vibe-base",
        ])
        .ends_with(0);
    let up = scene.up(&[]);
    let tiny = images::find(&scene.bench.context(), "tiny").unwrap().image;
    assert_eq!(up.machines[0].image, Some(tiny));
    assert_eq!(up.machines[0].name.as_str(), "x");
}
