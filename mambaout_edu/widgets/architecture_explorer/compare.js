// Where two models, and two blocks of them, differ. The outlines say in short what is compared.

const same = (one, other) => JSON.stringify(one) === JSON.stringify(other);

/** The aspects of two outlines, in the sequence of the strings, in those that differ and those that do not. */
function compared(model, left, right) {
  const all = Object.keys(model.get("strings").aspects);
  const differ = all.filter((aspect) => !same(left.aspects[aspect], right.aspects[aspect]));
  return { differ, alike: all.filter((aspect) => !differ.includes(aspect)) };
}

const listed = (texts) => new Intl.ListFormat(LANGUAGE(), { type: "conjunction" }).format(texts);

/** The two models' likeness in one or two sentences. */
function verdict(model, left, right) {
  const { differ, alike } = compared(model, left, right), names = (keys) => listed(keys.map((key) => entry(model, "aspects", key)));
  const of = (key) => ({ aspect: entry(model, "aspects", key), left: aspect_words(model, key, left.aspects[key]),
    right: aspect_words(model, key, right.aspects[key]), left_name: left.name, right_name: right.name });
  if (left.name === right.name) return { head: say(model, "twice"), more: "" };
  if (!differ.length) return { head: say(model, "no_difference"), more: say(model, "no_difference_more") };
  if (differ.length === 1) {
    return { head: say(model, "one_difference", of(differ[0])), more: say(model, "one_difference_more", of(differ[0])) };
  }
  return {
    head: say(model, "differences", { count: differ.length, list: names(differ) }),
    more: alike.length ? say(model, "alike", { list: names(alike) }) : say(model, "nothing_alike"),
  };
}

const COMPARED = ["kernel", "stride", "depthwise", "function", "directions", "states", "causal"];
const alignable = (one, other) => one.kind === other.kind && one.mixer === other.mixer;
const detail_of = (part) => COMPARED.map((key) => part[key] ?? null);

/** Pair the parts of two lists: the longest common sequence stands side by side, the rest alone. */
function aligned(left, right) {
  const best = Array.from({ length: left.length + 1 }, () => new Array(right.length + 1).fill(0));
  for (let i = left.length - 1; i >= 0; i--) {
    for (let j = right.length - 1; j >= 0; j--) {
      best[i][j] = alignable(left[i], right[j]) ? best[i + 1][j + 1] + 1 : Math.max(best[i + 1][j], best[i][j + 1]);
    }
  }
  const rows = [];
  let i = 0, j = 0;
  while (i < left.length || j < right.length) {
    if (i < left.length && j < right.length && alignable(left[i], right[j])) {
      rows.push({ left: i, right: j, differs: !same(detail_of(left[i++]), detail_of(right[j++])) });
    } else if (j >= right.length || (i < left.length && best[i + 1][j] >= best[i][j + 1])) rows.push({ left: i++, right: null, differs: true });
    else rows.push({ left: null, right: j++, differs: true });
  }
  return rows;
}

/** What is open of an outline: { parts, stage, block } with stage and block as far as the model has them. */
function opened(outline, stage, block) {
  if (stage < 0) return { parts: outline.head.parts, stage: -1, block: 0 };
  if (stage === 0) return { parts: outline.stem.parts, stage: 0, block: 0 };
  const at = Math.min(stage, outline.stages.length), inside = outline.stages[at - 1];
  const number = Math.min(block, inside.blocks.length);
  const parts = number ? inside.kinds[inside.blocks[number - 1]] : [...inside.downsampling, ...inside.around];
  return { parts, stage: at, block: number };
}
