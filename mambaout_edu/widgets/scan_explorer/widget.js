// The controls, the clock, and what the kernel is told. The page owns the step while it plays.

const LARGEST = 128, SHORTEST = -3, LONGEST = 14, FASTEST = 13;   // half-life and speed as powers of two
const TELL = 200;                                                 // ms between messages to the kernel
const READABLE = 30;                                              // steps a second that an eye can read

const slider = (attributes) => make("input", { type: "range", ...attributes });
const number_field = (least, most) => make("input", { type: "number", min: least, max: most, step: 1 });
const half_life_of = (decay) => (decay < 1 ? Math.log(0.5) / Math.log(decay) : Infinity);
const decay_of = (half_life) => Number((0.5 ** (1 / half_life)).toPrecision(7));

/** A picture file as rgb bytes, at most LARGEST pixels a side, transparency on white. */
async function decoded(file) {
  const bitmap = await createImageBitmap(file), scale = Math.min(1, LARGEST / Math.max(bitmap.width, bitmap.height));
  const [columns, rows] = [bitmap.width, bitmap.height].map((n) => Math.max(1, Math.round(n * scale)));
  const canvas = make("canvas", { width: columns, height: rows }), g = canvas.getContext("2d");
  g.fillStyle = "#ffffff";
  g.fillRect(0, 0, columns, rows);
  g.imageSmoothingQuality = "high";
  g.drawImage(bitmap, 0, 0, columns, rows);
  bitmap.close();
  const rgba = g.getImageData(0, 0, columns, rows).data, bytes = new Uint8Array(3 * rows * columns);
  for (let i = 0; i < rows * columns; i++) bytes.set(rgba.subarray(4 * i, 4 * i + 3), 3 * i);
  return { picture: new DataView(bytes.buffer), picture_size: [rows, columns] };
}

/** What all panels share: grid, colours, decay, theme. */
function look_at(model, el) {
  const [height, width, decay, size] = ["height", "width", "decay", "picture_size"].map((name) => model.get(name));
  const bytes = model.get("picture"), plain = size.length !== 2 || bytes.byteLength !== 3 * size[0] * size[1];
  const style = getComputedStyle(el), light = document.body.dataset.jpThemeLight
    ? document.body.dataset.jpThemeLight === "true" : !matchMedia("(prefers-color-scheme: dark)").matches;
  return { height, width, decay, plain, light, half_life: half_life_of(decay), fade: fading(decay, height * width), ink: style.color || "#000000",
    blank: pack(light ? [225, 225, 225] : [72, 72, 72]), colours: plain ? plain_colours(height, width) : resampled(bytes, ...size, height, width),
    options: { window: model.get("window"), skip: model.get("skip"), seed: model.get("seed"), order: model.get("base") } };
}

/** The controls above the panels, in three rows. */
function make_controls(model) {
  const text = (key) => say(model, key), button = (key, sign) => make("button", { type: "button", "data-act": key,
    ...(sign ? { "aria-label": text(key), title: text(key) } : {}) }, sign ?? text(key));
  const labelled = (key, input, ...more) => make("label", { "data-for": key }, text(key) + " ", input, ...more);
  const amount = () => make("span", { class: "amount", "aria-hidden": "true" });
  const ui = {
    file: make("input", { type: "file", accept: "image/*" }), plain: button("plain"),
    height: number_field(1, LARGEST), width: number_field(1, LARGEST),
    window: number_field(1, LARGEST), skip: number_field(1, LARGEST), seed: number_field(0, 2 ** 32 - 1),
    base: make("select", {}, Object.keys(ORDERS).map((name) => make("option", { value: name }, model.get("strings").names[name]))),
    first: button("first", "|\u25c0\ufe0e"), back: button("back", "\u25c0\ufe0e"),
    play: make("button", { type: "button", class: "play", "data-act": "play" }), forward: button("forward", "\u25b6\ufe0e"),
    step: slider({ min: 0, step: 1 }), step_text: amount(), speed: slider({ min: 0, max: FASTEST, step: "any" }), speed_text: amount(),
    decay: slider({ min: SHORTEST, max: LONGEST, step: "any" }), decay_text: amount(), error: make("p", { class: "error", role: "alert" }),
  };
  const fields = Object.fromEntries(["window", "skip", "seed", "base"].map((key) => [key, labelled(key, ui[key])]));
  const key_of = (kind) => make("span", { class: "key" }, make("span", { class: "swatch " + kind, "aria-hidden": "true" }), text(kind));
  ui.picture_row = make("div", { class: "controls" }, labelled("upload", ui.file), ui.plain, labelled("rows", ui.height), labelled("columns", ui.width), Object.values(fields));
  ui.play_row = make("div", { class: "controls" }, ui.first, ui.back, ui.play, ui.forward, labelled("step", ui.step, ui.step_text), labelled("speed", ui.speed, ui.speed_text));
  ui.memory_row = make("div", { class: "controls" }, labelled("memory", ui.decay, ui.decay_text), make("span", { class: "keys" }, ["bright", "dark", "grey"].map(key_of)));
  ui.fields = fields;
  return ui;
}

