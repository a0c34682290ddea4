// Sizes: what an image consists of, as areas, and what it takes in the store and on the wire.

const COLOURS = ["#2f6fbe", "#2a8a5b", "#a8641b", "#8250b8", "#b5435f", "#287f8f", "#7a7a22", "#5b6bb0"];
let by = "layers";

const sizesView = {
  id: "sizes",
  show() {
    if (!$("space").firstChild) space();
  },
  reset() {
    $("space").replaceChildren();
    by = "layers";
  },
  resized() {
    if ($("map")) map();
  },
  // The panel beside it takes room, or gives it back.
  chosen() {
    if ($("map")) map();
  },
};
views.push(sizesView);

function space() {
  const place = $("space");
  if (!graph.parts.length && !graph.packages.length) {
    place.append(make("p", { class: "note" }, "The record knows of no image: the build did not come so "
      + "far, or it was for something else."));
    return;
  }
  totals(place);
  const card = make("div", { class: "card" });
  if (graph.packages.length) {
    const choice = (name, text) => make("button", {
      type: "button", "aria-pressed": String(by === name), "data-by": name,
      on: { click: () => { by = name; place.replaceChildren(); space(); } },
    }, text);
    card.append(make("div", { class: "choice" }, choice("layers", "By layer"), choice("packages", "By package")));
  }
  card.append(make("div", { class: "pane" }, draw("svg", { id: "map", class: "map", role: "img", "aria-label": "Sizes as areas" }),
    make("div", { id: "maptip", class: "tip", hidden: true })));
  place.append(card);
  map();
  place.append(by === "packages" ? packages() : parts());
}

function totals(place) {
  const sum = (parts, field) => parts.reduce((all, part) => all + (part[field] || 0), 0);
  const layers = graph.parts.filter((part) => part.role === "layer");
  const disk = graph.parts.find((part) => part.role === "disk");
  const known = graph.parts.filter((part) => part.stored !== null);
  const stored = sum(known, "stored");
  const fresh = sum(known, "new");
  const tile = (value, name) => make("div", {}, make("b", {}, value), make("span", { class: "quiet" }, name));
  const tiles = make("div", { class: "totals" });
  if (layers.length) tiles.append(tile(size(sum(layers, "size")), count(layers.length, "layer")));
  if (disk) tiles.append(tile(size(disk.size), "disk, as the guest sees it"));
  if (known.length) {
    tiles.append(tile(size(stored), "stored, compressed"), tile(size(stored - fresh), "shared"),
      tile(size(fresh), "new on the wire"));
  }
  const note = known.length < graph.parts.length
    ? `${count(graph.parts.length - known.length, "part")} of the image is not in the store: `
      + "what it takes there is unknown." : "";
  place.append(make("div", { class: "card" }, tiles, make("p", { class: "note" },
    known.length ? "Shared: the image that was built before, or another part of this one, has the same "
      + "content. New: what someone who has that image downloads. " : "", note)));
}

function items() {
  if (by === "packages") {
    return graph.packages.flatMap(({ step, packages: all }, group) => all.map(([name, version, bytes]) =>
      ({ name, more: `${version}, ${graph.steps[step].name}`, bytes, step, group })));
  }
  return graph.parts.filter((part) => part.role !== "disk").map((part, group) => ({
    name: part.step === null ? part.role : graph.steps[part.step].name,
    more: part.role, bytes: part.size, step: part.step, group,
  }));
}

