// Loss above, accuracy below, over one axis of steps. Everything is SVG, so it stays sharp on a wall.

const W = 1040, LEFT = 92, RIGHT = 24, LOSS = { top: 26, height: 300 }, MARKS = { top: 376, height: 116 };
const COLUMNS = 3;

function floats(model, name) {
  const view = model.get(name);
  if (!view?.byteLength) return new Float32Array(0);
  return new Float32Array(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength));
}

/** Steps, losses, learning rates, and the loss smoothed by an exponential mean without start-up bias. */
function read(model) {
  const rows = floats(model, "points"), n = rows.length / COLUMNS, keep = model.get("smoothing");
  const data = { steps: new Float64Array(n), losses: new Float64Array(n), rates: new Float64Array(n), smooth: new Float64Array(n) };
  let mean = 0, weight = 0;
  for (let i = 0; i < n; i++) {
    [data.steps[i], data.losses[i], data.rates[i]] = rows.subarray(COLUMNS * i, COLUMNS * (i + 1));
    if (Number.isFinite(data.losses[i])) {
      mean = keep * mean + (1 - keep) * data.losses[i];
      weight = keep * weight + (1 - keep);
    }
    data.smooth[i] = weight ? mean / weight : NaN;
  }
  const marks = floats(model, "accuracies");
  data.marks = Array.from({ length: marks.length / 2 }, (_, i) => ({ step: marks[2 * i], accuracy: marks[2 * i + 1] }));
  return data;
}

const shown = (value) => (Number.isFinite(value) ? (Math.abs(value) >= 1e-3 && Math.abs(value) < 1e4
  ? value.toPrecision(3) : value.toExponential(1)) : null);
const rate = (value) => (Number.isFinite(value) ? String(Number(value.toPrecision(3))) : null);
const percent = (share) => (100 * share).toFixed(1);

/** Round numbers that split low..high into about `wanted` parts. */
function ticks(low, high, wanted) {
  const rough = (high - low) / wanted, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough * 0.999);
  const from = Math.ceil(low / step - 1e-9), count = Math.floor(high / step + 1e-9) - from + 1;
  return Array.from({ length: Math.max(0, count) }, (_, i) => Number(((from + i) * step).toPrecision(12)));
}

/** 1, 2 and 5 of every decade inside low..high; the decades alone where that is too many. */
function log_ticks(low, high) {
  const decades = Array.from({ length: Math.ceil(Math.log10(high)) - Math.floor(Math.log10(low)) + 1 },
    (_, i) => 10 ** (Math.floor(Math.log10(low)) + i));
  const inside = (list) => list.filter((v) => v >= low * 0.999 && v <= high * 1.001).map((v) => Number(v.toPrecision(3)));
  const fine = inside(decades.flatMap((d) => [d, 2 * d, 5 * d]));
  return fine.length > 8 ? inside(decades) : fine;
}

function scales(model, data) {
  const log = model.get("log_scale");
  const last = Math.max(model.get("total") - 1, data.steps.at(-1) ?? 0, data.marks.at(-1)?.step ?? 0, 1);
  let low = Infinity, high = -Infinity;
  for (const loss of data.losses) if (Number.isFinite(loss) && (!log || loss > 0)) { low = Math.min(low, loss); high = Math.max(high, loss); }
  if (!(low <= high)) [low, high] = [log ? 0.1 : 0, 1];
  if (log) { low /= 1.15; high *= 1.15; } else { low = Math.min(0, low); high = high > low ? high * 1.04 : low + 1; }
  const bend = log ? Math.log : (v) => v;
  const y = (loss) => LOSS.top + LOSS.height * (1 - (bend(loss) - bend(low)) / (bend(high) - bend(low)));
  return { log, x: (step) => LEFT + (W - LEFT - RIGHT) * step / last, y, last, low, high, ticks: log ? log_ticks(low, high) : ticks(low, high, 5) };
}

/** A path through the points; a value that cannot be drawn leaves a gap. */
function path(steps, values, scale) {
  let text = "", pen = false;
  for (let i = 0; i < steps.length; i++) {
    const fine = Number.isFinite(values[i]) && (!scale.log || values[i] > 0);
    if (fine) text += `${pen ? "L" : "M"}${scale.x(steps[i]).toFixed(1)},${scale.y(values[i]).toFixed(1)}`;
    pen = fine;
  }
  return text;
}

const label = (x, y, text, anchor = "end", kind = "") => draw("text", { x, y, "text-anchor": anchor, class: kind }, text);
const rule = (x1, y1, x2, y2, kind) => draw("line", { x1, y1, x2, y2, class: kind });

