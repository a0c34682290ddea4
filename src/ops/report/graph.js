// The graph: steps as boxes that can be moved, zoomed and clicked. Only what is seen is drawn: from
// afar as one path for each state, near by as boxes with names.

const BOX = [200, 30];
const view = { k: 1, x: 0, y: 0, ready: false };
const NEAR = 0.45;
const MANY = 900;

const graphView = {
  id: "graph",
  show() {
    if (!view.ready) {
      view.ready = true;
      edges();
      fit();
      legend();
    }
    render();
  },
  reset() {
    view.ready = false;
    $("nodes").replaceChildren();
    $("blobs").replaceChildren();
  },
  chosen(move) {
    if (!view.ready) return;
    near();
    if (chosen !== null && (move || !inSight(chosen))) centre(chosen);
    else render();
  },
  found() {
    if (view.ready) render();
  },
};
views.push(graphView);

function pane() {
  const box = $("canvas").getBoundingClientRect();
  return [box.width || 800, box.height || 500];
}
// The part of the pane that the panel of the chosen step leaves free: on a phone it lies over it.
function free() {
  const [width, height] = pane();
  const over = getComputedStyle($("details")).position === "absolute" && chosen !== null;
  return [width, over ? Math.max(height - $("details").offsetHeight, 120) : height];
}

function transform() {
  $("view").setAttribute("transform", `translate(${view.x} ${view.y}) scale(${view.k})`);
}

function fit() {
  const [width, height] = pane();
  const k = Math.min((width - 40) / graph.width, (height - 90) / graph.height, 1.25);
  // A long chain is readable, and shows its end: the image.
  const least = Math.min(graph.sideways ? (height - 90) / graph.height : (width - 40) / graph.width, 0.6);
  view.k = Math.max(k, graph.steps.length < 400 ? Math.min(least, 0.6) : k, 0.01);
  view.x = (width - graph.width * view.k) / 2;
  view.y = Math.max((height - 30 - graph.height * view.k) / 2, 20);
  if (graph.height * view.k > height - 60 && !graph.sideways && view.k > k) {
    view.y = height - 60 - graph.height * view.k;
  }
}

function whole() {
  const [width, height] = pane();
  view.k = Math.max(Math.min((width - 40) / graph.width, (height - 60) / graph.height, 1.25), 0.005);
  view.x = (width - graph.width * view.k) / 2;
  view.y = (height - graph.height * view.k) / 2;
  render();
}

function zoom(factor, x, y) {
  const k = Math.min(Math.max(view.k * factor, 0.005), 3);
  view.x = x - ((x - view.x) * k) / view.k;
  view.y = y - ((y - view.y) * k) / view.k;
  view.k = k;
  render();
}

function centre(index) {
  const [width, height] = free();
  const [x, y] = graph.steps[index].at;
  view.k = Math.max(view.k, 0.9);
  view.x = width / 2 - (x + BOX[0] / 2) * view.k;
  view.y = height / 2 - (y + BOX[1] / 2) * view.k;
  render();
}

function inSight(index) {
  const [width, height] = free();
  const [x, y] = graph.steps[index].at;
  const [left, top] = [x * view.k + view.x, y * view.k + view.y];
  return view.k >= NEAR && left > -20 && top > -10 && left < width - 60 && top < height - 20;
}

function way(from, to) {
  const [a, b] = [graph.steps[from].at, graph.steps[to].at];
  if (graph.sideways) {
    const [x1, y1, x2, y2] = [a[0] + BOX[0], a[1] + 15, b[0], b[1] + 15];
    const middle = (x1 + x2) / 2;
    return `M${x1} ${y1}C${middle} ${y1} ${middle} ${y2} ${x2} ${y2}`;
  }
  const [x1, y1, x2, y2] = [a[0] + 100, a[1] + BOX[1], b[0] + 100, b[1]];
  const middle = (y1 + y2) / 2;
  return `M${x1} ${y1}C${x1} ${middle} ${x2} ${middle} ${x2} ${y2}`;
}

function edges() {
  const paths = [];
  const critical = [];
  graph.steps.forEach((step, index) => {
    for (const input of step.edges || []) {
      (graph.onWay.has(index) && graph.onWay.has(input) ? critical : paths).push(way(input, index));
    }
  });
  $("edges").setAttribute("d", paths.join(""));
  $("way").setAttribute("d", critical.join(""));
  near();
}

