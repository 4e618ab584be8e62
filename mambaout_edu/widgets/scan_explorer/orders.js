// The scan orders: entry t of an order is the row-major index r * width + c that is visited at step t.
// The same definitions stand in mambaout_edu.flatten; a test holds the two equal on every small grid.

const ORDER_OPTIONS = { window: 2, skip: 2, seed: 0, order: "raster" };

/** An order from a function that calls visit(r, c) for every cell in turn. */
function walk(height, width, visits) {
  const found = new Int32Array(height * width);
  let t = 0;
  visits((r, c) => { found[t++] = r * width + c; });
  return found;
}

/** The indices sorted by key(r, c), a whole number below 2^32; ties by index. */
function sorted_by(height, width, key) {
  const n = height * width, keys = new Float64Array(n);
  for (let i = 0; i < n; i++) keys[i] = key(Math.floor(i / width), i % width, i) * n + i;   // exact: below 2^53
  keys.sort();
  return Int32Array.from(keys, (each) => each % n);
}

/** The order of the transposed grid, read on this one. */
function transposed(name, height, width, options) {
  return order(name, width, height, options).map((i) => (i % height) * width + Math.floor(i / height));
}

/** Groups r + c ascending; inside a group the rows ascend, or descend where `down(group)` says so. */
function by_diagonals(height, width, descends) {
  return walk(height, width, (visit) => {
    for (let group = 0; group < height + width - 1; group++) {
      const first = Math.max(0, group - width + 1), last = Math.min(height - 1, group);
      if (descends(group)) for (let r = last; r >= first; r--) visit(r, group - r);
      else for (let r = first; r <= last; r++) visit(r, group - r);
    }
  });
}

function spiral(height, width) {
  return walk(height, width, (visit) => {
    let top = 0, left = 0, bottom = height - 1, right = width - 1;
    while (top <= bottom && left <= right) {
      for (let c = left; c <= right; c++) visit(top, c);
      for (let r = top + 1; r <= bottom; r++) visit(r, right);
      if (top < bottom) for (let c = right - 1; c >= left; c--) visit(bottom, c);
      if (left < right) for (let r = bottom - 1; r > top; r--) visit(r, left);
      top++; left++; bottom--; right--;
    }
  });
}

function windows(height, width, size) {
  return walk(height, width, (visit) => {
    for (let top = 0; top < height; top += size) {
      for (let left = 0; left < width; left += size) {
        for (let r = top; r < Math.min(top + size, height); r++) {
          for (let c = left; c < Math.min(left + size, width); c++) visit(r, c);
        }
      }
    }
  });
}

/** Bits of c and r in turn, the lowest of c first. */
function interleaved(r, c) {
  let key = 0;
  for (let bit = 0; bit < 16; bit++) key |= (((c >> bit) & 1) << (2 * bit)) | (((r >> bit) & 1) << (2 * bit + 1));
  return key >>> 0;
}

/** A 32-bit hash of an index and a seed. */
function hashed(index, seed) {
  let x = (Math.imul(index, 0x9E3779B1) + Math.imul(seed, 0x85EBCA77) + 0x165667B1) | 0;
  x = Math.imul(x ^ (x >>> 16), 0x7FEB352D);
  x = Math.imul(x ^ (x >>> 15), 0x846CA68B);
  return (x ^ (x >>> 16)) >>> 0;
}

/**
 * The generalised Hilbert curve: a step to one of the four neighbours on every grid. `halved` walks from (0, 0) to
 * (length - 1, 0); where the longer side is odd and the shorter even, only the other axis allows unit steps.
 */
function hilbert(height, width) {
  const odd_and_even = Math.max(height, width) % 2 === 1 && Math.min(height, width) % 2 === 0;
  return walk(height, width, (visit) => {
    if ((width >= height) !== odd_and_even) halved(width, height, (along, across) => visit(across, along));
    else halved(height, width, (along, across) => visit(along, across));
  });
}

function halved(length, breadth, visit) {
  if (breadth === 1) {
    for (let along = 0; along < length; along++) visit(along, 0);
  } else if (2 * length > 3 * breadth) {                 // a strip: one part after the other
    const first = even_half(length);
    halved(first, breadth, visit);
    halved(length - first, breadth, (along, across) => visit(first + along, across));
  } else {                                               // away across, along the far side, and back
    const near = even_half(breadth), half = Math.floor(length / 2);
    halved(near, half, (along, across) => visit(across, along));
    halved(length, breadth - near, (along, across) => visit(along, near + across));
    halved(near, length - half, (along, across) => visit(length - 1 - across, near - 1 - along));
  }
}

/** Half of n, made even by adding 1; but 1 for n = 2. */
function even_half(n) {
  const half = Math.floor(n / 2);
  return half % 2 === 1 && n > 2 ? half + 1 : half;
}

/** The phases (row and column modulo `skip`) one after the other, each a coarse grid of its own. */
function atrous_groups(height, width, skip) {
  const groups = [];
  for (let j = 0; j < Math.min(skip, width); j++) {
    for (let i = 0; i < Math.min(skip, height); i++) {
      const cells = [];
      if (i % 2 === 0) for (let r = i; r < height; r += skip) for (let c = j; c < width; c += skip) cells.push(r * width + c);
      else for (let c = j; c < width; c += skip) for (let r = i; r < height; r += skip) cells.push(r * width + c);
      groups.push(Int32Array.from(cells));
    }
  }
  return groups;
}

