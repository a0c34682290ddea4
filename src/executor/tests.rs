use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;

use std::io;

use super::*;
use crate::derivation::{BuildRequest, Builder, Derivation, Input};
use crate::event::Recorder;
use crate::failure::Failure;

/// Builds `text`: the text of its parameters and the contents of its inputs, and fails on `"fail"`.
pub(super) struct Concat {
    pub(super) store: Store,
    runs: AtomicUsize,
    /// How many of `"meet"` run, or did.
    met: (Mutex<usize>, std::sync::Condvar),
}

impl Concat {
    /// Waits until three steps are here at once.
    fn meet(&self) -> Result<(), Failure> {
        let mut count = self.met.0.lock().unwrap();
        *count += 1;
        self.met.1.notify_all();
        let patience = std::time::Duration::from_secs(20);
        let waited = self
            .met
            .1
            .wait_timeout_while(count, patience, |count| *count < 3);
        match waited.unwrap().1.timed_out() {
            false => Ok(()),
            true => Err(Failure::of_step(io::Error::other("the others do not come"))),
        }
    }
}

impl Builder for Concat {
    fn build(&self, request: &BuildRequest<'_>) -> Result<Outputs, Failure> {
        self.runs.fetch_add(1, Ordering::SeqCst);
        let text = request.derivation.params["text"]
            .as_str()
            .unwrap_or_default();
        match text {
            "fail" => {
                return Err(Failure::command(
                    "false",
                    "exited with code 1",
                    vec!["no".into()],
                ));
            }
            "meet" => self.meet()?,
            "interrupt" => {
                request.interrupt.request();
                return Err(Failure::interrupted());
            }
            _ => {}
        }
        let mut content = text.replace("count", &self.runs.load(Ordering::SeqCst).to_string());
        // An output that depends on the parameters only in part: for early cutoff.
        content = content.split('#').next().unwrap_or_default().to_owned();
        for input in request.inputs {
            let bytes = self
                .store
                .read_object(&input.object.id)
                .map_err(Failure::of_step)?;
            content.push_str(&String::from_utf8_lossy(&bytes));
        }
        let object = self
            .store
            .put_bytes(content.as_bytes())
            .map_err(Failure::of_step)?;
        Ok(BTreeMap::from([("out".to_owned(), object)]))
    }
}

impl Builders for Concat {
    fn builder(&self, name: &str) -> Option<&dyn Builder> {
        ["concat", "wait"].contains(&name).then_some(self)
    }

    fn waits(&self, name: &str) -> bool {
        name == "wait"
    }
}

pub(super) struct Fixture {
    pub(super) directory: tempfile::TempDir,
    pub(super) builders: Concat,
    pub(super) events: Recorder,
    pub(super) interrupt: Interrupt,
    pub(super) options: Options,
}

impl Fixture {
    pub(super) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path().join("store")).unwrap();
        Self {
            directory,
            builders: Concat {
                store,
                runs: AtomicUsize::new(0),
                met: Default::default(),
            },
            events: Recorder::default(),
            interrupt: Interrupt::new().unwrap(),
            options: Options {
                log_limit: 1 << 20,
                jobs: Some(2),
                keep_going: false,
                rebuild: false,
                afresh: BTreeSet::new(),
                check: false,
            },
        }
    }

    /// A graph given as (text, inputs).
    pub(super) fn graph(steps: &[(&str, &[u32])]) -> Graph {
        let mut graph = Graph::new();
        for (index, (text, inputs)) in steps.iter().enumerate() {
            let input = |&node: &u32| Input {
                role: "part".into(),
                node: NodeId(node),
                output: "out".into(),
            };
            let derivation = Derivation {
                name: index.to_string(),
                builder: "concat".into(),
                version: 1,
                params: json!({ "text": text }),
                inputs: inputs.iter().map(input).collect(),
            };
            graph.add(derivation).unwrap();
        }
        graph
    }

    pub(super) fn remembered(&self) -> Remembered {
        Remembered::new(self.directory.path().join("results"))
    }

    /// Executes a graph for its last step.
    pub(super) fn execute(&self, graph: &Graph, cache: Option<&dyn Cache>) -> Execution {
        let executor = Executor {
            store: &self.builders.store,
            builders: &self.builders,
            options: self.options.clone(),
            sink: &self.events,
            interrupt: &self.interrupt,
            log: &self.directory.path().join("log"),
            programs: &BTreeSet::new(),
            cache,
            remembered: &self.remembered(),
        };
        let last = BTreeSet::from([NodeId(graph.len() as u32 - 1)]);
        executor.execute("test", graph, &last).unwrap()
    }

    /// Executes a graph given as (text, inputs), and returns what ran, by name.
    fn run(&self, steps: &[(&str, &[u32])]) -> (Execution, Vec<String>) {
        let execution = self.execute(&Self::graph(steps), None);
        let mut ran: Vec<String> = self
            .events
            .take()
            .into_iter()
            .filter_map(|event| match event {
                Event::StepStarted { name, .. } => Some(name),
                _ => None,
            })
            .collect();
        ran.sort();
        (execution, ran)
    }

    pub(super) fn content(&self, execution: &Execution, node: usize) -> String {
        let outputs = execution.outputs[node].as_ref().unwrap();
        let bytes = self.builders.store.read_object(&outputs["out"].id).unwrap();
        String::from_utf8(bytes).unwrap()
    }
}

