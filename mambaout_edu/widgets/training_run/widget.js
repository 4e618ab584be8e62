// One run or several: curves, measurements and events, read off by mouse and by keyboard, and told in words.

/** The line and the marker of a run, as the picture draws them. */
function swatch(run) {
  return draw("svg", { viewBox: "0 0 44 16", "aria-hidden": "true", class: "swatch" },
    draw("path", { d: "M0,8 H44", class: `line ${colour_class(run)}`, "stroke-dasharray": DASHES[run.index % DASHES.length] }),
    draw("path", { d: SHAPES[run.index % SHAPES.length], transform: "translate(22,8)", class: `mark ${colour_class(run)}` }));
}

/** A list of the runs: name, state and newest values; with several, a button hides or shows each. */
function make_list(model, root) {
  const list = make("ul", { class: "runs" });
  let names = null, items = [];
  function toggle(name) {
    const hidden = model.get("hidden");
    put(model, { hidden: hidden.includes(name) ? hidden.filter((other) => other !== name) : [...hidden, name] });
  }
  function build(runs) {
    items = runs.map((run) => {
      const text = make("span", { class: "name" }, run.name), state = make("strong", { class: "state" }), values = make("span", { class: "values" });
      const head = runs.length > 1 ? make("button", { type: "button", class: "head" }, swatch(run), text) : make("span", { class: "head" }, swatch(run), text);
      if (runs.length > 1) head.addEventListener("click", () => toggle(run.name));
      return { head, state, values, item: make("li", {}, head, " ", state, " ", values) };
    });
    list.replaceChildren(...items.map(({ item }) => item));
  }
  return { list, refresh(runs) {
    const now = Date.now() / 1000, key = JSON.stringify(runs.map((run) => run.name));
    if (key !== names) { names = key; build(runs); }   // kept otherwise, so that the focus stays where it is
    runs.forEach((run, i) => {
      const { head, state, values, item } = items[i], about = [run.model, run.data, run.device].filter(Boolean).join(", ");
      if (runs.length > 1) head.setAttribute("aria-pressed", String(run.shown));
      if (about) head.title = about;
      state.textContent = state_in_words(model, run, now);
      values.textContent = run.rows ? values_in_words(model, run, run.rows - 1, false) : "";
      item.classList.toggle("hidden", !run.shown);
      item.dataset.state = run.state;
    });
  } };
}

function make_controls(model, root) {
  const log = make_switch(root, say(model, "log"), () => model.get("log_scale"), () => put(model, { log_scale: !model.get("log_scale") }));
  const smoothing = make("input", { type: "range", min: 0, max: 0.99, step: 0.01 }), amount = make("span", { class: "amount" });
  const axis = make("select", {}, ["step", "epoch"].map((name) => make("option", { value: name }, say(model, name === "step" ? "axis_step" : "axis_epoch"))));
  root.listen(smoothing, "input", () => put(model, { smoothing: Number(smoothing.value) }));
  root.listen(axis, "change", () => put(model, { axis: axis.value, read_at: -1 }));
  const row = make("div", { class: "controls" }, log.button, make("label", {}, say(model, "smoothing"), " ", smoothing, " ", amount),
    make("label", {}, say(model, "axis"), " ", axis));
  return { row, refresh() {
    log.refresh();
    smoothing.value = model.get("smoothing");
    amount.textContent = model.get("smoothing").toFixed(2);
    axis.value = model.get("axis");
  } };
}

