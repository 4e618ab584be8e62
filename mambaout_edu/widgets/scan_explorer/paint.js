// What is drawn and said of one order: colours of cells, memory, words, and the histogram of distances.

const SIDES = ["above", "right", "below", "left"], SIDE_SHIFT = [[-1, 0], [0, 1], [1, 0], [0, -1]];
const VIRIDIS = [[72, 40, 120], [62, 74, 137], [49, 104, 142], [38, 130, 142], [31, 158, 137], [53, 183, 121], [109, 205, 89], [180, 222, 44], [253, 231, 37]];
const FORGOTTEN = [14, 16, 36];
const PLOT = { width: 520, height: 196, left: 58, right: 26, top: 12, floor: 132 };

const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
const mix = (a, b, share) => a.map((v, k) => Math.round(v + (b[k] - v) * share));
const pack = ([r, g, b]) => ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0;
const percent = (share) => { const p = 100 * share; return p > 0 && p < 0.5 ? "<1" : p < 100 && p >= 99.5 ? ">99" : p.toFixed(0); };
const short = (value) => (value < 10 ? Number(value.toFixed(2)) : value < 100 ? Number(value.toFixed(1)) : Math.round(value)).toLocaleString(LANGUAGE());

/** Colours of a plain grid, rgb rgb …: the row chooses the hue, the column how pale it is. */
function plain_colours(height, width) {
  const found = new Uint8ClampedArray(3 * height * width);
  for (let r = 0; r < height; r++) {
    const at = (height > 1 ? r / (height - 1) : 0.5) * (VIRIDIS.length - 1), low = Math.min(Math.floor(at), VIRIDIS.length - 2);
    const hue = mix(VIRIDIS[low], VIRIDIS[low + 1], at - low);
    for (let c = 0; c < width; c++) found.set(mix(hue, [255, 255, 255], width > 1 ? 0.5 * c / (width - 1) : 0.25), 3 * (r * width + c));
  }
  return found;
}

/** The picture [rows, columns, 3] on another grid: each cell is the mean of the pixels that it covers. */
function resampled(bytes, rows, columns, height, width) {
  const found = new Uint8ClampedArray(3 * height * width);
  const span = (i, from, to) => [Math.floor(i * from / to), Math.max(Math.floor(i * from / to) + 1, Math.ceil((i + 1) * from / to))];
  for (let r = 0; r < height; r++) {
    const [top, bottom] = span(r, rows, height);
    for (let c = 0; c < width; c++) {
      const [left, right] = span(c, columns, width), sum = [0, 0, 0];
      for (let y = top; y < bottom; y++) for (let x = left; x < right; x++) for (let k = 0; k < 3; k++) sum[k] += bytes.getUint8(3 * (y * columns + x) + k);
      found.set(sum.map((v) => Math.floor(v / ((bottom - top) * (right - left)) + 0.5)), 3 * (r * width + c));
    }
  }
  return found;
}

/** What does not change from step to step: paths, places, distances, and the colours a cell can have. */
function prepared(name, view) {
  const { height, width, colours, light } = view, cells = height * width;
  const found = paths(name, height, width, view.options), base = light ? 196 : 104;
  const ahead = new Uint32Array(cells), gone = new Uint8Array(3 * cells), full = new Uint32Array(cells);
  for (let i = 0; i < cells; i++) {
    const rgb = [colours[3 * i], colours[3 * i + 1], colours[3 * i + 2]], grey = 0.3 * rgb[0] + 0.59 * rgb[1] + 0.11 * rgb[2];
    const pale = view.plain ? base : base + 0.35 * (grey - 128);
    ahead[i] = pack([pale, pale, pale].map(Math.round));
    gone.set(mix(FORGOTTEN, [grey, grey, grey], 0.16), 3 * i);
    full[i] = pack(rgb);
  }
  return { name, found, places: found.map((path) => positions(path, cells)), longest: Math.max(...found.map((path) => path.length)),
    measures: locality(found, height, width), ahead, gone, full };
}

/** Shares from 0 to 256 by age in steps. */
function fading(decay, length) {
  const found = new Uint16Array(length + 1);
  for (let age = 0, weight = 1; age <= length; age++, weight *= decay) found[age] = Math.round(256 * weight);
  return found;
}

/** Every cell as the state holds it after `step`: full colour, fading into the dark, grey where not read yet. */
function paint(image, order, view, step) {
  const { places, ahead, gone } = order, { colours, fade } = view, n = places.length;
  const ends = order.found.map((path) => Math.min(step, path.length - 1));
  for (let i = 0; i < image.length; i++) {
    let age = -1;
    for (let k = 0; k < n; k++) {
      const at = places[k][i];
      if (at >= 0 && at <= ends[k] && (age < 0 || ends[k] - at < age)) age = ends[k] - at;
    }
    if (age < 0) { image[i] = ahead[i]; continue; }
    const w = fade[age], j = 3 * i, v = 256 - w;
    const mixed = (k) => (gone[j + k] * v + colours[j + k] * w) >> 8;
    image[i] = 0xff000000 | (mixed(2) << 16) | (mixed(1) << 8) | mixed(0);
  }
}