#[test]
fn a_second_build_runs_nothing() {
    let fixture = Fixture::new();
    let steps: [(&str, &[u32]); 4] = [("a", &[]), ("b", &[0]), ("c", &[0]), ("d", &[1, 2])];
    let (first, ran) = fixture.run(&steps);
    assert_eq!(ran, ["0", "1", "2", "3"]);
    assert_eq!(fixture.content(&first, 3), "dbaca");
    let (second, ran) = fixture.run(&steps);
    assert!(ran.is_empty());
    assert_eq!((second.built, second.cached), (0, 4));
    assert_eq!(second.outputs, first.outputs);
}

#[test]
fn a_change_rebuilds_what_depends_on_it() {
    let fixture = Fixture::new();
    fixture.run(&[("a", &[]), ("b", &[0]), ("c", &[0]), ("d", &[1, 2])]);
    let (_, ran) = fixture.run(&[("a", &[]), ("b", &[0]), ("C", &[0]), ("d", &[1, 2])]);
    assert_eq!(ran, ["2", "3"]);
}

#[test]
fn an_equal_output_stops_the_rebuild() {
    let fixture = Fixture::new();
    fixture.run(&[("a#1", &[]), ("b", &[0]), ("c", &[1])]);
    let (execution, ran) = fixture.run(&[("a#2", &[]), ("b", &[0]), ("c", &[1])]);
    assert_eq!(ran, ["0"]);
    assert_eq!((execution.built, execution.cached), (1, 2));
}

#[test]
fn a_failure_stops_what_depends_on_it() {
    let mut fixture = Fixture::new();
    fixture.options.keep_going = true;
    let steps: [(&str, &[u32]); 4] = [("fail", &[]), ("b", &[0]), ("c", &[1]), ("d", &[])];
    let (execution, ran) = fixture.run(&steps);
    assert_eq!(ran, ["0", "3"]);
    assert_eq!(execution.failures.len(), 1);
    assert_eq!(execution.failures[0].step, "0");
    assert!(!execution.interrupted);
    assert_eq!(execution.outputs.iter().flatten().count(), 1);
    // What was built is kept, what failed is tried again.
    let (execution, ran) = fixture.run(&steps);
    assert_eq!(ran, ["0"]);
    assert_eq!(execution.cached, 1);
}

#[test]
fn without_keep_going_nothing_new_starts_after_a_failure() {
    let mut fixture = Fixture::new();
    fixture.options.jobs = Some(1);
    let (execution, ran) = fixture.run(&[("fail", &[]), ("b", &[]), ("c", &[])]);
    assert_eq!(ran, ["0"]);
    assert_eq!(execution.failures.len(), 1);
}

#[test]
fn an_interrupt_keeps_what_is_finished() {
    let mut fixture = Fixture::new();
    fixture.options.jobs = Some(1);
    let steps: [(&str, &[u32]); 3] = [("a", &[]), ("interrupt", &[0]), ("c", &[1])];
    let (execution, ran) = fixture.run(&steps);
    assert_eq!(ran, ["0", "1"]);
    assert!(execution.interrupted && execution.failures.is_empty());
    fixture.interrupt = Interrupt::new().unwrap();
    let (execution, _) = fixture.run(&[("a", &[]), ("b", &[0]), ("c", &[1])]);
    assert_eq!((execution.built, execution.cached), (2, 1));
}

#[test]
fn a_check_names_the_step_that_differs() {
    let mut fixture = Fixture::new();
    fixture.options.check = true;
    let steps: [(&str, &[u32]); 3] = [("a", &[]), ("count", &[0]), ("c", &[1])];
    for _ in 0..2 {
        let (execution, _) = fixture.run(&steps);
        let steps: Vec<_> = execution
            .differences
            .iter()
            .map(|d| d.step.as_str())
            .collect();
        assert_eq!(steps, ["1"]);
    }
}

#[test]
fn the_same_step_in_two_threads_runs_once() {
    let fixture = Fixture::new();
    let steps: [(&str, &[u32]); 3] = [("same", &[]), ("same", &[]), ("same", &[])];
    let execution = fixture.execute(&Fixture::graph(&steps), None);
    assert_eq!((execution.built, execution.cached), (1, 2));
    assert_eq!(fixture.builders.runs.load(Ordering::SeqCst), 1);
    // Nobody else runs it.
    let waits = |event: &Event| matches!(event, Event::StepWaiting { .. });
    assert!(!fixture.events.take().iter().any(waits));
}

#[test]
fn steps_that_wait_leave_the_processors_to_others() {
    let mut fixture = Fixture::new();
    fixture.options.jobs = Some(1);
    let mut graph = Graph::new();
    for (index, builder) in ["concat", "wait", "wait"].into_iter().enumerate() {
        let derivation = Derivation {
            name: index.to_string(),
            builder: builder.into(),
            version: 1,
            params: json!({ "text": "meet", "number": index }),
            inputs: Vec::new(),
        };
        graph.add(derivation).unwrap();
    }
    let executor = Executor {
        store: &fixture.builders.store,
        builders: &fixture.builders,
        options: fixture.options.clone(),
        sink: &fixture.events,
        interrupt: &fixture.interrupt,
        log: &fixture.directory.path().join("log"),
        programs: &BTreeSet::new(),
        cache: None,
        remembered: &fixture.remembered(),
    };
    let execution = executor.execute("test", &graph, &BTreeSet::new()).unwrap();
    assert_eq!((execution.built, execution.failures.len()), (3, 0));
}
