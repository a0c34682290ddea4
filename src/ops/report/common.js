// What all views share: the data, elements, words, and which step is chosen.

const report = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";

// An element with attributes and children. Texts become text nodes: markup in them does nothing.
function make(name, attributes, ...children) {
  const element = document.createElement(name);
  return fill(element, attributes, children);
}
function draw(name, attributes, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}
function fill(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes || {})) {
    if (value === undefined || value === null || value === false) continue;
    if (key === "on") {
      for (const [event, action] of Object.entries(value)) element.addEventListener(event, action);
    } else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

const STATES = ["built", "failed", "stopped", "running", "remote", "cached", "skipped", "pending"];
const WORDS = {
  built: "built", cached: "cached", remote: "from a cache", failed: "failed",
  skipped: "not tried", stopped: "stopped", running: "running", pending: "not begun",
};

// 12 ms, 7.1 s, 2 min 5 s.
function duration(ms) {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 99950) return `${(ms / 1000).toFixed(1)} s`;
  const whole = Math.round(ms / 1000);
  const [hours, minutes, seconds] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  return hours ? `${hours} h ${minutes} min` : `${minutes} min ${seconds} s`;
}
function size(bytes) {
  if (bytes < 1024) return `${bytes} B`;
  let [value, unit] = [bytes / 1024, 0];
  while (value >= 1023.5 && unit < 4) [value, unit] = [value / 1024, unit + 1];
  return `${value.toFixed(value < 9.95 ? 1 : 0)} ${["KiB", "MiB", "GiB", "TiB", "PiB"][unit]}`;
}
function count(number, noun) {
  return `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;
}
function percent(part, whole) {
  return whole ? `${Math.round((100 * part) / whole)} %` : "";
}

// The graph that is shown, its steps with their readers, and the steps that a search found.
let graph = null;
const nothing = {
  image: "", start: 0, end: 0, width: 1, height: 1, steps: [], critical: [], lanes: [], what_if: [],
  parts: [], packages: [], counts: {},
};
let chosen = null;
let found = null;
const views = [];

function prepare(next) {
  graph = next;
  graph.onWay = new Set(graph.critical);
  graph.readers = graph.steps.map(() => []);
  graph.steps.forEach((step, index) => {
    step.inputs = [];
    for (const [first, last] of step.reads || []) {
      for (let input = first; input <= last; input++) step.inputs.push(input);
    }
    for (const input of step.edges || []) graph.readers[input].push(index);
    step.text = `${step.name}\n${step.builder || ""}\n${step.key || ""}`.toLowerCase();
    for (const [name, text] of step.params || []) {
      if (name === "command" || name === "path") step.text += `\n${text.toLowerCase()}`;
    }
  });
}

function ran(step) {
  return step.time !== undefined;
}

// A name that can be clicked.
function link(index) {
  const open = () => choose(index);
  return make("button", { type: "button", class: "link", "data-step": index, on: { click: open } },
    graph.steps[index].name);
}
function badge(state) {
  return make("span", { class: `badge s-${state}` }, WORDS[state] || state);
}

function choose(index, move) {
  chosen = index;
  details();
  for (const view of views) if (view.chosen) view.chosen(move);
}

function details() {
  const panel = $("details");
  panel.replaceChildren();
  panel.hidden = chosen === null;
  if (chosen === null) return;
  const step = graph.steps[chosen];
  const facts = make("dl", {});
  const fact = (name, value) => {
    if (value) facts.append(make("dt", {}, name), make("dd", {}, value));
  };
  fact("Step", `${chosen + 1} of ${graph.steps.length}`);
  fact("Kind", step.builder);
  if (ran(step)) fact("Time", duration(step.time) + (graph.onWay.has(chosen) ? ", on the critical path" : ""));
  if (step.start !== undefined) fact("Began", `after ${duration(step.start - graph.start)}`);
  if (step.queued !== undefined && step.start > step.queued + 50) {
    fact("Waited", `${duration(step.start - step.queued)} for other steps of this home`);
  }
  fact("From", step.from);
  if (step.key) fact("Key", make("code", {}, step.key));
  const close = () => choose(null);
  panel.append(
    make("button", { class: "close", type: "button", "aria-label": "Close", on: { click: close } }, "×"),
    badge(step.state), make("h2", {}, step.name), facts);
  part(panel, ran(step) ? "Why it ran" : "Why it did not run", reasons(step));
  for (const [name, text] of step.params || []) {
    if (text.length > 40 || text.includes("\n") || name === "command") {
      panel.append(make("h3", {}, name), make("pre", {}, text));
    } else fact(name, text);
  }
  if (step.log) panel.append(make("h3", {}, "Output"), ...output(step.log));
  list(panel, "Reads", step.inputs);
  list(panel, "Read by", graph.readers[chosen]);
  part(panel, "Made", (step.outputs || []).map(([name, bytes]) => `${name}, ${size(bytes)}`));
  panel.scrollTop = 0;
}
function part(panel, title, texts) {
  if (!texts.length) return;
  panel.append(make("h3", {}, title), make("ul", {}, texts.map((text) => make("li", {}, text))));
}
function list(panel, title, steps) {
  const shown = steps.slice(-40);
  part(panel, `${title} ${steps.length > 1 ? count(steps.length, "step") : ""}`, shown.map(link));
}
function reasons(step) {
  if (step.reasons) return step.reasons;
  const known = {
    cached: ["its result was in the store"],
    remote: [step.from ? `${step.from} has its result` : "a cache has its result"],
    skipped: ["a step that it reads failed, or the build ended before"],
    stopped: ["the build ended while it ran"],
    pending: ["its turn has not come"],
  };
  return known[step.state] || [];
}
function output(log) {
  const notes = [];
  if (log.earlier) notes.push("From the build that ran it.");
  if (log.omitted) notes.push(`${count(log.omitted, "line")} before it left out.`);
  if (log.file && log.omitted) notes.push(`All of it: ${log.file}`);
  const shown = notes.length ? [make("p", { class: "quiet" }, notes.join(" "))] : [];
  return log.text ? [...shown, make("pre", {}, log.text)] : shown;
}
