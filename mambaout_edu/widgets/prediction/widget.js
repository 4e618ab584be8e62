// Predict first: a question, the learner's committed answer, and the outcome beside it.
// Traits: kind, question, why, spec, answer, committed, skipped, outcome, state, problem.

const number_text = (value) => Number(value).toLocaleString(LANGUAGE(), { maximumSignificantDigits: 4 });
const with_unit = (value, unit) => (unit === "%" ? `${number_text(value)} %` : unit ? `${number_text(value)} ${unit}` : number_text(value));
const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

// ---- scales and ticks ---------------------------------------------------------------------------------

/** A scale from values to pixels and back, linear or logarithmic. */
function make_scale({ min, max, log }, from, to) {
  const f = log ? Math.log10 : (v) => v, back = log ? (v) => 10 ** v : (v) => v;
  const low = f(min), span = f(max) - low || 1;
  const scale = (v) => from + ((f(log ? Math.max(v, min * 1e-3) : v) - low) / span) * (to - from);
  scale.invert = (pixel) => back(low + ((pixel - from) / (to - from)) * span);
  return scale;
}

function ticks({ min, max, log }, count = 5) {
  if (log) {
    const all = [];
    for (let e = Math.floor(Math.log10(min)); e <= Math.ceil(Math.log10(max)); e++) for (const m of [1, 2, 5]) all.push(m * 10 ** e);
    const inside = all.filter((v) => v >= min * 0.999 && v <= max * 1.001);
    const decades = inside.filter((v) => Number.isInteger(Math.round(Math.log10(v) * 1e6) / 1e6));
    return decades.length >= 3 ? decades : inside;
  }
  const raw = (max - min) / count, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw);
  const first = Math.ceil(min / step - 1e-9);
  return Array.from({ length: Math.floor(max / step + 1e-9) - first + 1 }, (_, i) => Number(((first + i) * step).toPrecision(12)));
}

// ---- the three kinds of answer: each returns { node, refresh() } --------------------------------------

function choice_input(model, root, change, names) {
  const choices = Object.entries(model.get("spec").choices);
  const radios = choices.map(([key, text]) => {
    const radio = make("input", { type: "radio", name: names.group, value: key, "aria-describedby": null });
    root.listen(radio, "change", () => change(key));
    return { key, radio, row: make("label", { class: "choice" }, radio, make("span", {}, text)) };
  });
  const node = make("div", { role: "radiogroup", "aria-labelledby": names.question, class: "choices" }, radios.map((r) => r.row));
  const refresh = (locked) => {
    for (const { key, radio } of radios) { radio.checked = model.get("answer") === key; radio.disabled = locked; }
  };
  return { node, refresh };
}

function number_input(model, root, change) {
  const spec = model.get("spec"), { min, max, step, log, unit } = spec;
  const STEPS = log ? 200 : Math.round((max - min) / step);
  const digits = log ? null : Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  const position = make_scale(spec, 0, STEPS);
  const tidy = (v) => (log ? Number(v.toPrecision(2)) : Number((min + Math.round((v - min) / step) * step).toFixed(digits + 1)));
  const range = make("input", { type: "range", min: 0, max: STEPS, step: 1, "aria-label": spec.label });
  const exact = make("input", { type: "number", min, max, step: log ? "any" : step, "aria-label": say(model, "number.exact", { label: spec.label }) });
  const slide = () => change(clamp(tidy(position.invert(Number(range.value))), min, max));
  root.listen(range, "input", slide);
  root.listen(range, "pointerup", slide); // a click that happens not to move the thumb is an answer too
  root.listen(exact, "change", () => {
    if (exact.value !== "" && Number.isFinite(Number(exact.value))) change(clamp(Number(exact.value), min, max));
  });
  const node = make("div", { class: "number" },
    make("div", { class: "label" }, spec.label),
    make("div", { class: "slide" },
      make("span", { "aria-hidden": "true" }, with_unit(min, unit)), range, make("span", { "aria-hidden": "true" }, with_unit(max, unit))),
    make("label", { class: "exact" }, exact, make("span", {}, unit)));
  const refresh = (locked) => {
    const answer = model.get("answer");
    range.value = answer === null ? STEPS / 2 : Math.round(position(answer));
    range.setAttribute("aria-valuetext", answer === null ? say(model, "number.unset") : with_unit(answer, unit));
    exact.value = answer === null ? "" : String(answer);
    exact.placeholder = "?";
    range.disabled = exact.disabled = locked;
    node.classList.toggle("unset", answer === null);
  };
  return { node, refresh };
}

