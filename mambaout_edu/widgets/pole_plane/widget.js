// Poles on the left, discrete poles on the right, responses below. All numbers are made here, exactly.

const W = 1140, S_BOX = { x: 84, y: 44, side: 400 }, Z_BOX = { x: 664, y: 44, side: 400 };
const IMPULSE = { x: 84, y: 578, width: 456, height: 200 }, STEP = { x: 664, y: 578, width: 456, height: 200 };
const LEFT = -6, RIGHT = 2, TOP = 4, SMALLEST = 0.05;    // the plane of the poles; a pair stays off the real axis
const Z_RANGE = 1.5, CURVE = 301, MOST = 6, METHODS = ["euler", "bilinear", "zoh"];

// Complex numbers are [real, imaginary].
const times = ([a, b], [c, d]) => [a * c - b * d, a * d + b * c];
const over = ([a, b], [c, d]) => { const n = c * c + d * d; return [(a * c + b * d) / n, (b * c - a * d) / n]; };
const scaled = ([a, b], t) => [a * t, b * t];
const exp = ([a, b]) => [Math.exp(a) * Math.cos(b), Math.exp(a) * Math.sin(b)];
/** exp(z) - 1, to the last digits also near 0. */
const expm1 = ([a, b]) => [Math.expm1(a) * Math.cos(b) - 2 * Math.sin(b / 2) ** 2, Math.exp(a) * Math.sin(b)];
/** The integral of exp(p s) over s from 0 to t. */
const held = (p, t) => (p[0] === 0 && p[1] === 0 ? [t, 0] : over(expm1(scaled(p, t)), p));
const size = ([a, b]) => Math.hypot(a, b);

/** z and b of h_t = z h_(t-1) + b u_t for one pole. */
function discretised(p, delta, method) {
  if (method === "euler") return { z: [1 + delta * p[0], delta * p[1]], b: [delta, 0] };
  if (method === "zoh") return { z: exp(scaled(p, delta)), b: held(p, delta) };
  const half = scaled(p, delta / 2), below = [1 - half[0], -half[1]];
  return { z: over([1 + half[0], half[1]], below), b: over([delta, 0], below) };
}

/** Responses of poles [[real, imaginary >= 0], …] at the times `at`, and of `steps` steps of length delta. */
export function compute(poles, delta, method, at, steps) {
  const weights = poles.map(([, im]) => (im > 0 ? 2 : 1)), states = weights.reduce((sum, w) => sum + w, 0);
  const mean = (values) => values.reduce((sum, [re], i) => sum + weights[i] * re, 0) / states;
  const discrete = poles.map((p) => discretised(p, delta, method));
  const kernel = [], stepped = [];
  let left = discrete.map(({ b }) => b), total = 0;
  for (let t = 0; t < steps; t++) {
    kernel.push(mean(left));
    stepped.push(total += kernel[t]);
    left = left.map((h, i) => times(h, discrete[i].z));
  }
  return {
    z: discrete.map(({ z }) => z), kernel, stepped,
    impulse: at.map((t) => mean(poles.map((p) => exp(scaled(p, t))))), step: at.map((t) => mean(poles.map((p) => held(p, t)))),
  };
}

const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
const number = (value, digits = 2) => (Number.isFinite(value)
  ? (Math.abs(value) < 0.5 * 10 ** -digits ? 0 : value).toFixed(digits).replace("-", "−") : "∞");
const complex = ([re, im], pair) => (pair ? `${number(re)} ± ${number(Math.abs(im))} i` : number(re));
const words = (x, y, text, kind = "", anchor = "middle") => draw("text", { x, y, class: kind, "text-anchor": anchor }, text);
const rule = (x1, y1, x2, y2, kind) => draw("line", { x1, y1, x2, y2, class: kind });
const upright = (x, y, text) => draw("text", { x, y, class: "unit", "text-anchor": "middle", transform: `rotate(-90 ${x} ${y})` }, text);

/** Places of numbers in one square plane, and the way back. */
function square(box, left, right, top) {
  const unit = box.side / (right - left);
  return { ...box, unit, at: ([re, im]) => [box.x + (re - left) * unit, box.y + (top - im) * unit],
    number: (x, y) => [left + (x - box.x) / unit, top - (y - box.y) / unit] };
}
const S = square(S_BOX, LEFT, RIGHT, TOP), Z = square(Z_BOX, -Z_RANGE, Z_RANGE, Z_RANGE);

