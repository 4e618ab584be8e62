// Two blocks as one drawing, mirrored, so that both token mixers face the note between them.

// y of each part's middle; the branches stand side by side between `norm` and `product`.
const ROWS = { input: 80, norm: 134, value: 204, gate: 204, conv: 276, conv_act: 348, ssm: 420, gate_act: 348, product: 478, out: 528, add: 580 };
const WIDTH = 1140, MIDDLE = WIDTH / 2, BOX = 46, WIDE = 154, LEFT = { gate: 130, middle: 220, value: 310, shortcut: 34 };
const LEFT_BLOCK = { key: "mamba", x: (name) => LEFT[name] };
const RIGHT_BLOCK = { key: "cnn", x: (name) => WIDTH - LEFT[name] };
const MIXER = ["conv_act", "ssm"];                    // what the gated CNN block goes without
const BRANCH = { value: "value", conv: "value", conv_act: "value", ssm: "value", gate: "gate", gate_act: "gate" };
const TERMS = {
  input: "X", norm: "X′ = Norm(X)", value: "Z = X′ W₁", gate: "X′ W₂", conv: "Conv(Z)", conv_act: "σ(Conv(Z))",
  ssm: "SSM(σ(Conv(Z)))", gate_act: "σ(X′ W₂)", product: "TokenMixer(X′ W₁) ⊙ σ(X′ W₂)",
  out: "(TokenMixer(X′ W₁) ⊙ σ(X′ W₂)) W₃", add: "Y = (TokenMixer(X′ W₁) ⊙ σ(X′ W₂)) W₃ + X",
};
// The block's equation in pieces, each with the part it stands for.
const EQUATION = [["Y = ("], ["SSM(", "ssm"], ["σ(", "conv_act"], ["Conv(", "conv"], ["X′", "norm"], ["W₁", "value"],
  [")", "conv"], [")", "conv_act"], [")", "ssm"], [" ⊙ ", "product"], ["σ(", "gate_act"], ["X′", "norm"], ["W₂", "gate"],
  [")", "gate_act"], [")"], [" W₃", "out"], [" + X", "add"]];

/** Channels, and parameters of every part, in closed form; `ssm` counts x_proj, dt_proj, A and D of Mamba. */
function count(model) {
  const [dim, k, N] = ["dim", "kernel_size", "d_state"].map((name) => model.get(name));
  const ratio = model.get("conv_ratio");
  const hidden = Math.floor(model.get("expansion_ratio") * dim);
  const mixed = ratio === null ? hidden : Math.floor(ratio * dim);
  const rank = Math.ceil(dim / 16);
  return {
    dim, hidden, mixed,
    parameters: {
      input: 0, norm: 2 * dim, value: dim * hidden + hidden, gate: dim * hidden + hidden, conv: (k * k + 1) * mixed,
      conv_act: 0, ssm: mixed * (rank + 2 * N) + (rank * mixed + mixed) + mixed * N + mixed,
      gate_act: 0, product: 0, out: hidden * dim + dim, add: 0,
    },
  };
}

function shapes(model, { dim, hidden, mixed }) {
  const at = (channels) => `[B, ${model.get("height")}, ${model.get("width")}, ${channels}]`;
  const wide = ["value", "gate", "gate_act", "product"];
  return Object.fromEntries(Object.keys(ROWS).map((part) => [part,
    at(wide.includes(part) ? hidden : ["conv", "conv_act", "ssm"].includes(part) ? mixed : dim)]));
}

const sum = (counts, without = []) =>
  Object.entries(counts.parameters).reduce((total, [part, n]) => total + (without.includes(part) ? 0 : n), 0);

const line = (points, extra = "") => draw("polyline", { points: points.map((p) => p.join(",")).join(" "), class: "wire " + extra });
const tip = (x, y) => draw("path", { d: `M${x - 6},${y - 10} L${x},${y} L${x + 6},${y - 10}`, class: "wire tip" });
const words = (x, y, text, kind = "", anchor = "middle") => draw("text", { x, y, class: kind, "text-anchor": anchor }, text);