function axes(model, scale, has_marks) {
  const bottom = has_marks ? MARKS.top + MARKS.height : LOSS.top + LOSS.height, parts = [];
  for (const value of scale.ticks) {
    parts.push(rule(LEFT, scale.y(value), W - RIGHT, scale.y(value), "grid"), label(LEFT - 10, scale.y(value) + 6, String(value)));
  }
  for (const step of ticks(0, scale.last, 8).filter(Number.isInteger)) {
    parts.push(rule(scale.x(step), bottom, scale.x(step), bottom + 7, "axis"), label(scale.x(step), bottom + 26, whole(step), "middle"));
  }
  parts.push(rule(LEFT, LOSS.top + LOSS.height, W - RIGHT, LOSS.top + LOSS.height, "axis"), rule(LEFT, LOSS.top, LEFT, LOSS.top + LOSS.height, "axis"));
  parts.push(label((LEFT + W - RIGHT) / 2, bottom + 54, say(model, "step"), "middle", "unit"), label(8, LOSS.top - 8, say(model, "loss"), "start", "unit"));
  return parts;
}

/** Accuracy on an axis of its own, from below the lowest mark to 100 %. */
function accuracy_panel(model, data, scale) {
  const lowest = Math.min(...data.marks.map((mark) => mark.accuracy));
  const low = Math.max(0, Math.floor((100 * lowest - 1) / 10) * 10);
  const y = (share) => MARKS.top + MARKS.height * (1 - (100 * share - low) / (100 - low));
  const parts = ticks(low, 100, 3).flatMap((value) =>
    [rule(LEFT, y(value / 100), W - RIGHT, y(value / 100), "grid"), label(LEFT - 10, y(value / 100) + 6, String(value))]);
  const points = data.marks.map((mark) => [scale.x(mark.step), y(mark.accuracy)]);
  const diamond = ([cx, cy]) => draw("path", { d: `M${cx},${cy - 8} l8,8 l-8,8 l-8,-8 z`, class: "mark" });
  return [...parts, rule(LEFT, MARKS.top, LEFT, MARKS.top + MARKS.height, "axis"),
    rule(LEFT, MARKS.top + MARKS.height, W - RIGHT, MARKS.top + MARKS.height, "axis"),
    draw("polyline", { points: points.map((p) => p.join(",")).join(" "), class: "marks" }), ...points.map(diamond),
    label(8, MARKS.top - 16, say(model, "accuracy"), "start", "unit")];
}

function legend(model, has_marks) {
  const entries = [["raw", "raw"], ["smooth", "smooth"], ...(has_marks ? [["marks", "marks"]] : [])];
  return entries.flatMap(([key, kind], i) => {
    const x = W - RIGHT - 230, y = LOSS.top + 20 + 27 * i;
    return [rule(x, y - 6, x + 38, y - 6, kind), ...(kind === "marks" ? [draw("path", { d: `M${x + 19},${y - 14} l8,8 l-8,8 l-8,-8 z`, class: "mark" })] : []),
      label(x + 48, y, say(model, key), "start")];
  });
}

/** What is read off at one kept step, in words. */
function in_words(model, data, i) {
  const values = {
    step: whole(data.steps[i]), loss: shown(data.losses[i]) ?? say(model, "not_finite"),
    smooth: shown(data.smooth[i]) ?? say(model, "not_finite"), lr: rate(data.rates[i]),
  };
  return say(model, values.lr === null ? "read" : "read_lr", values);
}

function state_in_words(model, data) {
  if (!data.steps.length) return say(model, "waiting");
  const mark = data.marks.at(-1), key = (model.get("running") ? "running" : "done") + (mark ? "_accuracy" : "");
  const loss = shown(data.smooth.at(-1)) ?? say(model, "not_finite");
  return say(model, key, { step: whole(data.steps.at(-1)), loss, accuracy: mark && percent(mark.accuracy) });
}

function tables(model, data) {
  const n = data.steps.length, rows = Math.min(12, n);
  const chosen = Array.from({ length: rows }, (_, i) => (rows === 1 ? 0 : Math.round(i * (n - 1) / (rows - 1))));
  const cell = (value) => shown(value) ?? say(model, "none");
  const losses = make_table(say(model, "caption"), ["step", "loss", "smooth", "lr"].map((key) => say(model, key)),
    chosen.map((i) => [whole(data.steps[i]), cell(data.losses[i]), cell(data.smooth[i]), rate(data.rates[i]) ?? say(model, "none")]));
  const kept = model.get("stride") > 1 ? [make("p", {}, say(model, "thinned", { stride: model.get("stride") }))] : [];
  if (!data.marks.length) return [losses, ...kept];
  return [losses, ...kept, make_table(say(model, "caption_marks", { count: data.marks.length }),
    ["step", "accuracy"].map((key) => say(model, key)), data.marks.map((m) => [whole(m.step), percent(m.accuracy)]))];
}