// Areas as square as they come (Bruls, Huizing and van Wijk 2000).
function squarify(all, x, y, width, height, put) {
  let rest = all.filter((item) => item.bytes > 0).sort((a, b) => b.bytes - a.bytes);
  let sum = rest.reduce((total, item) => total + item.bytes, 0);
  while (rest.length && width > 0 && height > 0) {
    const short = Math.min(width, height);
    const unit = (width * height) / sum;
    let [row, bytes, worst] = [[], 0, Infinity];
    for (const item of rest) {
      const next = bytes + item.bytes;
      const side = (next * unit) / short;
      const ratio = [row[0] || item, item].map((one) => {
        const other = (one.bytes * unit) / side;
        return Math.max(side / other, other / side);
      });
      const now = Math.max(...ratio);
      if (now > worst) break;
      [bytes, worst] = [next, now];
      row.push(item);
    }
    const side = (bytes * unit) / short;
    let at = 0;
    for (const item of row) {
      const length = (item.bytes * unit) / side;
      if (width >= height) put(item, x, y + at, side, length);
      else put(item, x + at, y, length, side);
      at += length;
    }
    if (width >= height) [x, width] = [x + side, width - side];
    else [y, height] = [y + side, height - side];
    rest = rest.slice(row.length);
    sum -= bytes;
  }
}

function map() {
  const svg = $("map");
  const width = Math.max(svg.parentNode.clientWidth || 900, 240);
  const height = Math.round(Math.min(Math.max(width * 0.5, 260), 460));
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("height", height);
  const shapes = [];
  squarify(items(), 0, 0, width, height, (item, x, y, wide, high) => {
    const tell = (event) => {
      const tip = $("maptip");
      tip.hidden = event.type === "pointerleave";
      tip.textContent = `${item.name}\n${item.more}, ${size(item.bytes)}`;
      tip.style.whiteSpace = "pre-line";
      tip.style.left = `${Math.min(x + wide / 2, width - 300)}px`;
      tip.style.top = `${Math.min(y + high / 2 + 12, height - 20)}px`;
    };
    const open = () => { if (item.step !== null) choose(item.step); };
    shapes.push(draw("rect", {
      x, y, width: wide, height: high, fill: COLOURS[item.group % COLOURS.length],
      on: { pointerenter: tell, pointerleave: tell, click: open },
    }, draw("title", {}, `${item.name}, ${size(item.bytes)}`)));
    const letters = Math.floor((wide - 12) / 6.8);
    if (letters >= 4 && high > 18) {
      const name = item.name.length > letters ? `${item.name.slice(0, letters - 1)}…` : item.name;
      shapes.push(draw("text", { x: x + 6, y: y + 16 }, name));
      if (high > 36 && letters >= 7) shapes.push(draw("text", { x: x + 6, y: y + 32 }, size(item.bytes)));
    }
  });
  svg.replaceChildren(...shapes);
}

function rowsOf(heads, lines) {
  const head = heads.map(([name, kind]) => make("th", { class: kind }, name));
  return make("div", { class: "card scroll" }, make("table", {},
    make("thead", {}, make("tr", {}, head)), make("tbody", {}, lines)));
}
const shownSize = (bytes) => make("td", { class: "number" }, bytes === null ? "?" : size(bytes));

function parts() {
  const lines = graph.parts.map((part) => make("tr", {},
    make("td", { class: "name" }, part.step === null ? "another build" : link(part.step)),
    make("td", { class: "wide" }, part.role), shownSize(part.size), shownSize(part.stored),
    shownSize(part.stored === null ? null : part.stored - part.new), shownSize(part.new)));
  return rowsOf([["Step"], ["Part", "wide"], ["Size", "number"], ["Stored", "number"],
    ["Shared", "number"], ["New", "number"]], lines);
}

function packages() {
  const all = items().sort((a, b) => b.bytes - a.bytes);
  const lines = all.slice(0, 300).map((item) => make("tr", {}, make("td", { class: "name" }, item.name),
    make("td", { class: "name quiet" }, item.more), shownSize(item.bytes)));
  const card = rowsOf([["Package"], ["Version and step"], ["File", "number"]], lines);
  const more = all.length > 300 ? `The 300 largest of ${all.length}. ` : "";
  card.prepend(make("p", { class: "note" }, `${more}Sizes are those of the package files: installed, `
    + "packages are larger."));
  return card;
}
