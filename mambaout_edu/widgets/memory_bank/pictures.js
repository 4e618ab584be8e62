// The two pictures: the bank, drawn by ranges of tokens, and the state, one small image that is written over in place.

const COLUMNS = 16, ROWS = 8, CELLS = COLUMNS * ROWS;
// cividis, dark blue to yellow: its lightness alone tells the sign
const CIVIDIS = ["00224e", "123570", "3b496c", "575d6d", "707173", "8a8678", "a59c74", "c3b369", "e1cc55", "fee838"]
  .map((hex) => [0, 2, 4].map((i) => parseInt(hex.slice(i, i + 2), 16)));
const COLOURS = Uint32Array.from({ length: 256 }, (_, i) => {
  const at = (i / 255) * (CIVIDIS.length - 1), low = Math.min(CIVIDIS.length - 2, Math.floor(at));
  const [r, g, b] = CIVIDIS[low].map((part, k) => Math.round(part + (at - low) * (CIVIDIS[low + 1][k] - part)));
  return (255 << 24) | (b << 16) | (g << 8) | r;
});
const SPREAD = 2;   // the colours' ends, in usual spreads of a cell

/** Tokens a cell of the bank stands for: doubled whenever the bank is full. */
export const tokens_a_cell = (tokens) => 2 ** Math.max(0, Math.ceil(Math.log2(tokens / CELLS)));

/** The canvas as large as it is shown; returns its context. */
function fitted(canvas) {
  const scale = window.devicePixelRatio || 1, [width, height] = [canvas.clientWidth, canvas.clientHeight].map((n) => Math.max(1, Math.round(n * scale)));
  if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
  return canvas.getContext("2d");
}

/** All that the bank's picture needs of the page: colours of the theme and the words of the sentence. */
function draw_bank(canvas, tokens, look) {
  const g = fitted(canvas), [W, H] = [canvas.width, canvas.height], w = W / COLUMNS, h = H / ROWS;
  const per = tokens_a_cell(tokens), full = Math.floor(tokens / per), part = tokens / per - full;
  const rows = Math.floor(full / COLUMNS), rest = full - rows * COLUMNS;
  g.clearRect(0, 0, W, H);
  g.fillStyle = look.blue;
  g.fillRect(0, 0, W, rows * h);
  g.fillRect(0, rows * h, rest * w, h);
  g.fillRect(rest * w, rows * h, part * w, h);
  if (tokens) {   // the newest
    const newest = Math.ceil(tokens / per) - 1;
    g.fillStyle = look.orange;
    g.fillRect((newest % COLUMNS) * w, Math.floor(newest / COLUMNS) * h, w, h);
  }
  g.strokeStyle = look.paper;
  g.lineWidth = Math.max(1, W / 400);
  g.beginPath();
  for (let c = 1; c < COLUMNS; c++) { g.moveTo(c * w, 0); g.lineTo(c * w, H); }
  for (let r = 1; r < ROWS; r++) { g.moveTo(0, r * h); g.lineTo(W, r * h); }
  g.stroke();
  if (per > 1) return;
  g.font = `600 ${Math.round(0.56 * h)}px system-ui, sans-serif`;
  [g.textAlign, g.textBaseline] = ["center", "middle"];
  look.sentence.slice(0, tokens).forEach(([word], i) => {
    g.fillStyle = i === tokens - 1 ? "#111" : look.on_blue;
    g.fillText(word, (i + 0.5) * w, 0.54 * h, w);
  });
}

/** A painter of a state's cells; the image that it writes into is made once. */
function make_state_painter(state) {
  const small = make("canvas", { width: CHANNELS, height: state.N }), image = small.getContext("2d").createImageData(CHANNELS, state.N);
  const pixels = new Uint32Array(image.data.buffer);
  return (canvas, look) => {
    const { cells, usual, N } = state, g = fitted(canvas), [W, H] = [canvas.width, canvas.height];
    for (let c = 0; c < CHANNELS; c++) {
      for (let n = 0; n < N; n++) pixels[n * CHANNELS + c] = COLOURS[Math.round(clamp(127.5 + (127.5 / SPREAD) * (cells[c * N + n] / usual[c * N + n]), 0, 255))];
    }
    small.getContext("2d").putImageData(image, 0, 0);
    g.imageSmoothingEnabled = false;
    g.drawImage(small, 0, 0, W, H);
    if (N > 32) return;
    g.strokeStyle = look.paper;
    g.lineWidth = Math.max(1, W / 600);
    g.beginPath();
    for (let c = 1; c < CHANNELS; c++) { g.moveTo((c * W) / CHANNELS, 0); g.lineTo((c * W) / CHANNELS, H); }
    for (let n = 1; n < N; n++) { g.moveTo(0, (n * H) / N); g.lineTo(W, (n * H) / N); }
    g.stroke();
  };
}
