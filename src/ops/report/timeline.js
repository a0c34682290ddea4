// The timeline: a row for each job, the critical path, and what more jobs would have saved.

const LANE = 26;
const AXIS = 26;
const NAMES = 76;
const span = { from: 0, to: 1 };

const timelineView = {
  id: "timeline",
  show() {
    if (!$("times").firstChild) timeline();
  },
  reset() {
    $("times").replaceChildren();
  },
  chosen() {
    if ($("rows")) rows();
  },
  found() {
    if ($("rows")) rows();
  },
  resized() {
    if ($("rows")) rows();
  },
};
views.push(timelineView);

function timeline() {
  const times = $("times");
  if (!graph.lanes.length) {
    times.append(make("p", { class: "note" }, graph.steps.some(ran)
      ? "The record of this build has no times of its steps: an earlier vmfab made it."
      : "No step ran."));
    return;
  }
  [span.from, span.to] = [graph.start, Math.max(graph.end, graph.start + 1)];
  const chart = draw("svg", { id: "rows", class: "rows", role: "img", "aria-label": "When each step ran" });
  const reset = () => { [span.from, span.to] = [graph.start, graph.end]; rows(); };
  times.append(make("div", { class: "card" },
    make("div", { class: "pane" }, chart),
    make("p", { class: "quiet wide" }, "Drag or turn the wheel to zoom. ",
      make("button", { class: "link", type: "button", on: { click: reset } }, "Show all"))));
  rows();
  chart.addEventListener("wheel", (event) => {
    if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) return;
    event.preventDefault();
    const at = timeAt(event);
    const factor = Math.exp(event.deltaY / 500);
    span.from = Math.max(at - (at - span.from) * factor, graph.start);
    span.to = Math.min(at + (span.to - at) * factor, graph.end);
    if (span.to - span.from < 5) span.to = span.from + 5;
    rows();
  }, { passive: false });
  let down = null;
  chart.addEventListener("pointerdown", (event) => { down = [timeAt(event), event.clientX]; });
  chart.addEventListener("pointerup", (event) => {
    if (!down) return;
    const [time, x] = down;
    down = null;
    if (Math.abs(event.clientX - x) > 12 && event.pointerType === "mouse") {
      [span.from, span.to] = [time, timeAt(event)].sort((a, b) => a - b);
      rows();
    } else {
      const index = barAt(event);
      choose(index < 0 ? null : index);
    }
  });
  saved(times);
  critical(times);
}

function timeAt(event) {
  const box = $("rows").getBoundingClientRect();
  const part = Math.min(Math.max((event.clientX - box.left - NAMES) / (box.width - NAMES - 8), 0), 1);
  return span.from + part * (span.to - span.from);
}

function barAt(event) {
  const box = $("rows").getBoundingClientRect();
  const lane = Math.floor((event.clientY - box.top - AXIS) / LANE);
  const time = timeAt(event);
  const slack = ((span.to - span.from) / Math.max(box.width, 1)) * 3;
  let best = [-1, Infinity];
  graph.steps.forEach((step, index) => {
    if (step.lane !== lane) return;
    const off = Math.max(step.start - time, time - step.start - step.time, 0);
    if (off <= slack && off < best[1]) best = [index, off];
  });
  return best[0];
}

// Round numbers for an axis.
function ticks(from, to, most) {
  const raw = (to - from) / most;
  const unit = 10 ** Math.floor(Math.log10(Math.max(raw, 1)));
  let step = [1, 2, 5, 10].map((factor) => factor * unit).find((one) => one >= raw) || unit;
  if (step >= 60000) step = Math.ceil(step / 60000) * 60000;
  const found = [];
  for (let at = Math.ceil(from / step) * step; at <= to; at += step) found.push(at);
  return found;
}

