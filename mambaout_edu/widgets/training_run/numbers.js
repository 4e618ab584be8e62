// The traits as numbers; axes with round numbers; numbers as text.

const COLUMNS = ["step", "epoch", "loss_low", "loss_high", "loss", "lr_low", "lr_high", "speed_low", "speed_high", "left", "memory"];
const GIB = 2 ** 30;

function floats(view) {
  if (!view?.byteLength) return new Float32Array(0);
  return new Float32Array(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength));
}

/** The exponential mean of what is finite, without start-up bias. */
function smoothed(values, keep) {
  let mean = 0, weight = 0;
  return values.map((value) => {
    if (Number.isFinite(value)) { mean = keep * mean + (1 - keep) * value; weight = keep * weight + (1 - keep); }
    return weight ? mean / weight : NaN;
  });
}

/** Every run with its curves by name, its measurements as objects, and where it stands on the axis. */
function read_runs(model) {
  const rows = floats(model.get("points")), runs = model.get("runs"), keep = model.get("smoothing"), axis = model.get("axis");
  let start = 0;
  return runs.map((run, index) => {
    const from = start, curve = {};
    start += run.rows * COLUMNS.length;
    COLUMNS.forEach((name, j) => { curve[name] = Float64Array.from({ length: run.rows }, (_, i) => rows[from + i * COLUMNS.length + j]); });
    curve.smooth = smoothed(curve.loss, keep);
    const middle = (name) => curve[`${name}_low`].map((low, i) => (low + curve[`${name}_high`][i]) / 2);
    Object.assign(curve, { lr: middle("lr"), speed: middle("speed"), memory: curve.memory.map((bytes) => bytes / GIB) });
    const to_axis = (step) => (axis === "step" ? step : epoch_of(run, curve, step));
    const evals = run.evals.map(([step, epoch, accuracy, low, high, loss]) =>
      ({ step, epoch, accuracy, low, high, loss, x: axis === "step" ? step : epoch ?? to_axis(step) }));
    const end = run.total_steps ? to_axis(run.total_steps) : 0;
    return { ...run, index, curve, evals, x: curve[axis], end: Math.max(end || 0, curve[axis].at(-1) || 0), to_axis,
      shown: !model.get("hidden").includes(run.name) };
  });
}

function epoch_of(run, curve, step) {
  if (run.updates_per_epoch) return step / run.updates_per_epoch;
  const last = curve.step.length - 1;
  return last < 0 ? 0 : step * curve.epoch[last] / curve.step[last];
}

/** The index of the entry of a rising list that is nearest to a value; -1 in an empty list. */
function nearest(list, value) {
  let low = 0, high = list.length - 1;
  while (low < high) { const middle = (low + high) >> 1; if (list[middle] < value) low = middle + 1; else high = middle; }
  return low > 0 && value - list[low - 1] < list[low] - value ? low - 1 : Math.min(low, list.length - 1);
}

/** Round numbers that split low..high into about `wanted` parts. */
function ticks(low, high, wanted) {
  const rough = (high - low) / wanted, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough * 0.999);
  const from = Math.ceil(low / step - 1e-9), count = Math.floor(high / step + 1e-9) - from + 1;
  return Array.from({ length: Math.max(0, count) }, (_, i) => Number(((from + i) * step).toPrecision(12)));
}

/** 1, 2 and 5 of every decade inside low..high; the decades alone, or every few, where that is too many. */
function log_ticks(low, high) {
  const first = Math.floor(Math.log10(low)), decades = Array.from({ length: Math.ceil(Math.log10(high)) - first + 1 }, (_, i) => 10 ** (first + i));
  const inside = (list) => list.filter((v) => v >= low * 0.999 && v <= high * 1.001).map((v) => Number(v.toPrecision(3)));
  const fine = inside(decades.flatMap((d) => [d, 2 * d, 5 * d]));
  return fine.length <= 8 ? fine : inside(decades.filter((_, i) => i % Math.ceil(decades.length / 8) === 0));
}

/** An axis over what is finite in some lists; `low` and `high` where they are fixed. */
function axis_of(lists, { log = false, low = null, high = null, wanted = 4 } = {}) {
  const fine = (value) => Number.isFinite(value) && (!log || value > 0);
  let [from, to] = [Infinity, -Infinity];
  for (const list of lists) for (const value of list) if (fine(value)) { from = Math.min(from, value); to = Math.max(to, value); }
  if (!(from <= to)) [from, to] = [log ? 0.1 : 0, 1];
  if (log) [from, to] = [from / 1.15, to * 1.15];
  else { from = low ?? Math.min(0, from); to = high ?? (to > from ? to + 0.06 * (to - from) : from + 1); }
  const bend = log ? Math.log : (value) => value;
  return { fine, ticks: log ? log_ticks(from, to) : ticks(from, to, wanted), at: (value) => (bend(value) - bend(from)) / (bend(to) - bend(from)) };
}

const shown = (value) => (!Number.isFinite(value) ? null : value === 0 || (Math.abs(value) >= 1e-3 && Math.abs(value) < 1e4)
  ? String(Number(value.toPrecision(3))) : value.toExponential(1));
const rate = (value) => (Number.isFinite(value) ? String(Number(value.toPrecision(3))) : null);
const percent = (share) => (100 * share).toFixed(1);