/** Tables that say what the panels show. */
function tables(model, panels, view, step, chosen) {
  const orders = panels.map((panel) => panel.order()), names = orders.map(({ name }) => model.get("strings").names[name]);
  const at = chosen >= 0 ? chosen : orders[0].found[0][Math.min(step, orders[0].longest - 1)];
  const apart_of = orders.map((order) => steps_apart(order, view, at)), held_of = orders.map((order) => held(order, view, at));
  const rows = SIDES.flatMap((side, k) => (apart_of[0][k] === undefined ? [] : [[say(model, side), ...orders.flatMap((_, n) => [
    Number.isFinite(apart_of[n][k]) ? whole(apart_of[n][k]) : say(model, "endless"),
    held_of[n][k] === null ? say(model, "later") : say(model, "percent", { value: percent(held_of[n][k]) })])]]));
  const head = orders.map(({ found, longest }) => found.map((path) => say(model, "at", place(path[Math.min(step, path.length - 1, longest - 1)], view))).join("; "));
  const measured = orders.map(({ measures }) => measures_in_words(model, measures));
  return [
    make_table(say(model, "caption_neighbours", place(at, view)), [say(model, "neighbour"), ...names.flatMap((order) => [say(model, "steps_of", { order }), say(model, "held_of", { order })])], rows),
    make_table(say(model, "caption_measures"), [say(model, "measure"), ...names], [[say(model, "step"), ...orders.map(({ longest }) => whole(Math.min(step, longest - 1)))],
      [say(model, "head"), ...head], ...measured[0].map(([key], k) => [key, ...measured.map((each) => each[k][1])])]),
  ];
}

/** Turns time into steps while the trait `playing` is true: `now` and `last` give steps, `show` draws one. */
function make_clock(model, root, { now, last, show, set }) {
  let frame = 0, began = 0, from = 0, told = 0;
  function tick(time) {
    frame = 0;
    if (!model.get("playing")) return;
    if (!began) [began, from, told] = [time, now(), time];
    const end = last(), next = Math.min(end, from + Math.floor((time - began) / 1000 * model.get("speed")));
    const tells = time - told > TELL || next === end;
    if (next !== now() || tells) show(next, tells);
    if (tells) {
      told = time;
      set({ step: next, ...(next === end ? { playing: false } : {}) });
    }
    if (next < end) frame ||= requestAnimationFrame(tick);
  }
  root.cleanup(() => cancelAnimationFrame(frame));
  return { from_here() { began = 0; }, start() { began = 0; frame ||= requestAnimationFrame(tick); } };
}

/** Listens to the fields for a picture and for numbers; what does not fit is said in words, and nothing changes. */
function take_inputs(model, root, ui, set) {
  const complain = (text) => { ui.error.textContent = text; };
  root.listen(ui.file, "change", async () => {
    const file = ui.file.files[0];
    if (!file) return;
    if (!file.size) return complain(say(model, "empty_file", { name: file.name }));
    try {
      const found = await decoded(file);
      complain("");
      set({ ...found, height: found.picture_size[0], width: found.picture_size[1], step: 0, cursor: [] });
    } catch {
      complain(say(model, "not_a_picture", { name: file.name }));
    }
  });
  root.listen(ui.plain, "click", () => {
    ui.file.value = "";
    set({ picture: new DataView(new ArrayBuffer(0)), picture_size: [] });
  });
  for (const [key, name] of Object.entries({ height: "rows", width: "columns", window: "window", skip: "skip", seed: "seed" })) {
    const input = ui[key], least = Number(input.min), most = Number(input.max);
    root.listen(input, "change", () => {
      const value = Number(input.value), fits = input.value !== "" && Number.isInteger(value) && value >= least && value <= most;
      complain(fits ? "" : say(model, "bad_number", { name: say(model, name), least, most: whole(most) }));
      if (fits) set({ [key]: value, ...(key === "seed" ? {} : { step: 0, cursor: [] }) });
      else input.value = model.get(key);
    });
  }
  root.listen(ui.base, "change", () => set({ base: ui.base.value }));
}

/** The cell that a key leads to from cell i, undefined for other keys; the first arrow chooses the first cell. */
function led_to(key, i, { width, height }) {
  const r = Math.floor(Math.max(0, i) / width), c = Math.max(0, i) % width;
  const cell = (row, column) => clamp(row, 0, height - 1) * width + clamp(column, 0, width - 1);
  if (i < 0 && key.startsWith("Arrow")) return 0;
  return { ArrowUp: cell(r - 1, c), ArrowDown: cell(r + 1, c), ArrowLeft: cell(r, c - 1), ArrowRight: cell(r, c + 1),
    Home: cell(r, 0), End: cell(r, width), PageUp: cell(0, c), PageDown: cell(height, c) }[key];
}

