// The reader's progress: a table, a copy to save, a fresh start that asks once and can be undone.
// Traits: rows, request (to the kernel), copy, backup, message (from it).

function save(text, name) {
  const url = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  make("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

function render({ model, el }) {
  const root = open_root(model, el, "progress-panel");
  el.setAttribute("aria-label", say(model, "name"));
  let asked = 0, waiting = false;
  // A count makes each request a change, also the second of the same kind.
  const ask = (action) => put(model, { request: { action, count: ++asked, by: Math.random() } });
  const button = (key, act) => {
    const made = make("button", { type: "button" }, say(model, key));
    root.listen(made, "click", act);
    return made;
  };
  const table = make("div"), said = make("p", { class: "said" });
  const sure = make("div", { class: "controls", role: "group", "aria-label": say(model, "sure") }, make("span", {}, say(model, "sure")),
    button("yes", () => { open_question(false); ask("reset"); }), button("no", () => open_question(false)));
  const start = button("reset", () => open_question(true));
  const back = button("restore", () => { ask("restore"); start.focus(); });
  const copy = button("export", () => { waiting = true; ask("export"); });
  el.append(table, make("div", { class: "controls" }, button("refresh", () => ask("refresh")), copy, start, back), sure, said);

  const open_question = (open) => {
    sure.style.display = open ? "" : "none";
    (open ? sure.querySelector("button:last-child") : start).focus();
  };
  const refresh = () => {
    const rows = model.get("rows");
    table.replaceChildren(rows.length ? make_table(say(model, "caption"), [say(model, "lesson"), say(model, "done")], rows) : make("p", {}, say(model, "empty")));
    back.style.display = model.get("backup") ? "" : "none";
    said.textContent = model.get("message");
  };
  sure.style.display = "none";
  for (const trait of ["rows", "backup"]) root.on(trait, refresh);
  root.on("message", () => { refresh(); if (model.get("message")) root.announce(model.get("message")); });
  root.on("copy", () => { if (waiting && model.get("copy")) { waiting = false; save(model.get("copy"), "mambaout_edu_progress.json"); } });
  refresh();
  return root.close;
}

export default { render };