// The edges of the chosen step.
function near() {
  const paths = chosen === null ? [] : [
    ...(graph.steps[chosen].edges || []).map((input) => way(input, chosen)),
    ...graph.readers[chosen].map((reader) => way(chosen, reader)),
  ];
  $("near").setAttribute("d", paths.join(""));
}

// The steps that can be seen, with a margin.
function visible() {
  const [width, height] = pane();
  const [left, top] = [-view.x / view.k, -view.y / view.k];
  const [wide, high] = [width / view.k, height / view.k];
  const seen = [];
  graph.steps.forEach((step, index) => {
    const [x, y] = step.at;
    if (x + BOX[0] > left - wide * 0.2 && x < left + wide * 1.2
      && y + BOX[1] > top - high * 0.2 && y < top + high * 1.2) seen.push(index);
  });
  return seen;
}

let drawn = "";
function render() {
  transform();
  const seen = view.k < NEAR ? null : visible();
  const boxes = seen !== null && seen.length <= MANY;
  $("nodes").setAttribute("display", boxes ? "inline" : "none");
  $("blobs").setAttribute("display", boxes ? "none" : "inline");
  if (boxes) return nodes(seen);
  calm();
  const key = found === null ? "all" : `${found.size} ${[...found][0]}`;
  if (drawn !== key || !$("blobs").firstChild) blobs();
  drawn = key;
}

// Thousands of edges that move are slow, and nobody can follow them: they are back when it rests.
let resting = null;
function calm() {
  if (graph.steps.length < MANY) return;
  $("edges").setAttribute("display", "none");
  clearTimeout(resting);
  resting = setTimeout(() => $("edges").setAttribute("display", "inline"), 150);
}

function blobs() {
  const layers = new Map();
  graph.steps.forEach((step, index) => {
    const dim = found !== null && !found.has(index);
    const key = `f-${step.state}${dim ? " dim" : ""}`;
    if (!layers.has(key)) layers.set(key, []);
    layers.get(key).push(`M${step.at[0]} ${step.at[1]}h${BOX[0]}v${BOX[1]}h-${BOX[0]}z`);
  });
  const paths = [...layers].map(([key, parts]) => draw("path", { class: key, d: parts.join("") }));
  $("blobs").replaceChildren(...paths);
}

function nodes(seen) {
  const there = new Map();
  for (const node of [...$("nodes").children]) there.set(Number(node.dataset.step), node);
  const wanted = new Set(seen);
  for (const [index, node] of there) if (!wanted.has(index)) node.remove();
  for (const index of seen) {
    let node = there.get(index);
    if (!node) {
      node = box(index);
      $("nodes").append(node);
    }
    const dim = found !== null && !found.has(index);
    node.classList.toggle("dim", dim);
    node.classList.toggle("chosen", index === chosen);
  }
}

function box(index) {
  const step = graph.steps[index];
  const [x, y] = step.at;
  const took = ran(step) && step.time >= 1 ? ` ${duration(step.time)}` : "";
  const letters = 27 - took.length;
  const name = step.name.length > letters ? `${step.name.slice(0, letters - 1)}…` : step.name;
  const critical = graph.onWay.has(index);
  const node = draw("g", {
    class: `node n-${step.state}${critical ? " critical" : ""}`, "data-step": index,
    role: "button", "aria-label": `${step.name}, ${WORDS[step.state]}${took}`,
  }, draw("rect", { class: "frame", x, y, width: BOX[0], height: BOX[1] }));
  // How much of the time of the whole graph it took.
  const share = ran(step) ? step.time / Math.max(graph.critical_time, 1) : 0;
  if (share > 0.01) {
    node.append(draw("rect", {
      class: "heat", x: x + 5, y: y + BOX[1] - 5, width: Math.max((BOX[0] - 10) * Math.min(share, 1), 2), height: 2.5,
    }));
  }
  node.append(draw("text", { x: x + 9, y: y + 19 }, name));
  if (took) node.append(draw("text", { x: x + BOX[0] - 8, y: y + 19, "text-anchor": "end", class: "took" }, took.trim()));
  return node;
}

function legend() {
  const states = STATES.filter((state) => graph.steps.some((step) => step.state === state));
  const parts = states.map((state) => make("span", {}, make("i", { class: `f-${state}` }), WORDS[state]));
  if (graph.critical.length) parts.push(make("span", {}, make("i", { class: "way" }), "critical path"));
  $("legend").replaceChildren(...parts);
}

