//! When steps ran: rows, the longest chain, and what other numbers of jobs would change. Pure.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

use super::model::{GraphReport, WhatIf};

/// Steps that wait run beside those that use the processors, at most so many at once.
const WAITING: usize = 8;

/// Fills in what follows from the times of the steps. `waits` tells which ones mostly wait.
pub(super) fn fill(graph: &mut GraphReport, waits: &[bool]) {
    rows(graph, waits);
    let times: Vec<u64> = graph
        .steps
        .iter()
        .map(|step| step.time.unwrap_or(0))
        .collect();
    let edges: Vec<&[usize]> = graph
        .steps
        .iter()
        .map(|step| step.edges.as_slice())
        .collect();
    let (critical, critical_time) = longest(&times, &edges);
    if critical_time == 0 || graph.steps.iter().all(|step| step.reads.is_empty()) {
        return;
    }
    let mut numbers = BTreeSet::from([1, graph.jobs, 2 * graph.jobs, 4 * graph.jobs]);
    numbers.remove(&0);
    let what_if = |jobs: usize| WhatIf {
        jobs: Some(jobs),
        time: simulate(&times, &edges, waits, jobs),
    };
    let mut all: Vec<WhatIf> = numbers.into_iter().map(what_if).collect();
    all.push(WhatIf {
        jobs: None,
        time: critical_time,
    });
    (graph.critical, graph.critical_time, graph.what_if) = (critical, critical_time, all);
}

/// Gives each step that ran the first row that is free: as many rows as steps ran at once.
fn rows(graph: &mut GraphReport, waits: &[bool]) {
    let mut order: Vec<(u64, usize)> = Vec::new();
    for (index, step) in graph.steps.iter().enumerate() {
        if let (Some(start), Some(_)) = (step.start, step.time) {
            order.push((start, index));
        }
    }
    order.sort_unstable();
    let mut first = 0;
    for waiting in [false, true] {
        let mut free_at: Vec<u64> = Vec::new();
        for &(start, index) in &order {
            if waits.get(index).copied().unwrap_or(false) != waiting {
                continue;
            }
            let end = start + graph.steps[index].time.unwrap_or(0);
            // Times are rounded: one that ends as the next begins is over.
            let lane = free_at.iter().position(|&free| free <= start + 1);
            let lane = lane.unwrap_or(free_at.len());
            match free_at.get_mut(lane) {
                Some(free) => *free = end,
                None => free_at.push(end),
            }
            graph.steps[index].lane = Some(first + lane);
        }
        first += free_at.len();
        let word = if waiting { "waiting" } else { "job" };
        let names = (1..=free_at.len()).map(|number| format!("{word} {number}"));
        graph.lanes.extend(names);
    }
}

/// The chain of steps that takes longest, and how long.
fn longest(times: &[u64], edges: &[&[usize]]) -> (Vec<usize>, u64) {
    let mut until: Vec<(u64, Option<usize>)> = Vec::with_capacity(times.len());
    for (step, inputs) in edges.iter().enumerate() {
        let before = inputs.iter().map(|&input| (until[input].0, Some(input)));
        let (time, input) = before.max().unwrap_or((0, None));
        until.push((time + times[step], input));
    }
    let last = (0..until.len()).max_by_key(|&step| until[step].0);
    let total = last.map_or(0, |last| until[last].0);
    let mut chain = Vec::new();
    let mut next = last;
    while let Some(step) = next {
        if times[step] > 0 {
            chain.push(step);
        }
        next = until[step].1;
    }
    chain.reverse();
    (chain, total)
}

/// How long steps take that run as soon as their inputs and a place are there.
fn simulate(times: &[u64], edges: &[&[usize]], waits: &[bool], jobs: usize) -> u64 {
    let mut left: Vec<usize> = edges.iter().map(|inputs| inputs.len()).collect();
    let mut readers = vec![Vec::new(); edges.len()];
    for (step, inputs) in edges.iter().enumerate() {
        for &input in *inputs {
            readers[input].push(step);
        }
    }
    let is_waiting = |step: usize| usize::from(waits.get(step).copied().unwrap_or(false));
    let mut free = [jobs, WAITING];
    let mut ready = [BTreeSet::new(), BTreeSet::new()];
    for step in (0..edges.len()).filter(|&step| left[step] == 0) {
        ready[is_waiting(step)].insert(step);
    }
    let mut running = BinaryHeap::new();
    let mut now = 0;
    loop {
        for kind in [0, 1] {
            while free[kind] > 0
                && let Some(step) = ready[kind].pop_first()
            {
                free[kind] -= 1;
                running.push(Reverse((now + times[step], step)));
            }
        }
        let Some(Reverse((end, step))) = running.pop() else {
            return now;
        };
        now = end;
        free[is_waiting(step)] += 1;
        for &reader in &readers[step] {
            left[reader] -= 1;
            if left[reader] == 0 {
                ready[is_waiting(reader)].insert(reader);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::model::StepReport;
    use super::*;

    fn graph(steps: &[(u64, u64, &[usize])], jobs: usize) -> GraphReport {
        let step = |&(start, time, inputs): &(u64, u64, &[usize])| StepReport {
            start: (time > 0).then_some(start),
            time: (time > 0).then_some(time),
            reads: inputs.iter().map(|&input| [input, input]).collect(),
            edges: inputs.to_vec(),
            ..StepReport::default()
        };
        GraphReport {
            jobs,
            steps: steps.iter().map(step).collect(),
            ..GraphReport::default()
        }
    }

    #[test]
    fn three_steps_on_two_jobs_and_a_download() {
        let steps: [(u64, u64, &[usize]); 6] = [
            (0, 0, &[]),
            (0, 100, &[0]),
            (0, 300, &[0]),
            (100, 300, &[0]),
            (0, 50, &[]),
            (400, 10, &[1, 2, 3, 4]),
        ];
        let mut graph = graph(&steps, 2);
        fill(&mut graph, &[false, false, false, false, true, false]);
        assert_eq!(graph.lanes, ["job 1", "job 2", "waiting 1"]);
        let lanes: Vec<_> = graph.steps.iter().map(|step| step.lane).collect();
        let expected = [None, Some(0), Some(1), Some(0), Some(2), Some(0)];
        assert_eq!(lanes, expected);
        assert_eq!((graph.critical, graph.critical_time), (vec![3, 5], 310));
        let times: Vec<_> = graph
            .what_if
            .iter()
            .map(|one| (one.jobs, one.time))
            .collect();
        let jobs = [
            (Some(1), 710),
            (Some(2), 410),
            (Some(4), 310),
            (Some(8), 310),
            (None, 310),
        ];
        assert_eq!(times, jobs);
    }

    #[test]
    fn without_times_there_is_nothing_to_say() {
        let mut graph = graph(&[(0, 0, &[]), (0, 0, &[0])], 2);
        fill(&mut graph, &[]);
        assert!(graph.lanes.is_empty() && graph.critical.is_empty() && graph.what_if.is_empty());
    }
}
