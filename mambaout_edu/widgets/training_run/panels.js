// The picture: panels over one axis of steps or epochs, in SVG, so that it stays sharp on a wall.

const W = 1040, LEFT = 92, RIGHT = 24, FOOT = 36, GAP = 20;
const DASHES = ["", "14 5", "3 5", "12 4 3 4", "8 8", "1 6"];
// A kind of event is told by its shape as well as by its word.
const GLYPHS = {
  resumed: "M-5,-7 L8,0 L-5,7 Z", stopped: "M-6,-6 H6 V6 H-6 Z", bad_image: "M-6,-6 L6,6 M6,-6 L-6,6", finished: "M-7,0 L-2,6 L8,-6",
  nan: "M0,-8 L8,6 L-8,6 Z M0,-3 V2", torn_checkpoint: "M-8,4 L-3,-5 L3,5 L8,-4", other: "M0,-6 L6,0 L0,6 L-6,0 Z",
};
const glyph_of = (what) => (what in GLYPHS ? what : "other");
const SHAPES = ["M0,-6 l6,6 l-6,6 l-6,-6 z", "M-5,-5 h10 v10 h-10 z", "M0,-6 l6,11 h-12 z", "M-5,0 a5,5 0 1,0 10,0 a5,5 0 1,0 -10,0 z"];

const colour_class = (run) => `run-${run.index % 6}`;
const rule = (x1, y1, x2, y2, kind) => draw("line", { x1, y1, x2, y2, class: kind });
const label = (x, y, text, anchor = "end", kind = "") => draw("text", { x, y, "text-anchor": anchor, class: kind }, text);

/** Which panels there are and where they stand: loss, accuracy if measured, and a row of small ones. */
function layout(model, runs) {
  const wide = { left: LEFT, width: W - LEFT - RIGHT }, drawn = runs.filter((run) => run.shown);
  const list = (...names) => drawn.flatMap((run) => names.map((name) => run.curve[name]));
  const panels = [{ ...wide, name: "loss", top: 62, height: 250,
    y: axis_of(list("loss_low", "loss_high"), { log: model.get("log_scale"), wanted: 5 }) }];
  const below = (panel) => panel.top + panel.height + FOOT + 60;
  if (drawn.some((run) => run.evals.length)) {
    const low = 100 * Math.min(...drawn.flatMap((run) => run.evals.map((line) => line.low)));
    panels.push({ ...wide, name: "accuracy", top: below(panels[0]), height: 150, y: axis_of([], { low: Math.max(0, Math.floor(low / 10) * 10), high: 100 }) });
  }
  const small = [["lr", ["lr_low", "lr_high"]], ["speed", ["speed_low", "speed_high"]]];
  if (list("memory").some((values) => values.some(Number.isFinite))) small.push(["memory", ["memory"]]);
  const top = below(panels.at(-1)), span = (W - RIGHT + 20) / small.length;
  small.forEach(([name, lists], i) => panels.push({ name, left: LEFT + i * span, width: span - LEFT - 20, top, height: 110, small: true,
    y: axis_of(list(...lists), { wanted: 3 }) }));
  const last = Math.max(1e-9, ...drawn.map((run) => run.end)) || 1;
  for (const panel of panels) {
    panel.x = (value) => panel.left + panel.width * value / last;
    panel.to_y = (value) => panel.top + panel.height * (1 - panel.y.at(value));
  }
  return { panels, last, height: top + 110 + FOOT + 22 };
}

/** The axes of a panel, with its title above and its steps below. */
function frame_of(model, panel, last) {
  const { left, width, top, height } = panel, bottom = top + height, whole_steps = model.get("axis") === "step";
  const parts = [draw("title", {}, say(model, panel.name))];
  for (const value of panel.y.ticks) {
    parts.push(rule(left, panel.to_y(value), left + width, panel.to_y(value), "grid"), label(left - 10, panel.to_y(value) + 6, compact(value)));
  }
  for (const value of ticks(0, last, panel.small ? 3 : 8)) {
    if (whole_steps && !Number.isInteger(value)) continue;
    parts.push(rule(panel.x(value), bottom, panel.x(value), bottom + 7, "axis"), label(panel.x(value), bottom + 25, compact(value), "middle"));
  }
  parts.push(rule(left, bottom, left + width, bottom, "axis"), rule(left, top, left, bottom, "axis"));
  parts.push(label(panel.small ? left - LEFT + 8 : 8, top - 14, say(model, panel.name), "start", "unit"));
  parts.push(label(left + width, bottom + 48, say(model, model.get("axis")), "end"));
  return parts;
}

