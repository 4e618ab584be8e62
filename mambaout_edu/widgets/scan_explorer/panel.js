// One panel: an order on the picture, in layers, so that a frame redraws only what moves.
//   pixels   one canvas pixel a cell, stretched by the page: how much of each cell the state holds
//   route    the order as a line, drawn once
//   heads    where each path reads now, and its last steps
//   chosen   the chosen cell and its four neighbours
// Below: the sequence as a strip of pixel colours, the weights over it, the histogram.

const HEADS = ["#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7", "#ffffff"];  // Okabe-Ito
const TALLEST = 470, THINNEST = 48, ROUTE_FROM = 11, STEPS_BEHIND = 12;   // CSS pixels, but for the last
const STRIP = 26, STRIP_OF_MANY = 12, CURVE = 34;

/** A canvas of so many CSS pixels, sharp on dense screens; returns its context, cleared. */
function cleared(canvas, width, height) {
  const dense = Math.min(2, window.devicePixelRatio || 1), wide = Math.round(width * dense), high = Math.round(height * dense);
  if (canvas.width !== wide || canvas.height !== high) { canvas.width = wide; canvas.height = high; }
  const g = canvas.getContext("2d");
  g.setTransform(dense, 0, 0, dense, 0, 0);
  g.clearRect(0, 0, width, height);
  return g;
}

/** A line seen on any colour: dark below, light on top. */
function haloed(g, path, width) {
  g.lineJoin = g.lineCap = "round";
  for (const [colour, wide] of [["rgba(0,0,0,0.75)", width + 2.5], ["rgba(255,255,255,0.95)", width]]) {
    g.strokeStyle = colour;
    g.lineWidth = wide;
    g.stroke(path);
  }
}


/** The layers of a panel, laid over each other; `pixels` and `strip` have one canvas pixel a cell. */
function layers(kinds, attributes = {}) {
  const made = Object.fromEntries(kinds.map((kind) => [kind, make("canvas", { class: kind, "aria-hidden": "true" })]));
  return { ...made, node: make("div", { class: "stack", ...attributes }, Object.values(made)) };
}

/** The order as a thin line, where cells are large enough to follow it; a ring marks where it begins. */
function draw_route(canvas, order, view, box) {
  canvas.hidden = Math.min(box.x, box.y) < ROUTE_FROM || order.found.length > 2;   // an empty layer costs every frame
  if (canvas.hidden) return;
  const g = cleared(canvas, box.width, box.height);
  g.strokeStyle = "rgba(255,255,255,0.55)";
  g.lineWidth = 1.5;
  const path = order.found[0], line = new Path2D();
  for (const i of path) line.lineTo((i % view.width + 0.5) * box.x, (Math.floor(i / view.width) + 0.5) * box.y);
  g.stroke(line);
  g.beginPath();
  g.arc((path[0] % view.width + 0.5) * box.x, (Math.floor(path[0] / view.width) + 0.5) * box.y, 5, 0, 2 * Math.PI);
  g.stroke();
}

function draw_heads(canvas, order, view, box, step) {
  const g = cleared(canvas, box.width, box.height), many = order.found.length > 1;
  const middle = (i) => [(i % view.width + 0.5) * box.x, (Math.floor(i / view.width) + 0.5) * box.y];
  order.found.forEach((path, k) => {
    const end = Math.min(step, path.length - 1), line = new Path2D();
    for (let t = Math.max(0, end - STEPS_BEHIND); t <= end; t++) line.lineTo(...middle(path[t]));
    haloed(g, line, 2);
    const [x, y] = middle(path[end]), r = Math.max(many ? 10 : 7, Math.min(box.x, box.y) * 0.36);
    g.beginPath();
    g.arc(x, y, r, 0, 2 * Math.PI);
    g.fillStyle = HEADS[k % HEADS.length];
    g.fill();
    g.lineWidth = 5;
    g.strokeStyle = "#000000";
    g.stroke();
    g.lineWidth = 2.5;
    g.strokeStyle = "#ffffff";
    g.stroke();
    if (many) label(g, String(k + 1), x, y, "#000000", HEADS[k % HEADS.length]);
  });
}

function label(g, text, x, y, ink, halo) {
  g.font = "bold 14px system-ui, sans-serif";
  g.textAlign = "center";
  g.textBaseline = "middle";
  g.lineWidth = 3;
  g.strokeStyle = halo;
  g.strokeText(text, x, y);
  g.fillStyle = ink;
  g.fillText(text, x, y);
}