/** How much of each neighbour the state holds when cell i is read, on the path that holds most; null where all read it later. */
function held(order, view, i) {
  return neighbours(i, view.height, view.width).map((j) => {
    if (j < 0) return undefined;
    const ages = order.places.map((at) => (at[i] >= 0 && at[j] >= 0 ? at[i] - at[j] : -1)).filter((age) => age > 0);
    return ages.length ? view.decay ** Math.min(...ages) : null;
  });
}

const steps_apart = (order, view, i) => neighbours(i, view.height, view.width).map((j) => (j < 0 ? undefined : apart(order.places, i, j)));
const place = (i, view) => ({ row: Math.floor(i / view.width), column: i % view.width });
const listed = (model, key, values, text) => SIDES.map((side, k) => (values[k] === undefined || values[k] === null ? null
  : say(model, key, { side: say(model, side), ...text(values[k]) }))).filter(Boolean).join(say(model, "separator")) || say(model, "nothing");

function in_words(model, order, view, i) {
  const where = order.places.map((at) => (at[i] < 0 ? null : whole(at[i]))).filter((at) => at !== null);
  return say(model, where.length > 1 ? "chosen_many" : "chosen_one", { ...place(i, view), steps: where.join(say(model, "between")),
    parts: listed(model, "apart_part", steps_apart(order, view, i), (d) => ({ steps: Number.isFinite(d) ? whole(d) : say(model, "endless") })) });
}

/** What the state holds of the neighbours of the pixel that is read now. */
function reading(model, order, view, step) {
  if (order.found.length > 1) return say(model, "reading_many", { count: order.found.length });
  const i = order.found[0][Math.min(step, order.longest - 1)];
  return say(model, "reading_one", { ...place(i, view), parts: listed(model, "held_part", held(order, view, i), (w) => ({ share: percent(w) })) });
}

/** How many of the sorted distances lie from each power of two to the next. */
function bins_of(distances) {
  const bins = new Array(Math.floor(Math.log2(distances.at(-1))) + 1).fill(0);
  for (const d of distances) bins[Math.floor(Math.log2(d))]++;
  return bins;
}

/** The histogram on a logarithmic axis, a bar from each power of two to the next, and the half-life. */
function histogram(model, svg, order, view) {
  const { distances } = order.measures, { width, left, right, top, floor } = PLOT;
  svg.replaceChildren();
  if (!distances.length || !Number.isFinite(distances[0])) {
    const text = say(model, distances.length ? "never_together" : "no_neighbours");
    svg.append(draw("text", { x: width / 2, y: 84, "text-anchor": "middle" }, text));
    return svg.setAttribute("aria-label", text);
  }
  const bins = bins_of(distances), count = Math.max(4, Math.ceil(Math.log2(order.longest))), most = Math.max(...bins) / distances.length;
  const x = (steps) => left + (width - left - right) * Math.log2(steps) / count, y = (share) => floor - (floor - top) * share / most;
  const words = (at, down, text, anchor = "middle") => draw("text", { x: at, y: down, "text-anchor": anchor }, text);
  const sparse = count > 9 ? 2 : 1;
  svg.append(...[0, most / 2, most].flatMap((v) => [draw("line", { x1: left, x2: width - right, y1: y(v), y2: y(v), class: "grid" }), words(left - 8, y(v) + 6, percent(v), "end")]));
  for (let k = 0; k < bins.length; k++) {
    const share = bins[k] / distances.length;
    const up = Math.min(y(share), floor - 2), kind = 2 ** k > view.half_life ? "bar far" : "bar";
    if (share) svg.append(draw("rect", { x: x(2 ** k) + 1.5, width: x(2) - x(1) - 3, y: up, height: floor - up, class: kind }));
  }
  for (let k = 0; k <= count; k += sparse) svg.append(words(x(2 ** k), floor + 22, String(2 ** k)));
  svg.append(words((left + width - right) / 2, floor + 50, say(model, "steps_axis")),
    draw("text", { x: 16, y: (top + floor) / 2, "text-anchor": "middle", transform: `rotate(-90 16 ${(top + floor) / 2})` }, say(model, "share_axis")));
  if (view.half_life >= 1 && view.half_life <= 2 ** count) {
    const at = x(view.half_life), inner = at > width - 110;
    svg.append(draw("line", { x1: at, x2: at, y1: top - 6, y2: floor, class: "half" }),
      draw("text", { x: at + (inner ? -7 : 7), y: top + 8, "text-anchor": inner ? "end" : "start", class: "half-name" }, say(model, "half_mark")));
  }
  const parts = bins.map((n, k) => (n ? say(model, "histogram_part", { from: 2 ** k, to: 2 ** (k + 1) - 1, share: percent(n / distances.length) }) : null)).filter(Boolean);
  return svg.setAttribute("aria-label", say(model, "histogram_label", { parts: parts.join(say(model, "separator")) }));
}

const measures_in_words = (model, { mean, median, p95, unit_steps, longest_jump }) => [
  ["mean", short(mean)], ["median", short(median)], ["p95", short(p95)],
  ["unit_steps", say(model, "percent", { value: percent(unit_steps) })], ["longest_jump", say(model, "pixels", { value: short(longest_jump) })],
].map(([key, value]) => [say(model, key), Number.isFinite(mean) || !["mean", "median", "p95"].includes(key) ? value : say(model, "endless")]);