const W = 660, H = 350, LEFT = 70, RIGHT = 18, TOP = 16, BOTTOM = 54;

function curve_input(model, root, change) {
  const { x, y } = model.get("spec"), n = x.values.length;
  const middle = y.log ? Math.sqrt(y.min * y.max) : (y.min + y.max) / 2;
  const current = () => model.get("answer") ?? Array(n).fill(middle);
  const svg = draw("svg", { viewBox: `0 0 ${W} ${H}`, role: "group", "aria-label": say(model, "curve.name", { y: y.label, x: x.label }) });
  const node = make("div", { class: "curve" }, make("p", { class: "hint" }, say(model, "curve.help")), svg);
  let handles = [], scale_x, scale_y, focused = 0, locked = false, last = null;

  const tidy = (value) => clamp(Number(value.toPrecision(3)), y.min, y.max);
  const set = (values) => change(values.map(tidy));
  const nudge = (i, amount) => {
    const values = [...current()], place = make_scale(y, 0, 40);
    values[i] = clamp(place.invert(clamp(place(values[i]) + amount, 0, 40)), y.min, y.max);
    set(values);
  };
  const keys = { ArrowUp: (i) => nudge(i, 1), ArrowDown: (i) => nudge(i, -1), PageUp: (i) => nudge(i, 5), PageDown: (i) => nudge(i, -5),
    Home: (i) => nudge(i, -40), End: (i) => nudge(i, 40), ArrowLeft: (i) => go(i - 1), ArrowRight: (i) => go(i + 1) };
  const go = (i) => { focused = clamp(i, 0, n - 1); refresh(locked); handles[focused].focus(); };

  const where = (event) => {
    const box = svg.getBoundingClientRect();
    return [((event.clientX - box.left) / box.width) * W, ((event.clientY - box.top) / box.height) * H];
  };
  const sweep = (event) => {
    const at = where(event), from = last ?? at, values = [...current()];
    x.values.forEach((v, i) => {
      const px = scale_x(v), low = Math.min(from[0], at[0]), high = Math.max(from[0], at[0]);
      const nearest = x.values.every((u) => Math.abs(scale_x(u) - at[0]) >= Math.abs(px - at[0]));
      if ((px < low || px > high) && !nearest) return;
      const part = nearest || high === low ? 1 : (px - from[0]) / (at[0] - from[0]);
      values[i] = clamp(scale_y.invert(from[1] + part * (at[1] - from[1])), y.min, y.max);
    });
    last = at;
    set(values);
  };
  root.listen(svg, "pointerdown", (event) => { if (!locked) { svg.setPointerCapture(event.pointerId); last = null; sweep(event); event.preventDefault(); } });
  root.listen(svg, "pointermove", (event) => { if (!locked && last) sweep(event); });
  for (const end of ["pointerup", "pointercancel"]) root.listen(svg, end, () => { last = null; });
  root.listen(svg, "keydown", (event) => {
    const i = handles.indexOf(event.target);
    if (i >= 0 && !locked && keys[event.key]) { event.preventDefault(); keys[event.key](i); }
  });

  const make_handle = (i) => {
    const handle = draw("circle", { r: 8, class: "handle", role: "slider", "aria-orientation": "vertical" });
    root.listen(handle, "focus", () => { focused = i; });
    return handle;
  };
  handles = x.values.map((_, i) => make_handle(i));

  const refresh = (lock) => {
    locked = lock;
    const outcome = lock ? model.get("outcome") : null, values = current(), drawn = model.get("answer") !== null;
    const shown = outcome ? [...outcome.map((p) => p[1]), ...values] : [];
    const span = { ...y, min: Math.min(y.min, ...shown), max: Math.max(y.max, ...shown) };
    const xs = [...x.values, ...(outcome ?? []).map((p) => p[0])];
    scale_x = make_scale({ ...x, min: Math.min(...xs), max: Math.max(...xs) }, LEFT + 12, W - RIGHT - 12);
    scale_y = make_scale(span, H - BOTTOM, TOP);
    const had_focus = handles.includes(document.activeElement);
    const path = (points) => points.map(([a, b], i) => `${i ? "L" : "M"}${scale_x(a).toFixed(1)} ${scale_y(b).toFixed(1)}`).join("");
    svg.replaceChildren(...axes(x, span, scale_x, scale_y));
    if (drawn || !lock) svg.append(draw("path", { class: drawn ? "yours" : "yours ghost", d: path(x.values.map((v, i) => [v, values[i]])) }));
    if (outcome) {
      svg.append(draw("path", { class: "came", d: path(outcome) }));
      if (outcome.length <= 24) for (const [a, b] of outcome) svg.append(draw("rect", { class: "came-mark", x: scale_x(a) - 6, y: scale_y(b) - 6, width: 12, height: 12 }));
    }
    if (drawn || !lock) handles.forEach((handle, i) => {
      fill(handle, { cx: scale_x(x.values[i]), cy: scale_y(values[i]), tabindex: lock ? null : i === focused ? "0" : "-1", "aria-disabled": lock ? "true" : null,
        "aria-label": say(model, "curve.point", { x: `${x.names ? x.names[i] : number_text(x.values[i])}`, label: x.label }),
        "aria-valuemin": y.min, "aria-valuemax": y.max, "aria-valuenow": values[i], "aria-valuetext": `${number_text(values[i])} ${y.label}` }, []);
      handle.classList.toggle("ghost", !drawn);
      svg.append(handle);
    });
    if (had_focus && !lock) handles[focused].focus();
  };
  return { node, refresh };
}

