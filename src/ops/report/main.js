// The page around the views: headline, tabs, search, theme, print.

const TABS = ["graph", "timeline", "why", "sizes", "checks"];
let tab = "graph";

function headline() {
  const word = report.outcome;
  $("image").textContent = graph.image || "build";
  $("outcome").textContent = word;
  $("outcome").className = `badge s-${word}`;
  const started = new Date(report.started * 1000);
  const day = started.toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" });
  $("facts").textContent = `vmfab ${report.command} · build ${report.build} · ${day} · ${duration(report.seconds * 1000)}`;
  $("error").hidden = !report.error && !report.notes.length;
  $("error").textContent = [report.error, ...report.notes].filter(Boolean).join(" ");
  $("error").classList.toggle("quiet", !report.error);
  const { counts } = graph;
  const known = (counts.cached || 0) + (counts.remote || 0);
  const tried = known + (counts.built || 0) + (counts.failed || 0);
  const tiles = [
    [graph.steps.length, "steps"], [counts.built, "built"], [counts.cached, "cached"],
    [counts.remote, "from caches"], [counts.failed, "failed"], [counts.skipped, "not tried"],
    [percent(known, tried), "cache rate"],
    [graph.critical.length ? duration(graph.critical_time) : "", "critical path"],
  ];
  $("tiles").replaceChildren(...tiles.filter(([value]) => value).map(([value, name]) =>
    make("div", {}, make("b", {}, value.toLocaleString("en")), make("span", { class: "quiet" }, name))));
  const bars = STATES.map((state) => {
    const number = graph.steps.filter((step) => step.state === state).length;
    if (!number) return null;
    const bar = make("i", { class: `f-${state}`, title: `${number} ${WORDS[state]}` });
    bar.style.flexGrow = number;
    return bar;
  });
  $("share").replaceChildren(...bars.filter(Boolean));
  const checks = graph.steps.filter((step) => step.check).length;
  $("tab-checks").textContent = checks ? `Checks (${checks})` : "Checks";
}

function open(name) {
  tab = name;
  for (const one of TABS) {
    $(one).classList.toggle("on", one === name);
    $(`tab-${one}`).setAttribute("aria-selected", String(one === name));
    $(`tab-${one}`).tabIndex = one === name ? 0 : -1;
  }
  views.find((one) => one.id === name).show();
  try {
    history.replaceState(null, "", `#${name}`);
  } catch {
    // Some browsers keep the address of a local file as it is.
  }
}

function search() {
  const words = $("search").value.trim().toLowerCase().split(/\s+/).filter(Boolean);
  found = null;
  if (words.length) {
    found = new Set();
    graph.steps.forEach((step, index) => {
      if (words.every((word) => step.text.includes(word))) found.add(index);
    });
  }
  $("hits").textContent = found === null ? "" : found.size ? count(found.size, "hit") : "no hit";
  for (const one of views) if (one.found) one.found();
}

// The next step that was found.
function next(back) {
  if (!found || !found.size) return;
  const all = [...found];
  const at = all.indexOf(chosen);
  const to = back ? (at <= 0 ? all.length - 1 : at - 1) : (at + 1) % all.length;
  choose(all[to], true);
}

function theme() {
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const now = root.dataset.theme || (dark ? "dark" : "light");
  setTheme(now === "dark" ? "light" : "dark");
}
function setTheme(name) {
  document.documentElement.dataset.theme = name;
  try {
    localStorage.setItem("vmfab-theme", name);
  } catch {
    // It holds for this page only.
  }
}

// On paper all views follow each other, and the graph is drawn whole.
let before = null;
function paper() {
  before = { ...view };
  for (const one of views) one.show();
  const shape = (graph.height + 60) / Math.max(graph.width + 40, 1);
  const height = Math.min(Math.max(680 * shape, 200), 900);
  document.documentElement.style.setProperty("--print-height", `${height}px`);
  const svg = $("canvas");
  svg.setAttribute("viewBox", `-20 -20 ${graph.width + 40} ${graph.height + 40}`);
  Object.assign(view, { k: 1, x: 0, y: 0 });
  transform();
  const boxes = graph.steps.length <= MANY;
  if (boxes) nodes(graph.steps.map((step, index) => index));
  else blobs();
  $("nodes").setAttribute("display", boxes ? "inline" : "none");
  $("blobs").setAttribute("display", boxes ? "none" : "inline");
}
function screen() {
  if (!before) return;
  $("canvas").removeAttribute("viewBox");
  Object.assign(view, before);
  before = null;
  drawn = "";
  render();
}

function shortcuts(event) {
  const typing = ["INPUT", "SELECT", "TEXTAREA"].includes(event.target.tagName);
  if (event.key === "Escape") {
    if (typing) event.target.blur();
    if (typing && $("search").value) {
      $("search").value = "";
      search();
    } else choose(null);
  } else if (!typing && event.key === "/") {
    event.preventDefault();
    $("search").focus();
  } else if (!typing && event.key >= "1" && event.key <= "5" && !event.ctrlKey && !event.altKey && !event.metaKey) {
    open(TABS[event.key - 1]);
  }
}

function show(number) {
  prepare(report.graphs[number] || nothing);
  chosen = null;
  found = null;
  drawn = "";
  details();
  for (const one of views) one.reset();
  headline();
  open(tab);
  search();
}

function start() {
  try {
    const kept = localStorage.getItem("vmfab-theme");
    if (kept === "dark" || kept === "light") document.documentElement.dataset.theme = kept;
  } catch {
    // Then the system's theme holds.
  }
  report.graphs.forEach((one, number) => {
    $("graphs").append(make("option", { value: number }, one.image));
  });
  $("graphs").hidden = report.graphs.length < 2;
  $("graphs").addEventListener("change", (event) => show(Number(event.target.value)));
  for (const one of TABS) $(`tab-${one}`).addEventListener("click", () => open(one));
  document.querySelector("nav").addEventListener("keydown", (event) => {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!by) return;
    open(TABS[(TABS.indexOf(tab) + by + TABS.length) % TABS.length]);
    $(`tab-${tab}`).focus();
  });
  $("search").addEventListener("input", search);
  $("search").addEventListener("keydown", (event) => {
    if (event.key === "Enter") next(event.shiftKey);
  });
  $("theme").addEventListener("click", theme);
  $("print").addEventListener("click", () => window.print());
  addEventListener("beforeprint", paper);
  addEventListener("afterprint", screen);
  document.addEventListener("keydown", shortcuts);
  let size = innerWidth;
  addEventListener("resize", () => {
    if (innerWidth !== size && !before) for (const one of views) if (one.resized) one.resized();
    size = innerWidth;
  });
  listen();
  const wanted = location.hash.slice(1);
  if (TABS.includes(wanted)) tab = wanted;
  show(Math.max(report.graphs.length - 1, 0));
  $("graphs").value = String(Math.max(report.graphs.length - 1, 0));
}

start();
