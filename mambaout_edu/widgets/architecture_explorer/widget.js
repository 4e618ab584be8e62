// Choosing, opening, reading: the state is in the traits left, right, stage and block.

const SIDES = ["left", "right"], PATIENCE = 2500;   // ms after which a missing outline is explained

function choices(model) {
  return Object.entries(model.get("offered")).map(([group, names]) =>
    make("optgroup", { label: entry(model, "groups", group) }, names.map((name) => make("option", { value: name }, name))));
}

function render({ model, el }) {
  const root = open_root(model, el, "architecture-explorer");
  const text = (key, values) => say(model, key, values);
  const outline_of = (side) => model.get("outlines")[model.get(side)];
  const opened_of = (side) => opened(outline_of(side), model.get("stage"), model.get("block"));
  const columns = Object.fromEntries(SIDES.map((side) => {
    const select = make("select", { "data-side": side }, choices(model)), plan = make("div", { class: "plan", role: "group", "data-side": side });
    const total = make("p", { class: "total" });
    return [side, { pick: make("label", { class: "pick" }, text(side) + " ", select), select, node: make("div", {}, total, plan), plan, total, entered: null }];
  }));
  const sentence = make("div", { class: "verdict", "data-testid": "verdict" });
  const reading = make("div", { class: "reading", "data-testid": "reading" });
  const heads = make("div", { class: "heads" }), parts = make("div", { class: "parts", role: "group", "aria-label": text("open_parts") });
  const differing = make("div", { class: "differing scrolling" }), table = make("details", {}, make("summary", {}, text("table")));
  el.setAttribute("aria-label", text("label"));
  const legend = make("p", { class: "legend" });
  el.append(make("div", { class: "models" }, SIDES.map((side) => columns[side].pick)), sentence, make("div", { class: "models" }, SIDES.map((side) => columns[side].node)),
    legend, make("p", { class: "hint" }, text("hint")), reading, make("div", { class: "opened" }, heads, parts), differing, table);
  let entered = { side: "left", part: 0 }, timer = null;
  root.cleanup(() => clearTimeout(timer));

  /** Say that an outline is not there yet; after a while, that perhaps nobody will send it. */
  function wait_for(missing) {
    const there = Object.keys(model.get("outlines"));
    const show = (key) => sentence.replaceChildren(make("p", { class: "head" }, text(key, { name: missing, list: listed(there) })));
    show("waiting");
    clearTimeout(timer);
    timer = setTimeout(() => { show("no_answer"); root.announce(text("no_answer", { name: missing, list: listed(there) })); }, PATIENCE);
  }

  function read(title, more, cost, name) {
    reading.replaceChildren(make("p", {}, make("b", {}, title), " ", make("span", { class: "of" }, name)), make("p", {}, more), make("p", { class: "cost" }, cost));
  }

  function read_place(side, place) {
    const { title, more, costs: cost } = place_words(model, outline_of(side), place);
    read(title, more, cost, model.get(side));
  }

  function read_part(side, index) {
    const part = opened_of(side).parts[index];
    if (part) read(part_title(model, part), part_about(model, part), say(model, "output_and_costs", { shape: part_shape(part), costs: costs(model, part) }), model.get(side));
  }

  function draw_opened() {
    const open = Object.fromEntries(SIDES.map((side) => [side, opened_of(side)])), outlines = Object.fromEntries(SIDES.map((side) => [side, outline_of(side)]));
    if (!open[entered.side].parts.length) entered = { side: entered.side === "left" ? "right" : "left", part: 0 };
    entered.part = Math.max(0, Math.min(entered.part, open[entered.side].parts.length - 1));
    heads.replaceChildren(...SIDES.map((side) => make("h3", {}, text("open_title", { place: place_words(model, outlines[side], [open[side].stage, open[side].block]).title, name: model.get(side) }),
      open[side].parts.length ? null : make("span", { class: "none" }, " " + text("nothing_to_open")))));
    draw_parts(model, parts, open, entered);
    table.replaceChildren(table.firstChild, make("div", { class: "scrolling" }, whole_tables(model, outlines, open)));
    return open;
  }

  function refresh() {
    for (const side of SIDES) columns[side].select.value = model.get(side);
    const missing = SIDES.map((side) => model.get(side)).find((name) => !(name in model.get("outlines")));
    el.dataset.ready = String(missing === undefined);
    if (missing !== undefined) return wait_for(missing);
    clearTimeout(timer);
    const outlines = SIDES.map(outline_of), scale = scales(outlines), held = el.contains(document.activeElement) ? document.activeElement : el.getRootNode().activeElement;
    const again = held && el.contains(held) ? { side: held.closest("[data-side]")?.dataset.side, place: held.dataset.stage !== undefined, part: held.dataset.part !== undefined } : null;
    const open = draw_opened();
    SIDES.forEach((side, i) => {
      const column = columns[side], outline = outlines[i], now = [open[side].stage, open[side].block];
      if (!column.entered || !places(outline).flat().some((place) => same(place, column.entered))) column.entered = now;
      column.total.replaceChildren(make("b", {}, outline.name), " ", costs(model, outline));
      column.plan.setAttribute("aria-label", text("plan_label", { name: outline.name, costs: costs(model, outline) }));
      draw_plan(model, column.plan, outline, outlines[1 - i], scale, open[side], column.entered);
    });
    legend.replaceChildren(...signs_in_words(model, outlines));
    const { head, more } = verdict(model, ...outlines);
    sentence.replaceChildren(make("p", { class: "head" }, head), make("p", {}, more));
    differing.replaceChildren(...difference_table(model, ...outlines));
    const { differ } = compared(model, ...outlines);
    Object.assign(el.dataset, { left: model.get("left"), right: model.get("right"), stage: open.left.stage, block: open.left.block, differ: differ.join(" ") });
    if (!reading.hasChildNodes()) read_place("left", [open.left.stage, open.left.block]);
    if (again?.place) columns[again.side].plan.querySelector('[tabindex="0"]')?.focus({ preventScroll: true });
    else if (again?.part) parts.querySelector('[tabindex="0"]')?.focus({ preventScroll: true });
  }

  const place_of = (button) => [Number(button.dataset.stage), Number(button.dataset.block)];

  function enter_place(side, place, focus = true) {
    columns[side].plan.querySelectorAll("button").forEach((each) => each.setAttribute("tabindex", same(place_of(each), place) ? 0 : -1));
    columns[side].entered = place;
    if (focus) columns[side].plan.querySelector('[tabindex="0"]').focus();
  }

  function enter_part(side, index) {
    entered = { side, part: index };
    parts.querySelectorAll("button").forEach((each) =>
      each.setAttribute("tabindex", each.dataset.side === side && Number(each.dataset.part) === index ? 0 : -1));
    parts.querySelector('[tabindex="0"]')?.focus();
  }

  /** Open a place in both models, and say so. */
  function open_place(side, place, inside = false) {
    columns[side].entered = place;
    entered = { side, part: 0 };
    put(model, { stage: place[0], block: place[1] });
    refresh();
    root.announce(text("opened", { place: place_words(model, outline_of(side), place).title, count: opened_of(side).parts.length }));
    if (inside) parts.querySelector('[tabindex="0"]')?.focus();
  }

  function walk(side, event) {
    const rows = places(outline_of(side)), place = columns[side].entered;
    const row = rows.findIndex((each) => each.some((one) => same(one, place))), column = rows[row].findIndex((one) => same(one, place));
    const to = { ArrowDown: [row + 1, column], ArrowUp: [row - 1, column], ArrowRight: [row, column + 1], ArrowLeft: [row, column - 1],
      Home: [0, 0], End: [rows.length - 1, 0] }[event.key];
    if (event.key === "Enter" || event.key === " ") open_place(side, place, event.key === "Enter");
    else if (!to) return;
    else if (rows[to[0]]) enter_place(side, rows[to[0]][Math.max(0, Math.min(to[1], rows[to[0]].length - 1))]);
    event.preventDefault();
  }

  function walk_parts(event) {
    const { side, part } = entered, all = opened_of(side).parts, other = side === "left" ? "right" : "left";
    const to = { ArrowDown: part + 1, ArrowUp: part - 1, Home: 0, End: all.length - 1 }[event.key];
    if (event.key === "Escape") enter_place(side, (({ stage, block }) => [stage, block])(opened_of(side)));
    else if (event.key === "ArrowLeft" || event.key === "ArrowRight") {
      const wanted = event.key === "ArrowLeft" ? "left" : "right", rows = aligned(opened_of("left").parts, opened_of("right").parts);
      if (wanted === side || !opened_of(other).parts.length) return event.preventDefault();
      const at = rows.findIndex((row) => row[side] === part), near = rows.map((row, i) => [row[wanted], Math.abs(i - at)]).filter(([index]) => index !== null);
      enter_part(wanted, near.sort((a, b) => a[1] - b[1])[0][0]);
    } else if (to === undefined) return;
    else if (all[to]) enter_part(side, to);
    event.preventDefault();
  }

  for (const side of SIDES) {
    const { plan, select } = columns[side], button = (event) => event.target.closest?.("button");
    root.listen(select, "change", () => put(model, { [side]: select.value }));
    root.listen(plan, "click", (event) => button(event) && open_place(side, place_of(button(event))));
    for (const event of ["pointerover", "focusin"]) root.listen(plan, event, (e) => button(e) && read_place(side, place_of(button(e))));
    root.listen(plan, "keydown", (event) => walk(side, event));
    root.on(side, refresh);
  }
  const on_part = (event, f) => {
    const button = event.target.closest?.("[data-part]");
    if (button) f(button.dataset.side, Number(button.dataset.part));
  };
  for (const event of ["pointerover", "focusin"]) root.listen(parts, event, (e) => on_part(e, read_part));
  root.listen(parts, "click", (event) => on_part(event, enter_part));
  root.listen(parts, "keydown", walk_parts);
  for (const trait of ["stage", "block", "outlines"]) root.on(trait, refresh);
  refresh();
  return root.close;
}

export default { render };