function axes(x, y, scale_x, scale_y) {
  const parts = [draw("rect", { class: "frame", x: LEFT, y: TOP, width: W - LEFT - RIGHT, height: H - TOP - BOTTOM })];
  for (const v of ticks(y)) {
    const py = scale_y(v);
    parts.push(draw("line", { class: "grid", x1: LEFT, x2: W - RIGHT, y1: py, y2: py }),
      draw("text", { class: "tick", x: LEFT - 9, y: py + 5, "text-anchor": "end" }, number_text(v)));
  }
  const at = x.names ? x.values : x.values.length <= 8 ? x.values : ticks({ ...x, min: Math.min(...x.values), max: Math.max(...x.values) });
  at.forEach((v, i) => parts.push(draw("text", { class: "tick", x: scale_x(v), y: H - BOTTOM + 21, "text-anchor": "middle" }, x.names ? x.names[i] : number_text(v))));
  parts.push(draw("text", { class: "axis", x: (LEFT + W - RIGHT) / 2, y: H - 10, "text-anchor": "middle" }, x.label),
    draw("text", { class: "axis", transform: `translate(19 ${(TOP + H - BOTTOM) / 2}) rotate(-90)`, "text-anchor": "middle" }, y.label));
  return parts;
}

// ---- answer and outcome, side by side -----------------------------------------------------------------

/** The outcome's y at an x, read off its polyline. */
function read_off(points, at) {
  if (at <= points[0][0]) return points[0][1];
  for (let i = 1; i < points.length; i++) {
    const [[x1, y1], [x2, y2]] = [points[i - 1], points[i]];
    if (at <= x2) return x2 === x1 ? y2 : y1 + ((at - x1) / (x2 - x1)) * (y2 - y1);
  }
  return points[points.length - 1][1];
}

