// A card for each token, and two pictures of the state: each column is what it is made of after that token.

const W = 540, H = 330, LEFT = 62, TOP = 14, FLOOR = 268, LONGEST = 5, CLOSED = 0.05, OPENED = 0.7;
const LITTLE = 0.05;                                     // a smaller share of the state counts as forgotten
// Cividis: order is told by lightness too. Sampled at even distances.
const CIVIDIS = [[0, 34, 78], [18, 53, 112], [59, 73, 108], [87, 93, 109], [112, 113, 115], [138, 134, 120], [165, 156, 116], [195, 179, 105], [225, 204, 85], [254, 232, 56]];

/** The weight of token s in the state after token t: weights[t][s], for s up to t. */
export function weights(deltas, A, first_order) {
  let state = [];
  return deltas.map((delta) => {
    const left = Math.exp(delta * A), entered = first_order ? delta : Math.expm1(delta * A) / A;
    state = [...state.map((w) => w * left), entered];
    return state;
  });
}

const is_open = (delta) => delta > CLOSED;
const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
const percent = (share) => (100 * share).toFixed(0);
const words = (x, y, text, kind = "", anchor = "middle") => draw("text", { x, y, class: kind, "text-anchor": anchor }, text);
const rule = (x1, y1, x2, y2, kind) => draw("line", { x1, y1, x2, y2, class: kind });

/** The colour of token i of n, and whether light text stands on it. */
function colour(i, n) {
  const at = (0.12 + 0.88 * i / (n - 1)) * (CIVIDIS.length - 1),   // without the darkest, which dark paper would hide
     low = Math.min(Math.floor(at), CIVIDIS.length - 2);
  const rgb = CIVIDIS[low].map((v, k) => Math.round(v + (at - low) * (CIVIDIS[low + 1][k] - v)));
  return { fill: `rgb(${rgb})`, dark: 0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2] < 125 };
}

/** Columns of stacked shares, the oldest token at the bottom, and the part that nothing has filled on top. */
function chart(model, tokens, found, full, high) {
  const n = tokens.length, width = (W - LEFT - 8) / n;
  const y = (v) => FLOOR - v / high * (FLOOR - TOP), whole_at = y(full);
  const column = (row, t) => {
    const x = LEFT + t * width + width * 0.08, wide = width * 0.84;
    let below = 0;
    const parts = row.flatMap((w, s) => {
      const from = y(below), to = y(below += w), tint = colour(s, n), tall = from - to;
      return tall < 0.5 ? [] : [draw("rect", { x, y: to, width: wide, height: tall, fill: tint.fill, class: "share" }),
        ...(tall > 21 ? [fitted(x + wide / 2, (from + to) / 2 + Math.min(6, tall / 4), tokens[s], wide, Math.min(19, tall - 6), "inside " + (tint.dark ? "on-dark" : "on-light"))] : [])];
    });
    const room = y(below) - whole_at;
    return [...parts, ...(room > 1 ? [draw("rect", { x: x + 1, y: whole_at, width: wide - 2, height: room, class: "hollow" })] : []),
      ...(room > 24 && wide > 62 ? [words(x + wide / 2, whole_at + room / 2 + 6, say(model, "empty"), "tick")] : []),
      fitted(x + wide / 2, FLOOR + 26, tokens[t], width, 21, "under")];
  };
  return [
    ...[0, high / 2, high].flatMap((v) => [rule(LEFT, y(v), W, y(v), v ? "grid" : "axis"), words(LEFT - 8, y(v) + 6, Number(v.toFixed(2)).toString(), "tick", "end")]),
    draw("text", { x: 16, y: (TOP + FLOOR) / 2, class: "unit", "text-anchor": "middle", transform: `rotate(-90 16 ${(TOP + FLOOR) / 2})` }, say(model, "axis")),
    ...found.flatMap(column), words((LEFT + W) / 2, H - 8, say(model, "after"), "unit"),
  ];
}

/** A text made small enough for its room, and cut where that is too small; a Chinese sign is as wide as it is high. */
function fitted(x, y, text, room, height, kind) {
  const width = (signs) => signs.reduce((sum, sign) => sum + (sign.codePointAt(0) > 0x2e80 ? 1.05 : 0.72), 0);
  let signs = [...text];
  while (signs.length > 2 && width(signs) * 10.5 > room) signs = [...signs.slice(0, -2), "…"];
  const node = words(x, y, signs.join(""), kind);
  node.style.fontSize = Math.min(height, room / width(signs)).toFixed(1) + "px";
  return node;
}

