// One model from stem to head: a row a stage, its map to scale, its blocks, its cost.

const TALL = 96, LONG = 106;     // pixels of the tallest map and of the most channels
const LEAST = 5;                   // no side of a map is drawn smaller, so that it can be seen

/** Scales that both models share: pixels a position, pixels a channel, and the largest costs of a row. */
function scales(outlines) {
  const stages = outlines.flatMap(({ stages }) => stages), rows = outlines.flatMap(({ stem, stages, head }) => [stem, ...stages, head]);
  const most = (list, key) => Math.max(1, ...list.map((each) => each[key]));
  return {
    y: TALL / most(stages, "height"), x: LONG / most(stages, "channels"),
    parameters: most(rows, "parameters"), multiply_adds: most(rows, "multiply_adds"),
  };
}

function map_to_scale(stage, scale) {
  const wide = Math.max(LEAST, stage.channels * scale.x), high = Math.max(LEAST, stage.height * scale.y);
  const svg = draw("svg", { class: "map", viewBox: `0 0 ${LONG + 4} ${high + 4}`, "aria-hidden": "true",
    style: `width:${LONG + 4}px;height:${high + 4}px`, "data-wide": wide.toFixed(2), "data-high": high.toFixed(2) });
  svg.append(draw("rect", { x: 2, y: 2, width: wide, height: high, rx: 2 }));
  return svg;
}

function bars(model, costs, scale) {
  return make("div", { class: "bars" }, ["parameters", "multiply_adds"].map((key) => make("div", { class: "bar-line" },
    make("span", { class: "bar-room", "aria-hidden": "true" },
      make("span", { class: "bar " + key, style: `width:${(100 * costs[key] / scale[key]).toFixed(2)}%` })),
    make("span", { class: "amount" }, short(model, costs[key])))));
}

/** A number that stands out, with a sign too, where the other model has another. */
const number = (text, differs) => make("span", differs ? { class: "differs" } : {}, text, differs ? make("span", { class: "unequal" }, " ≠") : null);

/** The places of a model that can be opened, row by row: [[stage, block], …]. */
function places(outline) {
  const stages = outline.stages.map(({ blocks }, i) => [0, ...blocks.map((_, n) => n + 1)].map((n) => [i + 1, n]));
  return [[[0, 0]], ...stages, [[-1, 0]]];
}

/** What a place is, for the reading line and for screen readers. */
function place_words(model, outline, [stage, block]) {
  if (stage < 1) {
    const end = stage ? outline.head : outline.stem;
    return { title: say(model, stage ? "head" : "stem"), more: parts_line(model, end.parts), costs: costs(model, end) };
  }
  const inside = outline.stages[stage - 1], count = inside.blocks.length, shape = by([inside.height, inside.width, whole(inside.channels)]);
  if (!block) return { title: say(model, "stage_title", { stage, count, shape }), more: beside(model, inside), costs: costs(model, inside) };
  const kind = inside.blocks[block - 1], parts = inside.kinds[kind];
  const total = parts.reduce((sum, part) => ({ parameters: sum.parameters + part.parameters, multiply_adds: sum.multiply_adds + part.multiply_adds }),
    { parameters: 0, multiply_adds: 0 });
  return { title: say(model, "block_title", { stage, block, count }), more: mixer_words(model, inside.facts[kind].mixer), costs: costs(model, total) };
}

function beside(model, { downsampling, around }) {
  const told = [["downsampled", downsampling], ["going_around", around]].filter(([, parts]) => parts.length);
  return told.length ? told.map(([key, parts]) => say(model, key, { parts: parts_line(model, parts) })).join(" ") : say(model, "plain_stage");
}

/** The signs of the mixers that are shown, each with its word. */
function signs_in_words(model, outlines) {
  const kinds = new Set(outlines.flatMap(({ stages }) => stages.flatMap(({ facts }) => facts.map(({ mixer }) => mixer.kind))));
  return [...kinds].map((kind) => make("span", { class: "sign" }, make("span", { class: `block ${kind}`, "aria-hidden": "true" }, mixer_sign(model, { kind })),
    entry(model, "sign_words", kind)));
}

/** Draw a model into `node`; every place is a button with data-stage and data-block. */
function draw_plan(model, node, outline, other, scale, open, entered) {
  const at = (place) => place[0] === open.stage && place[1] === open.block;
  const button = (place, attributes, ...children) => {
    const { title, more, costs: cost } = place_words(model, outline, place);
    return make("button", { type: "button", "data-stage": place[0], "data-block": place[1], "aria-pressed": String(at(place)),
      tabindex: same(place, entered) ? 0 : -1, "aria-label": say(model, "place_label", { title, more, costs: cost }), ...attributes }, ...children);
  };
  const end = (stage, part, shape) => make("div", { class: "row end" },
    make("div", { class: "drawn" }, button([stage, 0], { class: "name" }, say(model, stage ? "head" : "stem"))),
    make("div", { class: "about" }, make("span", { class: "shape" }, shape)), bars(model, part, scale));
  const first = outline.stages[0], last = outline.stages.at(-1), image = outline.image_size;
  node.replaceChildren(
    make("div", { class: "row titles", "aria-hidden": "true" }, make("div", { class: "drawn" }, say(model, "map")), make("div", { class: "about" }, say(model, "blocks")),
      make("div", { class: "bars" }, make("div", { class: "key" }, make("span", { class: "bar parameters" }), say(model, "parameters")),
        make("div", { class: "key" }, make("span", { class: "bar multiply_adds" }), say(model, "multiply_adds")))),
    end(0, outline.stem, say(model, "from_to", { from: by([image, image]), to: by([first.height, first.width, whole(first.channels)]) })),
    ...outline.stages.map((stage, i) => {
      const twin = other.stages[i], differs = (key) => !twin || !same(stage[key], twin[key]), tokens = stage.tokens - stage.height * stage.width;
      return make("div", { class: "row stage" },
        make("div", { class: "drawn" }, button([i + 1, 0], { class: "name" }, say(model, "stage", { stage: i + 1 })), map_to_scale(stage, scale)),
        make("div", { class: "about" },
          make("div", { class: "shape" }, number(by([stage.height, stage.width]), differs("height")), " × ", number(whole(stage.channels), differs("channels")),
            tokens > 0 ? say(model, "extra_tokens", { tokens }) : ""),
          make("div", { class: "blocks" }, stage.blocks.map((kind, n) => button([i + 1, n + 1],
            { class: `block ${stage.facts[kind].mixer.kind}` }, mixer_sign(model, stage.facts[kind].mixer))),
          make("span", { class: "count" }, number(`× ${stage.blocks.length}`, !twin || twin.blocks.length !== stage.blocks.length))),
          stage.around.length ? make("div", { class: "beside" }, number(say(model, "beside", { parts: parts_line(model, stage.around) }), !twin || !twin.around.length)) : null),
        bars(model, stage, scale));
    }),
    end(-1, outline.head, say(model, "from_to", { from: by([last.height, last.width, whole(last.channels)]),
      to: say(model, "classes", { count: whole(outline.head.parts.at(-1)?.shape.at(-1) ?? 0) }) })));
}