function rows() {
  const chart = $("rows");
  const width = Math.max(chart.parentNode.clientWidth || 900, 280);
  const height = AXIS + graph.lanes.length * LANE + 4;
  chart.setAttribute("width", width);
  chart.setAttribute("height", height);
  chart.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const scale = (width - NAMES - 8) / (span.to - span.from);
  const place = (time) => NAMES + (Math.min(Math.max(time, span.from), span.to) - span.from) * scale;
  const parts = [];
  graph.lanes.forEach((name, lane) => {
    const y = AXIS + lane * LANE;
    parts.push(draw("rect", { class: "lane", x: NAMES, y: y + 1, width: width - NAMES - 8, height: LANE - 2, rx: 4 }));
    parts.push(draw("text", { class: "axis", x: 0, y: y + 17 }, name));
  });
  for (const at of ticks(span.from - graph.start, span.to - graph.start, width / 90)) {
    const x = place(at + graph.start);
    parts.push(draw("line", { class: "grid", x1: x, x2: x, y1: AXIS - 6, y2: height }));
    if (x < width - 44) parts.push(draw("text", { class: "axis", x: x + 3, y: 13 }, at ? duration(at).replace(".0", "") : "0"));
  }
  const paths = new Map();
  const add = (key, d) => paths.set(key, (paths.get(key) || "") + d);
  const labels = [];
  graph.steps.forEach((step, index) => {
    if (step.lane === undefined || step.start > span.to || step.start + step.time < span.from) return;
    const y = AXIS + step.lane * LANE + 4;
    const [x1, x2] = [place(step.start), place(step.start + step.time)];
    const wide = Math.max(x2 - x1 - (x2 - x1 > 4 ? 1 : 0), 0.8);
    const dim = found !== null && !found.has(index) ? " dim" : "";
    add(`f-${step.state}${dim}`, `M${x1.toFixed(1)} ${y}h${wide.toFixed(1)}v18h-${wide.toFixed(1)}z`);
    if (graph.onWay.has(index)) add("mark", `M${x1.toFixed(1)} ${y + 18}h${wide.toFixed(1)}v4h-${wide.toFixed(1)}z`);
    if (step.queued !== undefined && step.start > step.queued) {
      const from = place(step.queued);
      add("wait", `M${from.toFixed(1)} ${y + 7}h${(x1 - from).toFixed(1)}v4h-${(x1 - from).toFixed(1)}z`);
    }
    const letters = Math.floor((wide - 8) / 6.2);
    if (letters > 4) {
      const name = step.name.length > letters ? `${step.name.slice(0, letters - 1)}…` : step.name;
      labels.push(draw("text", { class: `on${dim}`, x: x1 + 4, y: y + 13 }, name));
    }
    if (index === chosen) {
      labels.push(draw("rect", { class: "chosen", x: x1 - 2, y: y - 2, width: wide + 4, height: 24, rx: 3 }));
    }
  });
  for (const [key, d] of paths) parts.push(draw("path", { class: key, d }));
  chart.replaceChildren(...parts, ...labels);
}

function saved(times) {
  if (!graph.what_if.length) return;
  const now = graph.what_if.find((one) => one.jobs === graph.jobs);
  const most = Math.max(...graph.what_if.map((one) => one.time));
  const body = make("tbody", {});
  for (const one of graph.what_if) {
    const less = now ? now.time - one.time : 0;
    const name = one.jobs === null ? "as many as there is work" : count(one.jobs, "job");
    const change = one === now ? "as this build"
      : less > 0 ? `${duration(less)} less` : less < 0 ? `${duration(-less)} more` : "the same";
    const bar = make("div", { class: `bar${one === now ? "" : " other"}` });
    bar.style.width = `${(100 * one.time) / most}%`;
    body.append(make("tr", {}, make("td", {}, name), make("td", { class: "number" }, duration(one.time)),
      make("td", {}, change), make("td", { class: "wide" }, bar)));
    bar.parentNode.style.width = "45%";
  }
  times.append(make("div", { class: "card", id: "saved" },
    make("h3", {}, "With other numbers of jobs"),
    make("p", { class: "note" }, verdict(now)),
    make("table", {}, body)));
}

function verdict(now) {
  const least = graph.what_if.at(-1).time;
  if (!now || now.time - least < Math.max(now.time * 0.03, 1)) {
    return "More jobs would have saved nothing: the critical path takes all of the time.";
  }
  const enough = graph.what_if.find((one) => one.jobs !== null && one.time - least < (now.time - least) * 0.1);
  const how = enough ? `${count(enough.jobs, "job")} would have saved ${duration(now.time - enough.time)}`
    : `more jobs could have saved up to ${duration(now.time - least)}`;
  return `If every step took as long as here, ${how}. No number of jobs is faster than the critical path.`;
}

function critical(times) {
  if (!graph.critical.length) return;
  const shown = [...graph.critical].sort((a, b) => graph.steps[b].time - graph.steps[a].time).slice(0, 30);
  const body = make("tbody", {});
  for (const index of shown) {
    const { time } = graph.steps[index];
    const bar = make("div", { class: "bar way" });
    bar.style.width = `${(100 * time) / graph.critical_time}%`;
    const cell = make("td", { class: "wide" }, bar);
    cell.style.width = "30%";
    body.append(make("tr", {}, make("td", { class: "name" }, link(index)),
      make("td", { class: "number" }, duration(time)),
      make("td", { class: "number" }, percent(time, graph.critical_time)), cell));
  }
  times.append(make("div", { class: "card" },
    make("h3", {}, `Critical path: ${count(graph.critical.length, "step")}, ${duration(graph.critical_time)}`),
    make("p", { class: "note" }, "The longest chain of steps that wait for each other. To build faster, "
      + "make these steps faster, or let them read less. The slowest come first."),
    make("table", {}, body)));
}