function render({ model, el }) {
  const root = open_root(model, el, "training-curve");
  const svg = draw("svg", { role: "slider", tabindex: 0, "aria-label": say(model, "reader"), "aria-valuemin": 0 });
  const plot = draw("g"), cursor = draw("g", { class: "cursor" });
  svg.append(plot, cursor);
  const status = make("p", { class: "state" }), readout = make("p", { class: "readout", "data-testid": "readout" });
  const log = make_switch(root, say(model, "log"), () => model.get("log_scale"), () => put(model, { log_scale: !model.get("log_scale") }));
  const smoothing = make("input", { type: "range", min: 0, max: 0.99, step: 0.01 });
  const smooth_label = make("label", {}, say(model, "smoothing") + " ", smoothing, " ", make("span", { class: "amount" }));
  const view = make("details", {}, make("summary", {}, say(model, "table")));
  el.setAttribute("aria-label", say(model, "label"));
  el.append(status, svg, readout, make("div", { class: "controls" }, log.button, smooth_label), view);
  let data, scale, frame = 0;

  /** The index of the kept step nearest to a step; the newest for -1. */
  function nearest(step) {
    if (step < 0) return data.steps.length - 1;
    let low = 0, high = data.steps.length - 1;
    while (low < high) { const middle = (low + high) >> 1; if (data.steps[middle] < step) low = middle + 1; else high = middle; }
    return low > 0 && step - data.steps[low - 1] < data.steps[low] - step ? low - 1 : low;
  }

  function point() {
    const i = nearest(model.get("read_step")), chosen = model.get("read_step") >= 0;
    if (i < 0) { cursor.replaceChildren(); readout.textContent = ""; return; }
    const x = scale.x(data.steps[i]), bottom = LOSS.top + LOSS.height, at = scale.y(data.smooth[i]);
    cursor.replaceChildren(...(chosen ? [rule(x, LOSS.top, x, data.marks.length ? MARKS.top + MARKS.height : bottom, "hair")] : []),
      ...(Number.isFinite(at) ? [draw("circle", { cx: x, cy: at, r: 6, class: "dot" })] : []));
    readout.textContent = chosen ? in_words(model, data, i) : say(model, "read_hint");
    svg.setAttribute("aria-valuemax", data.steps.at(-1));
    svg.setAttribute("aria-valuenow", data.steps[i]);
    svg.setAttribute("aria-valuetext", in_words(model, data, i));
    el.dataset.read = chosen ? data.steps[i] : "";
  }

  function refresh() {
    frame = 0;
    data = read(model);
    scale = scales(model, data);
    const has_marks = data.marks.length > 0;
    svg.setAttribute("viewBox", `0 0 ${W} ${(has_marks ? MARKS.top + MARKS.height : LOSS.top + LOSS.height) + 66}`);
    plot.replaceChildren(...axes(model, scale, has_marks), draw("path", { d: path(data.steps, data.losses, scale), class: "raw" }),
      draw("path", { d: path(data.steps, data.smooth, scale), class: "smooth" }),
      ...(has_marks ? accuracy_panel(model, data, scale) : []), ...legend(model, has_marks));
    point();
    status.textContent = state_in_words(model, data);
    log.refresh();
    smoothing.value = model.get("smoothing");
    smooth_label.querySelector(".amount").textContent = model.get("smoothing").toFixed(2);
    if (view.open) view.replaceChildren(view.firstChild, ...tables(model, data));
    Object.assign(el.dataset, {
      points: data.steps.length, marks: data.marks.length, running: model.get("running"), log: model.get("log_scale"),
      last: data.steps.at(-1) ?? "", smooth: data.smooth.at(-1) ?? "",
    });
  }

  const later = () => { frame ||= requestAnimationFrame(refresh); };   // many messages, one drawing
  root.cleanup(() => cancelAnimationFrame(frame));
  let telling = 0;                                       // the kernel hears of the pointer five times a second
  const tell = () => { telling ||= setTimeout(() => { telling = 0; model.save_changes(); }, 200); };
  root.cleanup(() => clearTimeout(telling));
  const go = (i, speak) => {
    if (!data.steps.length) return;
    model.set("read_step", data.steps[Math.max(0, Math.min(data.steps.length - 1, i))]);
    tell();
    if (speak) root.announce(readout.textContent);
  };
  function aim(event) {
    const box = svg.getBoundingClientRect(), x = (event.clientX - box.left) / box.width * W;
    go(nearest(Math.max(0, (x - LEFT) / (W - LEFT - RIGHT) * scale.last)), false);
  }
  root.listen(svg, "pointerdown", aim);
  root.listen(svg, "pointermove", (event) => { if (event.pointerType === "mouse" || event.buttons) aim(event); });
  root.listen(svg, "keydown", (event) => {
    const i = nearest(model.get("read_step")), page = Math.max(1, Math.round(data.steps.length / 10));
    const target = { ArrowLeft: i - 1, ArrowDown: i - 1, ArrowRight: i + 1, ArrowUp: i + 1, PageDown: i - page, PageUp: i + page,
      Home: 0, End: data.steps.length - 1 }[event.key];
    if (event.key === "Escape") put(model, { read_step: -1 });
    else if (target !== undefined) go(target, true);
    else return;
    event.preventDefault();
  });
  root.listen(smoothing, "input", () => put(model, { smoothing: Number(smoothing.value) }));
  root.listen(view, "toggle", () => { if (view.open) view.replaceChildren(view.firstChild, ...tables(model, data)); });
  for (const trait of ["points", "accuracies", "running", "total", "log_scale", "smoothing"]) root.on(trait, later);
  root.on("read_step", point);
  refresh();
  return root.close;
}

export default { render };