/** One sentence that compares the answer with the outcome. */
function verdict(model) {
  const { kind, spec, answer, outcome } = { kind: model.get("kind"), spec: model.get("spec"), answer: model.get("answer"), outcome: model.get("outcome") };
  if (kind === "choice") return say(model, answer === outcome ? "verdict.same" : "verdict.other");
  if (kind === "curve") {
    const { x, y } = spec;
    if (y.log) {
      const factors = x.values.map((v, i) => Math.abs(Math.log(read_off(outcome, v) / answer[i])));
      return say(model, "verdict.factor", { factor: number_text(Math.exp(factors.reduce((a, b) => a + b) / factors.length)) });
    }
    const gaps = x.values.map((v, i) => Math.abs(read_off(outcome, v) - answer[i]));
    return say(model, "verdict.gap", { gap: number_text(Number((gaps.reduce((a, b) => a + b) / gaps.length).toPrecision(2))), label: y.label });
  }
  const gap = answer - outcome;
  if (Math.abs(gap) <= spec.close) return say(model, "verdict.close");
  if (spec.log && answer > 0 && outcome > 0) {
    const factor = number_text(Number((gap > 0 ? answer / outcome : outcome / answer).toPrecision(2)));
    return say(model, gap > 0 ? "verdict.times_high" : "verdict.times_low", { factor });
  }
  const size = number_text(Number(Math.abs(gap).toPrecision(2)));
  return say(model, gap > 0 ? "verdict.high" : "verdict.low", { gap: spec.unit === "%" ? say(model, "percent_gap", { gap: size }) : spec.unit ? `${size} ${spec.unit}` : size });
}

const value_text = (model, value) => (model.get("kind") === "choice" ? model.get("spec").choices[value] : with_unit(value, model.get("spec").unit));

/** A drawn key: the sign that stands for the answer or the outcome in the plot. */
const sign = (which) => draw("svg", { viewBox: "0 0 34 14", class: "sign", "aria-hidden": "true" },
  draw("path", { class: which, d: "M1 7H33" }),
  which === "yours" ? draw("circle", { class: "handle", cx: 17, cy: 7, r: 5 }) : draw("rect", { class: "came-mark", x: 12, y: 2, width: 10, height: 10 }));

function panel(model, which, value) {
  const curve = model.get("kind") === "curve";
  return make("div", { class: `panel ${which}-panel` },
    make("div", { class: "panel-name" }, sign(which), make("span", {}, say(model, which === "yours" ? "yours" : "came"))),
    curve ? null : make("div", { class: model.get("kind") === "number" ? "big" : "told" }, value));
}

/** Both numbers on one line, so that the distance is seen. */
function number_line(model) {
  const { spec, answer, outcome } = { spec: model.get("spec"), answer: model.get("answer"), outcome: model.get("outcome") };
  const all = [spec.min, spec.max, outcome, answer ?? outcome];
  const span = { ...spec, min: Math.min(...all), max: Math.max(...all) };
  const scale = make_scale(span, 30, 630), svg = draw("svg", { viewBox: "0 0 660 62", "aria-hidden": "true", class: "number-line" });
  svg.append(draw("line", { class: "grid strong", x1: 30, x2: 630, y1: 26, y2: 26 }));
  for (const v of ticks(span, 8)) svg.append(draw("line", { class: "grid strong", x1: scale(v), x2: scale(v), y1: 21, y2: 31 }),
    draw("text", { class: "tick", x: scale(v), y: 52, "text-anchor": "middle" }, number_text(v)));
  if (answer !== null) svg.append(draw("line", { class: "between", x1: scale(answer), x2: scale(outcome), y1: 26, y2: 26 }),
    draw("circle", { class: "handle", cx: scale(answer), cy: 26, r: 9 }));
  svg.append(draw("rect", { class: "came-mark", x: scale(outcome) - 8, y: 18, width: 16, height: 16 }));
  return svg;
}

function curve_table(model) {
  const { x, y } = model.get("spec"), answer = model.get("answer"), outcome = model.get("outcome");
  const rows = x.values.map((v, i) => [x.names ? x.names[i] : number_text(v), answer ? number_text(answer[i]) : "–", number_text(Number(read_off(outcome, v).toPrecision(4)))]);
  return make("details", {}, make("summary", {}, say(model, "curve.table")),
    make_table(y.label, [x.label, say(model, "yours"), say(model, "came")], rows));
}

