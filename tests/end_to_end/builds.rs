//! Builds as other terminals see them.

use std::collections::BTreeMap;
use std::fs::File;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use super::super::support::{Build, Lab, Ran, Recipes, Running};

fn builds<const N: usize>(arguments: [&str; N]) -> Ran {
    Ran::of(Lab::get().command().arg("builds").args(arguments))
}

/// The builds of an image in the home of the run, those that ended too.
fn of_image(image: &str) -> Vec<Value> {
    let all = builds(["--all", "--json"]).ends_with(0).json();
    let all = all.as_array().unwrap().iter();
    all.filter(|one| one["image"] == image).cloned().collect()
}

/// The only build of an image, once it has come so far.
#[track_caller]
fn once(image: &str, far: impl Fn(&Value) -> bool) -> Value {
    for _ in 0..600 {
        if let [build] = &of_image(image)[..]
            && far(build)
        {
            return build.clone();
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("{:?}", of_image(image));
}

fn runs(build: &Value, step: &str) -> bool {
    build["running"][0]["name"] == step
}

/// Starts a build in the background.
#[track_caller]
fn detach(recipes: &Recipes, name: &str) -> String {
    let mut command = Lab::get().command();
    let words = ["build", "--detach", "--quiet", &format!("{name}.kdl")];
    command.args(words).current_dir(recipes.directory());
    Ran::of(&mut command).ends_with(0).stdout.trim().to_owned()
}

#[test]
fn a_detached_build_is_listed_followed_and_cancelled() {
    let recipes = Recipes::new();
    let script = "echo first line && sleep 1000.1";
    recipes.image("away", &format!("        run \"{script}\""));
    let id = detach(&recipes, "away");
    let step = format!("away: run {script}");
    let build = once("away", |build| runs(build, &step));
    assert_eq!(build["id"], id.as_str());
    assert_eq!(build["command"], "build");
    assert_eq!(build["ended"], Value::Null);
    assert_eq!(build["running"][0]["doing"], "runs");
    let (done, steps) = (&build["done"], &build["steps"]);
    assert!(done.as_u64().unwrap() < steps.as_u64().unwrap(), "{build}");
    let shown = builds([]).ends_with(0).stdout;
    let line = shown.lines().find(|line| line.starts_with(&id)).unwrap();
    assert!(line.contains("running") && line.contains(&step), "{line}");

    // From another terminal, until it ends.
    let follow = std::thread::spawn({
        let id = id[..8].to_owned();
        move || builds(["follow", "-v", &id])
    });
    let said = builds(["logs", "-v", &id]).ends_with(0).stderr;
    assert!(said.contains(&format!("start {step}")), "{said}");
    let cancelled = builds(["cancel", &id]).ends_with(0).stdout;
    assert_eq!(cancelled, format!("{id}: cancelled\n"));
    let followed = follow.join().unwrap().ends_with(1).stderr;
    assert!(followed.contains("first line"), "{followed}");
    assert!(
        followed.contains(&format!("build {id} was cancelled")),
        "{followed}"
    );
    let build = once("away", |build| build["ended"] != Value::Null);
    assert_eq!(build["ended"]["outcome"], "cancelled");

    let again = builds(["cancel", &id]).ends_with(2).stderr;
    assert!(again.contains("has ended"), "{again}");
    let unknown = builds(["follow", "0x"]).ends_with(3).stderr;
    assert!(unknown.contains("vmfab builds --all"), "{unknown}");
}

#[test]
fn a_build_that_was_killed_is_no_build_that_runs() {
    let recipes = Recipes::new();
    recipes.image("shot", "        run \"echo asleep; sleep 1000.2\"");
    let mut build = recipes.start("shot");
    build.until_line("asleep");
    let id = once("shot", |_| true)["id"].as_str().unwrap().to_owned();
    build.signal(Signal::KILL);
    build.finish();
    let listed = builds(["--quiet"]).ends_with(0).stdout;
    assert!(!listed.contains(&id), "{listed}");
    assert_eq!(of_image("shot")[0]["ended"]["outcome"], "killed");
    let said = builds(["follow", &id]).ends_with(1).stderr;
    assert!(said.contains("was killed"), "{said}");
}

/// What a step took in one build is how long it takes in the next.
#[test]
fn the_time_left_is_learnt() {
    let recipes = Recipes::new();
    let step = "        run \"sleep 2; test ! -e /flag || sleep 1000.3\"\n";
    recipes.image("slow", step);
    recipes.build("slow").succeeds();
    // The same step, on another tree.
    recipes.image(
        "slow",
        &format!("        file \"/flag\" {{ content \"x\"; }}\n{step}"),
    );
    let id = detach(&recipes, "slow");
    let seen = |build: &Value| build["id"] == id.as_str() && build["running"][0].is_object();
    let mut build = Value::Null;
    for _ in 0..600 {
        let all = of_image("slow");
        if let Some(one) = all
            .into_iter()
            .find(|one| seen(one) && !one["seconds_left"].is_null())
        {
            build = one;
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    builds(["cancel", &id]).ends_with(0);
    assert!(build["seconds_left"].is_number(), "{build}");
}

/// A mistake is told in the record, and where it began.
#[test]
fn a_detached_build_that_fails_says_why() {
    let recipes = Recipes::new();
    recipes.image("broken", "        run \"exit 3\"");
    let id = detach(&recipes, "broken");
    let build = once("broken", |build| build["ended"] != Value::Null);
    assert_eq!(build["ended"]["outcome"], "failed");
    let said = builds(["follow", &id]).ends_with(1).stderr;
    assert!(said.contains("failed: "), "{said}");

    // A recipe on standard input is read in the background.
    recipes.write(
        "piped",
        "image \"piped\" { from \"debian-12\"; nonsense; }\n",
    );
    let mut command = Lab::get().command();
    let recipe = File::open(recipes.path("piped")).unwrap();
    command.args(["build", "--detach", "-"]).stdin(recipe);
    let output = command.output().unwrap();
    let id = String::from_utf8(output.stdout).unwrap();
    let said = builds(["follow", id.trim()]).ends_with(1).stderr;
    assert!(said.contains("nonsense"), "{said}");
}

/// The hidden option names files: it takes nothing but an id.
#[test]
fn what_is_no_id_of_a_build_is_refused() {
    for id in [
        "../../x",
        "0123456789ABC",
        "",
        "0123456789a",
        "0123456789a/",
    ] {
        let words = ["build", "x", &format!("--as-build={id}")];
        let said = Ran::of(Lab::get().command().args(words))
            .ends_with(2)
            .stderr;
        assert!(said.contains("is not the id of a build"), "{said}");
    }
}

/// Two processes that need one image build it once.
#[test]
fn two_that_build_one_image_run_each_step_once() {
    let recipes = Recipes::new();
    let steps = "        run \"echo once > /once\"\n        run \"sleep 1; cat /once\"";
    recipes.image("once", steps);
    let both = [recipes.start("once"), recipes.start("once")];
    let both = both.map(|build| build.finish().succeeds());
    assert_eq!(both[0].image(), both[1].image());
    let mut counts = BTreeMap::new();
    for build in &both {
        build.count_started(&mut counts);
    }
    assert!(counts.values().all(|count| *count == 1), "{counts:?}");
    assert!(
        counts.contains_key("once: run sleep 1; cat /once"),
        "{counts:?}"
    );
}

/// Steps beyond --jobs wait in a queue that other terminals see.
#[test]
fn builds_beyond_the_jobs_wait_in_a_queue() {
    let recipes = Recipes::new();
    recipes.image("ahead", "        run \"echo asleep; sleep 1000.4\"");
    let steps = ["echo behind", "echo behind it", "echo far behind"];
    let steps = steps.map(|step| format!("        run \"{step}\"\n"));
    recipes.image("behind", &steps.concat());
    let start = |name: &str| Running::start(recipes.command(name).args(["--jobs", "1"]));
    let mut ahead = start("ahead");
    ahead.until_line("asleep");
    let behind = start("behind");
    let queued = once("behind", |build| build["running"][0]["doing"] == "queued");
    assert_eq!(queued["running"][0]["name"], "behind: run echo behind");
    let id = queued["id"].as_str().unwrap();
    let shown = builds([]).ends_with(0).stdout;
    let line = shown.lines().find(|line| line.starts_with(id)).unwrap();
    assert!(line.contains("queued"), "{line}");
    let listed = Lab::get().run(["list"]).ends_with(0).stdout;
    let line = listed.lines().find(|line| line.contains(id)).unwrap();
    assert!(
        line.contains("behind: ") && line.contains("queued"),
        "{line}"
    );
    // One that begins later is done later, although the first has more steps to wait with.
    recipes.image("last", "        run \"echo last\"");
    let last = start("last");
    once("last", |build| build["running"][0]["doing"] == "queued");
    // A build that may run two steps at a time need not wait.
    recipes.image("beside", "        run \"echo beside\"");
    recipes.build_with("beside", ["--jobs", "8"]).succeeds();
    assert_eq!(of_image("behind")[0]["running"][0]["doing"], "queued");

    ahead.signal(Signal::INT);
    ahead.finish().ends_with(130);
    let behind = behind.finish().succeeds();
    assert!(behind.events("step-queued").count() > 0);
    assert!(behind.started().contains(&"behind: run echo behind"));
    last.finish().succeeds();
    let [behind, last] = ["behind", "last"].map(|image| of_image(image)[0]["ended"].clone());
    let order = behind["time"].as_f64() < last["time"].as_f64();
    assert!(order, "{behind} {last}");
}

/// Machines whose image is being built are in the list, and nobody is given their names.
#[test]
fn machines_that_wait_for_their_image_are_listed() {
    let recipes = Recipes::new();
    recipes.image("awaited", "        run \"sleep 1000.6\"");
    let boot = |arguments: &[&str]| {
        let mut command = Lab::get().command();
        command.args(["boot", "awaited.kdl", "--detach", "--quiet"]);
        let id = Ran::of(command.args(arguments).current_dir(recipes.directory()));
        id.ends_with(0).stdout.trim().to_owned()
    };
    let list = || Lab::get().run(["list", "--json"]).ends_with(0).json();
    let states = || -> BTreeMap<String, String> {
        let list = list();
        let named = list.as_array().unwrap().iter().map(|one| {
            let text = |field: &str| one[field].as_str().unwrap().to_owned();
            (text("name"), text("state"))
        });
        named
            .filter(|(name, _)| name.starts_with("awaited"))
            .collect()
    };
    let ids = [boot(&[]), boot(&["--name", "awaited-too"])];
    let building = |name: &str| (name.to_owned(), "building".to_owned());
    let both = BTreeMap::from(["awaited", "awaited-too"].map(building));
    for _ in 0..600 {
        if states() == both {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(states(), both);
    let shown = Lab::get().run(["list"]).ends_with(0).stdout;
    let line = shown.lines().find(|line| line.starts_with("awaited-too "));
    assert!(
        line.is_some_and(|line| line.contains("building")),
        "{shown}"
    );
    let names = Lab::get().run(["list", "--quiet"]).ends_with(0).stdout;
    assert!(!names.contains("awaited"), "{names}");
    builds(["cancel", &ids[0], &ids[1]]).ends_with(0);
    assert_eq!(states(), BTreeMap::new());
}

#[test]
fn somebody_else_hears_how_a_build_goes() {
    let recipes = Recipes::new();
    let heard = recipes.path("heard");
    let tell = format!(
        "echo \"$VMFAB_EVENT $VMFAB_COMMAND $VMFAB_IMAGE\" >> '{}'",
        heard.display()
    );
    let command = |more: &[&str]| {
        let mut command = recipes.command("told");
        command.args(["--notify", &tell]).args(more);
        command.env("VMFAB_NOTIFY_SILENCE", "1");
        command
    };
    let build = |more: &[&str]| Build::of(&mut command(more));
    let news = || std::fs::read_to_string(&heard).unwrap_or_default();
    let until = |wanted: &str| {
        let wanted = format!("{wanted} build told\n");
        for _ in 0..2400 {
            if news().contains(&wanted) {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("no {wanted:?} in {:?}", news());
    };
    let step = "        run \"sleep 0.1; test ! -e /flag || sleep 1000.5\"\n";
    recipes.image("told", step);
    build(&[]).succeeds();
    assert!(news().ends_with("done build told\n"), "{}", news());
    std::fs::remove_file(&heard).unwrap();
    // The same step takes longer, and is silent meanwhile.
    let flag = "        file \"/flag\" { content \"told\"; }\n";
    recipes.image("told", &format!("{flag}{step}"));
    let slow = Running::start(&mut command(&[]));
    until("slow");
    until("silent");
    slow.signal(Signal::INT);
    slow.finish().ends_with(130);
    assert!(news().ends_with("cancelled build told\n"), "{}", news());
    recipes.image("told", "        run \"exit 3\"");
    build(&[]).ends_with(1);
    assert!(news().ends_with("failed build told\n"), "{}", news());

    // A detached build runs the command itself, once.
    std::fs::remove_file(&heard).unwrap();
    recipes.image("told", "        run \"sleep 0.2 # told\"");
    build(&["--detach"]).succeeds();
    until("done");
    assert_eq!(news().matches("done").count(), 1, "{}", news());
}

/// If the command of --notify fails, the build does not.
#[test]
fn a_failing_notify_command_is_a_warning() {
    let run = |tell: &str| {
        Lab::get()
            .run(["list", "--notify", tell])
            .ends_with(0)
            .stderr
    };
    let said = run("echo no way; exit 7");
    assert!(
        said.contains("warning: the command of --notify exited with code 7: no way"),
        "{said}"
    );
    let heard = run("test $VMFAB_EVENT-$VMFAB_COMMAND = done-list");
    assert!(!heard.contains("warning"), "{heard}");
    let mut command = Lab::get().command();
    command
        .args(["list", "--notify", "true"])
        .env("VMFAB_NOTIFY_SILENCE", "soon");
    let wrong = Ran::of(&mut command).ends_with(2).stderr;
    assert!(
        wrong.contains("VMFAB_NOTIFY_SILENCE is \"soon\""),
        "{wrong}"
    );
}
