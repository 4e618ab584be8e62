// The controls, the clock and the view. The page owns the position while it plays.

const TELL = 200;                        // ms between messages to the kernel
const PATIENCE = 10;                     // looks at a hidden view, TELL ms apart; then its size tells
const SLOWLY = 1.25, FASTER = 0.5;       // tokens a second at first; then the number grows by this share a second
const TAPE = 9;                          // tokens on the tape
const OPTIONS = {
  layers: [1, 2, 4, 6, 8, 12, 16, 24, 32, 48, 64, 80, 96, 128], batch: [1, 2, 4, 8, 16, 32, 64, 128, 256], d_state: [1, 2, 4, 8, 16, 32, 64, 128, 256],
  dim: [64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 2560, 3072, 4096, 5120, 6144, 8192],
};
const SIZES = ["layers", "dim", "heads", "kv_heads", "d_state", "batch", "dtype"];
const sizes_of = (model) => Object.fromEntries(SIZES.map((name) => [name, model.get(name)]));

/** The slider's place for a number of tokens, and back: even steps on a scale of ratios that begins at 0. */
const to_slider = (tokens) => Math.log1p(tokens) / Math.log1p(MOST);
const from_slider = (place) => Math.round(Math.expm1(place * Math.log1p(MOST)));

/** The values that a size's slider offers; one that was given from outside is among them. */
function options_of(name, sizes) {
  const least = name === "heads" ? divisors(sizes.dim, 256).filter((n) => sizes.dim / n >= 8) : name === "kv_heads" ? divisors(sizes.heads, 256) : OPTIONS[name];
  return least.includes(sizes[name]) ? least : [...least, sizes[name]].sort((a, b) => a - b);
}

/** A size changed, and the heads led to the next number that divides. */
export function resized(sizes, name, value) {
  const next = { ...sizes, [name]: value };
  if (next.dim % next.heads) next.heads = nearest(divisors(next.dim, 256).filter((n) => next.dim / n >= 8), next.heads);
  if (next.heads % next.kv_heads) next.kv_heads = nearest(divisors(next.heads, 256), next.kv_heads);
  return next;
}

function make_controls(model) {
  const text = (key) => say(model, key), amount = () => make("span", { class: "amount" });
  const ui = { play: make("button", { type: "button", class: "play" }), step: make("button", { type: "button" }, text("step")), reset: make("button", { type: "button" }, text("reset")),
    tokens: make("input", { type: "range", min: 0, max: 1, step: "any" }), count: make("span", { class: "amount count" }), inputs: {}, amounts: {} };
  ui.row = make("div", { class: "controls" }, ui.play, ui.step, ui.reset, make("label", { class: "long" }, text("tokens") + " ", ui.tokens, ui.count));
  ui.sizes = make("div", { class: "sizes" }, SIZES.map((name) => {
    ui.amounts[name] = amount();
    ui.inputs[name] = name === "dtype" ? make("select", {}, Object.keys(BYTES).map((value) => make("option", { value }, value))) : make("input", { type: "range", min: 0, step: 1 });
    return make("label", { class: "size" }, make("span", {}, text(name) + " ", name === "dtype" ? "" : ui.amounts[name]), ui.inputs[name]);
  }));
  return ui;
}

/** A picture with its title, its numbers and the words below it. */
function make_panel(model, kind) {
  const canvas = make("canvas", { role: "img", "aria-label": say(model, kind + "_picture") }), big = make("span", { class: "big" }), small = make("p", { class: "small" });
  return { canvas, big, small, node: make("div", { class: "panel " + kind }, make("h3", {}, say(model, kind + "_title")), make("p", { class: "sum" }, big, " ", say(model, kind + "_big")), canvas, small) };
}

const percent = (share) => (share < 0.001 ? "< 0.1" : (100 * share).toFixed(share < 0.9995 ? 1 : 0));