/** Title, grid and labels of a plane around what is shaded in it. */
function frame(p, lines, shaded, [title, real, imaginary]) {
  const right = p.x + p.side, bottom = p.y + p.side, middle = p.x + p.side / 2;
  const [zero_x, zero_y] = p.at([0, 0]);
  return [
    words(middle, 28, title, "title"), draw("svg", { x: p.x, y: p.y, width: p.side, height: p.side, viewBox: `${p.x} ${p.y} ${p.side} ${p.side}` }, shaded),
    ...lines.flatMap((v) => {
      const [x, y] = p.at([v, v]);
      return [...(x >= p.x - 0.1 && x <= right + 0.1 ? [rule(x, p.y, x, bottom, "grid"), words(x, bottom + 22, number(v, 0), "tick")] : []),
        ...(y >= p.y - 0.1 && y <= bottom + 0.1 ? [rule(p.x, y, right, y, "grid"), words(p.x - 9, y + 6, number(v, 0), "tick", "end")] : [])];
    }),
    rule(zero_x, p.y, zero_x, bottom, "axis"), rule(p.x, zero_y, right, zero_y, "axis"),
    draw("rect", { x: p.x, y: p.y, width: p.side, height: p.side, class: "frame" }),
    words(middle, bottom + 46, real, "unit"), upright(p.x - 50, p.y + p.side / 2, imaginary),
  ];
}

/** What is shaded on the left: the stable half, and what the method makes of it. */
function left_shade(model, delta, method) {
  const [zero, middle] = S.at([0, 0]), bottom = S.y + S.side, fold = Math.PI / delta;
  const shade = [draw("rect", { x: S.x, y: S.y, width: zero - S.x, height: S.side, class: "stable" }),
    words(S.x + 10, S.y + 24, say(model, "stable_half"), "region", "start")];
  if (method === "euler") {
    shade.push(draw("circle", { cx: zero - S.unit / delta, cy: middle, r: S.unit / delta, class: "limit" }));
    shade.push(words(S.x + 10, bottom - 12, say(model, "euler_limit"), "region", "start"));
  } else if (method === "zoh" && fold < TOP) {
    shade.push(...[fold, -fold].map((im) => rule(S.x, S.at([0, im])[1], S.x + S.side, S.at([0, im])[1], "limit")));
    shade.push(words(S.x + 10, bottom - 12, say(model, "fold"), "region", "start"));
  }
  return shade;
}

function right_shade(model) {
  const [x, y] = Z.at([0, 0]);
  return [draw("circle", { cx: x, cy: y, r: Z.unit, class: "stable circle" }), words(Z.x + 10, Z.y + Z.side - 12, say(model, "inside"), "region", "start")];
}

/** A cross at 0, 0 with its number beside it. */
function cross(text, kind, attributes = {}) {
  return draw("g", { class: "pole " + kind, ...attributes }, draw("circle", { r: 22, class: "hit" }), draw("circle", { r: 15, class: "ring" }),
    draw("path", { d: "M-8,-8 L8,8 M-8,8 L8,-8", class: "cross" }), words(15, -12, text, "name", "start"));
}

/** Round limits around values that are cut at low and high. */
function limits(values, low, high) {
  let [from, to] = [0, 0];
  for (const v of values) if (!Number.isNaN(v)) { from = Math.min(from, Math.max(v, low)); to = Math.max(to, Math.min(v, high)); }
  const rough = (to - from || 1) / 4, power = 10 ** Math.floor(Math.log10(rough)), step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough * 0.999);
  const first = Math.floor(from / step + 1e-9), last = Math.max(Math.ceil(to / step - 1e-9), first + 1);
  return { from: first * step, to: last * step, digits: Math.max(0, -Math.floor(Math.log10(step) + 1e-9)), ticks: Array.from({ length: last - first + 1 }, (_, i) => (first + i) * step) };
}

