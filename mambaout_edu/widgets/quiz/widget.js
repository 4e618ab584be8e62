// A quiz: one item at a time, an explanation for every choice, a score at the end.
// Traits: lesson, title, items, misconceptions, answers {item id: choice number}, index.

const is_right = (item, chosen) => Boolean(item.choices[chosen]?.right);

/** The choices of one item: radio buttons before the answer, marked choices after it. */
function choice_rows(model, root, item, group, chosen) {
  const closed = chosen !== undefined;
  return item.choices.map((choice, i) => {
    const radio = make("input", { type: "radio", name: group, value: i, disabled: closed, checked: chosen === i });
    const mark = !closed ? null : choice.right ? (chosen === i ? "your_right_choice" : "right_choice") : chosen === i ? "your_choice" : null;
    const kind = mark === null ? "" : choice.right ? " right" : " wrong";
    return make("label", { class: `choice${closed ? " closed" : ""}${kind}` }, radio, make("span", {}, choice.text,
      mark ? make("span", { class: "mark" }, ` ${choice.right ? "✓" : "✗"} ${say(model, mark)}`) : null));
  });
}

/** What is said after an answer: the chosen choice's own explanation, then the right one's. */
function explanation(model, item, chosen) {
  const choice = item.choices[chosen], right = item.choices.find((each) => each.right);
  const parts = [make("p", {}, make("b", {}, say(model, choice.right ? "right" : "wrong")), " ", choice.explanation)];
  const named = model.get("misconceptions")[choice.misconception];
  if (named) parts.push(make("p", { class: "misconception" }, say(model, "misconception", { text: named })));
  if (!choice.right) parts.push(make("p", {}, make("b", {}, say(model, "right_because", { text: right.text })), " — ", right.explanation));
  if (item.source) parts.push(make("p", { class: "source" }, say(model, "source", { source: item.source })));
  return parts;
}

function score_parts(model, items, answers) {
  const wrong = items.filter((item) => !is_right(item, answers[item.id]));
  const parts = [make("p", { class: "score" }, say(model, "score", { right: items.length - wrong.length, items: items.length })),
    make("div", { class: "strip", "aria-hidden": "true" }, items.map((item) => make("span", { class: is_right(item, answers[item.id]) ? "right" : "wrong" }, is_right(item, answers[item.id]) ? "✓" : "✗")))];
  if (!wrong.length) parts.push(make("p", {}, say(model, "all_right")));
  else parts.push(make("p", {}, make("b", {}, say(model, "go_back"))), make("ul", {}, wrong.map((item) => make("li", {}, item.question))));
  const met = [...new Set(wrong.map((item) => model.get("misconceptions")[item.choices[answers[item.id]].misconception]).filter(Boolean))];
  if (met.length) parts.push(make("p", {}, make("b", {}, say(model, "met"))), make("ul", {}, met.map((text) => make("li", {}, text))));
  const rows = items.map((item) => [item.question, item.choices[answers[item.id]].text, say(model, is_right(item, answers[item.id]) ? "verdict.right" : "verdict.wrong")]);
  parts.push(make("details", {}, make("summary", {}, say(model, "table")),
    make_table(say(model, "name", { title: model.get("title") }), ["question", "answer", "verdict"].map((key) => say(model, `table.${key}`)), rows)));
  return parts;
}

function render({ model, el }) {
  const root = open_root(model, el, "quiz");
  const group = `quiz-${Math.random().toString(36).slice(2, 10)}`;
  el.setAttribute("aria-label", say(model, "name", { title: model.get("title") }));
  const items = model.get("items");
  const place = make("p", { class: "badge", id: `${group}-place` });
  const bar = make("div", { class: "bar", "aria-hidden": "true" });
  const body = make("form", { novalidate: true });
  const button = make("button", { type: "submit", class: "main" });
  const note = make("p", { class: "note", role: "alert" });
  el.append(place, bar, body);

  let question = null, feedback = null;
  // The score is shown once every item is answered, and the first open item before that.
  const place_now = () => {
    const open = items.findIndex((item) => model.get("answers")[item.id] === undefined);
    return model.get("index") < items.length ? model.get("index") : open < 0 ? items.length : open;
  };
  const shown = () => items[place_now()];
  const refresh = () => {
    const index = place_now(), answers = model.get("answers"), item = items[index];
    const done = !item;
    el.dataset.state = done ? "score" : answers[item.id] === undefined ? "open" : "answered";
    bar.replaceChildren(...items.map((each, i) => make("span", {
      class: `${answers[each.id] === undefined ? "" : is_right(each, answers[each.id]) ? "right" : "wrong"}${i === index ? " here" : ""}` })));
    note.textContent = "";
    if (done) {
      place.textContent = say(model, "name", { title: model.get("title") });
      button.textContent = say(model, "again");
      feedback = make("div", { class: "feedback", tabindex: "-1", role: "group", "aria-label": say(model, "feedback") }, score_parts(model, items, answers));
      return body.replaceChildren(feedback, button);
    }
    const lesson = item.id.split(".")[0], chosen = answers[item.id];
    place.textContent = `${say(model, "name", { title: model.get("title") })} · ` + say(model, lesson === model.get("lesson") ? "item" : "again_from", { number: index + 1, items: items.length, lesson });
    question = make("p", { class: "question", id: `${group}-question`, tabindex: "-1" }, item.question);
    const radios = make("div", { role: "radiogroup", "aria-labelledby": `${group}-question`, class: "choices" }, choice_rows(model, root, item, `${group}-${index}`, chosen));
    button.textContent = say(model, chosen === undefined ? "check" : index + 1 < items.length ? "next" : "finish");
    feedback = chosen === undefined ? null : make("div", { class: "feedback", tabindex: "-1", role: "group", "aria-label": say(model, "feedback") }, explanation(model, item, chosen));
    return body.replaceChildren(...[question, radios, feedback, button, note].filter(Boolean));
  };
  root.listen(body, "submit", (event) => {
    event.preventDefault();
    const item = shown(), answers = model.get("answers");
    if (!item) {
      put(model, { index: 0, answers: {} });
      refresh();
      return question.focus();
    }
    if (answers[item.id] !== undefined) {
      put(model, { index: place_now() + 1 });
      refresh();
      return (shown() ? question : feedback).focus();
    }
    const picked = body.querySelector("input:checked");
    if (!picked) return void (note.textContent = say(model, "unset"));
    put(model, { answers: { ...answers, [item.id]: Number(picked.value) } });
    refresh();
    return feedback.focus();
  });
  // The kernel echoes what the page sent; drawing again then would take the focus away.
  let drawn = "";
  const changed = () => {
    const now = JSON.stringify([model.get("answers"), model.get("index")]);
    if (now !== drawn) { drawn = now; const inside = body.contains(document.activeElement); refresh(); if (inside) (feedback ?? question).focus(); }
  };
  root.on("answers", changed);
  root.on("index", changed);
  refresh();
  return root.close;
}

export default { render };
