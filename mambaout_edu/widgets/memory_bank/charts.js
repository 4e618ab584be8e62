// The two charts: bytes on a ladder of memories, and what the next token costs. What moves is only moved.

const MOST = 1e6, LEFT = 100, MARGIN = 46, LEVEL = 24, LETTER = 10.5;
const LADDER = { bank: 10, state: 46, bar: 28, axis: 86, height: 124 };   // below the labels
const COST = { top: 56, bottom: 250, height: 306 };

const log_scale = ([low, high], [from, to]) => (value) => from + ((to - from) * Math.log(clamp(value, low, high) / low)) / Math.log(high / low);
const line = (x1, y1, x2, y2, kind) => draw("line", { x1, y1, x2, y2, class: kind });
const label = (x, y, text, kind, anchor = "start") => draw("text", { x, y, class: kind, "text-anchor": anchor }, text);

/** Labels on as many levels as keep them apart; where the right edge is near they stand left of their line. */
function staggered(marks, right) {
  const ends = [];
  return marks.map((mark) => {
    const length = LETTER * mark.text.length, left = mark.x + length + 6 > right, start = left ? mark.x - length - 6 : mark.x;
    const free = ends.findIndex((end) => start > end + 12), level = free < 0 ? ends.length : free;
    ends[level] = start + length;
    return { ...mark, level, left };
  });
}

/** The ladder of bytes, log axis; returns its node and `show(bank bytes, state bytes)`. */
function make_ladder(model, sizes, wide) {
  const places = model.get("places"), most = Math.max(account("attention", sizes, MOST).used, ...places.map((place) => place.bytes), 2 ** 40);
  const high = 2 ** (5 * Math.ceil(Math.log2(most) / 5)), right = wide - MARGIN, x = log_scale([2 ** 10, high], [LEFT, right]);
  const marks = staggered(places.map((place) => ({ x: x(place.bytes), text: place.name })), wide), top = LEVEL * (1 + Math.max(-1, ...marks.map(({ level }) => level)));
  const axis = top + LADDER.axis, middle = (y) => top + y + LADDER.bar / 2 + 5;
  const svg = draw("svg", { viewBox: `0 0 ${wide} ${top + LADDER.height}`, role: "img", "aria-label": say(model, "ladder_label") });
  for (let power = 10; 2 ** power <= high; power += 5) {
    const at = x(2 ** power), exact = power % 10 === 0;
    svg.append(line(at, axis, at, axis + (exact ? 9 : 5), "axis"));
    if (exact) svg.append(label(at, axis + 29, readable(model, 2 ** power).replace(".00", ""), "tick", "middle"));
  }
  const bank = draw("rect", { x: LEFT, y: top + LADDER.bank, height: LADDER.bar, class: "bar bank" }), state = draw("rect", { x: LEFT, y: top + LADDER.state, height: LADDER.bar, class: "bar state" });
  svg.append(line(LEFT, axis, right, axis, "axis"), bank, state);
  svg.append(...marks.map(({ x: at, level }) => line(at, 4 + LEVEL * level, at, axis, "place")));
  svg.append(...marks.map(({ x: at, text, level, left }) => label(at + (left ? -6 : 6), 17 + LEVEL * level, text, "name", left ? "end" : "start")));
  svg.append(label(LEFT - 12, middle(LADDER.bank), say(model, "bank_short"), "who", "end"), label(LEFT - 12, middle(LADDER.state), say(model, "state_short"), "who", "end"));
  const long = (bytes) => Math.max(bytes > 0 ? 2 : 0, x(bytes) - LEFT).toFixed(1);
  return { svg, show(bank_bytes, state_bytes) { bank.setAttribute("width", long(bank_bytes)); state.setAttribute("width", long(state_bytes)); } };
}

/** Multiply-adds of the next token against the position, both axes logarithmic; `show(position)` moves the dots. */
function make_cost(model, sizes, cross, wide) {
  const cost = (mixer, position) => account(mixer, sizes, position).multiply_adds, long = 6 * sizes.dim;
  const all = [cost("attention", 0), cost("mamba1", 0), cost("attention", MOST)];
  const low = 10 ** Math.floor(Math.log10(Math.min(...all))), high = 10 ** Math.ceil(Math.log10(1.01 * Math.max(...all)));
  const right = wide - MARGIN, x = log_scale([1, MOST], [LEFT, right]), y = log_scale([low, high], [COST.bottom, COST.top]);
  const svg = draw("svg", { viewBox: `0 0 ${wide} ${COST.height}`, role: "img", "aria-label": say(model, "cost_label", { crossing: whole(cross), long: whole(long) }) });
  for (let power = 0; power <= 6; power++) svg.append(line(x(10 ** power), COST.top, x(10 ** power), COST.bottom, "grid"), label(x(10 ** power), COST.bottom + 22, whole(10 ** power), "tick", "middle"));
  for (let value = low; value <= high; value *= 10) svg.append(line(LEFT, y(value), right, y(value), "grid"), label(LEFT - 10, y(value) + 5, power_of_ten(value), "tick", "end"));
  const curve = Array.from({ length: 161 }, (_, i) => MOST ** (i / 160)).map((p) => `${x(p).toFixed(1)},${y(cost("attention", p - 1)).toFixed(1)}`);
  svg.append(draw("polyline", { points: curve.join(" "), class: "curve bank" }), line(LEFT, y(all[1]), right, y(all[1]), "curve state"));
  const marks = [{ x: x(cross), text: say(model, "crossing_at", { tokens: whole(cross) }), kind: "crossing" }, { x: x(long), text: say(model, "long_at", { tokens: whole(long) }), kind: "long" }];
  svg.append(...marks.map(({ x: at, kind }, i) => line(at, 6 + LEVEL * i, at, COST.bottom, "mark " + kind)));
  svg.append(...marks.map(({ x: at, text }, i) => {
    const left = at + LETTER * text.length > wide;
    return label(at + (left ? -8 : 8), 19 + LEVEL * i, text, "name", left ? "end" : "start");
  }));
  svg.append(draw("circle", { cx: x(cross), cy: y(all[1]), r: 8, class: "meeting" }), label((LEFT + right) / 2, COST.height - 8, say(model, "position"), "unit", "middle"));
  const now = line(0, COST.top, 0, COST.bottom, "now"), bank = draw("circle", { r: 8, class: "dot bank" }), state = draw("rect", { x: -7, y: -7, width: 14, height: 14, class: "dot state" });
  svg.append(now, bank, state);
  return { svg, show(position) {
    const at = x(position + 1).toFixed(1);
    now.setAttribute("transform", `translate(${at} 0)`);
    bank.setAttribute("transform", `translate(${at} ${y(cost("attention", position)).toFixed(1)})`);
    state.setAttribute("transform", `translate(${at} ${y(all[1]).toFixed(1)})`);
  } };
}

const RAISED = "⁰¹²³⁴⁵⁶⁷⁸⁹";
const power_of_ten = (value) => "10" + String(Math.round(Math.log10(value))).split("").map((digit) => RAISED[digit]).join("");