/** The chosen cell in a frame, and at each side how many steps away the neighbour is: dashed beyond the half-life. */
function draw_chosen(canvas, model, order, view, box, i) {
  canvas.hidden = i < 0;
  if (canvas.hidden) return;
  const g = cleared(canvas, box.width, box.height);
  const x = (i % view.width) * box.x, y = Math.floor(i / view.width) * box.y;
  const square = new Path2D();
  square.rect(x - 1, y - 1, box.x + 2, box.y + 2);
  haloed(g, square, 2.5);
  steps_apart(order, view, i).forEach((d, side) => {
    if (d === undefined) return;
    const text = Number.isFinite(d) ? String(d) : say(model, "endless"), [down, right] = SIDE_SHIFT[side];
    g.font = "bold 16px system-ui, sans-serif";
    const wide = g.measureText(text).width + 14, high = 25;
    const at_x = clamp(x + box.x / 2 + right * Math.max(box.x, (box.x + wide) / 2 + 7), wide / 2 + 2, box.width - wide / 2 - 2);
    const at_y = clamp(y + box.y / 2 + down * Math.max(box.y, (box.y + high) / 2 + 7), high / 2 + 2, box.height - high / 2 - 2);
    g.beginPath();
    g.roundRect(at_x - wide / 2, at_y - high / 2, wide, high, 6);
    g.fillStyle = "#ffffff";
    g.fill();
    g.lineWidth = 3;
    g.setLineDash(d > view.half_life ? [5, 4] : []);
    g.strokeStyle = d > view.half_life ? "#d55e00" : "#009e73";
    g.stroke();
    g.setLineDash([]);
    g.fillStyle = "#111111";
    g.textAlign = "center";
    g.textBaseline = "middle";
    g.fillText(text, at_x, at_y + 1);
  });
}

/** Weight against step, the newest at the head; cost grows with the width of the canvas, not with the sequence. */
function draw_weights(canvas, order, view, box, step) {
  const g = cleared(canvas, box.strip, CURVE), unit = box.strip / order.longest, end = Math.min(step, order.longest - 1);
  g.fillStyle = view.ink;
  for (let x = 0; x < box.strip; x++) {
    const age = end - Math.floor((x + 0.5) / unit);
    if (age < 0) break;
    const tall = view.fade[age] / 256 * (CURVE - 3);
    if (tall > 0.3) g.fillRect(x, CURVE - tall, 1, tall);
  }
  g.fillRect(Math.min(box.strip - 2, (end + 0.5) * unit - 1), 0, 2, CURVE);
}

/** Where the chosen cell and its neighbours stand in the sequence: a bar, and thin ones. */
function draw_places(canvas, order, view, box, i) {
  canvas.hidden = i < 0;
  if (canvas.hidden) return;
  const high = box.strip_height, g = cleared(canvas, box.strip, high), rows = order.found.length;
  order.places.forEach((at, k) => {
    const top = (k * high) / rows, tall = high / rows;
    [...neighbours(i, view.height, view.width), i].forEach((j, side) => {
      if (j < 0 || at[j] < 0) return;
      const x = ((at[j] + 0.5) / order.longest) * box.strip, wide = side === 4 ? 5 : 3;
      g.fillStyle = "#000000";
      g.fillRect(x - wide / 2 - 1.5, top, wide + 3, tall);
      g.fillStyle = side === 4 ? "#ffffff" : "#f0e442";
      g.fillRect(x - wide / 2, top, wide, tall);
    });
  });
}