/** One response: the exact curve, and what the steps make of it as bars or dots. */
function response(model, box, { title, curve, at, steps, delta, duration, cut, bars }) {
  const range = limits([...curve, ...steps], ...cut), bottom = box.y + box.height;
  const x = (t) => box.x + t / duration * box.width;
  const y = (v) => clamp(bottom - (v - range.from) / (range.to - range.from) * box.height, box.y - 900, bottom + 900);
  const seconds = limits([duration], 0, duration).ticks.filter((t) => t <= duration * 1.001);
  const path = curve.map((v, i) => (i ? "L" : "M") + x(at[i]).toFixed(1) + "," + y(v).toFixed(1)).join("");
  const r = clamp(delta / duration * box.width / 4, 1.5, 5);
  const mark = (v, t) => !Number.isFinite(v) ? "" : bars ? `M${x(t * delta).toFixed(2)},${y(0)}V${y(v).toFixed(2)}H${x((t + 1) * delta).toFixed(2)}V${y(0)}`
    : `M${(x((t + 1) * delta) - r).toFixed(2)},${y(v).toFixed(2)}a${r},${r} 0 1 0 ${2 * r},0a${r},${r} 0 1 0 ${-2 * r},0`;
  const sample = bars ? draw("rect", { x: box.x + 216, y: box.y - 24, width: 26, height: 13, class: "bars" }) : draw("circle", { cx: box.x + 230, cy: box.y - 17, r: 5, class: "dots" });
  return [
    words(box.x, box.y - 44, title, "title", "start"), rule(box.x, box.y - 17, box.x + 30, box.y - 17, "curve"),
    words(box.x + 38, box.y - 11, say(model, "continuous"), "key", "start"), sample, words(box.x + 250, box.y - 11, say(model, bars ? "kernel" : "stepped"), "key", "start"),
    ...range.ticks.flatMap((v) => [rule(box.x, y(v), box.x + box.width, y(v), "grid"), words(box.x - 9, y(v) + 6, number(v, range.digits), "tick", "end")]),
    draw("svg", { x: box.x - 1, y: box.y - 6, width: box.width + 8, height: box.height + 12, viewBox: `${box.x - 1} ${box.y - 6} ${box.width + 8} ${box.height + 12}` },
      // Bars lie below the exact curve, dots on it.
      ...[draw("path", { d: steps.map(mark).join(""), class: bars ? "bars" : "dots" }), draw("path", { d: path, class: "curve" })][bars ? "slice" : "reverse"]()),
    rule(box.x, y(0), box.x + box.width, y(0), "axis"), rule(box.x, box.y, box.x, bottom, "axis"),
    ...seconds.map((t) => words(x(t), bottom + 22, String(Number(t.toPrecision(6))), "tick")), words(box.x + box.width / 2, bottom + 44, say(model, "time"), "unit"),
  ];
}

const verdict = (value, edge) => (Math.abs(value - edge) < 1e-9 ? "edge" : value < edge ? "stable" : "unstable");

/** What the two systems do, in words, and in the data of the root for those who look from outside. */
function tell_stability(model, poles, z) {
  const continuous = verdict(Math.max(...poles.map(([re]) => re)), 0), largest = Math.max(...z.map(size)), steps = verdict(largest, 1);
  const note = continuous !== "unstable" && steps === "unstable" ? "too_long" : continuous === "unstable" && steps === "stable" ? "hidden" : null;
  const chip = (key, what, values) => make("span", { class: "chip " + what }, say(model, key, { verdict: say(model, what), ...values }));
  return { continuous, steps, parts: [chip("continuous_is", continuous, {}), chip("steps_are", steps, { size: number(largest, 3) }), ...(note ? [make("span", { class: "note" }, say(model, note))] : [])] };
}

function table(model, poles, z) {
  const rows = poles.map((p, i) => [String(i + 1), complex(p, p[1] > 0),
    p[0] < 0 ? say(model, "seconds", { value: number(-1 / p[0]) }) : say(model, "never"), p[1] > 0 ? say(model, "radians", { value: number(p[1]) }) : say(model, "not_at_all"),
    complex(z[i], p[1] > 0), number(size(z[i]), 3), say(model, { stable: "dies", unstable: "grows", edge: "stays" }[verdict(size(z[i]), 1)])]);
  return make_table(say(model, "caption"), ["number", "pole", "time_constant", "frequency", "discrete", "size", "in_steps"].map((key) => say(model, key)), rows);
}

/** The buttons and controls above the drawing. */
function controls(model, root) {
  const button = (key) => make("button", { type: "button", "data-act": key }, key === "remove" ? "" : say(model, key));
  const method = make("select", {}, METHODS.map((key) => make("option", { value: key }, say(model, key))));
  const delta = make("input", { type: "range", min: Math.log10(0.02), max: Math.log10(2), step: "any" }), amount = make("span", { class: "amount" });
  const buttons = Object.fromEntries(["add_real", "add_pair", "remove"].map((key) => [key, button(key)]));
  root.listen(method, "change", () => put(model, { method: method.value }));
  const row = make("div", { class: "controls" }, make("label", {}, say(model, "method") + " ", method), make("label", {}, say(model, "delta") + " ", delta, " ", amount));
  return { row, method, delta, amount, buttons, edit: make("div", { class: "controls" }, Object.values(buttons)) };
}

