// An outline in words: sizes, costs, parts, and the aspects in which two models are compared.

const SI = [[1e9, "giga"], [1e6, "mega"], [1e3, "kilo"]];
const by = (sizes) => sizes.join(" × ");

/** A count with three digits and a unit: 26545096 is "26.5 M". */
function short(model, number) {
  const [scale, unit] = SI.find(([least]) => number >= least * 0.9995) ?? [1, "one"];
  const digits = scale === 1 ? { maximumFractionDigits: 0 } : { minimumSignificantDigits: 3, maximumSignificantDigits: 3 };
  return say(model, unit, { n: (number / scale).toLocaleString(LANGUAGE(), digits) });
}

/** An entry of a table inside the strings; `values` fill its {named} places. */
function entry(model, table, key, values = {}) {
  const text = model.get("strings")[table][key];
  if (text === undefined) throw new Error(`no string ${key} in ${table}`);
  return text.replace(/\{(\w+)\}/g, (place, name) => (name in values ? String(values[name]) : place));
}

const costs = (model, { parameters, multiply_adds }) =>
  say(model, "costs", { parameters: short(model, parameters), multiply_adds: short(model, multiply_adds) });

const window_of = (tokens) => (Number.isInteger(Math.sqrt(tokens)) ? by([Math.sqrt(tokens), Math.sqrt(tokens)]) : String(tokens));

/** How a scan runs, in arrows; the words beside them say the same. */
const ARROWS = { 1: "→", 2: "→ ←", 4: "→ ← ↓ ↑" };

function directions_of(model, count) {
  return entry(model, "directions", count in model.get("strings").directions ? count : "other", { count });
}

/** What mixes the tokens of a block. */
function mixer_words(model, mixer) {
  const of = (key, values = {}) => entry(model, "mixers", key, values);
  if (mixer.kind === "scan") {
    const scan = of("scan", { directions: directions_of(model, mixer.directions), states: mixer.states, expand: mixer.expand });
    return mixer.conv ? of("scan_after_conv", { scan, kernel: by(mixer.conv) }) : scan;
  }
  if (mixer.kind === "attention") {
    const seen = mixer.window ? of(mixer.shifted ? "shifted_windows" : "windows", { window: window_of(mixer.window) }) : of("all_tokens");
    return of(mixer.causal ? "causal_attention" : "attention", { seen });
  }
  if (mixer.kind === "recurrent") return entry(model, "functions", mixer.function);
  if (mixer.kind === "pool") return of("pool", { kernel: by([mixer.kernel, mixer.kernel].flat().slice(0, 2)) });
  return of(mixer.kind, { kernel: mixer.kernel ? by(mixer.kernel) : "" });
}

/** The sign of a kind of mixer in a block's cell, so that colour is never alone. */
const mixer_sign = (model, mixer) => entry(model, "signs", mixer.kind);

/** One part in one short line, with its sizes where it changes them. */
function part_title(model, part) {
  const of = (key, values = {}) => entry(model, "parts", key, values);
  const [before, after] = [part.shape_in.at(-1), part.shape.at(-1)];
  switch (part.kind) {
    case "norm": case "activation": case "recurrent": return entry(model, "functions", part.function);
    case "linear": return of("linear", { before: whole(before), after: whole(after) });
    case "conv": return of(part.depthwise ? "depthwise" : part.stride > 1 ? "strided" : "conv",
      { kernel: by(part.kernel), stride: part.stride, before: whole(before), after: whole(after) });
    case "scan": return of("scan", { directions: directions_of(model, part.directions), arrows: ARROWS[part.directions] ?? "" });
    case "attention": return of(part.causal ? "causal_attention" : "attention", { tokens: whole(part.tokens) });
    default: return of(part.kind);
  }
}

/** What a part does, for the reading line. */
function part_about(model, part) {
  return entry(model, "about", part.kind === "conv" && part.depthwise ? "depthwise" : part.kind, {
    ...part, kernel: part.kernel ? by([part.kernel].flat()) : "", directions: part.directions ? directions_of(model, part.directions) : "",
    steps: part.steps ? whole(part.steps) : "", tokens: part.tokens ? whole(part.tokens) : "",
    before: whole(part.shape_in.at(-1)), after: whole(part.shape.at(-1)),
  });
}

const part_shape = (part) => by(part.shape.map(whole));

function part_label(model, part) {
  return say(model, "part_label", { title: part_title(model, part), shape: part_shape(part), costs: costs(model, part) });
}

/** A list of parts of an aspect (stem, downsampling, head) in one line. */
function parts_line(model, parts) {
  const of = (key, values = {}) => entry(model, "line", key, values);
  const told = parts.filter(({ kind }) => kind !== "activation").map((part) =>
    part.kind === "norm" ? entry(model, "functions", part.function)
      : part.kind === "conv" ? of(part.stride > 1 ? "strided" : "conv", { kernel: by(part.kernel), stride: part.stride })
        : of(part.kind));
  return told.length ? told.join(", ") : say(model, "nothing");
}

/** The value of an aspect of a model, in words. */
function aspect_words(model, aspect, value) {
  const of = (key, values = {}) => entry(model, "values", key, values), joined = (texts) => [...new Set(texts)].join("; ");
  switch (aspect) {
    case "mixer": return joined(value.map((mixer) => mixer_words(model, mixer)));
    case "gate": return joined(value.map((where) => of("gate_" + where)));
    case "mlp": return joined(value.map((ratio) => (ratio ? of("mlp", { ratio }) : of("mlp_none"))));
    case "shortcuts": return joined(value.map((count) => of(count === 1 ? "shortcut" : "shortcuts", { count })));
    case "around": return value.length ? joined(value.map((parts) => parts_line(model, parts))) : say(model, "nothing");
    case "norm": return joined(value.flat().map((name) => entry(model, "functions", name)));
    case "scale": case "positions": return joined([value].flat().map((there) => of(there ? "yes" : "no")));
    case "resolution": return value.map(by).join(", ");
    case "channels": case "depths": return value.join(", ");
    case "downsampling": return value.length ? joined(value.map((parts) => parts_line(model, parts))) : say(model, "nothing");
    case "class_tokens": return value ? whole(value) : say(model, "nothing");
    default: return parts_line(model, value);
  }
}
