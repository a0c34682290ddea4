// Lists: why each step ran, and what checks said.

const PAGE = 150;

const whyView = {
  id: "why",
  show() {
    if (!$("reasons").firstChild) why(PAGE);
  },
  reset() {
    $("reasons").replaceChildren();
  },
  found() {
    if ($("reasons").firstChild) why(PAGE);
  },
};
const checksView = {
  id: "checks",
  show() {
    if (!$("checked").firstChild) checks();
  },
  reset() {
    $("checked").replaceChildren();
  },
};
views.push(whyView, checksView);

function why(most) {
  const place = $("reasons");
  const all = graph.steps.map((step, index) => index)
    .filter((index) => ["built", "failed", "stopped", "running"].includes(graph.steps[index].state));
  const wanted = found === null ? all : all.filter((index) => found.has(index));
  const rest = graph.steps.length - all.length;
  const text = all.length === 0 ? "No step ran: the result of each was known."
    : `${count(all.length, "step")} ran. ${rest ? `${count(rest, "step")} did not have to, or were not tried. ` : ""}`
      + "vmfab compares each step with the last build of the image on its host.";
  const grid = make("div", { class: "why" });
  for (const index of wanted.slice(0, most)) {
    const step = graph.steps[index];
    grid.append(badge(step.state), link(index), make("span", { class: "number quiet" }, ran(step) ? duration(step.time) : ""));
    const texts = reasons(step);
    grid.append(make("ul", {}, (texts.length ? texts : ["the record does not say"]).map((one) => make("li", {}, one))));
  }
  const card = make("div", { class: "card" }, grid);
  if (wanted.length > most) {
    const more = () => why(most + 4 * PAGE);
    card.append(make("button", { class: "more", type: "button", on: { click: more } },
      `Show more of ${wanted.length.toLocaleString("en")}`));
  }
  place.replaceChildren(make("p", { class: "note" }, text));
  if (wanted.length) place.append(card);
  else if (all.length) place.append(make("p", { class: "note" }, "None of them matches the search."));
}

function checks() {
  const place = $("checked");
  const all = graph.steps.map((step, index) => index).filter((index) => graph.steps[index].check);
  if (!all.length) {
    place.append(make("p", { class: "note" }, "This build has no checks. A recipe gets one with ",
      make("code", {}, "check \"COMMAND\""), "."));
  }
  const cards = all.slice(0, 500).map((index) => {
    const step = graph.steps[index];
    const printed = step.log ? output(step.log) : [make("p", { class: "quiet" }, "It printed nothing, or its output is gone.")];
    return make("div", { class: "card" }, make("div", { class: "headline" }, badge(step.state), link(index),
      make("span", { class: "quiet" }, ran(step) ? duration(step.time) : "")), ...printed);
  });
  place.append(...cards);
}