function render({ model, el }) {
  const root = open_root(model, el, "scan-explorer"), ui = make_controls(model);
  const board = make("div", { class: "panels" }), details = make("details", {}, make("summary", {}, say(model, "table")));
  const two = make_switch(root, say(model, "two"), () => model.get("orders").length > 1, toggle_second);
  ui.picture_row.insertBefore(two.button, ui.fields.window);
  el.setAttribute("aria-label", say(model, "label"));
  el.append(ui.picture_row, ui.error, ui.play_row, ui.memory_row, board, make("p", { class: "hint" }, say(model, "hint")), details);
  let panels = [], view, step = 0, last = 0, chosen = -1, later = 0, telling = 0, laid = 0;

  // What is told to the kernel goes at most five times a second; what is drawn does not wait for it.
  const tell = () => { telling ||= setTimeout(() => { telling = 0; model.save_changes(); }, TELL); };
  const keep = (values) => { for (const [name, value] of Object.entries(values)) model.set(name, value); };
  const set = (values) => { keep(values); tell(); };
  root.cleanup(() => { cancelAnimationFrame(later); cancelAnimationFrame(laid); clearTimeout(telling); });

  function show(next, speak) {
    step = next;
    for (const panel of panels) panel.step(Math.min(step, panel.order().longest - 1), speak);
    if (!speak && model.get("speed") > READABLE) return;   // laying out text costs more than drawing
    ui.step.value = step;
    ui.step_text.textContent = say(model, "step_of", { step: whole(step), last: whole(last) });
    el.dataset.step = step;
    if (!speak) return;
    ui.step.setAttribute("aria-valuetext", ui.step_text.textContent);
    if (details.open) tabulate();
  }
  const tabulate = () => details.replaceChildren(details.firstChild, ...tables(model, panels, view, step, chosen));

  function go(next) {
    show(clamp(Math.round(next), 0, last), true);
    clock.from_here();
    set({ step });
  }

  const clock = make_clock(model, root, { now: () => step, last: () => last, show, set });
  function play_or_pause() {
    const playing = model.get("playing");
    ui.play.textContent = say(model, playing ? "pause" : "play");
    el.dataset.playing = playing;
    if (playing) clock.start();
    else show(step, true);
  }
  function toggle_play() {
    const playing = !model.get("playing");
    if (playing && step >= last) show(0, true);
    set({ playing, step });
    root.announce(playing ? say(model, "started") : say(model, "stopped", { step: whole(step) }));
  }

  function choose(i, speak) {
    chosen = i;
    for (const panel of panels) panel.choose(i);
    el.dataset.cursor = i;
    if (details.open) tabulate();
    const { row, column } = place(i, view);
    set({ cursor: i < 0 ? [] : [row, column] });
    if (speak && i >= 0) root.announce(panels.map((panel) => in_words(model, panel.order(), view, i)).join(" "));
  }

  const act = {
    order: (which, name) => {
      set({ orders: model.get("orders").map((old, k) => (k === which ? name : old)) });
      refresh();
      const { mean } = panels[which].order().measures;
      root.announce(say(model, "now_shows", { order: model.get("strings").names[name], mean: Number.isFinite(mean) ? short(mean) : say(model, "endless") }));
    },
    choose: (i) => { if (i !== chosen) choose(i, false); },
    jump: (which, i) => {
      const steps = panels[which].order().places.map((at) => at[i]).filter((at) => at >= 0);
      go(Math.min(...steps));
      root.announce(say(model, "at_step", { step: whole(step) }));
    },
    keys: (which, event) => {
      const to = led_to(event.key, chosen, view);
      if (to !== undefined) choose(to, true);
      else if (event.key === "Escape") choose(-1, false);
      else if (event.key === "Enter") act.jump(which, Math.max(0, chosen));
      else if (event.key === " ") toggle_play();
      else return;
      event.preventDefault();
    },
  };

  function toggle_second() {
    const orders = model.get("orders"), other = orders[0] === "hilbert" ? "raster" : "hilbert";
    set({ orders: orders.length > 1 ? orders.slice(0, 1) : [orders[0], other] });
  }

  /** Everything anew: another order, size, picture or theme. */
  function refresh() {
    cancelAnimationFrame(later);
    later = 0;
    const orders = model.get("orders");
    view = look_at(model, el);
    while (panels.length > orders.length) {
      const { node } = panels.pop();
      sized.unobserve(node);
      node.remove();
    }
    while (panels.length < orders.length) {
      const panel = make_panel(model, root, panels.length, act);
      panels.push(panel);
      board.append(panel.node);
      sized.observe(panel.node);
    }
    board.dataset.count = orders.length;
    last = 0;
    panels.forEach((panel, k) => {
      panel.reset(orders[k], view);
      panel.name.textContent = say(model, orders.length < 2 ? "order_only" : k ? "order_two" : "order_one");
      last = Math.max(last, panel.order().longest - 1);
    });
    ui.step.max = last;
    const used = new Set(orders.flatMap((name) => uses(name, model.get("base"))));
    for (const [key, field] of Object.entries(ui.fields)) field.hidden = !used.has(key);
    refresh_controls();
    take_cursor(true);
    show(Math.min(model.get("step"), last), true);
    Object.assign(el.dataset, { orders: orders.join(), size: `${view.height}x${view.width}`, picture: view.plain ? "" : model.get("picture_size").join("x") });
  }
  const soon = () => { later ||= requestAnimationFrame(refresh); };

  function refresh_controls() {
    for (const key of ["height", "width", "window", "skip", "seed", "base"]) ui[key].value = model.get(key);
    const decay = model.get("decay"), half_life = half_life_of(decay), speed = model.get("speed");
    if (Math.abs(decay_of(2 ** ui.decay.value) - decay) > 1e-6) ui.decay.value = Math.min(LONGEST, Math.log2(half_life));
    ui.decay_text.textContent = decay < 1 ? say(model, "half_life", { decay: decay > 0.999 ? decay.toFixed(5) : decay.toFixed(3), steps: short(half_life) }) : say(model, "keeps_all");
    ui.decay.setAttribute("aria-valuetext", ui.decay_text.textContent);
    if (Math.round(2 ** ui.speed.value) !== Math.round(speed)) ui.speed.value = Math.log2(speed);
    ui.speed_text.textContent = say(model, "per_second", { value: whole(speed) });
    ui.speed.setAttribute("aria-valuetext", ui.speed_text.textContent);
    ui.plain.disabled = view.plain;
    two.refresh();
    el.dataset.decay = decay;
  }

  function refade() {
    view = { ...view, decay: model.get("decay"), half_life: half_life_of(model.get("decay")), fade: fading(model.get("decay"), view.height * view.width) };
    for (const panel of panels) { panel.refade(view); panel.choose(chosen); }
    refresh_controls();
    if (details.open) tabulate();
  }
  function take_cursor(anew) {
    const [row, column] = model.get("cursor"), i = row < view.height && column < view.width ? row * view.width + column : -1;
    if (i === chosen && anew !== true) return;
    chosen = i;
    for (const panel of panels) panel.choose(i);
    el.dataset.cursor = i;
    if (details.open) tabulate();
  }

  const sized = new ResizeObserver(() => { laid ||= requestAnimationFrame(() => { laid = 0; panels.forEach((panel) => panel.resize()); }); });
  const themed = new MutationObserver(soon);
  themed.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light", "data-jp-theme-name"] });
  root.cleanup(() => { sized.disconnect(); themed.disconnect(); });

  for (const [key, f] of Object.entries({ first: () => go(0), back: () => go(step - 1), forward: () => go(step + 1), play: toggle_play })) {
    root.listen(ui[key], "click", () => {
      f();
      if (key !== "play") root.announce(say(model, "at_step", { step: whole(step) }));
    });
  }
  root.listen(ui.step, "input", () => go(Number(ui.step.value)));
  root.listen(ui.speed, "input", () => { set({ speed: Math.round(2 ** ui.speed.value) }); });
  root.listen(ui.decay, "input", () => set({ decay: ui.decay.value >= LONGEST ? 1 : decay_of(2 ** ui.decay.value) }));
  take_inputs(model, root, ui, set);
  root.listen(details, "toggle", () => { if (details.open) tabulate(); });
  for (const trait of ["orders", "height", "width", "picture", "picture_size", "window", "skip", "seed", "base"]) root.on(trait, soon);
  root.on("decay", refade);
  root.on("speed", () => { clock.from_here(); refresh_controls(); });
  root.on("cursor", take_cursor);
  root.on("playing", play_or_pause);
  root.on("step", () => {
    if (model.get("step") === step || later) return;
    clock.from_here();
    show(Math.min(model.get("step"), last), true);
  });

  refresh();
  if (model.get("playing") && root.reduced()) put(model, { playing: false });   // nothing moves of its own accord
  play_or_pause();
  return root.close;
}

/** The options that an order or a strategy listens to. */
function uses(name, base) {
  const own = { window: ["window"], window_columns: ["window"], atrous: ["skip"], random: ["seed"] }[name] ?? [];
  return name === "bidirectional" ? ["base", ...uses(base === "bidirectional" ? "raster" : base)] : own;
}

export default { render };
