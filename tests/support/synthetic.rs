//! Records of builds that nobody ran, as a home keeps them.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

/// A build whose record is made up.
pub(crate) struct Synthetic {
    pub(crate) id: &'static str,
    pub(crate) image: String,
    pub(crate) outcome: &'static str,
    pub(crate) steps: Vec<SyntheticStep>,
}

#[derive(Clone)]
pub(crate) struct SyntheticStep {
    pub(crate) name: String,
    pub(crate) builder: &'static str,
    pub(crate) params: Value,
    pub(crate) inputs: Vec<usize>,
    /// `built`, `cached`, `failed`, …
    pub(crate) outcome: &'static str,
    /// In seconds, from the start of the build.
    pub(crate) start: f64,
    pub(crate) seconds: f64,
    pub(crate) printed: Vec<String>,
    /// The size of the layer that it makes.
    pub(crate) size: u64,
}

impl SyntheticStep {
    pub(crate) fn new(name: &str, builder: &'static str, inputs: &[usize]) -> Self {
        Self {
            name: name.to_owned(),
            builder,
            params: json!({ "command": format!("make {name}"), "network": false }),
            inputs: inputs.to_vec(),
            outcome: "built",
            start: 0.0,
            seconds: 1.0,
            printed: Vec::new(),
            size: 1 << 20,
        }
    }

    fn ran(&self) -> bool {
        matches!(self.outcome, "built" | "failed")
    }

    fn id(&self, number: usize) -> String {
        format!("{:064x}", number + 1)
    }
}

impl Synthetic {
    /// Images that are built side by side, of 25 steps each: 5,000 steps with what reads them all.
    pub(crate) fn large() -> Self {
        let mut steps: Vec<SyntheticStep> = Vec::new();
        let mut disks = Vec::new();
        for image in 0..200 {
            let first = steps.len();
            let count = if image == 199 { 24 } else { 25 };
            for number in 0..count {
                let builder = match number {
                    0 => "fetch",
                    1 => "bootstrap",
                    _ if number + 1 == count => "disk",
                    _ => "run",
                };
                let name = format!(
                    "image-{image}: {builder} step number {number} of this image, with a command"
                );
                let mut step = SyntheticStep::new(&name, builder, &[]);
                step.inputs = (first + 1..steps.len()).collect();
                if number == 1 {
                    step.inputs = vec![first];
                }
                step.outcome = if image % 3 == 0 { "cached" } else { "built" };
                step.start = f64::from(image / 8) * 40.0 + f64::from(number) * 1.5;
                step.seconds = 0.3 + f64::from((image * 7 + number * 13) % 17) / 14.0;
                step.params = json!({
                    "command": format!("apt-get install --yes package-{image}-{number} && \
                        sed -i s/a/b/ /etc/service-{number}.conf && systemctl enable s{number}"),
                    "network": true, "limits": { "memory": 1_u64 << 30 },
                });
                step.printed = (0..6)
                    .map(|line| format!("line {line}: unpacking package-{image} over (1.{number})"))
                    .collect();
                steps.push(step);
            }
            disks.push(steps.len() - 1);
        }
        let mut last = SyntheticStep::new("all: image", "image", &disks);
        last.start = 1050.0;
        steps.push(last);
        assert_eq!(steps.len(), 5000);
        Self {
            id: "00000000beef",
            image: "all".to_owned(),
            outcome: "done",
            steps,
        }
    }

    /// A small one in which names, output and parameters are hostile, and a step fails.
    pub(crate) fn hostile() -> Self {
        let hostile =
            "</script><img src=x onerror=\"window.pwned=1\"><script>window.pwned=1</script>";
        let odd = "\u{1b}]0;title\u{7}\u{1b}[2J\u{2028}\u{202e}gnp.exe";
        let mut steps = vec![
            SyntheticStep::new("evil: fetch base.tar", "fetch", &[]),
            SyntheticStep::new(&format!("evil: run {hostile}"), "run", &[0]),
            SyntheticStep::new(&format!("evil: run {odd} quiet"), "run", &[0, 1]),
            SyntheticStep::new("evil: packages nginx", "packages", &[0, 1, 2]),
            SyntheticStep::new("evil: check 'nginx -t'", "check", &[0, 1, 2, 3]),
            SyntheticStep::new("evil: run broken", "run", &[0, 1, 2, 3]),
            SyntheticStep::new("evil: disk", "disk", &[0, 1, 2, 3, 5]),
        ];
        for (number, step) in steps.iter_mut().enumerate() {
            step.start = number as f64 * 1.2;
            step.size = (number as u64 + 1) << 21;
        }
        steps[0].outcome = "cached";
        steps[1].printed = vec![hostile.to_owned(), odd.to_owned()];
        steps[1].params = json!({ "command": hostile, "javascript:alert(1)": odd });
        steps[4].printed = vec!["syntax is ok".to_owned(), hostile.to_owned()];
        steps[5].outcome = "failed";
        steps[5].printed = vec!["make: *** [all] Error 2".to_owned()];
        steps[6].outcome = "skipped";
        Self {
            id: "00000000dead",
            image: format!("evil {hostile}"),
            outcome: "failed",
            steps,
        }
    }