/** What is shown, as tables. */
function tables(model, sizes, tokens, state) {
  const [bank, mamba] = ["attention", "mamba1"].map((mixer) => account(mixer, sizes, tokens)), bytes = (count) => `${readable(model, count)} (${whole(count)})`;
  const say_row = (key, f) => [say(model, key), f(bank), f(mamba)], token = account("attention", sizes, 1).used;
  const shown = Array.from({ length: Math.min(4, state.N) }, (_, n) => n);
  return [
    make_table(say(model, "caption_now", { tokens: whole(tokens) }), [say(model, "quantity"), say(model, "bank_short"), say(model, "state_short")], [say_row("used", (a) => bytes(a.used)),
      say_row("multiply_adds", (a) => whole(a.multiply_adds)), say_row("moved", (a) => bytes(a.moved)), say_row("weights", (a) => bytes(a.weight_bytes))]),
    make_table(say(model, "caption_crossings"), [say(model, "quantity"), say(model, "first_token")], [...["multiply_adds", "moved", "used"].map((by) => [say(model, by), whole(crossing(sizes, by))]),
      [say(model, "long"), whole(6 * sizes.dim)]]),
    make_table(say(model, "caption_places"), [say(model, "place"), say(model, "size"), say(model, "source"), say(model, "full_from")],
      model.get("places").map((place) => [place.name, readable(model, place.bytes), place.source, whole(Math.floor(place.bytes / token) + 1)])),
    make_table(say(model, "caption_state", { count: shown.length }), [say(model, "channel"), say(model, "delta"), ...shown.map((n) => `n = ${n + 1}`)], Array.from({ length: CHANNELS }, (_, c) =>
      [String(c + 1), delta_of(c).toFixed(4), ...shown.map((n) => state.cells[c * state.N + n].toFixed(4))])),
  ];
}

/** The sentence below the ladder: what the bank has outgrown. */
function verdict_of(model, used) {
  const places = model.get("places"), outgrown = places.filter((place) => used > place.bytes).at(-1), fits = places.find((place) => used <= place.bytes);
  if (!outgrown) return fits ? say(model, "fits", { place: fits.name }) : "";
  return fits ? say(model, "outgrown", { place: outgrown.name, next: fits.name }) : say(model, "nowhere", { place: outgrown.name });
}