/** All wires of one block; `skip` tells that nothing stands between convolution and product. */
function wires(x, skip) {
  const [v, g, m, s] = ["value", "gate", "middle", "shortcut"].map(x), half = BOX / 2, fork = ROWS.norm + half + 13;
  const down = (at, from, to) => [line([[at, ROWS[from] + half], [at, ROWS[to] - half]]), tip(at, ROWS[to] - half)];
  return [
    line([[m, ROWS.input + 12], [m, ROWS.norm - half]]), tip(m, ROWS.norm - half),
    line([[m, ROWS.norm + half], [m, fork]]),
    ...[v, g].flatMap((at) => [line([[m, fork], [at, fork], [at, ROWS.value - half]]), tip(at, ROWS.value - half)]),
    ...down(v, "value", "conv"), ...down(g, "gate", "gate_act"),
    ...(skip ? [line([[v, ROWS.conv + half], [v, ROWS.product - 40]], "bypass")]
      : [...down(v, "conv", "conv_act"), ...down(v, "conv_act", "ssm")]),
    ...[[v, skip ? ROWS.product - 40 : ROWS.ssm + half], [g, ROWS.gate_act + half]].map(([at, from]) =>
      line([[at, from], [at, ROWS.product], [m + Math.sign(at - m) * 15, ROWS.product]])),
    line([[m, ROWS.product + 15], [m, ROWS.out - half]]), tip(m, ROWS.out - half),
    line([[m, ROWS.out + half], [m, ROWS.add - 15]]), tip(m, ROWS.add - 15),
    line([[m, ROWS.input + 19], [s, ROWS.input + 19], [s, ROWS.add], [m + Math.sign(s - m) * 15, ROWS.add]], "shortcut"),
    line([[m, ROWS.add + 15], [m, ROWS.add + 38]]), tip(m, ROWS.add + 38),
  ];
}

/** The shape of one part: a box with two lines of text, or a small circle for the two operations. */
function figure(model, part, x, shape, gone) {
  const y = ROWS[part], at = x(BRANCH[part] ?? "middle");
  const name = say(model, part, { kernel: model.get("kernel_size") });
  if (part === "input") return [draw("rect", { x: at - 60, y: y - 15, width: 120, height: 27, rx: 5, class: "hit" }), words(at, y + 5, name, "name")];
  if (part === "product" || part === "add") {
    return [draw("circle", { cx: at, cy: y, r: 15, class: "shape" }), words(at, y + 7, part === "add" ? "+" : "⊙", "sign")];
  }
  const left = at - WIDE / 2, top = y - BOX / 2;
  const twice = part === "ssm" && !gone       // a second frame, so that the SSM stands out without colour too
    ? [draw("rect", { x: left - 8, y: top - 8, width: WIDE + 16, height: BOX + 16, rx: 12, class: "frame" })] : [];
  return [draw("rect", { x: left, y: top, width: WIDE, height: BOX, rx: 7, class: "shape" }), ...twice,
    words(at, y - 3, name, "name"), words(at, y + 16, gone ? say(model, "removed") : shape, "small"),
    ...(gone ? [line([[left + 12, y - 8], [left + WIDE - 12, y - 8]], "strike")] : [])];
}

function equation(model, x, without, selected) {
  const pieces = EQUATION.filter(([, part]) => !without.includes(part));
  return draw("text", { x, y: 50, "text-anchor": "middle", class: "equation" }, pieces.map(([text, part]) =>
    draw("tspan", { class: [part === selected && part ? "chosen" : "", MIXER.includes(part) ? "mixer" : ""].join(" ") }, text)));
}

/** The note between the blocks, with an arrow to either side. */
function callout(model, ssm) {
  const y = (ROWS.conv_act + ROWS.ssm) / 2, top = ROWS.conv_act - BOX / 2, bottom = ROWS.ssm + BOX / 2;
  const bracket = (x, turn) => line([[x, top], [x + turn * 12, top], [x + turn * 12, bottom], [x, bottom]], "pointer");
  const arrow = (from, to) => [line([[from, y + 34], [to, y + 34]], "pointer"),
    draw("path", { d: `M${to + Math.sign(from - to) * 11},${y + 27} L${to},${y + 34} L${to + Math.sign(from - to) * 11},${y + 41}`, class: "wire pointer" })];
  return draw("g", { class: ssm ? "callout" : "callout equal" }, bracket(406, 1), bracket(WIDTH - 406, -1), ...arrow(MIDDLE, 426), ...arrow(MIDDLE, WIDTH - 426),
    words(MIDDLE, y - 12, say(model, ssm ? "callout" : "callout_equal"), "loud"),
    words(MIDDLE, y + 14, say(model, ssm ? "callout_more" : "callout_equal_more"), "small"));
}