    /// Writes its record below a home.
    pub(crate) fn record(&self, home: &Path) {
        let directory = home.join("builds");
        fs::create_dir_all(&directory).unwrap();
        let began = 1_700_000_000.0;
        let ends = self.steps.iter().map(|step| step.start + step.seconds);
        let took = ends.fold(0.0, f64::max);
        let error = (self.outcome == "failed").then_some("step failed: </script>\u{1b}[2J");
        let state = json!({
            "id": self.id, "pid": 1, "command": "build", "image": self.image, "started": began,
            "updated": began + took, "steps": self.steps.len(), "done": self.steps.len(),
            "running": [], "seconds_left": null,
            "ended": { "outcome": self.outcome, "time": began + took, "error": error },
        });
        let file = |ending: &str| directory.join(format!("{}.{ending}", self.id));
        fs::write(file("json"), state.to_string()).unwrap();
        fs::write(file("log"), self.log(took)).unwrap();
        let inputs = json!({
            "recipe": "synthetic.kdl", "image": self.image, "outputs": [], "steps": self.inputs(""),
        });
        fs::write(file("0.inputs"), inputs.to_string()).unwrap();
        // The build before had other commands.
        let before = json!({
            "recipe": "synthetic.kdl", "image": self.image, "outputs": [], "steps": self.inputs("old"),
        });
        fs::write(file("0.before"), before.to_string()).unwrap();
    }

    fn log(&self, took: f64) -> String {
        let mut events: Vec<(f64, Value)> = Vec::new();
        let plan: Vec<Value> = self
            .steps
            .iter()
            .map(|step| {
                let waits = step.builder == "fetch";
                let mut one = json!({
                    "name": step.name, "builder": step.builder, "inputs": step.inputs,
                });
                if waits {
                    one["waits"] = true.into();
                }
                one
            })
            .collect();
        let count = |outcome| {
            self.steps
                .iter()
                .filter(|one| one.outcome == outcome)
                .count()
        };
        for (number, step) in self.steps.iter().enumerate() {
            if step.ran() {
                let log = format!("/home/log/{number:012x}.log");
                let started = json!({
                    "event": "step-started", "step": number, "name": step.name, "log": log,
                });
                events.push((step.start, started));
                for line in &step.printed {
                    let output = json!({ "event": "step-output", "step": number, "line": line });
                    events.push((step.start + step.seconds / 2.0, output));
                }
            }
            let finished = json!({
                "event": "step-finished", "step": number, "name": step.name,
                "outcome": step.outcome, "seconds": if step.ran() { step.seconds } else { 0.0 },
            });
            let end = if step.ran() {
                step.start + step.seconds
            } else {
                0.0
            };
            events.push((end, finished));
        }
        events.sort_by(|one, other| one.0.total_cmp(&other.0));
        let started = json!({
            "event": "build-started", "name": self.image, "steps": self.steps.len(), "jobs": 8,
        });
        let first = [
            (0.0, started),
            (0.0, json!({ "event": "plan", "plan": plan })),
        ];
        let finished = json!({
            "event": "build-finished", "built": count("built"), "cached": count("cached"),
            "remote": 0, "failed": count("failed"), "skipped": count("skipped"), "seconds": took,
        });
        let mut text = String::new();
        for (at, mut event) in first.into_iter().chain(events).chain([(took, finished)]) {
            event["at"] = at.into();
            text += &format!("{event}\n");
        }
        text
    }

    fn inputs(&self, before: &str) -> Vec<Value> {
        let reached = |step: &&SyntheticStep| step.outcome != "skipped";
        let steps = self
            .steps
            .iter()
            .enumerate()
            .filter(|(_, step)| reached(step));
        steps
            .map(|(number, step)| {
                let inputs = step.inputs.iter().map(|&input| {
                    let role = if self.steps[input].builder == "disk" {
                        "disk"
                    } else {
                        "layer"
                    };
                    json!([role, self.steps[input].id(input)])
                });
                let mut params = step.params.clone();
                if !before.is_empty() && step.ran() {
                    params["command"] = before.into();
                }
                let mut one = json!({
                    "name": step.name, "builder": step.builder, "version": 1, "params": params,
                    "inputs": inputs.collect::<Vec<_>>(), "node": number,
                });
                if step.outcome != "failed" {
                    let output = if step.builder == "disk" {
                        "disk"
                    } else {
                        "layer"
                    };
                    one["outputs"] =
                        json!({ output: { "id": step.id(number), "size": step.size } });
                }
                one
            })
            .collect()
    }
}
