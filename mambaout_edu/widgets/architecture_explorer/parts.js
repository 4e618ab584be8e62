// What is open of both models, part by part, side by side; and the tables of the same.

/** Rows between which a shortcut runs: from after the last one, or the list's start, to the sum. */
function shortcut_rows(rows, parts, side) {
  const spans = [];
  let start = 0;
  rows.forEach((row, at) => {
    if (row[side] === null || parts[row[side]].kind !== "shortcut") return;
    spans.push([start, at]);
    start = at + 1;
  });
  return (at) => spans.some(([from, to]) => at >= from && at <= to);
}

/** Draw the open parts of both sides; every part is a button with data-side and data-part. */
function draw_parts(model, node, open, entered) {
  const rows = aligned(open.left.parts, open.right.parts), cells = [];
  const sides = Object.fromEntries(["left", "right"].map((side) => [side, shortcut_rows(rows, open[side].parts, side)]));
  rows.forEach((row, at) => {
    for (const side of ["left", "right"]) {
      const index = row[side], part = index === null ? null : open[side].parts[index], alone = row[side === "left" ? "right" : "left"] === null;
      const last = Math.max(...rows.map((each, i) => (each[side] === null ? -1 : i))), inside = at <= last;
      const classes = ["cell", side, sides[side](at) ? "around" : "", part?.mixer ? "mixer" : "", part?.mixer && !open[side].parts[index - 1]?.mixer ? "first" : "", inside ? "wired" : ""];
      if (!part) {
        cells.push(make("div", { class: [...classes, "empty"].join(" "), "aria-hidden": "true", style: `grid-row:${at + 1}` }));
        continue;
      }
      const mark = alone ? say(model, "only_here") : row.differs ? say(model, "unlike") : null;
      cells.push(make("div", { class: classes.join(" "), style: `grid-row:${at + 1}` },
        classes.includes("first") ? make("div", { class: "band", "aria-hidden": "true" }, say(model, "token_mixer")) : null, make("button", {
        type: "button", class: ["part", part.kind, row.differs ? "differs" : ""].join(" "), "data-side": side, "data-part": index, "data-row": at,
        tabindex: entered.side === side && entered.part === index ? 0 : -1,
        "aria-label": [part_label(model, part), part.mixer ? say(model, "in_mixer") : "", mark ?? ""].filter(Boolean).join(", "),
      }, make("span", { class: "title" }, part_title(model, part)), mark ? make("span", { class: "mark" }, mark) : null,
      make("span", { class: "shape" }, part_shape(part)))));
    }
  });
  node.replaceChildren(...cells);
  node.dataset.rows = rows.length;
}

/** The differing aspects as a table: aspect, left, right. */
function difference_table(model, left, right) {
  const { differ } = compared(model, left, right);
  if (!differ.length) return [];
  return [make_table(say(model, "differences_caption"), [say(model, "aspect"), left.name, right.name], differ.map((aspect) =>
    [entry(model, "aspects", aspect), aspect_words(model, aspect, left.aspects[aspect]), aspect_words(model, aspect, right.aspects[aspect])]))];
}

/** Stage by stage, and part by part, both models as tables. */
function whole_tables(model, outlines, open) {
  const text = (key) => say(model, key);
  const tables = Object.values(outlines).map((outline) => make_table(
    say(model, "stages_caption", { name: outline.name, size: outline.image_size, costs: costs(model, outline) }),
    ["part_of_model", "shape", "blocks", "token_mixer", "parameters", "multiply_adds"].map(text),
    [[text("stem"), "", "", "", whole(outline.stem.parameters), whole(outline.stem.multiply_adds)],
      ...outline.stages.map((stage, i) => [say(model, "stage", { stage: i + 1 }), by([stage.height, stage.width, whole(stage.channels)]),
        whole(stage.blocks.length), [...new Set(stage.facts.map(({ mixer }) => mixer_words(model, mixer)))].join("; "),
        whole(stage.parameters), whole(stage.multiply_adds)]),
      [text("head"), "", "", "", whole(outline.head.parameters), whole(outline.head.multiply_adds)],
      [text("whole"), "", whole(outline.stages.reduce((n, { blocks }) => n + blocks.length, 0)), "", whole(outline.parameters), whole(outline.multiply_adds)]]));
  const inside = Object.entries(open).map(([side, { parts, stage, block }]) => make_table(
    say(model, "parts_caption", { name: outlines[side].name, place: place_words(model, outlines[side], [stage, block]).title }),
    ["part", "name", "output", "in_token_mixer", "parameters", "multiply_adds"].map(text),
    parts.map((part) => [part_title(model, part), part.name, part_shape(part), text(part.mixer ? "is" : "is_not"), whole(part.parameters), whole(part.multiply_adds)])));
  return [...tables, ...inside];
}
