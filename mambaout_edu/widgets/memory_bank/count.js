// The counts of memory.accounting for causal attention and Mamba-1, number for number.

const BYTES = { float64: 8, float32: 4, bfloat16: 2, float16: 2 };
const EXPAND = 2, D_CONV = 4;   // of Mamba-1

/** One layer of attention for one sequence; all products, parameters and bytes are whole numbers below 2^53. */
function attention_layer({ dim, heads, kv_heads, dtype }, position) {
  const kv = kv_heads * (dim / heads), products = dim * (dim + 2 * kv) + dim * dim, token = 2 * kv * BYTES[dtype];
  return { parameters: products, products, operations: 4 * (position + 1) * dim, used: position * token, read: position * token, written: token };
}

/** One layer of Mamba-1: state and window, however many tokens there were. */
function mamba_layer({ dim, d_state, dtype }) {
  const d = EXPAND * dim, rank = Math.ceil(dim / 16), item = BYTES[dtype];
  const products = dim * 2 * d + d * D_CONV + d * (rank + 2 * d_state) + rank * d + d * dim;
  const state = d * d_state * Math.max(item, 4) + d * D_CONV * item;
  return { parameters: products + d + d * d_state + d + d, products, operations: d * (9 * d_state + 2), used: state, read: state, written: state };
}

const LAYERS = { attention: attention_layer, mamba1: mamba_layer };

/** What a mixer remembers after `position` tokens and what the next one costs; sizes are the widget's traits. */
export function account(mixer, sizes, position) {
  const layer = LAYERS[mixer](sizes, position), rows = sizes.layers * sizes.batch, weight_bytes = sizes.layers * layer.parameters * BYTES[sizes.dtype];
  const [used, read, written] = [layer.used, layer.read, layer.written].map((count) => rows * count);
  return { used, read, written, weight_bytes, parameters: sizes.layers * layer.parameters, moved: weight_bytes + read + written,
    multiply_adds: Math.floor((rows * (2 * layer.products + layer.operations)) / 2) };
}

/** The first position at which attention's token costs more than Mamba's. */
export function crossing(sizes, by) {
  const limit = account("mamba1", sizes, 0)[by], dearer = (position) => account("attention", sizes, position)[by] > limit;
  if (dearer(0)) return 0;
  let low = 0, high = 1;
  while (!dearer(high)) [low, high] = [high, 2 * high];
  while (high - low > 1) {
    const middle = Math.floor((low + high) / 2);
    [low, high] = dearer(middle) ? [low, middle] : [middle, high];
  }
  return high;
}

/** Bytes as a reader says them, in the units of Python's `readable`. */
export function readable(model, count) {
  const units = model.get("strings").units;
  let power = 0;
  while (count >= 1024 && power < units.length - 1) [count, power] = [count / 1024, power + 1];
  if (!power) return `${count} ${units[0]}`;
  let hundredths = Math.round(count * 100);
  if (Math.abs(count * 100 - Math.floor(count * 100) - 0.5) === 0) hundredths = 2 * Math.round(count * 50);   // ties go to the even digit
  return `${(hundredths / 100).toFixed(2)} ${units[power]}`;
}

const clamp = (value, least, most) => Math.min(most, Math.max(least, value));
const divisors = (number, most) => Array.from({ length: Math.min(number, most) }, (_, i) => i + 1).filter((n) => number % n === 0);
/** The option next to a value, on the scale of ratios. */
const nearest = (options, value) => options.reduce((best, each) => (Math.abs(Math.log(each / value)) < Math.abs(Math.log(best / value)) ? each : best));
