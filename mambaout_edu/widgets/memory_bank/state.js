// The recurrence on the right, h = exp(delta A) h + delta B x, over seeded embeddings.

const CHANNELS = 24, VOCABULARY = 64, SENTENCE = 5, FASTEST = 0.1, SLOWEST = 0.001;
const FORGOTTEN = Math.log(1e7);   // a weight below 1e-7 is none in float32

function mixed(number) {
  let bits = number >>> 0;
  bits = Math.imul(bits ^ (bits >>> 16), 0x85ebca6b);
  bits = Math.imul(bits ^ (bits >>> 13), 0xc2b2ae35);
  return (bits ^ (bits >>> 16)) >>> 0;
}
const uniform = (base, word, entry) => mixed(base ^ (word * 4096 + entry + 1)) / 2 ** 31 - 1;

/** The word that arrives at position t, counted from 0. */
const word_at = (base, t) => (t < SENTENCE ? t : SENTENCE + mixed(base ^ (t + 2 ** 24)) % (VOCABULARY - SENTENCE));
const delta_of = (channel) => SLOWEST * (FASTEST / SLOWEST) ** (channel / (CHANNELS - 1));

/**
 * A state that can be led to any position. Its arrays are made once: 24 channels by N cells, and the words read last.
 * A cell runs over the tokens that it has not forgotten; on the way forwards only over the new ones.
 */
export function make_state(seed, N) {
  const base = mixed(seed), x = new Float64Array(VOCABULARY * CHANNELS), B = new Float64Array(VOCABULARY * N);
  for (let word = 0; word < VOCABULARY; word++) {
    for (let c = 0; c < CHANNELS; c++) x[word * CHANNELS + c] = uniform(base, word, c);
    for (let n = 0; n < N; n++) B[word * N + n] = uniform(base, word, CHANNELS + n);
  }
  const cells = new Float64Array(CHANNELS * N), usual = new Float64Array(CHANNELS * N), longest = Math.ceil(FORGOTTEN / SLOWEST);
  const read = new Uint8Array(longest);
  for (let c = 0; c < CHANNELS; c++) {
    // The spread of a cell that has read endlessly many words, each entry of variance 1/3.
    for (let n = 0; n < N; n++) usual[c * N + n] = delta_of(c) / 3 / Math.sqrt(-Math.expm1(-2 * delta_of(c) * (n + 1)));
  }
  let at = 0;
  function go(position) {
    if (position < at) { cells.fill(0); at = 0; }
    const news = Math.min(position - at, longest), first = position - news;
    for (let t = 0; t < news; t++) read[t] = word_at(base, first + t);
    for (let c = 0; c < CHANNELS; c++) {
      const delta = delta_of(c);
      for (let n = 0; n < N; n++) {
        const decay = Math.exp(-delta * (n + 1)), kept = Math.min(news, Math.ceil(FORGOTTEN / (delta * (n + 1))));
        let h = kept < news || first > at ? 0 : cells[c * N + n];
        for (let t = news - kept; t < news; t++) h = decay * h + delta * x[read[t] * CHANNELS + c] * B[read[t] * N + n];
        cells[c * N + n] = h;
      }
    }
    at = position;
    return cells;
  }
  return { go, cells, usual, N, word: (t) => word_at(base, t) };
}

/** The cells after so many tokens, as plain numbers. */
export const state_after = (seed, N, tokens) => Array.from(make_state(seed, N).go(tokens));
