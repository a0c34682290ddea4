//! Where each step of a graph is drawn: in layers, so that all edges lead one way. Pure.
//!
//! A step of an image reads all layers below it. Only edges that no path stands for are drawn
//! (`reduced`), as a chain is a chain for people. Then each step gets a layer, behind those that it
//! reads; long layers are broken like lines of a text. The order within a layer and the places are
//! those of the steps' neighbours, as far as there is room (Sugiyama, Tagawa and Toda 1981).

/// The size of a step in the drawing.
pub const WIDTH: u32 = 200;
pub const HEIGHT: u32 = 30;
/// Between two steps beside each other in a layer, and between two layers.
const BESIDE: u32 = 20;
const BETWEEN: u32 = 34;
/// How often orders and places are improved.
const SWEEPS: usize = 4;

/// A drawing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layout {
    /// The upper left corner of each step.
    pub places: Vec<(u32, u32)>,
    /// The steps that each one is drawn to read.
    pub edges: Vec<Vec<usize>>,
    pub width: u32,
    pub height: u32,
    /// Whether edges lead to the right, and not down.
    pub sideways: bool,
}

/// Draws a graph: `inputs` are the steps that each step reads, all of them before it.
#[must_use]
pub fn layout(inputs: &[&[usize]]) -> Layout {
    let edges = reduced(inputs);
    let layers = broken(layers(&edges), inputs.len());
    let layers = ordered(layers, &edges);
    let sideways = is_wide(&layers);
    let (across, along) = match sideways {
        true => (HEIGHT + BESIDE / 2, WIDTH + BETWEEN + 20),
        false => (WIDTH + BESIDE, HEIGHT + BETWEEN),
    };
    let across_places = spread(&layers, &edges, f64::from(across));
    let mut places = vec![(0, 0); inputs.len()];
    for (number, layer) in (0_u32..).zip(&layers) {
        for &step in layer {
            let place = (across_places[step].round() as u32, number * along);
            places[step] = match sideways {
                true => (place.1, place.0),
                false => place,
            };
        }
    }
    Layout {
        width: places.iter().map(|(x, _)| x + WIDTH).max().unwrap_or(0),
        height: places.iter().map(|(_, y)| y + HEIGHT).max().unwrap_or(0),
        places,
        edges,
        sideways,
    }
}

/// The edges that no longer path stands for.
fn reduced(inputs: &[&[usize]]) -> Vec<Vec<usize>> {
    let words = inputs.len().div_ceil(64);
    // What each step reads, by any path: a bit for each step before it.
    let mut reached: Vec<Vec<u64>> = Vec::with_capacity(inputs.len());
    let mut edges = Vec::with_capacity(inputs.len());
    for (step, inputs) in inputs.iter().enumerate() {
        let mut own = vec![0_u64; words.min(step.div_ceil(64))];
        let mut kept = Vec::new();
        // An input comes behind what it reads, so a path to a step is found before the step.
        let mut latest_first = inputs.to_vec();
        latest_first.sort_unstable_by(|one, other| other.cmp(one));
        for input in latest_first.into_iter().filter(|&input| input < step) {
            if (own[input / 64] >> (input % 64)) & 1 == 1 {
                continue;
            }
            kept.push(input);
            own[input / 64] |= 1 << (input % 64);
            for (word, more) in own.iter_mut().zip(&reached[input]) {
                *word |= more;
            }
        }
        kept.reverse();
        edges.push(kept);
        reached.push(own);
    }
    edges
}

/// The steps of each layer: each behind all that it reads. One that reads nothing is just before
/// the first one that reads it.
fn layers(edges: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let mut layer: Vec<usize> = Vec::with_capacity(edges.len());
    let mut first_reader = vec![usize::MAX; edges.len()];
    for reads in edges {
        let behind = reads.iter().map(|&input| layer[input] + 1);
        layer.push(behind.max().unwrap_or(0));
    }
    for (step, reads) in edges.iter().enumerate() {
        for &input in reads {
            first_reader[input] = first_reader[input].min(layer[step]);
        }
    }
    let mut layers = Vec::new();
    for (step, reads) in edges.iter().enumerate() {
        if reads.is_empty() && first_reader[step] != usize::MAX {
            layer[step] = first_reader[step] - 1;
        }
        if layers.len() <= layer[step] {
            layers.resize(layer[step] + 1, Vec::new());
        }
        layers[layer[step]].push(step);
    }
    layers
}