function render({ model, el }) {
  const root = open_root(model, el, "block-diagram");
  const svg = draw("svg", { viewBox: `0 0 ${WIDTH} 664`, role: "group" });
  const panel = make("div", { class: "panel", "data-testid": "panel" });
  const view = make("details", {}, make("summary", {}, say(model, "table")));
  const switcher = make_switch(root, say(model, "switch"), () => !model.get("ssm"), () => {
    put(model, { ssm: !model.get("ssm") });
    root.announce(say(model, model.get("ssm") ? "put_back" : "taken_out"));
  });
  el.setAttribute("aria-label", say(model, "label"));
  el.append(make("div", { class: "controls" }, switcher.button), svg, panel, view);
  let focused = { block: "mamba", part: "input" };   // where Tab enters the drawing

  function part_group(block, part, counts, shape) {
    const gone = block.key === "mamba" && !model.get("ssm") && MIXER.includes(part);
    const chosen = model.get("selected") === part;
    const values = {
      block: say(model, block.key), name: say(model, part, { kernel: model.get("kernel_size") }), shape,
      count: whole(counts.parameters[part]),
    };
    return draw("g", {
      class: ["part", part, gone ? "gone" : "", chosen ? "chosen" : ""].join(" "), role: "button",
      tabindex: focused.block === block.key && focused.part === part ? 0 : -1, "aria-pressed": String(chosen),
      "aria-label": say(model, gone ? "part_removed" : "part_label", values), "data-part": part, "data-block": block.key,
    }, figure(model, part, block.x, shape, gone));
  }

  function block_group(block, counts, all_shapes, without) {
    const cnn = block.key === "cnn", ssm = model.get("ssm"), x = block.x("middle");
    const parts = Object.keys(ROWS).filter((part) => !(cnn && MIXER.includes(part)));
    const ghosts = cnn ? MIXER.map((part) => draw("g", { class: "part gone ghost", "aria-hidden": "true" },
      draw("rect", { x: block.x("value") - WIDE / 2, y: ROWS[part] - BOX / 2, width: WIDE, height: BOX, rx: 7, class: "shape" }),
      words(block.x("value"), ROWS[part] + 6, say(model, "absent"), "small"))) : [];
    return [
      words(x, 22, say(model, cnn || ssm ? block.key : "mamba_without"), "title"), equation(model, x, without, model.get("selected")),
      ...wires(block.x, without.length > 0), ...ghosts,
      words(block.x("value") + (cnn ? -11 : 11), ROWS.value - 29, say(model, "branch_value"), "small", cnn ? "end" : "start"),
      words(block.x("gate") + (cnn ? 11 : -11), ROWS.gate - 29, say(model, "branch_gate"), "small", cnn ? "start" : "end"),
      words((block.x("shortcut") + x) / 2, ROWS.add - 9, say(model, "branch_shortcut"), "small"),
      ...parts.map((part) => part_group(block, part, counts, all_shapes[part])),
      words(x + (cnn ? -14 : 14), ROWS.add + 34, say(model, "output"), "name", cnn ? "end" : "start"),
      words(x, 654, say(model, "total", { count: whole(sum(counts, without)) }), "total"),
    ];
  }

  function explain(counts, all_shapes) {
    const part = model.get("selected");
    if (!part) return panel.replaceChildren(make("p", { class: "hint" }, say(model, "hint")));
    const values = {
      ...counts, rest: counts.hidden - counts.mixed, kernel: model.get("kernel_size"), state: model.get("d_state"),
      length: whole(model.get("height") * model.get("width")),
    };
    const fact = (key, text) => make("div", {}, make("dt", {}, say(model, key)), make("dd", {}, text));
    return panel.replaceChildren(make("h3", {}, say(model, part, values)), make("p", {}, say(model, "about_" + part, values)),
      make("dl", {}, fact("term", TERMS[part]), fact("shape", all_shapes[part]), fact("parameters", whole(counts.parameters[part]))));
  }

  function tabulate(counts, all_shapes, without) {
    const at = (part, gone) => (gone.includes(part) ? say(model, "none") : whole(counts.parameters[part]));
    const name = (part) => say(model, part, { kernel: model.get("kernel_size") });
    const rows = Object.keys(ROWS).map((part) => [name(part), TERMS[part], all_shapes[part], at(part, without), at(part, MIXER)]);
    rows.push([say(model, "sum"), "", all_shapes.add, whole(sum(counts, without)), whole(sum(counts, MIXER))]);
    const caption = say(model, "caption", {
      height: model.get("height"), width: model.get("width"), dim: counts.dim, hidden: counts.hidden, mixed: counts.mixed,
      kernel: model.get("kernel_size"), state: model.get("d_state"),
    });
    const block = say(model, model.get("ssm") ? "mamba" : "mamba_without");
    const head = [say(model, "part"), say(model, "term"), say(model, "shape"), say(model, "in_mamba", { block }), say(model, "in_cnn")];
    view.replaceChildren(view.firstChild, make_table(caption, head, rows));
  }

  function refresh() {
    const counts = count(model), all_shapes = shapes(model, counts), ssm = model.get("ssm");
    const without = ssm ? [] : MIXER, extra = counts.parameters.ssm;
    const had_focus = svg.contains(document.activeElement) || svg.getRootNode().activeElement?.closest?.("svg") === svg;
    const total = sum(counts, without);
    svg.replaceChildren(
      ...block_group(LEFT_BLOCK, counts, all_shapes, without), ...block_group(RIGHT_BLOCK, counts, all_shapes, MIXER),
      callout(model, ssm),
      words(MIDDLE, 654, ssm ? say(model, "difference", { count: whole(extra), share: (100 * extra / total).toFixed(1) })
        : say(model, "no_difference", { count: whole(total) }), "small"));
    svg.setAttribute("aria-label", say(model, "label"));
    explain(counts, all_shapes);
    tabulate(counts, all_shapes, without);
    switcher.refresh();
    Object.assign(el.dataset, { ssm, selected: model.get("selected"), total });
    if (had_focus) svg.querySelector('[tabindex="0"]')?.focus({ preventScroll: true });
  }

  function choose(block, part, speak = true) {
    focused = { block, part };
    if (model.get("selected") === part) refresh();
    else put(model, { selected: part });
    if (speak && part) root.announce(svg.querySelector('[tabindex="0"]')?.getAttribute("aria-label") ?? "");
  }

  root.listen(svg, "click", (event) => {
    const part = event.target.closest("[data-part]");
    if (part) {
      choose(part.dataset.block, part.dataset.part);
      svg.querySelector('[tabindex="0"]').focus({ preventScroll: true });
    }
  });
  root.listen(svg, "keydown", (event) => {
    const { block, part } = focused;
    const order = Object.keys(ROWS).filter((each) => block === "mamba" || !MIXER.includes(each));
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) choose(block, order[(order.indexOf(part) + step + order.length) % order.length]);
    else if (event.key === "ArrowLeft") choose("mamba", part);
    else if (event.key === "ArrowRight") choose("cnn", MIXER.includes(part) ? "conv" : part);
    else if (event.key === "Home") choose(block, order[0]);
    else if (event.key === "End") choose(block, order.at(-1));
    else if (event.key === "Enter" || event.key === " ") choose(block, part);
    else if (event.key === "Escape") put(model, { selected: "" });
    else return;
    event.preventDefault();
  });
  for (const trait of ["dim", "height", "width", "expansion_ratio", "conv_ratio", "kernel_size", "d_state", "ssm", "selected"]) root.on(trait, refresh);
  refresh();
  return root.close;
}

export default { render };