const ORDERS = {
  raster: (h, w) => Int32Array.from({ length: h * w }, (_, i) => i),
  column: (h, w) => transposed("raster", h, w),
  serpentine: (h, w) => Int32Array.from({ length: h * w }, (_, i) => {
    const r = Math.floor(i / w), c = i % w;
    return r * w + (r % 2 ? w - 1 - c : c);
  }),
  serpentine_columns: (h, w) => transposed("serpentine", h, w),
  antidiagonal: (h, w) => by_diagonals(h, w, () => false),
  diagonal: (h, w) => by_diagonals(h, w, () => false).map((i) => i - 2 * (i % w) + w - 1),
  zigzag: (h, w) => by_diagonals(h, w, (group) => group % 2 === 0),
  spiral,
  zorder: (h, w) => sorted_by(h, w, interleaved),
  hilbert,
  window: (h, w, { window }) => windows(h, w, window),
  window_columns: (h, w, options) => transposed("window", h, w, options),
  atrous: (h, w, { skip }) => Int32Array.from(atrous_groups(h, w, skip).flatMap((group) => [...group])),
  random: (h, w, { seed }) => sorted_by(h, w, (r, c, i) => hashed(i, seed)),
};

const both_ways = (found) => [found, found.slice().reverse()];
const PATHS = {
  bidirectional: (h, w, options) => both_ways(order(options.order, h, w, options)),
  cross: (h, w) => { const there = ["raster", "column"].map((name) => order(name, h, w)); return [...there, ...there.map((o) => o.slice().reverse())]; },
  plainmamba: (h, w) => ["serpentine", "serpentine_columns"].flatMap((name) => both_ways(order(name, h, w))),
  eight: (h, w) => {
    const there = ["raster", "column", "antidiagonal", "diagonal"].map((name) => order(name, h, w));
    return [...there, ...there.map((o) => o.slice().reverse())];
  },
  atrous: (h, w, { skip }) => atrous_groups(h, w, skip),
};

/** One order as an Int32Array of length height * width. */
export function order(name, height, width, options = {}) {
  const found = ORDERS[name](height, width, { ...ORDER_OPTIONS, ...options });
  return options.reverse ? found.reverse() : found;
}

/** The paths of a strategy; one path for the name of an order. Paths win where a name is both. */
export function paths(name, height, width, options = {}) {
  return name in PATHS ? PATHS[name](height, width, { ...ORDER_OPTIONS, ...options }) : [order(name, height, width, options)];
}

/** Step at which each cell is visited; -1 for a cell that the path leaves out. */
export function positions(path, cells) {
  const found = new Int32Array(cells).fill(-1);
  for (let t = 0; t < path.length; t++) found[path[t]] = t;
  return found;
}

/** Steps between two cells on the path that brings them closest; Infinity where no path visits both. */
export function apart(places, a, b) {
  let least = Infinity;
  for (const at of places) if (at[a] >= 0 && at[b] >= 0) least = Math.min(least, Math.abs(at[a] - at[b]));
  return least;
}

/** Steps between all pairs of side-by-side cells, in ascending sequence. */
export function neighbour_distances(places, height, width) {
  const found = new Float64Array(height * (width - 1) + (height - 1) * width);
  let k = 0;
  for (let r = 0; r < height; r++) {
    for (let c = 0; c < width; c++) {
      const i = r * width + c;
      if (c + 1 < width) found[k++] = apart(places, i, i + 1);
      if (r + 1 < height) found[k++] = apart(places, i, i + width);
    }
  }
  return found.sort();
}

/** A quantile of sorted numbers, straight lines between them. */
export function quantile(sorted, share) {
  const at = share * (sorted.length - 1), low = Math.floor(at), high = Math.min(low + 1, sorted.length - 1);
  return sorted[low] + (sorted[high] - sorted[low]) * (at - low);
}

/** How near neighbours stay: mean, median, p95 of their distance; unit_steps and longest_jump of the paths' own steps. */
export function locality(found, height, width) {
  const places = found.map((path) => positions(path, height * width));
  const distances = neighbour_distances(places, height, width);
  let near = 0, moves = 0, longest = 0;
  for (const path of found) {
    for (let t = 1; t < path.length; t++, moves++) {
      const down = Math.floor(path[t] / width) - Math.floor(path[t - 1] / width), right = path[t] % width - path[t - 1] % width;
      if (Math.abs(down) + Math.abs(right) === 1) near++;
      longest = Math.max(longest, down * down + right * right);
    }
  }
  const total = distances.reduce((sum, d) => sum + d, 0), some = distances.length > 0;
  return {
    distances, mean: some ? total / distances.length : 0, median: some ? quantile(distances, 0.5) : 0,
    p95: some ? quantile(distances, 0.95) : 0, unit_steps: moves ? near / moves : 1, longest_jump: Math.sqrt(longest),
  };
}

/** Largest distance of each cell to one of its four neighbours. */
export function neighbour_map(path, height, width) {
  const places = [positions(path, height * width)];
  return Float64Array.from({ length: height * width }, (_, i) =>
    Math.max(0, ...neighbours(i, height, width).filter((j) => j >= 0).map((j) => apart(places, i, j))));
}

/** The cells above, right, below and left of a cell; -1 beyond the edge. */
export function neighbours(i, height, width) {
  const r = Math.floor(i / width), c = i % width;
  return [r > 0 ? i - width : -1, c + 1 < width ? i + 1 : -1, r + 1 < height ? i + width : -1, c > 0 ? i - 1 : -1];
}

/** Weight of every cell in the state after `step`: decay to the power of the steps since it was read, 0 before. */
export function memory_map(path, height, width, step, decay) {
  const weights = new Float64Array(height * width);
  for (let t = 0; t <= Math.min(step, path.length - 1); t++) weights[path[t]] = decay ** (Math.min(step, path.length - 1) - t);
  return weights;
}
