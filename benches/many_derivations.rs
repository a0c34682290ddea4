//! Ten thousand trivial derivations through the executor: what it costs to be asked.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::json;
use vmfab::derivation::{
    BuildRequest, Builder, Builders, Derivation, Graph, Input, NodeId, Outputs,
};
use vmfab::digest::ObjectRef;
use vmfab::event::Silent;
use vmfab::executor::{Executor, Options, Remembered};
use vmfab::failure::Failure;
use vmfab::host::Interrupt;
use vmfab::store::Store;

use crate::lab::{Lab, middle};
use crate::table::{Limit, Row};

const COUNT: u32 = 10_000;

/// Its output is there before it is built.
struct Trivial(ObjectRef);

impl Builder for Trivial {
    fn build(&self, _: &BuildRequest<'_>) -> Result<Outputs, Failure> {
        Ok(BTreeMap::from([("out".to_owned(), self.0)]))
    }
}

impl Builders for Trivial {
    fn builder(&self, name: &str) -> Option<&dyn Builder> {
        (name == "trivial").then_some(self)
    }
}

/// Each in a new store; the middle one counts. File systems make files at very different speeds,
/// such as slowly just after many were removed.
const ROUNDS: usize = 5;

pub(crate) fn run(lab: &mut Lab) -> Vec<Row> {
    let (new, known): (Vec<_>, Vec<_>) = (0..ROUNDS).map(|round| one(lab, round)).unzip();
    let row = |what, times| Row {
        what,
        vmfab: middle::<Duration>(times).into(),
        limit: Limit::Most(Duration::from_secs(1).into()),
    };
    vec![
        row("10,000 trivial derivations, new", new),
        row("10,000 trivial derivations, known", known),
    ]
}

/// The time of a first and of a second execution.
fn one(lab: &Lab, round: usize) -> (Duration, Duration) {
    let store = Store::open(lab.path(&format!("trivial-{round}"))).unwrap();
    let builders = Trivial(store.put_bytes(b"output").unwrap());
    let mut graph = Graph::new();
    for number in 0..COUNT {
        // Each one reads one that came some steps before: neither a chain nor a heap.
        let inputs = number
            .checked_sub(16)
            .map(|earlier| Input {
                role: "in".to_owned(),
                node: NodeId(earlier),
                output: "out".to_owned(),
            })
            .into_iter()
            .collect();
        graph
            .add(Derivation {
                name: format!("trivial {number}"),
                builder: "trivial".to_owned(),
                version: 1,
                params: json!({ "number": number }),
                inputs,
            })
            .unwrap();
    }
    let executor = Executor {
        store: &store,
        builders: &builders,
        cache: None,
        remembered: &Remembered::new(lab.path("trivial-results")),
        programs: &BTreeSet::new(),
        options: Options {
            log_limit: 1 << 20,
            jobs: None,
            keep_going: false,
            rebuild: false,
            afresh: BTreeSet::new(),
            check: false,
        },
        sink: &Silent,
        interrupt: &Interrupt::new().unwrap(),
        log: &lab.path("trivial-log"),
    };
    let execute = |built: usize| {
        let started = Instant::now();
        let execution = executor
            .execute("trivial", &graph, &BTreeSet::new())
            .unwrap();
        let took = started.elapsed();
        assert_eq!(execution.built, built);
        took
    };
    (execute(COUNT as usize), execute(0))
}