/** Reading the curves off: where the reader is, and how keys and the pointer move there. */
function make_reader(model, root, svg, cursor, readout, get) {
  // The run with the most rows leads: its rows are what the keys step through.
  const lead = () => get().runs.filter((run) => run.shown && run.rows).sort((a, b) => b.rows - a.rows)[0];
  const index = (run) => (model.get("read_at") < 0 ? run.rows - 1 : nearest(run.x, model.get("read_at")));
  const words = () => get().runs.filter((run) => run.shown && run.rows).map((run) =>
    (get().runs.length > 1 ? `${run.name}: ` : "") + values_in_words(model, run, index(run)));
  let telling = 0;                                       // the kernel hears of the pointer five times a second
  root.cleanup(() => clearTimeout(telling));

  function refresh() {
    const run = lead(), { panels } = get().plan, chosen = model.get("read_at") >= 0, said = words();
    root.el.dataset.read = chosen && run ? run.curve.step[index(run)] : "";
    if (!run) { cursor.replaceChildren(); readout.textContent = ""; return; }
    const at = run.x[index(run)];
    const dots = get().runs.filter((other) => other.shown && other.rows).map((other) => [panels[0].x(other.x[index(other)]), other.curve.smooth[index(other)], other])
      .filter(([, value]) => panels[0].y.fine(value)).map(([cx, value, other]) =>
        draw("circle", { cx, cy: panels[0].to_y(value), r: 6, class: `dot ${colour_class(other)}` }));
    cursor.replaceChildren(...(chosen ? panels.map((panel) => rule(panel.x(at), panel.top, panel.x(at), panel.top + panel.height, "hair")) : []), ...dots);
    readout.replaceChildren(...(chosen ? said : [say(model, "read_hint")]).map((line) => make("p", {}, line)));
    for (const [name, value] of [["valuemax", run.x.at(-1)], ["valuenow", at], ["valuetext", said.join("; ")]]) svg.setAttribute(`aria-${name}`, value);
  }
  function go(i, speak) {
    const run = lead();
    if (!run) return;
    model.set("read_at", run.x[Math.max(0, Math.min(run.rows - 1, i))]);
    telling ||= setTimeout(() => { telling = 0; model.save_changes(); }, 200);
    if (speak) root.announce(words().join("; "));
  }
  function aim(event) {
    const box = svg.getBoundingClientRect(), { panels, height } = get().plan, run = lead();
    const x = (event.clientX - box.left) / box.width * W, y = (event.clientY - box.top) / box.height * height;
    const panel = panels.find((p) => y < p.top + p.height + FOOT + 30 && x < p.left + p.width + RIGHT) ?? panels.at(-1);
    if (run) go(nearest(run.x, (x - panel.left) / panel.width * get().plan.last), false);
  }
  root.listen(svg, "pointerdown", aim);
  root.listen(svg, "pointermove", (event) => { if (event.pointerType === "mouse" || event.buttons) aim(event); });
  root.listen(svg, "keydown", (event) => {
    const run = lead();
    if (!run) return;
    const i = index(run), page = Math.max(1, Math.round(run.rows / 10));
    const target = { ArrowLeft: i - 1, ArrowDown: i - 1, ArrowRight: i + 1, ArrowUp: i + 1, PageDown: i - page, PageUp: i + page, Home: 0, End: run.rows - 1 }[event.key];
    if (event.key === "Escape") put(model, { read_at: -1 });
    else if (target !== undefined) go(target, true);
    else return;
    event.preventDefault();
  });
  return refresh;
}

function render({ model, el }) {
  const root = { ...open_root(model, el, "training-run"), el };
  const svg = draw("svg", { role: "slider", tabindex: 0, "aria-label": say(model, "reader"), "aria-valuemin": 0, "aria-valuenow": 0, class: "picture" });
  const plot = draw("g"), cursor = draw("g", { class: "cursor" });
  svg.append(plot, cursor);
  const problem = make("p", { class: "problem", role: "alert" }), happened = make("p", { class: "happened" });
  const key = make("p", { class: "key" }), readout = make("div", { class: "readout", "data-testid": "readout" });
  const runs_list = make_list(model, root), controls = make_controls(model, root);
  const view = make("details", {}, make("summary", {}, say(model, "table")));
  el.setAttribute("aria-label", say(model, "label"));
  el.append(problem, runs_list.list, svg, happened, readout, controls.row, key, view);
  let runs = [], plan = null, frame = 0;
  const point = make_reader(model, root, svg, cursor, readout, () => ({ runs, plan }));
  const fill_tables = () => { if (view.open) view.replaceChildren(view.firstChild, ...runs.filter((run) => run.shown).flatMap((run) => tables_of(model, run))); };

  function refresh() {
    frame = 0;
    runs = read_runs(model);
    plan = layout(model, runs);
    const drawn = runs.filter((run) => run.shown), loss = plan.panels[0];
    svg.setAttribute("viewBox", `0 0 ${W} ${plan.height}`);
    plot.replaceChildren(...plan.panels.map((panel) => draw("g", { "data-panel": panel.name }, frame_of(model, panel, plan.last),
      drawn.flatMap((run) => curves_of(panel, run)))), ...events_of(model, loss, drawn));
    problem.textContent = model.get("problem") ? say(model, "problem", { problem: model.get("problem") }) : "";
    runs_list.refresh(runs);
    controls.refresh();
    happened.replaceChildren(...event_key(model, drawn));
    key.textContent = drawn.length ? ["key_line", "key_band", ...(drawn.some((run) => run.evals.length) ? ["key_interval"] : [])]
      .map((name) => say(model, name)).join("; ") : say(model, "all_hidden");
    point();
    fill_tables();
    Object.assign(el.dataset, { runs: runs.length, rows: runs.map((run) => run.rows).join(","), evals: runs.map((run) => run.evals.length).join(","),
      states: runs.map((run) => run.state).join(","), last: runs.map((run) => run.curve.step.at(-1) ?? "").join(","),
      smooth: runs.map((run) => run.curve.smooth.at(-1) ?? "").join(",") });
  }

  const later = () => { frame ||= requestAnimationFrame(refresh); };   // many messages, one drawing
  root.cleanup(() => cancelAnimationFrame(frame));
  const clock = setInterval(() => runs_list.refresh(runs), 10_000);    // a run falls silent while nothing arrives
  root.cleanup(() => clearInterval(clock));
  root.listen(view, "toggle", fill_tables);
  for (const trait of ["points", "runs", "hidden", "problem", "log_scale", "smoothing", "axis"]) root.on(trait, later);
  root.on("read_at", () => point());
  refresh();
  return root.close;
}

export default { render };