const compact = (value) => (Math.abs(value) >= 1e4
  ? value.toLocaleString(LANGUAGE(), { notation: "compact", maximumFractionDigits: 2 }) : String(value));

/** The stretches of a list in which every value can be drawn, as [first, end). */
function stretches(length, fine) {
  const found = [];
  for (let i = 0, from = -1; i <= length; i++) {
    if (i < length && fine(i)) { if (from < 0) from = i; } else if (from >= 0) { found.push([from, i]); from = -1; }
  }
  return found;
}

/** A line through values over the axis; a value that cannot be drawn leaves a gap. */
function line_path(panel, xs, values) {
  return stretches(xs.length, (i) => panel.y.fine(values[i])).map(([from, end]) => Array.from({ length: end - from },
    (_, k) => `${k ? "L" : "M"}${panel.x(xs[from + k]).toFixed(1)},${panel.to_y(values[from + k]).toFixed(1)}`).join("")).join("");
}

/** An area between two curves. */
function band_path(panel, xs, lows, highs) {
  const at = (i, values) => `${panel.x(xs[i]).toFixed(1)},${panel.to_y(values[i]).toFixed(1)}`;
  return stretches(xs.length, (i) => panel.y.fine(lows[i]) && panel.y.fine(highs[i])).map(([from, end]) => {
    const there = [], back = [];
    for (let i = from; i < end; i++) { there.push(at(i, highs)); back.unshift(at(i, lows)); }
    return `M${there.join("L")}L${back.join("L")}Z`;
  }).join("");
}

/** The curves of one run in one panel: what lies between lowest and highest, and a line. */
function curves_of(panel, run) {
  const { curve, x } = run, dash = DASHES[run.index % DASHES.length], kind = colour_class(run);
  const line = (xs, values) => draw("path", { d: line_path(panel, xs, values), class: `line ${kind}`, "stroke-dasharray": dash });
  const band = (xs, lows, highs) => draw("path", { d: band_path(panel, xs, lows, highs), class: `band ${kind}` });
  if (panel.name === "accuracy") return accuracy_of(panel, run, line, band);
  if (panel.name === "memory") return [line(x, curve.memory)];
  const middle = panel.name === "loss" ? curve.smooth : curve[panel.name];
  return [band(x, curve[`${panel.name}_low`], curve[`${panel.name}_high`]), line(x, middle)];
}

function accuracy_of(panel, run, line, band) {
  const xs = run.evals.map((e) => e.x), in_percent = (key) => run.evals.map((e) => 100 * e[key]);
  const every = Math.ceil(run.evals.length / 40);     // markers that would touch say nothing
  const marks = run.evals.filter((_, i) => (run.evals.length - 1 - i) % every === 0).map((e) => draw("path", {
    d: SHAPES[run.index % SHAPES.length], transform: `translate(${panel.x(e.x)},${panel.to_y(100 * e.accuracy)})`, class: `mark ${colour_class(run)}` }));
  return [band(xs, in_percent("low"), in_percent("high")), line(xs, in_percent("accuracy")), ...marks];
}

/** Where the glyph of each event stands: side by side, and one for many of a kind that would touch. */
function glyph_places(panel, events) {
  const latest = new Map(), kept = events.filter(({ run, event, x }) => {
    const kind = `${run.index} ${event.what}`, touches = x - (latest.get(kind) ?? -Infinity) < GAP;
    if (!touches) latest.set(kind, x);
    return !touches;
  });
  const gap = Math.min(GAP, (W - 2 * GAP) / kept.length), places = new Map();
  let least = GAP, most = W - GAP;
  for (const item of kept) { places.set(item, Math.max(item.x, least)); least = places.get(item) + gap; }
  for (const item of [...kept].reverse()) { places.set(item, Math.min(places.get(item), most)); most = places.get(item) - gap; }
  return places;
}

/** A line through the loss for every event, and a glyph above it. */
function events_of(model, panel, runs) {
  const events = runs.flatMap((run) => run.events.map((event) => ({ run, event, x: panel.x(run.to_axis(event.step)) }))).sort((a, b) => a.x - b.x);
  const places = glyph_places(panel, events), { top, height } = panel;
  return events.map((item) => {
    const { run, event, x } = item, what = glyph_of(event.what), place = places.get(item);
    const glyph = place === undefined ? [] : [draw("path", { d: `M${x},${top - 6} L${place},${top - 32}`, class: "leader" }),
      draw("path", { d: GLYPHS[what], transform: `translate(${place},${top - 44})`, class: "glyph" })];
    return draw("g", { class: `event ${colour_class(run)}`, "data-what": what }, draw("title", {}, `${run.name}: ${event_in_words(model, event)}`),
      rule(x, top - 6, x, top + height, "through"), ...glyph);
  });
}