/// Long layers as several: steps of a layer do not read each other.
fn broken(layers: Vec<Vec<usize>>, steps: usize) -> Vec<Vec<usize>> {
    let most = ((steps as f64).sqrt() * 1.3) as usize;
    let most = most.max(16);
    let mut broken = Vec::new();
    for layer in layers {
        let lines = layer.len().div_ceil(most).max(1);
        let length = layer.len().div_ceil(lines).max(1);
        broken.extend(layer.chunks(length).map(<[usize]>::to_vec));
    }
    broken
}

/// Whether the drawing is nearer to the shape of a screen when edges lead to the right.
fn is_wide(layers: &[Vec<usize>]) -> bool {
    let longest = layers.iter().map(Vec::len).max().unwrap_or(1).max(1) as f64;
    let count = layers.len().max(1) as f64;
    let shape = |width: f64, height: f64| (width / height / 1.6).ln().abs();
    let down = shape(
        longest * f64::from(WIDTH + BESIDE),
        count * f64::from(HEIGHT + BETWEEN),
    );
    let right = shape(
        count * f64::from(WIDTH + BETWEEN + 20),
        longest * f64::from(HEIGHT + BESIDE / 2),
    );
    right < down
}

/// The steps that read each one.
fn readers(edges: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let mut readers = vec![Vec::new(); edges.len()];
    for (step, reads) in edges.iter().enumerate() {
        for &input in reads {
            readers[input].push(step);
        }
    }
    readers
}

/// The layers with their steps in the order of their neighbours, so that few edges cross.
fn ordered(mut layers: Vec<Vec<usize>>, edges: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let readers = readers(edges);
    // From 0 to 1 within a layer: layers are of different lengths.
    let mut place = vec![0.0_f64; edges.len()];
    let note = |place: &mut [f64], layer: &[usize]| {
        for (index, &step) in layer.iter().enumerate() {
            place[step] = (index as f64 + 0.5) / layer.len() as f64;
        }
    };
    for layer in &layers {
        note(&mut place, layer);
    }
    for sweep in 0..2 * SWEEPS {
        let down = sweep % 2 == 0;
        let neighbours = if down { edges } else { &readers };
        let count = layers.len();
        for index in 0..count {
            let at = if down { index } else { count - 1 - index };
            let layer = &mut layers[at];
            let middle = |step: &usize| mean(neighbours[*step].iter().map(|&other| place[other]));
            let mut sorted: Vec<(f64, usize)> = layer
                .iter()
                .map(|step| (middle(step).unwrap_or(place[*step]), *step))
                .collect();
            sorted.sort_by(|one, other| one.0.total_cmp(&other.0));
            *layer = sorted.into_iter().map(|(_, step)| step).collect();
            note(&mut place, layer);
        }
    }
    layers
}

/// Where each step is in its layer: near its neighbours, and at least `apart` from the next one.
fn spread(layers: &[Vec<usize>], edges: &[Vec<usize>], apart: f64) -> Vec<f64> {
    let readers = readers(edges);
    let mut place = vec![0.0_f64; edges.len()];
    for layer in layers {
        for (index, &step) in layer.iter().enumerate() {
            place[step] = (index as f64 - (layer.len() as f64 - 1.0) / 2.0) * apart;
        }
    }
    for sweep in 0..2 * SWEEPS {
        let neighbours = if sweep % 2 == 0 { edges } else { &readers };
        for layer in layers {
            let wanted = |&step: &usize| {
                let others = neighbours[step].iter().map(|&other| place[other]);
                mean(others).unwrap_or(place[step])
            };
            let wanted: Vec<f64> = layer.iter().map(wanted).collect();
            for (step, at) in layer.iter().zip(placed(&wanted, apart)) {
                place[*step] = at;
            }
        }
    }
    let least = place.iter().copied().fold(f64::INFINITY, f64::min);
    place.iter_mut().for_each(|at| *at -= least);
    place
}