/** The end of an axis from 0 that holds all columns: the full state, or a round number above the highest. */
function ceiling(full, ...all) {
  const highest = Math.max(full, ...all.flat().map((row) => row.reduce((a, b) => a + b, 0)));
  return highest <= full * 1.0001 ? full : Math.ceil(highest - 1e-9);
}

/** The token's card: a button that opens and closes, and its slider. Built once, then refreshed. */
function card(model, root, i, act) {
  const values = { number: i + 1, token: model.get("tokens")[i] };
  const gate = make("span", { class: "gate" }), amount = make("span", { class: "amount", "aria-hidden": "true" }), enters = make("span", { class: "amount", "aria-hidden": "true" });
  const button = make("button", { type: "button", "data-token": i, "aria-label": say(model, "toggle", values) }, make("span", { class: "word" }, values.token), gate);
  const slider = make("input", { type: "range", min: 0, max: Math.sqrt(LONGEST), step: "any", "aria-label": say(model, "delta_of", values) });
  button.addEventListener("click", () => act(i, is_open(model.get("deltas")[i]) ? 0 : OPENED, true));   // the card goes with its listeners
  slider.addEventListener("input", () => act(i, Number((slider.value ** 2).toFixed(3)), false));
  return {
    node: make("div", { class: "card" }, button, slider, amount, enters),
    refresh(delta, share) {
      const open = is_open(delta);
      button.setAttribute("aria-pressed", String(open));
      button.style.setProperty("--gate", percent(Math.min(1, share)) + "%");
      gate.textContent = say(model, open ? "open" : "closed");
      amount.textContent = say(model, "delta_value", { value: delta.toFixed(2) });
      enters.textContent = say(model, "lets_in", { share: percent(share) });
      if (Math.abs(slider.value ** 2 - delta) > 1e-3) slider.value = Math.sqrt(delta);
      slider.setAttribute("aria-valuetext", `${amount.textContent}, ${enters.textContent}`);
    },
  };
}

/** One of the two pictures with its title and what it tells in words. */
function panel(model, kind, above) {
  const svg = draw("svg", { viewBox: `0 0 ${W} ${H}`, role: "img" }), kept = make("p", { class: "kept" }), lost = make("p");
  return {
    node: make("div", { class: "panel " + kind }, make("h3", {}, say(model, kind)), above, svg, make("div", { class: "told" }, kept, lost)),
    refresh(tokens, found, full, high) {
      const end = found.at(-1).map((w) => w / full), separator = say(model, "separator");
      const parts = end.map((w, s) => say(model, "part", { token: tokens[s], share: percent(w) }));
      const listed = (test, text) => end.map((w, s) => (test(w) ? text(s) : null)).filter(Boolean).join(separator) || say(model, "nothing");
      svg.replaceChildren(...chart(model, tokens, found, full, high));
      svg.setAttribute("aria-label", say(model, kind === "selective" ? "chart_selective" : "chart_constant", { parts: parts.join(separator) }));
      kept.textContent = say(model, "kept", { tokens: listed((w) => w >= LITTLE, (s) => parts[s]) });
      lost.textContent = say(model, "lost", { tokens: listed((w) => w < LITTLE, (s) => tokens[s]) });
    },
  };
}