/** One panel's elements, and what redraws each of them. `act` has jump(which, cell), choose(cell), keys(which, event). */
function make_panel(model, root, which, act) {
  const select = make("select", { "data-testid": "order-" + which }, order_choices(model)), name = make("span", { class: "name" });
  const grid = layers(["pixels", "route", "heads", "chosen"], { role: "application", tabindex: 0, "aria-roledescription": say(model, "grid_role"), "data-testid": "grid-" + which });
  const strip = layers(["strip", "places"]), curve = layers(["weights"]);
  const chart = draw("svg", { viewBox: `0 0 ${PLOT.width} ${PLOT.height}`, role: "img" });
  const texts = Object.fromEntries(["reading", "chosen", "measures", "note"].map((kind) => [kind, make("p", { class: kind, "data-testid": `${kind}-${which}` })]));
  const caption = (key) => make("div", { class: "caption" }, say(model, key));
  const node = make("div", { class: "panel" }, make("label", { class: "order" }, name, " ", select), grid.node, texts.reading, texts.chosen,
    caption("strip"), strip.node, caption("weight"), curve.node, caption("histogram"), chart, texts.measures, texts.note);
  let order, view, box, image, sequence, grown = -1, step = 0, chosen = -1;

  const cell_at = (event) => {
    const rect = grid.node.getBoundingClientRect();
    const c = clamp(Math.floor((event.clientX - rect.left) / rect.width * view.width), 0, view.width - 1);
    return clamp(Math.floor((event.clientY - rect.top) / rect.height * view.height), 0, view.height - 1) * view.width + c;
  };
  root.listen(select, "change", () => act.order(which, select.value));
  root.listen(grid.node, "pointermove", (event) => act.choose(cell_at(event)));
  root.listen(grid.node, "pointerdown", (event) => { act.choose(cell_at(event)); act.jump(which, cell_at(event)); });
  root.listen(grid.node, "keydown", (event) => act.keys(which, event));

  /** The sequence's colours up to `step`; only what is new since the last time. */
  function grow(g) {
    const from = Math.min(grown, step) + 1, to = Math.max(grown, step);
    if (to < from) return;
    order.found.forEach((path, k) => {
      for (let t = from; t <= Math.min(to, path.length - 1); t++) sequence[k * order.longest + t] = t <= step ? order.full[path[t]] : view.blank;
    });
    g.putImageData(strip.data, 0, 0, from, 0, to - from + 1, order.found.length);
    grown = step;
  }

  function start_over() {
    for (const [canvas, wide, high] of [[grid.pixels, view.width, view.height], [strip.strip, order.longest, order.found.length]]) {
      canvas.width = wide;
      canvas.height = high;
    }
    grid.data = new ImageData(view.width, view.height);
    image = new Uint32Array(grid.data.data.buffer);
    strip.data = new ImageData(order.longest, order.found.length);
    sequence = new Uint32Array(strip.data.data.buffer).fill(view.blank);
    strip.strip.getContext("2d").putImageData(strip.data, 0, 0);
    grown = -1;
  }

  function measure() {
    const room = node.clientWidth || TALLEST, side = Math.min(room / view.width, TALLEST / view.height);
    const wide = clamp(side * view.width, THINNEST, room), high = clamp(side * view.height, THINNEST, TALLEST);
    const strip_height = order.found.length > 1 ? STRIP_OF_MANY * order.found.length : STRIP;
    box = { width: wide, height: high, x: wide / view.width, y: high / view.height, strip: room, strip_height };
    for (const [stack, w, h] of [[grid, wide, high], [strip, room, strip_height], [curve, room, CURVE]]) Object.assign(stack.node.style, { width: w + "px", height: h + "px" });
  }

  return {
    node, select, name, grid: grid.node,
    order: () => order,
    /** Take another order or another view: everything is made anew. */
    reset(next_name, next_view) {
      [order, view] = [prepared(next_name, next_view), next_view];
      select.value = next_name;
      start_over();
      grid.node.setAttribute("aria-label", say(model, "grid", { order: model.get("strings").names[next_name], rows: view.height, columns: view.width }));
      box = null;
      this.resize();
    },
    /** Follow the room that the page gives; the texts' height changes without it. */
    resize() {
      if (box?.strip === (node.clientWidth || TALLEST)) return;
      measure();
      draw_route(grid.route, order, view, box);
      this.refade(view);
      this.choose(chosen);
    },
    /** Take another decay. */
    refade(next_view) {
      view = next_view;
      histogram(model, chart, order, view);
      const { distances } = order.measures, known = distances.length > 0 && Number.isFinite(distances[0]);
      const beyond = distances.reduce((n, d) => n + (d > view.half_life ? 1 : 0), 0) / Math.max(1, distances.length);
      const told = measures_in_words(model, order.measures).filter(([, value]) => value !== say(model, "endless"));
      texts.measures.replaceChildren(...told.map(([key, value]) => make("span", {}, key + " ", make("b", {}, value))));
      texts.note.textContent = known ? say(model, "beyond", { share: percent(beyond) }) + (order.found.length > 1 ? " " + say(model, "nearest") : "") : "";
      this.step(step, true);
    },
    step(next, speak) {
      step = next;
      paint(image, order, view, step);
      grid.pixels.getContext("2d").putImageData(grid.data, 0, 0);
      grow(strip.strip.getContext("2d"));
      draw_heads(grid.heads, order, view, box, step);
      draw_weights(curve.weights, order, view, box, step);
      if (speak) texts.reading.textContent = reading(model, order, view, step);
    },
    choose(i) {
      chosen = i;
      draw_chosen(grid.chosen, model, order, view, box, i);
      draw_places(strip.places, order, view, box, i);
      texts.chosen.textContent = i < 0 ? say(model, "not_chosen") : in_words(model, order, view, i);
    },
  };
}

function order_choices(model) {
  const names = model.get("strings").names, entry = (name) => make("option", { value: name }, names[name]);
  return [make("optgroup", { label: say(model, "one_path") }, Object.keys(ORDERS).filter((name) => !(name in PATHS)).map(entry)),
    make("optgroup", { label: say(model, "several_paths") }, Object.keys(PATHS).map(entry))];
}