function render({ model, el }) {
  const root = open_root(model, el, "pole-plane");
  const svg = draw("svg", { viewBox: `0 0 ${W} 830`, role: "group", "aria-label": say(model, "label") });
  const back = draw("g"), discrete = draw("g", { "aria-hidden": "true" }), handles = draw("g"), below = draw("g", { "aria-hidden": "true" });
  svg.append(back, discrete, handles, below);
  const ui = controls(model, root), state = make("p", { class: "state" }), readout = make("p", { class: "readout", "data-testid": "readout" });
  const view = make("div", { class: "view" });
  el.setAttribute("aria-label", say(model, "label"));
  el.append(ui.row, state, svg, readout, make("p", { class: "hint" }, say(model, "hint")), ui.edit, view);
  let frame_id = 0, telling = 0, dragged = null, marks = [], drawn = "";

  const poles = () => model.get("poles");
  const chosen = () => clamp(model.get("selected"), 0, poles().length - 1);
  const tell = () => { telling ||= setTimeout(() => { telling = 0; model.save_changes(); }, 200); };  // five times a second
  const later = () => { frame_id ||= requestAnimationFrame(refresh); };
  root.cleanup(() => { cancelAnimationFrame(frame_id); clearTimeout(telling); });

  function move(i, [re, im]) {
    const pair = poles()[i][1] > 0;
    const place = [clamp(re, LEFT, RIGHT), pair ? clamp(im, SMALLEST, TOP) : 0].map((v) => Number(v.toFixed(4)));
    model.set("poles", poles().map((p, j) => (j === i ? place : p)));
    tell();
  }
  const select = (i) => { model.set("selected", i); tell(); };
  function focus(i) { refresh(); marks[i].upper.focus({ preventScroll: true }); }
  function add(pole) {
    model.set("poles", [...poles(), pole]);
    put(model, { selected: poles().length - 1 });
    root.announce(say(model, "added", { number: poles().length }));
    focus(poles().length - 1);
  }
  function remove(i) {
    if (poles().length === 1) return;
    model.set("poles", poles().filter((_, j) => j !== i));
    put(model, { selected: Math.max(0, i - 1) });
    root.announce(say(model, "removed", { count: poles().length }));
    focus(chosen());
  }

  /** Marks for as many poles as there are; they stay, so that focus and pointer stay with them. */
  function ready_marks() {
    const pairs = poles().map(([, im]) => im > 0).join();
    if (handles.dataset.pairs === pairs) return;
    handles.dataset.pairs = pairs;
    marks = poles().map(([, im], i) => ({
      upper: cross(String(i + 1), "continuous", { role: "slider", tabindex: 0, "data-pole": i, "aria-valuemin": LEFT, "aria-valuemax": RIGHT, "aria-label": say(model, "pole_label", { number: i + 1, count: poles().length }) }),
      lower: im > 0 ? cross("", "continuous lower", { "data-pole": i, "data-lower": "yes", "aria-hidden": "true" }) : null,
      steps: (im > 0 ? [1, -1] : [1]).map((side) => cross(side > 0 ? String(i + 1) : "", "discrete")),
    }));
    handles.replaceChildren(...marks.flatMap(({ upper, lower }) => (lower ? [lower, upper] : [upper])));
    discrete.replaceChildren(...marks.flatMap(({ steps }) => steps));
  }

  function place(mark, p, i, z) {
    const put_at = (node, [x, y], kind) => { node.setAttribute("transform", `translate(${x.toFixed(2)} ${y.toFixed(2)})`); node.classList.toggle("chosen", i === chosen()); node.classList.toggle("off", Boolean(kind)); };
    const far = !(Math.abs(z[0]) <= Z_RANGE && Math.abs(z[1]) <= Z_RANGE), shrink = far ? 0.97 * Z_RANGE / Math.max(Math.abs(z[0]), Math.abs(z[1])) : 1;
    const shown = Number.isFinite(shrink) ? scaled(z.map((v) => clamp(v, -1e9, 1e9)), shrink) : [Z_RANGE * 0.97, 0];
    put_at(mark.upper, S.at(p));
    if (mark.lower) put_at(mark.lower, S.at([p[0], -p[1]]));
    mark.steps.forEach((node, side) => put_at(node, Z.at([shown[0], side ? -shown[1] : shown[1]]), far));
    mark.upper.setAttribute("aria-valuenow", p[0]);
    mark.upper.setAttribute("aria-valuetext", in_words(i, p, z));
  }
  const in_words = (i, p, z) => say(model, "read_pole", { number: i + 1, pole: complex(p, p[1] > 0), z: complex(z, p[1] > 0), size: number(size(z), 3) });

  function refresh() {
    cancelAnimationFrame(frame_id);
    frame_id = 0;
    const [delta, method, duration] = ["delta", "method", "duration"].map((name) => model.get(name));
    const at = Array.from({ length: CURVE }, (_, i) => i * duration / (CURVE - 1)), all = poles();
    const found = compute(all, delta, method, at, Math.ceil(duration / delta - 1e-9)), told = tell_stability(model, all, found.z);
    if (drawn !== `${delta} ${method}`) back.replaceChildren(...frame(S, [-6, -4, -2, 0, 2, 4], left_shade(model, delta, method), ["s_plane", "s_real", "s_imaginary"].map((key) => say(model, key))),
      ...frame(Z, [-1, 0, 1], right_shade(model), ["z_plane", "z_real", "z_imaginary"].map((key) => say(model, key))));
    drawn = `${delta} ${method}`;
    ready_marks();
    all.forEach((p, i) => place(marks[i], p, i, found.z[i]));
    const shared = { at, delta, duration };
    below.replaceChildren(
      ...response(model, IMPULSE, { ...shared, title: say(model, "impulse"), curve: found.impulse, steps: found.kernel.map((k) => k / delta), cut: [-2, 3], bars: true }),
      ...response(model, STEP, { ...shared, title: say(model, "step"), curve: found.step, steps: found.stepped, cut: [-duration / 2, duration], bars: false }));
    state.replaceChildren(...told.parts);
    readout.textContent = in_words(chosen(), all[chosen()], found.z[chosen()]);
    view.replaceChildren(table(model, all, found.z));
    ui.method.value = method;
    if (Number(ui.delta.value) !== Math.log10(delta)) ui.delta.value = Math.log10(delta);
    ui.amount.textContent = say(model, "seconds", { value: number(delta) });
    ui.delta.setAttribute("aria-valuetext", ui.amount.textContent);
    ui.buttons.remove.textContent = say(model, "remove", { number: chosen() + 1 });
    ui.buttons.remove.disabled = all.length === 1;
    ui.buttons.add_real.disabled = ui.buttons.add_pair.disabled = all.length >= MOST;
    Object.assign(el.dataset, { continuous: told.continuous, steps: told.steps, selected: chosen(), poles: JSON.stringify(all), z: JSON.stringify(found.z) });
  }

  const number_at = (event) => { const box = svg.getBoundingClientRect(), k = W / box.width; return S.number((event.clientX - box.left) * k, (event.clientY - box.top) * k); };
  root.listen(svg, "pointerdown", (event) => {
    const mark = event.target.closest("[data-pole]");
    if (!mark) return;
    event.preventDefault();
    const i = Number(mark.dataset.pole), side = mark.dataset.lower ? -1 : 1, [re, im] = number_at(event), p = poles()[i];
    dragged = { i, side, grip: [p[0] - re, side * p[1] - im] };      // the mark does not jump to the pointer
    svg.setPointerCapture(event.pointerId);
    marks[i].upper.focus({ preventScroll: true });
  });
  root.listen(svg, "pointermove", (event) => {
    if (!dragged) return;
    const [re, im] = number_at(event), { i, side, grip } = dragged;
    move(i, [re + grip[0], side * (im + grip[1])]);
  });
  for (const event of ["pointerup", "pointercancel"]) root.listen(svg, event, () => { dragged = null; });
  root.listen(handles, "focusin", (event) => { const mark = event.target.closest("[data-pole]"); if (mark) select(Number(mark.dataset.pole)); });
  root.listen(handles, "keydown", (event) => {
    const i = Number(event.target.closest("[data-pole]").dataset.pole), far = event.shiftKey ? 0.01 : 0.1, [re, im] = poles()[i];
    const step = { ArrowLeft: [-far, 0], ArrowRight: [far, 0], ArrowUp: [0, far], ArrowDown: [0, -far] }[event.key];
    if (step) move(i, [re + step[0], im + step[1]]);
    else if (event.key === "Delete" || event.key === "Backspace") remove(i);
    else return;
    event.preventDefault();
  });
  root.listen(ui.delta, "input", () => { model.set("delta", Number((10 ** ui.delta.value).toPrecision(3))); tell(); });
  root.listen(ui.edit, "click", (event) => {
    const act = event.target.closest("[data-act]")?.dataset.act;
    if (act === "remove") remove(chosen());
    else if (act) add(act === "add_real" ? [-2, 0] : [-1, 1.5]);
  });
  for (const trait of ["poles", "method", "delta", "duration", "selected"]) root.on(trait, later);
  refresh();
  return root.close;
}

export default { render };