/// Places near the wanted ones, in the same order and at least `apart`: those that are too near to
/// each other form a block, which stands where its members want it on average.
fn placed(wanted: &[f64], apart: f64) -> Vec<f64> {
    // Of each block: how many are in it, and the sum of the places that they want its first one at.
    let mut blocks: Vec<(usize, f64)> = Vec::new();
    let mut start = 0.0;
    for (index, &want) in wanted.iter().enumerate() {
        // Distances are taken out: what is left only has to be in order.
        blocks.push((1, want - index as f64 * apart));
        while let [.., (before, sum), (count, more)] = blocks[..]
            && sum / before as f64 >= more / count as f64
        {
            blocks.pop();
            if let Some(last) = blocks.last_mut() {
                *last = (before + count, sum + more);
            }
        }
    }
    let mut places = Vec::with_capacity(wanted.len());
    for (count, sum) in blocks {
        for _ in 0..count {
            places.push(sum / count as f64 + start);
            start += apart;
        }
    }
    places
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (count, sum) = values.fold((0, 0.0), |(count, sum), value| (count + 1, sum + value));
    (count > 0).then(|| sum / f64::from(count))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn draw(inputs: &[Vec<usize>]) -> Layout {
        let inputs: Vec<&[usize]> = inputs.iter().map(Vec::as_slice).collect();
        layout(&inputs)
    }

    #[test]
    fn a_chain_whose_steps_read_all_before_is_drawn_as_a_chain() {
        let inputs: Vec<Vec<usize>> = (0..6).map(|step| (0..step).collect()).collect();
        let drawn = draw(&inputs);
        let edges: [&[usize]; 6] = [&[], &[0], &[1], &[2], &[3], &[4]];
        assert_eq!(drawn.edges, edges);
        assert!(!drawn.sideways);
        let apart = HEIGHT + BETWEEN;
        let places: Vec<_> = (0..6).map(|step| (0, step * apart)).collect();
        assert_eq!(drawn.places, places);
        assert_eq!((drawn.width, drawn.height), (WIDTH, 5 * apart + HEIGHT));
    }

    #[test]
    fn what_reads_nothing_is_near_its_reader() {
        let drawn = draw(&[vec![], vec![], vec![0], vec![2], vec![1, 3]]);
        assert_eq!(drawn.places[1].1, drawn.places[3].1);
    }

    #[test]
    fn an_empty_graph_is_empty() {
        assert_eq!(draw(&[]), Layout::default());
    }

    #[test]
    fn blocks_stand_where_their_members_want_them() {
        assert_eq!(placed(&[0.0, 0.0, 100.0], 10.0), [-5.0, 5.0, 100.0]);
        assert!(placed(&[], 10.0).is_empty());
    }

    proptest! {
        #[test]
        fn steps_do_not_overlap_and_edges_lead_one_way(
            lists in prop::collection::vec(
                prop::collection::vec(any::<prop::sample::Index>(), 0..4), 1..60),
        ) {
            let inputs: Vec<Vec<usize>> = lists
                .iter()
                .enumerate()
                .map(|(step, list)| match step {
                    0 => Vec::new(),
                    _ => list.iter().map(|index| index.index(step)).collect(),
                })
                .collect();
            let drawn = draw(&inputs);
            for (step, place) in drawn.places.iter().enumerate() {
                for other in &drawn.places[..step] {
                    let apart = place.0.abs_diff(other.0) >= WIDTH
                        || place.1.abs_diff(other.1) >= HEIGHT;
                    prop_assert!(apart, "{place:?} {other:?}");
                }
                for &input in &drawn.edges[step] {
                    prop_assert!(inputs[step].contains(&input));
                    let before = drawn.places[input];
                    let behind = match drawn.sideways {
                        true => place.0 > before.0,
                        false => place.1 > before.1,
                    };
                    prop_assert!(behind);
                }
            }
            // Every input is still reached.
            let mut reached: Vec<std::collections::BTreeSet<usize>> = Vec::new();
            for edges in &drawn.edges {
                let mut own: std::collections::BTreeSet<usize> = edges.iter().copied().collect();
                own.extend(edges.iter().flat_map(|edge| reached[*edge].clone()));
                reached.push(own);
            }
            for (inputs, reached) in inputs.iter().zip(&reached) {
                prop_assert!(inputs.iter().all(|input| reached.contains(input)));
            }
        }
    }
}