function render({ model, el }) {
  const root = open_root(model, el, "selection"), examples = model.get("strings").examples;
  const choice = make("select", {}, [...examples, { name: say(model, "own") }].map(({ name }, i) => make("option", { value: i }, name)));
  const order = make_switch(root, say(model, "first_order"), () => model.get("first_order"), () => put(model, { first_order: !model.get("first_order") }));
  const cards = make("div", { class: "cards" }), view = make("details", {}, make("summary", {}, say(model, "table")));
  const same = make("input", { type: "range", min: 0, max: Math.sqrt(LONGEST), step: "any" }), same_amount = make("span", { class: "amount", "aria-hidden": "true" });
  const pictures = { selective: panel(model, "selective", make("div", { class: "same hint" }, say(model, "set_above"))),
    constant: panel(model, "constant", make("label", { class: "same" }, say(model, "same_delta"), same, same_amount)) };
  el.setAttribute("aria-label", say(model, "label"));
  el.append(make("div", { class: "controls" }, make("label", {}, say(model, "example") + " ", choice), order.button), make("p", { class: "hint" }, say(model, "hint")),
    cards, make("div", { class: "panels" }, pictures.selective.node, pictures.constant.node), view);
  let frame_id = 0, telling = 0, made = [], made_for = "";
  const tell = () => { telling ||= setTimeout(() => { telling = 0; model.save_changes(); }, 200); };  // the kernel hears five times a second
  const later = () => { frame_id ||= requestAnimationFrame(refresh); };
  root.cleanup(() => { cancelAnimationFrame(frame_id); clearTimeout(telling); });

  const entering = (delta) => weights([delta], model.get("A"), model.get("first_order"))[0][0];
  function act(i, delta, speak) {
    model.set("deltas", model.get("deltas").map((old, j) => (j === i ? clamp(delta, 0, LONGEST) : old)));
    tell();
    const token = model.get("tokens")[i], left = percent(Math.exp(delta * model.get("A")));
    if (speak) root.announce(say(model, delta > 0 ? "opened" : "shut", { token, share: percent(entering(delta) * -model.get("A")), left }));
  }

  function tabulate(tokens, deltas, ends) {
    const cell = (w) => (100 * w).toFixed(1), total = (row) => cell(row.reduce((a, b) => a + b, 0));
    const rows = tokens.map((token, s) => [token, deltas[s].toFixed(2), cell(ends.selective[s]), cell(ends.constant[s])]);
    view.replaceChildren(view.firstChild, make_table(say(model, "caption", { decay: model.get("A") }), ["token", "delta", "in_selective", "in_constant"].map((key) => say(model, key)),
      [...rows, [say(model, "sum"), "", total(ends.selective), total(ends.constant)]]));
  }

  function refresh() {
    cancelAnimationFrame(frame_id);
    frame_id = 0;
    const [tokens, deltas, constant, A, first_order] = ["tokens", "deltas", "constant", "A", "first_order"].map((name) => model.get(name));
    if (deltas.length !== tokens.length) return;             // the other one of the two is on its way
    if (made_for !== JSON.stringify(tokens)) {
      made = tokens.map((_, i) => card(model, root, i, act));
      made_for = JSON.stringify(tokens);
      cards.replaceChildren(...made.map(({ node }) => node));
    }
    const found = { selective: weights(deltas, A, first_order), constant: weights(tokens.map(() => constant), A, first_order) }, full = -1 / A, high = ceiling(full, found.selective, found.constant);
    made.forEach((each, i) => each.refresh(deltas[i], entering(deltas[i]) / full));
    for (const kind of ["selective", "constant"]) pictures[kind].refresh(tokens, found[kind], full, high);
    tabulate(tokens, deltas, Object.fromEntries(Object.entries(found).map(([kind, rows]) => [kind, rows.at(-1).map((w) => w / full)])));
    if (Math.abs(same.value ** 2 - constant) > 1e-3) same.value = Math.sqrt(constant);
    same_amount.textContent = say(model, "delta_value", { value: constant.toFixed(2) });
    same.setAttribute("aria-valuetext", same_amount.textContent);
    const known = examples.findIndex((each) => JSON.stringify(each.tokens) === made_for);
    choice.value = known < 0 ? examples.length : known;
    choice.options[examples.length].hidden = known >= 0;
    order.refresh();
    Object.assign(el.dataset, { tokens: tokens.length, end: JSON.stringify(found.selective.at(-1)), constant: JSON.stringify(found.constant.at(-1)), first_order });
  }

  root.listen(choice, "change", () => {
    const example = examples[Number(choice.value)];
    if (example) put(model, { tokens: example.tokens, deltas: example.deltas });
    else refresh();
  });
  root.listen(same, "input", () => { model.set("constant", Number((same.value ** 2).toFixed(3))); tell(); });
  for (const trait of ["tokens", "deltas", "constant", "A", "first_order"]) root.on(trait, later);
  refresh();
  return root.close;
}

export default { render };