function render({ model, el }) {
  const root = open_root(model, el, "memory-bank"), ui = make_controls(model), bank = make_panel(model, "bank"), state_panel = make_panel(model, "state");
  const chips = Array.from({ length: TAPE }, () => make("span", { class: "chip" }, make("b"), make("small"))), tape = make("div", { class: "tape", "aria-hidden": "true" }, chips);
  const ladder_box = make("div"), cost_box = make("div"), verdict = make("p", { class: "verdict" }), costs = make("p", { class: "costs" });
  const details = make("details", {}, make("summary", {}, say(model, "table")));
  const scale = make("span", { class: "key", "aria-hidden": "true" }, say(model, "negative") + " ", make("span", { class: "ramp" }), " " + say(model, "positive"));
  state_panel.node.insertBefore(scale, state_panel.small);
  el.setAttribute("aria-label", say(model, "label"));
  el.append(ui.row, tape, ui.sizes, make("div", { class: "panels" }, bank.node, state_panel.node), make("h3", {}, say(model, "ladder_title")), ladder_box, verdict,
    make("h3", {}, say(model, "cost_title")), cost_box, costs, make("p", { class: "hint" }, say(model, "hint")), details);
  let tokens = 0, sizes, state, paint, ladder, cost, look, cross = 0, later = 0, ticking = 0, last = 0, exact = 0, told = 0, telling = 0, written = "", hidden = 0, again = 0;

  const tell = () => { telling ||= setTimeout(() => { telling = 0; model.save_changes(); }, TELL); };
  const set = (values) => { for (const [name, value] of Object.entries(values)) model.set(name, value); tell(); };

  /** Write a text only where it is another one. */
  const write = (node, text) => { if (node.textContent !== text) node.textContent = text; };

  function show_tape() {
    const first = Math.max(0, tokens - TAPE);
    chips.forEach((chip, i) => {
      const t = first + i, there = t < tokens, [word, gloss] = look.sentence[t] ?? [say(model, "word", { number: state.word(t) }), say(model, "number", { number: whole(t + 1) })];
      write(chip.firstChild, there ? word : "");
      write(chip.lastChild, there ? gloss : "");
      chip.className = `chip${there ? " there" : ""}${there && t === tokens - 1 ? " newest" : ""}${t < SENTENCE ? "" : " later"}`;
    });
  }

  function show(next, speak) {
    tokens = next;
    exact = speak ? next : exact;
    const [mine, other] = ["attention", "mamba1"].map((mixer) => account(mixer, sizes, tokens));
    state.go(tokens);
    draw_bank(bank.canvas, tokens, look);
    paint(state_panel.canvas, look);
    ladder.show(mine.used, other.used);
    cost.show(tokens);
    show_tape();
    ui.tokens.value = to_slider(tokens);
    write(ui.count, whole(tokens));
    write(bank.big, readable(model, mine.used));
    write(state_panel.big, readable(model, other.used));
    write(bank.small, say(model, "bank_small", { per: whole(tokens_a_cell(tokens)), bytes: readable(model, account("attention", sizes, 1).used) }));
    write(state_panel.small, tokens ? say(model, "state_small", { slow: percent(Math.exp(-SLOWEST * (tokens - 1))), fast: percent(Math.exp(-FASTEST * state.N * (tokens - 1))) }) : say(model, "state_empty"));
    write(verdict, verdict_of(model, mine.used));
    write(costs, say(model, "costs", { bank: whole(mine.multiply_adds), state: whole(other.multiply_adds), ratio: (mine.multiply_adds / other.multiply_adds).toPrecision(3) }));
    el.dataset.tokens = tokens;
    if (!speak) return;
    ui.tokens.setAttribute("aria-valuetext", say(model, "so_many", { tokens: whole(tokens) }));
    Object.assign(el.dataset, { used: mine.used, state: other.used });
    if (details.open) tabulate();
  }
  const tabulate = () => details.replaceChildren(details.firstChild, ...tables(model, sizes, tokens, state));

  function go(next) {
    show(clamp(Math.round(next), 0, MOST), true);
    set({ tokens });
  }
  const speak = () => root.announce(say(model, "spoken", { tokens: whole(tokens), bank: bank.big.textContent, state: state_panel.big.textContent }));

  function tick(time) {
    ticking = 0;
    if (!model.get("playing")) return;
    const passed = last ? Math.min(100, time - last) / 1000 : 0;   // a tab that was hidden does not jump
    last = time;
    exact = Math.min(MOST, exact + passed * Math.max(SLOWLY, FASTER * exact));
    const next = Math.floor(exact), end = next >= MOST, tells = time - told > TELL || end;
    if (next !== tokens || tells) show(next, false);
    if (tells) {
      told = time;
      set({ tokens, ...(end ? { playing: false } : {}) });
    }
    if (!end) ticking ||= requestAnimationFrame(tick);
  }
  function play_or_pause() {
    const playing = model.get("playing");
    ui.play.textContent = say(model, playing ? "pause" : "play");
    el.dataset.playing = playing;
    [last, exact] = [0, tokens];
    if (playing) ticking ||= requestAnimationFrame(tick);
    else show(tokens, true);
  }
  function toggle_play() {
    const playing = !model.get("playing");
    if (playing && tokens >= MOST) show(0, true);
    set({ playing, tokens });
    if (!playing) speak();
  }

  /** Sizes, places, seed or theme are others: the charts are drawn anew. */
  function refresh() {
    cancelAnimationFrame(later);
    later = 0;
    // JupyterLab hides everything for a moment while it changes its theme, too briefly for the ResizeObserver.
    clearTimeout(again);
    hidden = el.clientWidth ? 0 : hidden + 1;
    if (hidden && hidden <= PATIENCE) again = setTimeout(soon, TELL);
    sizes = sizes_of(model);
    const style = getComputedStyle(el), colour = (name) => style.getPropertyValue(name).trim();
    const dark = document.body.dataset.jpThemeLight ? document.body.dataset.jpThemeLight === "false" : matchMedia("(prefers-color-scheme: dark)").matches;
    look = { blue: colour("--blue"), orange: colour("--orange"), paper: style.backgroundColor, on_blue: dark ? "#111" : "#fff", sentence: model.get("strings").sentence };
    const key = `${model.get("seed")} ${sizes.d_state}`;
    if (written !== key) {
      written = key;
      state = make_state(model.get("seed"), sizes.d_state);
      paint = make_state_painter(state);
    }
    cross = crossing(sizes, "multiply_adds");
    const wide = clamp(ladder_box.clientWidth, 420, 1116);   // one unit is one pixel, so that the writing keeps its size
    ladder = make_ladder(model, sizes, wide);
    cost = make_cost(model, sizes, cross, wide);
    ladder_box.replaceChildren(ladder.svg);
    cost_box.replaceChildren(cost.svg);
    for (const name of SIZES) {
      const input = ui.inputs[name];
      if (name === "dtype") input.value = sizes.dtype;
      else {
        const options = options_of(name, sizes);
        input.max = options.length - 1;
        input.value = options.indexOf(sizes[name]);
        input.setAttribute("aria-valuetext", whole(sizes[name]));
        write(ui.amounts[name], whole(sizes[name]));
      }
    }
    Object.assign(el.dataset, { crossing: cross, sizes: JSON.stringify(sizes) });
    show(model.get("playing") ? tokens : model.get("tokens"), true);
  }
  const soon = () => { later ||= requestAnimationFrame(refresh); };

  root.listen(ui.play, "click", toggle_play);
  root.listen(ui.step, "click", () => { go(tokens + 1); speak(); });
  root.listen(ui.reset, "click", () => { go(0); speak(); });
  root.listen(ui.tokens, "input", () => go(from_slider(Number(ui.tokens.value))));
  root.listen(ui.tokens, "keydown", (event) => {
    const further = { ArrowRight: 1.05, ArrowUp: 1.05, PageUp: 2, ArrowLeft: 1 / 1.05, ArrowDown: 1 / 1.05, PageDown: 0.5 }[event.key];
    if (!further) return;
    event.preventDefault();
    go(further > 1 ? Math.max(tokens + 1, tokens * further) : Math.min(tokens - 1, tokens * further));
  });
  for (const [name, input] of Object.entries(ui.inputs)) {
    root.listen(input, "input", () => {
      set(resized(sizes, name, name === "dtype" ? input.value : options_of(name, sizes)[Number(input.value)]));
      refresh();
    });
  }
  root.listen(details, "toggle", () => { if (details.open) tabulate(); });
  for (const trait of [...SIZES, "seed", "places"]) root.on(trait, soon);
  root.on("playing", play_or_pause);
  root.on("tokens", () => { if (model.get("tokens") !== tokens && !later) show(model.get("tokens"), true); });
  const sized = new ResizeObserver(soon), themed = new MutationObserver(soon), system = matchMedia("(prefers-color-scheme: dark)");
  sized.observe(bank.canvas);
  themed.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light", "data-jp-theme-name"] });
  root.listen(system, "change", soon);
  root.cleanup(() => { sized.disconnect(); themed.disconnect(); cancelAnimationFrame(later); cancelAnimationFrame(ticking); clearTimeout(telling); clearTimeout(again); });

  refresh();
  if (model.get("playing") && root.reduced()) put(model, { playing: false });   // nothing moves of its own accord
  play_or_pause();
  return root.close;
}

export default { render };