function result_parts(model) {
  const answer = model.get("answer"), kind = model.get("kind"), predicted = model.get("committed");
  const parts = [make("div", { class: "panels" },
    predicted ? panel(model, "yours", kind === "curve" ? "" : value_text(model, answer)) : null,
    panel(model, "came", kind === "curve" ? "" : value_text(model, model.get("outcome"))))];
  if (kind === "number") parts.push(number_line(model));
  if (predicted) parts.push(make("p", { class: "verdict" }, make("span", { "aria-hidden": "true" }, kind === "choice" ? (answer === model.get("outcome") ? "✓ " : "≠ ") : ""), verdict(model)));
  if (kind === "curve") parts.push(curve_table(model));
  if (model.get("why")) parts.push(make("p", { class: "why" }, make("b", {}, say(model, "why")), " ", model.get("why")));
  return parts;
}

// ---- the widget ---------------------------------------------------------------------------------------

/** Move the focus to what follows: the next cell in JupyterLab, the next widget elsewhere. */
function go_on(el) {
  const cell = el.closest(".jp-Cell");
  const all = [...document.querySelectorAll(".mambaout-widget")];
  const next = cell ? cell.nextElementSibling : all[all.indexOf(el) + 1];
  if (!next) return;
  if (!next.hasAttribute("tabindex")) next.setAttribute("tabindex", "-1");
  next.focus();
  next.scrollIntoView({ block: "nearest" });
}

function render({ model, el }) {
  const root = open_root(model, el, "prediction");
  const id = `prediction-${Math.random().toString(36).slice(2, 10)}`;
  const names = { group: `${id}-choice`, question: `${id}-question` };
  el.setAttribute("aria-labelledby", names.question);
  const change = (answer) => { note.textContent = ""; put(model, { answer }); };
  const input = { choice: choice_input, number: number_input, curve: curve_input }[model.get("kind")](model, root, change, names);

  const commit = make("button", { type: "submit", class: "main" }, say(model, "commit"));
  const skip = make("button", { type: "button", class: "quiet" }, say(model, "skip"));
  const next = make("button", { type: "button", class: "main" }, say(model, "next"));
  const again = make("button", { type: "button", class: "quiet" }, say(model, "again"));
  const note = make("p", { class: "note", role: "alert" });
  const asking = make("div", { class: "controls" }, commit, skip);
  const after = make("div", { class: "controls" }, next, again);
  const result = make("div", { class: "result", tabindex: "-1", role: "group", "aria-label": say(model, "result") });
  const form = make("form", { novalidate: true }, input.node, asking, note);
  el.append(make("p", { class: "badge" }, say(model, "badge")), make("p", { class: "question", id: names.question }, model.get("question")), form, result, after);

  const refresh = () => {
    const closed = model.get("committed") || model.get("skipped"), known = closed && model.get("state") === "known";
    input.refresh(closed);
    el.dataset.state = !closed ? "open" : known ? "revealed" : model.get("state");
    asking.hidden = closed;
    after.hidden = result.hidden = !closed;
    if (!closed) return result.replaceChildren();
    if (known) return result.replaceChildren(...result_parts(model));
    const words = { later: "state.later", on_commit: "state.working", working: "state.working", failed: "state.failed" }[model.get("state")];
    const said = say(model, words, { problem: model.get("problem") });
    return result.replaceChildren(make("p", { class: "verdict" }, say(model, model.get("committed") ? "committed" : "skipped"), " ", said));
  };
  const close = (values) => { put(model, values); refresh(); result.focus(); };
  root.listen(form, "submit", (event) => {
    event.preventDefault();
    if (model.get("answer") === null) note.textContent = say(model, `unset.${model.get("kind")}`);
    else close({ committed: true });
  });
  root.listen(skip, "click", () => close({ skipped: true }));
  root.listen(next, "click", () => go_on(el));
  root.listen(again, "click", () => {
    put(model, { committed: false, skipped: false, answer: null });
    root.announce("");
    refresh();
    form.querySelector("input:not([disabled]), [tabindex='0']")?.focus();
  });
  for (const trait of ["answer", "committed", "skipped", "outcome", "state", "problem"]) root.on(trait, refresh);
  root.on("state", () => { if (model.get("committed") && model.get("state") === "known") root.announce(result.textContent); });
  refresh();
  return root.close;
}

export default { render };