// The step at a place of the screen.
function stepAt(event) {
  const box = $("canvas").getBoundingClientRect();
  const x = (event.clientX - box.left - view.x) / view.k;
  const y = (event.clientY - box.top - view.y) / view.k;
  const slack = 3 / view.k;
  return graph.steps.findIndex(({ at }) => x >= at[0] - slack && x <= at[0] + BOX[0] + slack
    && y >= at[1] - slack && y <= at[1] + BOX[1] + slack);
}

function listen() {
  const canvas = $("canvas");
  const fingers = new Map();
  let moved = 0;
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, event);
    if (fingers.size === 1) moved = 0;
    $("tip").hidden = true;
  });
  canvas.addEventListener("pointermove", (event) => {
    const before = fingers.get(event.pointerId);
    if (!before) return hover(event);
    if (fingers.size === 2) {
      const other = [...fingers.values()].find((finger) => finger.pointerId !== event.pointerId);
      const apart = (one) => Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY);
      const box = canvas.getBoundingClientRect();
      zoom(apart(event) / Math.max(apart(before), 1),
        (event.clientX + other.clientX) / 2 - box.left, (event.clientY + other.clientY) / 2 - box.top);
      moved = 99;
    } else {
      const [dx, dy] = [event.clientX - before.clientX, event.clientY - before.clientY];
      moved += Math.abs(dx) + Math.abs(dy);
      view.x += dx;
      view.y += dy;
      if (moved > 4) canvas.classList.add("drag");
      soon();
    }
    fingers.set(event.pointerId, event);
  });
  const up = (event) => {
    fingers.delete(event.pointerId);
    canvas.classList.remove("drag");
    if (event.type === "pointerup" && moved <= 4 && fingers.size === 0) {
      const index = stepAt(event);
      choose(index < 0 ? null : index);
    }
  };
  canvas.addEventListener("pointerup", up);
  canvas.addEventListener("pointercancel", up);
  canvas.addEventListener("pointerleave", () => { $("tip").hidden = true; });
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    const box = canvas.getBoundingClientRect();
    const turn = event.deltaMode === 1 ? event.deltaY * 30 : event.deltaY;
    zoom(Math.exp(-turn / (event.ctrlKey ? 100 : 500)), event.clientX - box.left, event.clientY - box.top);
  }, { passive: false });
  canvas.addEventListener("keydown", walk);
  const middle = (factor) => () => zoom(factor, pane()[0] / 2, pane()[1] / 2);
  $("larger").addEventListener("click", middle(1.4));
  $("smaller").addEventListener("click", middle(1 / 1.4));
  $("whole").addEventListener("click", whole);
}

let waiting = false;
function soon() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => { waiting = false; render(); });
}

function hover(event) {
  const index = stepAt(event);
  tell(index < 0 ? null : graph.steps[index], event, $("canvas").getBoundingClientRect());
}
function tell(step, event, box) {
  const tip = $("tip");
  tip.hidden = step === null;
  if (step === null) return;
  const took = ran(step) ? `, ${duration(step.time)}` : "";
  tip.textContent = `${step.name}\n${WORDS[step.state]}${took}`;
  tip.style.whiteSpace = "pre-line";
  const [x, y] = [event.clientX - box.left, event.clientY - box.top];
  tip.style.left = `${Math.max(Math.min(x + 14, box.width - 350), 4)}px`;
  tip.style.top = `${y + 18}px`;
}

// Arrows lead along edges.
function walk(event) {
  const step = chosen === null ? null : graph.steps[chosen];
  const back = graph.sideways ? "ArrowLeft" : "ArrowUp";
  const on = graph.sideways ? "ArrowRight" : "ArrowDown";
  let next;
  if (event.key === back || event.key === on) {
    if (!step) next = event.key === on ? 0 : graph.steps.length - 1;
    else next = event.key === back ? (step.edges || []).at(-1) : graph.readers[chosen][0];
  } else if (event.key === "+") return zoom(1.3, pane()[0] / 2, pane()[1] / 2);
  else if (event.key === "-") return zoom(1 / 1.3, pane()[0] / 2, pane()[1] / 2);
  else if (event.key === "0") return whole();
  else return;
  event.preventDefault();
  if (next !== undefined) choose(next);
}
