// What the picture shows, in words: the state of each run, a reading, the tables.

function duration(model, seconds) {
  const steps = [["days", 86400, 3600], ["hours", 3600, 60], ["minutes", 60, 1]];
  for (const [key, big, small] of steps) {
    if (seconds >= big) return say(model, key, { big: Math.floor(seconds / big), small: Math.floor(seconds % big / small) });
  }
  return say(model, "seconds", { small: Math.max(0, Math.round(seconds)) });
}

function event_in_words(model, event) {
  const what = say(model, `event_${glyph_of(event.what)}`, { what: event.what });
  return event.count > 1 ? say(model, "event_times", { what, count: event.count }) : what;
}

/** A run whose log has been silent for long is not called running: its process may be gone. */
function state_in_words(model, run, now) {
  const quiet = run.newest === null ? 0 : now - run.newest;
  if (run.state === "running" && quiet > run.patience) return say(model, "state_silent", { time: duration(model, quiet) });
  return say(model, `state_${run.state}`);
}

/** What is known of a run at one row of its curves. */
function values_in_words(model, run, i, with_loss = true) {
  const { curve } = run, words = [], step = curve.step[i];
  const total = run.total_steps;
  words.push(total ? say(model, "at_of", { step: whole(step), total: whole(total), percent: Math.floor(100 * step / total) })
    : say(model, "at", { step: whole(step) }));
  if (Number.isFinite(curve.epoch[i])) words.push(say(model, "at_epoch", { epoch: curve.epoch[i].toFixed(1) }));
  if (with_loss) words.push(say(model, "said_loss", { loss: shown(curve.loss[i]) ?? say(model, "not_finite") }));
  words.push(say(model, "said_smooth", { loss: shown(curve.smooth[i]) ?? say(model, "not_finite") }));
  const seen = run.evals.filter((line) => line.step <= step).at(-1);
  if (seen) words.push(say(model, "said_accuracy", { accuracy: percent(seen.accuracy), low: percent(seen.low), high: percent(seen.high) }));
  const further = [["said_lr", "lr", rate(curve.lr[i])], ["said_speed", "speed", shown(curve.speed[i])],
    ["said_left", "time", curve.left[i] > 0 ? duration(model, curve.left[i]) : null],
    ["said_memory", "memory", shown(curve.memory[i])]];
  return [...words, ...further.filter(([, , value]) => value !== null).map(([key, name, value]) => say(model, key, { [name]: value }))].join(" · ");
}

/** The rows of a run to tell: at most twelve, evenly spread. */
function chosen_rows(run) {
  const n = run.rows, rows = Math.min(12, n);
  return Array.from({ length: rows }, (_, i) => (rows === 1 ? 0 : Math.round(i * (n - 1) / (rows - 1))));
}

function tables_of(model, run) {
  const { curve } = run, head = (keys) => keys.map((key) => say(model, key)), text = (value) => shown(value) ?? say(model, "none");
  const keys = ["step", "epoch", "mean_loss", "low_high", "smooth", "lr", "speed"];
  const has_memory = curve.memory.some(Number.isFinite);
  const rows = chosen_rows(run).map((i) => [whole(curve.step[i]), text(curve.epoch[i]), text(curve.loss[i]),
    `${text(curve.loss_low[i])} – ${text(curve.loss_high[i])}`, text(curve.smooth[i]), rate(curve.lr[i]) ?? say(model, "none"),
    text(curve.speed[i]), ...(has_memory ? [text(curve.memory[i])] : [])]);
  const found = [make_table(say(model, "caption_steps", { name: run.name }), head(has_memory ? [...keys, "memory"] : keys), rows)];
  if (run.width > 1) found.push(make("p", {}, say(model, "thinned", { width: run.width })));
  if (run.evals.length) {
    found.push(make_table(say(model, "caption_evals", { name: run.name, count: run.evals.length }), head(["step", "accuracy", "interval", "held_out_loss"]),
      run.evals.slice(-12).map((e) => [whole(e.step), percent(e.accuracy), `${percent(e.low)} – ${percent(e.high)}`, text(e.loss ?? NaN)])));
  }
  if (run.events.length) {
    found.push(make_table(say(model, "caption_events", { name: run.name }), head(["step", "what", "count", "detail"]),
      run.events.map((e) => [whole(e.step), say(model, `event_${glyph_of(e.what)}`, { what: e.what }), whole(e.count), e.detail])));
  }
  return found;
}

/** The kinds of events that occur, each with its glyph and how often. */
function event_key(model, runs) {
  const counts = new Map();
  for (const event of runs.flatMap((run) => run.events)) counts.set(event.what, (counts.get(event.what) ?? 0) + event.count);
  if (!counts.size) return [];
  return [make("span", {}, say(model, "events")), ...[...counts].map(([what, count]) => make("span", { class: "kind" },
    draw("svg", { viewBox: "-10 -10 20 20", "aria-hidden": "true" }, draw("path", { d: GLYPHS[glyph_of(what)], class: "glyph" })),
    event_in_words(model, { what, count })))];
}
